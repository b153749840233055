//! One place at a destination belongs to one upload at a time, and to one source of ours.
//!
//! A place is what a file's folder and name are at a target; two destinations with one target share
//! its places. An upload claims its place when it is admitted, and holds it until it ends, or parks
//! before anything was begun for it. Another one that is to have the same place waits, with its row
//! naming the upload it waits for, and then goes on like any other: it finds the name taken.
//!
//! What stands at a place may have been made or found by another source of ours, which the table
//! `places` knows. It is asked before anything replaces, renames around or parks because of a file that
//! is there. A place of another source of ours is never replaced: the same content completes without
//! bytes, another parks with both named, or gets another name where the operator wants that.
//!
//! Memory holds eight bytes for the place of each open upload. Two places with the same digest would be
//! taken for one, and one upload wait for the other; nothing else would happen.
//!
//! At a crash the admission is the claim: uploads that are loaded claim their places in the order of
//! their ids, but for those whose rows say that they wait.

use std::collections::{BTreeMap, BTreeSet};

use super::Engine;
use super::event::FindHolder;
use super::known::Filter;
use super::ticket::Ticket;
use super::turn::Turn;
use super::upload::{Doubt, Upload};
use crate::model::{
    Fact, Hold, OpenCleanup, PathDigest, PlaceHolder, PlaceSource, Record, SourcePath, Stage,
    TargetId, UploadId,
};

/// What stands for a place.
type PlaceDigest = [u8; 8];

/// Which open uploads hold places, and which wait for them.
#[derive(Debug, Default)]
pub(super) struct Claims {
    holders: BTreeMap<PlaceDigest, UploadId>,
    waiting: BTreeSet<(PlaceDigest, UploadId)>,
    /// Places at which uploads of ours made or found files in this life. What is remembered of names at
    /// the far side may be older than that, so whose such a place is is asked before anything is sent.
    filled: Filter,
}

/// What is known of the source that a file at an upload's place belongs to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Owner {
    /// It was not asked for.
    #[default]
    Unknown,
    /// No other source of ours.
    NoneOfOurs,
    /// Another source of ours.
    Ours(Box<PlaceHolder>),
}

impl Claims {
    fn holder(&self, place: PlaceDigest) -> Option<UploadId> {
        self.holders.get(&place).copied()
    }

    /// Returns the upload that has waited longest for a place.
    fn next(&self, place: PlaceDigest) -> Option<UploadId> {
        let range = (place, UploadId(i64::MIN))..=(place, UploadId(i64::MAX));
        self.waiting.range(range).next().map(|(_, id)| *id)
    }
}

impl Ticket {
    fn place_digest(&self, target: TargetId) -> PlaceDigest {
        let mut place = target.0.to_be_bytes().to_vec();
        place.extend_from_slice(self.target_path().as_bytes());
        PathDigest::of(&place).head()
    }
}

impl Engine {
    /// Returns what stands for an upload's place; none where the platform has no places, or the
    /// destination is not configured.
    fn place_digest(&self, upload: &Upload) -> Option<PlaceDigest> {
        let gate = self.gates.get(&upload.admission.destination)?;
        let target = upload.admission.target_id;
        let target = if gate.targets.has(target) { gate.targets.canonical() } else { target };
        gate.settings.traits.has_places.then(|| upload.admission.place_digest(target))
    }

    /// Claims an upload's place, or has it wait for the upload that holds it.
    pub(super) fn claim(&mut self, id: UploadId, turn: &mut Turn) {
        let Some(upload) = self.uploads.get(&id) else { return };
        if upload.state.stage.is_end() || upload.rests() {
            return;
        }
        let (awaited, has_begun) = (upload.life.waits_for, upload.state.stage != Stage::Queued);
        let Some(place) = self.place_digest(upload) else {
            return self.stop_waiting(id, turn);
        };
        let holder = self.claims.holder(place).filter(|holder| *holder != id);
        // At a start, the one that it waited for may not have been loaded.
        let is_early = self.loading.is_some() && awaited.is_some() && !has_begun;
        match holder {
            None if !is_early => {
                self.claims.waiting.remove(&(place, id));
                self.claims.holders.insert(place, id);
                self.stop_waiting(id, turn);
                self.doubt_owner(id, place);
            }
            holder => {
                self.claims.waiting.insert((place, id));
                self.await_place(id, holder.or(awaited), turn);
            }
        }
    }

