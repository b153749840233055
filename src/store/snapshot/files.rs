//! Reads single sent files: their digests, and their uploads under other paths.

use std::collections::BTreeMap;

use rusqlite::OptionalExtension;

use super::runs::read_version;
use super::{Snapshot, UploadShown, read_upload};
use crate::model::{
    ContentMark, DestinationName, DirectoryName, Fingerprint, SourcePath, UploadId,
};
use crate::store::{Error, rows};

type Result<T> = std::result::Result<T, rusqlite::Error>;

/// The newest receipted upload of a file under one path.
#[derive(Debug, Clone)]
pub struct Sent {
    pub upload: UploadId,
    pub path: SourcePath,
    pub version: Fingerprint,
}

impl Snapshot {
    /// Returns the digest over parts of the last sent version of a file, or of one upload of it
    /// under another path, if that had the length of this version.
    pub fn sent_mark(
        &self,
        drop: &DirectoryName,
        path: &SourcePath,
        version: &Fingerprint,
        against: Option<UploadId>,
    ) -> std::result::Result<Option<ContentMark>, Error> {
        self.read_sent_mark(drop, path, version, against).map_err(|source| self.failed(source))
    }

    fn read_sent_mark(
        &self,
        drop: &DirectoryName,
        path: &SourcePath,
        version: &Fingerprint,
        against: Option<UploadId>,
    ) -> Result<Option<ContentMark>> {
        // Its own uploads, and the one that it was moved from.
        let sql = "SELECT device, inode, size_bytes, mtime_ns, ctime_ns, \
            ifnull(mark_part_size_bytes, remote_mark_part_size_bytes) AS part_size, \
            ifnull(mark_md5, remote_mark_md5) AS md5 FROM uploads \
            WHERE id = ifnull(?3, ifnull( \
                (SELECT moved_upload FROM ignored WHERE drop_name = ?1 AND path = ?2), \
                (SELECT max(id) FROM uploads WHERE drop_name = ?1 AND path = ?2 AND sentinel = 0 \
                    AND stage = 'receipted')))";
        let key = (drop.as_str(), path.as_bytes(), against.map(|id| id.0));
        let read = |row: &rusqlite::Row<'_>| Ok((read_version(row)?, rows::mark(row, 5, 6)?));
        let sent = self.connection.prepare_cached(sql)?.query_row(key, read).optional()?;
        Ok(sent.filter(|(sent, _)| sent.size == version.size).and_then(|(_, mark)| mark))
    }

    /// Returns the other paths under which a file was sent to every one of `targets` in this
    /// version, whatever its time of change; the newest first.
    pub fn sent_elsewhere(
        &self,
        drop: &DirectoryName,
        path: &SourcePath,
        version: &Fingerprint,
        targets: &[DestinationName],
    ) -> std::result::Result<Vec<Sent>, Error> {
        self.read_sent_elsewhere(drop, path, version, targets).map_err(|source| self.failed(source))
    }

    fn read_sent_elsewhere(
        &self,
        drop: &DirectoryName,
        path: &SourcePath,
        version: &Fingerprint,
        targets: &[DestinationName],
    ) -> Result<Vec<Sent>> {
        let sql = "SELECT id, path, destination, device, inode, size_bytes, mtime_ns, ctime_ns \
            FROM uploads WHERE inode = ?1 AND drop_name = ?2 AND size_bytes = ?3 AND mtime_ns = ?4 \
            AND path <> ?5 AND stage = 'receipted' AND sentinel = 0 ORDER BY id";
        let key = (
            version.inode.cast_signed(),
            drop.as_str(),
            rows::saturated(version.size.0),
            version.mtime_ns,
            path.as_bytes(),
        );
        let mut statement = self.connection.prepare_cached(sql)?;
        let found = statement.query_map(key, |row| {
            let path = SourcePath::from_bytes(row.get_ref("path")?.as_blob()?);
            let sent = Sent { upload: UploadId(row.get("id")?), path, version: read_version(row)? };
            Ok((row.get::<_, String>("destination")?, sent))
        })?;
        let mut by_path: BTreeMap<SourcePath, BTreeMap<String, Sent>> = BTreeMap::new();
        for found in found {
            let (destination, sent) = found?;
            by_path.entry(sent.path.clone()).or_default().insert(destination, sent);
        }
        let is_everywhere = |sent: &BTreeMap<String, Sent>| {
            targets.iter().all(|target| sent.contains_key(target.as_str()))
        };
        let everywhere = by_path.into_values().filter(is_everywhere);
        let mut newest: Vec<_> =
            everywhere.filter_map(|sent| sent.into_values().max_by_key(|s| s.upload)).collect();
        newest.sort_by_key(|sent| std::cmp::Reverse(sent.upload));
        Ok(newest)
    }

    /// Returns the newest upload of a file to a destination.
    pub fn newest(
        &self,
        drop: &DirectoryName,
        path: &SourcePath,
        destination: &DestinationName,
    ) -> std::result::Result<Option<UploadShown>, Error> {
        let find = || -> Result<Option<UploadShown>> {
            let sql = "SELECT * FROM uploads WHERE path = ?1 AND drop_name = ?2 \
                AND destination = ?3 ORDER BY id DESC LIMIT 1";
            let key = (path.as_bytes(), drop.as_str(), destination.as_str());
            self.connection.prepare_cached(sql)?.query_row(key, read_upload).optional()
        };
        find().map_err(|source| self.failed(source))
    }

    /// Returns the upload of a file that was moved to `path` since, with its old path.
    pub fn moved_to(
        &self,
        path: &SourcePath,
    ) -> std::result::Result<Vec<(UploadId, SourcePath)>, Error> {
        let sql = "SELECT u.id, u.path FROM ignored i JOIN uploads u ON u.id = i.moved_upload \
            WHERE i.path = ?1 ORDER BY u.id DESC";
        let read = || -> Result<Vec<_>> {
            let mut statement = self.connection.prepare_cached(sql)?;
            let rows = statement.query_map([path.as_bytes()], |row| {
                Ok((UploadId(row.get(0)?), SourcePath::from_bytes(row.get_ref(1)?.as_blob()?)))
            })?;
            rows.collect()
        };
        read().map_err(|source| self.failed(source))
    }
}
