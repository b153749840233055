//! What goes over the wire to each destination, and what the engine makes of it.
//!
//! Parts count their bytes as they go; while any is on its way the loop tells the engine twice a
//! second, which finds from that how many may be. What it found is kept here for whoever shows it.
//! *At a crash* all of it is forgotten.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Daemon;
use crate::engine::Pace;
use crate::engine::event::Event;
use crate::model::{ByteCount, DestinationName, Monotonic};

/// How often the engine is told.
const INTERVAL: Duration = Duration::from_millis(500);

/// What of a part was handed on and may still be in buffers of this process: it is not counted before the
/// part has arrived, or else a small file would seem to go at once.
const HIDDEN: u64 = 1024 * 1024;

/// What goes to one destination.
#[derive(Debug, Default)]
pub(crate) struct Meter(AtomicU64);

impl Meter {
    /// Of a part `bytes` are handed on, after `before`.
    pub(crate) fn count(&self, before: u64, bytes: u64) {
        let seen = (before + bytes).saturating_sub(HIDDEN) - before.saturating_sub(HIDDEN);
        self.0.fetch_add(seen, Ordering::Relaxed);
    }

    /// A part of so many bytes has arrived.
    pub(crate) fn arrived(&self, bytes: u64) {
        self.0.fetch_add(bytes.min(HIDDEN), Ordering::Relaxed);
    }
}

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct Meters {
    sent: Mutex<BTreeMap<DestinationName, Arc<Meter>>>,
    paces: Mutex<BTreeMap<DestinationName, Pace>>,
}

impl Meters {
    /// Returns where what goes to a destination is counted.
    pub(crate) fn of(&self, destination: &DestinationName) -> Arc<Meter> {
        Arc::clone(lock(&self.sent).entry(destination.clone()).or_default())
    }

    /// Returns how each destination is sent to.
    pub(crate) fn paces(&self) -> BTreeMap<DestinationName, Pace> {
        lock(&self.paces).clone()
    }

    fn sent(&self) -> Vec<(DestinationName, ByteCount)> {
        let read = |sent: &Arc<Meter>| ByteCount(sent.0.load(Ordering::Relaxed));
        lock(&self.sent).iter().map(|(name, sent)| (name.clone(), read(sent))).collect()
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Daemon {
    /// Tells the engine what went, when that is due.
    pub(super) fn read_meters(&mut self, now: Monotonic) {
        if self.meters_due > now || !self.engine.has_parts_on_their_way() {
            return;
        }
        self.meters_due = now.after(INTERVAL);
        let sent = self.world.bandwidth.meters.sent();
        self.tell(Event::Sent(sent));
        let paces = self.engine.paces().map(|(name, pace)| (name.clone(), pace)).collect();
        *lock(&self.world.bandwidth.meters.paces) = paces;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_counts_whole_once_it_has_arrived_and_its_buffers_never_before() {
        let meter = Meter::default();
        let read = |meter: &Meter| meter.0.load(Ordering::Relaxed);
        meter.count(0, HIDDEN);
        assert_eq!(read(&meter), 0);
        meter.count(HIDDEN, 1000);
        assert_eq!(read(&meter), 1000);
        meter.arrived(HIDDEN + 1000);
        assert_eq!(read(&meter), HIDDEN + 1000);
        meter.count(0, 70);
        meter.arrived(70);
        assert_eq!(read(&meter), HIDDEN + 1070);
    }
}
