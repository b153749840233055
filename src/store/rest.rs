//! Rows that a start reads in the background: queued uploads, then the known versions of their files.
//!
//! There may be hundreds of thousands, and none is needed before the first part is sent. Known versions
//! of other files are read when they are observed ([`super::snapshot::Snapshot::catalogued`]). All come
//! from one view of the database, from before this process wrote anything, in portions, so that they are
//! never all in memory as rows. *Promises*: the uploads in [`super::Loaded`] are excluded; uploads come
//! in the order of their ids, all before the first file; files come in the order of their uploads. *At a
//! crash* nothing is lost.

use std::collections::BTreeSet;
use std::iter::Peekable;
use std::thread::JoinHandle;
use std::time::Duration;
use std::vec::IntoIter;

use rusqlite::{Connection, InterruptHandle, Row, Rows};

use super::columns::at;
use super::rows::{self, IS_OPEN};
use super::schema::{self, FILE_NAME};
use super::{Error, Loaded, Settings};
use crate::model::{
    DestinationName, DirectoryName, KnownFile, PathDigest, StoredRows, StoredState, StoredUpload,
    UploadId,
};

/// Interval at which a stop checks whether the thread has ended.
const STOP_PAUSE: Duration = Duration::from_millis(1);

type Result<T> = std::result::Result<T, rusqlite::Error>;

/// A view of the rows that a start has not read.
#[derive(Debug)]
pub struct Rest {
    connection: Connection,
    settings: Settings,
    /// Uploads that were read already.
    loaded: BTreeSet<UploadId>,
}

/// The thread that reads.
pub struct RestReader {
    thread: JoinHandle<()>,
    statement: InterruptHandle,
}

impl RestReader {
    /// Ends it, whatever it does. Its portions must not be received any more.
    pub fn finish(self) {
        while !self.thread.is_finished() {
            self.statement.interrupt();
            std::thread::sleep(STOP_PAUSE);
        }
        // A panic aborts the process, so the thread can only have ended well.
        self.thread.join().unwrap_or(());
    }
}

impl std::fmt::Debug for RestReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("RestReader").field(&self.thread).finish()
    }
}

impl Rest {
    /// Opens it, before anything is written.
    ///
    /// # Errors
    /// See [`super::Kind`].
    pub fn open(settings: &Settings, loaded: &Loaded) -> std::result::Result<Self, Error> {
        let connection = schema::open_for_reading(&settings.directory)?;
        let loaded = loaded.state.uploads.iter().map(|upload| upload.admission.id).collect();
        let rest = Self { connection, settings: settings.clone(), loaded };
        // The view is fixed at its first read, not at its begin.
        let begin = "BEGIN; SELECT count(*) FROM tallies";
        rest.connection.execute_batch(begin).map_err(|source| rest.failed(source))?;
        Ok(rest)
    }

