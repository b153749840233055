//! One daemon for each state directory: a lock that ends with the process, however that ends.
//!
//! Only the owner may open the file, because a process that may open a file may lock it. If it was
//! removed, the daemon's row still names the running process (`process`).

use std::fs::{File, OpenOptions, Permissions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;

use super::{Error, Kind};

pub(super) const FILE_NAME: &str = "dropferry.lock";
const MODE: u32 = 0o600;
/// How often, and at which interval, the lock is tried.
const ATTEMPTS_MAX: u32 = 20;
const ATTEMPT_PAUSE: Duration = Duration::from_millis(25);

/// Held while the daemon lives.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
}

/// Takes the lock, or fails because another daemon has it.
pub(super) fn take(directory: &Path) -> Result<Lock, Error> {
    let path = directory.join(FILE_NAME);
    let failed = |source| Error::io("open the lock", &path, source);
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true).read(true).mode(MODE);
    let file = options.custom_flags(flags()).open(&path).map_err(failed)?;
    let found = file.metadata().map_err(failed)?;
    if found.permissions().mode() & 0o777 != MODE {
        file.set_permissions(Permissions::from_mode(MODE)).map_err(failed)?;
    }
    for attempt in 1.. {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => break,
            // A reader that checks for a daemon holds the lock for an instant.
            Err(Errno::WOULDBLOCK) if attempt < ATTEMPTS_MAX => std::thread::sleep(ATTEMPT_PAUSE),
            Err(Errno::WOULDBLOCK) => {
                share(&file, &path)?;
                break;
            }
            Err(error) => return Err(Error::io("take the lock", &path, error.into())),
        }
    }
    Ok(Lock { file })
}

/// Allows readers of the file to share the lock; a daemon without this denies them. Then only the
/// daemon's row shows which one runs.
fn share(file: &File, path: &Path) -> Result<(), Error> {
    match flock(file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => {
            let path = path.display();
            tracing::warn!(%path, "a process that is no daemon holds the lock, and is passed over");
            Ok(())
        }
        Err(Errno::WOULDBLOCK) => {
            Err(Error { doing: "take the lock", path: path.to_owned(), kind: Kind::Locked })
        }
        Err(error) => Err(Error::io("take the lock", path, error.into())),
    }
}

impl Drop for Lock {
    /// Unlocks at once, even if a child that is being started holds a copy of the file.
    fn drop(&mut self) {
        flock(&self.file, FlockOperation::Unlock).ok();
    }
}

/// Returns whether a daemon holds the lock; `None` where the file is missing, or may not be opened.
pub(super) fn is_taken(directory: &Path) -> Option<bool> {
    let mut options = OpenOptions::new();
    let file = options.read(true).custom_flags(flags()).open(directory.join(FILE_NAME)).ok()?;
    Some(flock(&file, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK))
}

/// Does not follow links, and does not wait for the other end of a pipe.
fn flags() -> i32 {
    (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed()
}
