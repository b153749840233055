//! The first read of a start: everything in progress, without queued uploads and known files.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, Row};

use crate::model::{
    DestinationName, DirectoryName, Disposal, IgnoreReason, Learned, PathDigest, RootIdentity,
    RunEndKey, RunRow, SourcePath, StoredIgnored, StoredRoot, StoredRun, StoredState,
    StoredTargets, StoredUpload, TargetId, UploadId, WallTime,
};
use crate::store::Loaded;
use crate::store::rest::SharedNames;
use crate::store::rows::{self, IS_OPEN};

type Result<T> = std::result::Result<T, rusqlite::Error>;

/// Reads everything that a start needs before it can send; [`Rest`] reads the rest.
///
/// [`Rest`]: crate::store::rest::Rest
pub(super) fn load(connection: &Connection) -> Result<Loaded> {
    let next: Option<i64> = connection.query_row(
        "SELECT nullif(max(ifnull((SELECT max(id) FROM uploads), 0), ids_above), 0) + 1 FROM care",
        [],
        |r| r.get(0),
    )?;
    let state = StoredState {
        uploads: uploads(connection)?,
        follows: true,
        targets: StoredTargets {
            known: super::targets::load(connection)?,
            in_force: super::targets::load_in_force(connection)?,
            learned: load_learned(connection)?,
            cleanups: super::targets::load_cleanups(connection)?,
        },
        open_runs: load_open_runs(connection)?,
        runs: load_runs(connection)?,
        disposals: load_disposals(connection)?,
        ignored: load_ignored(connection)?,
        roots: load_roots(connection)?,
        directories: load_directories(connection)?,
        notices: super::notices::load(connection)?,
        orders: super::orders::load(connection)?,
        next_upload: next.map(UploadId),
    };
    let bandwidth = super::orders::load_bandwidth(connection)?;
    Ok(Loaded { state, bandwidth, care: super::tend::load(connection)? })
}

/// Reads the rows of some drop directories, without uploads and files.
pub(in crate::store) fn of_drops(
    connection: &Connection,
    drops: &BTreeSet<DirectoryName>,
) -> Result<StoredState> {
    let mut runs = load_runs(connection)?;
    runs.retain(|run| drops.contains(&run.row.drop));
    let mut disposals = load_disposals(connection)?;
    disposals.retain(|disposal| drops.contains(&disposal.drop));
    let mut ignored = load_ignored(connection)?;
    ignored.retain(|ignored| drops.contains(&ignored.drop));
    let mut roots = load_roots(connection)?;
    roots.retain(|root| drops.contains(&root.drop));
    Ok(StoredState { runs, disposals, ignored, roots, ..StoredState::default() })
}

/// Reads every unfinished upload that is more than queued: memory must know what was begun before
/// anything begins. Their number is stored, so that the search ends with the last of them; begun
/// uploads are mostly the oldest.
fn uploads(connection: &Connection) -> Result<Vec<StoredUpload>> {
    let sql = format!(
        "SELECT * FROM uploads WHERE {IS_OPEN} AND state <> 'queued' ORDER BY id \
            LIMIT (SELECT sum(upload_count) FROM tallies \
                WHERE state IN ('sending', 'waiting', 'parked'))"
    );
    let mut statement = connection.prepare(&sql)?;
    let mut names = SharedNames::default();
    let read = |row: &Row<'_>| {
        let mut upload = rows::read_upload(connection, row)?;
        names.share(&mut upload.admission.file.drop, &mut upload.admission.destination);
        Ok(upload)
    };
    statement.query_map([], read)?.collect()
}

fn load_open_runs(connection: &Connection) -> Result<Vec<RunEndKey>> {
    let sql = "SELECT destination, drop_name, name FROM run_ends WHERE finished_at_ns IS NULL";
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([], |row| {
        let destination = DestinationName::new(row.get::<_, String>(0)?);
        let drop = DirectoryName::new(row.get::<_, String>(1)?);
        Ok(RunEndKey { destination, drop, name: row.get(2)? })
    })?;
    rows.collect()
}

