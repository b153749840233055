//! The start: memory is built again from rows.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::event::Effect;
use super::intake::StoredPart;
use super::reread::Reread;
use super::ticket::Ticket;
use super::transfers::{Transfers, Upload, UploadEnded};
use super::turn::Turn;
use super::{Engine, RunEndKey, StoredRun};
use crate::model::{
    Admission, DestinationName, DirectoryName, Disposal, IgnoreReason, KnownFile, Learned, Now,
    OpenCleanup, PartState, PathDigest, RootIdentity, Scope, SourcePath, Standing, StoredNotices,
    TargetAddress, TargetId, UploadId, UploadState, WallTime,
};

/// What the store holds, as the engine is told at start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// Uploads that have not ended; where more follows, those that are more than queued.
    pub uploads: Vec<StoredUpload>,
    /// More follows, in [`Portion`]s. Until the last one nothing is looked for in drop directories and
    /// nothing is said to be at its end.
    pub follows: bool,
    /// Remote uploads to remove.
    pub cleanups: Vec<OpenCleanup>,
    /// Every target that was ever known.
    pub targets: Vec<(TargetId, TargetAddress)>,
    /// The targets that each destination had.
    pub in_force: Vec<(DestinationName, Vec<TargetId>)>,
    /// What the answers of destinations have shown of their targets.
    pub learned: Vec<(TargetId, Learned)>,
    /// Drops whose end a platform is still to be told.
    pub open_drops: Vec<RunEndKey>,
    pub runs: Vec<StoredRun>,
    /// Sources that are to be disposed of.
    pub disposals: Vec<Disposal>,
    /// Paths that are not uploaded.
    pub ignored: Vec<(DirectoryName, PathDigest, IgnoreReason)>,
    /// Of these, directories that may not be read.
    pub unreadable: Vec<(DirectoryName, SourcePath)>,
    /// Drop directories: where each was, and which directory, when its files were last seen.
    pub roots: Vec<(DirectoryName, String, RootIdentity)>,
    /// What people are still to be told.
    pub notices: StoredNotices,
    /// What operators ordered, and since when.
    pub orders: Vec<(Standing, Scope, WallTime)>,
    /// The id after the last one ever given.
    pub next_upload: Option<UploadId>,
}

/// What is stored and follows the start, in this order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Portion {
    /// Drop directories that another configuration put in: their runs, disposals and ignored paths.
    Drops(Box<Stored>),
    /// Uploads that are queued, and nothing more.
    Uploads(Vec<StoredUpload>),
    /// Versions of files whose upload ended well or was given up, at each destination, where another
    /// upload of the file is open; in the order of their uploads, for destinations may be at different
    /// versions.
    Known(Vec<KnownFile>),
    /// That was all.
    End,
}

/// What waits until all that is stored is in memory.
#[derive(Debug, Default)]
pub(super) struct Loading {
    /// Uploads that ended meanwhile, in the order of their ends.
    ended: Vec<UploadEnded>,
    /// Uploads that miss their source: whether it stands under another path is to be found out.
    missing: BTreeSet<UploadId>,
    /// What is read again for another configuration.
    pub(super) again: Reread,
}

impl Loading {
    /// Notes that an upload has ended.
    pub(super) fn ended(&mut self, ended: UploadEnded) {
        self.ended.push(ended);
    }

    /// Notes that the source of an upload is not there.
    pub(super) fn misses(&mut self, upload: UploadId) {
        self.missing.insert(upload);
    }
}

/// One upload as it was stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredUpload {
    /// What was frozen at admission, with the name in force.
    pub admission: Admission,
    /// How far it is.
    pub state: UploadState,
    /// Its parts in order, when it has a layout.
    pub parts: Vec<PartState>,
    /// The upload whose place it waits for.
    pub waits_for: Option<UploadId>,
}

/// Returns what an admission makes known of its file.
fn known_file(admission: &Ticket) -> KnownFile {
    KnownFile {
        drop: admission.drop.clone(),
        path: admission.path.digest(),
        fingerprint: admission.fingerprint,
        destination: admission.destination.clone(),
    }
}

impl Engine {
    /// Takes what is stored, or what of it does not follow.
    pub(super) fn take_stored(&mut self, mut stored: Stored, now: Now, out: &mut Vec<Effect>) {
        let mut turn = Turn::new(now);
        self.orders.load(std::mem::take(&mut stored.orders));
        let learned = std::mem::take(&mut stored.learned);
        let cleanups = std::mem::take(&mut stored.cleanups);
        self.shared.targets.load(&stored.targets, learned, cleanups);
        for (destination, targets) in std::mem::take(&mut stored.in_force) {
            if let Some(transfers) = self.transfers.get_mut(&destination) {
                transfers.load_targets(targets);
            }
        }
        for key in std::mem::take(&mut stored.open_drops) {
            self.add_transfers(&key.destination);
            let name = key.destination.clone();
            self.with_transfers(&name, &mut turn, |t, turn| t.load_run(key, turn));
        }
        self.assign_targets(&mut turn);
        self.note_directories(&stored.roots);
        let uploads = std::mem::take(&mut stored.uploads);
        let follows = stored.follows;
        let disposals = self.take_drops(stored, now);
        self.take_uploads(uploads, &mut turn);
        self.load_disposals(disposals, now);
        self.with_all_transfers(&mut turn, Transfers::write_health);
        if !follows {
            self.end_loading(&mut turn);
        }
        self.notify(&mut turn);
        self.flush(turn, out);
    }