    /// Passes everything to `take` on a thread of its own, at most `size` rows at a time, and then
    /// an end, until `take` returns false. A database that was too large to check when it was
    /// opened is checked here, and its damage is passed too.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(
        self,
        size: usize,
        mut take: impl FnMut(std::result::Result<StoredRows, Error>) -> bool + Send + 'static,
    ) -> std::result::Result<RestReader, Error> {
        let path = self.settings.directory.clone();
        let statement = self.connection.get_interrupt_handle();
        let run = move || {
            let read = self.read(size, |rows| take(Ok(rows)));
            let is_wanted = read.is_ok();
            if take(read.map(|()| StoredRows::End))
                && is_wanted
                && let Err(error) = self.check()
            {
                // A caller that wants no more needs no verdict.
                let _is_taken = take(Err(error));
            }
        };
        let thread = std::thread::Builder::new()
            .name("loader".into())
            .spawn(run)
            .map_err(|source| Error::io("start the reader of", &path, source))?;
        Ok(RestReader { thread, statement })
    }

    fn check(&self) -> std::result::Result<(), Error> {
        let directory = &self.settings.directory;
        // The view may be older than the state to check.
        self.connection.execute_batch("COMMIT").map_err(|source| self.failed(source))?;
        match schema::is_checked_at_open(directory) {
            true => Ok(()),
            false => schema::check(&self.connection, directory),
        }
    }

    /// Passes everything to `take`, at most `size` rows at a time, until `take` returns false.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn read(
        &self,
        size: usize,
        mut take: impl FnMut(StoredRows) -> bool,
    ) -> std::result::Result<(), Error> {
        let read = || {
            let uploads = self.uploads(size, |page| take(StoredRows::Uploads(page)))?;
            if uploads {
                self.known(size, |page| take(StoredRows::Known(page)))?;
            }
            Ok(())
        };
        let done: Result<()> = { read }();
        done.map_err(|source| self.failed(source))
    }

    fn failed(&self, source: rusqlite::Error) -> Error {
        Error::sqlite("read", &self.settings.directory.join(FILE_NAME), source)
    }

    /// Reads the remaining uploads.
    fn uploads(&self, size: usize, take: impl FnMut(Vec<StoredUpload>) -> bool) -> Result<bool> {
        let sql = format!("SELECT * FROM uploads WHERE {IS_OPEN} ORDER BY id");
        let mut statement = self.connection.prepare(&sql)?;
        let mut found = statement.query([])?;
        let (mut names, mut pages) = (SharedNames::default(), Pages::new(size, take));
        while let Some(row) = found.next()? {
            if self.loaded.contains(&UploadId(row.get(at!("id"))?)) {
                continue;
            }
            let mut upload = rows::read_upload(&self.connection, row)?;
            names.share(&mut upload.admission.file.drop, &mut upload.admission.destination);
            if !pages.add(upload) {
                return Ok(false);
            }
        }
        Ok(pages.finish())
    }

    fn known(&self, size: usize, take: impl FnMut(Vec<KnownFile>) -> bool) -> Result<()> {
        known(&self.connection, size, take)
    }
}

/// Excludes uploads that do not count as sent: their sources are sent again, to another target.
pub(super) const COUNTS: &str = "(r.destination IS NULL OR s.id >= r.before_id OR s.target_id = r.target_id \
    OR EXISTS (SELECT 1 FROM destination_targets d \
        WHERE d.destination = s.destination AND d.target_id = s.target_id))";

/// Reads the rows for a configuration that adds drop directories or destinations.
#[derive(Debug)]
pub struct Again {
    connection: Connection,
    settings: Settings,
}

impl Again {
    /// Opens it; it sees everything that was committed before.
    ///
    /// # Errors
    /// See [`super::Kind`].
    pub fn open(settings: &Settings) -> std::result::Result<Self, Error> {
        let connection = schema::open_for_reading(&settings.directory)?;
        let again = Self { connection, settings: settings.clone() };
        let begin = "BEGIN; SELECT count(*) FROM tallies";
        again.connection.execute_batch(begin).map_err(|source| again.failed(source))?;
        Ok(again)
    }

    fn failed(&self, source: rusqlite::Error) -> Error {
        Error::sqlite("read", &self.settings.directory.join(FILE_NAME), source)
    }

    /// Returns the rows of drop directories other than their files.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn drops(
        &self,
        drops: &BTreeSet<DirectoryName>,
    ) -> std::result::Result<StoredState, Error> {
        super::writer::load::of_drops(&self.connection, drops).map_err(|source| self.failed(source))
    }

    /// Passes the files of drop directories that count as sent to `take`, about `size` at a time,
    /// until it returns false.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn known(
        &self,
        drops: &BTreeSet<DirectoryName>,
        size: usize,
        mut take: impl FnMut(Vec<KnownFile>) -> bool,
    ) -> std::result::Result<(), Error> {
        let of_drops = |mut page: Vec<KnownFile>| {
            page.retain(|file| drops.contains(&file.drop));
            page.is_empty() || take(page)
        };
        known(&self.connection, size, of_drops).map_err(|source| self.failed(source))
    }
}

/// Reads the known versions of files with an open upload, in the order of their uploads.
fn known(
    connection: &Connection,
    size: usize,
    take: impl FnMut(Vec<KnownFile>) -> bool,
) -> Result<()> {
    let sql = format!(
        "SELECT s.id, s.drop_name, s.path, s.destination, s.device, s.inode, \
            s.size_bytes, s.mtime_ns, s.ctime_ns \
            FROM (SELECT DISTINCT path, drop_name FROM uploads WHERE {IS_OPEN}) o \
            JOIN uploads s ON s.path = o.path AND s.drop_name = o.drop_name \
            LEFT JOIN resends r ON r.destination = s.destination \
            WHERE s.stage IN ('receipted', 'abandoned') AND s.sentinel = 0 AND {COUNTS} \
            ORDER BY s.id"
    );
    let mut moved = moved(connection)?;
    let mut statement = connection.prepare(&sql)?;
    let mut found = statement.query([])?;
    let (mut names, mut pages) = (SharedNames::default(), Pages::new(size, take));
    while let Some((id, file)) = next_known(&mut found, &mut names)? {
        while let Some((_, earlier)) = moved.next_if(|(of, _)| *of < id) {
            if !pages.add(earlier) {
                return Ok(());
            }
        }
        if !pages.add(file) {
            return Ok(());
        }
    }
    for (_, file) in moved {
        if !pages.add(file) {
            return Ok(());
        }
    }
    pages.finish();
    Ok(())
}

