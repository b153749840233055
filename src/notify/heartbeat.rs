//! A heartbeat: requests an address at intervals, to prove that the daemon runs.
//!
//! It reports nothing else: notices report problems. A missed beat is not repeated.

use std::path::PathBuf;
use std::time::Duration;

use super::{Means, Parcel, secret, webhook};
use crate::model::Failure;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub url_file: PathBuf,
    /// Interval of the beats.
    pub every: Duration,
}

/// Sends one beat.
pub(crate) async fn send(settings: &Settings, means: Means<'_>) -> Result<(), Failure> {
    let address = secret::read(&settings.url_file, means)?;
    let parcel = Parcel { address: &address, headers: Vec::new(), body: None };
    webhook::judge(&means.carrier.carry(parcel).await?).map(drop)
}
