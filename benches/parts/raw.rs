//! The bare walk that a scan is measured against.

use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, StatxFlags};

/// Lists every directory with `getdents` into one large buffer, and asks `statx` about every file;
/// returns how many there are. It keeps nothing of them.
pub(crate) fn walk(place: &Path) -> usize {
    let mut listing = vec![MaybeUninit::uninit(); 64 << 10];
    let (mut pending, mut count) = (vec![place.to_owned()], 0);
    while let Some(directory) = pending.pop() {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let opened = rustix::fs::openat(CWD, &directory, flags, Mode::empty()).expect("opens");
        let mut entries = RawDir::new(&opened, &mut listing);
        while let Some(entry) = entries.next() {
            let entry = entry.expect("read");
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            if entry.file_type() == FileType::Directory {
                pending.push(directory.join(OsStr::from_bytes(name.to_bytes())));
                continue;
            }
            let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::STATX_DONT_SYNC;
            rustix::fs::statx(&opened, name, flags, StatxFlags::BASIC_STATS).expect("found");
            count += 1;
        }
    }
    count
}