fn load_learned(connection: &Connection) -> Result<Vec<(TargetId, Learned)>> {
    let mut statement = connection.prepare("SELECT target_id, what FROM target_learned")?;
    let rows = statement.query_map([], |row| {
        let target = TargetId(row.get(0)?);
        Ok(Learned::parse(row.get_ref(1)?.as_str()?).map(|what| (target, what)))
    })?;
    rows.filter_map(Result::transpose).collect()
}

fn load_roots(connection: &Connection) -> Result<Vec<StoredRoot>> {
    let sql = "SELECT drop_name, directory, root FROM drop_health WHERE root IS NOT NULL";
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([], |row| {
        let drop = DirectoryName::new(row.get::<_, String>(0)?);
        let identity = RootIdentity::new(row.get::<_, String>(2)?);
        Ok(StoredRoot { drop, directory: row.get(1)?, identity })
    })?;
    rows.collect()
}

fn load_directories(connection: &Connection) -> Result<Vec<(DirectoryName, UploadId, String)>> {
    let sql = "SELECT drop_name, first_upload, directory FROM drop_directories";
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([], |row| {
        let drop = DirectoryName::new(row.get::<_, String>(0)?);
        Ok((drop, UploadId(row.get(1)?), row.get(2)?))
    })?;
    rows.collect()
}

fn load_ignored(connection: &Connection) -> Result<Vec<StoredIgnored>> {
    let mut statement = connection.prepare("SELECT drop_name, path, reason FROM ignored")?;
    let rows = statement.query_map([], |row| {
        let Some(reason) = IgnoreReason::parse(row.get_ref(2)?.as_str()?) else { return Ok(None) };
        let bytes = row.get_ref(1)?.as_blob()?;
        let is_unreadable = reason.hides_files();
        Ok(Some(StoredIgnored {
            drop: DirectoryName::new(row.get::<_, String>(0)?),
            path: PathDigest::of(bytes),
            reason,
            unreadable: is_unreadable.then(|| SourcePath::from_bytes(bytes)),
        }))
    })?;
    rows.filter_map(Result::transpose).collect()
}

fn load_runs(connection: &Connection) -> Result<Vec<StoredRun>> {
    let mut statement = connection.prepare("SELECT * FROM runs ORDER BY drop_name, run")?;
    let rows = statement.query_map([], rows::read_run)?.collect::<Result<Vec<_>>>()?;
    rows.into_iter().map(|row| with_words(row, connection)).collect()
}

/// Adds what a run's files say about it; the samples of its sheet are words named `samples`.
fn with_words(row: RunRow, connection: &Connection) -> Result<StoredRun> {
    let sql = "SELECT word, value FROM run_words WHERE drop_name = ?1 AND run = ?2 \
        ORDER BY word, number";
    let mut statement = connection.prepare_cached(sql)?;
    let mut found = statement.query((row.drop.as_str(), row.name.as_bytes()))?;
    let (mut words, mut samples) = (BTreeMap::new(), Vec::new());
    while let Some(said) = found.next()? {
        let (word, value) = (said.get::<_, String>(0)?, said.get(1)?);
        match word.as_str() {
            "samples" => samples.push(value),
            _ => drop(words.insert(word, value)),
        }
    }
    Ok(StoredRun { row, words, samples })
}

fn load_disposals(connection: &Connection) -> Result<Vec<Disposal>> {
    let sql = "SELECT drop_name, run, is_file, due_at_ns, intended_at_ns FROM disposals \
        WHERE ended_at_ns IS NULL";
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([], |row| {
        Ok(Disposal {
            drop: DirectoryName::new(row.get::<_, String>(0)?),
            run: SourcePath::from_bytes(row.get_ref(1)?.as_blob()?),
            is_file: row.get(2)?,
            due: WallTime(row.get(3)?),
            is_intended: row.get::<_, Option<i64>>(4)?.is_some(),
        })
    })?;
    rows.collect()
}
