//! Reads the health of the state: the file, its rows, and the owners of remote uploads.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::Row;

use super::Snapshot;
use crate::model::{DestinationName, RemoteUploadId, StoredUpload, Target, UploadId};
use crate::store::Error;
use crate::store::rows::{self, IS_OPEN};
use crate::store::schema::{self, FILE_NAME};

type Result<T> = std::result::Result<T, rusqlite::Error>;

/// Limit of reported damages.
const DAMAGES_MAX: u32 = 10;
const PAGE: u32 = 1_000;

#[derive(Debug, Clone, Copy)]
pub struct FileHealth {
    pub version: usize,
    pub size_bytes: u64,
    pub wal_bytes: u64,
}

/// A row, or why it cannot be read.
pub type ReadUpload = (UploadId, std::result::Result<StoredUpload, String>);

/// What the rows know about a remote upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ownership {
    Upload(UploadId),
    Queued,
    /// It was ours: its upload has ended, or the platform confirmed its removal.
    Ended,
    /// It belongs or belonged to another destination.
    Elsewhere,
}

impl Snapshot {
    /// Returns version and length of the database.
    pub fn file_health(&self) -> std::result::Result<FileHealth, Error> {
        let version = schema::version(&self.connection).map_err(|source| self.failed(source))?;
        let path = self.directory.join(FILE_NAME);
        let length =
            |path: &std::path::Path| std::fs::metadata(path).map_or(0, |found| found.len());
        let wal_bytes = length(&path.with_extension("db-wal"));
        Ok(FileHealth { version, size_bytes: length(&path), wal_bytes })
    }

    /// Reads every page of the database, and returns its damages. Slow.
    pub fn damages(&self) -> std::result::Result<Vec<String>, Error> {
        let sql = format!("PRAGMA quick_check({DAMAGES_MAX})");
        let said = self.list(&sql, |row| row.get::<_, String>(0));
        let mut said = said.map_err(|source| self.failed(source))?;
        said.retain(|line| line != "ok");
        Ok(said)
    }

    /// Reads the page of unfinished uploads after an upload, each with its own result.
    pub fn unfinished(&self, after: UploadId) -> std::result::Result<Vec<ReadUpload>, Error> {
        let sql = format!(
            "SELECT * FROM uploads WHERE {IS_OPEN} AND id > {} ORDER BY id LIMIT {PAGE}",
            after.0
        );
        let read = |row: &Row<'_>| {
            let id = UploadId(row.get(0)?);
            let upload = rows::read_upload(&self.connection, row);
            Ok((id, upload.map_err(|error| error.to_string())))
        };
        self.list(&sql, read).map_err(|source| self.failed(source))
    }

    /// Returns what the rows know about remote uploads at a destination; unknown ones are left out.
    pub fn owners(
        &self,
        destination: &DestinationName,
        ids: &BTreeSet<RemoteUploadId>,
    ) -> std::result::Result<BTreeMap<RemoteUploadId, Ownership>, Error> {
        self.read_owners(destination, ids).map_err(|source| self.failed(source))
    }

    fn read_owners(
        &self,
        destination: &DestinationName,
        ids: &BTreeSet<RemoteUploadId>,
    ) -> Result<BTreeMap<RemoteUploadId, Ownership>> {
        let mut owners = BTreeMap::new();
        let sql = "SELECT remote_upload_id, destination, done FROM cleanups";
        let mut statement = self.connection.prepare(sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let id = RemoteUploadId::new(row.get::<_, String>(0)?);
            let is_here = row.get_ref(1)?.as_str()? == destination.as_str();
            let ownership = match (is_here, row.get(2)?) {
                (true, true) => Ownership::Ended,
                (true, false) => Ownership::Queued,
                (false, _) => Ownership::Elsewhere,
            };
            if ids.contains(&id) {
                owners.insert(id, ownership);
            }
        }
        let sql = "SELECT remote_upload_id, destination, id, \
            stage IN ('source-changed', 'abandoned') FROM uploads \
            WHERE remote_upload_id IS NOT NULL";
        let mut statement = self.connection.prepare(sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let id = RemoteUploadId::new(row.get::<_, String>(0)?);
            let is_here = row.get_ref(1)?.as_str()? == destination.as_str();
            if !ids.contains(&id) {
                continue;
            }
            match (is_here, row.get(3)?) {
                // One that is in use was not removed.
                (true, false) => drop(owners.insert(id, Ownership::Upload(UploadId(row.get(2)?)))),
                (true, true) => drop(owners.entry(id).or_insert(Ownership::Ended)),
                (false, _) => drop(owners.entry(id).or_insert(Ownership::Elsewhere)),
            }
        }
        Ok(owners)
    }

    /// Returns the uploads at a destination that are being begun: they may have a remote upload
    /// that no row names yet.
    pub fn beginning(
        &self,
        destination: &DestinationName,
    ) -> std::result::Result<Vec<(UploadId, Target)>, Error> {
        let read = || -> Result<Vec<_>> {
            let sql = "SELECT * FROM uploads WHERE destination = ?1 AND stage = 'beginning'";
            let mut statement = self.connection.prepare(sql)?;
            let rows = statement.query_map([destination.as_str()], |row| {
                rows::read_admission(row).map(|admission| (admission.id, admission.target))
            })?;
            rows.collect()
        };
        read().map_err(|source| self.failed(source))
    }
}
