//! What goes over the wire to each destination, and what the engine makes of it.
//!
//! Parts count their bytes as they are handed to their connection; while any is in flight the loop tells
//! the engine twice a second, which finds from that how many may be. What it found is kept here for
//! whoever shows it. About once a second it also tells what of each upload is in flight, where that has
//! changed: the engine records it.
//! *At a crash* all of it is forgotten but that record, which is then counted as sent: the count is off by
//! what a second moves at most.

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

/// How often the engine is told.
const INTERVAL: Duration = Duration::from_millis(500);

/// Of how many readings one tells what is in flight: each such record is a commit.
const READINGS: u64 = 2;

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

/// The bytes of one part in flight, as long as it is.
#[derive(Debug)]
pub(crate) struct InFlight {
    upload: UploadId,
    number: u64,
    parts: Arc<Mutex<PartMeters>>,
    pub(super) flow: Arc<FlowMeter>,
    /// Bytes handed to the connection.
    pub(crate) sent: Arc<AtomicU64>,
}

impl InFlight {
    /// Says which part of its upload it is.
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
    /// What was told last, where it was not nothing.
    told: BTreeMap<UploadId, ByteCount>,
}

impl PartMeters {
    /// Returns what is in flight of each upload of which it has changed since this was asked.
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
    /// Returns where what goes to a destination is counted.
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

    /// Returns what goes at this moment.
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

    /// Returns what is in flight of uploads, when that is due to be told.
    fn in_flight(&self) -> Vec<(UploadId, ByteCount)> {
        let is_due = self.reading_count.fetch_add(1, Ordering::Relaxed).is_multiple_of(READINGS);
        if is_due { lock(&self.parts).news() } else { Vec::new() }
    }

    /// Returns which parts of which uploads are in flight.
    pub(crate) fn parts_in_flight(&self) -> Vec<LivePart> {
        let parts = lock(&self.parts);
        let counters = parts.counters.iter().map(|(key, counter)| LivePart {
            upload: key.0,
            number: parts.numbers.get(key).copied().unwrap_or(PartNumber::from_index(0)),
            sent: ByteCount(counter.sent.load(Ordering::Relaxed)),
        });
        counters.collect()
    }

    /// Returns what went to all destinations together since the start.
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
    /// Tells the engine what went, when that is due.
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
