//! A read-only view of the machines, for one that needs the others' state.

use std::collections::BTreeMap;

use super::event::Outcome;
use super::intake::Intake;
use super::transfers::{Transfers, Upload};
use crate::model::{DestinationName, DirectoryName, Reply, UploadId};

#[derive(Debug, Clone, Copy)]
pub(super) struct Scene<'a> {
    pub(super) intakes: &'a BTreeMap<DirectoryName, Intake>,
    pub(super) transfers: &'a BTreeMap<DestinationName, Transfers>,
}

impl<'a> Scene<'a> {
    fn uploads(self) -> impl Iterator<Item = &'a Upload> {
        self.transfers.values().flat_map(Transfers::uploads)
    }

    /// Returns an open upload.
    pub(super) fn upload(self, id: UploadId) -> Option<&'a Upload> {
        self.transfers.values().find_map(|transfers| transfers.upload(id))
    }

    /// Returns the ids of the matching open uploads, in order.
    pub(super) fn ids(self, is_meant: impl Fn(&Upload) -> bool) -> Vec<UploadId> {
        self.ids_by(|upload| is_meant(upload).then_some(()))
    }

    /// Returns the open uploads that have a key, by the key and then in order.
    pub(super) fn ids_by<K: Ord>(self, key: impl Fn(&Upload) -> Option<K>) -> Vec<UploadId> {
        let keyed = self.uploads().filter_map(|upload| Some((key(upload)?, upload.id())));
        let mut keyed: Vec<_> = keyed.collect();
        keyed.sort_unstable();
        keyed.into_iter().map(|(_, id)| id).collect()
    }

    /// Returns the name of the destination that owns an upload.
    pub(super) fn owner(self, id: UploadId) -> Option<DestinationName> {
        let mut transfers = self.transfers.iter();
        transfers.find(|(_, t)| t.upload(id).is_some()).map(|(name, _)| name.clone())
    }

    pub(super) fn is_configured(self, name: &DestinationName) -> bool {
        self.transfers.get(name).is_some_and(Transfers::is_configured)
    }

    /// Removes remote uploads that other uploads of ours use: they are never adopted, never removed.
    pub(super) fn without_used(self, except: Option<UploadId>, outcome: Outcome) -> Outcome {
        let Outcome::Replied(Reply::BegunFound(mut found)) = outcome else { return outcome };
        found.retain(|remote| {
            !self.uploads().any(|upload| {
                let used = upload.stage().remote();
                Some(upload.id()) != except && used.is_some_and(|used| used.id == remote.id)
            })
        });
        Outcome::Replied(Reply::BegunFound(found))
    }
}
