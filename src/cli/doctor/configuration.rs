//! The configuration: every problem and every warning, as `check-config` prints them.

use std::sync::Arc;

use super::lines::{CheckState, Checks};
use super::{Configured, LIMIT, bounded};
use crate::cli::Common;
use crate::config::{Problem, Problems};

/// If a share does not answer, it is not read: that would take until the share answers.
pub(super) fn check(common: &Common, is_silent: bool) -> Configured {
    let mut checks = Checks::of("configuration");
    let (asked, again) = (common.clone(), common.clone());
    let state_directory = bounded(LIMIT, move || again.state_directory());
    let is_readable = matches!(state_directory, Some(Ok(_)));
    let state_directory = state_directory.and_then(Result::ok);
    if is_silent {
        let found = "it is not checked, for a drop directory does not answer";
        checks.warn("file", found, "mend that first");
        return Configured { checks, config: None, state_directory, is_readable };
    }
    let config = match bounded(LIMIT, move || asked.load()) {
        None => {
            let found = format!("it is not read within {} s", LIMIT.as_secs());
            let cure = "a directory or a file that it names lies on a share that does not answer: \
                mount it again";
            checks.fail("file", found, cure);
            None
        }
        Some(Err(problems)) => {
            problems.problems.iter().for_each(|problem| tell(&mut checks, &problems, problem));
            None
        }
        Some(Ok(config)) => {
            let (drops, destinations) = (config.drops.len(), config.destinations.len());
            let path = config.path.display();
            let found = format!("{path} is fine ({drops} drops, {destinations} destinations)");
            checks.ok("file", found);
            for warning in &config.warnings {
                let line = warning.line().map_or("file".to_owned(), |line| format!("line {line}"));
                let cure = warning.hint.clone();
                checks.add(&line, CheckState::Warn, warning.message.clone(), cure);
            }
            Some(Arc::new(config))
        }
    };
    Configured { checks, config, state_directory, is_readable }
}

fn tell(checks: &mut Checks, problems: &Problems, problem: &Problem) {
    let name = problem.line().map_or("file".to_owned(), |line| format!("line {line}"));
    let place = problem.at(&problems.path);
    let cure = problem.hint.clone().unwrap_or_else(|| {
        "correct it; drop directories and destinations are looked at once it is right".to_owned()
    });
    checks.fail(&name, format!("{place}: {}", problem.message), cure);
}
