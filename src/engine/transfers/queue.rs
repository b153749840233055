//! Which uploads of one destination may run.
//!
//! An upload is *ready* when it may continue and has no place, and *open* when it has one. Places
//! are counted for each drop directory, in two lanes: uploads of one part, and larger ones, so that
//! neither many small files nor one big file delays the other. An upload that waits, parks or ends
//! gives its place back; begun uploads get places before others. Large ones are opened no faster
//! than their parts are sent: begun files are finished first, and a kill costs the least.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::upload::Upload;
use crate::model::{DirectoryName, Stage, UploadId};

/// Minimum of large uploads of a lane with a place.
const LARGE_MIN: usize = 4;
/// This many have one however many parts they have: a file of terabytes does not delay all others.
const LARGE_ALWAYS: usize = 2;
/// More have one while at most this many parts are to be sent for each that may be in flight: the
/// next file begins while the last parts of those before are sent.
const PARTS_AHEAD: u64 = 2;
/// Small ones: most of their time is calls other than their part.
const SMALL_MIN: usize = 8;

#[derive(Debug, Default)]
pub(super) struct Queue {
    lanes: BTreeMap<LaneKey, Lane>,
}

/// The small or the large files of one drop directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct LaneKey {
    drop: DirectoryName,
    is_small: bool,
}

#[derive(Debug, Default)]
struct Lane {
    ready: BTreeSet<(Reverse<u8>, u32, UploadId)>,
    open: BTreeSet<UploadId>,
}

impl Queue {
    /// Queues an upload, unless it has a place already.
    pub(super) fn ready(&mut self, upload: &Upload) {
        let lane = self.lanes.entry(LaneKey::of(upload)).or_default();
        if !lane.open.contains(&upload.id()) {
            lane.ready.insert(position(upload));
        }
    }

    pub(super) fn remove(&mut self, upload: &Upload) {
        if let Some(lane) = self.lanes.get_mut(&LaneKey::of(upload)) {
            lane.open.remove(&upload.id());
            let (_, rank, id) = position(upload);
            (0..=PROGRESS_MAX).for_each(|progress| {
                lane.ready.remove(&(Reverse(progress), rank, id));
            });
        }
    }

    /// Gives free places to ready uploads: in a lane to as many large ones as keep this many parts
    /// in flight, and to twice as many small ones. Uploads without a begin get none where they may
    /// not begin. `parts_of` returns how many parts an upload could have in flight.
    pub(super) fn open_more(
        &mut self,
        width: u32,
        may_begin: bool,
        mut parts_of: impl FnMut(UploadId) -> u32,
    ) {
        let parts_max = PARTS_AHEAD * u64::from(width);
        let width = width as usize;
        let (large_max, small_max) = (width.max(LARGE_MIN), (width * 2).max(SMALL_MIN));
        for (key, lane) in &mut self.lanes {
            let room = if key.is_small { small_max } else { large_max };
            let mut parts_of = |id| if key.is_small { 0 } else { u64::from(parts_of(id)) };
            let mut parts: u64 = lane.open.iter().map(|id| parts_of(*id)).sum();
            while lane.open.len() < room && (lane.open.len() < LARGE_ALWAYS || parts < parts_max) {
                let first = lane.ready.first().filter(|(progress, ..)| may_begin || progress.0 > 0);
                let Some((_, _, id)) = first.copied() else { break };
                lane.ready.pop_first();
                lane.open.insert(id);
                parts += parts_of(id);
            }
        }
    }

    pub(super) fn has_any(&self) -> bool {
        self.lanes.values().any(|lane| !lane.ready.is_empty() || !lane.open.is_empty())
    }

    pub(super) fn has_small_ready(&self) -> bool {
        self.lanes.iter().any(|(key, lane)| key.is_small && !lane.ready.is_empty())
    }

    pub(super) fn open(&self) -> Vec<UploadId> {
        self.lanes.values().flat_map(|lane| lane.open.iter().copied()).collect()
    }
}

impl LaneKey {
    fn of(upload: &Upload) -> Self {
        Self { drop: upload.admission().file.drop.clone(), is_small: upload.is_small() }
    }
}

/// The highest progress that [`position`] gives.
const PROGRESS_MAX: u8 = 5;

fn position(upload: &Upload) -> (Reverse<u8>, u32, UploadId) {
    let progress = match upload.stage() {
        Stage::Queued => 0,
        Stage::Beginning { .. } => 1,
        Stage::Sending { .. } => 2,
        Stage::Completing { .. } => 3,
        Stage::Completed { .. } | Stage::Verified { .. } => 4,
        Stage::Receipted { .. } | Stage::Ended(_) => PROGRESS_MAX,
    };
    (Reverse(progress), upload.admission().rank, upload.id())
}
