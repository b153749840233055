//! Looks at single paths of a drop directory.
//!
//! Owns the classification of a path: a file, a file that may not be read, something that is never
//! uploaded, or nothing. It promises exactly one observation for each requested path, in that
//! order, except for paths whose storage fails for the moment (EIO, ESTALE): those are left out, to
//! be requested again. In contrast to a scan it opens files, to learn whether they may be read.
//!
//! It never reads a byte of them, never follows a link out of the drop directory, and never reports
//! a file as gone because the drop directory itself is gone or empty: that is an error. Directories
//! are not files: the path of one is [`Seen::Gone`].
//!
//! A crash loses nothing. The shell calls it on a blocking thread, for hints and when a quiet
//! period ends; `scan` uses its classification of links.

use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::FileType;
use rustix::io::Errno;

use super::beneath::{LinkEnd, Root, Stat, is_exhausted, is_passing, words};
use super::dispose::is_private;
use super::{DirectoryRoot, Error, Filter};
use crate::model::{IgnoreReason, Observation, Seen, SourcePath};

/// Looks at `paths` in the drop directory `root`.
///
/// # Errors
/// When the drop directory is missing, is not the expected one, may not be entered, or is empty and
/// so may be the mount point of an unmounted share (`SourceAway`), or this process lacks handles or
/// memory (`LocalFault`).
pub(crate) fn look(
    root: &DirectoryRoot,
    filter: &Filter,
    paths: Vec<SourcePath>,
) -> Result<Vec<Observation>, Error> {
    look_counting(root, filter, paths, &AtomicUsize::new(0))
}

/// As [`look()`], and counts the finished paths, so that the waiting task sees where it hangs.
pub(crate) fn look_counting(
    root: &DirectoryRoot,
    filter: &Filter,
    paths: Vec<SourcePath>,
    done: &AtomicUsize,
) -> Result<Vec<Observation>, Error> {
    let directory = root.open()?;
    let mut found = Vec::with_capacity(paths.len());
    for path in paths {
        match look_at(&directory, filter, &path) {
            Ok(seen) => {
                found.push(Observation { place: filter.place_of(&path, &seen), path, seen })
            }
            Err(errno) if is_passing(errno) => {}
            Err(errno) => return Err(Error::of_file("look at", &path, errno)),
        }
        done.fetch_add(1, Ordering::Relaxed);
    }
    // A missing or refused file may be due to the drop directory.
    if found.iter().any(|one| is_doubtful(&one.seen)) {
        let is_missed = found.iter().any(|one| one.seen == Seen::Gone);
        if directory.is_empty()? && is_missed {
            return Err(Error::empty(root.path()));
        }
    }
    Ok(found)
}

fn is_doubtful(seen: &Seen) -> bool {
    match seen {
        Seen::Gone | Seen::Unreadable(..) => true,
        Seen::Ignored(reason) => reason.hides_files(),
        Seen::File(_) => false,
    }
}

fn look_at(root: &Root, filter: &Filter, path: &SourcePath) -> Result<Seen, Errno> {
    if is_private(path.file_name()) {
        return Ok(Seen::Gone);
    }
    let stat = match root.stat(path) {
        Ok(stat) => stat,
        Err(errno) => return unseen(errno),
    };
    if stat.file_type == FileType::Directory {
        Ok(Seen::Gone)
    } else if let Some(reason) = filter.refusal(path) {
        Ok(Seen::Ignored(reason))
    } else if filter.is_pruned_away(path) {
        Ok(Seen::Ignored(IgnoreReason::Filtered))
    } else if stat.file_type == FileType::RegularFile {
        openable(root, path, stat)
    } else if stat.file_type == FileType::Symlink {
        match target_of(root, path)? {
            LinkTarget::File(target, stat) => openable(root, &target, stat),
            LinkTarget::Other(seen) => Ok(seen),
        }
    } else {
        Ok(special(stat.file_type))
    }
}

/// Classifies a link without opening its target.
pub(super) fn link(root: &Root, path: &SourcePath) -> Result<Seen, Errno> {
    Ok(match target_of(root, path)? {
        LinkTarget::File(target, stat) => regular(root, &target, &stat)?,
        LinkTarget::Other(seen) => seen,
    })
}

/// Classifies a regular file without opening it.
pub(super) fn regular(root: &Root, path: &SourcePath, stat: &Stat) -> Result<Seen, Errno> {
    Ok(match root.is_foreign_link(path, stat)? {
        true => Seen::Ignored(IgnoreReason::HardLink),
        false => Seen::File(stat.fingerprint),
    })
}

/// Classifies anything but a file, a directory or a link.
pub(super) fn special(file_type: FileType) -> Seen {
    if file_type == FileType::Socket {
        Seen::Ignored(IgnoreReason::Socket)
    } else if file_type == FileType::Fifo {
        Seen::Ignored(IgnoreReason::Fifo)
    } else {
        Seen::Ignored(IgnoreReason::Device)
    }
}

enum LinkTarget {
    File(SourcePath, Stat),
    Other(Seen),
}

