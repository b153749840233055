//! The identity of the directory at the path of a drop directory, and the check of it.
//!
//! Owns the identity of a root: [`identify`] reads it from an open directory, so that the directory
//! cannot be replaced between opening and asking. [`DirectoryRoot`] promises to open a drop
//! directory by its path each time, since a handle that is kept would block an unmount, and to
//! refuse another directory than the expected one before anything in it is looked at: a link in its
//! place, another share, another directory of the same name.
//!
//! An identity is computed once for each mount and inode; after that, opening costs one more
//! `statx`. Scans and the watch's checks also compare its location, and compute it again on kernels
//! that reuse mount ids. It never writes. A crash loses nothing: the engine keeps the identity in a
//! row and passes it in again. Called by all code that opens drop directories.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, StatxFlags};
use rustix::io::Errno;

use super::Error;
use super::beneath::Root;
use super::renamed::RenamedRuns;
use super::writers::OpenWriters;
use crate::model::RootIdentity;

/// `STATX_MNT_ID_UNIQUE`: an id that no later mount gets, from Linux 6.8 on. Older kernels omit it
/// and return the other one.
const UNIQUE_MOUNT: StatxFlags = StatxFlags::from_bits_retain(0x4000);

/// Size of the first read of the mount list.
const MOUNTS_USUAL: usize = 16 * 1024;

/// File systems that give a directory another inode number after they dropped it, or after a mount.
const LOOSE_INODES: [&str; 4] = ["vfat", "msdos", "exfat", "fuse"];
/// File systems that are identified by their content, whatever their device.
const NAMED_BY_CONTENT: [&str; 4] = ["ext2", "ext3", "ext4", "btrfs"];

/// Identifies an open directory as long as it stays mounted: a watch compares it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RootMark {
    mount: u64,
    /// No later mount gets the id.
    is_unique: bool,
    device: u64,
    inode: u64,
}

/// What is known about an open directory.
#[derive(Debug, Clone)]
pub(super) struct OpenRoot {
    pub(super) mark: RootMark,
    pub(super) identity: RootIdentity,
    /// Its path without links.
    location: PathBuf,
}

/// The path of a drop directory, with the identity that it must have.
#[derive(Debug)]
pub struct DirectoryRoot {
    /// Its configured name, for messages; `None` for a directory that is looked at once.
    name: Option<String>,
    path: PathBuf,
    state: Mutex<RootState>,
}

#[derive(Debug, Clone, Default)]
struct RootState {
    /// The expected identity, once files of it were seen.
    expected: Option<RootIdentity>,
    /// The resolved path when it was first opened.
    location: Option<PathBuf>,
    /// The directory that was last accepted.
    accepted: Option<OpenRoot>,
    refused: Option<RootIdentity>,
    renamed: Arc<RenamedRuns>,
    writers: Arc<OpenWriters>,
}

impl PartialEq for DirectoryRoot {
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path
    }
}

impl Eq for DirectoryRoot {}

impl DirectoryRoot {
    /// Builds a drop directory with the identity in its rows. Without one, the directory that is at
    /// the path or mounted there when it is first opened is accepted.
    pub fn new(name: &str, path: impl Into<PathBuf>, expected: Option<RootIdentity>) -> Self {
        let state = RootState { expected, ..RootState::default() };
        Self { name: Some(name.to_owned()), path: path.into(), state: Mutex::new(state) }
    }

