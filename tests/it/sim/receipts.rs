//! Receipts as a disk keeps them: a rename is seen at once and survives a power cut only once the
//! directory is synced. What is in them is rendered from rows, as the daemon does it.

use std::collections::BTreeMap;

use dropferry::testing::daemon::receipt_of;
use dropferry::testing::model::{EndReason, Stage, UploadId};
use dropferry::testing::receipt;
use dropferry::testing::store::snapshot::Detail;
use sha2::{Digest, Sha256};

#[derive(Debug, Clone, Default)]
pub(super) struct Receipts {
    /// What a power cut leaves.
    durable: BTreeMap<UploadId, Vec<u8>>,
    /// Renamed into place, the directory not synced.
    unsynced: BTreeMap<UploadId, Vec<u8>>,
}

impl Receipts {
    /// Renders the receipt of an upload from its rows and renames it into place. Nothing is written, as in
    /// the daemon, where the upload was given up since it was asked for.
    pub(super) fn rename(&mut self, detail: Detail, upload: UploadId) -> bool {
        let is_asked_for = detail.upload.state.stage != Stage::Ended(EndReason::Abandoned);
        if is_asked_for {
            self.unsynced.insert(upload, rendered(detail));
        }
        is_asked_for
    }

    /// Syncs the directory; returns the digest of the receipt.
    pub(super) fn sync(&mut self, upload: UploadId) -> [u8; 32] {
        let bytes = self.unsynced.remove(&upload).expect("it was renamed");
        let digest = digest_of(&bytes);
        self.durable.insert(upload, bytes);
        digest
    }

    pub(super) fn cut_power(&mut self) {
        self.unsynced.clear();
    }

    pub(super) fn durable_digest(&self, upload: UploadId) -> Option<[u8; 32]> {
        self.durable.get(&upload).map(|bytes| digest_of(bytes))
    }

    pub(super) fn ids(&self) -> Vec<UploadId> {
        self.durable.keys().chain(self.unsynced.keys()).copied().collect()
    }
}

pub(super) fn digest_of(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// Returns the receipt's bytes, from rows alone.
pub(super) fn rendered(detail: Detail) -> Vec<u8> {
    receipt::render(&receipt_of(detail).expect("a receipt is asked for when the rows are ready"))
}
