//! What an upload costs in memory while it waits for its turn.
//!
//! A drop directory may hold hundreds of thousands of files, and all but a few of their uploads are
//! queued: admitted, and nothing more. Such an upload is its [`Ticket`]; what it would know besides
//! is [`Sparse`] and takes room only once it differs from what it was at the start.

use std::ops::{Deref, DerefMut};

use crate::model::{
    Admission, DestinationName, DirectoryName, Fingerprint, ParkReason, PartSize, Provenance,
    RootIdentity, SourcePath, Target, TargetId, UploadId, WallTime,
};

/// What stands between the name of a run and the number of its receipt.
const DROP_SUFFIX: &[u8] = b".drop-";

/// An [`Admission`] in little room.
#[derive(Debug)]
pub(crate) struct Ticket {
    pub(crate) id: UploadId,
    pub(crate) drop: DirectoryName,
    pub(crate) path: SourcePath,
    pub(crate) run: SourcePath,
    pub(crate) is_sentinel: bool,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) provenance: Option<Box<Provenance>>,
    pub(crate) destination: DestinationName,
    pub(crate) target_id: TargetId,
    pub(crate) part_size: PartSize,
    /// It was of one part when it was admitted or loaded: its lane stays, whatever is begun.
    pub(crate) is_small: bool,
    pub(crate) rank: u32,
    pub(crate) at: WallTime,
    parked: Option<ParkReason>,
    root: Option<RootIdentity>,
    /// The target's folders, each followed by a slash, and its name.
    target: Box<str>,
    /// How much of it is folders.
    folders_length: u32,
}

/// What drop directories know of an upload.
#[derive(Debug, Clone)]
pub(super) struct UploadFile {
    pub(super) id: UploadId,
    pub(super) drop: DirectoryName,
    pub(super) path: SourcePath,
    pub(super) run: SourcePath,
    pub(super) is_sentinel: bool,
    pub(super) fingerprint: Fingerprint,
    pub(super) destination: DestinationName,
}

impl Ticket {
    /// Returns what its drop directory knows of it.
    pub(super) fn file(&self) -> UploadFile {
        UploadFile {
            id: self.id,
            drop: self.drop.clone(),
            path: self.path.clone(),
            run: self.run.clone(),
            is_sentinel: self.is_sentinel,
            fingerprint: self.fingerprint,
            destination: self.destination.clone(),
        }
    }

    pub(crate) fn target(&self) -> Target {
        let folders = self.target[..self.folders_length as usize].split_terminator('/');
        Target {
            folders: folders.map(str::to_owned).collect(),
            name: self.target_name().to_owned(),
        }
    }

    pub(crate) fn target_name(&self) -> &str {
        &self.target[self.folders_length as usize..]
    }

    /// Returns the target's folders, each followed by a slash, and its name.
    pub(crate) fn target_path(&self) -> &str {
        &self.target
    }

    /// Returns what stands for the run of a sentinel, whatever number its receipt has.
    pub(crate) fn sentinel_run(&self) -> SourcePath {
        let path = self.path.as_bytes();
        let end = path.windows(DROP_SUFFIX.len()).rposition(|part| part == DROP_SUFFIX);
        SourcePath::from_bytes(&path[..end.unwrap_or(path.len())])
    }

    /// Returns the first of the folders it shall stand in.
    pub(crate) fn top_folder(&self) -> Option<&str> {
        self.target[..self.folders_length as usize].split_terminator('/').next()
    }

    pub(crate) fn rename(&mut self, name: &str) {
        let folders = &self.target[..self.folders_length as usize];
        self.target = [folders, name].concat().into();
    }

    pub(crate) fn admission(&self) -> Admission {
        Admission {
            id: self.id,
            drop: self.drop.clone(),
            path: self.path.clone(),
            run: self.run.clone(),
            is_sentinel: self.is_sentinel,
            fingerprint: self.fingerprint,
            provenance: self.provenance.clone(),
            destination: self.destination.clone(),
            target_id: self.target_id,
            target: self.target(),
            part_size: self.part_size,
            rank: self.rank,
            at: self.at,
            parked: self.parked,
            root: self.root.clone(),
        }
    }
}

