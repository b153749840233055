//! The bytes sent to each destination, for the engine and for display.
//!
//! Parts count their bytes when they pass them to their connection; while any is in flight the loop
//! reports the counts twice a second to the engine, which adjusts the width by them. The width is
//! kept here for display. About once a second the loop also reports the bytes in flight of each
//! upload where they have changed: the engine records them. *A crash* loses everything except that
//! record, which then counts as sent: the error is at most what one second sends.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Daemon;
use super::flows::{FlowMeter, FlowNow, Flows};
use crate::engine::event::Event;
use crate::model::{
    ByteCount, DestinationName, Flow, FlowKey, LivePart, Monotonic, Now, PartNumber, UploadId,
};

/// Interval of reports to the engine.
const INTERVAL: Duration = Duration::from_millis(500);

/// Every how many reports include the bytes in flight: each such record is a commit.
const READINGS: u64 = 2;

/// The last bytes of a part that may still be in buffers of this process: they are not counted
/// before the part has arrived, because otherwise a small file would seem to be sent at once.
const HIDDEN: u64 = 1024 * 1024;

/// The bytes sent to one destination.
#[derive(Debug, Default)]
pub(crate) struct Meter(AtomicU64);

impl Meter {
    /// `bytes` of a part were passed on, after `before`.
    pub(crate) fn count(&self, before: u64, bytes: u64) {
        let seen = (before + bytes).saturating_sub(HIDDEN) - before.saturating_sub(HIDDEN);
        self.0.fetch_add(seen, Ordering::Relaxed);
    }

    /// A part of this many bytes has arrived.
    pub(crate) fn arrived(&self, bytes: u64) {
        self.0.fetch_add(bytes.min(HIDDEN), Ordering::Relaxed);
    }
}

/// The bytes of one part, while it is in flight.
#[derive(Debug)]
pub(crate) struct InFlight {
    upload: UploadId,
    number: u64,
    parts: Arc<Mutex<PartMeters>>,
    pub(super) flow: Arc<FlowMeter>,
    /// Bytes passed to the connection.
    pub(crate) sent: Arc<AtomicU64>,
}

impl InFlight {
    /// Sets the part's number in its upload.
    pub(crate) fn of_part(&self, part: PartNumber) {
        lock(&self.parts).numbers.insert((self.upload, self.number), part);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut parts = lock(&self.parts);
        parts.counters.remove(&(self.upload, self.number));
        parts.numbers.remove(&(self.upload, self.number));
    }
}

#[derive(Debug)]
struct PartCounter {
    key: FlowKey,
    sent: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct PartMeters {
    begun_count: u64,
    counters: BTreeMap<(UploadId, u64), PartCounter>,
    numbers: BTreeMap<(UploadId, u64), PartNumber>,
    flows: Flows,
    /// The last reported values, except zeros.
    told: BTreeMap<UploadId, ByteCount>,
}

impl PartMeters {
    /// Returns the bytes in flight of each upload where they have changed since the last call.
    fn news(&mut self) -> Vec<(UploadId, ByteCount)> {
        let mut now: BTreeMap<UploadId, ByteCount> = BTreeMap::new();
        for ((upload, _), part) in &self.counters {
            now.entry(*upload).or_default().0 += part.sent.load(Ordering::Relaxed);
        }
        now.retain(|_, bytes| bytes.0 > 0);
        let known: BTreeSet<_> = self.told.keys().chain(now.keys()).copied().collect();
        let of = |counts: &BTreeMap<UploadId, ByteCount>, upload: &UploadId| {
            counts.get(upload).copied().unwrap_or_default()
        };
        let changed = known.iter().filter(|upload| of(&self.told, upload) != of(&now, upload));
        let news = changed.map(|upload| (*upload, of(&now, upload))).collect();
        self.told = now;
        news
    }
}

#[derive(Debug, Default)]
pub(crate) struct Meters {
    sent: Mutex<BTreeMap<DestinationName, Arc<Meter>>>,
    parts: Arc<Mutex<PartMeters>>,
    widths: Mutex<BTreeMap<DestinationName, u32>>,
    reading_count: AtomicU64,
}

impl Meters {
    /// Returns the meter of a destination.
    pub(crate) fn of(&self, destination: &DestinationName) -> Arc<Meter> {
        Arc::clone(lock(&self.sent).entry(destination.clone()).or_default())
    }

