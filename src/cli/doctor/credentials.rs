//! Credentials: present, usable, readable by the daemon's user, not close to their expiry.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use super::drops::owner_of;
use super::lines::Checks;
use crate::cli::render;
use crate::config::{Config, Destination, Platform};
use crate::control::user_shown;
use crate::model::WallTime;
use crate::platform::aws;
use crate::platform::credential::{Credential, CredentialSource};
use crate::store::snapshot::Status;

/// A credential that expires within this time should be replaced.
const END_SOON: Duration = Duration::from_hours(7 * 24);

pub(super) fn check(config: &Config, status: Option<&Status>, now: WallTime) -> Checks {
    let mut checks = Checks::of("credential");
    let started = status.filter(|status| status.process.is_running);
    let started = started.and_then(|status| status.process.daemon.as_ref()).map(|d| d.started_at);
    let user = owner_of(&config.state_directory);
    for target in &config.destinations {
        one(&mut checks, target, user, started, now);
    }
    checks
}

fn one(
    checks: &mut Checks,
    target: &Destination,
    user: Option<u32>,
    started: Option<WallTime>,
    now: WallTime,
) {
    let name = target.name.as_str();
    if let CredentialSource::Aws(source) = &target.credential {
        return match aws::check(source, &|name| std::env::var(name).ok()) {
            Ok(how) => checks.ok(name, format!("from {source}: {how}")),
            Err(why) => {
                let cure = "correct what it names; the daemon takes it up by itself";
                checks.fail(name, format!("there are no keys from {source}: {why}"), cure);
            }
        };
    }
    let Some(file) = target.credential.file() else { return };
    let credential = Credential::new(target.credential.clone());
    let usable = match &target.platform {
        Platform::S3(_) => credential.stored_keys().map(drop),
        Platform::SevenBridges(_) | Platform::GjirafaVp(_) | Platform::BaseSpace(_) => {
            credential.token().map(drop)
        }
    };
    if let Err(failure) = usable {
        let cure = format!("write a valid credential into {} (chmod 600)", file.display());
        return checks.fail(name, failure.message, cure);
    }
    let Ok(meta) = std::fs::metadata(file) else { return };
    if let Some(user) = unable(user, file, &meta) {
        let found = format!(
            "{} belongs to user {}, and the daemon's user {} may not read it",
            file.display(),
            user_shown(meta.uid()),
            user_shown(user)
        );
        let cure = format!("chown {user} {}, or hand it over by LoadCredential=", file.display());
        return checks.fail(name, found, cure);
    }
    let mtime = WallTime(meta.mtime().saturating_mul(1_000_000_000) + meta.mtime_nsec());
    let written = render::duration(mtime.until(now).as_secs());
    let since = match started {
        Some(started) if mtime > started => ", since the daemon started: it takes it up by itself",
        Some(_) | None => "",
    };
    let found = format!(
        "{} can be used (mode {:o}, written {written} ago{since})",
        file.display(),
        meta.mode() & 0o777
    );
    let cure = format!("fetch another and write it into {}", file.display());
    match credential.expires_at() {
        Some(end) if end <= now => {
            let ago = render::duration(end.until(now).as_secs());
            checks.fail(name, format!("{} ended {ago} ago", file.display()), cure);
        }
        Some(end) => {
            let left = now.until(end);
            let found = format!("{found}, and ends in {}", render::duration(left.as_secs()));
            match left < END_SOON {
                true => checks.warn(name, found, cure),
                false => checks.ok(name, found),
            }
        }
        None => checks.ok(name, found),
    }
}

/// Returns the daemon's user if it differs from the file's owner and nobody else may read the file.
/// systemd decides about its own credentials.
fn unable(user: Option<u32>, file: &Path, meta: &std::fs::Metadata) -> Option<u32> {
    let handed = std::env::var_os("CREDENTIALS_DIRECTORY");
    let is_handed = handed.is_some_and(|directory| file.starts_with(directory));
    let is_shared = meta.mode() & 0o044 != 0;
    user.filter(|user| *user != 0 && *user != meta.uid() && !is_handed && !is_shared)
}
