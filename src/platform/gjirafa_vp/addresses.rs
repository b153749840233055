//! Signed addresses, kept in memory only: who has one can write the part.
//!
//! *Promises*: few uploads are kept, the oldest goes first; what is locked is renewed by one caller;
//! addresses that the storage refused are given up, but not soon after a resume: that would not help.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::Url;

use crate::model::{Monotonic, WallTime};

/// Uploads whose addresses are kept: more than are ever sent at once.
const UPLOADS_MAX: usize = 256;
/// Addresses that were renewed are kept at least this long.
const RENEWAL_PAUSE: Duration = Duration::from_mins(5);

/// The signed addresses of one upload.
#[derive(Default)]
pub(super) struct Signed {
    /// By part number.
    pub(super) urls: BTreeMap<u32, Url>,
    /// When the first of them ends, by the platform's clock.
    pub(super) expires_at: Option<WallTime>,
    /// When they were renewed, if they were.
    pub(super) renewed_at: Option<Monotonic>,
}

impl Signed {
    /// Gives all up, when this one is still among them.
    pub(super) fn refused(&mut self, part: u32, url: &Url, now: Monotonic) {
        let is_due = self.renewed_at.is_none_or(|at| now.since(at) >= RENEWAL_PAUSE);
        if is_due && self.urls.get(&part) == Some(url) {
            self.urls.clear();
        }
    }
}

type Shared = Arc<tokio::sync::Mutex<Signed>>;

/// Those of all uploads, by request key.
#[derive(Default)]
pub(super) struct Addresses(Mutex<VecDeque<(String, Shared)>>);

impl fmt::Debug for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Addresses([redacted])")
    }
}

impl Addresses {
    /// Returns those of one upload; none when it is not known.
    pub(super) fn of(&self, key: &str) -> Shared {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, signed)) = known.iter().find(|(known, _)| known == key) {
            return Arc::clone(signed);
        }
        if known.len() >= UPLOADS_MAX {
            known.pop_front();
        }
        let signed = Shared::default();
        known.push_back((key.to_owned(), Arc::clone(&signed)));
        signed
    }

    /// Forgets an upload that has ended.
    pub(super) fn remove(&self, key: &str) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|(known, _)| known != key);
    }
}
