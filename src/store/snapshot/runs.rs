//! The newest runs, and how many of their files are there.
//!
//! Reads so many uploads and no more, for there may be hundreds of thousands: first backwards over
//! the newest for the names of runs, then each run by its paths, which have an index.

use rusqlite::params;

use super::{Result, Run, Snapshot};
use crate::model::SourcePath;
use crate::store::{Error, rows};

/// Runs listed at most.
const RUNS_MAX: usize = 20;
/// Uploads that are looked at for the names of runs.
const NEWEST: u32 = 20_000;
/// After so many uploads were counted, no further run is.
const COUNTED_MAX: u64 = 20_000;

/// A run's uploads to one destination.
struct Counted {
    destination: String,
    upload_count: u64,
    completed_count: u64,
    parked_count: u64,
}

impl Snapshot {
    /// Returns the newest runs: how many of their files are there. The numbers are exact; where runs
    /// are big, fewer are listed.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn runs(&self) -> std::result::Result<Vec<Run>, Error> {
        self.read_runs().map_err(|source| self.failed(source))
    }

    fn read_runs(&self) -> Result<Vec<Run>> {
        let (mut runs, mut counted) = (Vec::new(), 0);
        for (drop, name) in self.newest_runs()? {
            if counted >= COUNTED_MAX || runs.len() >= RUNS_MAX {
                break;
            }
            for at in self.count_run(&drop, &name)? {
                counted += at.upload_count;
                runs.push(Run {
                    drop: drop.clone(),
                    name: SourcePath::from_bytes(&name),
                    destination: at.destination,
                    upload_count: at.upload_count,
                    completed_count: at.completed_count,
                    parked_count: at.parked_count,
                });
            }
        }
        Ok(runs)
    }

    /// Names of drop directories and runs, those with the newest upload first.
    fn newest_runs(&self) -> Result<Vec<(String, Vec<u8>)>> {
        let sql = format!(
            "SELECT drop_name, path FROM uploads WHERE state <> 'abandoned' \
            ORDER BY id DESC LIMIT {NEWEST}"
        );
        let mut statement = self.connection.prepare(&sql)?;
        let mut rows = statement.query([])?;
        let mut found: Vec<(String, Vec<u8>)> = Vec::new();
        while let Some(row) = rows.next()? {
            let (drop, path) = (row.get_ref(0)?.as_str()?, row.get_ref(1)?.as_blob()?);
            let end = path.iter().position(|byte| *byte == b'/').unwrap_or(0);
            let is_it = |run: &(String, Vec<u8>)| run.0 == drop && run.1 == path[..end];
            if !found.iter().any(is_it) {
                found.push((drop.to_owned(), path[..end].to_vec()));
            }
            if found.len() >= RUNS_MAX {
                break;
            }
        }
        Ok(found)
    }

    fn count_run(&self, drop: &str, name: &[u8]) -> Result<Vec<Counted>> {
        // What is below a directory begins with its name and a slash; the byte after it is 0.
        let (from, to) = ([name, b"/"].concat(), [name, b"0"].concat());
        let which = match name {
            b"" => "instr(path, x'2f') = 0 AND ?2 < ?3",
            _ => "path >= ?2 AND path < ?3",
        };
        let sql = format!(
            "SELECT destination, count(*), sum(state = 'completed'), sum(state = 'parked') \
            FROM uploads INDEXED BY uploads_path \
            WHERE {which} AND drop_name = ?1 AND state <> 'abandoned' \
            GROUP BY destination ORDER BY max(id) DESC"
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let counted = statement.query_map(params![drop, from, to], |row| {
            Ok(Counted {
                destination: row.get(0)?,
                upload_count: rows::unsigned_at(row, 1)?,
                completed_count: rows::unsigned_at(row, 2)?,
                parked_count: rows::unsigned_at(row, 3)?,
            })
        })?;
        counted.collect()
    }
}
