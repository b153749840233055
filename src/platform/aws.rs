//! Access keys as the tools of AWS find them: profiles and their references, the environment, the
//! role of a machine or a container, a web identity.
//!
//! Owns the keys of one such credential, and their renewal: they are fetched at their first use,
//! and again before they expire, also during an upload, whose requests are signed one by one.
//! `recipe` reads the files and the environment and decides, without any request, how to get keys;
//! `fetch` and `sso` get them.
//!
//! *Promises*: requests use the same client as all others, with its proxy and certificates; a
//! service of the machine's own host is called without a proxy; valid keys stay in use while others
//! cannot be fetched; secrets appear in no text. *Never* prompts a person: a source that needs a
//! code or a browser is refused with its cure.
//!
//! A module of our own, because the existing crates do not fit: `reqsign-aws-v4` lacks `role_arn`,
//! `source_profile` and `sso_session`, splits a `credential_process` at blanks, treats an
//! unreadable file as a missing one, and signs by the machine's clock alone; `aws-config` brings a
//! hundred crates and its own HTTP client. A crash loses nothing.

mod fetch;
mod recipe;
mod sso;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::Mutex;

use self::recipe::Recipe;
use super::credential::{AwsSource, KeySource, Keys, Version, version_of};
use super::http::{Http, TimeSource};
use crate::model::{Failure, FailureKind, Monotonic, WallTime};

/// Keys are renewed this long before they expire, or after two thirds of their life if that is sooner.
const AHEAD: Duration = Duration::from_mins(5);
/// Minimum interval of fetching keys, whatever their expiry or the clock says.
const PAUSE_MIN: Duration = Duration::from_secs(5);

/// Reads an environment variable.
pub(crate) type Variables = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Keys with their expiry.
#[derive(Debug, Clone)]
struct Lease {
    keys: Keys,
    /// `None` for keys that do not expire.
    ends_at: Option<WallTime>,
}

/// The last fetch.
#[derive(Debug)]
struct Held {
    lease: Lease,
    fetched_at: Monotonic,
    renew_at: Option<WallTime>,
    versions: [Option<Version>; 2],
}

/// Fetches the keys of one credential.
pub(crate) struct AwsKeys {
    source: AwsSource,
    http: Http,
    time: TimeSource,
    /// The default region for services that issue keys.
    region: String,
    environment: Variables,
    held: Mutex<Option<Held>>,
    is_refused: AtomicBool,
}

impl std::fmt::Debug for AwsKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AwsKeys").field("source", &self.source).finish_non_exhaustive()
    }
}

impl AwsKeys {
    pub(crate) fn new(
        source: AwsSource,
        http: Http,
        time: impl Into<TimeSource>,
        region: &str,
        environment: Variables,
    ) -> Self {
        let (held, is_refused) = (Mutex::default(), AtomicBool::new(false));
        let (time, region) = (time.into(), region.to_owned());
        Self { source, http, time, region, environment, held, is_refused }
    }

    async fn current(&self) -> Result<Keys, Failure> {
        let mut held = self.held.lock().await;
        let now = self.time.now();
        let versions = [&self.source.config, &self.source.credentials].map(|f| version_of(f).ok());
        let was_refused = self.is_refused.load(Ordering::Relaxed);
        if let Some(known) = held.as_ref() {
            let is_due = known.renew_at.is_some_and(|at| at <= now.wall) || was_refused;
            let is_early = now.monotonic.since(known.fetched_at) < PAUSE_MIN;
            if known.versions == versions && (!is_due || is_early) {
                return Ok(known.lease.keys.clone());
            }
        }
        match self.fetch().await {
            Ok(lease) => {
                self.is_refused.store(false, Ordering::Relaxed);
                let renew_at = lease.ends_at.map(|end| renewal(now.wall, end));
                let keys = lease.keys.clone();
                *held = Some(Held { lease, fetched_at: now.monotonic, renew_at, versions });
                Ok(keys)
            }
            Err(failure) => match held.as_mut() {
                // They may still work: the first request after the pause tries again.
                Some(known)
                    if known.lease.ends_at.is_none_or(|end| now.wall < end) && !was_refused =>
                {
                    known.fetched_at = now.monotonic;
                    tracing::debug!(kind = failure.kind.as_str(), "keys could not be renewed");
                    Ok(known.lease.keys.clone())
                }
                Some(_) | None => Err(failure),
            },
        }
    }

    async fn fetch(&self) -> Result<Lease, Failure> {
        let environment = |name: &str| (self.environment)(name);
        let recipe = recipe::of(&self.source, &environment).map_err(|why| self.unusable(&why))?;
        self.follow(&recipe).await
    }

    fn unusable(&self, why: &str) -> Failure {
        let message = format!("there are no keys from {}: {why}", self.source);
        Failure::new(FailureKind::Unauthorized, message)
    }

    /// Follows a recipe; a role is assumed with other keys.
    fn follow<'a>(&'a self, recipe: &'a Recipe) -> BoxFuture<'a, Result<Lease, Failure>> {
        async move {
            match recipe {
                Recipe::Keys { access_key, secret, session } => {
                    let keys = Keys::new(access_key.clone(), secret.clone(), session.clone());
                    Ok(Lease { keys, ends_at: None })
                }
                Recipe::Role { role, from } => {
                    let lease = self.follow(from).await?;
                    self.assume(role, &lease.keys).await
                }
                Recipe::WebIdentity { role, token_file } => {
                    self.assume_by_token(role, token_file).await
                }
                Recipe::Sso(sso) => self.sso(sso).await,
                Recipe::Process(command) => self.run(command).await,
                Recipe::Container => self.container().await,
                Recipe::Instance => self.instance().await,
            }
        }
        .boxed()
    }
}

impl KeySource for AwsKeys {
    fn keys(&self) -> BoxFuture<'_, Result<Keys, Failure>> {
        self.current().boxed()
    }

    fn forget(&self) {
        self.is_refused.store(true, Ordering::Relaxed);
    }
}

/// Describes how keys would be obtained, without any request.
///
/// # Errors
/// Why there are none.
pub(crate) fn check(
    source: &AwsSource,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<String, String> {
    recipe::of(source, environment).map(|recipe| recipe.to_string())
}

fn renewal(now: WallTime, end: WallTime) -> WallTime {
    let life = now.until(end);
    now.after(life.saturating_sub(AHEAD).max(life * 2 / 3))
}

#[cfg(test)]
mod tests;
