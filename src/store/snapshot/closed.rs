//! Uploads whose destination takes no calls: they wait for it, and no row of theirs says so.

use super::selection::SUMS;
use super::shown::{DestinationShown, Tally, UploadShown, Wait};
use super::{DESTINATIONS, Result, Snapshot, read_destination, read_tally};
use crate::model::{Hold, Stage};
use crate::store::rows::IS_OPEN;

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

impl DestinationShown {
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
