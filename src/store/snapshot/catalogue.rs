//! What the rows know about observed files: the versions that were sent, and where.
//!
//! One short read for a batch of observations: both are sorted by path, so the rows are merged with
//! the batch, and searched again only where many lie between two of its files. Open uploads are
//! left out: memory has them.

use std::collections::BTreeMap;

use rusqlite::{CachedStatement, Row};

use super::{Result, Snapshot};
use crate::model::{
    Catalogued, DestinationName, DirectoryName, Fingerprint, KnownFile, Observation, Role,
    RunTally, Seen, SourcePath, UnchangedFiles,
};
use crate::store::rest::COUNTS;
use crate::store::{Error, rows};

/// Rows that are skipped before the next file is searched for: about the cost of a search.
const PASSED_MAX: usize = 16;

impl Snapshot {
    /// Returns what is known about files in a look, and which of them, unknown under their own
    /// path, were sent under another one.
    pub fn catalogued(
        &self,
        directory: &DirectoryName,
        observations: &[Observation],
    ) -> std::result::Result<Catalogued, Error> {
        self.read_batch(directory, |reader| {
            let found = reader.rows_of(observations)?;
            for (one, rows) in observations.iter().zip(found.of_each()) {
                if let Some(version) = version_of(&one.seen) {
                    reader.add(&one.path, rows, Some(version))?;
                }
            }
            Ok(())
        })
    }

    /// Returns what is known about files in a scan. Those that are unchanged since they were sent
    /// to all these destinations are removed from the observations, and counted.
    pub fn differences(
        &self,
        directory: &DirectoryName,
        destinations: &[DestinationName],
        observations: &mut Vec<Observation>,
    ) -> std::result::Result<Catalogued, Error> {
        self.read_batch(directory, |reader| {
            let found = reader.rows_of(observations)?;
            let mut rows = found.of_each();
            let (mut unchanged, mut failed) = (BTreeMap::<_, RunTally>::new(), Ok(()));
            observations.retain(|one| {
                let Some(rows) = rows.next() else { return true };
                match version_of(&one.seen) {
                    Some(version) if rows.are_all_of(one, destinations) => {
                        if !one.place.is_alone(&one.path) {
                            let run = &one.path.as_bytes()[..one.place.run_length as usize];
                            tally_of(&mut unchanged, run).add(&one.path, version);
                        }
                        return false;
                    }
                    Some(_) if failed.is_ok() => failed = reader.add(&one.path, rows, None),
                    Some(_) | None => {}
                }
                true
            });
            let files = |(run, tally): (Vec<u8>, RunTally)| UnchangedFiles {
                run: SourcePath::from_bytes(&run),
                tally,
            };
            reader.found.unchanged = unchanged.into_iter().map(files).collect();
            failed
        })
    }

    /// Returns what is known about one file.
    pub fn known_versions(
        &self,
        directory: &DirectoryName,
        path: &SourcePath,
    ) -> std::result::Result<Vec<KnownFile>, Error> {
        let known = self.read_batch(directory, |reader| {
            let found = reader.rows_of_paths(&[path.as_bytes()])?;
            found.of_each().try_for_each(|rows| reader.add(path, rows, None))
        });
        known.map(|known| known.sent)
    }

    /// Reads in one transaction, so that everything shows one moment.
    fn read_batch(
        &self,
        directory: &DirectoryName,
        read: impl FnOnce(&mut CatalogueReader<'_>) -> Result<()>,
    ) -> std::result::Result<Catalogued, Error> {
        let mut reader = CatalogueReader {
            snapshot: self,
            directory,
            destination: DestinationName::new(""),
            found: Catalogued::default(),
        };
        self.at_one_moment(|| read(&mut reader))?.map_err(|source| self.failed(source))?;
        Ok(reader.found)
    }
}

fn version_of(seen: &Seen) -> Option<&Fingerprint> {
    match seen {
        Seen::File(version) | Seen::Unreadable(version, _) => Some(version),
        Seen::Ignored(_) | Seen::Gone => None,
    }
}

fn tally_of<'a>(unchanged: &'a mut BTreeMap<Vec<u8>, RunTally>, run: &[u8]) -> &'a mut RunTally {
    if !unchanged.contains_key(run) {
        unchanged.insert(run.to_vec(), RunTally::default());
    }
    unchanged.get_mut(run).expect("it is there")
}

/// The rows for the paths of a batch. One list for all, because a scan asks for millions of paths.
#[derive(Debug)]
struct BatchRows {
    /// Those of one path are adjacent.
    sent: Vec<SentRow>,
    paths: Vec<FoundPath>,
}

/// What was found for one path.
#[derive(Debug, Default, Clone, Copy)]
struct FoundPath {
    first: usize,
    count: usize,
    ignored: IgnoredRow,
}