fn target_of(root: &Root, path: &SourcePath) -> Result<LinkTarget, Errno> {
    let ignored = |reason| Ok(LinkTarget::Other(Seen::Ignored(reason)));
    let target = match root.resolve(path) {
        LinkEnd::Inside(target) if target.as_bytes().is_empty() => {
            return ignored(IgnoreReason::LinkToDirectory);
        }
        LinkEnd::Inside(target) => target,
        LinkEnd::Outside => return ignored(IgnoreReason::LinkOutside),
        LinkEnd::Broken => return ignored(IgnoreReason::LinkBroken),
        LinkEnd::Failing(errno) => return Err(errno),
    };
    match root.stat(&target) {
        Ok(stat) if stat.file_type == FileType::RegularFile => Ok(LinkTarget::File(target, stat)),
        Ok(stat) if stat.file_type == FileType::Directory => ignored(IgnoreReason::LinkToDirectory),
        Ok(stat) => Ok(LinkTarget::Other(special(stat.file_type))),
        Err(errno) if is_exhausted(errno) || is_passing(errno) => Err(errno),
        Err(_) => ignored(IgnoreReason::LinkBroken),
    }
}

/// Opens a regular file and closes it, to learn whether it may be read.
fn openable(root: &Root, path: &SourcePath, stat: Stat) -> Result<Seen, Errno> {
    match regular(root, path, &stat) {
        Ok(Seen::File(_)) => {}
        Err(errno) => return unseen(errno),
        other => return other,
    }
    match root.open_file(path) {
        Ok(_) => Ok(Seen::File(stat.fingerprint)),
        Err(errno @ (Errno::NOENT | Errno::NOTDIR | Errno::LOOP)) => unseen(errno),
        Err(errno) if is_exhausted(errno) || is_passing(errno) => Err(errno),
        Err(errno) => Ok(Seen::Unreadable(stat.fingerprint, words(errno))),
    }
}