    /// Counts a part that begins to be sent.
    pub(crate) fn begin(&self, upload: UploadId, key: &FlowKey, now: Monotonic) -> InFlight {
        let (sent, mut parts) = (Arc::new(AtomicU64::new(0)), lock(&self.parts));
        let number = parts.begun_count;
        parts.begun_count += 1;
        let counter = PartCounter { key: key.clone(), sent: Arc::clone(&sent) };
        parts.counters.insert((upload, number), counter);
        let flow = parts.flows.of(key, now);
        flow.begin(now);
        InFlight { upload, number, parts: Arc::clone(&self.parts), flow, sent }
    }

    /// Returns the present flows.
    pub(crate) fn flows(&self, now: Now) -> Vec<Flow> {
        let parts = lock(&self.parts);
        let flow = |FlowNow { key, bytes_per_second, stalled_since }: FlowNow| {
            let of_it = parts.counters.values().filter(|part| part.key == key);
            let sent = of_it.map(|part| part.sent.load(Ordering::Relaxed));
            let (count, bytes) = sent.fold((0, 0), |(count, sum), sent| (count + 1, sum + sent));
            let in_flight = ByteCount(bytes);
            Flow { key, bytes_per_second, parts_in_flight: count, in_flight, stalled_since }
        };
        parts.flows.now(now).into_iter().map(flow).collect()
    }

    /// Returns the bytes in flight of uploads, when a report of them is due.
    fn in_flight(&self) -> Vec<(UploadId, ByteCount)> {
        let is_due = self.reading_count.fetch_add(1, Ordering::Relaxed).is_multiple_of(READINGS);
        if is_due { lock(&self.parts).news() } else { Vec::new() }
    }

    /// Returns the parts in flight, with their uploads.
    pub(crate) fn parts_in_flight(&self) -> Vec<LivePart> {
        let parts = lock(&self.parts);
        let counters = parts.counters.iter().map(|(key, counter)| LivePart {
            upload: key.0,
            number: parts.numbers.get(key).copied().unwrap_or(PartNumber::from_index(0)),
            sent: ByteCount(counter.sent.load(Ordering::Relaxed)),
        });
        counters.collect()
    }

    /// Returns the bytes sent to all destinations since the start.
    pub(crate) fn sent_to_all(&self) -> ByteCount {
        ByteCount(self.sent().into_iter().map(|(_, sent)| sent.0).sum())
    }

    pub(crate) fn widths(&self) -> BTreeMap<DestinationName, u32> {
        lock(&self.widths).clone()
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
    /// Reports the bytes sent to the engine, when that is due.
    pub(super) fn read_meters(&mut self, now: Monotonic) {
        if self.due.meters > now || !self.engine.view().has_parts_in_flight() {
            return;
        }
        self.due.meters = now.after(INTERVAL);
        let sent = self.world.bandwidth.meters.sent();
        self.tell(Event::Sent(sent));
        let in_flight = self.world.bandwidth.meters.in_flight();
        if !in_flight.is_empty() {
            self.tell(Event::InFlight(in_flight));
        }
        let widths =
            self.engine.view().widths().map(|(name, width)| (name.clone(), width)).collect();
        *lock(&self.world.bandwidth.meters.widths) = widths;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_flight_is_told_once_for_each_change() {
        let meters = Meters::default();
        let news = || lock(&meters.parts).news();
        let (one, other) = (UploadId(1), UploadId(2));
        let key = FlowKey {
            destination: DestinationName::new("far"),
            drop: crate::model::DirectoryName::new("lab"),
            run: crate::model::SourcePath::from_bytes(b"run"),
        };
        let begin = |upload| meters.begin(upload, &key, Monotonic(Duration::ZERO));
        let part = begin(one);
        let parts = [begin(one), begin(other)];
        assert_eq!(news(), [], "nothing went yet");
        part.sent.store(70, Ordering::Relaxed);
        parts[0].sent.store(5, Ordering::Relaxed);
        assert_eq!(news(), [(one, ByteCount(75))]);
        assert_eq!(news(), [], "nothing changed: nothing is written");
        parts[1].sent.store(9, Ordering::Relaxed);
        drop(part);
        let number = PartNumber::from_index(1);
        parts[0].of_part(number);
        let whole = PartNumber::from_index(0);
        let part = |upload, number, sent| LivePart { upload, number, sent: ByteCount(sent) };
        assert_eq!(meters.parts_in_flight(), [part(one, number, 5), part(other, whole, 9)]);
        assert_eq!(news(), [(one, ByteCount(5)), (other, ByteCount(9))]);
        drop(parts);
        assert_eq!(news(), [(one, ByteCount(0)), (other, ByteCount(0))]);
        assert_eq!(news(), []);
    }

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
