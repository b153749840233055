//! Progress, rates and remaining times, where they are known.

use crate::model::{Flow, RunState, SourcePath, WallTime};
use crate::store::snapshot::{RunShown, RunTallyShown, Status, Tally};

/// The progress of a run at one destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct RunProgress {
    pub(in crate::cli) file_count: u64,
    pub(in crate::cli) bytes: u64,
    pub(in crate::cli) accepted_bytes: u64,
    pub(in crate::cli) in_flight_bytes: u64,
    /// `None` where no daemon reports it.
    pub(in crate::cli) rate: Option<u64>,
    pub(in crate::cli) seconds_left: Option<u64>,
    pub(in crate::cli) stalled_since: Option<WallTime>,
}

impl RunProgress {
    pub(in crate::cli) fn of(status: &Status, run: &RunShown, tally: &RunTallyShown) -> Self {
        let row = &run.row;
        let flow = flow(status, row.drop.as_str(), &row.name, &tally.destination);
        // Files that are here and not admitted yet will be sent as well.
        let (files, bytes) = match row.state {
            RunState::Open | RunState::Closed => (row.files.count, row.files.size.0),
            RunState::Completed | RunState::Gone | RunState::Skipped => (0, 0),
        };
        Self::of_tally(status, tally, flow, files, bytes)
    }

    /// The progress of a drop directory's files that are runs of their own.
    pub(in crate::cli) fn of_files(status: &Status, drop: &str, tally: &RunTallyShown) -> Self {
        let flow = flow(status, drop, &SourcePath::from_bytes(b""), &tally.destination);
        Self::of_tally(status, tally, flow, 0, 0)
    }

    /// With this many files and bytes at least.
    fn of_tally(
        status: &Status,
        tally: &RunTallyShown,
        flow: Option<&Flow>,
        files: u64,
        bytes: u64,
    ) -> Self {
        let mut progress = Self {
            file_count: tally.upload_count.max(files),
            bytes: tally.size_bytes.max(bytes),
            accepted_bytes: tally.accepted_bytes,
            in_flight_bytes: flow.map_or(0, |flow| flow.in_flight.0),
            rate: rate_of(status, flow.map_or(0, |flow| flow.bytes_per_second)),
            seconds_left: None,
            stalled_since: flow.and_then(|flow| flow.stalled_since),
        };
        let can_end = tally.parked_count == 0 && is_open(status, &tally.destination);
        progress.seconds_left = progress.time_left(can_end);
        progress
    }

    /// Returns the bytes sent or in flight: never more than the total.
    pub(in crate::cli) fn gone_bytes(&self) -> u64 {
        self.accepted_bytes.saturating_add(self.in_flight_bytes).min(self.bytes)
    }

    fn time_left(&self, can_end: bool) -> Option<u64> {
        let left = self.bytes - self.gone_bytes();
        match (self.bytes.saturating_sub(self.accepted_bytes), self.rate) {
            (0, _) => Some(0),
            (_, Some(rate)) if can_end && rate > 0 => Some(left.div_ceil(rate)),
            (_, Some(_) | None) => None,
        }
    }
}

fn flow<'a>(
    status: &'a Status,
    drop: &str,
    run: &SourcePath,
    destination: &str,
) -> Option<&'a Flow> {
    status.process.live.as_ref()?.flow(drop, run, destination)
}

/// Returns a rate, where it is known: no daemon runs, or one that answers.
fn rate_of(status: &Status, rate: u64) -> Option<u64> {
    (status.process.live.is_some() || !status.process.is_running).then_some(rate)
}

/// Returns whether bytes may be sent to a destination.
fn is_open(status: &Status, destination: &str) -> bool {
    let is_stopped = status.process.live.as_ref().is_some_and(|live| live.stopped.is_some());
    let mut destinations = status.places.destinations.iter();
    !is_stopped && destinations.any(|to| to.name == destination && to.state == "ok")
}

/// Adds up a number over all uploads that were not abandoned.
pub(in crate::cli) fn sum(status: &Status, of: fn(&Tally) -> u64) -> u64 {
    let live = status.counts.tallies.iter().filter(|tally| tally.state != "abandoned");
    live.map(of).fold(0, u64::saturating_add)
}

/// Returns the bytes per second to a destination.
pub(in crate::cli) fn rate_to(status: &Status, destination: &str) -> Option<u64> {
    let flows = status.process.live.iter().flat_map(|live| live.flows_to(destination));
    rate_of(status, flows.map(|flow| flow.bytes_per_second).sum())
}

/// Returns the bytes per second of the selection, if all of it is measured.
pub(in crate::cli) fn rate(status: &Status) -> Option<u64> {
    let flows = status.process.live.iter().flat_map(|live| live.flows.iter());
    let rate = flows.map(|flow| flow.bytes_per_second).sum();
    status.selection.measures_rate().then(|| rate_of(status, rate)).flatten()
}

/// Returns the time left for everything that may be sent; `None` where something waits for an unknown time.
pub(in crate::cli) fn seconds_left(status: &Status) -> Option<u64> {
    let open = |tally: &&Tally| matches!(tally.state.as_str(), "queued" | "sending" | "waiting");
    let left = status.counts.tallies.iter().filter(open).map(|tally| {
        tally.size_bytes.saturating_sub(tally.accepted_bytes).saturating_sub(tally.bytes_in_flight)
    });
    let is_waiting = |tally: &Tally| tally.state == "waiting" && tally.upload_count > 0;
    let is_held = status.counts.tallies.iter().any(is_waiting);
    match (left.fold(0, u64::saturating_add), rate(status)) {
        (0, Some(_)) => Some(0),
        (left, Some(rate)) if rate > 0 && !is_held => Some(left.div_ceil(rate)),
        (_, Some(_) | None) => None,
    }
}

/// Returns when something of a run was last sent or received.
pub(in crate::cli) fn last_activity(status: &Status, run: &RunShown) -> WallTime {
    let moves = |tally: &&RunTallyShown| {
        flow(status, run.row.drop.as_str(), &run.row.name, &tally.destination)
            .is_some_and(|flow| flow.bytes_per_second > 0)
    };
    let times = run.tallies.iter().map(|tally| tally.last_activity_at);
    let last = times.fold(run.row.opened_at, WallTime::max);
    if run.tallies.iter().any(|tally| moves(&tally)) { status.read_at } else { last }
}