/// Classifies a path without a `Stat`.
fn unseen(errno: Errno) -> Result<Seen, Errno> {
    match errno {
        // A link or a file in place of a parent directory: the former file is gone.
        Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV => Ok(Seen::Gone),
        errno if is_exhausted(errno) || is_passing(errno) => Err(errno),
        Errno::NAMETOOLONG => Ok(Seen::Ignored(IgnoreReason::PathTooLong)),
        _ => Ok(Seen::Ignored(IgnoreReason::DirectoryUnreadable)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::ops::ControlFlow;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;
    use std::path::Path;
    use std::process::Command;

    use rustix::fs::{CWD, Mode, mkfifoat};

    use super::super::tests::{filter, path, without_capabilities};
    use super::*;
    use crate::model::{ByteCount, FailureKind};

    fn look_one(root: &Path, name: impl AsRef<[u8]>) -> Seen {
        let mut seen =
            look(&DirectoryRoot::at(root), &filter(&[], &["*.bak"], &["*.xml"]), vec![path(name)])
                .unwrap();
        assert_eq!(seen.len(), 1);
        seen.remove(0).seen
    }

    #[test]
    fn each_path_gets_one_observation_in_order() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("a.xml"), "four").unwrap();
        let paths = vec![path("gone"), path("a.xml"), path("gone")];
        let seen =
            look(&DirectoryRoot::at(root.path()), &filter(&[], &[], &["*.xml"]), paths.clone())
                .unwrap();
        assert_eq!(seen.iter().map(|one| one.path.clone()).collect::<Vec<_>>(), paths);
        assert_eq!(seen.iter().map(|one| one.place.rank).collect::<Vec<_>>(), [1, 0, 1]);
        assert_eq!(seen[0].seen, Seen::Gone);
        assert!(matches!(seen[1].seen, Seen::File(found) if found.size == ByteCount(4)));
    }

    #[test]
    fn odd_things_are_named() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        let _socket = UnixListener::bind(at("socket")).unwrap();
        mkfifoat(CWD, at("fifo"), Mode::RWXU).unwrap();
        fs::create_dir(at("dir")).unwrap();
        fs::write(at("x.bak"), "").unwrap();
        fs::write(at("file"), "").unwrap();
        symlink("file", at("in")).unwrap();
        symlink(at("file"), at("in-absolute")).unwrap();
        symlink("dir", at("to-dir")).unwrap();
        symlink(".", at("to-root")).unwrap();
        symlink("/etc/passwd", at("out")).unwrap();
        symlink("nothing", at("broken")).unwrap();
        symlink("loop", at("loop")).unwrap();
        symlink("fifo", at("to-fifo")).unwrap();

        let ignored = [
            ("socket", IgnoreReason::Socket),
            ("fifo", IgnoreReason::Fifo),
            ("x.bak", IgnoreReason::Filtered),
            ("to-dir", IgnoreReason::LinkToDirectory),
            ("to-root", IgnoreReason::LinkToDirectory),
            ("out", IgnoreReason::LinkOutside),
            ("broken", IgnoreReason::LinkBroken),
            ("loop", IgnoreReason::LinkBroken),
            ("to-fifo", IgnoreReason::Fifo),
        ];
        for (name, reason) in ignored {
            assert_eq!(look_one(root.path(), name), Seen::Ignored(reason), "{name}");
        }
        let file = look_one(root.path(), "file");
        assert!(matches!(file, Seen::File(_)));
        assert_eq!(look_one(root.path(), "in"), file);
        assert_eq!(look_one(root.path(), "in-absolute"), file);
        assert_eq!(look_one(root.path(), "dir"), Seen::Gone);
    }

    #[test]
    fn device_is_named_and_not_opened() {
        // Only root can create devices; these exist everywhere.
        for device in ["null", "zero"] {
            assert_eq!(look_one(Path::new("/dev"), device), Seen::Ignored(IgnoreReason::Device));
        }
    }

    #[test]
    fn paths_never_lead_out_of_the_drop_directory() {
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().join("drop");
        fs::create_dir(&root).unwrap();
        fs::write(outer.path().join("secret"), "").unwrap();
        symlink("..", root.join("up")).unwrap();
        assert_eq!(look_one(&root, "../secret"), Seen::Gone);
        assert_eq!(look_one(&root, "/etc/passwd"), Seen::Gone);
        assert_eq!(look_one(&root, "up/secret"), Seen::Gone);
    }

    #[test]
    fn file_below_a_file_is_gone_and_a_name_too_long_is_not() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("file"), "").unwrap();
        assert_eq!(look_one(root.path(), "file/below"), Seen::Gone);
        let long = look_one(root.path(), vec![b'x'; 256]);
        assert_eq!(long, Seen::Ignored(IgnoreReason::PathTooLong));
        let deep = look_one(root.path(), "d/".repeat(3_000) + "x");
        assert_eq!(deep, Seen::Ignored(IgnoreReason::PathTooLong));
    }

    #[test]
    fn file_without_permission_is_unreadable() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        fs::write(&file, "").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o000)).unwrap();
        let seen = without_capabilities(|| {
            assert!(fs::File::open(&file).is_err(), "it cannot be read");
            look_one(root.path(), "file")
        });
        assert!(matches!(&seen, Seen::Unreadable(_, why) if why.contains("ermission")), "{seen:?}");
    }

    #[test]
    fn missing_drop_directory_is_an_error_and_not_a_missing_file() {
        let root = tempfile::tempdir().unwrap();
        let error = look(
            &DirectoryRoot::at(root.path().join("no")),
            &filter(&[], &[], &[]),
            vec![path("a")],
        )
        .unwrap_err();
        assert_eq!(error.kind, FailureKind::SourceAway);
    }

    #[test]
    fn empty_drop_directory_may_be_a_mount_point_and_makes_no_file_gone() {
        let root = tempfile::tempdir().unwrap();
        let plain = filter(&[], &[], &[]);
        let error = look(&DirectoryRoot::at(root.path()), &plain, vec![path("a")]).unwrap_err();
        assert_eq!(error.kind, FailureKind::SourceAway);
        assert_eq!(look(&DirectoryRoot::at(root.path()), &plain, Vec::new()).unwrap(), []);
        fs::create_dir(root.path().join("run")).unwrap();
        assert_eq!(look_one(root.path(), "a"), Seen::Gone);
    }

    #[test]
    fn storage_that_fails_makes_no_file_gone_or_ignored() {
        for errno in [Errno::STALE, Errno::IO, Errno::NOTCONN] {
            assert_eq!(unseen(errno), Err(errno));
        }
        assert_eq!(unseen(Errno::NOENT), Ok(Seen::Gone));
    }

    /// Uses up all handles of its process but one, and looks. Does so only when the test below runs
    /// it in a child process.
    #[test]
    fn looks_with_one_handle_left() {
        if std::env::var_os("DROPFERRY_TEST_HANDLES").is_none() {
            return;
        }
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("file"), "").unwrap();
        let limit = rustix::process::Rlimit { current: Some(64), maximum: Some(64) };
        rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
        let mut handles = Vec::new();
        while let Ok(handle) = fs::File::open("/dev/null") {
            handles.push(handle);
        }
        handles.pop();
        let plain = filter(&[], &[], &[]);
        let looked = look(&DirectoryRoot::at(root.path()), &plain, vec![path("file")]);
        let scanned = super::super::scan(
            &DirectoryRoot::at(root.path()),
            &plain,
            &Default::default(),
            |_| ControlFlow::Continue(()),
        );
        drop(handles);
        assert_eq!(looked.unwrap_err().kind, FailureKind::LocalFault);
        assert_eq!(scanned.unwrap_err().kind, FailureKind::LocalFault);
        println!("looked and scanned without handles");
    }

    #[test]
    fn running_out_of_handles_says_nothing_about_files() {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "source::look::tests::looks_with_one_handle_left", "--nocapture"])
            .env("DROPFERRY_TEST_HANDLES", "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{output:?}");
        assert!(said.contains("looked and scanned without handles"), "{said}");
    }
}
