//! The proof that an operator may read the file that is handed in.
//!
//! Owns the comparison of a path with a descriptor that the operator opened: the daemon may have
//! more rights than the operator, so a path alone proves nothing. It promises that a proved file is
//! a regular file of a real file system, that the descriptor was opened for reading, and that the
//! path leads to the same file without any symbolic link. The proof contains the file's owner and
//! file system, and [`super::part`] reads no other file under that path later.
//!
//! It never reads a byte. A crash loses nothing. The shell calls it, on a blocking thread.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;

use super::beneath::{Root, Stat, stat_fd, words};
use super::{Profile, Settings};
use crate::model::{DirectoryName, Fingerprint, Provenance, SourcePath, Unit};

/// File systems without users' files: their content comes from the kernel and the processes.
const UNREAL: [u64; 19] = [
    0x9fa0,      // proc
    0x6265_6572, // sysfs
    0x0027_e0eb, // cgroup
    0x6367_7270, // cgroup2
    0x6462_6720, // debugfs
    0x7472_6163, // tracefs
    0x7363_6673, // securityfs
    0x6165_676c, // pstore
    0xcafe_4a11, // bpf
    0x6265_6570, // configfs
    0xf97c_ff8c, // selinuxfs
    0x4341_5d53, // smackfs
    0x1cd1,      // devpts
    0xde5e_81e4, // efivarfs
    0x6e73_6673, // nsfs
    0x4249_4e4d, // binfmt_misc
    0x1980_0202, // mqueue
    0x5345_434d, // secretmem
    0x0765_5821, // resctrl
];

/// The settings of handed-in files: the whole file system, without exclusions.
pub(crate) fn settings() -> Settings {
    Settings {
        name: DirectoryName::handed_in(),
        directory: "/".into(),
        unit: Unit::File,
        include: Vec::new(),
        exclude: Vec::new(),
        order: Vec::new(),
        profile: Profile::plain(),
        takes_all: true,
    }
}

/// What was proved about a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Proof {
    pub fingerprint: Fingerprint,
    pub provenance: Provenance,
}

/// Why a file is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unproved {
    /// The descriptor does not prove a right to read.
    #[error("it was not opened for reading")]
    NotForReading,
    #[error("it is not a regular file")]
    NotRegular,
    /// It is on a file system of the kernel.
    #[error("it lies on a file system of the kernel, such as /proc or /sys")]
    NotReal,
    /// The path leads to another file.
    #[error("the daemon finds another file at this path")]
    Another,
    /// The operating system refused an operation.
    #[error("the daemon cannot open it: {0}")]
    Refused(String),
}

impl From<Errno> for Unproved {
    fn from(errno: Errno) -> Self {
        Self::Refused(words(errno))
    }
}

/// Proves that the file at `path`, which has no symbolic link in it, is the one that `shown` is
/// open on, and that both may be read.
pub(crate) fn prove(path: &Path, shown: BorrowedFd<'_>) -> Result<Proof, Unproved> {
    let flags = rustix::fs::fcntl_getfl(shown)?;
    let access = flags & OFlags::ACCMODE;
    // A descriptor opened as a path only was never checked for reading.
    if flags.contains(OFlags::PATH) || (access != OFlags::RDONLY && access != OFlags::RDWR) {
        return Err(Unproved::NotForReading);
    }
    let proved = proof_of(shown)?;
    let root = Root::open(Path::new("/")).map_err(|error| Unproved::Refused(error.to_string()))?;
    let relative = path.strip_prefix("/").unwrap_or(path);
    let relative = SourcePath::from_bytes(relative.as_os_str().as_bytes());
    // Before it is opened, because opening a device may have an effect.
    if !is_same(&proved, &root.stat(&relative).map_err(unseen)?) {
        return Err(Unproved::Another);
    }
    let opened = root.open_file(&relative).map_err(unseen)?;
    let found = proof_of(opened.as_fd())?;
    let (one, other) = (proved.fingerprint, found.fingerprint);
    if (one.device, one.inode) != (other.device, other.inode) {
        return Err(Unproved::Another);
    }
    Ok(found)
}

/// A link in the path was put there since, and a missing file is another file.
fn unseen(errno: Errno) -> Unproved {
    match errno {
        Errno::LOOP | Errno::NOENT | Errno::NOTDIR | Errno::XDEV => Unproved::Another,
        errno => errno.into(),
    }
}

fn is_same(proof: &Proof, found: &Stat) -> bool {
    let (one, other) = (&proof.fingerprint, &found.fingerprint);
    (one.device, one.inode) == (other.device, other.inode)
        && found.file_type == FileType::RegularFile
}

