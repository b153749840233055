//! Drop directories: present, readable, writable where sources are disposed of, watched.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::Access;

use super::lines::Checks;
use super::{LIMIT, bounded, shares};
use crate::cli::render;
use crate::clock::Clock;
use crate::config::{Config, Drop};
use crate::model::Disposition;
use crate::source::{network_file_system, space};
use crate::store::snapshot::Status;

/// Time limit of walking a drop directory; unreached parts are reported.
const WALK_LIMIT: Duration = Duration::from_secs(5);
/// A run that is being written fills the disk soon.
const SPACE_LOW: u64 = 1 << 30;

#[derive(Debug, Default)]
struct Walked {
    directory_count: u64,
    unreadable_count: u64,
    /// The first directory or file that may not be read.
    unreadable: Option<PathBuf>,
    /// The first directory that may not be written to.
    unwritable: Option<PathBuf>,
    is_partial: bool,
    network: Option<&'static str>,
    free_bytes: Option<u64>,
}

/// Also returns the number of directories to watch.
pub(super) fn check(config: &Config, status: Option<&Status>) -> (Checks, u64) {
    let mut checks = Checks::of("drop");
    let mut directory_count = 0;
    for drop in &config.drops {
        let name = drop.settings.name.as_str();
        let path = drop.source.directory.clone();
        let shown = path.display().to_string();
        match bounded(LIMIT, move || walk(&path)) {
            None => shares::silent(&mut checks, name, &shown, LIMIT),
            Some(Err(error)) => checks.fail(
                name,
                format!("{shown} cannot be read: {error}"),
                "make it readable for the daemon's user, or mount its share",
            ),
            Some(Ok(walked)) => {
                judge(&mut checks, drop, &walked);
                directory_count += walked.directory_count;
            }
        }
        nesting(&mut checks, drop, &config.state_directory);
        if let Some(status) = status {
            hearing(&mut checks, name, status);
        }
    }
    (checks, directory_count)
}

/// Checks every directory below, and the first file in each.
fn walk(root: &Path) -> std::io::Result<Walked> {
    let mut walked = Walked {
        network: network_file_system(root)?,
        free_bytes: space(root).map(|space| space.free.0),
        ..Walked::default()
    };
    let clock = Clock::real();
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        if clock.now().monotonic.0 > WALK_LIMIT {
            walked.is_partial = true;
            break;
        }
        walked.directory_count += 1;
        if rustix::fs::access(&directory, Access::WRITE_OK | Access::EXEC_OK).is_err() {
            walked.unwritable.get_or_insert_with(|| directory.clone());
        }
        match std::fs::read_dir(&directory) {
            Ok(entries) => look_into(&mut walked, entries, &mut pending),
            Err(error) if directory == root => return Err(error),
            Err(_) => walked.add_unreadable(directory),
        }
    }
    Ok(walked)
}

fn look_into(walked: &mut Walked, entries: std::fs::ReadDir, pending: &mut Vec<PathBuf>) {
    let mut has_file = false;
    for entry in entries.filter_map(Result::ok) {
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            pending.push(entry.path());
        } else if kind.is_file() && !has_file {
            has_file = true;
            if rustix::fs::access(entry.path(), Access::READ_OK).is_err() {
                walked.add_unreadable(entry.path());
            }
        }
    }
}

impl Walked {
    fn add_unreadable(&mut self, path: PathBuf) {
        self.unreadable_count += 1;
        self.unreadable.get_or_insert(path);
    }
}

fn judge(checks: &mut Checks, drop: &Drop, walked: &Walked) {
    let (name, shown) = (drop.settings.name.as_str(), drop.source.directory.display());
    let count = walked.directory_count;
    if let Some(path) = &walked.unreadable {
        let found = format!(
            "{} of its places may not be read, such as {}",
            walked.unreadable_count,
            path.display()
        );
        let cure = format!("give the daemon's user access: setfacl -R -m u:USER:rX {shown}");
        checks.fail(name, found, cure);
    } else {
        let partly = if walked.is_partial { ", and there are more" } else { "" };
        checks.ok(name, format!("{shown} can be read ({count} directories{partly})"));
    }
    let disposes = match &drop.settings.disposal.disposition {
        Disposition::Keep => None,
        Disposition::Move(_) => Some("move"),
        Disposition::Delete => Some("delete"),
    };
    if let (Some(word), Some(path)) = (disposes, &walked.unwritable) {
        let found =
            format!("disposition is {word:?}, and {} may not be written to", path.display());
        let cure = format!("setfacl -R -m u:USER:rwX {shown}, or disposition = \"keep\"");
        checks.fail(name, found, cure);
    }
    if let Some(network) = walked.network {
        let interval = render::duration(drop.settings.scan_interval.as_secs());
        checks.ok(name, format!("it lies on {network}: it is scanned, every {interval}"));
    }
    if let Some(free) = walked.free_bytes.filter(|free| *free < SPACE_LOW) {
        let found = format!("{} free where the instrument writes", render::bytes(free));
        checks.warn(name, found, "make room, or let disposition move what has arrived");
    }
}

/// The daemon's own files must not be found as files to upload.
fn nesting(checks: &mut Checks, drop: &Drop, state: &Path) {
    let directory = drop.source.directory.clone();
    let real = |path: PathBuf| path.canonicalize().unwrap_or(path);
    let (directory, state) = (directory.clone(), state.to_owned());
    let nested = bounded(LIMIT, move || real(state).starts_with(real(directory)));
    if nested == Some(true) {
        checks.fail(
            drop.settings.name.as_str(),
            "the state directory lies in it: receipts would be uploaded, each with a receipt",
            "move [state] directory out of the drop directory",
        );
    }
}

fn hearing(checks: &mut Checks, name: &str, status: &Status) {
    let Some(health) = status.places.drops.iter().find(|drop| drop.name == name) else { return };
    let reason = health.reason.clone().unwrap_or_default();
    if health.watch == "deaf" {
        let cure = "mend what the reason names; the daemon goes on by itself once it is mended";
        checks.fail(name, format!("it is deaf: {reason}"), cure);
    } else if reason.contains("fs.inotify") {
        checks.warn(name, format!("it is scanned, not watched: {reason}"), "see watches");
    }
}

/// Returns the owner of a file or directory.
pub(super) fn owner_of(path: &Path) -> Option<u32> {
    std::fs::metadata(path).ok().map(|meta| meta.uid())
}
