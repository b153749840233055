//! Counts of uploads by state, by run and by target: kept, not counted.
//!
//! A transaction sums up what its uploads add to each count, and writes each row of counts once. No sum
//! leaves the numbers that a row can hold: a file counts as 256 TiB at most, more than any platform takes,
//! so that what it adds can be taken off again; a sum ends at the largest number and at zero. *At a crash*
//! counts are of the same commit as the rows they count.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::Result;
use super::record::drop_count;
use crate::model::{
    Admission, ByteCount, DestinationName, DirectoryName, SourcePath, Stage, TargetId, UploadState,
};

/// A file counts as this at most.
const COUNTED_MAX: u64 = 1 << 48;

/// Where an upload is counted, besides its state.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct CountedFor {
    pub(super) drop: DirectoryName,
    /// Empty where the file is a run of its own.
    pub(super) run: SourcePath,
    pub(super) destination: DestinationName,
    /// It is counted for neither run nor target.
    pub(super) is_sentinel: bool,
}

impl CountedFor {
    pub(super) fn of(admission: &Admission) -> Self {
        let file = &admission.file;
        let is_alone = file.run == file.path;
        Self {
            drop: file.drop.clone(),
            run: if is_alone { SourcePath::from_bytes(b"") } else { file.run.clone() },
            destination: admission.destination.clone(),
            is_sentinel: file.is_sentinel,
        }
    }
}

/// What an upload adds to the counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counted {
    word: &'static str,
    is_receipted: bool,
    size: u64,
    accepted: u64,
    sent: u64,
    in_flight: u64,
}

impl Counted {
    pub(super) fn of(state: &UploadState, size: ByteCount, accepted: u64) -> Self {
        Self {
            word: state.word(),
            is_receipted: matches!(state.stage, Stage::Receipted { .. }),
            size: size.0,
            accepted,
            sent: state.wire.sent.0,
            in_flight: state.wire.in_flight.0,
        }
    }

    /// In the order of the columns of `tallies`.
    fn by_state(self) -> [i128; 6] {
        let again = self.sent.saturating_sub(self.accepted);
        let bytes = [self.size, self.accepted, self.sent, again, self.in_flight];
        let [size, accepted, sent, again, in_flight] = bytes.map(counted);
        [1, size, accepted, sent, again, in_flight]
    }

    /// Uploads, completed ones, parked ones, and bytes of size and accepted.
    fn by_run(self) -> [i128; 5] {
        if self.word == "abandoned" {
            return [0; 5];
        }
        let is = |word: &str| i128::from(self.word == word);
        [1, is("completed"), is("parked"), counted(self.size), counted(self.accepted)]
    }
}

fn counted(bytes: u64) -> i128 {
    bytes.min(COUNTED_MAX).into()
}

/// What one transaction adds.
#[derive(Debug, Default)]
pub(super) struct Tallies {
    states: BTreeMap<&'static str, [i128; 6]>,
    runs: BTreeMap<CountedFor, RunAdded>,
    completed: BTreeMap<(DestinationName, TargetId), i64>,
}

#[derive(Debug, Default)]
struct RunAdded {
    counts: [i128; 5],
    newest: i64,
    /// When something of it was admitted, begun, completed or had its receipt.
    last_activity_ns: i64,
}

fn add<const N: usize>(sums: &mut [i128; N], more: [i128; N]) {
    sums.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
}

impl Tallies {
    /// Counts an upload that was admitted.
    pub(super) fn admitted(&mut self, of: &CountedFor, admission: &Admission, now: Counted) {
        add(self.states.entry(now.word).or_default(), now.by_state());
        if !of.is_sentinel {
            let run = self.run(of);
            add(&mut run.counts, now.by_run());
            run.newest = run.newest.max(admission.id.0);
            run.last_activity_ns = run.last_activity_ns.max(admission.at.0);
        }
    }

