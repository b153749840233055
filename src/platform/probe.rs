//! Checks the connection to an address, without a credential.
//!
//! Owns the steps: the name, the connection, the certificate, the answer. It reports the first step
//! that fails, so that an operator knows whom to ask. *Promises*: no token and no key is sent; of
//! an untrusted certificate only the issuer is read, on a connection that carries nothing else.
//! *Never* judges a status: a platform may answer its bare address as it likes.
//!
//! `doctor` calls it. A crash loses nothing.

mod certificate;

use std::time::Duration;

use reqwest::Url;

use super::answer::parse_date;
use super::http::{Http, Proxies, Request, Settings, TimeSource};
use crate::model::{Failure, FailureKind, WallTime};

/// The result of one check.
#[derive(Debug)]
pub(crate) struct Probe {
    pub host: String,
    /// Requests to it go by a proxy.
    pub by_proxy: bool,
    /// The answer, or the obstacle.
    pub answer: Result<Answered, Obstacle>,
}

/// What an answer shows, whatever its status.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answered {
    pub took: Duration,
    /// How far the server's clock is ahead of ours, in seconds, where it sends its time.
    pub clock_ahead_s: Option<i64>,
}

/// The first obstacle.
#[derive(Debug)]
pub(crate) enum Obstacle {
    Name(String),
    Certificate {
        why: String,
        /// The issuer of the topmost certificate, where it can be read.
        issuer: Option<String>,
    },
    /// The proxy requires a login, or refuses.
    Proxy(String),
    /// Anything else: no connection, or no answer.
    Connection(Failure),
}

/// Sends a request to an address.
pub(crate) async fn probe(
    settings: &Settings,
    url: Url,
    time: &TimeSource,
) -> Result<Probe, String> {
    let http = Http::new(settings)?;
    let host = url.host_str().unwrap_or_default().to_owned();
    let by_proxy = Proxies::new(settings).are_used_for(&url);
    let answer = match by_proxy {
        true => ask(&http, &url, time).await,
        false => match resolve(&url).await {
            Ok(()) => ask(&http, &url, time).await,
            Err(obstacle) => Err(obstacle),
        },
    };
    let answer = match answer {
        Err(Obstacle::Certificate { why, .. }) if !by_proxy => {
            let (host, port) = (host.clone(), url.port_or_known_default().unwrap_or(443));
            let look = move || certificate::issuer(&host, port);
            let issuer = tokio::task::spawn_blocking(look).await.ok().flatten();
            Err(Obstacle::Certificate { why, issuer })
        }
        other => other,
    };
    Ok(Probe { host, by_proxy, answer })
}

async fn resolve(url: &Url) -> Result<(), Obstacle> {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let found = tokio::net::lookup_host((host, url.port_or_known_default().unwrap_or(443))).await;
    match found.map(|mut addresses| addresses.next()) {
        Ok(Some(_)) => Ok(()),
        Ok(None) => Err(Obstacle::Name("it has no address".into())),
        Err(error) => Err(Obstacle::Name(error.to_string())),
    }
}

async fn ask(http: &Http, url: &Url, time: &TimeSource) -> Result<Answered, Obstacle> {
    let before = time.now();
    let answer = http.send(reqwest::Method::GET, url.clone(), Request::default()).await;
    let after = time.now();
    let answer = match answer {
        Ok(answer) if answer.status == 407 => {
            return Err(Obstacle::Proxy("it asks for credentials".into()));
        }
        Ok(answer) => answer,
        Err(failure) => return Err(obstacle(failure)),
    };
    let date = answer.header("date").and_then(parse_date);
    Ok(Answered {
        took: after.monotonic.since(before.monotonic),
        clock_ahead_s: date.map(|date| ahead(date, before.wall, after.wall)),
    })
}

/// Returns how far a clock that showed `date` between two moments is ahead of ours, in seconds. It
/// shows whole seconds.
fn ahead(date: WallTime, before: WallTime, after: WallTime) -> i64 {
    let second = 1_000_000_000;
    if date > after {
        (date.0 - after.0) / second
    } else {
        (date.0.saturating_add(second).min(before.0) - before.0) / second
    }
}

fn obstacle(failure: Failure) -> Obstacle {
    let text = &failure.message;
    let tail = |at: usize| text.get(at..).unwrap_or_default().to_owned();
    if let Some(at) = text.find("invalid peer certificate") {
        return Obstacle::Certificate { why: tail(at), issuer: None };
    }
    let is_proxy = ["proxy", "tunnel"].iter().any(|word| text.contains(word));
    if is_proxy && failure.kind == FailureKind::Unreachable {
        return Obstacle::Proxy(text.clone());
    }
    Obstacle::Connection(failure)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_ahead_or_behind_by_whole_seconds_and_the_way_counts_for_nothing() {
        let at = |seconds: i64| WallTime(seconds * 1_000_000_000);
        assert_eq!(ahead(at(100), at(100), at(101)), 0);
        assert_eq!(ahead(at(99), at(100), at(101)), 0, "it shows whole seconds");
        assert_eq!(ahead(at(400), at(100), at(101)), 299);
        assert_eq!(ahead(at(40), at(100), at(101)), -59);
    }

    #[test]
    fn what_is_in_the_way_is_told_by_its_cause() {
        let failure = |text: &str| obstacle(Failure::new(FailureKind::Unreachable, text));
        let found = failure("cannot connect to h: invalid peer certificate: UnknownIssuer");
        let Obstacle::Certificate { why, issuer: None } = found else { panic!("{found:?}") };
        assert_eq!(why, "invalid peer certificate: UnknownIssuer");
        let found = failure("cannot connect to h: proxy authorization required");
        assert!(matches!(found, Obstacle::Proxy(_)), "{found:?}");
        let found = failure("cannot connect to h: Connection refused (os error 111)");
        assert!(matches!(found, Obstacle::Connection(_)), "{found:?}");
    }
}
