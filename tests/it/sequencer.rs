//! Plays a sequencer: writes a run folder in the order and the shape of an instrument.
//!
//! A [`Run`] is an ordered list of steps, made from an instrument and a seed and nothing else: the same
//! pair gives the same bytes. Paths are relative to the drop directory. Contents are small and counts
//! are scaled down ([`Scale`]); names, order, documents and markers are those of the instrument, as far
//! as they are published. Two things are assumed for lack of a source: the checksums of `Manifest.tsv`
//! are MD5, and NextSeq 2000 writes the older form of `RunCompletionStatus.xml`.
//!
//! [`play`] applies a run to a directory. A [`Player`] applies it step by step, so that a test can
//! stop between two steps, or at the gate of a [`Phase`], for as long as it likes and never sleeps.
//! [`expected`] says what a profile that knows the instrument makes of it.

mod aviti;
mod illumina;
mod mgi;
mod miseq;
mod nextseq;
mod novaseq;
mod novaseqx;
mod player;
mod promethion;
mod revio;
mod rsync;
mod script;
mod tests;

use std::collections::{BTreeMap, BTreeSet};

pub(crate) use player::{Pace, Player, play};
use script::Script;

/// The instrument that writes the folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Instrument {
    NovaSeq6000,
    /// With on-board analysis after `CopyComplete.txt`.
    NovaSeqX,
    NextSeq2000,
    /// With on-board analysis after `RTAComplete.txt`.
    MiSeq,
    PromethIon,
    /// Two cells; the second ends late.
    Revio,
    Aviti,
    /// Its last file says that the run failed.
    AvitiFailed,
    /// No marker at all.
    DnbSeq,
    /// A whole NovaSeq 6000 folder, copied in the order of names: the marker comes first.
    RsyncOrder,
}

impl Instrument {
    pub(crate) const ALL: [Self; 10] = [
        Self::NovaSeq6000,
        Self::NovaSeqX,
        Self::NextSeq2000,
        Self::MiSeq,
        Self::PromethIon,
        Self::Revio,
        Self::Aviti,
        Self::AvitiFailed,
        Self::DnbSeq,
        Self::RsyncOrder,
    ];
}

/// The progress of a run. Each step belongs to one phase, and they come in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Documents that are written before the first data.
    Start,
    /// Data.
    Running,
    /// Reports and markers; after the last step the instrument considers the run done.
    Closing,
    /// What comes after the marker.
    Late,
}

/// What one step does. Paths are relative to the drop directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Act {
    /// Makes a file that did not exist.
    Write { path: String, bytes: Vec<u8> },
    /// Adds to the end of a file.
    Append { path: String, bytes: Vec<u8> },
    /// Rewrites a file, in its place and inode.
    Rewrite { path: String, bytes: Vec<u8> },
    /// Renames a file.
    Rename { from: String, to: String },
    /// Makes an empty directory.
    Mkdir { path: String },
    /// Removes a file, as instruments do with their locks.
    Remove { path: String },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) phase: Phase,
    pub(crate) act: Act,
}

/// How large a run is, relative to the smallest one that has everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scale {
    /// Factor for the number of cycles or data files.
    pub(crate) count: usize,
    /// Factor for the number of bytes in each data file.
    pub(crate) bytes: usize,
}

/// What the documents of a run say about it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Words {
    pub(crate) run_id: String,
    pub(crate) instrument: String,
    pub(crate) flowcell: String,
    /// As `2026-03-01`.
    pub(crate) date: String,
    pub(crate) samples: Vec<String>,
}

/// What a profile treats as one run: a run folder, or a cell of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Unit {
    /// Its directory, relative to the drop directory.
    pub(crate) name: String,
    pub(crate) words: Words,
    /// Files that say that it is done, the last one last; empty if the instrument writes none.
    pub(crate) markers: Vec<String>,
    /// Marker of the late files, if there are any.
    pub(crate) late_marker: Option<String>,
    /// Whether the run failed, according to its own documents.
    pub(crate) failed: bool,
}

/// A run, ready to be played.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) instrument: Instrument,
    pub(crate) steps: Vec<Step>,
    units: Vec<Unit>,
    first: Vec<String>,
    left_out: BTreeSet<String>,
}

/// The expected result of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expected {
    /// Every file of the finished folder.
    pub(crate) all: BTreeMap<String, Vec<u8>>,
    /// Those that must arrive under a profile that knows the instrument.
    pub(crate) arrive: BTreeMap<String, Vec<u8>>,
    /// Paths that such a profile never uploads, including those that existed only for a while.
    pub(crate) left_out: BTreeSet<String>,
    /// Files that such a profile uploads before the others.
    pub(crate) first: Vec<String>,
    pub(crate) units: Vec<Unit>,
}

impl Run {
    /// Makes the smallest run of an instrument that has everything.
    pub(crate) fn new(instrument: Instrument, seed: u64) -> Self {
        Self::scaled(instrument, seed, Scale { count: 1, bytes: 1 })
    }

    pub(crate) fn scaled(instrument: Instrument, seed: u64, scale: Scale) -> Self {
        let mut script = Script::new(seed, scale);
        match instrument {
            Instrument::NovaSeq6000 => novaseq::write(&mut script),
            Instrument::NovaSeqX => novaseqx::write(&mut script),
            Instrument::NextSeq2000 => nextseq::write(&mut script),
            Instrument::MiSeq => miseq::write(&mut script),
            Instrument::PromethIon => promethion::write(&mut script),
            Instrument::Revio => revio::write(&mut script),
            Instrument::Aviti => aviti::write(&mut script, "OutcomeCompleted"),
            Instrument::AvitiFailed => aviti::write(&mut script, "OutcomeFailed"),
            Instrument::DnbSeq => mgi::write(&mut script),
            Instrument::RsyncOrder => rsync::write(&mut script),
        }
        let Script { steps, units, first, left_out, .. } = script;
        Self { instrument, steps, units, first, left_out }
    }

    /// The folder after this many steps.
    pub(crate) fn folder_after(&self, count: usize) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        self.steps.iter().take(count).for_each(|step| apply(&mut files, &step.act));
        files
    }
}

/// Applies a step to a folder in memory.
fn apply(files: &mut BTreeMap<String, Vec<u8>>, act: &Act) {
    match act {
        Act::Write { path, bytes } | Act::Rewrite { path, bytes } => {
            files.insert(path.clone(), bytes.clone());
        }
        Act::Append { path, bytes } => {
            files.get_mut(path).expect("it is there").extend_from_slice(bytes);
        }
        Act::Rename { from, to } => {
            let bytes = files.remove(from).expect("it is there");
            files.insert(to.clone(), bytes);
        }
        Act::Mkdir { .. } => {}
        Act::Remove { path } => {
            files.remove(path).expect("it is there");
        }
    }
}

/// Returns the expected result of a run.
pub(crate) fn expected(run: &Run) -> Expected {
    let all = run.folder_after(run.steps.len());
    let arrive = all.iter().filter(|(path, _)| !run.left_out.contains(*path));
    Expected {
        arrive: arrive.map(|(path, bytes)| (path.clone(), bytes.clone())).collect(),
        all,
        left_out: run.left_out.clone(),
        first: run.first.clone(),
        units: run.units.clone(),
    }
}
