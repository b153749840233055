//! `check-config`: all that `run` checks before it starts.

use clap::Args;

use super::{Common, Exit, render};
use crate::config::{Config, Destination};
use crate::model::{FormerTarget, Shown};
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

/// What was completed at targets that destinations would not have with this configuration; nothing where
/// there is no database to tell.
fn former_targets(config: &Config) -> Vec<FormerTarget> {
    let Ok(snapshot) = Snapshot::open(&config.state_directory) else { return Vec::new() };
    let former = |destination: &Destination| {
        snapshot.completed_elsewhere(&destination.name, &destination.addresses())
    };
    config.destinations.iter().filter_map(|to| former(to).ok()).flatten().collect()
}

pub(super) fn execute(common: &Common, arguments: &CheckArguments) -> anyhow::Result<Exit> {
    let config = common.load()?;
    config.warnings.iter().for_each(|warning| render::talk(&warning.message));
    match store::check(&config.state_directory) {
        // Root may look at the state of the daemon's user.
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
    let failed = checks.iter().any(|(_, result)| result.is_err());
    if arguments.json {
        let destinations = checks.iter().map(|(name, result)| {
            let reason = result.as_ref().err().map(ToString::to_string);
            serde_json::json!({"name": name.as_str(), "ok": result.is_ok(), "reason": reason})
        });
        let path = config.path.display().to_string();
        let destinations: Vec<_> = destinations.collect();
        render::json(&serde_json::json!({
            "schema": 1, "path": path, "ok": !failed, "destinations": destinations,
        }))?;
    } else {
        let (drops, destinations) = (config.drops.len(), config.destinations.len());
        render::data(&format!(
            "{}: fine ({drops} drops, {destinations} destinations)",
            config.path.display()
        ))?;
        for (name, result) in &checks {
            match result {
                Ok(()) => render::data(&format!("{name}: takes our credential and lets us write"))?,
                Err(failure) => {
                    render::data(&format!("{name}: {}", Shown(&failure.to_string())))?;
                }
            }
        }
    }
    Ok(if failed { Exit::Failed } else { Exit::Fine })
}

fn is_of_others(error: &store::Error) -> bool {
    matches!(error.kind, store::Kind::Foreign { .. })
}
