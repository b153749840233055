//! Rows that are read while parts are sent: at a start the queued uploads, and for a new
//! configuration everything that memory lacks.
//!
//! A configuration may remove a drop directory, a destination or the directory behind a drop directory's
//! name, and a later one may add it again. The rows keep what is known of files: for a drop directory
//! that this process does not know with this directory, everything is read as at a start; for one with
//! an added destination, or whose completed uploads are to be sent again, only which files were sent
//! where. Until all is read, no drop directory is scanned and nothing is admitted.
//!
//! The act that reads waits for all commits before it, so the rows hold what memory dropped. A
//! crash loses nothing: the next start reads all of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::claims::Claims;
use super::dispatch::{Dispatch, ToIntake, ToUpload, UploadFile};
use super::event::{Act, ActId};
use super::intake::{StoredPart, UploadEnd};
use super::known::KnownFiles;
use super::load;
use super::roots::RootRegistry;
use super::scene::Scene;
use crate::model::{
    AdmittedFile, DestinationName, DirectoryName, KnownFile, Monotonic, StoredRows, StoredState,
    UploadId,
};

/// Pause before rows are read again after a failure.
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Loading {
    /// Uploads that ended meanwhile, in the order of their ends.
    ended: Vec<(UploadFile, UploadEnd)>,
    /// Uploads with a missing source, which may have been moved.
    missing: BTreeSet<UploadId>,
    /// Drop directories that are read for a new configuration.
    unread: UnreadDirectories,
    act: Option<ActId>,
    due: Monotonic,
}

/// The drop directories to read.
pub(super) type UnreadDirectories = BTreeMap<DirectoryName, Unread>;

/// What is read of one drop directory.
#[derive(Debug)]
pub(super) struct Unread {
    /// This process does not know it: its runs and disposals are read as well.
    is_new: bool,
    known: KnownFiles,
}

impl Unread {
    pub(super) fn new(is_new: bool) -> Self {
        Self { is_new, known: KnownFiles::default() }
    }
}

/// Returns the drop directories whose files are sent again to a destination.
pub(super) fn directories_of(to: &DestinationName, scene: Scene<'_>) -> UnreadDirectories {
    let of_it = scene.intakes.iter().filter(|(_, intake)| {
        let settings = intake.settings();
        settings.is_scanned && settings.destinations.contains(to)
    });
    of_it.map(|(name, _)| (name.clone(), Unread::new(false))).collect()
}

impl Loading {
    pub(super) fn new() -> Self {
        Self {
            ended: Vec::new(),
            missing: BTreeSet::new(),
            unread: BTreeMap::new(),
            act: None,
            due: Monotonic(Duration::ZERO),
        }
    }

    pub(super) fn ended(&mut self, file: UploadFile, end: UploadEnd) {
        self.ended.push((file, end));
    }

    pub(super) fn misses(&mut self, upload: UploadId) {
        self.missing.insert(upload);
    }

    pub(super) fn read(&mut self, unread: UnreadDirectories, now: Monotonic) {
        (self.unread, self.act, self.due) = (unread, None, now);
    }

    /// Returns whether all of a drop directory is being read.
    pub(super) fn has_new(&self, drop: &DirectoryName) -> bool {
        self.unread.get(drop).is_some_and(|unread| unread.is_new)
    }

    /// Returns when reading is retried.
    pub(super) fn next_deadline(&self) -> Option<Monotonic> {
        (self.act.is_none() && !self.unread.is_empty()).then_some(self.due)
    }

    /// Returns the act that reads, when it is due.
    pub(super) fn act(&mut self, now: Monotonic) -> Option<Act> {
        self.next_deadline().filter(|due| *due <= now)?;
        let drops = self.unread.iter_mut().map(|(name, unread)| {
            unread.known = KnownFiles::default();
            (name.clone(), unread.is_new)
        });
        Some(Act::ReadRows { drops: drops.collect() })
    }

    pub(super) fn begun(&mut self, act: ActId) {
        self.act = Some(act);
    }

