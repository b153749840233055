//! Reads targets and places: what was completed elsewhere, and who holds a place.

use std::collections::BTreeMap;

use rusqlite::OptionalExtension;

use super::Snapshot;
use crate::model::{
    DestinationName, ETag, EarlierVersion, FormerTarget, Learned, PlaceFound, PlaceHolder,
    PlaceSource, RemoteFileId, SourcePath, Target, TargetAddress, TargetId, UploadId, WallTime,
};
use crate::store::{Error, rows};

type Result<T> = std::result::Result<T, rusqlite::Error>;

/// A source that holds a place.
struct HeldPlace {
    holder: PlaceHolder,
    /// Its version there, once that has its receipt.
    version: Option<EarlierVersion>,
    was_absent: bool,
}

impl Snapshot {
    /// Returns the holder of a place at any of `targets`: another source than `source`, with its
    /// newest upload, and the earlier version of `source` itself.
    pub fn place_found(
        &self,
        targets: &[TargetId],
        place: &Target,
        source: &PlaceSource,
    ) -> std::result::Result<PlaceFound, Error> {
        let mut held = Vec::new();
        for target in targets {
            held.extend(self.read_holders(*target, place).map_err(|source| self.failed(source))?);
        }
        held.sort_by_key(|held| held.holder.upload);
        let (own, others): (Vec<_>, Vec<_>) =
            held.into_iter().partition(|held| held.holder.source == *source);
        let own = own.into_iter().next_back();
        Ok(PlaceFound {
            other: others.into_iter().next_back().map(|held| held.holder),
            was_absent: own.as_ref().is_some_and(|own| own.was_absent),
            earlier: own.and_then(|own| own.version),
        })
    }