/// The rows of one path, uploads in the order of their ids.
#[derive(Debug, Clone, Copy)]
struct PathRows<'a> {
    sent: &'a [SentRow],
    ignored: IgnoredRow,
}

impl BatchRows {
    fn of_each(&self) -> impl Iterator<Item = PathRows<'_>> {
        self.paths.iter().map(|path| PathRows {
            sent: &self.sent[path.first..path.first + path.count],
            ignored: path.ignored,
        })
    }
}

/// An upload that counts as sent.
#[derive(Debug)]
struct SentRow {
    id: i64,
    destination: DestinationName,
    version: Fingerprint,
}

/// Whether a path is among the ignored ones.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum IgnoredRow {
    #[default]
    None,
    Ignored,
    /// Its file was sent under another path.
    Moved,
}

impl PathRows<'_> {
    /// Returns whether an observed file is unchanged since it was sent to all these destinations,
    /// and the observer has nothing else to record.
    fn are_all_of(&self, one: &Observation, destinations: &[DestinationName]) -> bool {
        let (Seen::File(version), Some(newest)) = (&one.seen, self.sent.last()) else {
            return false;
        };
        let is_plain =
            self.ignored == IgnoredRow::None && !matches!(one.place.role, Role::Marker(_));
        let is_same = |row: &&SentRow| row.version.is_untouched(version);
        let same = || self.sent.iter().rev().take_while(is_same);
        is_plain
            && newest.version.is_untouched(version)
            && destinations.iter().all(|to| same().any(|row| row.destination == *to))
    }
}

struct CatalogueReader<'a> {
    snapshot: &'a Snapshot,
    directory: &'a DirectoryName,
    /// The destination of the previous row: most rows have the same.
    destination: DestinationName,
    found: Catalogued,
}

impl<'a> CatalogueReader<'a> {
    /// Returns the rows for each observation's path, in the order of the observations.
    fn rows_of(&mut self, observations: &[Observation]) -> Result<BatchRows> {
        let paths: Vec<_> = observations.iter().map(|one| one.path.as_bytes()).collect();
        self.rows_of_paths(&paths)
    }

    fn rows_of_paths(&mut self, paths: &[&[u8]]) -> Result<BatchRows> {
        let mut order: Vec<_> = (0..paths.len()).collect();
        order.sort_unstable_by_key(|number| paths[*number]);
        let sorted: Vec<_> = order.iter().map(|number| paths[*number]).collect();
        let mut found = BatchRows {
            sent: Vec::with_capacity(paths.len()),
            paths: vec![FoundPath::default(); paths.len()],
        };
        let mut sent = self.sent_statement()?;
        self.side_by_side(&mut sent, &sorted, |reader, number, row| {
            let path = &mut found.paths[order[number]];
            if path.count == 0 {
                path.first = found.sent.len();
            }
            path.count += 1;
            found.sent.push(reader.sent_row(row)?);
            Ok(())
        })?;
        let sql = "SELECT path, moved_upload IS NOT NULL FROM ignored \
            WHERE drop_name = ?1 AND path >= ?2 AND path <= ?3 ORDER BY path";
        let mut ignored = self.snapshot.connection.prepare_cached(sql)?;
        self.side_by_side(&mut ignored, &sorted, |_, number, row| {
            let is_moved = row.get(1)?;
            let row = if is_moved { IgnoredRow::Moved } else { IgnoredRow::Ignored };
            found.paths[order[number]].ignored = row;
            Ok(())
        })?;
        for path in found.paths.iter().filter(|path| path.count > 1) {
            found.sent[path.first..path.first + path.count].sort_unstable_by_key(|row| row.id);
        }
        Ok(found)
    }

    /// Merges rows sorted by path with sorted paths, and returns those with equal paths.
    fn side_by_side(
        &mut self,
        statement: &mut CachedStatement<'_>,
        paths: &[&[u8]],
        mut take: impl FnMut(&mut Self, usize, &Row<'_>) -> Result<()>,
    ) -> Result<()> {
        let Some(last) = paths.last() else { return Ok(()) };
        let mut next = 0;
        while next < paths.len() {
            let mut rows = statement.query((self.directory.as_str(), paths[next], last))?;
            let mut passed = 0;
            while passed <= PASSED_MAX {
                let Some(row) = rows.next()? else { return Ok(()) };
                let path = row.get_ref(0)?.as_blob()?;
                while paths.get(next).is_some_and(|wanted| *wanted < path) {
                    next += 1;
                }
                match paths.get(next) {
                    None => return Ok(()),
                    Some(wanted) if *wanted == path => {
                        take(self, next, row)?;
                        passed = 0;
                    }
                    Some(_) => passed += 1,
                }
            }
        }
        Ok(())
    }

    /// Returns the statement that reads uploads that count as sent, by their paths.
    fn sent_statement(&self) -> Result<CachedStatement<'a>> {
        let connection = &self.snapshot.connection;
        let mut resends = connection.prepare_cached("SELECT 1 FROM resends LIMIT 1")?;
        let (join, counts) = match resends.exists([])? {
            true => ("LEFT JOIN resends r ON r.destination = s.destination", COUNTS),
            false => ("", "true"),
        };
        connection.prepare_cached(&format!(
            "SELECT s.path, s.id, s.destination, s.device, s.inode, s.size_bytes, s.mtime_ns, \
                s.ctime_ns FROM uploads s {join} \
            WHERE s.drop_name = ?1 AND s.path >= ?2 AND s.path <= ?3 AND s.sentinel = 0 \
                AND (s.stage = 'receipted' OR s.stage = 'abandoned') AND {counts} ORDER BY s.path"
        ))
    }

