//! Outages of destinations: one is worth a notice when it has lasted. One that began before a start counts
//! from the start.

use std::collections::BTreeMap;

use super::message::Message;
use crate::model::{DestinationName, DestinationState, Monotonic, Record};

/// Destinations that are unreachable.
#[derive(Debug, Default)]
pub(super) struct Outages(BTreeMap<DestinationName, Outage>);

#[derive(Debug)]
struct Outage {
    /// When it is worth a notice; none once there was one.
    notify_at: Option<Monotonic>,
    reason: String,
}

impl Outages {
    /// Notes what a record says of a destination.
    pub(super) fn note(&mut self, record: &Record, notify_at: Monotonic) {
        let Record::DestinationHealth { destination, state, reason, .. } = record else { return };
        if *state != DestinationState::Unreachable {
            return self.end(destination);
        }
        let begun = || Outage { notify_at: Some(notify_at), reason: String::new() };
        let outage = self.0.entry(destination.clone()).or_insert_with(begun);
        if let Some(reason) = reason {
            reason.clone_into(&mut outage.reason);
        }
    }

    /// Notes that a destination is reachable.
    pub(super) fn end(&mut self, name: &DestinationName) {
        self.0.remove(name);
    }

    /// Returns the outages that are worth a notice, each once.
    pub(super) fn lasting(&mut self, now: Monotonic) -> Vec<Message> {
        let due = self.0.iter_mut().filter(|(_, one)| one.notify_at.is_some_and(|at| at <= now));
        let message = |(name, outage): (&DestinationName, &mut Outage)| {
            outage.notify_at = None;
            Message::unreachable(name, Some(&outage.reason))
        };
        due.map(message).collect()
    }

    /// Returns when the next one is worth a notice.
    pub(super) fn next_deadline(&self) -> Option<Monotonic> {
        self.0.values().filter_map(|outage| outage.notify_at).min()
    }
}
