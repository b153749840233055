//! Uploads that wait for a reason outside their rows: their destination accepts no calls, their
//! drop directory cannot be read, an operator paused them, or the timetable stops sending.

use std::collections::BTreeMap;
use std::time::Duration;

use rusqlite::types::Value;

use super::selection::SUMS;
use super::shown::{DestinationShown, Status, Tally, UploadShown, Wait};
use super::{Result, Snapshot, read_tally};
use crate::model::{
    ByteCount, Code, Hold, Live, LivePause, NoticeKind, Scope, Stage, Standing, UploadId, WaitCode,
    WallTime,
};
use crate::store::rows::{self, IS_OPEN};

/// A call that is due sooner does not count as waiting.
const SHORT_WAIT: Duration = Duration::from_secs(5);

/// Why some uploads wait together.
#[derive(Debug)]
pub(super) struct HeldBy {
    what: Scope,
    stages: HeldStages,
    /// Parts in flight continue.
    lets_parts_land: bool,
    wait: Wait,
}

/// The stages in which an upload is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HeldStages {
    /// Its bytes are to be sent.
    Bytes,
    /// Calls are to be made: a verified one needs none for its receipt.
    Calls,
}

impl HeldBy {
    /// Lists the reasons why uploads wait; of several the first is shown.
    pub(super) fn list(status: &Status) -> Vec<Self> {
        let paused = status.orders.iter().filter(|(order, ..)| *order == Standing::Paused);
        let paused = paused.map(|(_, scope, _)| Self {
            what: scope.clone(),
            stages: HeldStages::Calls,
            lets_parts_land: true,
            wait: Wait {
                code: Code::Wait(WaitCode::Paused),
                reason: "paused by the operator".into(),
                until: None,
            },
        });
        let deaf =
            status.places.drops.iter().filter(|drop| drop.watch == "deaf").map(|drop| Self {
                what: Scope::Drop(crate::model::DirectoryName::new(&*drop.name)),
                stages: HeldStages::Bytes,
                lets_parts_land: false,
                wait: Wait {
                    code: Code::Notice(NoticeKind::Deaf),
                    reason: drop.reason.clone().unwrap_or_else(|| "it cannot be read".into()),
                    until: None,
                },
            });
        let closed = status.places.destinations.iter().filter_map(|to| {
            let until = to.next_try_at;
            let is_soon = until.is_some_and(|at| status.read_at.until(at) < SHORT_WAIT);
            let code = Code::of_destination(&to.state).filter(|_| !(to.is_paced && is_soon))?;
            let reason = to.reason.clone();
            let reason = reason.unwrap_or_else(|| format!("its destination is {}", to.state));
            Some(Self {
                what: Scope::Destination(crate::model::DestinationName::new(&*to.name)),
                stages: HeldStages::Calls,
                lets_parts_land: to.is_paced,
                wait: Wait { code, reason, until },
            })
        });
        let stopped = status.process.live.iter().flat_map(|live| &live.stopped);
        let stopped = stopped.map(|LivePause { reason, until }| Self {
            what: Scope::All,
            stages: HeldStages::Bytes,
            lets_parts_land: false,
            wait: Wait {
                code: Code::Wait(WaitCode::BandwidthStopped),
                reason: reason.clone(),
                until: *until,
            },
        });
        paused.chain(deaf).chain(closed).chain(stopped).collect()
    }

    fn holds(&self, upload: &UploadShown) -> bool {
        let stage = &upload.state.stage;
        let is_held = match self.stages {
            HeldStages::Bytes => {
                matches!(stage, Stage::Queued | Stage::Beginning { .. } | Stage::Sending { .. })
            }
            HeldStages::Calls => !stage.is_end() && !matches!(stage, Stage::Verified { .. }),
        };
        is_held
            && upload.state.hold == Hold::None
            && !(self.lets_parts_land && upload.state.wire.in_flight.0 > 0)
            && self.what.covers(&upload.admission)
    }

    /// Returns the same as a condition on rows, and adds its parameters.
    fn condition(&self, parameters: &mut Vec<Value>) -> String {
        let (mut condition, key) = super::what::condition(&self.what);
        let mut numbered = condition.to_owned();
        if !key.is_empty() {
            let first = parameters.len();
            for number in (1..=key.len()).rev() {
                let at = first + number;
                numbered = numbered.replace(&format!("?{number}"), &format!("?{at}"));
            }
            condition = &numbered;
        }
        parameters.extend(key);
        let stages = match self.stages {
            HeldStages::Bytes => "stage IN ('queued', 'beginning', 'sending')",
            HeldStages::Calls => "stage <> 'verified'",
        };
        let landed = if self.lets_parts_land { " AND bytes_in_flight = 0" } else { "" };
        format!("({condition} AND {stages}{landed})")
    }
}

