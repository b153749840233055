//! Runs whose directories were renamed: which are looked for, and what is known of their names.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::context::{Source, World};
use super::workers::local;
use crate::model::{DirectoryName, Failure, RenamedRun, RunRow};
use crate::source::{RenamedRuns, find_renamed};
use crate::store::snapshot::Snapshot;

/// Files of a run by which its directory is known again; any of them will do.
const FILES_MAX: u32 = 16;

/// Looks for the directories of runs that are under way and not at their names. From then on each is read
/// under its new one.
pub(super) fn find(
    world: &World,
    drop: &DirectoryName,
    source: &Source,
) -> Result<Vec<RenamedRun>, Failure> {
    let read = |rows: &Snapshot| {
        let runs = rows.runs_with_directories(drop)?;
        Ok(find_renamed(&source.root, &source.filter, &runs, |run| {
            rows.trace_of_run(drop, run, FILES_MAX)
        }))
    };
    let found = world.readers.lend(read).and_then(|read| read).map_err(local)?;
    // What is wrong with the drop directory the scan says.
    let found = found.unwrap_or_default().into_iter();
    let found = found.map(|(run, name_now)| RenamedRun { run, name_now });
    Ok(found.inspect(|renamed| note(drop, renamed)).collect())
}

fn note(drop: &DirectoryName, RenamedRun { run, name_now }: &RenamedRun) {
    match name_now {
        Some(now) => tracing::info!(
            "run {run} of {drop} was renamed to {now} while it is under way: it goes on under its first name"
        ),
        None => tracing::info!("run {run} of {drop} is not under another name any more"),
    }
}

/// Gives drop directories what their rows say of runs that were renamed.
pub(super) fn recall<'a>(
    sources: &BTreeMap<DirectoryName, Source>,
    runs: impl Iterator<Item = &'a RunRow>,
) {
    let mut renamed: BTreeMap<_, RenamedRuns> = BTreeMap::new();
    for run in runs.filter(|run| run.name_now.is_some()) {
        renamed.entry(&run.drop).or_default().note(run.name.clone(), run.name_now.clone());
    }
    for (drop, renamed) in renamed {
        if let Some(source) = sources.get(drop) {
            source.root.set_renamed(Arc::new(renamed));
        }
    }
}
