//! Destinations that are unreachable or halted: notified when that has lasted. An outage from
//! before a start counts from the start.

use std::collections::BTreeMap;
use std::time::Duration;

use super::message::Message;
use crate::model::{DestinationName, DestinationState, HALTED_AFTER, Monotonic, Record};

/// Destinations that are unreachable or halted.
#[derive(Debug, Default)]
pub(super) struct Outages(BTreeMap<DestinationName, Outage>);

#[derive(Debug)]
struct Outage {
    state: DestinationState,
    /// When to notify; `None` once that was done.
    notify_at: Option<Monotonic>,
    reason: String,
}

impl Outages {
    /// Applies a record about a destination; an outage is notified after `unreachable_after`.
    pub(super) fn note(&mut self, record: &Record, unreachable_after: Duration, now: Monotonic) {
        let Record::DestinationHealth { destination, state, reason, .. } = record else { return };
        let after = match state {
            DestinationState::Unknown | DestinationState::Ok | DestinationState::Throttled => {
                return self.end(destination);
            }
            DestinationState::Unreachable => unreachable_after,
            DestinationState::Halted => HALTED_AFTER,
        };
        if self.0.get(destination).is_some_and(|outage| outage.state != *state) {
            self.end(destination);
        }
        let notify_at = Some(now.after(after));
        let begun = || Outage { state: *state, notify_at, reason: String::new() };
        let outage = self.0.entry(destination.clone()).or_insert_with(begun);
        if let Some(reason) = reason {
            reason.clone_into(&mut outage.reason);
        }
    }

    /// A destination is reachable.
    pub(super) fn end(&mut self, name: &DestinationName) {
        self.0.remove(name);
    }

    /// Returns the outages to notify, each once.
    pub(super) fn lasting(&mut self, now: Monotonic) -> Vec<Message> {
        let due = self.0.iter_mut().filter(|(_, one)| one.notify_at.is_some_and(|at| at <= now));
        let message = |(name, outage): (&DestinationName, &mut Outage)| {
            outage.notify_at = None;
            match outage.state {
                DestinationState::Halted => Message::halted(name, Some(&outage.reason)),
                DestinationState::Unknown
                | DestinationState::Ok
                | DestinationState::Throttled
                | DestinationState::Unreachable => Message::unreachable(name, Some(&outage.reason)),
            }
        };
        due.map(message).collect()
    }

    /// Returns when the next one is to be notified.
    pub(super) fn next_deadline(&self) -> Option<Monotonic> {
        self.0.values().filter_map(|outage| outage.notify_at).min()
    }
}
