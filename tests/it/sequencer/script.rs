//! Records the steps of an instrument, one after the other.

use std::collections::{BTreeMap, BTreeSet};

use super::super::stage::noise;
use super::{Act, Phase, Scale, Step, Unit, Words};

/// A run that is being recorded. Paths given to it are relative to the run folder.
#[derive(Debug)]
pub(super) struct Script {
    pub(super) steps: Vec<Step>,
    pub(super) units: Vec<Unit>,
    pub(super) first: Vec<String>,
    pub(super) left_out: BTreeSet<String>,
    pub(super) scale: Scale,
    phase: Phase,
    folder: String,
    seed: u64,
    drawn: u64,
}

impl Script {
    pub(super) fn new(seed: u64, scale: Scale) -> Self {
        Self {
            steps: Vec::new(),
            units: Vec::new(),
            first: Vec::new(),
            left_out: BTreeSet::new(),
            scale,
            phase: Phase::Start,
            folder: String::new(),
            seed,
            drawn: 0,
        }
    }

    /// Names the folder of the run, which is also its one unit.
    pub(super) fn open(&mut self, folder: &str, words: Words) {
        self.enter(folder);
        self.units.push(Unit { name: folder.to_owned(), words, ..Unit::default() });
    }

    /// Sets the folder that paths are relative to from then on.
    pub(super) fn enter(&mut self, folder: &str) {
        folder.clone_into(&mut self.folder);
    }

    pub(super) fn phase(&mut self, phase: Phase) {
        assert!(self.phase <= phase, "phases come in order");
        self.phase = phase;
    }

    /// A number below `limit`.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        let bytes = self.draw(8);
        bytes.iter().fold(0_u64, |sum, byte| (sum << 7) ^ u64::from(*byte)) % limit
    }

    fn draw(&mut self, length: usize) -> Vec<u8> {
        self.drawn += 1;
        let mixed = (self.seed << 20 ^ self.drawn).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        noise(length, mixed ^ (mixed >> 31))
    }

    /// Data of about this many bytes, after the first bytes of its format.
    pub(super) fn data(&mut self, magic: &[u8], about: usize) -> Vec<u8> {
        let about = about * self.scale.bytes;
        let more = self.below(about as u64 / 4 + 1);
        let length = about + usize::try_from(more).expect("small");
        let mut bytes = magic.to_vec();
        bytes.extend(self.draw(length));
        bytes
    }

    /// Letters and digits, as in the names of flow cells.
    pub(super) fn code(&mut self, length: usize) -> String {
        const LETTERS: &[u8] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
        (0..length)
            .map(|_| {
                let at = usize::try_from(self.below(LETTERS.len() as u64)).expect("small");
                char::from(LETTERS[at])
            })
            .collect()
    }

    pub(super) fn digits(&mut self, length: usize) -> String {
        (0..length).map(|_| char::from(b'0' + u8::try_from(self.below(10)).expect("one"))).collect()
    }

    fn place(&self, path: &str) -> String {
        format!("{}/{path}", self.folder)
    }

    fn step(&mut self, act: Act) {
        self.steps.push(Step { phase: self.phase, act });
    }

    pub(super) fn mkdir(&mut self, path: &str) {
        let path = self.place(path);
        self.step(Act::Mkdir { path });
    }

    pub(super) fn write(&mut self, path: &str, bytes: impl Into<Vec<u8>>) {
        let (path, bytes) = (self.place(path), bytes.into());
        self.step(Act::Write { path, bytes });
    }

    pub(super) fn append(&mut self, path: &str, bytes: impl Into<Vec<u8>>) {
        let (path, bytes) = (self.place(path), bytes.into());
        self.step(Act::Append { path, bytes });
    }

    pub(super) fn rewrite(&mut self, path: &str, bytes: impl Into<Vec<u8>>) {
        let (path, bytes) = (self.place(path), bytes.into());
        self.step(Act::Rewrite { path, bytes });
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) {
        let (from, to) = (self.place(from), self.place(to));
        self.step(Act::Rename { from, to });
    }

    pub(super) fn remove(&mut self, path: &str) {
        let path = self.place(path);
        self.step(Act::Remove { path });
    }

    /// Writes a file that is sent before the others.
    pub(super) fn write_first(&mut self, path: &str, bytes: impl Into<Vec<u8>>) {
        self.first.push(self.place(path));
        self.write(path, bytes);
    }

    /// Writes a file that is never uploaded.
    pub(super) fn write_left_out(&mut self, path: &str, bytes: impl Into<Vec<u8>>) {
        self.left_out.insert(self.place(path));
        self.write(path, bytes);
    }

    /// Writes a file in two halves under a temporary name, and renames it into its place.
    pub(super) fn write_aside(&mut self, aside: &str, path: &str, bytes: &[u8]) {
        let (head, tail) = bytes.split_at(bytes.len() / 2);
        self.write_left_out(aside, head);
        self.append(aside, tail);
        self.rename(aside, path);
    }

    /// Writes a file that says that the newest unit is done.
    pub(super) fn write_marker(&mut self, path: &str, bytes: impl Into<Vec<u8>>) {
        let place = self.place(path);
        self.units.last_mut().expect("a unit").markers.push(place);
        self.write(path, bytes);
    }

    /// Writes a file that says that the late files are done.
    pub(super) fn write_late_marker(&mut self, path: &str, bytes: impl Into<Vec<u8>>) {
        let place = self.place(path);
        self.units.last_mut().expect("a unit").late_marker = Some(place);
        self.write(path, bytes);
    }

    /// Every file so far.
    pub(super) fn finished(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        self.steps.iter().for_each(|step| super::apply(&mut files, &step.act));
        files
    }

    /// Every file of the folder so far that is meant to stay, relative to it.
    pub(super) fn listing(&self) -> Vec<(String, Vec<u8>)> {
        let below = format!("{}/", self.folder);
        self.finished()
            .into_iter()
            .filter(|(path, _)| !self.left_out.contains(path))
            .filter_map(|(path, bytes)| Some((path.strip_prefix(&below)?.to_owned(), bytes)))
            .collect()
    }
}

/// Bytes as hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
