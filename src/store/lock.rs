//! One daemon on one state directory: a lock that ends with the process, however it ends.

use std::fs::{File, OpenOptions};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use super::{Error, Kind};

const FILE_NAME: &str = "dropferry.lock";

/// Held while the daemon lives.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

/// Takes the lock, or says that another daemon has it.
pub(super) fn take(directory: &Path) -> Result<Lock, Error> {
    let path = directory.join(FILE_NAME);
    let failed = |source| Error::io("open the lock", &path, source);
    let mut options = OpenOptions::new();
    let file =
        options.create(true).truncate(false).write(true).read(true).open(&path).map_err(failed)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Lock { _file: file }),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            Err(Error { doing: "take the lock", path, kind: Kind::Locked })
        }
        Err(error) => Err(Error::io("take the lock", &path, error.into())),
    }
}

/// Tells whether a daemon holds the lock.
pub(super) fn is_taken(directory: &Path) -> bool {
    let Ok(file) = File::open(directory.join(FILE_NAME)) else { return false };
    flock(&file, FlockOperation::NonBlockingLockShared) == Err(rustix::io::Errno::WOULDBLOCK)
}
