//! The socket's file: what it may replace, and whether it is still there.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// The longest path of a socket that the kernel accepts.
pub(super) const PATH_MAX: usize = 107;
/// The mode of the socket's file: its owner and its group may connect.
const MODE: u32 = 0o660;
/// In a directory that everybody may write to, the sticky bit protects names from replacement.
const OPEN: u32 = 0o1002;

/// A socket that was created here; dropping it removes its file, if that is still the same.
#[derive(Debug)]
pub(super) struct SocketPlace {
    path: PathBuf,
    device: u64,
    inode: u64,
}

/// Checks whether a socket could be created at a path: it replaces nothing but a socket, and is not
/// created where everybody could replace it.
///
/// # Errors
/// What is there instead, or that the path is too long.
pub(crate) fn check_place(path: &Path) -> io::Result<()> {
    if path.as_os_str().len() > PATH_MAX {
        let why = format!("its path is longer than the {PATH_MAX} bytes that a socket may have");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    if let Some(directory) = path.parent().and_then(|above| std::fs::metadata(above).ok())
        && directory.mode() & OPEN == 0o002
    {
        let why = "everybody may write to its directory, and put another socket in its place";
        return Err(io::Error::other(why));
    }
    // A path that is not visible here fails when the socket is created.
    let Ok(found) = std::fs::symlink_metadata(path) else { return Ok(()) };
    let kind = found.file_type();
    let what = match () {
        () if kind.is_socket() => return Ok(()),
        () if kind.is_dir() => "a directory",
        () if kind.is_symlink() => "a symbolic link",
        () if kind.is_file() => "a regular file",
        () => "something else than a socket",
    };
    Err(occupied(format!("{what} is there, and is not replaced")))
}

fn occupied(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::AlreadyExists, why)
}

/// Creates a socket at a path, in place of one that an earlier daemon left behind. It is renamed to
/// the path after its mode is set, so that it never has another one there.
pub(super) fn make(path: &Path) -> io::Result<(UnixListener, SocketPlace)> {
    check_place(path)?;
    let unnamed = path.with_extension(std::process::id().to_string());
    for old in [path, &unnamed] {
        remove_stale(old)?;
    }
    let listener = UnixListener::bind(&unnamed)?;
    let put = || {
        std::fs::set_permissions(&unnamed, std::fs::Permissions::from_mode(MODE))?;
        let made = std::fs::symlink_metadata(&unnamed)?;
        rename_to_nothing(&unnamed, path)?;
        Ok(SocketPlace { path: path.to_owned(), device: made.dev(), inode: made.ino() })
    };
    match put() {
        Ok(place) => Ok((listener, place)),
        Err(error) => {
            // Nothing else had this name.
            std::fs::remove_file(&unnamed).unwrap_or(());
            Err(error)
        }
    }
}

/// Removes a socket of this user that nothing listens at; anything else is refused.
fn remove_stale(path: &Path) -> io::Result<()> {
    check_place(path)?;
    let found = match std::fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let (owner, own) = (found.uid(), rustix::process::geteuid().as_raw());
    if owner != own {
        return Err(occupied(format!("a socket of user {owner} is there, and is not replaced")));
    }
    if has_listener(path)? {
        return Err(occupied("another program listens there".into()));
    }
    std::fs::remove_file(path)
}

/// Connects without waiting: a listener with a full queue counts too.
fn has_listener(path: &Path) -> io::Result<bool> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match rustix::net::connect(&socket, &SocketAddrUnix::new(path)?) {
        Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(false),
        Ok(()) | Err(_) => Ok(true),
    }
}

fn rename_to_nothing(from: &Path, to: &Path) -> io::Result<()> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // Not every file system can; the path was free a moment ago.
        Err(Errno::INVAL | Errno::NOSYS) => std::fs::rename(from, to),
        renamed => Ok(renamed?),
    }
}

impl SocketPlace {
    /// Returns whether the path still leads to this socket.
    pub(super) fn is_held(&self) -> bool {
        let found = std::fs::symlink_metadata(&self.path);
        found.is_ok_and(|found| (found.dev(), found.ino()) == (self.device, self.inode))
    }
}

impl Drop for SocketPlace {
    fn drop(&mut self) {
        if self.is_held() {
            // The next daemon replaces a file that is left behind.
            std::fs::remove_file(&self.path).unwrap_or(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_socket_is_private_to_its_group_and_removed_at_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control.sock");
        let (listener, place) = make(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, MODE);
        assert!(place.is_held());
        drop((listener, place));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn nothing_but_a_dead_socket_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::write(at("file"), "precious").unwrap();
        fs::create_dir(at("directory")).unwrap();
        std::os::unix::fs::symlink("nowhere", at("link")).unwrap();
        rustix::fs::mkfifoat(CWD, at("pipe"), rustix::fs::Mode::RWXU).unwrap();
        for name in ["file", "directory", "link", "pipe"] {
            assert!(check_place(&at(name)).is_err(), "{name}");
            let error = make(&at(name)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AlreadyExists, "{name}");
        }
        assert_eq!(fs::read_to_string(at("file")).unwrap(), "precious");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 4, "nothing is left behind");

        let (listener, place) = make(&at("socket")).unwrap();
        assert!(make(&at("socket")).unwrap_err().to_string().contains("another program listens"));
        std::mem::forget(place);
        drop(listener);
        let (_listener, place) = make(&at("socket")).unwrap();
        assert!(place.is_held());
    }

    #[test]
    fn what_replaced_our_socket_is_neither_ours_nor_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control.sock");
        let (_listener, place) = make(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert!(!place.is_held());
        fs::write(&path, "precious").unwrap();
        assert!(!place.is_held());
        drop(place);
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn a_directory_in_which_everybody_replaces_names_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control.sock");
        for (mode, is_fine) in [(0o777, false), (0o1777, true), (0o775, true), (0o700, true)] {
            fs::set_permissions(directory.path(), fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(check_place(&path).is_ok(), is_fine, "{mode:o}");
        }
    }

    #[test]
    fn a_path_is_not_too_long_for_a_socket() {
        let path = Path::new("/tmp").join("x".repeat(PATH_MAX));
        assert_eq!(check_place(&path).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