    /// A file of ours may stand at a place that an upload has claimed.
    fn doubt_owner(&mut self, id: UploadId, place: PlaceDigest) {
        let is_filled = self.claims.filled.contains(u64::from_be_bytes(place));
        if let Some(upload) = self.uploads.get_mut(&id).filter(|_| is_filled) {
            upload.life.is_place_filled = true;
        }
    }

    fn stop_waiting(&mut self, id: UploadId, turn: &mut Turn) {
        if self.uploads.get(&id).is_some_and(|upload| upload.life.waits_for.is_some()) {
            self.await_place(id, None, turn);
        }
    }

    fn await_place(&mut self, id: UploadId, holder: Option<UploadId>, turn: &mut Turn) {
        let Some(upload) = self.uploads.get_mut(&id) else { return };
        if upload.life.waits_for != holder {
            upload.life.waits_for = holder;
            turn.record(Record::PlaceAwaited { upload: id, holder });
        }
    }

    /// Gives up an upload's claim. The one that has waited longest for the place has it from here on.
    pub(super) fn unclaim(&mut self, id: UploadId, turn: &mut Turn) {
        let Some(place) = self.uploads.get(&id).and_then(|upload| self.place_digest(upload)) else {
            return;
        };
        self.claims.waiting.remove(&(place, id));
        if self.claims.holder(place) != Some(id) {
            return;
        }
        self.claims.holders.remove(&place);
        if let Some(next) = self.claims.next(place) {
            self.claim(next, turn);
            self.place(next, turn);
        }
        self.name_holder(place, turn);
    }

    /// Has the rows of all that wait for a place name the upload that holds it.
    fn name_holder(&mut self, place: PlaceDigest, turn: &mut Turn) {
        let Some(holder) = self.claims.holder(place) else { return };
        let range = (place, UploadId(i64::MIN))..=(place, UploadId(i64::MAX));
        let waiting: Vec<_> = self.claims.waiting.range(range).map(|(_, id)| *id).collect();
        waiting.into_iter().for_each(|id| self.await_place(id, Some(holder), turn));
    }

    /// Claims every place anew: which targets are the same has changed. What was begun goes first.
    pub(super) fn claim_all(&mut self, turn: &mut Turn) {
        let filled = std::mem::take(&mut self.claims.filled);
        self.claims = Claims { filled, ..Claims::default() };
        let mut ids: Vec<_> = self.uploads.values().map(|u| (u.claim_order(), u.id())).collect();
        ids.sort_unstable();
        for (_, id) in ids {
            self.claim(id, turn);
            self.restart_waiting(id, turn);
        }
    }

    /// What was begun at a place that another upload turns out to hold begins again when it is free.
    fn restart_waiting(&mut self, id: UploadId, turn: &mut Turn) {
        let Some(upload) = self.uploads.get(&id) else { return };
        let Some(remote) = upload.unfinished_remote().filter(|_| upload.life.waits_for.is_some())
        else {
            return;
        };
        let destination = upload.admission.destination.clone();
        let target = upload.admission.target_id;
        self.clean_up(OpenCleanup { destination, target, remote }, turn);
        self.record(id, Fact::RemoteGone, turn);
        if let Some(upload) = self.uploads.get_mut(&id) {
            (upload.life.doubt, upload.life.control) = (Doubt::Ask, None);
        }
    }

    /// All uploads are in memory: a place that only those claim that wait for it is the first one's.
    pub(super) fn claim_free(&mut self, turn: &mut Turn) {
        let waiting: Vec<_> = self.claims.waiting.iter().copied().collect();
        for (place, id) in waiting {
            if self.claims.holder(place).is_none() {
                self.claim(id, turn);
                self.place(id, turn);
            }
            self.name_holder(place, turn);
        }
    }

