//! Channels of notices: whether their receivers are there. No notice is sent.

use super::LIMIT;
use super::lines::Checks;
use crate::clock::Clock;
use crate::config::Config;
use crate::daemon::probe_channel;

pub(super) async fn check(config: &Config, clock: &Clock) -> Checks {
    let mut checks = Checks::of("channel");
    for channel in &config.notify.channels {
        let name = channel.settings.channel.as_str();
        let cure = format!("correct it in [notify]; then: dropferry notify --test {name}");
        match tokio::time::timeout(LIMIT, probe_channel(config, channel, clock)).await {
            Ok(Ok(found)) => checks.ok(name, found),
            Ok(Err(failure)) => checks.fail(name, failure.to_string(), cure),
            Err(_) => checks.fail(name, format!("no answer within {} s", LIMIT.as_secs()), cure),
        }
    }
    checks
}
