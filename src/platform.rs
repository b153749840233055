//! Platforms: vendors' APIs behind one trait, and the façade that everybody calls.
//!
//! [`Destination`] adds what is common to all platforms: how many calls may be under way, the span,
//! and the watch on the credential. A platform is two files: the sequence of calls, and `wire` with
//! the shapes and the pure functions from answer to result.

pub mod contract;
pub mod credential;
#[cfg(feature = "testing")]
pub mod fake;
pub mod http;
pub mod sevenbridges;

use std::sync::Arc;

use contract::{Answer, Platform, SharedPlatform};
use credential::Credential;
use tracing::Instrument;

use crate::model::{DestinationName, Failure};

/// A configured target.
#[derive(Clone)]
pub struct Destination {
    name: DestinationName,
    platform: SharedPlatform,
    credential: Option<Arc<Credential>>,
}

impl std::fmt::Debug for Destination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Destination").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Destination {
    /// Wraps a platform.
    pub fn new(
        name: DestinationName,
        platform: SharedPlatform,
        credential: Option<Arc<Credential>>,
    ) -> Self {
        Self { name, platform, credential }
    }

    /// Returns its configured name.
    pub fn name(&self) -> &DestinationName {
        &self.name
    }

    /// Tells whether its credential was replaced since it was read.
    pub fn credential_has_changed(&self) -> bool {
        self.credential.as_ref().is_some_and(|credential| credential.has_changed())
    }

    /// Makes one call inside its span.
    ///
    /// # Errors
    /// The platform's.
    pub async fn call<'a, T>(
        &'a self,
        call: impl FnOnce(&'a dyn Platform) -> Answer<'a, T>,
    ) -> Result<T, Failure> {
        let span = tracing::debug_span!("platform", destination = %self.name);
        call(self.platform.as_ref()).instrument(span).await
    }
}
