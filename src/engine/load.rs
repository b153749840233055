//! The start: memory is built again from rows.

use std::collections::BTreeSet;

use super::event::Effect;
use super::ticket::Ticket;
use super::turn::Turn;
use super::upload::Upload;
use super::{DropKey, Engine, StoredUnit};
use crate::model::{
    Admission, DestinationName, Disposal, DropName, Fingerprint, IgnoreReason, Now, PartState,
    PathDigest, RemoteUploadId, RootIdentity, Scope, SourcePath, Standing, StoredOutbox, UploadId,
    UploadState, WallTime,
};

/// What the store holds, as the engine is told at start.
#[derive(Debug, Clone, Default)]
pub struct Stored {
    /// Uploads that have not ended; where more follows, those that are more than queued.
    pub uploads: Vec<StoredUpload>,
    /// More follows, in [`Portion`]s. Until the last one nothing is looked for in drop directories and
    /// nothing is said to be at its end.
    pub follows: bool,
    /// Remote uploads to remove.
    pub cleanups: Vec<(DestinationName, RemoteUploadId)>,
    /// Drops whose end a platform is still to be told.
    pub open_drops: Vec<DropKey>,
    /// Drops as units.
    pub units: Vec<StoredUnit>,
    /// Sources that are to be disposed of.
    pub disposals: Vec<Disposal>,
    /// Paths that are not uploaded.
    pub ignored: Vec<(DropName, PathDigest, IgnoreReason)>,
    /// Of these, directories that may not be read.
    pub unreadable: Vec<(DropName, SourcePath)>,
    /// Drop directories: where each was, and which directory, when its files were last seen.
    pub roots: Vec<(DropName, String, RootIdentity)>,
    /// What people are still to be told.
    pub outbox: StoredOutbox,
    /// What operators ordered, and since when.
    pub orders: Vec<(Standing, Scope, WallTime)>,
    /// The id after the last one ever given.
    pub next_upload: Option<UploadId>,
}

/// What is stored and follows the start, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Portion {
    /// Uploads that are queued, and nothing more.
    Uploads(Vec<StoredUpload>),
    /// Versions of files whose upload ended well or was given up, at each destination; in the order of
    /// their uploads, for destinations may be at different versions.
    Known(Vec<StoredFile>),
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
}

/// One file that was uploaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredFile {
    /// From which drop directory.
    pub drop: DropName,
    /// Which file.
    pub path: PathDigest,
    /// In which version.
    pub fingerprint: Fingerprint,
    /// To where.
    pub destination: DestinationName,
}

impl StoredFile {
    pub(super) fn of(admission: &Ticket) -> Self {
        Self {
            drop: admission.drop.clone(),
            path: admission.path.digest(),
            fingerprint: admission.fingerprint,
            destination: admission.destination.clone(),
        }
    }
}

impl Engine {
    /// Takes what is stored, or what of it does not follow.
    pub(super) fn take_stored(&mut self, stored: Stored, now: Now, out: &mut Vec<Effect>) {
        let mut turn = Turn::new(now);
        self.take_orders(stored.orders);
        for (destination, remote) in stored.cleanups {
            if let Some(gate) = self.gates.get_mut(&destination) {
                gate.clean_up(remote, now.monotonic);
            }
        }
        for (drop, path, reason) in stored.ignored {
            if let Some(files) = self.drops.get_mut(&drop) {
                match reason == IgnoreReason::Moved {
                    true => files.known.moved(path),
                    false => files.ignore(path, reason),
                }
            }
        }
        for (drop, path) in stored.unreadable {
            if let Some(files) = self.drops.get_mut(&drop) {
                files.unreadable.insert(path);
            }
        }
        for unit in stored.units {
            if let Some(files) = self.drops.get_mut(&unit.row.drop) {
                files.units.load(unit, now.monotonic);
            }
        }
        self.take_roots(stored.roots);
        for key in stored.open_drops {
            self.open_drop(key, now);
        }
        self.take_uploads(stored.uploads, &mut turn);
        stored.disposals.into_iter().for_each(|disposal| self.take_disposal(disposal, now));
        let names: Vec<_> = self.gates.keys().cloned().collect();
        names.iter().for_each(|name| self.record_destination(name, &mut turn));
        if !stored.follows {
            self.end_loading(&mut turn);
        }
        self.tell_people(&mut turn);
        self.flush(turn, out);
    }

    /// Takes what follows the start.
    pub(super) fn on_stored(&mut self, portion: Portion, turn: &mut Turn) {
        match portion {
            Portion::Uploads(uploads) => self.take_uploads(uploads, turn),
            Portion::Known(files) => files.into_iter().for_each(|file| self.remember(file, None)),
            Portion::End => self.end_loading(turn),
        }
    }

    /// Everything is in memory: what waited for that is done. The versions of uploads that go on, or
    /// did at the start, are newer than what is known of files, so they are noted after it.
    fn end_loading(&mut self, turn: &mut Turn) {
        let Some(Loading { ended, missing }) = self.loading.take() else { return };
        let order: Vec<_> = ended.iter().map(|upload| upload.id()).collect();
        let mut uploads = std::mem::take(&mut self.uploads);
        uploads.extend(ended.into_iter().map(|upload| (upload.id(), Box::new(upload))));
        for upload in uploads.values().filter(|upload| !upload.admission.is_sentinel) {
            self.remember(StoredFile::of(&upload.admission), None);
        }
        let ended: Vec<_> = order.iter().filter_map(|id| uploads.remove(id)).collect();
        self.uploads = uploads;
        ended.iter().for_each(|upload| self.end_known(upload, turn));
        missing.into_iter().for_each(|id| self.end_if_moved(id, turn));
    }

    fn take_uploads(&mut self, uploads: impl IntoIterator<Item = StoredUpload>, turn: &mut Turn) {
        for upload in uploads {
            let upload = Upload::loaded(upload.admission, upload.state, upload.parts);
            self.take_upload(Box::new(upload), turn);
        }
    }

    pub(super) fn take_upload(&mut self, mut upload: Box<Upload>, turn: &mut Turn) {
        let id = upload.id();
        self.next_upload = self.next_upload.max(id.0 + 1);
        if let Some(files) = self.drops.get_mut(&upload.admission.drop) {
            if !upload.admission.is_sentinel {
                files.known.began(upload.admission.path.digest(), id);
            }
            // One name for all, and not one for each.
            upload.admission.unit = files.units.shared(&upload.admission.unit);
        }
        self.join_drop(&upload.admission, turn);
        self.join_unit(&upload.admission, turn);
        self.uploads.insert(id, upload);
        self.park_or_release(id, turn);
        self.give_up_stored(id, turn);
    }
}
