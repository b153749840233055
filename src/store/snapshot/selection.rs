//! Restricts `status` to what an operator named.
//!
//! The ids of the named uploads, and their runs, drop directories and destinations, are put into
//! temporary tables of the connection, which every list joins. Temporary tables do not write to the
//! database file.

use rusqlite::types::Value;

use super::{Result, Snapshot, Status, Tally, read_tally, rows};
use crate::model::{Scope, Standing, WallTime};
use crate::store::Error;

/// Which rows a snapshot lists.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Selection {
    #[default]
    All,
    /// Whole drop directories, for which settling files are counted.
    Directories,
    /// Anything else that has a name.
    Named,
}

/// Sums over the uploads of one state, with the column names of `tallies`.
pub(super) const SUMS: &str = "CAST(total(size_bytes) AS INTEGER) AS size_bytes, \
    CAST(total(accepted_bytes) AS INTEGER) AS accepted_bytes, \
    CAST(total(bytes_sent) AS INTEGER) AS bytes_sent, \
    CAST(total(max(0, bytes_sent - accepted_bytes)) AS INTEGER) AS bytes_sent_again, \
    CAST(total(bytes_in_flight) AS INTEGER) AS bytes_in_flight";

/// A path below another begins with it and a slash, so it lies between `lower` and `upper`, which
/// ends in the byte after the slash, `0`. A whole drop directory has no upper bound.
const TABLES: &str = "PRAGMA temp_store = MEMORY;
    CREATE TEMP TABLE selected_uploads (id INTEGER PRIMARY KEY);
    CREATE TEMP TABLE selected_runs (drop_name TEXT, run BLOB, PRIMARY KEY (drop_name, run));
    CREATE TEMP TABLE selected_drops (drop_name TEXT PRIMARY KEY);
    CREATE TEMP TABLE selected_destinations (destination TEXT PRIMARY KEY);
    CREATE TEMP TABLE selected_paths (drop_name TEXT, lower BLOB, upper BLOB);";

/// The owners of the named uploads and runs.
const OWNERS: &str = "INSERT OR IGNORE INTO selected_runs
        SELECT drop_name, run FROM selected_uploads JOIN uploads USING (id) WHERE run IS NOT NULL;
    INSERT OR IGNORE INTO selected_drops
        SELECT drop_name FROM selected_uploads JOIN uploads USING (id);
    INSERT OR IGNORE INTO selected_drops SELECT drop_name FROM selected_runs;
    INSERT OR IGNORE INTO selected_destinations
        SELECT destination FROM selected_uploads JOIN uploads USING (id);";

impl Selection {
    pub(super) fn of_uploads(self) -> &'static str {
        self.condition("id IN temp.selected_uploads")
    }

    pub(super) fn of_runs(self) -> &'static str {
        self.condition("(drop_name, run) IN (SELECT drop_name, run FROM temp.selected_runs)")
    }

    /// The condition on a row of `run_tallies`, where files that are runs of their own have an empty name.
    pub(super) fn of_run_tallies(self) -> &'static str {
        self.condition(
            "(drop_name, run, destination) IN (SELECT drop_name, ifnull(run, x''), destination \
            FROM temp.selected_uploads JOIN uploads USING (id))",
        )
    }

    /// The condition on a row of `drop_health`.
    pub(super) fn of_drops(self) -> &'static str {
        self.condition("drop_name IN temp.selected_drops")
    }

    /// The condition on a row of `destination_health`.
    pub(super) fn of_destinations(self) -> &'static str {
        self.condition("destination IN temp.selected_destinations")
    }

    pub(super) fn of_ignored(self) -> &'static str {
        self.condition(
            "EXISTS (SELECT 1 FROM temp.selected_paths s WHERE s.drop_name = ignored.drop_name \
            AND ignored.path >= s.lower AND (s.upper IS NULL OR ignored.path < s.upper))",
        )
    }

    /// Returns whether settling files are counted: they are for a drop directory, not for a part of it.
    pub fn counts_settling(self) -> bool {
        self != Self::Named
    }

    /// Returns whether the rate is measured: only for all uploads together.
    pub fn measures_rate(self) -> bool {
        self == Self::All
    }

    fn condition(self, named: &'static str) -> &'static str {
        match self {
            Self::All => "TRUE",
            Self::Directories | Self::Named => named,
        }
    }
}

