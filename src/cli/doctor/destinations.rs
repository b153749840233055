//! Destinations: name, connection, certificate, clock; and whether they accept our credential.

use std::future::Future;

use futures_util::future::join_all;

use super::lines::{CheckState, Checks, DoctorCheck};
use super::{LIMIT, cures};
use crate::cli::{check_config, render};
use crate::clock::Clock;
use crate::config::{Config, Destination};
use crate::model::{DestinationName, Failure, FailureKind};
use crate::platform::contract::{RightFound, RightState, SharedPlatform};
use crate::platform::http::{Settings, TimeSource, base_url};
use crate::platform::probe::{Answered, Obstacle, Probe, probe};

/// From this difference on a clock is reported as wrong; the destination's time is learned all the same.
const CLOCK_WARN_S: i64 = 30;
/// Storages refuse signatures that are this old, and proxies and certificates are affected too.
const CLOCK_FAIL_S: i64 = 300;

pub(super) async fn check(
    config: &Config,
    clients: &[(DestinationName, SharedPlatform)],
    clock: &Clock,
) -> Checks {
    let mut checks = Checks::of("destination");
    let time = TimeSource::from(clock);
    let asked = config
        .destinations
        .iter()
        .zip(clients)
        .map(|(target, (_, client))| one(target, client, &config.network, &time));
    for lines in join_all(asked).await {
        for DoctorCheck { name, state, found, cure, .. } in lines.into_list() {
            checks.add(&name, state, found, cure);
        }
    }
    checks
}

/// Waits for an answer within the time limit.
async fn patient<T>(question: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(LIMIT, question).await.ok()
}

async fn one(
    target: &Destination,
    client: &SharedPlatform,
    network: &Settings,
    time: &TimeSource,
) -> Checks {
    let mut checks = Checks::of("destination");
    let name = target.name.as_str();
    let url = match base_url(target.platform.base_url(), target.platform.allows_plain_http()) {
        Ok(url) => url,
        Err(failure) => {
            checks.fail(name, failure.message, "correct base_url");
            return checks;
        }
    };
    let host = match patient(probe(network, url, time)).await {
        None => {
            let found = format!("nothing answers within {} s", LIMIT.as_secs());
            let host = target.platform.base_url();
            checks.fail(name, found, cures::of_access(FailureKind::TimedOut, host, ""));
            return checks;
        }
        Some(Err(why)) => {
            checks.fail(name, why, "correct base_url or [network]");
            return checks;
        }
        Some(Ok(Probe { host, by_proxy, answer })) => match answer {
            Ok(answered) => {
                told(&mut checks, name, &host, by_proxy, answered);
                host
            }
            Err(obstacle) => {
                in_the_way(&mut checks, name, &host, obstacle);
                return checks;
            }
        },
    };
    let file = target.credential.to_string();
    let access = async {
        client.check_access().await?;
        client.check_rights().await
    };
    match patient(access).await {
        Some(Ok(rights)) => {
            let found = check_config::summary(&rights, Some(target));
            match check_config::lacks(&rights) {
                true => checks.fail(name, found, "have these rights granted to the key"),
                false => checks.ok(name, found),
            }
            let is_granted = |right: &&RightFound| matches!(right.state, RightState::Granted);
            for right in rights.iter().filter(|right| !is_granted(right)) {
                let found = check_config::sentence(right);
                match right.state {
                    RightState::NotTried => checks.ok(name, found),
                    RightState::Granted | RightState::Refused(_) | RightState::Unknown(_) => {
                        checks.warn(name, found, "have this right granted to the key");
                    }
                }
            }
        }
        Some(Err(failure)) => {
            refused(&mut checks, name, &failure, cures::of_access(failure.kind, &host, &file))
        }
        None => {
            let found =
                format!("it does not say within {} s whether we are let in", LIMIT.as_secs());
            checks.warn(name, found, "wait: the daemon tries again by itself");
        }
    }
    checks
}

fn told(checks: &mut Checks, name: &str, host: &str, by_proxy: bool, answered: Answered) {
    let way = if by_proxy { " by a proxy" } else { "" };
    let took = answered.took.as_millis();
    checks.ok(name, format!("{host} answers{way} in {took} ms"));
    let Some(ahead) = answered.clock_ahead_s else { return };
    let off = render::duration(ahead.unsigned_abs());
    let way = if ahead > 0 { "behind" } else { "ahead of" };
    let found = format!("this machine's clock is {off} {way} that of {host}");
    let cure = "keep the clock right by itself: timedatectl set-ntp true";
    match ahead.abs() {
        0..CLOCK_WARN_S => checks.ok(name, format!("its clock and ours agree to {off}")),
        CLOCK_WARN_S..CLOCK_FAIL_S => checks.warn(name, found, cure),
        _ => checks.fail(name, found, cure),
    }
}

fn in_the_way(checks: &mut Checks, name: &str, host: &str, obstacle: Obstacle) {
    match obstacle {
        Obstacle::Name(why) => checks.fail(
            name,
            format!("the name {host} has no address: {why}"),
            "correct base_url, or the name server in /etc/resolv.conf; behind a proxy, set [network] \
             proxy",
        ),
        Obstacle::Certificate { why, issuer } => {
            let by = issuer.map_or(String::new(), |issuer| format!(" (issued by {issuer:?})"));
            let whose = "that CA's certificate, from the operators of the filter or the server, in PEM form";
            checks.fail(
                name,
                format!("the certificate of {host} is not trusted{by}: {why}"),
                format!("[network] ca_file = \"FILE\" with {whose}; if it ended, have it replaced"),
            );
        }
        Obstacle::Proxy(why) => checks.fail(
            name,
            match why.starts_with("the ") {
                true => why,
                false => format!("the proxy lets nothing through to {host}: {why}"),
            },
            "[network] proxy_credential = { file = \"FILE\" } with USER:PASSWORD, or have it let this \
             machine through",
        ),
        Obstacle::Connection(failure) => {
            let cure = cures::of_access(failure.kind, host, "");
            checks.fail(name, failure.message, cure);
        }
    }
}

fn refused(checks: &mut Checks, name: &str, failure: &Failure, cure: String) {
    let passes = matches!(
        failure.kind,
        FailureKind::Throttled { .. } | FailureKind::Maintenance | FailureKind::ServerFault
    );
    let state = if passes { CheckState::Warn } else { CheckState::Fail };
    checks.add(name, state, failure.to_string(), Some(cure));
}
