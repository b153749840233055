//! The received bytes, exactly, and every breach of the rules.

use std::collections::BTreeMap;

use serde::Serialize;

#[derive(Debug, Clone, Default, Serialize)]
pub struct Ledger {
    pub calls: BTreeMap<String, u64>,
    /// Bytes of parts that arrived, including parts that did not arrive completely.
    pub bytes_received: u64,
    /// Bytes of these beyond the first complete arrival of each part.
    pub bytes_received_again: u64,
    pub parts: BTreeMap<String, BTreeMap<u32, PartBook>>,
    /// Begun uploads.
    pub begun_count: u64,
    pub open_uploads: Vec<String>,
    /// Calls that broke the vendor's rules.
    pub breaches: Vec<String>,
}

#[derive(Debug, Clone, Default, Serialize)]
pub struct PartBook {
    pub begun_count: u64,
    /// Requests that arrived completely and were kept.
    pub kept_count: u64,
    /// Bytes that arrived, in all requests.
    pub bytes: u64,
    pub length: u64,
}

impl Ledger {
    pub(super) fn call(&mut self, operation: &str) {
        *self.calls.entry(operation.to_owned()).or_default() += 1;
    }

    /// Records a breach of the rules.
    pub(super) fn breach(&mut self, what: impl Into<String>) {
        self.breaches.push(what.into());
    }

    /// Records that bytes of a part arrived.
    pub(super) fn arrived(&mut self, upload: &str, part: u32, bytes: u64, kept: bool) {
        let book = self.parts.entry(upload.to_owned()).or_default().entry(part).or_default();
        book.begun_count += 1;
        book.bytes += bytes;
        self.bytes_received += bytes;
        if kept && book.kept_count == 0 {
            book.length = bytes;
        } else {
            self.bytes_received_again += bytes;
        }
        book.kept_count += u64::from(kept);
    }
}