impl Snapshot {
    /// Restricts `status` and `runs` to these objects and their owners.
    pub fn select(&mut self, scopes: &[Scope]) -> std::result::Result<(), Error> {
        self.fill_tables(scopes).map_err(|source| self.failed(source))?;
        let is_directory = |scope: &Scope| matches!(scope, Scope::Drop(_));
        self.selection = match scopes.iter().all(is_directory) {
            true => Selection::Directories,
            false => Selection::Named,
        };
        Ok(())
    }

    fn fill_tables(&self, scopes: &[Scope]) -> Result<()> {
        self.connection.execute_batch(TABLES)?;
        let insert = |sql: &str, key: &[Value]| {
            self.connection.prepare_cached(sql)?.execute(rusqlite::params_from_iter(key))
        };
        for scope in scopes {
            let (condition, key) = super::what::condition(scope);
            let uploads = "INSERT OR IGNORE INTO selected_uploads SELECT id FROM uploads WHERE";
            insert(&format!("{uploads} {condition}"), &key)?;
            match scope {
                Scope::All | Scope::Upload(_) => {}
                Scope::Destination(_) => {
                    insert("INSERT OR IGNORE INTO selected_destinations VALUES (?1)", &key)?;
                }
                Scope::Drop(_) => {
                    insert("INSERT OR IGNORE INTO selected_drops VALUES (?1)", &key)?;
                    insert("INSERT INTO selected_paths VALUES (?1, x'', NULL)", &key)?;
                    let runs = "INSERT OR IGNORE INTO selected_runs \
                        SELECT drop_name, run FROM runs WHERE drop_name = ?1";
                    insert(runs, &key)?;
                }
                Scope::Run(..) => {
                    insert("INSERT OR IGNORE INTO selected_runs VALUES (?1, ?2)", &key)?;
                    let paths = "INSERT INTO selected_paths VALUES \
                        (?1, CAST(?2 || '/' AS BLOB), CAST(?2 || '0' AS BLOB))";
                    insert(paths, &key)?;
                }
            }
        }
        self.connection.execute_batch(OWNERS)
    }

    /// Counts uploads by their state.
    pub(super) fn read_tallies(&self) -> Result<Vec<Tally>> {
        let sql = match self.selection {
            Selection::All => "SELECT * FROM tallies ORDER BY state".to_owned(),
            Selection::Directories | Selection::Named => format!(
                "SELECT state, sum(upload_count) AS upload_count, {SUMS} FROM \
                (SELECT state, 1 AS upload_count, size_bytes, accepted_bytes, bytes_sent, \
                    bytes_in_flight FROM uploads WHERE {} \
                UNION ALL SELECT state, 0, 0, 0, 0, 0 FROM tallies) GROUP BY state ORDER BY state",
                self.selection.of_uploads()
            ),
        };
        self.list(&sql, read_tally)
    }

    /// Counts settling files in configured drop directories.
    pub(super) fn count_settling(&self) -> Result<u64> {
        let sql = format!(
            "SELECT ifnull(sum(settling_count), 0) FROM drop_health WHERE is_configured = 1 AND {}",
            self.selection.of_drops()
        );
        self.connection.query_row(&sql, [], |row| rows::unsigned_at(row, 0))
    }

    pub(super) fn count_ignored(&self) -> Result<u64> {
        let sql = match self.selection {
            Selection::All => "SELECT path_count FROM ignored_tally".to_owned(),
            Selection::Directories | Selection::Named => {
                format!("SELECT count(*) FROM ignored WHERE {}", self.selection.of_ignored())
            }
        };
        self.connection.query_row(&sql, [], |row| rows::unsigned_at(row, 0))
    }
}

impl Status {
    /// Removes orders and former targets of unlisted objects.
    pub(super) fn keep_listed(&mut self) {
        let (drops, to, uploads) = (&self.places.drops, &self.places.destinations, &self.uploads);
        let is_listed = |(_, scope, _): &(Standing, Scope, WallTime)| match scope {
            Scope::All => true,
            Scope::Destination(name) => to.iter().any(|to| to.name == name.as_str()),
            Scope::Drop(name) => drops.iter().any(|drop| drop.name == name.as_str()),
            Scope::Run(drop, run) => {
                self.runs.iter().any(|shown| (&shown.row.drop, &shown.row.name) == (drop, run))
            }
            Scope::Upload(id) => uploads.iter().any(|upload| upload.admission.id == *id),
        };
        self.orders.retain(is_listed);
        self.places
            .former_targets
            .retain(|former| to.iter().any(|to| to.name == former.destination));
    }
}
