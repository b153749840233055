//! What all destinations share: parts in flight, the memory for them, receipts in progress, and how
//! far the disk is behind.
//!
//! Of all open uploads with a part to send, the next one is chosen by priority, then by the fewest parts in flight
//! (destination, then drop directory); then come uploads with none in flight, then by rank, by the fewest parts
//! left, and by age. So a new small file goes before the second part of a big one, drop directories share evenly,
//! and begun files are finished: the file nearest to its end gets the next free permit.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::disk::Disk;
use super::settings::{PartsInFlight, Settings};
use crate::model::{DestinationName, DirectoryName, UploadId};

/// Limit of receipts that are written at once.
const RECEIPTS_MAX: usize = 256;

#[derive(Debug)]
pub(super) struct Permits {
    load: Load,
    disk: Disk,
    may_send: bool,
    receipt_count: usize,
    /// A part waits until more of what was sent is durable.
    waits_for_disk: bool,
}

/// An open upload that has a part to send, with what the choice needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Contender {
    pub upload: UploadId,
    pub destination: DestinationName,
    pub drop: DirectoryName,
    pub priority: i32,
    /// Its rank in its drop directory's order.
    pub rank: u32,
    pub flying_count: u32,
    /// Parts that have not arrived.
    pub left_count: u32,
}

/// Parts in flight, by destination and by drop directory.
#[derive(Debug, Default)]
struct Load {
    by_destination: BTreeMap<DestinationName, u32>,
    by_drop: BTreeMap<DirectoryName, u32>,
}

impl Permits {
    pub(super) fn new(next_upload: UploadId) -> Self {
        Self {
            load: Load::default(),
            disk: Disk::new(next_upload),
            may_send: true,
            receipt_count: 0,
            waits_for_disk: false,
        }
    }

    pub(super) fn set_may_send(&mut self, may_send: bool) {
        self.may_send = may_send;
    }

    pub(super) fn disk(&mut self) -> &mut Disk {
        &mut self.disk
    }

    /// Begins a turn; returns whether anything has waited for the disk since the last one.
    pub(super) fn begin_turn(&mut self) -> bool {
        std::mem::take(&mut self.waits_for_disk)
    }

    pub(super) fn waits_for_disk(&self) -> bool {
        self.waits_for_disk
    }

    pub(super) fn has_part(&self, settings: &Settings) -> bool {
        let in_flight = self.part_count();
        let by_memory = settings.memory.0 / settings.memory_per_part.0.max(1);
        self.may_send
            && u64::from(in_flight) < by_memory.max(1)
            && match settings.parts_in_flight {
                PartsInFlight::Auto => true,
                PartsInFlight::Fixed(count) => in_flight < count,
            }
    }

    /// Returns whether a crash would cost at most `room` bytes if more were sent.
    pub(super) fn may_be_ahead(&mut self, room: u64) -> bool {
        let is_within = self.disk.unproved_bytes() <= room;
        self.waits_for_disk |= !is_within;
        is_within
    }

    pub(super) fn part_count(&self) -> u32 {
        self.load.by_destination.values().sum()
    }

    /// Returns whether one more part of a drop directory may be in flight.
    pub(super) fn has_place(&self, drop: &DirectoryName, max: PartsInFlight) -> bool {
        match max {
            PartsInFlight::Auto => true,
            PartsInFlight::Fixed(max) => self.load.by_drop.get(drop).is_none_or(|n| *n < max),
        }
    }

    pub(super) fn take_part(&mut self, destination: &DestinationName, drop: &DirectoryName) {
        *self.load.by_destination.entry(destination.clone()).or_default() += 1;
        *self.load.by_drop.entry(drop.clone()).or_default() += 1;
    }

    pub(super) fn return_part(&mut self, destination: &DestinationName, drop: &DirectoryName) {
        if let Some(count) = self.load.by_destination.get_mut(destination) {
            *count = count.saturating_sub(1);
        }
        if let Some(count) = self.load.by_drop.get_mut(drop) {
            *count = count.saturating_sub(1);
        }
    }

