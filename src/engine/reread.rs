//! Reads from the rows what a new configuration needs and memory does not have.
//!
//! A drop directory, a destination or the directory behind a drop directory's name may be taken out by
//! one configuration and put back by another. What is known of files is in the rows all the while: for
//! a drop directory that this life does not know under this directory everything is read as at a start,
//! and for one with a destination more, or of which completed uploads are to be sent again, which files
//! were sent where. Until that is read nothing is looked for in any drop directory and nothing is
//! admitted; parts go on.
//!
//! The act waits for all commits before it, so the rows hold what memory forgot. At a crash nothing is
//! lost: the next start reads all of it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::event::{Act, ActId, Outcome, Setback};
use super::intake::{Intake, StoredPart};
use super::known::KnownFiles;
use super::load::Loading;
use super::transfers::{Transfers, Upload};
use super::turn::Turn;
use super::{Engine, Flight, Stored};
use crate::model::{DestinationName, DirectoryName, KnownFile, Monotonic, Now, Record, UploadId};

/// Rows that could not be read are read again after this.
const PAUSE: Duration = Duration::from_secs(1);

/// What is read of one drop directory.
#[derive(Debug)]
pub(super) struct Unread {
    /// This life does not know it: its runs and disposals are read as well.
    pub(super) is_new: bool,
    known: KnownFiles,
}

impl Unread {
    pub(super) fn new(is_new: bool) -> Self {
        Self { is_new, known: KnownFiles::default() }
    }
}

/// What is read again.
#[derive(Debug)]
pub(super) struct Reread {
    drops: BTreeMap<DirectoryName, Unread>,
    act: Option<ActId>,
    due: Monotonic,
}

impl Default for Reread {
    fn default() -> Self {
        Self { drops: BTreeMap::new(), act: None, due: Monotonic(Duration::ZERO) }
    }
}

impl Reread {
    /// Tells whether all of a drop directory is being read.
    pub(super) fn has_new(&self, drop: &DirectoryName) -> bool {
        self.drops.get(drop).is_some_and(|unread| unread.is_new)
    }

    /// Returns when reading is tried again.
    pub(super) fn next_deadline(&self) -> Option<Monotonic> {
        (self.act.is_none() && !self.drops.is_empty()).then_some(self.due)
    }
}

impl Engine {
    /// Has what a destination's former targets hold sent to its target, as far as the sources are here.
    pub(super) fn resend(&mut self, to: &DestinationName, turn: &mut Turn) {
        let Some(target) = self.transfers.get(to).and_then(Transfers::target) else { return };
        turn.record(Record::Resend {
            destination: to.clone(),
            target,
            before: self.shared.next_upload,
        });
        let of_it = self.intakes.iter().filter(|(_, intake)| {
            let settings = intake.settings();
            settings.is_scanned && settings.destinations.contains(to)
        });
        let drops = of_it.map(|(name, _)| (name.clone(), Unread::new(false))).collect();
        self.read_again(drops, turn);
    }

    /// Has the rows of these drop directories read.
    pub(super) fn read_again(&mut self, drops: BTreeMap<DirectoryName, Unread>, turn: &mut Turn) {
        if drops.is_empty() {
            return;
        }
        self.intakes.values_mut().for_each(Intake::discard_scan);
        let again = Reread { drops, act: None, due: turn.now.monotonic };
        self.loading.get_or_insert_with(Loading::default).again = again;
        self.start_reading(turn);
    }

    /// Starts the act that reads, when it is due.
    pub(super) fn start_reading(&mut self, turn: &mut Turn) {
        let Some(loading) = &self.loading else { return };
        if loading.again.next_deadline().is_none_or(|due| due > turn.now.monotonic) {
            return;
        }
        let drops = loading.again.drops.iter().map(|(name, unread)| (name.clone(), unread.is_new));
        let act = Act::ReadRows { drops: drops.collect() };
        let id = self.shared.flights.start(Flight::ReadRows, act, turn);
        if let Some(loading) = &mut self.loading {
            loading.again.act = Some(id);
            loading
                .again
                .drops
                .values_mut()
                .for_each(|unread| unread.known = KnownFiles::default());
        }
    }

    /// Takes what is stored of drop directories that this life does not know.
    pub(super) fn take_new_drops(&mut self, mut stored: Stored, turn: &mut Turn) {
        let Some(loading) = &self.loading else { return };
        let names = loading.again.drops.iter().filter(|(_, unread)| unread.is_new);
        let names: Vec<_> = names.map(|(name, _)| name.clone()).collect();
        // What is in memory of the directories is newer than the rows.
        stored.roots.extend(self.roots());
        // Rows that are read a second time replace those of the first.
        for name in &names {
            if let Some(intake) = self.intakes.get_mut(name) {
                *intake = Intake::new(intake.settings().clone(), turn.now.monotonic);
            }
        }
        let disposals = self.take_drops(stored, turn.now);
        self.load_disposals(disposals, turn.now);
        for name in &names {
            let all = self.transfers.values().flat_map(Transfers::uploads);
            let of_drop = all.filter(|upload| upload.admission.drop == *name);
            let mut ids: Vec<_> = of_drop.map(Upload::id).collect();
            ids.sort_unstable();
            ids.into_iter().for_each(|id| self.join_again(id, turn));
        }
    }

    fn join_again(&mut self, id: UploadId, turn: &mut Turn) {
        self.with_owners([id], turn, Transfers::join_run);
        for transfers in self.transfers.values_mut() {
            let Some(upload) = transfers.upload_mut(id) else { continue };
            if let Some(intake) = self.intakes.get_mut(&upload.admission.drop) {
                upload.admission.run = intake.runs().shared(&upload.admission.run);
                intake.joined(&upload.admission, turn.now);
            }
        }
    }

    /// Takes files that were sent.
    pub(super) fn take_known(&mut self, files: Vec<KnownFile>, now: Now) {
        let is_again = self.loading.as_ref().is_some_and(|loading| loading.again.act.is_some());
        for file in files {
            if !is_again {
                self.remember(&file, now);
                continue;
            }
            let Some(intake) = self.intakes.get(&file.drop) else { continue };
            let set = intake.files().set_of(&file.destination);
            let again = self.loading.as_mut().map(|loading| &mut loading.again.drops);
            if let Some(unread) = again.and_then(|drops| drops.get_mut(&file.drop)) {
                unread.known.admitted(file.path, &file.fingerprint, set);
            }
        }
    }

    pub(super) fn on_rows_read(
        &mut self,
        act: ActId,
        reply: Result<Outcome, Setback>,
        turn: &mut Turn,
    ) {
        let Some(loading) = &mut self.loading else { return };
        if loading.again.act != Some(act) {
            return;
        }
        loading.again.act = None;
        if reply.is_err() {
            loading.again.due = turn.now.monotonic.after(PAUSE);
            return;
        }
        let again = std::mem::take(&mut loading.again);
        let names: Vec<_> = again.drops.keys().cloned().collect();
        for (name, unread) in again.drops {
            self.load_part(&name, StoredPart::AllKnown(unread.known), turn.now);
        }
        self.end_loading(turn);
        let ids = self.upload_ids();
        self.with_owners(ids, turn, Transfers::park_or_release);
        // What a scan saw before the rows were read was not compared with them.
        names.iter().for_each(|name| self.on_scan_now(name, turn.now));
    }
}
