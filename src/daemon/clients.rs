//! Builds the platform clients from the configuration.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::build::Error;
use crate::clock::Clock;
use crate::config::{Config, Destination as Target, Platform};
use crate::model::{DestinationName, Failure};
use crate::platform::account::{Account, Link};
use crate::platform::aws::AwsKeys;
use crate::platform::basespace::BaseSpace;
use crate::platform::contract::SharedPlatform;
use crate::platform::credential::{Credential, CredentialSource};
use crate::platform::gjirafa_vp::GjirafaVp;
use crate::platform::http::Http;
use crate::platform::s3::S3;
use crate::platform::sevenbridges::SevenBridges;
use crate::platform::{AccountAccess, Destination};

/// Builds the client of every destination, in order.
pub fn clients(
    config: &Config,
    clock: &Clock,
) -> Result<Vec<(DestinationName, SharedPlatform)>, Error> {
    let built = build(config, clock)?.into_iter();
    Ok(built.map(|built| (built.target.name.clone(), built.client)).collect())
}

/// Builds every destination: its client, and the check for a replaced credential.
pub(super) fn destinations(
    config: &Config,
    clock: &Clock,
) -> Result<BTreeMap<DestinationName, Destination>, Error> {
    let built = build(config, clock)?.into_iter();
    let destination = |built: Built<'_>| {
        let Built { target, client, credential, account } = built;
        let shared = AccountAccess { credential: Some(credential), account: Some(account) };
        (target.name.clone(), Destination::shared(target.name.clone(), client, shared))
    };
    Ok(built.map(destination).collect())
}

/// A destination's client, with its share in the account.
struct Built<'a> {
    target: &'a Target,
    client: SharedPlatform,
    credential: Arc<Credential>,
    account: Account,
}

fn build<'a>(config: &'a Config, clock: &Clock) -> Result<Vec<Built<'a>>, Error> {
    let http = Http::new(&config.network).map_err(Error::Configured)?;
    let mut accounts = Accounts { shared: Vec::new(), clock: clock.clone(), http: http.clone() };
    let build = |target: &'a Target| {
        let (credential, account) = accounts.account(target);
        let link = Link::new(http.clone(), Arc::clone(&credential), account.clone(), clock);
        let client = client(target, link);
        let named =
            |failure: Failure| Error::Configured(format!("{}: {}", target.name, failure.message));
        Ok(Built { target, client: client.map_err(named)?, credential, account })
    };
    config.destinations.iter().map(build).collect()
}

/// Destinations of one credential at one platform share their call budget.
struct Accounts {
    shared: Vec<(String, CredentialSource, Arc<Credential>, Account)>,
    clock: Clock,
    http: Http,
}

impl Accounts {
    fn account(&mut self, target: &Target) -> (Arc<Credential>, Account) {
        let base_url = target.platform.base_url();
        let known = self
            .shared
            .iter()
            .find(|(url, source, _, _)| url == base_url && *source == target.credential);
        if let Some((_, _, credential, account)) = known {
            return (Arc::clone(credential), account.clone());
        }
        let credential = Arc::new(self.credential(target));
        let rate = target.calls_per_second.or(target.platform.calls_per_second());
        let account = Account::new(rate, &self.clock);
        let entry = (
            base_url.to_owned(),
            target.credential.clone(),
            Arc::clone(&credential),
            account.clone(),
        );
        self.shared.push(entry);
        (credential, account)
    }

    fn credential(&self, target: &Target) -> Credential {
        let source = target.credential.clone();
        let CredentialSource::Aws(aws) = &target.credential else {
            return Credential::new(source);
        };
        let region = match &target.platform {
            Platform::S3(settings) => settings.region.as_str(),
            Platform::SevenBridges(_) | Platform::GjirafaVp(_) | Platform::BaseSpace(_) => "",
        };
        let environment = Arc::new(|name: &str| std::env::var(name).ok());
        let keys = AwsKeys::new(aws.clone(), self.http.clone(), &self.clock, region, environment);
        Credential::fetched(source, Arc::new(keys))
    }
}

fn client(target: &Target, link: Link) -> Result<SharedPlatform, Failure> {
    Ok(match &target.platform {
        Platform::SevenBridges(settings) => Arc::new(SevenBridges::new(settings, link)?),
        Platform::GjirafaVp(settings) => Arc::new(GjirafaVp::new(settings, link)?),
        Platform::S3(settings) => Arc::new(S3::new(settings, link)?),
        Platform::BaseSpace(settings) => Arc::new(BaseSpace::new(settings, link)?),
    })
}