    fn sent_row(&mut self, row: &Row<'_>) -> Result<SentRow> {
        let name = row.get_ref(2)?.as_str()?;
        if self.destination.as_str() != name {
            self.destination = DestinationName::new(name);
        }
        Ok(SentRow {
            id: row.get(1)?,
            destination: self.destination.clone(),
            version: rows::read_version(row, 3)?,
        })
    }

    /// Adds what is known about a file, including what was sent under the path it was moved from. With a
    /// `version`, also that this was sent under another path, where it is unknown under its own.
    fn add(
        &mut self,
        path: &SourcePath,
        rows: PathRows<'_>,
        version: Option<&Fingerprint>,
    ) -> Result<()> {
        let moved = match rows.ignored {
            IgnoredRow::Moved => self.moved(path)?,
            IgnoredRow::Ignored | IgnoredRow::None => Vec::new(),
        };
        let mut all: Vec<_> = rows.sent.iter().chain(&moved).collect();
        all.sort_by_key(|row| row.id);
        if let Some(version) = version
            && !all.iter().any(|row| row.version.same_version(version))
            && self.is_elsewhere(path, version)?
        {
            self.found.elsewhere.push(*version);
        }
        if all.is_empty() {
            return Ok(());
        }
        let digest = path.digest();
        let known = all.into_iter().map(|row| KnownFile {
            drop: self.directory.clone(),
            path: digest,
            fingerprint: row.version,
            destination: row.destination.clone(),
        });
        self.found.sent.extend(known);
        Ok(())
    }

    /// Returns what was sent under another path of a file that was moved here since.
    fn moved(&mut self, path: &SourcePath) -> Result<Vec<SentRow>> {
        let sql = format!(
            "SELECT i.path, i.moved_upload, s.destination, s.device, s.inode, s.size_bytes, \
                s.mtime_ns, i.ctime_ns \
            FROM ignored i JOIN uploads u ON u.id = i.moved_upload \
            JOIN uploads s ON s.path = u.path AND s.drop_name = u.drop_name AND s.inode = u.inode \
                AND s.size_bytes = u.size_bytes AND s.mtime_ns = u.mtime_ns \
            LEFT JOIN resends r ON r.destination = s.destination \
            WHERE i.drop_name = ?1 AND i.path = ?2 AND s.stage = 'receipted' AND s.sentinel = 0 \
                AND {COUNTS}"
        );
        let mut statement = self.snapshot.connection.prepare_cached(&sql)?;
        let mut found = statement.query((self.directory.as_str(), path.as_bytes()))?;
        let mut moved = Vec::new();
        while let Some(row) = found.next()? {
            moved.push(self.sent_row(row)?);
        }
        Ok(moved)
    }

