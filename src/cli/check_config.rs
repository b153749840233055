//! `check-config`: everything that `run` checks before it starts.

use clap::Args;
use serde_json::{Value, json};

use super::{Common, Exit, as_user, doctor, render};
use crate::clock::Clock;
use crate::config::{Config, Destination, Drop, Problem, Problems};
use crate::control::user_shown;
use crate::daemon::Access;
use crate::model::{DestinationName, FormerTarget, Learned, Shown, WallTime};
use crate::platform::contract::{RightFound, RightState};
use crate::store::snapshot::Snapshot;
use crate::{daemon, store};

#[derive(Debug, Args)]
pub(super) struct CheckArguments {
    /// Also call each destination
    #[arg(long)]
    online: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Returns the uploads completed at targets that destinations would not have with this
/// configuration; none without a database.
fn former_targets(config: &Config) -> Vec<FormerTarget> {
    let Ok(snapshot) = Snapshot::open(&config.state_directory) else { return Vec::new() };
    let former = |destination: &Destination| {
        snapshot.completed_elsewhere(&destination.name, &destination.addresses())
    };
    config.destinations.iter().filter_map(|to| former(to).ok()).flatten().collect()
}

/// Returns the unreadable drop directories. A start does not refuse them: it waits for them.
fn unreadable(config: &Config) -> Vec<Problem> {
    let problem = |drop: &Drop| {
        let directory = drop.source.directory.clone();
        let shown = directory.display().to_string();
        let error = doctor::bounded(doctor::LIMIT, move || std::fs::read_dir(directory).err())??;
        let uid = rustix::process::geteuid().as_raw();
        let message = format!("{} may not be read by {}: {error}", shown, user_shown(uid));
        let hint = format!("let that user read it: setfacl -R -m u:{uid}:rX,d:u:{uid}:rX {shown}");
        Some(Problem { place: None, message, hint: Some(hint) })
    };
    config.drops.iter().filter_map(problem).collect()
}

/// Prints the time zone of a timetable. An unknown time zone is an error in `TZ`, not in the
/// configuration.
fn say_zone(config: &Config) {
    if config.transfer.timetable.is_empty() {
        return;
    }
    render::talk(&match Clock::real().local_shown() {
        Ok(zone) => format!("the timetable goes by local time, which is {zone}"),
        Err(why) => format!("the timetable goes by local time: {why}\nhint: {}", doctor::ZONE_CURE),
    });
}

pub(super) fn execute(common: &Common, arguments: &CheckArguments) -> anyhow::Result<Exit> {
    // Root may read what the daemon may not, so the checks run with the rights of the daemon's user.
    let state = common.state_directory().ok();
    let user = as_user::service(state.as_deref());
    if let Some(user) = &user {
        render::talk(&format!("checked as the daemon's user, {} ({})", user.name, user.uid));
    }
    let again = common.clone();
    let (config, unreadable) = as_user::judged_as(user.as_ref(), move || {
        let config = again.load()?;
        let unreadable = unreadable(&config);
        Ok::<_, Problems>((config, unreadable))
    })??;
    if !unreadable.is_empty() {
        return Err(Problems { path: config.path, problems: unreadable }.into());
    }
    config.warnings.iter().for_each(|warning| render::talk(&warning.message));
    say_zone(&config);
    match store::check(&config.state_directory) {
        // Root may read the state of the daemon's user.
        Err(error) if is_of_others(&error) && rustix::process::geteuid().is_root() => {
            render::talk(&format!("a daemon of this user would not start: {error}"));
        }
        checked => checked?,
    }
    former_targets(&config).iter().for_each(|former| render::talk(&former.sentence()));
    let mut checks = Vec::new();
    if arguments.online {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        checks = runtime.block_on(daemon::check_destinations(&config))?;
    }
    let failed = checks.iter().any(|(_, found)| match found {
        Ok(rights) => lacks(rights),
        Err(_) => true,
    });
    if arguments.json {
        let destinations: Vec<_> = checks.iter().map(to_json).collect();
        let path = config.path.display().to_string();
        render::json(&json!({
            "schema": 1, "path": path, "ok": !failed, "destinations": destinations,
        }))?;
    } else {
        let (drops, destinations) = (config.drops.len(), config.destinations.len());
        render::data(&format!(
            "{}: fine ({drops} drops, {destinations} destinations)",
            config.path.display()
        ))?;
        for (name, found) in &checks {
            match found {
                Ok(rights) => {
                    let target = config.destinations.iter().find(|target| target.name == *name);
                    render::data(&format!("{name}: {}", summary(rights, target)))?;
                    for right in rights {
                        render::data(&format!("{name}: {}", sentence(right)))?;
                    }
                    for (what, at) in learned(&config, name) {
                        let since = render::moment(Some(at));
                        render::data(&format!("{name}: {} (since {since})", what.sentence()))?;
                    }
                }
                Err(failure) => {
                    render::data(&format!("{name}: {}", Shown(&failure.to_string())))?;
                }
            }
        }
    }
    Ok(if failed { Exit::Failed } else { Exit::Fine })
}

/// Returns the properties of a destination's target that the daemon has learned.
pub(super) fn learned(config: &Config, name: &DestinationName) -> Vec<(Learned, WallTime)> {
    let Ok(snapshot) = Snapshot::open(&config.state_directory) else { return Vec::new() };
    let target = config.destinations.iter().find(|target| target.name == *name);
    let learned = target.map(|target| snapshot.learned(&target.addresses()));
    learned.and_then(Result::ok).unwrap_or_default()
}

/// Returns whether a necessary permission is refused.
pub(super) fn lacks(rights: &[RightFound]) -> bool {
    let is_lacking =
        |right: &RightFound| right.is_needed && matches!(right.state, RightState::Refused(_));
    rights.iter().any(is_lacking)
}

/// Describes a destination's permissions.
pub(super) fn summary(rights: &[RightFound], target: Option<&Destination>) -> String {
    let is_untried = |right: &RightFound| matches!(right.state, RightState::NotTried);
    let place = target.map_or("it".to_owned(), |target| target.address().container);
    match lacks(rights) {
        true => {
            format!("the credential is accepted, and lacks a right that uploads to {place} need")
        }
        false if rights.iter().any(is_untried) => "the credential is accepted".to_owned(),
        false => format!("the credential is accepted and may write to {place}"),
    }
}

/// Describes one permission: whether we have it, and what fails without it.
pub(super) fn sentence(right: &RightFound) -> String {
    let (name, without) = (right.right, right.without);
    match &right.state {
        RightState::Granted => format!("{name}: granted"),
        RightState::Refused(failure) => {
            format!("{name}: refused ({}); without it {without}", Shown(&failure.to_string()))
        }
        RightState::Unknown(why) => format!("{name}: not known ({why}); without it {without}"),
        RightState::NotTried => format!("{name}: not tried; without it {without}"),
    }
}

fn to_json(access: &Access) -> Value {
    let (name, found) = access;
    let right = |right: &RightFound| {
        let (state, reason) = match &right.state {
            RightState::Granted => ("granted", None),
            RightState::Refused(failure) => ("refused", Some(failure.to_string())),
            RightState::Unknown(why) => ("unknown", Some((*why).to_owned())),
            RightState::NotTried => ("not-tried", None),
        };
        json!({
            "right": right.right, "state": state, "reason": reason, "needed": right.is_needed,
            "without": right.without,
        })
    };
    let rights = found.as_ref().map_or(&[][..], |rights| rights);
    let refused = rights.iter().find(|right| lacks(std::slice::from_ref(right)));
    let reason = match found {
        Ok(_) => refused.map(sentence),
        Err(failure) => Some(failure.to_string()),
    };
    let rights: Vec<_> = rights.iter().map(right).collect();
    json!({ "name": name.as_str(), "ok": reason.is_none(), "reason": reason, "rights": rights })
}

fn is_of_others(error: &store::Error) -> bool {
    matches!(error.kind, store::Kind::Foreign { .. })
}
