//! The database: whether it can be read, is undamaged, and its rows are consistent.

use std::path::Path;

use super::lines::{CheckState, Checks};
use super::{LIMIT, bounded};
use crate::cli::render;
use crate::engine::check::check as lint;
use crate::model::UploadId;
use crate::store::snapshot::{FileHealth, Snapshot, Status};
use crate::store::{Error, Kind};

/// A longer WAL was not checkpointed for long: a reader holds it.
const WAL_LONG: u64 = 256 * 1024 * 1024;
/// Limit of shown damaged uploads.
const SICK_SHOWN: usize = 5;

pub(super) fn check(directory: &Path, status: &Result<Status, Error>) -> Checks {
    let mut checks = Checks::of("database");
    if let Err(error) = status {
        if error.kind == Kind::Missing {
            checks.ok("file", "the daemon makes it at its first start");
        } else {
            checks.add("file", CheckState::Fail, error.to_string(), error.hint());
        }
        // A database that cannot be opened has no pages to read.
        if matches!(error.kind, Kind::Missing | Kind::Lost { .. } | Kind::Refused { .. }) {
            return checks;
        }
    }
    file(&mut checks, directory);
    pages(&mut checks, directory);
    if status.is_ok() {
        rows(&mut checks, directory);
    }
    checks
}

fn file(checks: &mut Checks, directory: &Path) {
    let path = directory.to_owned();
    let found = bounded(LIMIT, move || Snapshot::open(&path)?.file_health());
    let Some(Ok(FileHealth { version, size_bytes, wal_bytes })) = found else { return };
    let found = format!(
        "version {version}, {}, its WAL {}",
        render::bytes(size_bytes),
        render::bytes(wal_bytes)
    );
    match wal_bytes {
        0..WAL_LONG => checks.ok("file", found),
        WAL_LONG.. => checks.warn(
            "file",
            found,
            "end programs that keep the database open for reading; the daemon's next start folds it",
        ),
    }
}

fn pages(checks: &mut Checks, directory: &Path) {
    let path = directory.to_owned();
    let cure = "stop the daemon, then: dropferry restore --backup FILE puts a copy back, dropferry restore \
        --receipts rebuilds it from the receipts";
    match bounded(LIMIT * 2, move || Snapshot::open(&path)?.damages()) {
        None => checks.warn(
            "pages",
            format!("not all were read within {} s", (LIMIT * 2).as_secs()),
            "the daemon checks all of them at its start; a start that goes well is an answer",
        ),
        // A database that cannot be opened was reported before.
        Some(Err(error)) if matches!(error.kind, Kind::Newer { .. } | Kind::Migration { .. }) => {}
        Some(Err(error)) => checks.fail("pages", error.to_string(), cure),
        Some(Ok(damages)) if damages.is_empty() => checks.ok("pages", "all are whole"),
        Some(Ok(damages)) => checks.fail("pages", damages.join("; "), cure),
    }
}

fn rows(checks: &mut Checks, directory: &Path) {
    let path = directory.to_owned();
    match bounded(LIMIT * 2, move || sick(&path)) {
        None => checks.warn(
            "rows",
            format!("not all were read within {} s", (LIMIT * 2).as_secs()),
            "ask again when less is going on",
        ),
        Some(Err(error)) => {
            checks.add("rows", CheckState::Fail, error.to_string(), error.hint());
        }
        Some(Ok((count, sick))) if sick.is_empty() => {
            checks.ok("rows", format!("{count} unfinished uploads hold together"));
        }
        Some(Ok((count, sick))) => {
            let shown = sick[..sick.len().min(SICK_SHOWN)].join("; ");
            let found = format!("{} of {count} unfinished uploads are sick: {shown}", sick.len());
            checks.fail("rows", found, "a defect of dropferry; please report it with the log");
        }
    }
}

/// Returns the number of unfinished uploads, and the problems of damaged ones.
fn sick(directory: &Path) -> Result<(usize, Vec<String>), Error> {
    let snapshot = Snapshot::open(directory)?;
    let (mut count, mut sick) = (0, Vec::new());
    let mut after = UploadId(i64::MIN);
    loop {
        let page = snapshot.unfinished(after)?;
        let Some((last, _)) = page.last() else { return Ok((count, sick)) };
        after = *last;
        count += page.len();
        for (id, read) in page {
            match read {
                Err(why) => sick.push(format!("upload {id} cannot be read: {why}")),
                Ok(upload) => {
                    let broken = lint(&upload).into_iter().map(|found| found.invariant);
                    sick.extend(broken.map(|rule| format!("upload {id} breaks \"{rule}\"")));
                }
            }
        }
    }
}
