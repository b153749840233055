//! Who may run now: which uploads are open, and which part goes next.
//!
//! An upload is *ready* when it may go on and has no place, and *open* when it has one. Places are
//! counted per destination and drop, in two lanes: uploads of one part, and larger ones, so that
//! neither many small files nor one big file keeps the other waiting. An upload that waits, parks
//! or ends gives its place back; what was begun before gets a place before what was not.
//!
//! Of all open uploads with a part to send, the next one is chosen by priority, then by who has the
//! fewest parts on their way: destination, drop, upload; then by rank and age. So a new small file
//! goes before the ninth part of a big one, and drops share evenly.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::upload::Upload;
use crate::model::{DestinationName, DirectoryName, Stage, UploadId};

/// Ready and open uploads.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    lanes: BTreeMap<LaneKey, Lane>,
}

/// Large uploads of a lane that have a place at least.
const LARGE_MIN: usize = 4;
/// Small ones: most of their time is calls besides their part.
const SMALL_MIN: usize = 8;

/// One destination, one drop directory, small or large files.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LaneKey {
    destination: DestinationName,
    drop: DirectoryName,
    is_small: bool,
}

#[derive(Debug, Default)]
struct Lane {
    ready: BTreeSet<(Reverse<u8>, u32, UploadId)>,
    open: BTreeSet<UploadId>,
}

impl Schedule {
    /// Lines an upload up, unless it has a place already.
    pub(crate) fn ready(&mut self, upload: &Upload) {
        let lane = self.lanes.entry(LaneKey::of(upload)).or_default();
        if !lane.open.contains(&upload.id()) {
            lane.ready.insert(position(upload));
        }
    }

    /// Takes an upload out: it waits, parks or ended.
    pub(crate) fn remove(&mut self, upload: &Upload) {
        if let Some(lane) = self.lanes.get_mut(&LaneKey::of(upload)) {
            lane.open.remove(&upload.id());
            let (_, rank, id) = position(upload);
            (0..=PROGRESS_MAX).for_each(|progress| {
                lane.ready.remove(&(Reverse(progress), rank, id));
            });
        }
    }

    /// Gives free places to ready uploads of one destination: to as many large ones in a lane as
    /// parts may be on their way, and to twice as many small ones.
    pub(crate) fn open_more(&mut self, destination: &DestinationName, width: u32) {
        let width = width as usize;
        let (large_max, small_max) = (width.max(LARGE_MIN), (width * 2).max(SMALL_MIN));
        for (key, lane) in &mut self.lanes {
            let room = if key.is_small { small_max } else { large_max };
            if key.destination != *destination {
                continue;
            }
            while lane.open.len() < room {
                let Some((_, _, id)) = lane.ready.pop_first() else { break };
                lane.open.insert(id);
            }
        }
    }

    /// Tells whether any upload of a destination is ready or open.
    pub(crate) fn has_any(&self, destination: &DestinationName) -> bool {
        let mut lanes = self.lanes.iter().filter(|(key, _)| key.destination == *destination);
        lanes.any(|(_, lane)| !lane.ready.is_empty() || !lane.open.is_empty())
    }

    /// Tells whether small files wait for a place.
    pub(crate) fn has_small_ready(&self) -> bool {
        self.lanes.iter().any(|(key, lane)| key.is_small && !lane.ready.is_empty())
    }

    /// Returns the open uploads of one destination.
    pub(crate) fn open(&self, destination: &DestinationName) -> Vec<UploadId> {
        let lanes = self.lanes.iter().filter(|(key, _)| key.destination == *destination);
        lanes.flat_map(|(_, lane)| lane.open.iter().copied()).collect()
    }
}

impl LaneKey {
    fn of(upload: &Upload) -> Self {
        Self {
            destination: upload.admission.destination.clone(),
            drop: upload.admission.drop.clone(),
            is_small: upload.admission.is_small,
        }
    }
}

/// The highest progress that [`position`] gives.
const PROGRESS_MAX: u8 = 5;

fn position(upload: &Upload) -> (Reverse<u8>, u32, UploadId) {
    let progress = match upload.state.stage {
        Stage::Queued => 0,
        Stage::Beginning { .. } => 1,
        Stage::Sending { .. } => 2,
        Stage::Completing { .. } => 3,
        Stage::Completed { .. } | Stage::Verified { .. } => 4,
        Stage::Receipted { .. } | Stage::Ended(_) => PROGRESS_MAX,
    };
    (Reverse(progress), upload.admission.rank, upload.id())
}

/// An open upload that has a part to send, as the choice sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Contender {
    pub(crate) upload: UploadId,
    pub(crate) destination: DestinationName,
    pub(crate) drop: DirectoryName,
    pub(crate) priority: i32,
    /// Its place in its drop's order.
    pub(crate) rank: u32,
    /// Its parts on their way.
    pub(crate) flying_count: u32,
}

/// Parts on their way, by destination and by drop.
#[derive(Debug, Default)]
pub(crate) struct Load {
    by_destination: BTreeMap<DestinationName, u32>,
    by_drop: BTreeMap<DirectoryName, u32>,
}

impl Load {
    /// Counts one part more.
    pub(crate) fn add(&mut self, destination: &DestinationName, drop: &DirectoryName) {
        *self.by_destination.entry(destination.clone()).or_default() += 1;
        *self.by_drop.entry(drop.clone()).or_default() += 1;
    }

    /// Counts one part less.
    pub(crate) fn remove(&mut self, destination: &DestinationName, drop: &DirectoryName) {
        if let Some(count) = self.by_destination.get_mut(destination) {
            *count = count.saturating_sub(1);
        }
        if let Some(count) = self.by_drop.get_mut(drop) {
            *count = count.saturating_sub(1);
        }
    }

    /// Returns all parts on their way.
    pub(crate) fn total(&self) -> u32 {
        self.by_destination.values().sum()
    }

    /// Returns the position of the contender whose turn it is.
    pub(crate) fn choose(&self, contenders: &[Contender]) -> Option<usize> {
        let key = |contender: &Contender| {
            (
                Reverse(contender.priority),
                self.by_destination.get(&contender.destination).copied().unwrap_or(0),
                self.by_drop.get(&contender.drop).copied().unwrap_or(0),
                contender.flying_count,
                contender.rank,
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
        }
    }

    fn chosen(load: &Load, contenders: &[Contender]) -> Option<i64> {
        load.choose(contenders).map(|index| contenders[index].upload.0)
    }

    #[test]
    fn the_drop_with_fewer_parts_on_their_way_goes_first() {
        let mut load = Load::default();
        load.add(&DestinationName::new("d"), &DirectoryName::new("busy"));
        assert_eq!(chosen(&load, &[contender(1, "busy", 0), contender(2, "idle", 0)]), Some(2));
    }

    #[test]
    fn a_small_new_file_goes_before_another_part_of_a_big_one() {
        let load = Load::default();
        assert_eq!(chosen(&load, &[contender(1, "a", 3), contender(2, "a", 0)]), Some(2));
    }

    #[test]
    fn priority_goes_before_fairness_and_rank_before_age() {
        let load = Load::default();
        let urgent = Contender { priority: 1, ..contender(9, "a", 5) };
        assert_eq!(chosen(&load, &[contender(1, "a", 0), urgent]), Some(9));
        let late = Contender { rank: 1, ..contender(1, "a", 0) };
        assert_eq!(chosen(&load, &[late, contender(2, "a", 0)]), Some(2));
        assert_eq!(chosen(&load, &[]), None);
    }
}