    /// Receives a portion of the rows.
    pub(super) fn received(
        &mut self,
        rows: StoredRows,
        roots: &mut RootRegistry,
        scene: Scene<'_>,
    ) -> Vec<Dispatch> {
        match rows {
            StoredRows::Directories(mut stored) => {
                // Memory is newer than the rows of these directories.
                let mut all = std::mem::take(&mut stored.roots);
                all.extend(roots.all(scene.intakes));
                let said = self.directories(*stored, scene);
                said.into_iter().chain(roots.load(all, scene.intakes)).collect()
            }
            StoredRows::Uploads(uploads) => load::uploads(uploads).collect(),
            StoredRows::Known(files) => self.known(files, scene),
            StoredRows::End => Vec::new(),
        }
    }

    /// Receives the rows of drop directories that this process does not know. Rows that are read a
    /// second time replace those of the first.
    fn directories(&self, stored: StoredState, scene: Scene<'_>) -> Vec<Dispatch> {
        let names: Vec<_> = self.unread.keys().filter(|name| self.has_new(name)).collect();
        let forget = names.iter().map(|name| Dispatch::Intake((*name).clone(), ToIntake::Forget));
        let mut said: Vec<_> = forget.collect();
        let disposals = stored.disposals.clone();
        said.extend(load::directories(stored));
        said.extend(load::disposals(disposals));
        let of_drops = scene.ids(|upload| names.contains(&&upload.admission().file.drop));
        said.extend(Dispatch::uploads(of_drops, ToUpload::Rejoin));
        said
    }

    /// Receives sent files.
    fn known(&mut self, files: Vec<KnownFile>, scene: Scene<'_>) -> Vec<Dispatch> {
        if self.act.is_none() {
            return files.into_iter().map(known).collect();
        }
        for file in files {
            let Some(intake) = scene.intakes.get(&file.drop) else { continue };
            let set = intake.files().set_of(&file.destination);
            if let Some(unread) = self.unread.get_mut(&file.drop) {
                unread.known.admitted(file.path, &file.fingerprint, set);
            }
        }
        Vec::new()
    }

    /// Receives the end of reading. Returns what was read, if it is complete.
    pub(super) fn rows_read(
        &mut self,
        act: ActId,
        is_read: bool,
        now: Monotonic,
    ) -> Option<BTreeMap<DirectoryName, KnownFiles>> {
        if self.act != Some(act) {
            return None;
        }
        self.act = None;
        if !is_read {
            self.due = now.after(PAUSE);
            return None;
        }
        let unread = std::mem::take(&mut self.unread);
        Some(unread.into_iter().map(|(name, unread)| (name, unread.known)).collect())
    }

    /// Everything is in memory: does what waited for it. The versions of open uploads, also of
    /// those that ended meanwhile, are newer than the known files, so they are applied after them.
    pub(super) fn end(self, claims: &Claims, scene: Scene<'_>) -> Vec<Dispatch> {
        let Self { ended, missing, .. } = self;
        let open = scene.ids(|upload| !upload.admission().file.is_sentinel).into_iter();
        let open = open.filter_map(|id| Some(scene.upload(id)?.file()));
        let over = ended.iter().map(|(file, _)| file).filter(|file| !file.file.is_sentinel);
        let mut files: Vec<_> = open.chain(over.cloned()).collect();
        files.sort_by_key(|file| file.id);
        let admitted = files.into_iter().map(|file| {
            let UploadFile {
                file: AdmittedFile { drop, path, fingerprint, .. }, destination, ..
            } = file;
            known(KnownFile { drop, path: path.digest(), fingerprint, destination })
        });
        let ends = ended.into_iter().map(|(file, end)| {
            Dispatch::Intake(file.file.drop.clone(), ToIntake::Ended(file, end))
        });
        let moved = Dispatch::uploads(missing, ToUpload::EndIfMoved);
        let places = claims.all_awaited().into_iter().map(Dispatch::PlaceFreed);
        admitted.chain(ends).chain(moved).chain(places).collect()
    }
}

fn known(file: KnownFile) -> Dispatch {
    Dispatch::Intake(file.drop.clone(), ToIntake::Load(StoredPart::Known(file)))
}
