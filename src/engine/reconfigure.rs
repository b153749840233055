//! New settings without a new start: what is in flight goes on, what is gone parks, what is new begins.
//! A destination that was closed is tried at once.

use std::collections::BTreeMap;

use super::Engine;
use super::files::Files;
use super::gate::Gate;
use super::schedule::Schedule;
use super::settings::{DropSettings, Settings};
use super::turn::Turn;
use crate::model::{Fact, Hold, ParkReason, UploadId};

impl Engine {
    pub(super) fn on_reconfigured(&mut self, settings: Settings, turn: &mut Turn) {
        let roots = self.roots();
        let mut old = std::mem::take(&mut self.drops);
        for drop in &settings.drops {
            let files = match old.remove(&drop.name) {
                Some(files) => adopt(files, drop.clone()),
                None => Files::new(drop.clone(), turn.now.monotonic),
            };
            self.drops.insert(drop.name.clone(), files);
        }
        self.take_roots(roots);
        let mut old = std::mem::take(&mut self.gates);
        for destination in &settings.destinations {
            let gate = match old.remove(&destination.name) {
                Some(mut gate) => {
                    // What made it wait may be what was changed.
                    gate.lift(turn.now.monotonic);
                    Gate { settings: destination.clone(), ..gate }
                }
                None => Gate::new(destination.clone()),
            };
            self.gates.insert(destination.name.clone(), gate);
            self.record_destination(&destination.name, turn);
        }
        self.schedule = Schedule::default();
        self.outbox.reconfigure(&settings.channels, turn.now);
        self.settings = settings;
        let ids: Vec<_> = self.uploads.keys().copied().collect();
        ids.into_iter().for_each(|id| self.park_or_release(id, turn));
    }

    /// Parks an upload whose drop or destination is gone, releases one whose are back.
    pub(super) fn park_or_release(&mut self, id: UploadId, turn: &mut Turn) {
        let Some(upload) = self.uploads.get(&id) else { return };
        let is_configured = self.gates.contains_key(&upload.admission.destination)
            && self.drops.contains_key(&upload.admission.drop);
        let is_parked_for_it =
            upload.state.hold == Hold::Parked { reason: ParkReason::NotConfigured };
        let fact = match (is_configured, is_parked_for_it) {
            (false, false) => Some(Fact::Parked {
                reason: ParkReason::NotConfigured,
                detail: ParkReason::NotConfigured.sentence().into(),
                at: turn.now.wall,
            }),
            (true, true) => Some(Fact::Released),
            (false, true) | (true, false) => None,
        };
        match fact {
            Some(fact) => self.record(id, fact, turn),
            None => self.place(id, turn),
        }
    }
}

/// Keeps what is known of a drop directory; which destinations a file was admitted for is kept by
/// position, so the positions are translated.
fn adopt(mut files: Files, settings: DropSettings) -> Files {
    if files.settings.directory != settings.directory {
        let now = crate::model::Monotonic(std::time::Duration::ZERO);
        return Files::new(settings, now);
    }
    let places: BTreeMap<_, _> =
        settings.destinations.iter().enumerate().map(|(place, name)| (name, place)).collect();
    let moved: Vec<_> =
        files.settings.destinations.iter().map(|name| places.get(name).copied()).collect();
    files.known.translate(|old| {
        let bits = moved.iter().enumerate().filter(|(place, _)| old >> place & 1 == 1);
        bits.filter_map(|(_, place)| *place).fold(0, |set, place| set | 1 << place)
    });
    files.settle.set_quiet_period(settings.quiet_period);
    Files { settings, ..files }
}
