//! Signed addresses, kept only in memory: anyone who has one can write the part, so they are never printed.
//!
//! *Promises*: few uploads are kept, the oldest is dropped first; one caller at a time renews a locked set;
//! addresses that the storage refused are dropped, except soon after a resume, when that would not help.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::Url;
use serde::Deserialize;

use crate::model::{Failure, FailureKind, Monotonic, WallTime};
use crate::platform::answer::bad;
use crate::platform::http::part_url;
use crate::platform::s3::signed_until;

/// Limit of uploads with kept addresses: more than are ever sent at once.
const UPLOADS_MAX: usize = 256;
/// Renewed addresses are kept at least this long.
const RENEWAL_PAUSE: Duration = Duration::from_mins(5);
/// Requested lifetime of signed addresses in hours; the vendor allows 1 to 168.
pub(super) const LIFE_HOURS: u64 = 48;

/// The signed address of a part.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Address {
    pub(super) part_number: u32,
    pub(super) presigned_url: String,
}

/// The signed addresses of one upload.
#[derive(Default)]
pub(super) struct Signed {
    pub(super) urls: BTreeMap<u32, Url>,
    /// When the first of them expires, by the platform's clock.
    pub(super) expires_at: Option<WallTime>,
    pub(super) renewed_at: Option<Monotonic>,
}

impl Signed {
    /// Checks the addresses from the platform at `base`, by their numbers; for a begun upload, all
    /// `count` of them must be there.
    ///
    /// # Errors
    /// `BadRequest` when parts are counted from 0, which no guess can correct; `BadAnswer`.
    pub(super) fn take(
        addresses: Option<Vec<Address>>,
        count: Option<u32>,
        base: &Url,
        now: WallTime,
    ) -> Result<Self, Failure> {
        let mut signed = Self::default();
        for address in addresses.ok_or_else(|| bad("no addresses"))? {
            if address.part_number == 0 {
                let message = "the platform counts parts from 0, which this client does not know";
                return Err(Failure::new(FailureKind::BadRequest, message));
            }
            let url = part_url(&address.presigned_url, base)?;
            // Without an expiry in the address, the requested one counts.
            let end = signed_until(&url).unwrap_or(now.after(Duration::from_hours(LIFE_HOURS)));
            signed.expires_at = Some(signed.expires_at.map_or(end, |first| first.min(end)));
            if signed.urls.insert(address.part_number, url).is_some() {
                return Err(bad("two addresses for one part"));
            }
        }
        let is_all = |count| signed.urls.keys().copied().eq(1..=count);
        let other = || bad("addresses for other parts than were asked for");
        if count.is_none_or(is_all) { Ok(signed) } else { Err(other()) }
    }

    /// Drops them all, if this one is still among them.
    pub(super) fn refused(&mut self, part: u32, url: &Url, now: Monotonic) {
        let is_due = self.renewed_at.is_none_or(|at| now.since(at) >= RENEWAL_PAUSE);
        if is_due && self.urls.get(&part) == Some(url) {
            self.urls.clear();
        }
    }
}

type SharedAddresses = Arc<tokio::sync::Mutex<Signed>>;

/// The addresses of all uploads, by request key.
#[derive(Default)]
pub(super) struct Addresses(Mutex<VecDeque<(String, SharedAddresses)>>);

impl Addresses {
    /// Returns those of one upload; none when it is not known.
    pub(super) fn of(&self, key: &str) -> SharedAddresses {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, signed)) = known.iter().find(|(known, _)| known == key) {
            return Arc::clone(signed);
        }
        let signed = SharedAddresses::default();
        known.push_front((key.to_owned(), Arc::clone(&signed)));
        known.truncate(UPLOADS_MAX);
        signed
    }

    pub(super) fn remove(&self, key: &str) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|(known, _)| known != key);
    }
}