    /// Builds a directory without rows: any identity is accepted.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { name: None, path: path.into(), state: Mutex::default() }
    }

    /// Returns its configured path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Sets the expected identity.
    pub fn expect(&self, expected: Option<RootIdentity>) {
        let mut state = self.state();
        if state.expected != expected {
            state.accepted = None;
            state.expected = expected;
        }
    }

    /// Files of it were seen: from now on the accepted directory is the expected one.
    pub fn settle(&self) {
        let mut state = self.state();
        if state.expected.is_none() && self.name.is_some() {
            state.expected = state.accepted.as_ref().map(|found| found.identity.clone());
        }
    }

    pub fn accepted(&self) -> Option<RootIdentity> {
        self.state().accepted.as_ref().map(|found| found.identity.clone())
    }

    /// Returns the identity of a refused directory, if none was accepted since.
    pub fn refused(&self) -> Option<RootIdentity> {
        self.state().refused.clone()
    }

    /// Opens it by its path, and returns its identity and its mark.
    ///
    /// # Errors
    /// `SourceAway` when it cannot be opened or is another directory than the expected one.
    pub fn check(&self) -> Result<(RootIdentity, RootMark), Error> {
        let found = self.open_anew()?.found()?;
        Ok((found.identity, found.mark))
    }

    /// Opens it by its path, and returns its mark.
    pub fn mark(&self) -> Result<RootMark, Error> {
        Ok(self.open()?.found()?.mark)
    }

    /// Returns the renamed runs in it.
    pub(crate) fn renamed(&self) -> Arc<RenamedRuns> {
        Arc::clone(&self.state().renamed)
    }

    pub(crate) fn set_renamed(&self, renamed: Arc<RenamedRuns>) {
        self.state().renamed = renamed;
    }

    /// Returns the files in it that are held open for writing, as far as a watch knows.
    pub(crate) fn writers(&self) -> Arc<OpenWriters> {
        Arc::clone(&self.state().writers)
    }

    pub(super) fn open(&self) -> Result<Root, Error> {
        let root = Root::open(&self.path)?.with_renamed(self.renamed());
        let mark = root.mark()?;
        let known = self.state().accepted.clone().filter(|known| known.mark == mark);
        match known {
            Some(known) => Ok(root.with(known)),
            None => self.compare(root),
        }
    }

    /// Opens it by its path, and determines its identity again. The former result is still used for
    /// a mount with a unique id, as long as the location is the same.
    pub(super) fn open_anew(&self) -> Result<Root, Error> {
        let root = Root::open(&self.path)?.with_renamed(self.renamed());
        let mark = root.mark()?;
        let known =
            self.state().accepted.clone().filter(|found| mark.is_unique && found.mark == mark);
        match known {
            Some(known) if root.location()? == known.location => Ok(root.with(known)),
            Some(_) | None => self.compare(root),
        }
    }

    fn compare(&self, root: Root) -> Result<Root, Error> {
        let found = root.found()?;
        let mut state = self.state();
        let location = state.location.get_or_insert_with(|| found.location.clone()).clone();
        let was = match &state.expected {
            Some(expected) => (*expected != found.identity).then(|| expected.to_string()),
            None if self.name.is_none() || location == found.location => None,
            None => Some(location.display().to_string()),
        };
        let Some(was) = was else {
            state.accepted = Some(found.clone());
            state.refused = None;
            return Ok(root.with(found));
        };
        state.refused = Some(found.identity.clone());
        drop(state);
        Err(self.refuse(&root, &found, &was))
    }

    fn refuse(&self, root: &Root, found: &OpenRoot, was: &str) -> Error {
        let path = self.path.display();
        let is_empty = root.is_empty().unwrap_or(false);
        let mut why = match is_empty {
            true => format!("{path} is empty and not the directory it was: is its share mounted?"),
            false => format!("another directory is at {path}: {}, was {was}", found.identity),
        };
        if let Some(name) = &self.name {
            why += &format!("; if this one is meant: dropferry resume {name} --accept-root");
        }
        Error::of_directory("use drop directory", &self.path, io::Error::other(why))
    }

    fn state(&self) -> MutexGuard<'_, RootState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn mark_of(fd: impl AsFd) -> Result<RootMark, Errno> {
    let mask = StatxFlags::INO | StatxFlags::MNT_ID | UNIQUE_MOUNT;
    let flags = AtFlags::EMPTY_PATH | AtFlags::NO_AUTOMOUNT;
    let found = rustix::fs::statx(fd, c"", flags, mask)?;
    Ok(RootMark {
        mount: found.stx_mnt_id,
        is_unique: StatxFlags::from_bits_retain(found.stx_mask).contains(UNIQUE_MOUNT),
        device: rustix::fs::makedev(found.stx_dev_major, found.stx_dev_minor),
        inode: found.stx_ino,
    })
}

/// Returns the path of an open directory, without links.
pub(super) fn location_of(fd: &OwnedFd) -> io::Result<PathBuf> {
    fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

/// Determines the identity of an open directory.
pub(super) fn identify(fd: &OwnedFd) -> io::Result<OpenRoot> {
    let (mark, location) = (mark_of(fd)?, location_of(fd)?);
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd()))?;
    let id = info.lines().find_map(|line| line.strip_prefix("mnt_id:")).map(str::trim);
    let mut mounts = Vec::with_capacity(MOUNTS_USUAL);
    File::open("/proc/self/mountinfo")?.read_to_end(&mut mounts)?;
    let mut lines = mounts.split(|byte| *byte == b'\n');
    let line = lines.find(|line| line.split(|byte| *byte == b' ').next() == id.map(str::as_bytes));
    let Some(mount) = line.and_then(Mount::parse) else {
        return Err(io::Error::other("its mount was taken away"));
    };
    let identity = mount.identity_of(&location, mark.inode, fsid(fd));
    Ok(OpenRoot { mark, identity, location })
}

