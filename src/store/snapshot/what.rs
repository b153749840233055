//! What an operator may name: destinations, drop directories, runs, files.

use std::collections::BTreeMap;

use rusqlite::Row;
use rusqlite::types::Value;

use super::Snapshot;
use crate::model::{DestinationName, DirectoryName, Scope, SourcePath, UploadId};
use crate::store::Error;

type Result<T> = std::result::Result<T, rusqlite::Error>;

/// A path below a drop directory.
pub type NamedPath = (DirectoryName, SourcePath);

/// Files by their path, each with its uploads, the newest first.
pub type FileUploads = BTreeMap<NamedPath, Vec<UploadId>>;

/// All names.
#[derive(Debug, Default)]
pub struct KnownNames {
    /// Drop directories, including those that were removed from the configuration.
    pub directories: Vec<DirectoryName>,
    pub destinations: Vec<DestinationName>,
    /// Runs, in the order of their paths.
    pub runs: Vec<NamedPath>,
    /// Renamed runs: the present name of the directory, and the run's own.
    pub renamed: Vec<(NamedPath, SourcePath)>,
}

impl Snapshot {
    /// Returns all names.
    pub fn names(&self) -> std::result::Result<KnownNames, Error> {
        let read = || -> Result<KnownNames> {
            let directories = "SELECT drop_name FROM drop_health ORDER BY drop_name";
            let destinations = "SELECT destination FROM destination_health ORDER BY destination";
            let runs = "SELECT drop_name, run FROM runs UNION \
                SELECT drop_name, run FROM run_tallies WHERE run <> x'' ORDER BY 1, 2";
            let renamed = "SELECT drop_name, name_now, run FROM runs WHERE name_now IS NOT NULL \
                ORDER BY 1, 2";
            let read_renamed = |row: &Row<'_>| {
                let run = SourcePath::from_bytes(row.get_ref(2)?.as_blob()?);
                Ok((read_place(row)?, run))
            };
            let mut directories =
                self.list(directories, |row| row.get::<_, String>(0).map(DirectoryName::new))?;
            directories.push(DirectoryName::handed_in());
            Ok(KnownNames {
                directories,
                destinations: self
                    .list(destinations, |row| row.get::<_, String>(0).map(DestinationName::new))?,
                runs: self.list(runs, read_place)?,
                renamed: self.list(renamed, read_renamed)?,
            })
        };
        read().map_err(|source| self.failed(source))
    }

    /// Returns the files with a path, at most one in each drop directory.
    pub fn files_at(&self, path: &SourcePath) -> std::result::Result<FileUploads, Error> {
        let sql = "SELECT drop_name, path, id FROM uploads WHERE path = ?1 ORDER BY id DESC";
        self.files(sql, &[path.as_bytes()], |_, _| true)
    }

    /// Returns the files below a directory, in every drop directory that has it.
    pub fn files_below(&self, directory: &SourcePath) -> std::result::Result<FileUploads, Error> {
        // `0` is the byte after the slash.
        let (from, to) =
            ([directory.as_bytes(), b"/"].concat(), [directory.as_bytes(), b"0"].concat());
        let sql = "SELECT drop_name, path, id FROM uploads WHERE path > ?1 AND path < ?2 \
            ORDER BY id DESC";
        self.files(sql, &[&from, &to], |_, _| true)
    }

    /// Returns the files that satisfy a condition. Reads the paths of all uploads.
    pub fn files_where(
        &self,
        is_meant: impl Fn(&str, &[u8]) -> bool,
    ) -> std::result::Result<FileUploads, Error> {
        self.files("SELECT drop_name, path, id FROM uploads ORDER BY id DESC", &[], is_meant)
    }

    fn files(
        &self,
        sql: &str,
        key: &[&[u8]],
        is_meant: impl Fn(&str, &[u8]) -> bool,
    ) -> std::result::Result<FileUploads, Error> {
        let read = || -> Result<FileUploads> {
            let mut statement = self.connection.prepare_cached(sql)?;
            let mut rows = statement.query(rusqlite::params_from_iter(key))?;
            let mut found = FileUploads::new();
            while let Some(row) = rows.next()? {
                if is_meant(row.get_ref(0)?.as_str()?, row.get_ref(1)?.as_blob()?) {
                    found.entry(read_place(row)?).or_default().push(UploadId(row.get(2)?));
                }
            }
            Ok(found)
        };
        read().map_err(|source| self.failed(source))
    }

    /// Returns the newest uploads in a scope, at most `limit`.
    pub fn uploads_of(
        &self,
        scope: &Scope,
        limit: usize,
    ) -> std::result::Result<Vec<UploadId>, Error> {
        let (condition, key) = condition(scope);
        let read = || -> Result<Vec<UploadId>> {
            let sql =
                format!("SELECT id FROM uploads WHERE {condition} ORDER BY id DESC LIMIT {limit}");
            let mut statement = self.connection.prepare_cached(&sql)?;
            let ids = statement.query_map(rusqlite::params_from_iter(key), |row| row.get(0));
            ids?.map(|id| id.map(UploadId)).collect()
        };
        read().map_err(|source| self.failed(source))
    }
}

/// Returns the condition on the rows of `uploads` in a scope, and its parameters.
pub(super) fn condition(scope: &Scope) -> (&'static str, Vec<Value>) {
    let text = |text: &str| Value::Text(text.to_owned());
    match scope {
        Scope::All => ("TRUE", vec![]),
        Scope::Destination(name) => ("destination = ?1", vec![text(name.as_str())]),
        Scope::Drop(name) => ("drop_name = ?1", vec![text(name.as_str())]),
        Scope::Run(drop, run) => {
            let run = Value::Blob(run.as_bytes().to_vec());
            ("drop_name = ?1 AND run = ?2", vec![text(drop.as_str()), run])
        }
        Scope::Upload(id) => ("id = ?1", vec![Value::Integer(id.0)]),
    }
}

fn read_place(row: &Row<'_>) -> Result<NamedPath> {
    let path = SourcePath::from_bytes(row.get_ref(1)?.as_blob()?);
    Ok((DirectoryName::new(row.get::<_, String>(0)?), path))
}
