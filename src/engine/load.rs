//! The start: memory is built again from rows.

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
    /// Uploads that have not ended, or the first of them; see [`Engine::load_more`].
    pub uploads: Vec<StoredUpload>,
    /// The newest version of each file whose upload ended well or was given up, at each destination;
    /// in the order of their uploads, for destinations may be at different versions.
    pub known: Vec<StoredFile>,
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

/// One upload as it was stored.
#[derive(Debug, Clone)]
pub struct StoredUpload {
    /// What was frozen at admission, with the name in force.
    pub admission: Admission,
    /// How far it is.
    pub state: UploadState,
    /// Its parts in order, when it has a layout.
    pub parts: Vec<PartState>,
}

/// One file that was uploaded.
#[derive(Debug, Clone)]
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
    /// Takes what is stored: first what is known of files, then the uploads that go on.
    pub(super) fn take_stored(&mut self, stored: Stored, now: Now, out: &mut Vec<Effect>) {
        let mut turn = Turn::new(now);
        self.take_orders(stored.orders);
        for file in stored.known {
            self.remember(file, None);
        }
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
        names.iter().for_each(|name| self.tell_destination(name, None, &mut turn));
        self.tell_people(&mut turn);
        turn.flush(out);
    }

    /// Takes more of the uploads that are stored, before the first event: in memory they are small,
    /// as rows they are not.
    pub fn load_more(
        &mut self,
        uploads: impl IntoIterator<Item = StoredUpload>,
        now: Now,
        out: &mut Vec<Effect>,
    ) {
        let mut turn = Turn::new(now);
        self.take_uploads(uploads, &mut turn);
        self.tell_people(&mut turn);
        turn.flush(out);
    }

    fn take_uploads(&mut self, uploads: impl IntoIterator<Item = StoredUpload>, turn: &mut Turn) {
        for upload in uploads {
            let upload = Upload::loaded(upload.admission, upload.state, upload.parts);
            self.take_upload(Box::new(upload), turn);
        }
    }

    fn take_upload(&mut self, mut upload: Box<Upload>, turn: &mut Turn) {
        let id = upload.id();
        self.next_upload = self.next_upload.max(id.0 + 1);
        if !upload.admission.is_sentinel {
            self.remember(StoredFile::of(&upload.admission), Some(id));
        }
        if let Some(files) = self.drops.get(&upload.admission.drop) {
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
