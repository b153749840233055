//! What the rows know of files that are observed: in which version each was sent, and where.
//!
//! One short read for a batch of observations. Uploads that are open are left out: memory has them.

use rusqlite::{CachedStatement, Params, Row};

use super::runs::read_version;
use super::{Result, Snapshot};
use crate::model::{
    Catalogued, DestinationName, DirectoryName, Fingerprint, KnownFile, Observation, PathDigest,
    Seen, SourcePath,
};
use crate::store::rest::COUNTS;
use crate::store::{Error, rows};

impl Snapshot {
    /// Returns what is known of the observed files. With `has_origins` also which of them, not known
    /// under their own path, were sent under another one.
    pub fn catalogued(
        &self,
        directory: &DirectoryName,
        observations: &[Observation],
        has_origins: bool,
    ) -> std::result::Result<Catalogued, Error> {
        let files = observations.iter().filter_map(|one| match one.seen {
            Seen::File(version) | Seen::Unreadable(version, _) => Some((&one.path, version)),
            Seen::Ignored(_) | Seen::Gone => None,
        });
        let read = || -> Result<Catalogued> {
            self.connection.execute_batch("BEGIN")?;
            let mut reader = CatalogueReader::new(self, directory)?;
            for (path, version) in files {
                reader.read(path, has_origins.then_some(&version))?;
            }
            Ok(reader.found)
        };
        let found = read();
        let ended = self.connection.execute_batch("COMMIT");
        found.and_then(|found| ended.map(|()| found)).map_err(|source| self.failed(source))
    }

    /// Returns what is known of one file.
    pub fn known_versions(
        &self,
        directory: &DirectoryName,
        path: &SourcePath,
    ) -> std::result::Result<Vec<KnownFile>, Error> {
        let read = || -> Result<Catalogued> {
            let mut reader = CatalogueReader::new(self, directory)?;
            reader.read(path, None)?;
            Ok(reader.found)
        };
        read().map(|found| found.sent).map_err(|source| self.failed(source))
    }
}

struct CatalogueReader<'a> {
    directory: &'a DirectoryName,
    sent: CachedStatement<'a>,
    moved: CachedStatement<'a>,
    elsewhere: CachedStatement<'a>,
    /// The destination of the row before: most rows have the same.
    destination: DestinationName,
    found: Catalogued,
}

impl<'a> CatalogueReader<'a> {
    fn new(snapshot: &'a Snapshot, directory: &'a DirectoryName) -> Result<Self> {
        let sent = format!(
            "SELECT s.id, s.destination, s.device, s.inode, s.size_bytes, s.mtime_ns, s.ctime_ns \
            FROM uploads s LEFT JOIN resends r ON r.destination = s.destination \
            WHERE s.drop_name = ?1 AND s.path = ?2 AND s.sentinel = 0 \
                AND (s.stage = 'receipted' OR s.stage = 'abandoned') AND {COUNTS}"
        );
        let moved = format!(
            "SELECT i.moved_upload AS id, s.destination, s.device, s.inode, s.size_bytes, \
                s.mtime_ns, i.ctime_ns \
            FROM ignored i JOIN uploads u ON u.id = i.moved_upload \
            JOIN uploads s ON s.path = u.path AND s.drop_name = u.drop_name AND s.inode = u.inode \
                AND s.size_bytes = u.size_bytes AND s.mtime_ns = u.mtime_ns \
            LEFT JOIN resends r ON r.destination = s.destination \
            WHERE i.drop_name = ?1 AND i.path = ?2 AND s.stage = 'receipted' AND s.sentinel = 0 \
                AND {COUNTS}"
        );
        let elsewhere = "SELECT 1 FROM uploads WHERE inode = ?2 AND drop_name = ?1 \
            AND size_bytes = ?3 AND mtime_ns = ?4 AND path <> ?5 AND stage = 'receipted' LIMIT 1";
        Ok(Self {
            directory,
            sent: snapshot.connection.prepare_cached(&sent)?,
            moved: snapshot.connection.prepare_cached(&moved)?,
            elsewhere: snapshot.connection.prepare_cached(elsewhere)?,
            destination: DestinationName::new(""),
            found: Catalogued::default(),
        })
    }

    /// Reads what is known of a file; and of its `origin`, where that version is given.
    fn read(&mut self, path: &SourcePath, origin: Option<&Fingerprint>) -> Result<()> {
        let key = (self.directory.as_str(), path.as_bytes());
        let known = KnownPath { directory: self.directory, path: path.digest() };
        let mut found = known.rows(&mut self.sent, key, &mut self.destination)?;
        found.extend(known.rows(&mut self.moved, key, &mut self.destination)?);
        found.sort_by_key(|(id, _)| *id);
        if let Some(version) = origin
            && !found.iter().any(|(_, file)| file.fingerprint.same_version(version))
            && self.is_elsewhere(path, version)?
        {
            self.found.elsewhere.push(*version);
        }
        self.found.sent.extend(found.into_iter().map(|(_, file)| file));
        Ok(())
    }

    fn is_elsewhere(&mut self, path: &SourcePath, version: &Fingerprint) -> Result<bool> {
        self.elsewhere.exists((
            self.directory.as_str(),
            version.inode.cast_signed(),
            rows::saturated(version.size.0),
            version.mtime_ns,
            path.as_bytes(),
        ))
    }
}

struct KnownPath<'a> {
    directory: &'a DirectoryName,
    path: PathDigest,
}

impl KnownPath<'_> {
    fn rows(
        &self,
        statement: &mut CachedStatement<'_>,
        key: impl Params,
        destination: &mut DestinationName,
    ) -> Result<Vec<(i64, KnownFile)>> {
        let mut found = Vec::new();
        let mut rows = statement.query(key)?;
        while let Some(row) = rows.next()? {
            share(destination, row)?;
            let (drop, destination) = (self.directory.clone(), destination.clone());
            let fingerprint = read_version(row)?;
            found.push((
                row.get("id")?,
                KnownFile { drop, path: self.path, fingerprint, destination },
            ));
        }
        Ok(found)
    }
}

/// Keeps the name of a destination when the row has the same one.
fn share(destination: &mut DestinationName, row: &Row<'_>) -> Result<()> {
    let name = row.get_ref("destination")?.as_str()?;
    if destination.as_str() != name {
        *destination = DestinationName::new(name);
    }
    Ok(())
}
