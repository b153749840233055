//! Answers with what only the running daemon knows.

use std::sync::Arc;

use super::context::World;
use crate::model::Live;

pub(super) fn read(world: &Arc<World>) -> Live {
    let now = world.clock.now();
    let paced = world.destinations.iter();
    let paced = paced.filter_map(|(name, to)| Some((name.clone(), to.paced(now)?)));
    Live {
        flows: world.bandwidth.meters.flows(now),
        paced: paced.collect(),
        stopped: world.bandwidth.stopped(),
        parts: world.bandwidth.meters.parts_in_flight(),
    }
}
