//! What a start reads first: everything that is in progress, but not what is merely queued or known.

use std::collections::BTreeSet;

use rusqlite::{Connection, Row};

use crate::model::{
    DestinationName, DirectoryName, Disposal, IgnoreReason, Learned, PathDigest, RootIdentity,
    RunRow, SourcePath, StoredRoot, TargetId, UploadId, WallTime,
};
use crate::store::rest::SharedNames;
use crate::store::rows::{self, IS_OPEN};
use crate::store::{Loaded, LoadedUpload, RunWords};

type Result<T> = std::result::Result<T, rusqlite::Error>;

/// Reads everything that a start needs before it can send; the rest is [`Rest`]'s.
///
/// [`Rest`]: crate::store::rest::Rest
pub(super) fn load(connection: &Connection) -> Result<Loaded> {
    let next: Option<i64> = connection.query_row(
        "SELECT nullif(max(ifnull((SELECT max(id) FROM uploads), 0), ids_above), 0) + 1 FROM care",
        [],
        |r| r.get(0),
    )?;
    Ok(Loaded {
        uploads: uploads(connection)?,
        targets: super::targets::load(connection)?,
        in_force: super::targets::load_in_force(connection)?,
        cleanups: super::targets::load_cleanups(connection)?,
        learned: load_learned(connection)?,
        open_drops: load_open_drops(connection)?,
        runs: load_runs(connection)?,
        disposals: load_disposals(connection)?,
        ignored: load_ignored(connection)?,
        unreadable: load_unreadable(connection)?,
        roots: load_roots(connection)?,
        notices: super::notices::load(connection)?,
        orders: super::orders::load(connection)?,
        bandwidth: super::orders::load_bandwidth(connection)?,
        care: super::tend::load(connection)?,
        next_upload: next.map(UploadId),
    })
}

/// Reads what belongs to some drop directories, uploads and files excepted.
pub(in crate::store) fn of_drops(
    connection: &Connection,
    drops: &BTreeSet<DirectoryName>,
) -> Result<Loaded> {
    let mut runs = load_runs(connection)?;
    runs.retain(|(run, _)| drops.contains(&run.drop));
    let mut disposals = load_disposals(connection)?;
    disposals.retain(|disposal| drops.contains(&disposal.drop));
    let mut ignored = load_ignored(connection)?;
    ignored.retain(|(drop, _, _)| drops.contains(drop));
    let mut unreadable = load_unreadable(connection)?;
    unreadable.retain(|(drop, _)| drops.contains(drop));
    let mut roots = load_roots(connection)?;
    roots.retain(|root| drops.contains(&root.drop));
    Ok(Loaded { runs, disposals, ignored, unreadable, roots, ..Loaded::default() })
}

/// Reads every unfinished upload that is more than queued: memory must know what was begun before
/// anything begins. Their number is kept, so that the search ends with the last of them; what was
/// begun is mostly older than what was not.
fn uploads(connection: &Connection) -> Result<Vec<LoadedUpload>> {
    let sql = format!(
        "SELECT * FROM uploads WHERE {IS_OPEN} AND state <> 'queued' ORDER BY id \
            LIMIT (SELECT sum(upload_count) FROM tallies \
                WHERE state IN ('sending', 'waiting', 'parked'))"
    );
    let mut statement = connection.prepare(&sql)?;
    let mut names = SharedNames::default();
    let read = |row: &Row<'_>| {
        let mut upload = rows::read_upload(connection, row)?;
        names.share(&mut upload.admission.drop, &mut upload.admission.destination);
        Ok(upload)
    };
    statement.query_map([], read)?.collect()
}

fn load_open_drops(
    connection: &Connection,
) -> Result<Vec<(DestinationName, DirectoryName, String)>> {
    let sql = "SELECT destination, drop_name, name FROM drops WHERE finished_at_ns IS NULL";
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([], |row| {
        let (destination, drop) = (row.get::<_, String>(0)?, row.get::<_, String>(1)?);
        Ok((DestinationName::new(destination), DirectoryName::new(drop), row.get(2)?))
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

fn load_unreadable(connection: &Connection) -> Result<Vec<(DirectoryName, SourcePath)>> {
    let sql = "SELECT drop_name, path FROM ignored WHERE reason = ?1";
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([IgnoreReason::DirectoryUnreadable.as_str()], |row| {
        let path = SourcePath::from_bytes(row.get_ref(1)?.as_blob()?);
        Ok((DirectoryName::new(row.get::<_, String>(0)?), path))
    })?;
    rows.collect()
}

fn load_ignored(connection: &Connection) -> Result<Vec<(DirectoryName, PathDigest, IgnoreReason)>> {
    let mut statement = connection.prepare("SELECT drop_name, path, reason FROM ignored")?;
    let rows = statement.query_map([], |row| {
        let reason = IgnoreReason::parse(row.get_ref(2)?.as_str()?);
        let path = PathDigest::of(row.get_ref(1)?.as_blob()?);
        Ok(reason.map(|reason| {
            (DirectoryName::new(row.get::<_, String>(0).unwrap_or_default()), path, reason)
        }))
    })?;
    rows.filter_map(Result::transpose).collect()
}

fn load_runs(connection: &Connection) -> Result<Vec<(RunRow, RunWords)>> {
    let mut statement = connection.prepare("SELECT * FROM runs ORDER BY drop_name, run")?;
    let rows = statement.query_map([], rows::read_run)?.collect::<Result<Vec<_>>>()?;
    let sql = "SELECT word, value FROM run_words WHERE drop_name = ?1 AND run = ?2 \
        ORDER BY word, number";
    let mut words = connection.prepare(sql)?;
    let mut runs = Vec::with_capacity(rows.len());
    for run in rows {
        let key = (run.drop.as_str(), run.name.as_bytes());
        let said = words.query_map(key, |row| Ok((row.get(0)?, row.get(1)?)))?;
        let said = said.collect::<Result<Vec<_>>>()?;
        runs.push((run, said));
    }
    Ok(runs)
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
