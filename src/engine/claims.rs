//! A place at a destination belongs to one upload at a time, and to one source of ours.
//!
//! A place is a file's folder and name at a target; two destinations with one target share its
//! places. An upload claims its place when it is admitted, and holds it until it ends, or parks
//! before anything was begun for it. Another upload for the same place waits, with a row that names
//! the holder, and then continues like any other: it finds the name taken.
//!
//! Another source of ours may have made or found the file at a place; the table `places` knows it. The table
//! is asked before anything replaces a file that is there, renames around it or parks because of it. A place
//! of another source of ours is never replaced: equal content completes without sending bytes, other content
//! parks with both sources named, or gets another name where the operator wants that.
//!
//! Memory holds eight bytes for the place of each open upload. If two places had the same digest,
//! one upload would wait for the other; nothing worse would happen.
//!
//! At a crash the admission is the claim: loaded uploads claim their places in the order of their
//! ids, except those whose rows say that they wait.

use std::collections::{BTreeMap, BTreeSet};

use super::dispatch::{Dispatch, ToUpload};
use super::known::BloomFilter;
use super::scene::Scene;
use crate::model::{PathDigest, Target, TargetId, UploadId};

pub(super) type PlaceDigest = [u8; 8];

/// Which open uploads hold places, and which wait for them.
#[derive(Debug, Default)]
pub(super) struct Claims {
    holders: BTreeMap<PlaceDigest, UploadId>,
    waiting: BTreeSet<(PlaceDigest, UploadId)>,
    /// Places at which uploads of ours made or found files since the start. Cached name look-ups
    /// may be older, so the owner of such a place is asked before anything is sent.
    filled: BloomFilter,
}

impl Claims {
    pub(super) fn holder(&self, place: PlaceDigest) -> Option<UploadId> {
        self.holders.get(&place).copied()
    }

    pub(super) fn hold(&mut self, place: PlaceDigest, id: UploadId) {
        self.waiting.remove(&(place, id));
        self.holders.insert(place, id);
    }

    pub(super) fn wait(&mut self, place: PlaceDigest, id: UploadId) {
        self.waiting.insert((place, id));
    }

    /// Removes the claim of an upload; returns whether it held the place.
    pub(super) fn leave(&mut self, place: PlaceDigest, id: UploadId) -> bool {
        self.waiting.remove(&(place, id));
        let held = self.holder(place) == Some(id);
        if held {
            self.holders.remove(&place);
        }
        held
    }

    /// Returns the uploads that wait for a place, the one that has waited longest first.
    fn waiting(&self, place: PlaceDigest) -> Vec<UploadId> {
        let range = (place, UploadId(i64::MIN))..=(place, UploadId(i64::MAX));
        self.waiting.range(range).map(|(_, id)| *id).collect()
    }

    /// Returns every place that an upload waits for.
    pub(super) fn all_awaited(&self) -> BTreeSet<PlaceDigest> {
        self.waiting.iter().map(|(place, _)| *place).collect()
    }

    /// Drops every claim, because other targets count as the same, and claims again. Begun uploads
    /// claim first.
    pub(super) fn renew(&mut self, scene: Scene<'_>) -> Vec<Dispatch> {
        self.holders.clear();
        self.waiting.clear();
        let claims = |id| {
            let claims = [ToUpload::Claim, ToUpload::RestartWaiting];
            claims.map(|what| Dispatch::Upload(id, what))
        };
        scene.ids_by(|upload| Some(upload.claim_order())).into_iter().flat_map(claims).collect()
    }

    /// Gives a free place to the upload that has waited longest for it.
    pub(super) fn hand_over(&self, place: PlaceDigest) -> Vec<Dispatch> {
        let next = self.waiting(place).first().copied();
        let next = next.filter(|_| self.holder(place).is_none()).into_iter();
        let goes_on = next.flat_map(|next| {
            [ToUpload::Claim, ToUpload::Place].map(|what| Dispatch::Upload(next, what))
        });
        goes_on.chain([Dispatch::PlaceTaken(place)]).collect()
    }

    /// Updates the rows of all that wait for a place with the upload that holds it.
    pub(super) fn name_holder(&self, place: PlaceDigest) -> Vec<Dispatch> {
        let Some(holder) = self.holder(place) else { return Vec::new() };
        Dispatch::uploads(self.waiting(place), ToUpload::AwaitPlace(holder)).collect()
    }

    pub(super) fn fill(&mut self, place: PlaceDigest) {
        self.filled.insert(u64::from_be_bytes(place));
    }

    /// Returns whether an upload of ours may have made or found a file at a place since the start.
    pub(super) fn is_filled(&self, place: PlaceDigest) -> bool {
        self.filled.contains(u64::from_be_bytes(place))
    }
}

/// Returns the digest that identifies a place at a target.
pub(super) fn place_digest(target: TargetId, place: &Target) -> PlaceDigest {
    let key = [&target.0.to_be_bytes(), place.path().as_bytes()].concat();
    PathDigest::of(&key).head()
}
