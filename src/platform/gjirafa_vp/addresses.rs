//! Signed addresses, kept in memory only: who has one can write the part.
//!
//! *Promises*: at most [`UPLOADS_MAX`] uploads are kept, the one used longest ago goes first; an
//! upload is resumed by one caller at a time, who holds its turn; addresses that the storage refused
//! are given up, but not again within [`RENEWAL_PAUSE`] of a resume, which would not help then.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::Url;

use crate::model::{Monotonic, WallTime};

/// Uploads whose addresses are kept: more than are ever sent at once.
const UPLOADS_MAX: usize = 256;
/// Fresh addresses that are refused are not renewed for this long.
const RENEWAL_PAUSE: Duration = Duration::from_mins(5);

/// The signed addresses of one upload, by part number.
pub(super) struct Signed {
    pub(super) urls: BTreeMap<u32, Url>,
    /// When the first of them ends, by the platform's clock.
    pub(super) expires_at: WallTime,
}

/// An address, and which lot it is of.
pub(super) struct Found {
    pub(super) url: Url,
    lot: u64,
}

#[derive(Default)]
struct Entry {
    signed: Option<Signed>,
    lot: u64,
    renewed_at: Option<Monotonic>,
    used: u64,
    turn: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Default)]
struct Shelf {
    uploads: HashMap<String, Entry>,
    /// Counts uses.
    count: u64,
}

/// The signed addresses of all uploads, by request key.
#[derive(Default)]
pub(super) struct Addresses(Mutex<Shelf>);

impl fmt::Debug for Addresses {
    /// Leaves everything out, for addresses are secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Addresses").finish_non_exhaustive()
    }
}

impl Addresses {
    fn with<T>(&self, key: &str, act: impl FnOnce(&mut Entry, u64) -> T) -> T {
        let mut shelf = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        shelf.count += 1;
        let count = shelf.count;
        let entry = shelf.uploads.entry(key.to_owned()).or_default();
        entry.used = count;
        let result = act(entry, count);
        if shelf.uploads.len() > UPLOADS_MAX {
            let oldest = shelf.uploads.iter().min_by_key(|(_, entry)| entry.used);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                shelf.uploads.remove(&oldest);
            }
        }
        result
    }

    /// Keeps the addresses of an upload, instead of those from before.
    pub(super) fn keep(&self, key: &str, signed: Signed, renewed_at: Option<Monotonic>) {
        self.with(key, |entry, count| {
            entry.signed = Some(signed);
            entry.lot = count;
            entry.renewed_at = renewed_at;
        });
    }

    /// Returns the address of a part, if it lives at least that long.
    pub(super) fn find(&self, key: &str, part: u32, until: Option<WallTime>) -> Option<Found> {
        self.with(key, |entry, _| {
            let signed = entry.signed.as_ref()?;
            let is_alive = until.is_none_or(|until| until <= signed.expires_at);
            let url = signed.urls.get(&part).filter(|_| is_alive)?.clone();
            Some(Found { url, lot: entry.lot })
        })
    }

    /// Returns what the one who resumes an upload must hold.
    pub(super) fn turn(&self, key: &str) -> Arc<tokio::sync::Mutex<()>> {
        self.with(key, |entry, _| Arc::clone(&entry.turn))
    }

    /// Gives the lot of an address up that the storage refused.
    pub(super) fn refused(&self, key: &str, lot: u64, now: Monotonic) {
        self.with(key, |entry, _| {
            let is_due = entry.renewed_at.is_none_or(|at| now.since(at) >= RENEWAL_PAUSE);
            if entry.lot == lot && is_due {
                entry.signed = None;
            }
        });
    }

    /// Forgets an upload that has ended.
    pub(super) fn remove(&self, key: &str) {
        let mut shelf = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        shelf.uploads.remove(key);
    }
}

impl Found {
    pub(super) fn lot(&self) -> u64 {
        self.lot
    }
}
