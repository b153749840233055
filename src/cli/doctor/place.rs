//! The state directory: its owner, its file system, its free space.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Access, StatVfs};

use super::lines::Checks;
use super::{LIMIT, bounded};
use crate::cli::render;
use crate::control::user_shown;
use crate::source::network_file_system;

const MIB: u64 = 1024 * 1024;
/// A batch of a hundred thousand files adds about this much to the database.
const SPACE_MIN: u64 = 100 * MIB;
const SPACE_LOW: u64 = 1024 * MIB;
/// Each receipt is a file.
const INODES_LOW: u64 = 10_000;

/// What was found about a directory.
struct Looked {
    meta: std::fs::Metadata,
    room: Option<StatVfs>,
    network: Option<&'static str>,
    is_writable: bool,
}

/// Also returns whether it answers at all.
pub(super) fn check(directory: &Path) -> (Checks, bool) {
    let mut checks = Checks::of("state");
    let shown = directory.display();
    let path = directory.to_owned();
    let looked = bounded(LIMIT, move || look(&path));
    let answers = looked.is_some();
    match looked {
        None => checks.fail(
            "directory",
            format!("{shown} does not answer within {} s", LIMIT.as_secs()),
            "set [state] directory to a disk of this machine",
        ),
        Some(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => {
            let found = format!("{shown} is not there");
            let cure = "the daemon makes it at its first start; if it ran before, correct [state] \
                directory";
            checks.warn("directory", found, cure);
            judge_above(&mut checks, directory);
        }
        Some(Err(error)) => checks.fail(
            "directory",
            format!("{shown} cannot be looked at: {error}"),
            "run this as the daemon's user, or give that user the directory",
        ),
        Some(Ok(looked)) => {
            judge(&mut checks, &shown.to_string(), &looked);
            judge_disk(&mut checks, &looked);
        }
    }
    (checks, answers)
}

/// Checks the file system on which the directory will be created.
fn judge_above(checks: &mut Checks, directory: &Path) {
    let path = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
    let above = move || path.ancestors().find_map(|above| look(above).ok());
    if let Some(Some(looked)) = bounded(LIMIT, above) {
        judge_disk(checks, &looked);
    }
}

fn look(path: &Path) -> std::io::Result<Looked> {
    Ok(Looked {
        meta: std::fs::metadata(path)?,
        room: rustix::fs::statvfs(path).ok(),
        network: network_file_system(path)?,
        is_writable: rustix::fs::access(path, Access::WRITE_OK | Access::EXEC_OK).is_ok(),
    })
}

fn judge(checks: &mut Checks, shown: &str, looked: &Looked) {
    let (mode, owner) = (looked.meta.mode() & 0o7777, looked.meta.uid());
    let us = rustix::process::geteuid().as_raw();
    let (owner_name, our_name) = (user_shown(owner), user_shown(us));
    if mode & 0o022 != 0 {
        let found = format!("{shown} may be written to by others (mode {mode:o})");
        checks.fail("directory", found, format!("chmod go-w {shown}"));
    } else if us == owner && !looked.is_writable {
        let found = format!("{shown} may not be written to");
        checks.fail("directory", found, "mount its file system for writing, or chmod u+rwx it");
    } else if us == 0 && owner != 0 {
        let found = format!(
            "{shown} belongs to user {owner_name}, and root asks: what that user may not read is not seen"
        );
        checks.warn("directory", found, "run this as that user: setpriv --reuid or systemd-run");
    } else if us != owner {
        let found = format!("{shown} belongs to user {owner_name}, and user {our_name} asks");
        checks.warn("directory", found, "run this as the daemon's user");
    } else {
        checks.ok("directory", format!("{shown} is ours (mode {mode:o})"));
    }
}

fn judge_disk(checks: &mut Checks, looked: &Looked) {
    match looked.network {
        None => checks.ok("disk", "it lies on this machine"),
        Some("FUSE") => checks.warn(
            "disk",
            "it lies on FUSE, which may be another machine's",
            "keep the state on a disk of this machine: SQLite needs its locks and shared memory",
        ),
        Some(name) => checks.fail(
            "disk",
            format!("it lies on {name}"),
            "keep the state on a disk of this machine: SQLite's WAL does not work on a share",
        ),
    }
    if let Some(room) = &looked.room {
        judge_room(checks, room);
    }
}

fn judge_room(checks: &mut Checks, room: &StatVfs) {
    let free = room.f_bavail.saturating_mul(room.f_frsize);
    let found = format!("{} free", render::bytes(free));
    let cure = "make room on the disk of the state directory, or move that to another";
    match free {
        0..SPACE_MIN => checks.fail("space", found, cure),
        SPACE_MIN..SPACE_LOW => checks.warn("space", found, cure),
        SPACE_LOW.. => checks.ok("space", found),
    }
    // Some file systems create inodes on demand, and report none.
    if room.f_files > 0 {
        let found = format!("{} files can be made", room.f_favail);
        let cure = "remove files from the disk of the state directory: each receipt is one";
        match room.f_favail {
            0 => checks.fail("inodes", found, cure),
            1..INODES_LOW => checks.warn("inodes", found, cure),
            INODES_LOW.. => checks.ok("inodes", found),
        }
    }
}