    pub(super) fn receipt_room(&self) -> usize {
        RECEIPTS_MAX.saturating_sub(self.receipt_count)
    }

    pub(super) fn take_receipt(&mut self) {
        self.receipt_count += 1;
    }

    pub(super) fn return_receipt(&mut self) {
        self.receipt_count = self.receipt_count.saturating_sub(1);
    }

    /// Returns the position of the contender to send next.
    pub(super) fn choose(&self, contenders: &[Contender]) -> Option<usize> {
        let load = &self.load;
        let key = |contender: &Contender| {
            (
                Reverse(contender.priority),
                load.by_destination.get(&contender.destination).copied().unwrap_or(0),
                load.by_drop.get(&contender.drop).copied().unwrap_or(0),
                contender.flying_count.min(1),
                contender.rank,
                contender.left_count,
                contender.upload,
            )
        };
        (0..contenders.len()).min_by_key(|index| key(&contenders[*index]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contender(upload: i64, drop: &str, flying_count: u32) -> Contender {
        Contender {
            upload: UploadId(upload),
            destination: DestinationName::new("d"),
            drop: DirectoryName::new(drop),
            priority: 0,
            rank: 0,
            flying_count,
            left_count: 1,
        }
    }

    fn permits() -> Permits {
        Permits::new(UploadId(1))
    }

    fn chosen(permits: &Permits, contenders: &[Contender]) -> Option<i64> {
        permits.choose(contenders).map(|index| contenders[index].upload.0)
    }

    #[test]
    fn the_drop_with_fewer_parts_on_their_way_goes_first() {
        let mut permits = permits();
        permits.take_part(&DestinationName::new("d"), &DirectoryName::new("busy"));
        let both = [contender(1, "busy", 0), contender(2, "idle", 0)];
        assert_eq!(chosen(&permits, &both), Some(2));
    }

    #[test]
    fn a_drop_directory_has_no_more_parts_in_flight_than_its_places() {
        let mut permits = permits();
        let (far, lab) = (DestinationName::new("d"), DirectoryName::new("lab"));
        for _ in 0..2 {
            assert!(permits.has_place(&lab, PartsInFlight::Fixed(2)));
            permits.take_part(&far, &lab);
        }
        assert!(!permits.has_place(&lab, PartsInFlight::Fixed(2)));
        assert!(permits.has_place(&lab, PartsInFlight::Auto));
        assert!(permits.has_place(&DirectoryName::new("other"), PartsInFlight::Fixed(1)));
        permits.return_part(&far, &lab);
        assert!(permits.has_place(&lab, PartsInFlight::Fixed(2)));
    }

    #[test]
    fn a_small_new_file_goes_before_another_part_of_a_big_one() {
        assert_eq!(chosen(&permits(), &[contender(1, "a", 3), contender(2, "a", 0)]), Some(2));
    }

    #[test]
    fn what_is_nearest_to_its_end_is_finished_first_and_none_goes_without_a_part() {
        let left =
            |upload, flying, left_count| Contender { left_count, ..contender(upload, "a", flying) };
        assert_eq!(chosen(&permits(), &[left(1, 3, 90), left(2, 5, 4)]), Some(2));
        assert_eq!(chosen(&permits(), &[left(1, 0, 90), left(2, 5, 4)]), Some(1));
        assert_eq!(chosen(&permits(), &[left(2, 1, 4), left(1, 3, 4)]), Some(1), "by age");
    }

    #[test]
    fn priority_goes_before_fairness_and_rank_before_age() {
        let permits = permits();
        let urgent = Contender { priority: 1, ..contender(9, "a", 5) };
        assert_eq!(chosen(&permits, &[contender(1, "a", 0), urgent]), Some(9));
        let late = Contender { rank: 1, ..contender(1, "a", 0) };
        assert_eq!(chosen(&permits, &[late, contender(2, "a", 0)]), Some(2));
        assert_eq!(chosen(&permits, &[]), None);
    }
}