    fn read_holders(&self, target: TargetId, place: &Target) -> Result<Vec<HeldPlace>> {
        let sql = "SELECT p.upload_id, p.directory, p.path, u.remote_file_id, u.remote_etag, \
            u.source_was_absent FROM places p \
            LEFT JOIN uploads u ON u.id = p.upload_id AND u.stage = 'receipted' \
            WHERE p.target_id = ?1 AND p.folder = ?2 AND p.name = ?3";
        let read = |row: &rusqlite::Row<'_>| {
            let upload = UploadId(row.get(0)?);
            let path = SourcePath::from_bytes(row.get_ref(2)?.as_blob()?);
            let file = row.get::<_, Option<String>>(3)?.map(RemoteFileId::new);
            let etag = row.get::<_, Option<String>>(4)?.map(|etag| ETag::from_header(&etag));
            Ok(HeldPlace {
                holder: PlaceHolder {
                    upload,
                    source: PlaceSource { directory: row.get(1)?, path },
                },
                version: file.map(|file| EarlierVersion { upload, file, etag }),
                was_absent: row.get::<_, Option<bool>>(5)?.unwrap_or_default(),
            })
        };
        let mut statement = self.connection.prepare_cached(sql)?;
        let key = (target.0, place.folder(), place.name());
        statement.query_map(key, read)?.collect()
    }

    /// Lists the uploads that were completed at former targets of their destinations, as of the
    /// last run of the daemon.
    pub(super) fn read_former(&self) -> Result<Vec<FormerTarget>> {
        let sql = "SELECT t.destination, a.platform, a.base_url, a.container, t.completed_count \
            FROM target_tallies t LEFT JOIN targets a ON a.id = t.target_id \
            WHERE EXISTS (SELECT 1 FROM destination_targets d WHERE d.destination = t.destination) \
            AND NOT EXISTS (SELECT 1 FROM destination_targets d \
                WHERE d.destination = t.destination AND d.target_id = t.target_id) \
            ORDER BY t.destination, t.target_id";
        self.list(sql, read_former)
    }

    /// Returns what was completed for a destination at other targets than these.
    pub fn completed_elsewhere(
        &self,
        destination: &DestinationName,
        own: &[TargetAddress],
    ) -> std::result::Result<Vec<FormerTarget>, Error> {
        let sql = "SELECT t.destination, a.platform, a.base_url, a.container, t.completed_count \
            FROM target_tallies t LEFT JOIN targets a ON a.id = t.target_id \
            WHERE t.destination = ?1 ORDER BY t.target_id";
        let read = || -> Result<Vec<FormerTarget>> {
            let mut statement = self.connection.prepare_cached(sql)?;
            let rows = statement.query_map([destination.as_str()], read_former)?;
            rows.collect()
        };
        let mut found = read().map_err(|source| self.failed(source))?;
        found.retain(|former| former.address.as_ref().is_none_or(|at| !own.contains(at)));
        Ok(found)
    }

    /// Returns the learned properties of targets, and since when they are known.
    pub fn learned(
        &self,
        of: &[TargetAddress],
    ) -> std::result::Result<Vec<(Learned, WallTime)>, Error> {
        let sql = "SELECT a.platform, a.base_url, a.container, l.what, l.at_ns \
            FROM target_learned l JOIN targets a ON a.id = l.target_id ORDER BY l.what";
        let read = |row: &rusqlite::Row<'_>| {
            let (platform, base_url) = (row.get(0)?, row.get(1)?);
            let address = TargetAddress { platform, base_url, container: row.get(2)? };
            let what = Learned::parse(row.get_ref(3)?.as_str()?);
            Ok((address, what.map(|what| (what, row.get(4).map(WallTime)))))
        };
        let rows: Vec<_> = self.list(sql, read).map_err(|source| self.failed(source))?;
        let ours = rows.into_iter().filter(|(address, _)| of.contains(address));
        let learned = ours.filter_map(|(_, learned)| learned);
        let learned = learned.map(|(what, at)| at.map(|at| (what, at)));
        learned.collect::<Result<_>>().map_err(|source| self.failed(source))
    }

    /// Returns every target, past and present.
    pub fn targets(&self) -> std::result::Result<BTreeMap<TargetAddress, TargetId>, Error> {
        let known = crate::store::writer::targets::load(&self.connection);
        let known = known.map_err(|source| self.failed(source))?;
        Ok(known.into_iter().map(|(id, address)| (address, id)).collect())
    }

    /// Returns the address of a target.
    pub fn target_address(
        &self,
        target: TargetId,
    ) -> std::result::Result<Option<TargetAddress>, Error> {
        let sql = "SELECT platform, base_url, container FROM targets WHERE id = ?1";
        let read = |row: &rusqlite::Row<'_>| {
            let (platform, base_url, container) = (row.get(0)?, row.get(1)?, row.get(2)?);
            Ok(TargetAddress { platform, base_url, container })
        };
        let found = self.connection.query_row(sql, [target.0], read).optional();
        found.map_err(|source| self.failed(source))
    }

    /// Returns the ids of targets, as far as they are known.
    pub fn target_ids(
        &self,
        addresses: &[TargetAddress],
    ) -> std::result::Result<Vec<TargetId>, Error> {
        let sql = "SELECT id FROM targets WHERE platform = ?1 AND base_url = ?2 AND container = ?3";
        let read = || -> Result<Vec<TargetId>> {
            let mut ids = Vec::new();
            for TargetAddress { platform, base_url, container } in addresses {
                let key = (platform, base_url, container);
                let id = self.connection.prepare_cached(sql)?.query_row(key, |row| row.get(0));
                ids.extend(id.optional()?.map(TargetId));
            }
            Ok(ids)
        };
        read().map_err(|source| self.failed(source))
    }
}

fn read_former(row: &rusqlite::Row<'_>) -> Result<FormerTarget> {
    let address = match row.get(1)? {
        Some(platform) => {
            Some(TargetAddress { platform, base_url: row.get(2)?, container: row.get(3)? })
        }
        None => None,
    };
    let completed_count = rows::unsigned_at(row, 4)?;
    Ok(FormerTarget { destination: row.get(0)?, address, completed_count })
}
