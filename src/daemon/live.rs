//! Answers with what only the running daemon knows.

use std::sync::Arc;

use super::context::World;
use crate::model::{Live, LowDisk};
use crate::source;

pub(super) fn read(world: &Arc<World>) -> Live {
    let now = world.clock.now();
    let paced = world.destinations.iter();
    let paced = paced.filter_map(|(name, to)| Some((name.clone(), to.paced(now)?)));
    Live {
        flows: world.bandwidth.meters.flows(now),
        paced: paced.collect(),
        stopped: world.bandwidth.stopped(),
        parts: world.bandwidth.meters.parts_in_flight(),
        low_disks: low_disks(world),
    }
}

/// Lists file systems with little free space, each once. For drop directories the result of their
/// last scans is used, because a share may not answer.
fn low_disks(world: &World) -> Vec<LowDisk> {
    let state = || (world.state.as_path(), None, source::space(&world.state));
    let drops = world.sources.iter();
    let drops = drops.map(|(name, of)| (of.root.path(), Some(name), of.space()));
    let mut low: Vec<LowDisk> = Vec::new();
    for (directory, drop, space) in std::iter::once_with(state).chain(drops) {
        let Some(space) = space.filter(|space| world.channels.disk_floor.is_low(*space, false))
        else {
            continue;
        };
        if low.iter().all(|known| known.space.total != space.total) {
            let directory = directory.display().to_string();
            low.push(LowDisk { directory, drop: drop.cloned(), space });
        }
    }
    low
}