impl Snapshot {
    /// Shows and counts uploads by their present activity: some wait, and small files in flight are
    /// shown as sending although their rows do not say so.
    pub(super) fn note_held(&self, status: &mut Status) -> Result<()> {
        let held = HeldBy::list(status);
        let live = status.process.live.as_ref();
        let mut in_flight: BTreeMap<UploadId, u64> = BTreeMap::new();
        for part in live.iter().flat_map(|live| &live.parts) {
            // A file is on its way before its first byte is.
            *in_flight.entry(part.upload).or_insert(0) += part.sent.0.max(1);
        }
        for upload in &mut status.uploads {
            upload.note_held(&held);
            upload.note_in_flight(&in_flight);
        }
        let mut parameters = Vec::new();
        let conditions: Vec<_> = held.iter().map(|held| held.condition(&mut parameters)).collect();
        let is_held = if held.is_empty() { "FALSE".to_owned() } else { conditions.join(" OR ") };
        let tallies = |is_moved: &str, parameters| {
            let sql = format!(
                "SELECT state, count(*) AS upload_count, {SUMS} FROM uploads \
                WHERE {IS_OPEN} AND hold = 'none' AND {is_moved} AND {} GROUP BY state",
                self.selection.of_uploads()
            );
            self.rows_of(&sql, rusqlite::params_from_iter(parameters), read_tally)
        };
        if !held.is_empty() {
            let waiting = tallies(&format!("({is_held})"), Vec::clone(&parameters))?;
            waiting.iter().for_each(|held| recount(&mut status.counts.tallies, held, "waiting"));
        }
        if !in_flight.is_empty() {
            let ids: Vec<_> = in_flight.keys().map(ToString::to_string).collect();
            let ids = ids.join(", ");
            let is_sent = format!("stage = 'queued' AND id IN ({ids}) AND NOT ({is_held})");
            let sent = tallies(&is_sent, Vec::clone(&parameters))?;
            sent.iter().for_each(|sent| recount(&mut status.counts.tallies, sent, "sending"));
            let sql = format!(
                "SELECT id, bytes_in_flight FROM uploads \
                WHERE {IS_OPEN} AND hold = 'none' AND {is_sent} AND {}",
                self.selection.of_uploads()
            );
            let more = self.rows_of(&sql, rusqlite::params_from_iter(parameters), |row| {
                let (id, known) = (UploadId(row.get(0)?), rows::unsigned_at(row, 1)?);
                Ok(in_flight.get(&id).map_or(0, |sent| sent.saturating_sub(known)))
            })?;
            let mut tallies = status.counts.tallies.iter_mut();
            if let Some(sending) = tallies.find(|tally| tally.state == "sending") {
                sending.bytes_in_flight += more.iter().sum::<u64>();
            }
        }
        Ok(())
    }
}

/// Moves uploads from the state in their rows to another one.
fn recount(tallies: &mut Vec<Tally>, held: &Tally, to: &str) {
    if !tallies.iter().any(|tally| tally.state == to) {
        tallies.push(Tally { state: to.to_owned(), ..Tally::default() });
    }
    for tally in tallies {
        let change: fn(u64, u64) -> u64 = match tally.state.as_str() {
            state if state == to => u64::saturating_add,
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

impl UploadShown {
    pub(super) fn note_held(&mut self, held: &[HeldBy]) {
        let holds = held.iter().find(|held| held.holds(self));
        self.waits_for = holds.map(|held| held.wait.clone());
    }

    /// Its row has what was in flight a second ago, and nothing of a file that is sent in less.
    fn note_in_flight(&mut self, in_flight: &BTreeMap<UploadId, u64>) {
        if let Some(sent) = in_flight.get(&self.admission.id)
            && self.state.stage == Stage::Queued
        {
            let size = self.admission.file.fingerprint.size;
            self.state.wire.in_flight = self.state.wire.in_flight.max(ByteCount(*sent)).min(size);
        }
    }
}

impl DestinationShown {
    /// Shows its present state: its calls may be spread over time, or its uploads paused.
    pub(super) fn note_live(&mut self, live: Option<&Live>, pauses: &[(&Scope, WallTime)]) {
        if !matches!(self.state.as_str(), "ok" | "unknown") {
            return;
        }
        let is_meant = |scope: &Scope| match scope {
            Scope::All => true,
            Scope::Destination(name) => name.as_str() == self.name,
            Scope::Drop(_) | Scope::Run(..) | Scope::Upload(_) => false,
        };
        let mut paced =
            live.iter().flat_map(|live| &live.paced).filter(|(name, _)| name.as_str() == self.name);
        if let Some((_, LivePause { reason, until })) = paced.next() {
            "throttled".clone_into(&mut self.state);
            (self.reason, self.next_try_at) = (Some(reason.clone()), *until);
            self.is_paced = true;
        } else if let Some((_, since)) = pauses.iter().find(|(scope, _)| is_meant(scope)) {
            "paused".clone_into(&mut self.state);
            (self.reason, self.since) = (Some("paused by the operator".into()), *since);
        }
    }
}