    /// Counts an upload that moved; `at` is the last of its times that were written with that.
    pub(super) fn moved(
        &mut self,
        of: &CountedFor,
        target: TargetId,
        [was, now]: [Counted; 2],
        at: Option<i64>,
    ) {
        if was != now {
            add(self.states.entry(was.word).or_default(), was.by_state().map(|count| -count));
            add(self.states.entry(now.word).or_default(), now.by_state());
        }
        if of.is_sentinel || (was == now && at.is_none()) {
            return;
        }
        let run = self.run(of);
        add(&mut run.counts, was.by_run().map(|count| -count));
        add(&mut run.counts, now.by_run());
        run.last_activity_ns = run.last_activity_ns.max(at.unwrap_or(0));
        if now.is_receipted && !was.is_receipted {
            *self.completed.entry((of.destination.clone(), target)).or_default() += 1;
        }
    }

    fn run(&mut self, of: &CountedFor) -> &mut RunAdded {
        if !self.runs.contains_key(of) {
            self.runs.insert(of.clone(), RunAdded::default());
        }
        self.runs.get_mut(of).expect("it is there")
    }

    /// Writes each row of counts to which something is added.
    pub(super) fn write(&mut self, connection: &Connection) -> Result<()> {
        for (word, added) in std::mem::take(&mut self.states) {
            write_state(connection, word, added)?;
        }
        for (of, added) in std::mem::take(&mut self.runs) {
            write_run(connection, &of, &added)?;
        }
        for ((destination, target), count) in std::mem::take(&mut self.completed) {
            let sql = "INSERT INTO target_tallies VALUES (?1, ?2, ?3) \
                ON CONFLICT DO UPDATE SET completed_count = completed_count + ?3";
            let row = (destination.as_str(), target.0, count);
            connection.prepare_cached(sql)?.execute(row)?;
        }
        Ok(())
    }
}

fn write_state(connection: &Connection, word: &str, added: [i128; 6]) -> Result<()> {
    let sql = "SELECT upload_count, size_bytes, accepted_bytes, bytes_sent, bytes_sent_again, \
        bytes_in_flight FROM tallies WHERE state = ?1";
    let stored = connection.prepare_cached(sql)?.query_row([word], row_of)?;
    let [count, size, accepted, sent, again, in_flight] = sums(stored, added);
    let sql = "UPDATE tallies SET upload_count = ?2, size_bytes = ?3, accepted_bytes = ?4, \
        bytes_sent = ?5, bytes_sent_again = ?6, bytes_in_flight = ?7 WHERE state = ?1";
    let row = (word, count, size, accepted, sent, again, in_flight);
    connection.prepare_cached(sql)?.execute(row).map(drop_count)
}

fn write_run(connection: &Connection, of: &CountedFor, added: &RunAdded) -> Result<()> {
    let key = (of.drop.as_str(), of.run.as_bytes(), of.destination.as_str());
    let sql = "SELECT upload_count, completed_count, parked_count, size_bytes, accepted_bytes \
        FROM run_tallies WHERE drop_name = ?1 AND run = ?2 AND destination = ?3";
    let stored = connection.prepare_cached(sql)?.query_row(key, row_of).optional()?;
    let counts = sums(stored.unwrap_or_default(), added.counts);
    let sql = "INSERT INTO run_tallies VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) \
        ON CONFLICT DO UPDATE SET upload_count = ?4, completed_count = ?5, parked_count = ?6, \
        newest_id = max(newest_id, ?7), size_bytes = ?8, accepted_bytes = ?9, \
        last_activity_at_ns = max(last_activity_at_ns, ?10)";
    let [count, completed, parked, size, accepted] = counts;
    connection.prepare_cached(sql)?.execute(params![
        key.0,
        key.1,
        key.2,
        count,
        completed,
        parked,
        added.newest,
        size,
        accepted,
        added.last_activity_ns,
    ])?;
    Ok(())
}

fn row_of<const N: usize>(row: &Row<'_>) -> Result<[i64; N]> {
    let mut counts = [0; N];
    for (index, count) in counts.iter_mut().enumerate() {
        *count = row.get(index)?;
    }
    Ok(counts)
}

fn sums<const N: usize>(stored: [i64; N], added: [i128; N]) -> [i64; N] {
    let mut sums = stored;
    for (sum, added) in sums.iter_mut().zip(added) {
        let whole = i128::from(*sum).saturating_add(added).clamp(0, i64::MAX.into());
        *sum = i64::try_from(whole).unwrap_or(i64::MAX);
    }
    sums
}
