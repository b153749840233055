//! What of the network is configured: proxies and certificates.

use std::path::Path;

use reqwest::{NoProxy, Proxy, Url};

use super::root_cause;
use crate::telemetry::register_secret;

/// Variables that may hold a proxy's address, and with it a password.
const PROXY_VARIABLES: [&str; 6] =
    ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];

/// Keeps passwords of proxies out of everything that is said.
pub(super) fn register_proxies(configured: Option<&str>) {
    let others = PROXY_VARIABLES.iter().filter_map(|name| std::env::var(name).ok());
    for address in configured.map(str::to_owned).into_iter().chain(others) {
        let url = Url::parse(&address).ok();
        if let Some(password) = url.as_ref().and_then(Url::password) {
            register_secret(password);
        }
    }
}

pub(super) fn proxy(address: &str) -> Result<Proxy, String> {
    let proxy = Proxy::all(address).map_err(|error| {
        format!("the proxy cannot be used: {}", root_cause(&error.without_url()))
    })?;
    Ok(proxy.no_proxy(NoProxy::from_env()))
}

pub(super) fn certificates(file: &Path) -> Result<Vec<reqwest::Certificate>, String> {
    let unusable = |why: String| format!("{} cannot be used: {why}", file.display());
    let pem = std::fs::read(file).map_err(|error| unusable(error.to_string()))?;
    let found = reqwest::Certificate::from_pem_bundle(&pem)
        .map_err(|error| unusable(root_cause(&error)))?;
    if found.is_empty() {
        return Err(unusable("it holds no certificate in PEM form".into()));
    }
    Ok(found)
}
