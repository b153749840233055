//! Writes orders, and reads them at a start.

use rusqlite::{Connection, OptionalExtension, Row};

use crate::model::{
    DestinationName, DirectoryName, OrderRecord, Scope, SourcePath, Standing, UploadId, WallTime,
};

type Result<T> = std::result::Result<T, rusqlite::Error>;

/// Writes one record about an order.
pub(super) fn write(connection: &Connection, record: &OrderRecord) -> Result<()> {
    match record {
        OrderRecord::Stands { standing, scope, at } => {
            let (word, name, run) = columns(scope);
            let sql = "INSERT INTO orders VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING";
            let row = (standing.as_str(), word, name, run, at.0);
            connection.prepare_cached(sql)?.execute(row)?;
        }
        OrderRecord::Over { standing, scope } => {
            let (word, name, run) = columns(scope);
            let sql = "DELETE FROM orders WHERE standing = ?1 AND scope = ?2 AND name = ?3 \
                AND run = ?4";
            connection.prepare_cached(sql)?.execute((standing.as_str(), word, name, run))?;
        }
        OrderRecord::Bandwidth { rate: Some(rate), at } => {
            let sql = "INSERT OR REPLACE INTO ordered_bandwidth VALUES (1, ?1, ?2)";
            let rate = rate.map(|rate| i64::try_from(rate).unwrap_or(i64::MAX));
            connection.prepare_cached(sql)?.execute((rate, at.0))?;
        }
        OrderRecord::Bandwidth { rate: None, .. } => {
            connection.prepare_cached("DELETE FROM ordered_bandwidth")?.execute([])?;
        }
    }
    Ok(())
}

fn columns(scope: &Scope) -> (&'static str, String, &[u8]) {
    match scope {
        Scope::All => ("all", String::new(), b""),
        Scope::Destination(name) => ("destination", name.to_string(), b""),
        Scope::Drop(name) => ("drop", name.to_string(), b""),
        Scope::Run(drop, run) => ("run", drop.to_string(), run.as_bytes()),
        Scope::Upload(id) => ("upload", id.to_string(), b""),
    }
}

/// Reads the orders in force, and since when.
pub(in crate::store) fn load(connection: &Connection) -> Result<Vec<(Standing, Scope, WallTime)>> {
    let mut statement =
        connection.prepare("SELECT standing, scope, name, run, at_ns FROM orders")?;
    statement.query_map([], read)?.collect()
}

fn read(row: &Row<'_>) -> Result<(Standing, Scope, WallTime)> {
    let standing = Standing::parse(row.get_ref(0)?.as_str()?);
    let name = row.get_ref(2)?.as_str()?;
    let scope = match row.get_ref(1)?.as_str()? {
        "all" => Some(Scope::All),
        "destination" => Some(Scope::Destination(DestinationName::new(name))),
        "drop" => Some(Scope::Drop(DirectoryName::new(name))),
        "run" => {
            let run = SourcePath::from_bytes(row.get_ref(3)?.as_blob()?);
            Some(Scope::Run(DirectoryName::new(name), run))
        }
        "upload" => name.parse().ok().map(|id| Scope::Upload(UploadId(id))),
        _ => None,
    };
    let (standing, scope) = standing.zip(scope).ok_or(rusqlite::Error::InvalidQuery)?;
    Ok((standing, scope, WallTime(row.get(4)?)))
}

/// Reads the ordered bandwidth, if there is one.
pub(in crate::store) fn load_bandwidth(connection: &Connection) -> Result<Option<Option<u64>>> {
    let sql = "SELECT bytes_per_second FROM ordered_bandwidth";
    let rate = connection.query_row(sql, [], |row| row.get::<_, Option<i64>>(0)).optional()?;
    Ok(rate.map(|rate| rate.map(|rate| u64::try_from(rate).unwrap_or(0))))
}
