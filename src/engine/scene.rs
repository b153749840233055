//! The machines as they stand, for one that has to look at others. It only reads.

use std::collections::BTreeMap;

use super::event::Outcome;
use super::intake::Intake;
use super::transfers::{Transfers, Upload};
use crate::model::{DestinationName, DirectoryName, Reply, UploadId};

/// See the module's head.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scene<'a> {
    pub(super) intakes: &'a BTreeMap<DirectoryName, Intake>,
    pub(super) transfers: &'a BTreeMap<DestinationName, Transfers>,
}

impl<'a> Scene<'a> {
    fn uploads(self) -> impl Iterator<Item = &'a Upload> {
        self.transfers.values().flat_map(Transfers::uploads)
    }

    /// Returns an upload that has not ended.
    pub(super) fn upload(self, id: UploadId) -> Option<&'a Upload> {
        self.transfers.values().find_map(|transfers| transfers.upload(id))
    }

    /// Returns the uploads that have not ended and are meant, in order.
    pub(super) fn ids(self, is_meant: impl Fn(&Upload) -> bool) -> Vec<UploadId> {
        self.ids_by(|upload| is_meant(upload).then_some(()))
    }

    /// Returns the uploads that have not ended and have a key, by that and then in order.
    pub(super) fn ids_by<K: Ord>(self, key: impl Fn(&Upload) -> Option<K>) -> Vec<UploadId> {
        let keyed = self.uploads().filter_map(|upload| Some((key(upload)?, upload.id())));
        let mut keyed: Vec<_> = keyed.collect();
        keyed.sort_unstable();
        keyed.into_iter().map(|(_, id)| id).collect()
    }

    /// Returns the name of the destination that has an upload.
    pub(super) fn owner(self, id: UploadId) -> Option<DestinationName> {
        let mut transfers = self.transfers.iter();
        transfers.find(|(_, t)| t.upload(id).is_some()).map(|(name, _)| name.clone())
    }

    pub(super) fn is_configured(self, name: &DestinationName) -> bool {
        self.transfers.get(name).is_some_and(Transfers::is_configured)
    }

    /// Leaves out remote uploads that other uploads of ours are using: never adopted, never removed.
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
