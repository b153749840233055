//! New settings without a new start: what is in flight goes on, what is gone parks, what is new begins.
//! A destination that was closed is tried at once.
//! Of what is new to this life, the rows are read first ([`super::reread`]).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Engine;
use super::gate::{Cleanup, Gate};
use super::intake::Intake;
use super::reread::Unread;
use super::schedule::Schedule;
use super::settings::{DirectorySettings, Settings};
use super::ticket::Ticket;
use super::turn::Turn;
use super::upload::Upload;
use crate::model::{DestinationName, DirectoryName, Fact, Hold, OpenCleanup, ParkReason, UploadId};

impl Engine {
    pub(super) fn on_reconfigured(&mut self, settings: Settings, turn: &mut Turn) {
        let roots = self.roots();
        let unread = self.replace_drops(&settings, turn);
        self.load_roots(roots, turn.now);
        self.replace_gates(&settings, turn);
        self.schedule = Schedule::default();
        self.notices.reconfigure(&settings, turn.now);
        self.settings = settings;
        let ids: Vec<_> = self.uploads.keys().copied().collect();
        ids.iter().for_each(|id| self.retarget(*id, turn));
        self.claim_all(turn);
        self.join_drops(turn);
        self.read_again(unread, turn);
        ids.into_iter().for_each(|id| self.park_or_release(id, turn));
    }

    /// Returns the drop directories of which rows must be read: those that memory does not know under
    /// their directory, and those with a destination that memory does not know for them.
    fn replace_drops(
        &mut self,
        settings: &Settings,
        turn: &Turn,
    ) -> BTreeMap<DirectoryName, Unread> {
        let mut old = std::mem::take(&mut self.intakes);
        let mut unread = BTreeMap::new();
        for drop in &settings.drops {
            let known = old.remove(&drop.name);
            let is_other = |intake: &Intake| intake.settings().directory != drop.directory;
            if let Some(intake) = known.as_ref().filter(|intake| is_other(intake)) {
                self.keep_directory(intake.settings());
            }
            let known = known.filter(|intake| !is_other(intake));
            if known.as_ref().is_none_or(|known| lacks_any(known, &drop.destinations)) {
                unread.insert(drop.name.clone(), Unread::new(known.is_none()));
            }
            let intake = match known {
                Some(mut intake) => {
                    intake.reconfigure(drop.clone());
                    intake
                }
                None => Intake::new(drop.clone(), turn.now.monotonic),
            };
            self.intakes.insert(drop.name.clone(), intake);
        }
        old.values().for_each(|intake| self.keep_directory(intake.settings()));
        unread
    }

    /// Open uploads remember the directory of their files, for its name stands for another one or for none.
    fn keep_directory(&mut self, drop: &DirectorySettings) {
        let directory: Arc<str> = drop.directory.as_str().into();
        let of_drop = self.uploads.values_mut().filter(|u| u.admission.drop == drop.name);
        for upload in of_drop {
            upload.life.directory.get_or_insert_with(|| Arc::clone(&directory));
        }
    }

    fn replace_gates(&mut self, settings: &Settings, turn: &mut Turn) {
        let mut old = std::mem::take(&mut self.gates);
        for destination in &settings.destinations {
            let gate = match old.remove(&destination.name) {
                Some(mut gate) => {
                    // What made it wait may be what was changed.
                    gate.lift(turn.now.monotonic);
                    gate.settings = destination.clone();
                    gate
                }
                None => Gate::new(destination.clone()),
            };
            self.gates.insert(destination.name.clone(), gate);
        }
        for (destination, gate) in old {
            let what = |(remote, cleanup): (_, Cleanup)| OpenCleanup {
                destination: destination.clone(),
                target: cleanup.target,
                remote,
            };
            self.cleanups_elsewhere.extend(gate.cleanups.into_iter().map(what));
        }
        self.assign_targets(turn);
        for destination in &settings.destinations {
            self.record_destination(&destination.name, turn);
        }
    }

    /// Opens the drops of open uploads where their destinations want that.
    fn join_drops(&mut self, turn: &mut Turn) {
        let wants = |upload: &Upload| {
            let gate = self.gates.get(&upload.admission.destination);
            gate.is_some_and(|gate| gate.settings.traits.finishes_drops)
        };
        let of_them = self.uploads.values().filter(|upload| wants(upload));
        let ids: Vec<_> = of_them.map(|upload| upload.id()).collect();
        for id in ids {
            let Some(upload) = self.uploads.remove(&id) else { continue };
            self.join_drop(&upload.admission, turn);
            self.uploads.insert(id, upload);
        }
    }

    /// Parks an upload again that an answer has moved although its drop directory or destination is out.
    pub(super) fn park_if_out(&mut self, id: UploadId, turn: &mut Turn) {
        let is_out = |upload: &Upload| {
            let Ticket { destination, drop, .. } = &upload.admission;
            upload.state.hold == Hold::None
                && !(self.gates.contains_key(destination) && self.intakes.contains_key(drop))
        };
        if self.uploads.get(&id).is_some_and(|upload| is_out(upload)) {
            self.park_or_release(id, turn);
        }
    }

    /// Parks an upload whose drop or destination is gone, releases one whose are back.
    pub(super) fn park_or_release(&mut self, id: UploadId, turn: &mut Turn) {
        let Some(upload) = self.uploads.get(&id) else { return };
        let loading = self.loading.as_ref();
        if loading.is_some_and(|loading| loading.again.has_new(&upload.admission.drop)) {
            return;
        }
        let is_configured = self.gates.contains_key(&upload.admission.destination)
            && self.intakes.contains_key(&upload.admission.drop);
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

/// Returns whether a drop directory has not all of these destinations.
fn lacks_any(intake: &Intake, destinations: &[DestinationName]) -> bool {
    destinations.iter().any(|name| !intake.settings().destinations.contains(name))
}