/// Names of the previous row. Thousands of successive rows have the same ones.
#[derive(Default)]
pub(super) struct SharedNames(Option<(DirectoryName, DestinationName)>);

impl SharedNames {
    /// Returns names, shared with the previous row when they are the same.
    fn of(&mut self, drop: &str, destination: &str) -> (DirectoryName, DestinationName) {
        match &self.0 {
            Some(names) if names.0.as_str() == drop && names.1.as_str() == destination => {
                names.clone()
            }
            Some(_) | None => {
                let names = (DirectoryName::new(drop), DestinationName::new(destination));
                self.0.insert(names).clone()
            }
        }
    }

    /// Replaces names by those of the previous row when they are the same.
    pub(super) fn share(&mut self, drop: &mut DirectoryName, destination: &mut DestinationName) {
        let names = self.of(drop.as_str(), destination.as_str());
        (*drop, *destination) = names;
    }
}

/// Collects rows into portions and passes them on; returns whether all were accepted.
struct Pages<T, F> {
    size: usize,
    page: Vec<T>,
    take: F,
}

impl<T, F: FnMut(Vec<T>) -> bool> Pages<T, F> {
    fn new(size: usize, take: F) -> Self {
        Self { size, page: Vec::new(), take }
    }

    fn add(&mut self, row: T) -> bool {
        self.page.push(row);
        self.page.len() < self.size || (self.take)(std::mem::take(&mut self.page))
    }

    fn finish(mut self) -> bool {
        self.page.is_empty() || (self.take)(self.page)
    }
}

/// Moved files, by the upload that they are known from.
type MovedFiles = Peekable<IntoIter<(i64, KnownFile)>>;

fn moved(connection: &Connection) -> Result<MovedFiles> {
    let sql = format!(
        "SELECT i.moved_upload, i.drop_name, i.path, s.destination, s.device, s.inode, \
        s.size_bytes, s.mtime_ns, i.ctime_ns FROM ignored i JOIN uploads u ON u.id = i.moved_upload \
        JOIN uploads s ON s.path = u.path AND s.drop_name = u.drop_name AND s.inode = u.inode \
            AND s.size_bytes = u.size_bytes AND s.mtime_ns = u.mtime_ns \
        LEFT JOIN resends r ON r.destination = s.destination \
        WHERE {COUNTS} AND s.stage = 'receipted' AND s.sentinel = 0 AND i.moved_upload IS NOT NULL \
        AND EXISTS (SELECT 1 FROM uploads o \
            WHERE o.path = i.path AND o.drop_name = i.drop_name AND {IS_OPEN}) \
        ORDER BY i.moved_upload"
    );
    let mut statement = connection.prepare(&sql)?;
    let (mut found, mut names) = (statement.query([])?, SharedNames::default());
    let mut moved = Vec::new();
    while let Some(row) = next_known(&mut found, &mut names)? {
        moved.push(row);
    }
    Ok(moved.into_iter().peekable())
}

fn next_known(found: &mut Rows<'_>, names: &mut SharedNames) -> Result<Option<(i64, KnownFile)>> {
    found.next()?.map(|row| read_known(row, names)).transpose()
}

fn read_known(row: &Row<'_>, names: &mut SharedNames) -> Result<(i64, KnownFile)> {
    let (drop, destination) = names.of(row.get_ref(1)?.as_str()?, row.get_ref(3)?.as_str()?);
    let file = KnownFile {
        drop,
        path: PathDigest::of(row.get_ref(2)?.as_blob()?),
        destination,
        fingerprint: rows::read_version(row, 4)?,
    };
    Ok((row.get(0)?, file))
}
