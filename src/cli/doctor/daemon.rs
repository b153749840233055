//! The daemon: whether it runs, since when, its version, its supervisor.

use super::lines::Checks;
use crate::cli::{Common, ask, render};
use crate::clock::Clock;
use crate::control;
use crate::store::snapshot::{DaemonShown, Status};

/// No daemon can run on a new state; if the state cannot be read, this is unknown.
pub(super) fn check(status: Option<&Status>, is_new: bool, clock: &Clock) -> Checks {
    let mut checks = Checks::of("daemon");
    if status.is_none() && !is_new {
        let unknown = "whether it runs cannot be told: the state cannot be read";
        checks.warn("process", unknown, "mend what the lines above say of it");
        return checks;
    }
    let start = "systemctl start dropferry, or: dropferry run";
    let running = status.map(|status| &status.process).filter(|process| process.is_running);
    let Some(daemon) = running.and_then(|process| process.daemon.as_ref()) else {
        checks.warn("process", "it does not run", start);
        return checks;
    };
    let since = daemon.started_at.until(clock.now().wall).as_secs();
    let found = format!("it runs as process {}, for {}", daemon.pid, render::duration(since));
    checks.ok("process", found);
    version(&mut checks, daemon);
    watchdog(&mut checks, daemon);
    checks
}

/// A daemon that runs and cannot be asked accepts no orders.
pub(super) fn check_socket(common: &Common, status: Option<&Status>) -> Checks {
    let mut checks = Checks::of("daemon");
    if !status.is_some_and(|status| status.process.is_running) {
        return checks;
    }
    let name = "control socket";
    let Err(error) = ask::check(common) else {
        checks.ok(name, "the daemon listens");
        return checks;
    };
    match error.downcast_ref::<control::Error>() {
        Some(gone @ control::Error::SocketGone { .. }) => {
            checks.fail(name, gone.to_string(), gone.hint().unwrap_or_default());
        }
        Some(other) => {
            checks.warn(name, other.to_string(), other.hint().unwrap_or_default());
        }
        None => checks.warn(name, error.to_string(), "dropferry check-config"),
    }
    checks
}

fn version(checks: &mut Checks, daemon: &DaemonShown) {
    let ours = env!("CARGO_PKG_VERSION");
    if daemon.version == ours {
        return checks.ok("version", ours);
    }
    let found = format!("{} runs, and this program is {ours}", daemon.version);
    checks.warn("version", found, "systemctl restart dropferry: nothing is lost by it");
}

/// A supervisor's watchdog shows in the daemon's environment, of which nothing else is read.
fn watchdog(checks: &mut Checks, daemon: &DaemonShown) {
    let Ok(environment) = std::fs::read(format!("/proc/{}/environ", daemon.pid)) else { return };
    let mut variables = environment.split(|byte| *byte == 0);
    let wanted = variables.find_map(|variable| variable.strip_prefix(b"WATCHDOG_USEC="));
    let wanted = wanted.and_then(|text| std::str::from_utf8(text).ok()?.parse::<u64>().ok());
    match wanted {
        Some(microseconds) => {
            let seconds = microseconds / 1_000_000;
            checks.ok("watchdog", format!("its supervisor wants a word every {seconds} s"));
        }
        None => checks.ok("watchdog", "there is none: no supervisor restarts it if it hangs"),
    }
}
