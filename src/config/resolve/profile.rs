//! The profile of a drop directory: a file beside the configuration, else a compiled-in one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::Spanned;

use super::Resolver;
use crate::config::problem::{Problem, ProblemPlace, nearest};
use crate::model::Unit;
use crate::source::profile::{NAMES, Profile, ProfileError};

/// The directory of such files, beside the configuration.
const DIRECTORY: &str = "profiles";

impl Resolver<'_> {
    /// Returns the requested profile, or the plain one if it is unusable.
    pub(super) fn drop_profile(
        &mut self,
        asked: Option<&Spanned<String>>,
        unit: Unit,
    ) -> Arc<Profile> {
        let Some(asked) = asked else { return Profile::plain() };
        let name = asked.as_ref();
        if unit == Unit::File && name != NAMES[0] {
            let message = format!("profile = {name:?} is of directories, and unit is \"file\"");
            let hint = "leave out unit, or choose profile = \"plain\"".to_owned();
            self.problem(Some(asked.span()), message, Some(hint));
        }
        let own = is_name(name).then(|| self.own_profile(asked)).flatten();
        own.or_else(|| Profile::builtin(name)).unwrap_or_else(|| {
            self.unknown_profile(asked);
            Profile::plain()
        })
    }

    /// Reads `profiles/NAME.toml`, if there is one; a bad one is replaced by the plain one, so that
    /// the rest is checked too.
    fn own_profile(&mut self, asked: &Spanned<String>) -> Option<Arc<Profile>> {
        let file = self.profiles().join(format!("{}.toml", asked.as_ref()));
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
            Err(error) => {
                let message = format!("profile {} cannot be read: {error}", file.display());
                self.problem(Some(asked.span()), message, None);
                return Some(Profile::plain());
            }
        };
        let parsed = Profile::parse(asked.as_ref(), &text).map(Arc::new);
        Some(parsed.unwrap_or_else(|error| {
            let wrong = problem(&file, &text, error);
            let line = wrong.line().map_or(String::new(), |line| format!(":{line}"));
            let message = format!("profile {}{line}: {}", file.display(), wrong.message);
            self.problem(Some(asked.span()), message, wrong.hint);
            Profile::plain()
        }))
    }

    fn profiles(&self) -> PathBuf {
        self.main_directory().join(DIRECTORY)
    }

    fn unknown_profile(&mut self, asked: &Spanned<String>) {
        let own = own_names(&self.profiles());
        let known: Vec<_> = NAMES.into_iter().chain(own.iter().map(String::as_str)).collect();
        let near = nearest(asked.as_ref(), &known);
        let near = near.map_or(String::new(), |near| format!("did you mean {near:?}? "));
        let all = known.join(", ");
        let hint = format!("{near}allowed: {all}, or a file {DIRECTORY}/NAME.toml beside this one");
        let message = format!("there is no profile {:?}", asked.as_ref());
        self.problem(Some(asked.span()), message, Some(hint));
    }
}

/// Returns whether a name is a plain file name.
fn is_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    !name.is_empty() && !name.starts_with('.') && name.chars().all(allowed)
}

/// Returns the names of the user's own profiles that replace no compiled-in one, in order.
fn own_names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok);
    let names = entries.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        name.strip_suffix(".toml").map(str::to_owned)
    });
    let mut names: Vec<_> =
        names.filter(|name| is_name(name) && !NAMES.contains(&name.as_str())).collect();
    names.sort();
    names
}

/// Converts an error in a profile's file to a problem.
fn problem(file: &Path, text: &str, error: ProfileError) -> Problem {
    match error {
        ProfileError::Syntax(error) => Problem::syntax(file, text, &error, error.span(), &[]),
        ProfileError::Value { span, message, hint } => {
            let place = span.map(|span| ProblemPlace::new(file, text, span));
            Problem { place, message, hint }
        }
    }
}
