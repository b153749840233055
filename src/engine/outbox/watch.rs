//! Troubles that nobody reports by himself: looked for now and then, or found by time passing.
//!
//! An outage of a destination is told of when it has lasted; one that began before a start counts from
//! the start. Room on the drop directories' file systems is told by every scan; the state directory and
//! the credentials are looked at by an act of their own.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Outbox;
use super::words::Message;
use crate::engine::event::{Act, Outcome, Setback};
use crate::engine::settings::DiskFloor;
use crate::engine::turn::Turn;
use crate::engine::{Engine, Flight, FlightKind};
use crate::model::{
    DestinationName, DestinationState, DirectoryName, Monotonic, NoticeKind, Space, WallTime,
};

/// How often the state directory and the credentials are looked at.
const INTERVAL: Duration = Duration::from_mins(10);
/// People need some days to come by another credential.
const EXPIRY_NOTICE: Duration = Duration::from_hours(7 * 24);

/// What is looked at.
#[derive(Debug)]
pub(super) struct Watch {
    /// When to look again; none while somebody looks.
    due: Option<Monotonic>,
    /// Destinations that cannot be reached.
    away: BTreeMap<DestinationName, Away>,
}

/// A destination that cannot be reached.
#[derive(Debug)]
struct Away {
    /// When people are told of it; none when they were.
    tell_at: Option<Monotonic>,
    why: String,
}

impl Watch {
    /// Begins with a look.
    pub(super) fn new(now: Monotonic) -> Self {
        Self { due: Some(now), away: BTreeMap::new() }
    }

    /// Returns when there is something to look at, or to tell.
    pub(super) fn next_deadline(&self, watches: bool) -> Option<Monotonic> {
        let look = self.due.filter(|_| watches);
        self.away.values().filter_map(|away| away.tell_at).chain(look).min()
    }
}

impl Outbox {
    /// Tells whether anybody wants to know what a look finds.
    pub(super) fn watches(&self) -> bool {
        self.is_wanted(NoticeKind::DiskNearlyFull) || self.is_wanted(NoticeKind::CredentialFailing)
    }
}

impl DiskFloor {
    /// Tells whether there is too little room; what was too little is enough when there is a fifth
    /// more, so that people are not told at every turn.
    fn is_short(self, space: Space, was_short: bool) -> bool {
        let floor = match self {
            Self::Percent(share) => space.total.0 / 100 * u64::from(share),
            Self::Bytes(size) => size.0,
        };
        let floor = if was_short { floor.saturating_add(floor / 5) } else { floor };
        space.free.0 < floor
    }
}

impl Engine {
    /// Looks at what is due.
    pub(super) fn watch_over(&mut self, turn: &mut Turn) {
        let now = turn.now.monotonic;
        let long = self.outbox.watch.away.iter_mut().filter_map(|(name, away)| {
            let is_long = away.tell_at.is_some_and(|at| at <= now);
            is_long.then(|| {
                away.tell_at = None;
                (name.clone(), away.why.clone())
            })
        });
        for (name, why) in long.collect::<Vec<_>>() {
            let message = Message::reach(&name, Some(&why));
            self.outbox.trouble(&message, turn);
        }
        if self.outbox.watches() && self.outbox.watch.due.is_some_and(|at| at <= now) {
            self.outbox.watch.due = None;
            let flight = Flight { kind: FlightKind::Survey, upload: None, destination: None };
            self.start(flight, Act::Survey, turn);
        }
    }

    /// Takes what a look found.
    pub(in crate::engine) fn on_surveyed(
        &mut self,
        reply: Result<Outcome, Setback>,
        turn: &mut Turn,
    ) {
        self.outbox.watch.due = Some(turn.now.monotonic.after(INTERVAL));
        let Ok(Outcome::Surveyed { directory, space, expiries }) = reply else { return };
        self.note_space(&directory, None, space, turn);
        for (name, expires_at) in expiries {
            self.note_expiry(&name, expires_at, turn);
        }
    }

    /// Tells that a file system has little room, or enough again.
    pub(in crate::engine) fn note_space(
        &mut self,
        directory: &str,
        drop: Option<&DirectoryName>,
        space: Option<Space>,
        turn: &mut Turn,
    ) {
        let Some(space) = space else { return };
        let was_short = self.outbox.is_troubled(NoticeKind::DiskNearlyFull, directory);
        let is_short = self.settings.notices.disk_floor.is_short(space, was_short);
        if is_short != was_short {
            let message = Message::room((directory, drop), space, is_short);
            self.outbox.trouble(&message, turn);
        }
    }

    fn note_expiry(
        &mut self,
        name: &DestinationName,
        expires_at: Option<WallTime>,
        turn: &mut Turn,
    ) {
        let was_soon = self.outbox.is_troubled(NoticeKind::CredentialFailing, name.as_str());
        let left = expires_at.map(|at| turn.now.wall.until(at));
        let is_soon = left.is_some_and(|left| left <= EXPIRY_NOTICE);
        if is_soon != was_soon {
            let message = Message::expiry(name, expires_at.filter(|_| is_soon));
            self.outbox.trouble(&message, turn);
        }
    }

    /// Tells that a destination refuses us, and notes since when it cannot be reached.
    pub(in crate::engine) fn note_state(
        &mut self,
        name: &DestinationName,
        state: DestinationState,
        reason: Option<&str>,
        turn: &mut Turn,
    ) {
        if state == DestinationState::Unreachable {
            let tell_at = turn.now.monotonic.after(self.settings.notices.unreachable_after);
            let fresh = || Away { tell_at: Some(tell_at), why: String::new() };
            let away = self.outbox.watch.away.entry(name.clone()).or_insert_with(fresh);
            if let Some(reason) = reason {
                reason.clone_into(&mut away.why);
            }
            return;
        }
        self.outbox.watch.away.remove(name);
        if state != DestinationState::Ok {
            self.end_outage(name, turn);
        }
        if state == DestinationState::Halted {
            let message = Message::halt(name, Some(reason.unwrap_or("it refuses our calls")));
            self.outbox.trouble(&message, turn);
        }
    }

    /// Tells that a destination is reached again, when it was said not to be.
    pub(super) fn end_outage(&mut self, name: &DestinationName, turn: &mut Turn) {
        self.outbox.watch.away.remove(name);
        if self.outbox.is_troubled(NoticeKind::DestinationUnreachable, name.as_str()) {
            self.outbox.trouble(&Message::reach(name, None), turn);
        }
    }
}
