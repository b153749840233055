//! What the status page reads besides `status`.

use std::path::Path;

use rusqlite::types::Value;

use super::{Result, Snapshot, read_upload};
use crate::model::{DirectoryName, Scope, SourcePath, UploadId};
use crate::store::Error;
use crate::store::rows::IS_OPEN;
use crate::store::snapshot::UploadShown;

/// Limit of the uploads that a search returns.
const FOUND_MAX: u32 = 200;

impl Snapshot {
    /// Opens a view of one run: a directory, or a file that is a run of its own.
    pub fn of_run(
        directory: &Path,
        drop: &DirectoryName,
        run: &SourcePath,
    ) -> std::result::Result<Self, Error> {
        let mut snapshot = Self::open(directory)?;
        let of_file = || {
            let sql = "SELECT id FROM uploads WHERE path = ?1 AND drop_name = ?2 AND run IS NULL";
            snapshot.rows_of(sql, (run.as_bytes(), drop.as_str()), |row| row.get(0).map(UploadId))
        };
        let uploads = of_file().map_err(|source| snapshot.failed(source))?;
        let mut scopes = vec![Scope::Run(drop.clone(), run.clone())];
        scopes.extend(uploads.into_iter().map(Scope::Upload));
        snapshot.select(&scopes)?;
        Ok(snapshot)
    }

    /// Finds uploads whose paths contain a text, ignoring case: open ones first.
    pub fn search(
        &self,
        text: &str,
        drop: Option<&str>,
        run: Option<&SourcePath>,
    ) -> std::result::Result<Vec<UploadShown>, Error> {
        let find = || -> Result<Vec<UploadShown>> {
            let sql = format!(
                "SELECT * FROM uploads WHERE instr(lower(CAST(path AS TEXT)), lower(?1)) > 0 \
                AND (?2 IS NULL OR drop_name = ?2) AND (?3 IS NULL OR run = ?3) \
                ORDER BY {IS_OPEN} DESC, id DESC LIMIT {FOUND_MAX}"
            );
            let run = run.map(|run| Value::Blob(run.as_bytes().to_vec()));
            self.rows_of(&sql, (text, drop, run), read_upload)
        };
        find().map_err(|source| self.failed(source))
    }
}
