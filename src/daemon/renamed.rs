//! Runs whose directories were renamed: which are searched for, and their known names.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::context::{Source, World};
use super::workers::local;
use crate::model::{DirectoryName, Failure, RenamedRun, RunRow, SourcePath};
use crate::source::{DirectoryRoot, Filter, RenamedRuns, find_renamed};
use crate::store::Error;
use crate::store::snapshot::Snapshot;

/// Files of a run that identify its directory; any one of them suffices.
const FILES_MAX: u32 = 16;

/// Searches the directories of runs in progress that are not at their names. From then on each is
/// read under its present name.
pub(super) fn find(
    world: &World,
    drop: &DirectoryName,
    source: &Source,
) -> Result<Vec<RenamedRun>, Failure> {
    let look = |rows: &Snapshot| look(rows, drop, &source.root, &source.filter);
    let found = world.readers.lend(look).and_then(|found| found).map_err(local)?;
    let found = found.into_iter().map(|(run, name_now)| RenamedRun { run, name_now });
    Ok(found.inspect(|renamed| note(drop, renamed)).collect())
}

fn look(
    rows: &Snapshot,
    drop: &DirectoryName,
    root: &DirectoryRoot,
    filter: &Filter,
) -> Result<Vec<(SourcePath, Option<SourcePath>)>, Error> {
    let runs = rows.runs_with_directories(drop)?;
    let found = find_renamed(root, filter, &runs, |run| rows.trace_of_run(drop, run, FILES_MAX));
    // The scan reports problems of the drop directory.
    Ok(found.unwrap_or_default())
}

/// Sets up a drop directory to be read by the first names of its runs, as in the daemon: by its
/// rows, and by a look.
pub(crate) fn read_by_first_names(
    rows: &Snapshot,
    drop: &DirectoryName,
    root: &DirectoryRoot,
    filter: &Filter,
) -> Result<(), Error> {
    let mut known = RenamedRuns::default();
    for ((of, now), run) in rows.names()?.renamed {
        if of == *drop {
            known.note(run, Some(now));
        }
    }
    root.set_renamed(Arc::new(known));
    look(rows, drop, root, filter).map(std::mem::drop)
}

fn note(drop: &DirectoryName, RenamedRun { run, name_now }: &RenamedRun) {
    match name_now {
        Some(now) => tracing::info!(
            "run {run} of {drop} was renamed to {now} while it is under way: it goes on under its first name"
        ),
        None => tracing::info!("run {run} of {drop} is not under another name any more"),
    }
}

/// Sets the renamed runs of drop directories from their rows.
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
