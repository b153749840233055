//! One daemon on one state directory: a lock that ends with the process, however it ends.

use std::fs::{File, OpenOptions};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::{Error, Kind};

const FILE_NAME: &str = "dropferry.lock";
/// How often the lock is tried, and how long apart.
const ATTEMPTS_MAX: u32 = 20;
const ATTEMPT_PAUSE: Duration = Duration::from_millis(25);

/// Held while the daemon lives.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
}

/// Takes the lock, or says that another daemon has it.
pub(super) fn take(directory: &Path) -> Result<Lock, Error> {
    let path = directory.join(FILE_NAME);
    let failed = |source| Error::io("open the lock", &path, source);
    let mut options = OpenOptions::new();
    let file =
        options.create(true).truncate(false).write(true).read(true).open(&path).map_err(failed)?;
    for attempt in 1.. {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => break,
            // A reader that asks whether a daemon runs holds the lock for an instant.
            Err(Errno::WOULDBLOCK) if attempt < ATTEMPTS_MAX => std::thread::sleep(ATTEMPT_PAUSE),
            Err(Errno::WOULDBLOCK) => {
                return Err(Error { doing: "take the lock", path, kind: Kind::Locked });
            }
            Err(error) => return Err(Error::io("take the lock", &path, error.into())),
        }
    }
    Ok(Lock { file })
}

impl Drop for Lock {
    /// Lets go at once, also where a child that is being started still holds a copy of the file.
    fn drop(&mut self) {
        flock(&self.file, FlockOperation::Unlock).ok();
    }
}

/// Tells whether a daemon holds the lock.
pub(super) fn is_taken(directory: &Path) -> bool {
    let Ok(file) = File::open(directory.join(FILE_NAME)) else { return false };
    flock(&file, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK)
}
