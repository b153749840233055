//! The end of a drop directory, as the kernel reports it: unmounted, removed, or renamed.
//!
//! Owns an inotify handle of its own on the drop directory alone. The watch on the whole tree
//! passes on events in it, but not that its own directory ended: after an unmount it would be
//! silent forever. It promises to report the end once, with the reason, and nothing else; a
//! directory that is covered by another mount or whose mount is detached while in use ends without
//! an event, and a scan detects that by the directory's identity.
//!
//! It never blocks. A crash loses nothing. Called by `watch`.

use std::mem::MaybeUninit;
use std::path::Path;

use rustix::fd::OwnedFd;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;

/// Room for many events of a directory; events about itself contain no names.
const BUFFER_BYTES: usize = 1024;

/// A guard on one directory; dropping it ends it.
#[derive(Debug)]
pub(super) struct Guard {
    handle: OwnedFd,
}

impl Guard {
    pub(super) fn start(root: &Path) -> Result<Self, Errno> {
        let handle = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let ends = WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF | WatchFlags::ONLYDIR;
        inotify::add_watch(&handle, root, ends)?;
        Ok(Self { handle })
    }

    /// Returns how the directory ended, if it has since the last call.
    pub(super) fn end(&self) -> Option<&'static str> {
        let mut buffer = [MaybeUninit::uninit(); BUFFER_BYTES];
        let mut reader = Reader::new(&self.handle, &mut buffer);
        loop {
            match reader.next() {
                Ok(event) => {
                    if let Some(reason) = reason(event.events()) {
                        return Some(reason);
                    }
                }
                Err(Errno::INTR) => {}
                Err(_) => return None,
            }
        }
    }
}

fn reason(events: ReadFlags) -> Option<&'static str> {
    if events.contains(ReadFlags::UNMOUNT) {
        return Some("the drop directory was unmounted");
    }
    let ends = ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::IGNORED;
    events.intersects(ends).then_some("the drop directory was removed or renamed")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn removed_and_renamed_directories_end_and_written_ones_do_not() {
        let outer = tempfile::tempdir().unwrap();
        let at = |name: &str| outer.path().join(name);
        for name in ["removed", "renamed", "written"] {
            fs::create_dir(at(name)).unwrap();
        }
        let guards = ["removed", "renamed", "written"].map(|name| Guard::start(&at(name)).unwrap());
        fs::write(at("written").join("file"), "").unwrap();
        fs::remove_dir(at("removed")).unwrap();
        fs::rename(at("renamed"), at("elsewhere")).unwrap();
        let ends = guards.each_ref().map(Guard::end);
        assert!(ends[0].is_some_and(|end| end.contains("removed")), "{ends:?}");
        assert!(ends[1].is_some_and(|end| end.contains("renamed")), "{ends:?}");
        assert_eq!(ends[2], None);
    }

    #[test]
    fn unmounting_is_called_by_its_name() {
        assert!(reason(ReadFlags::UNMOUNT).is_some_and(|said| said.contains("unmounted")));
        assert!(reason(ReadFlags::IGNORED).is_some());
        assert_eq!(reason(ReadFlags::empty()), None);
    }
}