fn fsid(fd: &OwnedFd) -> Option<u64> {
    rustix::fs::fstatvfs(fd).ok().map(|found| found.f_fsid).filter(|id| *id != 0)
}

/// One line of `/proc/self/mountinfo`.
#[derive(Debug, PartialEq, Eq)]
struct Mount<'a> {
    /// The mounted directory of the file system.
    root: PathBuf,
    point: PathBuf,
    file_system: &'a [u8],
    source: &'a [u8],
    options: &'a [u8],
}

impl<'a> Mount<'a> {
    fn parse(line: &'a [u8]) -> Option<Self> {
        let mut words = line.split(|byte| *byte == b' ');
        let (root, point) = (words.nth(3)?, words.next()?);
        let mut rest = words.skip_while(|word| *word != b"-").skip(1);
        let (file_system, source) = (rest.next()?, rest.next()?);
        let options = rest.next().unwrap_or_default();
        let path = |escaped| PathBuf::from(std::ffi::OsString::from_vec(unescape(escaped)));
        Some(Self { root: path(root), point: path(point), file_system, source, options })
    }

    fn identity_of(&self, location: &Path, inode: u64, fsid: Option<u64>) -> RootIdentity {
        let inside = match location.strip_prefix(&self.point) {
            Ok(rest) if rest.as_os_str().is_empty() => self.root.clone(),
            Ok(rest) => self.root.join(rest),
            Err(_) => location.to_owned(),
        };
        let kind = String::from_utf8_lossy(self.file_system);
        let source = match fsid.filter(|_| NAMED_BY_CONTENT.contains(&&*kind)) {
            Some(id) => format!("{id:016x}"),
            None => uuid_of(self.source).unwrap_or_else(|| escape(&unescape(self.source))),
        };
        let mut text = format!("{kind} {source} {}", escape(inside.as_os_str().as_bytes()));
        if self.keeps_inodes(&kind) {
            text += &format!(" {inode}");
        }
        RootIdentity::new(text)
    }

    fn keeps_inodes(&self, kind: &str) -> bool {
        let is_cifs = matches!(kind, "cifs" | "smb3");
        let mut options = self.options.split(|byte| *byte == b',');
        let is_loose = LOOSE_INODES.iter().any(|loose| kind.split('.').next() == Some(*loose))
            || kind == "fuseblk"
            || (is_cifs && !options.any(|option| option == b"serverino"));
        !is_loose
    }
}

/// Returns udev's name of a device by its content.
fn uuid_of(device: &[u8]) -> Option<String> {
    let device = fs::canonicalize(OsStr::from_bytes(device)).ok()?;
    if !device.starts_with("/dev") {
        return None;
    }
    let links = fs::read_dir("/dev/disk/by-uuid").ok()?.filter_map(Result::ok);
    let mut names = links.filter(|link| fs::canonicalize(link.path()).is_ok_and(|to| to == device));
    names.next().map(|link| link.file_name().to_string_lossy().into_owned())
}

/// Decodes the octal escapes of `mountinfo`.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        let digits = tail.get(..3).filter(|_| *first == b'\\');
        let byte = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        match byte.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                out.push(byte);
                rest = &tail[3..];
            }
            None => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    out
}