impl From<Admission> for Ticket {
    fn from(admission: Admission) -> Self {
        let Target { folders, name } = admission.target;
        let mut target = String::new();
        for folder in &folders {
            target.push_str(folder);
            target.push('/');
        }
        let folders_length = crate::model::run::length(target.as_bytes());
        target.push_str(&name);
        Self {
            id: admission.id,
            drop: admission.drop,
            path: admission.path,
            run: admission.run,
            is_sentinel: admission.is_sentinel,
            fingerprint: admission.fingerprint,
            provenance: admission.provenance,
            destination: admission.destination,
            target_id: admission.target_id,
            part_size: admission.part_size,
            is_small: admission.fingerprint.size.0 <= admission.part_size.get(),
            rank: admission.rank,
            at: admission.at,
            parked: admission.parked,
            root: admission.root,
            target: target.into(),
            folders_length,
        }
    }
}

/// What something is before anything happened to it.
pub(crate) trait AtStart: Clone + 'static {
    /// Returns it; one for all.
    fn at_start() -> &'static Self;
}

/// A value that takes room only once it is written to; until then it reads as it was at the start.
#[derive(Debug)]
pub(crate) struct Sparse<T>(Option<Box<T>>);

impl<T> Sparse<T> {
    /// Starts without a value of its own.
    pub(crate) fn empty() -> Self {
        Self(None)
    }
}

impl<T: AtStart + PartialEq> From<T> for Sparse<T> {
    fn from(value: T) -> Self {
        Self((value != *T::at_start()).then(|| Box::new(value)))
    }
}

impl<T: AtStart> Deref for Sparse<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_deref().unwrap_or_else(|| T::at_start())
    }
}

impl<T: AtStart> DerefMut for Sparse<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.get_or_insert_with(|| Box::new(T::at_start().clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ByteCount;

    fn admission(folders: &[&str], name: &str) -> Admission {
        Admission {
            run: SourcePath::from_bytes(b"run"),
            provenance: None,
            is_sentinel: false,
            id: UploadId(7),
            drop: DirectoryName::new("lab"),
            path: SourcePath::from_bytes(b"run/a"),
            fingerprint: Fingerprint {
                device: 1,
                inode: 2,
                size: ByteCount(3),
                mtime_ns: 4,
                ctime_ns: None,
            },
            destination: DestinationName::new("far"),
            target_id: TargetId(9),
            target: Target {
                folders: folders.iter().map(|&folder| folder.to_owned()).collect(),
                name: name.to_owned(),
            },
            part_size: PartSize::new(5).unwrap(),
            rank: 6,
            at: WallTime(8),
            parked: Some(ParkReason::TooLarge),
            root: None,
        }
    }

    #[test]
    fn a_ticket_is_its_admission() {
        for (folders, name) in
            [(&[] as &[&str], "a"), (&["runs"], "a.b"), (&["runs", "ä b", "c"], "with/slash")]
        {
            let admission = admission(folders, name);
            let ticket = Ticket::from(admission.clone());
            assert_eq!(ticket.admission(), admission);
            assert_eq!(
                (ticket.top_folder(), ticket.target_name()),
                (folders.first().copied(), name)
            );
        }
    }

    #[test]
    fn a_new_name_leaves_the_folders() {
        let mut ticket = Ticket::from(admission(&["runs", "x"], "a"));
        ticket.rename("a.v2");
        assert_eq!(ticket.target(), admission(&["runs", "x"], "a.v2").target);
    }

    #[test]
    fn a_queued_upload_is_small() {
        // 216, and its target, its root and its provenance: what proves where it came from and went to.
        assert!(size_of::<crate::engine::transfers::Upload>() <= 216 + 8 + 16 + 8);
    }

    #[derive(Debug, Clone, PartialEq)]
    struct Count(u32);

    impl AtStart for Count {
        fn at_start() -> &'static Self {
            &Self(1)
        }
    }

    #[test]
    fn what_is_sparse_takes_no_room_before_it_is_written_to() {
        let mut count = Sparse::from(Count(1));
        assert_eq!((&*count, count.0.is_none()), (&Count(1), true));
        count.deref_mut().0 += 1;
        assert_eq!((&*count, count.0.is_some()), (&Count(2), true));
        assert!(Sparse::from(Count(3)).0.is_some());
    }
}
