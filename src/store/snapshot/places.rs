//! The state of drop directories and destinations, from their rows.

use std::time::Duration;

use rusqlite::Row;

use super::shown::{DestinationShown, DropShown};
use super::{Result, Snapshot};
use crate::model::{Learned, WallTime};
use crate::store::Error;

/// A smaller difference may be the time of an answer.
const CLOCK_OFF_MIN: Duration = Duration::from_secs(30);

/// Reads destinations, with the learned properties of their targets.
pub(super) const DESTINATIONS: &str = "SELECT *, (SELECT group_concat(what) FROM destination_targets t \
    JOIN target_learned USING (target_id) WHERE t.destination = destination_health.destination) \
    AS learned, (SELECT group_concat(kind || '=' || failure_count) FROM failures f \
    WHERE f.destination = destination_health.destination) AS failures FROM destination_health";

impl Snapshot {
    /// Returns every destination, past and present, from its row.
    pub fn destinations(&self) -> std::result::Result<Vec<DestinationShown>, Error> {
        self.list(DESTINATIONS, read_destination).map_err(|source| self.failed(source))
    }

    pub(super) fn read_drops(&self) -> Result<Vec<DropShown>> {
        let meant = self.selection.of_drops();
        let sql = format!(
            "SELECT * FROM drop_health WHERE is_configured = 1 AND {meant} ORDER BY drop_name"
        );
        self.list(&sql, read_drop)
    }
}

fn read_drop(row: &Row<'_>) -> Result<DropShown> {
    Ok(DropShown {
        name: row.get("drop_name")?,
        directory: row.get("directory")?,
        watch: row.get("watch")?,
        reason: row.get("reason")?,
        last_full_scan_at: row.get::<_, Option<i64>>("last_full_scan_at_ns")?.map(WallTime),
    })
}

pub(super) fn read_destination(row: &Row<'_>) -> Result<DestinationShown> {
    Ok(DestinationShown {
        name: row.get("destination")?,
        platform: row.get("platform")?,
        state: row.get("state")?,
        reason: row.get("reason")?,
        since: WallTime(row.get("since_ns")?),
        next_try_at: row.get::<_, Option<i64>>("next_try_at_ns")?.map(WallTime),
        is_paced: false,
        clock_behind_ns: row.get("clock_behind_ns")?,
        learned: {
            let words = row.get_ref("learned")?.as_str_or_null()?.unwrap_or_default();
            let mut learned: Vec<_> = words.split(',').filter_map(Learned::parse).collect();
            learned.sort_unstable();
            learned.dedup();
            learned
        },
        failures: {
            let counts = row.get_ref("failures")?.as_str_or_null()?.unwrap_or_default();
            let count = |text: &str| {
                let (kind, count) = text.split_once('=')?;
                Some((kind.to_owned(), count.parse().ok()?))
            };
            counts.split(',').filter_map(count).collect()
        },
    })
}

impl DestinationShown {
    /// Returns whether it has ever accepted a request of an upload.
    pub fn has_worked(&self) -> bool {
        self.learned.contains(&Learned::Works)
    }

    /// Returns the properties that people should know: a check is missing, or work takes longer.
    pub fn notable(&self) -> impl Iterator<Item = &'static str> {
        self.learned.iter().filter(|what| what.is_notable()).map(|what| what.sentence())
    }

    /// Describes how far this machine's clock differs from its own, where that is too much.
    pub fn clock_text(&self) -> Option<String> {
        let off = Duration::from_nanos(self.clock_behind_ns.unsigned_abs());
        let way = if self.clock_behind_ns > 0 { "behind" } else { "ahead of" };
        (off >= CLOCK_OFF_MIN)
            .then(|| format!("this machine's clock is {} s {way} its own", off.as_secs()))
    }
}