    fn is_elsewhere(&self, path: &SourcePath, version: &Fingerprint) -> Result<bool> {
        let sql = "SELECT 1 FROM uploads WHERE inode = ?2 AND drop_name = ?1 \
            AND size_bytes = ?3 AND mtime_ns = ?4 AND path <> ?5 AND stage = 'receipted' LIMIT 1";
        self.snapshot.connection.prepare_cached(sql)?.exists((
            self.directory.as_str(),
            version.inode.cast_signed(),
            rows::saturated(version.size.0),
            version.mtime_ns,
            path.as_bytes(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::model::{
        Admission, AdmittedFile, ByteCount, Fact, IgnoreReason, PartSize, Place, Record, Target,
        TargetId, UploadId, WallTime,
    };
    use crate::store::Settings;
    use crate::store::writer::Writer;

    const AT: WallTime = WallTime(1);

    fn version(of: u8) -> Fingerprint {
        let ctime_ns = Some(i64::from(of % 2));
        let size = ByteCount(u64::from(of / 2));
        Fingerprint { device: 1, inode: 2, size, mtime_ns: 3, ctime_ns }
    }

    fn path(number: u8) -> SourcePath {
        SourcePath::from_bytes(format!("run-{}/{number:03}", number % 3).as_bytes())
    }

    fn destinations() -> [DestinationName; 2] {
        ["here", "there"].map(DestinationName::new)
    }

    /// An upload that counts as sent: abandoned, which takes the fewest facts.
    fn sent(id: i64, number: u8, of: u8, to: usize) -> [Record; 2] {
        let admission = Admission {
            id: UploadId(id),
            target_id: TargetId(1),
            destination: destinations()[to].clone(),
            target: Target::new([""], &id.to_string()),
            part_size: PartSize::new(4).unwrap(),
            rank: 0,
            at: AT,
            parked: None,
            decision: None,
            file: AdmittedFile {
                drop: DirectoryName::new("drop"),
                run: path(number),
                path: path(number),
                provenance: None,
                is_sentinel: false,
                fingerprint: version(of),
                root: None,
            },
        };
        let ended = Record::Upload(UploadId(id), Fact::Abandoned { at: AT });
        [Record::Admit(Box::new(admission)), ended]
    }

    fn observation(number: u8, of: u8) -> Observation {
        let path = path(number);
        let place = Place { run_length: 5, rank: 0, role: Role::Plain };
        Observation { path, place, seen: Seen::File(version(of)) }
    }

    fn snapshot_of(records: Vec<Record>) -> (tempfile::TempDir, Snapshot) {
        let directory = tempfile::tempdir().unwrap();
        let settings = Settings { directory: directory.path().to_owned(), is_new: false };
        let (mut writer, _) = Writer::open(&settings).unwrap();
        writer.apply(&[records]).unwrap();
        let snapshot = Snapshot::open(directory.path()).unwrap();
        (directory, snapshot)
    }

    fn differences(snapshot: &Snapshot, seen: &[Observation]) -> (Vec<SourcePath>, Catalogued) {
        let (drop, mut left) = (DirectoryName::new("drop"), seen.to_vec());
        let known = snapshot.differences(&drop, &destinations(), &mut left).unwrap();
        (left.into_iter().map(|one| one.path).collect(), known)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn a_scan_leaves_out_exactly_what_is_everywhere_in_its_newest_version(
            rows in prop::collection::vec((0_u8..120, 0_u8..4, 0_usize..2), 0..300),
            seen in prop::collection::btree_map(0_u8..120, 0_u8..4, 0..60),
        ) {
            let with_ids = rows.iter().zip(1_i64..);
            let records = with_ids.flat_map(|((number, of, to), id)| sent(id, *number, *of, *to));
            let (_directory, snapshot) = snapshot_of(records.collect());
            let all: Vec<_> = seen.iter().map(|(number, of)| observation(*number, *of)).collect();
            let (left, known) = differences(&snapshot, &all);
            let is_everywhere = |number: u8, of: u8| {
                let of_path = rows.iter().rev().filter(|row| row.0 == number);
                let newest = of_path.take_while(|row| row.1 == of);
                newest.map(|row| row.2).collect::<BTreeSet<_>>().len() == 2
            };
            let expected = seen.iter().filter(|(number, of)| !is_everywhere(**number, **of));
            prop_assert_eq!(left.clone(), expected.map(|(n, _)| path(*n)).collect::<Vec<_>>());
            let count: u64 = known.unchanged.iter().map(|files| files.tally.count).sum();
            prop_assert_eq!(count, (all.len() - left.len()) as u64);
            let drop = DirectoryName::new("drop");
            let each = left.iter().flat_map(|path| snapshot.known_versions(&drop, path).unwrap());
            prop_assert_eq!(known.sent, each.collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_the_engine_must_note_is_never_left_out() {
        let mut records: Vec<_> = [sent(1, 1, 0, 0), sent(2, 1, 0, 1)].concat();
        let seen = observation(1, 0);
        let (_directory, snapshot) = snapshot_of(records.clone());
        assert_eq!(differences(&snapshot, std::slice::from_ref(&seen)).0, []);
        let unreadable = Seen::Unreadable(version(0), "no".into());
        let marker = Place { role: Role::Marker(0), ..seen.place };
        let noted = [
            Observation { seen: unreadable, ..seen.clone() },
            Observation { seen: Seen::Gone, ..seen.clone() },
            Observation { place: marker, ..seen.clone() },
        ];
        for one in noted {
            let (left, _) = differences(&snapshot, std::slice::from_ref(&one));
            assert_eq!(left, [path(1)], "{one:?}");
        }
        let reason = IgnoreReason::Fifo;
        let (drop, path, at) = (DirectoryName::new("drop"), path(1), AT);
        records.push(Record::Ignored { drop, path: path.clone(), reason, at });
        let (_directory, snapshot) = snapshot_of(records);
        assert_eq!(differences(&snapshot, &[seen]).0, [path], "it is not ignored any more");
    }
}