    /// Notes what a fact means for the place of an upload, before it is applied.
    pub(super) fn leave_place(&mut self, id: UploadId, fact: &Fact, turn: &mut Turn) {
        let is_queued =
            self.uploads.get(&id).is_some_and(|upload| upload.state.stage == Stage::Queued);
        let leaves = match fact {
            Fact::Renamed { .. } | Fact::Retargeted { .. } => true,
            Fact::ReceiptWritten { .. } | Fact::SourceChanged { .. } | Fact::Abandoned { .. } => {
                true
            }
            Fact::Parked { .. } => is_queued,
            Fact::BeginIntended { .. }
            | Fact::Begun { .. }
            | Fact::PartAccepted { .. }
            | Fact::PartsReported { .. }
            | Fact::PartReopened { .. }
            | Fact::ETagModeLearned { .. }
            | Fact::CompleteIntended { .. }
            | Fact::CompleteWithdrawn
            | Fact::Completed { .. }
            | Fact::FoundPresent { .. }
            | Fact::Described
            | Fact::Verified { .. }
            | Fact::Digested { .. }
            | Fact::ExportIntended { .. }
            | Fact::ExportStarted { .. }
            | Fact::ExportFailed { .. }
            | Fact::Exported { .. }
            | Fact::AttemptFailed { .. }
            | Fact::PartSizeRaised { .. }
            | Fact::InFlight { .. }
            | Fact::SentInVain { .. }
            | Fact::Released
            | Fact::RemoteGone => false,
        };
        if leaves {
            self.unclaim(id, turn);
        }
    }

    /// Notes what a fact means for the place of an upload, once it is applied.
    pub(super) fn take_place(&mut self, id: UploadId, fact: &Fact, turn: &mut Turn) {
        if matches!(fact, Fact::Renamed { .. } | Fact::Retargeted { .. } | Fact::Released) {
            self.claim(id, turn);
        }
        if matches!(fact, Fact::Completed { .. } | Fact::FoundPresent { .. }) {
            self.hold_place(id, matches!(fact, Fact::Completed { .. }), turn);
        }
    }

    fn hold_place(&mut self, id: UploadId, is_made: bool, turn: &mut Turn) {
        let Some(upload) = self.uploads.get(&id) else { return };
        let gate = self.gates.get(&upload.admission.destination);
        let Some(source) = self.place_source(upload) else { return };
        // It may have been completed although its destination is not configured any more.
        if gate.is_none_or(|gate| gate.settings.traits.has_places) {
            let place = self.place_digest(upload);
            turn.record(Record::PlaceHeld {
                target: upload.admission.target_id,
                place: upload.admission.target(),
                holder: PlaceHolder { upload: id, source },
                is_made,
            });
            if let Some(place) = place {
                self.claims.filled.insert(u64::from_be_bytes(place));
            }
        }
    }

    /// Returns the source of an upload, as the owner of a place: the file's own path, so that it is one source
    /// however its drop directory is named, or if it was handed in.
    fn place_source(&self, upload: &Upload) -> Option<PlaceSource> {
        let Ticket { drop, path, is_sentinel, .. } = &upload.admission;
        if *is_sentinel {
            let (directory, path) =
                (format!("receipts of {drop}"), upload.admission.sentinel_run());
            return Some(PlaceSource { directory, path });
        }
        let directory = match &upload.life.directory {
            Some(directory) => &**directory,
            None => self.intakes.get(drop)?.settings().directory.as_str(),
        };
        let above = directory.trim_matches('/');
        let path = match above.is_empty() {
            true => path.clone(),
            false => SourcePath::from_bytes(above.as_bytes()).child(path.as_bytes()),
        };
        Some(PlaceSource { directory: "/".to_owned(), path })
    }

    /// Returns what is asked about the owner of an upload's place.
    pub(super) fn find_holder(&self, upload: &Upload) -> Option<FindHolder> {
        let gate = self.gates.get(&upload.admission.destination)?;
        Some(FindHolder {
            upload: upload.id(),
            targets: gate.targets.all().to_vec(),
            place: upload.admission.target(),
            source: self.place_source(upload)?,
        })
    }
}

impl Upload {
    /// Tells whether it must be known whose a file under its name is: before that is replaced, and once
    /// one was found.
    pub(crate) fn asks_for_owner(&self, replaces: bool) -> bool {
        self.state.stage == Stage::Queued
            && self.life.owner == Owner::Unknown
            && (replaces || self.life.is_place_filled || self.life.found.is_some())
    }

    /// Tells whether nothing was begun for it and nothing will be until someone acts.
    fn rests(&self) -> bool {
        self.state.stage == Stage::Queued && matches!(self.state.hold, Hold::Parked { .. })
    }

    fn claim_order(&self) -> u8 {
        match (&self.state.stage, self.life.waits_for) {
            (Stage::Queued, None) => 1,
            (Stage::Queued, Some(_)) => 2,
            (
                Stage::Beginning { .. }
                | Stage::Sending { .. }
                | Stage::Completing { .. }
                | Stage::Completed { .. }
                | Stage::Verified { .. }
                | Stage::Receipted { .. }
                | Stage::Ended(_),
                _,
            ) => 0,
        }
    }
}
