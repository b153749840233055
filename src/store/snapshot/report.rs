//! Reads the summary of a period.

use rusqlite::Row;

use super::{Result, Snapshot};
use crate::model::notice::ITEMS_MAX;
use crate::model::{
    ByteCount, DirectoryName, NoticeFacts, NoticeItem, NoticeNumber, SourcePath, WallTime,
};
use crate::store::Error;
use crate::store::rows::{self, IS_ENDED};

const RUNS: &str = "SELECT drop_name, run, file_count, size_bytes FROM runs \
    WHERE completed_at_ns >= ?1 AND completed_at_ns < ?2 ORDER BY completed_at_ns";

impl Snapshot {
    /// Returns what was completed in a period, and what is parked.
    pub fn report(
        &self,
        from: WallTime,
        until: WallTime,
    ) -> std::result::Result<NoticeFacts, Error> {
        self.read_report(from, until).map_err(|source| self.failed(source))
    }

    fn read_report(&self, from: WallTime, until: WallTime) -> Result<NoticeFacts> {
        let transaction = self.connection.unchecked_transaction()?;
        let list = |sql: &str| -> Result<Vec<NoticeItem>> {
            let mut statement = self.connection.prepare(sql)?;
            statement.query_map([from.0, until.0], read_item)?.collect()
        };
        let runs = list(RUNS)?;
        // A file that went to several destinations counts once.
        let files = list(&format!(
            "SELECT drop_name, x'', count(*), ifnull(sum(size_bytes), 0) FROM ( \
                SELECT DISTINCT drop_name, path, size_bytes FROM uploads WHERE {IS_ENDED} \
                AND ended_at_ns >= ?1 AND ended_at_ns < ?2 AND stage = 'receipted' \
                AND run IS NULL AND sentinel = 0) GROUP BY drop_name"
        ))?;
        let parked = "SELECT upload_count, size_bytes FROM tallies WHERE state = 'parked'";
        let (parked_count, parked_size) = self.connection.query_row(parked, [], |row| {
            Ok((rows::unsigned_at(row, 0)?, rows::unsigned_at(row, 1)?))
        })?;
        let times = "SELECT ifnull(sum(took) / count(*), 0), ifnull(max(took), 0) FROM ( \
            SELECT (completed_at_ns - closed_at_ns) / 1000000000 AS took FROM runs \
            WHERE completed_at_ns >= ?1 AND completed_at_ns < ?2 AND completed_at_ns >= closed_at_ns)";
        let (mean, most) = self.connection.query_row(times, [from.0, until.0], |row| {
            Ok((rows::unsigned_at(row, 0)?, rows::unsigned_at(row, 1)?))
        })?;
        transaction.finish()?;
        let run_count = runs.len() as u64;
        let mut items = [runs, files].concat();
        let file_count = items.iter().map(|item| item.file_count).sum();
        let size = items.iter().fold(0, |size: u64, item| size.saturating_add(item.size.0));
        items.truncate(ITEMS_MAX);
        let facts = NoticeFacts { items, ..NoticeFacts::default() };
        let facts = facts.with_time(NoticeNumber::From, from).with_time(NoticeNumber::Until, until);
        let facts = facts.with(NoticeNumber::Runs, run_count).with(NoticeNumber::Files, file_count);
        let facts = facts.with(NoticeNumber::Bytes, size).with(NoticeNumber::Parked, parked_count);
        let facts = facts.with(NoticeNumber::ParkedBytes, parked_size);
        if most == 0 {
            return Ok(facts);
        }
        let facts = facts.with(NoticeNumber::SecondsToThereMean, mean);
        Ok(facts.with(NoticeNumber::SecondsToThereMax, most))
    }
}

fn read_item(row: &Row<'_>) -> Result<NoticeItem> {
    Ok(NoticeItem {
        upload: None,
        drop: DirectoryName::new(row.get::<_, String>(0)?),
        name: SourcePath::from_bytes(row.get_ref(1)?.as_blob()?).to_string(),
        file_count: rows::unsigned_at(row, 2)?,
        size: ByteCount(rows::unsigned_at(row, 3)?),
    })
}