/// Writes bytes as one word of text.
fn escape(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                ' ' => out += "\\x20",
                c if c.is_control() || c == '\\' => out.extend(c.escape_default()),
                c => out.push(c),
            }
        }
        chunk.invalid().iter().for_each(|byte| out += &format!("\\x{byte:02x}"));
    }
    out
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::model::FailureKind;

    fn mount(line: &str) -> Mount<'_> {
        Mount::parse(line.as_bytes()).unwrap()
    }

    fn identity(line: &str, location: &str) -> String {
        mount(line).identity_of(Path::new(location), 7, Some(0xab)).as_str().to_owned()
    }

    #[test]
    fn identities_are_of_mount_path_inside_and_inode() {
        let nfs = "36 35 0:31 / /data rw shared:5 - nfs4 nas:/export\\040one rw,addr=1";
        assert_eq!(identity(nfs, "/data/lab"), "nfs4 nas:/export\\x20one /lab 7");
        assert_eq!(identity(nfs, "/data"), "nfs4 nas:/export\\x20one / 7");
        let bind = "36 35 8:1 /srv/a\\040b /mnt rw - ext4 /dev/sda1 rw";
        assert_eq!(identity(bind, "/mnt/x"), "ext4 00000000000000ab /srv/a\\x20b/x 7");
        let fuse = "36 35 0:40 / /mnt rw - fuse.sshfs me@far:/data rw";
        assert_eq!(identity(fuse, "/mnt"), "fuse.sshfs me@far:/data /");
        let cifs = "36 35 0:40 / /mnt rw - cifs //nas/lab rw,vers=3.0,serverino,uid=0";
        assert_eq!(identity(cifs, "/mnt"), "cifs //nas/lab / 7");
        let loose = "36 35 0:40 / /mnt rw - cifs //nas/lab rw,noserverino";
        assert_eq!(identity(loose, "/mnt"), "cifs //nas/lab /");
    }

    #[test]
    fn device_numbers_and_mount_numbers_are_no_part_of_an_identity() {
        let before = "36 35 0:31 / /data rw - nfs nas:/export rw";
        let after = "99 35 0:77 / /data ro shared:3 - nfs nas:/export ro";
        assert_eq!(identity(before, "/data/x"), identity(after, "/data/x"));
    }

    #[test]
    fn a_link_and_another_directory_at_the_path_are_refused_and_the_same_one_is_taken_back() {
        let outer = tempfile::tempdir().unwrap();
        let at = |name: &str| outer.path().join(name);
        ["drop", "outside"].iter().for_each(|name| fs::create_dir(at(name)).unwrap());
        fs::write(at("outside/secret"), "").unwrap();
        let first = DirectoryRoot::new("lab", at("drop"), None);
        let (identity, _) = first.check().unwrap();
        let root = DirectoryRoot::new("lab", at("drop"), Some(identity));
        let refused = || {
            let errors = [root.open().err(), root.check().err()].map(|error| error.unwrap());
            assert!(errors.iter().all(|error| error.kind == FailureKind::SourceAway));
            let said = errors[0].source.to_string();
            assert!(said.contains("dropferry resume lab --accept-root"), "{said}");
        };
        root.open().unwrap();
        fs::rename(at("drop"), at("real")).unwrap();
        symlink("outside", at("drop")).unwrap();
        refused();
        fs::remove_file(at("drop")).unwrap();
        // The same directory through a link is at another location.
        symlink("real", at("drop")).unwrap();
        assert!(root.check().is_err());
        fs::remove_file(at("drop")).unwrap();
        fs::rename(at("outside"), at("drop")).unwrap();
        refused();
        root.expect(root.refused());
        root.open().unwrap();
        assert_eq!(root.refused(), None);
        fs::rename(at("drop"), at("outside")).unwrap();
        fs::rename(at("real"), at("drop")).unwrap();
        root.expect(first.accepted());
        root.open().unwrap();
    }

    #[test]
    fn before_any_file_was_seen_a_link_that_was_not_there_at_the_start_is_refused() {
        let outer = tempfile::tempdir().unwrap();
        let at = |name: &str| outer.path().join(name);
        ["data", "outside"].iter().for_each(|name| fs::create_dir(at(name)).unwrap());
        fs::write(at("outside/secret"), "").unwrap();
        symlink("data", at("drop")).unwrap();
        let root = DirectoryRoot::new("lab", at("drop"), None);
        root.check().unwrap();
        // A new mount or directory there is accepted.
        fs::rename(at("data"), at("old")).unwrap();
        fs::create_dir(at("data")).unwrap();
        root.check().unwrap();
        root.settle();
        fs::rename(at("data"), at("new")).unwrap();
        fs::rename(at("old"), at("data")).unwrap();
        assert!(root.open().is_err() && root.check().is_err(), "its files were seen");
        root.expect(None);
        root.check().unwrap();
        fs::remove_file(at("drop")).unwrap();
        symlink("outside", at("drop")).unwrap();
        assert_eq!(root.check().unwrap_err().kind, FailureKind::SourceAway);
        assert!(root.open().is_err());
    }

    #[test]
    fn texts_are_escaped_and_read_back() {
        assert_eq!(unescape(b"/a\\040b\\134c\\0"), b"/a b\\c\\0");
        assert_eq!(escape(b"a b\\\xff\n"), "a\\x20b\\\\\\xff\\n");
    }
}