/// Proves an open file.
fn proof_of(file: BorrowedFd<'_>) -> Result<Proof, Unproved> {
    let stat = stat_fd(file)?;
    if stat.file_type != FileType::RegularFile {
        return Err(Unproved::NotRegular);
    }
    if UNREAL.contains(&kind_of_file_system(file)?) {
        return Err(Unproved::NotReal);
    }
    Ok(Proof { fingerprint: stat.fingerprint, provenance: provenance(file, &stat)? })
}

fn kind_of_file_system(file: BorrowedFd<'_>) -> Result<u64, Errno> {
    rustix::fs::fstatfs(file).map(|found| u64::try_from(found.f_type).unwrap_or(u64::MAX))
}

/// Returns the owner of an open file, and its file system. Where a file system has no id of its own
/// (NFS, FUSE), the device is used, which another mount of it does not keep.
pub(super) fn provenance(file: BorrowedFd<'_>, stat: &Stat) -> Result<Provenance, Errno> {
    let kind = kind_of_file_system(file)?;
    let number = rustix::fs::fstatvfs(file)?.f_fsid;
    let device = if number == 0 { stat.fingerprint.device } else { 0 };
    Ok(Provenance::new(stat.owner, [kind, number, device]))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::symlink;

    use rustix::fs::{CWD, Mode};

    use super::*;

    fn place() -> (tempfile::TempDir, std::path::PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let real = directory.path().canonicalize().unwrap();
        (directory, real)
    }

    #[test]
    fn a_file_that_was_opened_for_reading_is_proved_by_its_owner() {
        let (_keep, place) = place();
        let path = place.join("file");
        fs::write(&path, "four").unwrap();
        let proof = prove(&path, File::open(&path).unwrap().as_fd()).unwrap();
        assert_eq!(proof.fingerprint.size.0, 4);
        let other = File::open("/bin/sh").unwrap();
        let elsewhere = provenance(other.as_fd(), &stat_fd(&other).unwrap()).unwrap();
        assert_eq!(proof.provenance.owner, rustix::process::geteuid().as_raw());
        assert_eq!(elsewhere.owner, 0);
    }

    #[test]
    fn a_descriptor_that_does_not_read_proves_nothing() {
        let (_keep, place) = place();
        let path = place.join("file");
        fs::write(&path, "four").unwrap();
        for flags in [OFlags::PATH, OFlags::WRONLY] {
            let shown = rustix::fs::openat(CWD, &path, flags, Mode::empty()).unwrap();
            assert_eq!(prove(&path, shown.as_fd()), Err(Unproved::NotForReading));
        }
        let shown = File::options().read(true).write(true).open(&path).unwrap();
        assert!(prove(&path, shown.as_fd()).is_ok());
    }

    #[test]
    fn a_path_that_leads_to_another_file_is_refused() {
        let (_keep, place) = place();
        let (mine, secret) = (place.join("mine"), place.join("secret"));
        fs::write(&mine, "four").unwrap();
        fs::write(&secret, "four").unwrap();
        let shown = File::open(&mine).unwrap();
        assert_eq!(prove(&secret, shown.as_fd()), Err(Unproved::Another));
        assert_eq!(prove(&place, shown.as_fd()), Err(Unproved::Another));
        assert_eq!(prove(&place.join("gone"), shown.as_fd()), Err(Unproved::Another));
        symlink(&mine, place.join("link")).unwrap();
        assert_eq!(prove(&place.join("link"), shown.as_fd()), Err(Unproved::Another));
        // The same file under another name is the same file.
        fs::hard_link(&mine, place.join("too")).unwrap();
        assert!(prove(&place.join("too"), shown.as_fd()).is_ok());
    }

    #[test]
    fn what_is_no_file_is_refused_whatever_is_shown() {
        let (_keep, place) = place();
        let shown = File::open(&place).unwrap();
        assert_eq!(prove(&place, shown.as_fd()), Err(Unproved::NotRegular));
        let device = File::open("/dev/null").unwrap();
        assert_eq!(prove(Path::new("/dev/null"), device.as_fd()), Err(Unproved::NotRegular));
        for path in ["/proc/self/environ", "/proc/self/maps", "/sys/kernel/notes"] {
            let Ok(shown) = File::open(path) else { continue };
            assert_eq!(prove(Path::new(path), shown.as_fd()), Err(Unproved::NotReal), "{path}");
        }
    }
}