    /// Notes which names stood for other directories when this life began.
    fn note_directories(&mut self, roots: &[(DirectoryName, String, RootIdentity)]) {
        for (name, directory, _) in roots {
            let now = self.intakes.get(name).map(|intake| &intake.settings().directory);
            if now.is_some_and(|now| now != directory) {
                self.former_directories.insert(name.clone(), directory.clone());
            }
        }
    }

    /// Takes what is stored of drop directories. Disposals are left: uploads come before them.
    pub(super) fn take_drops(&mut self, stored: Stored, now: Now) -> Vec<Disposal> {
        for (drop, path, reason) in stored.ignored {
            self.load_part(&drop, StoredPart::Ignored(path, reason), now);
        }
        for (drop, path) in stored.unreadable {
            self.load_part(&drop, StoredPart::UnreadableDirectory(path), now);
        }
        for run in stored.runs {
            self.load_part(&run.row.drop.clone(), StoredPart::Run(run), now);
        }
        self.load_roots(stored.roots, now);
        stored.disposals
    }

    pub(super) fn load_part(&mut self, drop: &DirectoryName, part: StoredPart, now: Now) {
        if let Some(intake) = self.intakes.get_mut(drop) {
            intake.load(part, now);
        }
    }

    /// Loads disposals that are to be done.
    pub(super) fn load_disposals(&mut self, disposals: Vec<Disposal>, now: Now) {
        for what in disposals {
            self.load_part(&what.drop.clone(), StoredPart::Disposal(what), now);
        }
    }

    /// Takes what follows the start.
    pub(super) fn on_stored(&mut self, portion: Portion, turn: &mut Turn) {
        match portion {
            Portion::Drops(stored) => self.take_new_drops(*stored, turn),
            Portion::Uploads(uploads) => self.take_uploads(uploads, turn),
            Portion::Known(files) => self.take_known(files, turn.now),
            Portion::End => self.end_loading(turn),
        }
    }

    /// Everything is in memory: what waited for that is done. The versions of uploads that go on, or
    /// did at the start, are newer than what is known of files, so they are noted after it.
    pub(super) fn end_loading(&mut self, turn: &mut Turn) {
        let Some(Loading { ended, missing, again: _ }) = self.loading.take() else { return };
        let open = self.transfers.values().flat_map(Transfers::uploads).map(Upload::id);
        let ended_ids = ended.iter().map(|ended| ended.ticket.id);
        let mut ids: Vec<_> = open.chain(ended_ids).collect();
        ids.sort_unstable();
        for id in ids {
            let open = self.upload(id).map(|upload| &upload.admission);
            let over = || Some(&ended.iter().find(|ended| ended.ticket.id == id)?.ticket);
            let Some(ticket) = open.or_else(over).filter(|ticket| !ticket.is_sentinel) else {
                continue;
            };
            let file = known_file(ticket);
            self.remember(&file, turn.now);
        }
        ended.iter().for_each(|ended| self.end_known(ended, turn));
        self.with_owners(missing, turn, Transfers::end_if_moved);
        for (place, id) in self.shared.claims.all_waiting() {
            if self.shared.claims.holder(place).is_none() {
                self.with_owners([id], turn, Transfers::claim);
                self.with_owners([id], turn, Transfers::place);
            }
            self.name_holder(place, turn);
        }
    }

    fn take_uploads(&mut self, uploads: impl IntoIterator<Item = StoredUpload>, turn: &mut Turn) {
        for upload in uploads {
            let mut upload = Upload::restored(upload);
            if let Some(directory) = self.former_directories.get(&upload.admission.drop) {
                upload.life.directory = Some(directory.as_str().into());
            }
            self.load_upload(upload, turn);
        }
    }

    pub(super) fn load_upload(&mut self, mut upload: Upload, turn: &mut Turn) {
        let (id, name) = (upload.id(), upload.admission.destination.clone());
        self.shared.next_upload = self.shared.next_upload.max(UploadId(id.0 + 1));
        self.join(&mut upload, turn.now);
        self.add_transfers(&name);
        self.with_transfers(&name, turn, |t, turn| t.load(Box::new(upload), turn));
        if self.orders.gives_up(id) {
            self.abandon(&[id], turn);
        }
    }

    /// Has an upload count for its file and its run.
    pub(super) fn join(&mut self, upload: &mut Upload, now: Now) {
        if let Some(intake) = self.intakes.get_mut(&upload.admission.drop) {
            // One name for all, and not one for each.
            upload.admission.run = intake.runs().shared(&upload.admission.run);
            intake.joined(&upload.admission, now);
        }
    }
}
