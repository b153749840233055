//! The start: memory is built again from rows.

use std::collections::BTreeSet;

use super::event::Effect;
use super::intake::StoredPart;
use super::reread::Reread;
use super::ticket::Ticket;
use super::turn::Turn;
use super::upload::Upload;
use super::{Engine, RunEndKey, StoredRun};
use crate::model::{
    Admission, DestinationName, DirectoryName, Disposal, IgnoreReason, KnownFile, Learned, Now,
    OpenCleanup, PartState, PathDigest, RootIdentity, Scope, SourcePath, Standing, StoredNotices,
    TargetAddress, TargetId, UploadId, UploadState, WallTime,
};

/// What the store holds, as the engine is told at start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
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
#[derive(Debug, Clone, PartialEq, Eq)]
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
    ended: Vec<Upload>,
    /// Uploads that miss their source: whether it stands under another path is to be found out.
    missing: BTreeSet<UploadId>,
    /// What is read again for another configuration.
    pub(super) again: Reread,
}

impl Loading {
    /// Notes that an upload has ended.
    pub(super) fn ended(&mut self, upload: Upload) {
        self.ended.push(upload);
    }

    /// Notes that the source of an upload is not there.
    pub(super) fn misses(&mut self, upload: UploadId) {
        self.missing.insert(upload);
    }
}

/// One upload as it was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
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
        self.take_orders(std::mem::take(&mut stored.orders));
        self.take_targets(&stored);
        self.learned.extend(std::mem::take(&mut stored.learned));
        self.cleanups_elsewhere = std::mem::take(&mut stored.cleanups).into_iter().collect();
        for key in std::mem::take(&mut stored.open_drops) {
            self.open_drop(key, now);
        }
        self.assign_targets(&mut turn);
        self.note_directories(&stored.roots);
        let uploads = std::mem::take(&mut stored.uploads);
        let follows = stored.follows;
        let disposals = self.take_drops(stored, now);
        self.take_uploads(uploads, &mut turn);
        self.load_disposals(disposals, now);
        let names: Vec<_> = self.gates.keys().cloned().collect();
        names.iter().for_each(|name| self.record_destination(name, &mut turn));
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
        let order: Vec<_> = ended.iter().map(|upload| upload.id()).collect();
        let mut uploads = std::mem::take(&mut self.uploads);
        uploads.extend(ended.into_iter().map(|upload| (upload.id(), Box::new(upload))));
        for upload in uploads.values().filter(|upload| !upload.admission.is_sentinel) {
            self.remember(&known_file(&upload.admission), turn.now);
        }
        let ended: Vec<_> = order.iter().filter_map(|id| uploads.remove(id)).collect();
        self.uploads = uploads;
        ended.iter().for_each(|upload| self.end_known(upload, turn));
        missing.into_iter().for_each(|id| self.end_if_moved(id, turn));
        self.claim_free(turn);
    }

    fn take_uploads(&mut self, uploads: impl IntoIterator<Item = StoredUpload>, turn: &mut Turn) {
        for upload in uploads {
            let StoredUpload { admission, state, parts, waits_for } = upload;
            let mut upload = Upload::loaded(admission, state, parts);
            if waits_for.is_some() {
                upload.life.waits_for = waits_for;
            }
            if let Some(directory) = self.former_directories.get(&upload.admission.drop) {
                upload.life.directory = Some(directory.as_str().into());
            }
            self.take_upload(Box::new(upload), turn);
        }
    }

    pub(super) fn take_upload(&mut self, mut upload: Box<Upload>, turn: &mut Turn) {
        let id = upload.id();
        self.next_upload = self.next_upload.max(id.0 + 1);
        self.join(&mut upload, turn);
        self.uploads.insert(id, upload);
        self.claim(id, turn);
        self.retarget(id, turn);
        self.park_or_release(id, turn);
        self.give_up_stored(id, turn);
    }

    /// Has an upload count for its file, its run, and its drop at the destination.
    pub(super) fn join(&mut self, upload: &mut Upload, turn: &mut Turn) {
        self.join_drop(&upload.admission, turn);
        if let Some(intake) = self.intakes.get_mut(&upload.admission.drop) {
            // One name for all, and not one for each.
            upload.admission.run = intake.runs().shared(&upload.admission.run);
            intake.joined(&upload.admission, turn.now);
        }
    }
}
