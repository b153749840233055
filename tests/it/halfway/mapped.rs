//! Writers that write through a mapping, whose modification time shows less.
//!
//! Linux updates the time when a store makes a clean page dirty, at once, and then not again: later
//! stores into a dirty page do not update it, neither at `msync`, nor at `munmap`, nor when the kernel
//! writes the page back. Writing back (by the kernel about 30 s later, or by any process's `fdatasync`)
//! makes the page clean, and the next store updates the time. On tmpfs pages are never clean again.
//!
//! So a file that takes more than one read is written back before it is read: from then on every store
//! updates the time, and no upload is a mix. Two things cannot be promised: the same on tmpfs; and that
//! a store into an already dirty page is sent at all if it comes after the upload of a small file.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::mm::{MapFlags, ProtFlags};

use super::super::skipped::skipped_by_machine;
use super::super::stage::{noise, until};
use super::super::witness::{
    PART, Witness, begin_and_hold, hold_after, objects, release, stage_with,
};
use super::{PATIENT, QUICK, keep_changing, preallocate};

/// A whole file, mapped for writing.
struct Mapping {
    start: *mut u8,
    length: usize,
}

impl Mapping {
    #[expect(unsafe_code, reason = "there is no other way to write through a mapping")]
    fn new(place: &Path) -> Self {
        let file = OpenOptions::new().read(true).write(true).open(place).expect("opened");
        let length = usize::try_from(file.metadata().expect("seen").len()).expect("small");
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a fresh mapping at an address that the kernel chooses, of a file that keeps its length.
        let start = unsafe {
            rustix::mm::mmap(std::ptr::null_mut(), length, access, MapFlags::SHARED, &file, 0)
        };
        Self { start: start.expect("mapped").cast(), length }
    }

    #[expect(unsafe_code, reason = "there is no other way to write through a mapping")]
    fn store(&self, at: usize, bytes: &[u8]) {
        assert!(at + bytes.len() <= self.length);
        // SAFETY: within the mapping, which nobody else in this process reads or writes.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.start.add(at), bytes.len()) }
    }
}

impl Drop for Mapping {
    #[expect(unsafe_code, reason = "what was mapped is unmapped")]
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and no reference into it was ever given out.
        unsafe { rustix::mm::munmap(self.start.cast(), self.length).expect("unmapped") }
    }
}

fn write_back(place: &Path) {
    rustix::fs::fdatasync(File::open(place).expect("opened")).expect("written back");
}

fn time_of(place: &Path) -> (i64, i64) {
    let seen = fs::metadata(place).expect("seen");
    (seen.mtime(), seen.mtime_nsec())
}

/// Whether a store into a page that was written back updates the time, in this file system.
fn stores_are_told(directory: &Path) -> bool {
    let place = directory.join("probe");
    fs::write(&place, [0; 4096]).expect("written");
    let mapping = Mapping::new(&place);
    mapping.store(0, b"dirty");
    write_back(&place);
    let before = time_of(&place);
    let is_told = until_moved(&place, before, || mapping.store(0, b"again"));
    fs::remove_file(&place).expect("removed");
    if !is_told {
        skipped_by_machine("this file system does not tell stores through a mapping");
    }
    is_told
}

/// Stores, and returns whether the time changes; a coarse clock may need more than one look.
fn until_moved(place: &Path, before: (i64, i64), store: impl Fn()) -> bool {
    (0..20).any(|_| {
        store();
        let is_moved = time_of(place) != before;
        write_back(place);
        is_moved
    })
}

#[test]
fn a_file_that_is_filled_through_a_mapping_is_sent_once() {
    let mut stage = stage_with(PATIENT);
    if !stores_are_told(&stage.drop()) {
        return;
    }
    let place = stage.drop().join("mapped");
    stage.start();
    preallocate(&place, 12 * 9000);
    let mapping = Mapping::new(&place);
    let witness = keep_changing(&stage, &place, 0, |round| {
        mapping.store(usize::try_from(round).expect("small") * 9000, &noise(9000, round));
    });
    witness.until_whole(&stage);
}

#[test]
fn a_store_into_a_clean_page_during_upload_makes_no_mix() {
    let mut stage = stage_with(QUICK);
    if !stores_are_told(&stage.drop()) {
        return;
    }
    let place = stage.drop().join("run/a");
    let mut witness = Witness::default();
    begin_and_hold(&mut stage, "run/a", &noise(6 * PART, 1));
    witness.see(&place);
    write_back(&place);
    let mapping = Mapping::new(&place);
    mapping.store(0, b"in a part that was sent");
    mapping.store(5 * PART, b"in a part that was not");
    witness.see(&place);
    release(&stage);
    witness.until_whole(&stage);
    assert_eq!(objects(&stage).len(), 1);
}

#[test]
fn stores_into_pages_that_were_dirty_before_make_no_mix() {
    let mut stage = stage_with(QUICK);
    if !stores_are_told(&stage.drop()) {
        return;
    }
    let place = stage.drop().join("run/a");
    let mut witness = Witness::default();
    stage.write("run/a", &noise(6 * PART, 1));
    let mapping = Mapping::new(&place);
    mapping.store(0, b"this page is dirty from here on");
    mapping.store(5 * PART, b"and so is this");
    witness.see(&place);
    hold_after(&stage, 2);
    stage.start();
    until("two parts are there and the third is refused", || {
        (stage.ledger()["calls"]["put"].as_u64() >= Some(3)).then_some(())
    });
    mapping.store(0, b"in a part that was sent");
    mapping.store(5 * PART, b"in a part that was not");
    witness.see(&place);
    release(&stage);
    witness.until_whole(&stage);
}
