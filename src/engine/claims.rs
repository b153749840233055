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
    /// Places at which uploads of ours made or found files in this life. What is remembered of names at
    /// the far side may be older than that, so whose such a place is is asked before anything is sent.
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

    /// Gives up the claim of an upload; tells whether it held the place.
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

    /// Returns every place that is waited for.
    pub(super) fn all_awaited(&self) -> BTreeSet<PlaceDigest> {
        self.waiting.iter().map(|(place, _)| *place).collect()
    }

    /// Forgets every claim, for which targets are the same has changed, and has them made anew. What was
    /// begun goes first.
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

    /// Has the rows of all that wait for a place name the upload that holds it.
    pub(super) fn name_holder(&self, place: PlaceDigest) -> Vec<Dispatch> {
        let Some(holder) = self.holder(place) else { return Vec::new() };
        Dispatch::uploads(self.waiting(place), ToUpload::AwaitPlace(holder)).collect()
    }

    pub(super) fn fill(&mut self, place: PlaceDigest) {
        self.filled.insert(u64::from_be_bytes(place));
    }

    /// Returns whether an upload of ours may have made or found a file at a place in this life.
    pub(super) fn is_filled(&self, place: PlaceDigest) -> bool {
        self.filled.contains(u64::from_be_bytes(place))
    }
}

/// Returns the digest that identifies a place at a target.
pub(super) fn place_digest(target: TargetId, place: &Target) -> PlaceDigest {
    let key = [&target.0.to_be_bytes(), place.path().as_bytes()].concat();
    PathDigest::of(&key).head()
}
