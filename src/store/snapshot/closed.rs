//! Uploads whose destination takes no calls: they wait for it, and no row of theirs says so.

use std::time::Duration;

use rusqlite::Row;

use super::selection::SUMS;
use super::shown::{DestinationShown, Tally, UploadShown, Wait};
use super::{Result, Snapshot, read_tally};
use crate::model::{Hold, Learned, Stage, WallTime};
use crate::store::Error;
use crate::store::rows::IS_OPEN;

/// Less is how long an answer takes.
const CLOCK_OFF_MIN: Duration = Duration::from_secs(30);

/// Reads destinations, with what the answers of the targets that they have showed.
pub(super) const DESTINATIONS: &str = "SELECT *, (SELECT group_concat(what) FROM destination_targets t \
    JOIN target_learned USING (target_id) WHERE t.destination = destination_health.destination) \
    AS learned FROM destination_health";

impl Snapshot {
    /// Has uploads that wait for their destination be shown so, and counted so.
    pub(super) fn note_closed(
        &self,
        destinations: &[DestinationShown],
        tallies: &mut [Tally],
        uploads: &mut [UploadShown],
    ) -> Result<()> {
        for destination in destinations.iter().filter(|destination| !destination.is_open()) {
            uploads.iter_mut().for_each(|upload| upload.note_closed(destination));
            for held in self.tally_held(destination)? {
                recount(tallies, &held);
            }
        }
        Ok(())
    }

    /// Returns every destination that ever was, as its row has it.
    pub fn destinations(&self) -> std::result::Result<Vec<DestinationShown>, Error> {
        self.list(DESTINATIONS, read_destination).map_err(|source| self.failed(source))
    }

    /// As [`Self::note_closed`], of one upload.
    pub(super) fn note_closed_for(&self, upload: &mut UploadShown) -> Result<()> {
        let destinations = self.list(DESTINATIONS, read_destination)?;
        let closed = destinations.iter().filter(|destination| !destination.is_open());
        closed.for_each(|destination| upload.note_closed(destination));
        Ok(())
    }

    /// Counts what a closed destination holds up, by the state that its rows alone would show.
    fn tally_held(&self, destination: &DestinationShown) -> Result<Vec<Tally>> {
        let sql = format!(
            "SELECT state, count(*) AS upload_count, {SUMS} FROM uploads \
            WHERE {IS_OPEN} AND destination = ?1 AND hold = 'none' AND stage <> 'verified' AND {} \
            GROUP BY state",
            self.selection.of_uploads()
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        statement.query_map([&destination.name], read_tally)?.collect()
    }
}

/// Moves uploads from the state that their rows show to those that wait.
fn recount(tallies: &mut [Tally], held: &Tally) {
    for tally in tallies {
        let change: fn(u64, u64) -> u64 = match tally.state.as_str() {
            "waiting" => u64::saturating_add,
            state if state == held.state => u64::saturating_sub,
            _ => continue,
        };
        tally.upload_count = change(tally.upload_count, held.upload_count);
        tally.size_bytes = change(tally.size_bytes, held.size_bytes);
        tally.accepted_bytes = change(tally.accepted_bytes, held.accepted_bytes);
        tally.bytes_sent = change(tally.bytes_sent, held.bytes_sent);
        tally.bytes_sent_again = change(tally.bytes_sent_again, held.bytes_sent_again);
        tally.bytes_in_flight = change(tally.bytes_in_flight, held.bytes_in_flight);
    }
}

pub(super) fn read_destination(row: &Row<'_>) -> Result<DestinationShown> {
    Ok(DestinationShown {
        name: row.get("destination")?,
        platform: row.get("platform")?,
        state: row.get("state")?,
        reason: row.get("reason")?,
        since: WallTime(row.get("since_ns")?),
        next_try_at: row.get::<_, Option<i64>>("next_try_at_ns")?.map(WallTime),
        clock_behind_ns: row.get("clock_behind_ns")?,
        learned: {
            let words = row.get_ref("learned")?.as_str_or_null()?.unwrap_or_default();
            let mut learned: Vec<_> = words.split(',').filter_map(Learned::parse).collect();
            learned.sort_unstable();
            learned.dedup();
            learned
        },
    })
}

impl DestinationShown {
    /// Returns whether it has ever taken something of an upload.
    pub fn has_worked(&self) -> bool {
        self.learned.contains(&Learned::Works)
    }

    /// Says what goes without, or takes longer, there.
    pub fn notable(&self) -> impl Iterator<Item = &'static str> {
        self.learned.iter().filter(|what| what.is_notable()).map(|what| what.sentence())
    }

    /// Says how far this machine's clock is from its own, where it is too far.
    pub fn clock_text(&self) -> Option<String> {
        let off = Duration::from_nanos(self.clock_behind_ns.unsigned_abs());
        let way = if self.clock_behind_ns > 0 { "behind" } else { "ahead of" };
        (off >= CLOCK_OFF_MIN)
            .then(|| format!("this machine's clock is {} s {way} its own", off.as_secs()))
    }

    /// Returns whether it takes calls.
    fn is_open(&self) -> bool {
        self.state == "ok"
    }
}

impl UploadShown {
    fn note_closed(&mut self, destination: &DestinationShown) {
        let is_there = self.admission.destination.as_str() == destination.name;
        // What is verified needs no call for its receipt.
        let needs_calls =
            !self.state.stage.is_end() && !matches!(self.state.stage, Stage::Verified { .. });
        if is_there && needs_calls && self.state.hold == Hold::None {
            let reason = destination.reason.clone();
            let reason =
                reason.unwrap_or_else(|| format!("its destination is {}", destination.state));
            self.waits_for = Some(Wait { reason, until: destination.next_try_at });
        }
    }
}
