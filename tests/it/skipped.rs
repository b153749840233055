//! Tests that cannot assert anything on this machine. Each is named on standard error, past the
//! capture of the test harness: the harness shows no output of tests that pass.
//!
//! The unit tests of the library include this file.

use std::io::Write;
use std::panic::Location;

/// Names a test that is skipped because something is missing that CI has: root, or a program that
/// `tests/servers/install` installs. With `DROPFERRY_OTHERS=required` the test fails.
#[track_caller]
pub(crate) fn skipped(reason: &str) {
    let is_required = std::env::var_os("DROPFERRY_OTHERS").is_some_and(|word| word == "required");
    assert!(!is_required, "{reason}");
    name_test(reason);
}

/// Names a test that is skipped for a reason that no installation changes: the kernel, the file
/// system, the speed of the machine.
#[track_caller]
pub(crate) fn skipped_by_machine(reason: &str) {
    name_test(reason);
}

#[track_caller]
fn name_test(reason: &str) {
    let (thread, at) = (std::thread::current(), Location::caller());
    let test = thread.name().unwrap_or_default();
    let reason = reason.trim().replace('\n', "; ");
    // One write: lines of tests that run side by side are not mixed.
    let line = format!("skipped: {test}: {reason} ({}:{})\n", at.file(), at.line());
    std::io::stderr().write_all(line.as_bytes()).ok();
}
