//! Converts the file's values to those that the program uses, and collects every problem.

mod answer;
mod apart;
mod care;
mod credential;
mod destination;
mod drop;
mod network;
mod notify;
mod profile;
mod shared;
mod transfer;
mod web;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;

use self::apart::Own;
use super::lenient::Wrong;
use super::problem::{example, nearest};
use super::sources::Sources;
use super::units::{parse_duration, parse_size, unit_hint};
use super::{Config, Destination, Drop, Environment, Places, Problem, Problems, raw};
use crate::control;
use crate::engine::needs_reading;
use crate::engine::settings::RetrySettings;
use crate::model::ByteCount;
pub(crate) use destination::{PLATFORM_WORDS, PlatformWord};

const MIB: u64 = 1024 * 1024;

/// Collects problems; every reader returns a usable value so that the rest is checked too.
struct Resolver<'a> {
    sources: &'a Sources,
    environment: Environment<'a>,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
    /// Refused keys, and keys that others were mistaken for: that they are missing is no problem.
    refused: BTreeSet<String>,
    /// A directory did not answer.
    has_silence: bool,
}

pub(super) fn resolve(
    sources: &Sources,
    mut raw: raw::FileKeys<'_>,
    environment: Environment<'_>,
) -> Result<Config, Problems> {
    let mut resolver = Resolver::new(sources, environment);
    resolver.add(raw.take_wrong());
    let config = resolver.file(raw);
    let warnings = resolver.end()?;
    Ok(Config { warnings, ..config })
}

/// Refuses a file that lies in a drop directory.
pub(super) fn check_apart(config: &Config, what: &str, file: &Path) -> Result<(), Problems> {
    let sources = Sources::single(&config.path, "");
    let mut resolver = Resolver::new(&sources, &|_| None);
    resolver.check_apart(&config.drops, vec![Own::secret(what.to_owned(), file)]);
    resolver.end().map(drop)
}

/// The state directory of a daemon under systemd.
const SYSTEM_STATE: &str = "/var/lib/dropferry";
/// Its socket.
const SYSTEM_SOCKET: &str = "/run/dropferry/control.sock";

/// Resolves only the paths of the state and the control socket.
pub(super) fn places(
    sources: &Sources,
    raw: raw::FileKeys<'_>,
    environment: Environment<'_>,
) -> Result<Places, Problems> {
    let mut resolver = Resolver::new(sources, environment);
    let state_directory = resolver.state_directory(raw.state.directory);
    let is_configured = raw.control.socket.is_some();
    let mut control_sockets = vec![resolver.control_socket(raw.control.socket, &state_directory)];
    if !is_configured {
        // The client does not have the daemon's environment.
        control_sockets.push(state_directory.join(SOCKET_NAME));
        control_sockets.push(SYSTEM_SOCKET.into());
    }
    resolver.end().map(|_| Places { state_directory, control_sockets })
}

/// The control socket's name in its default directory.
const SOCKET_NAME: &str = "control.sock";

/// Resolves only the paths of the drop directories.
pub(super) fn drop_directories(
    sources: &Sources,
    raw: raw::FileKeys<'_>,
    environment: Environment<'_>,
) -> Vec<(String, PathBuf)> {
    let resolver = Resolver::new(sources, environment);
    let place = |(name, drop): (String, Spanned<raw::DropKeys>)| {
        let directory = drop.into_inner().directory?;
        Some((name, resolver.below(&directory)))
    };
    raw.drops.into_iter().filter_map(place).collect()
}

/// The location of a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CredentialPlace {
    /// The platform, as written.
    pub(crate) platform: String,
    /// The file; `None` where it is not one of ours.
    pub(crate) file: Option<PathBuf>,
}

/// Resolves only the location of a destination's credential.
pub(super) fn credential_place(
    sources: &Sources,
    mut raw: raw::FileKeys<'_>,
    environment: Environment<'_>,
    name: &str,
) -> Option<CredentialPlace> {
    let resolver = Resolver::new(sources, environment);
    let keys = raw.destinations.remove(name)?.into_inner();
    let file = keys.credential.and_then(|credential| credential.into_inner().file);
    let platform = keys.platform.map(Spanned::into_inner).unwrap_or_default();
    Some(CredentialPlace { platform, file: file.map(|file| resolver.below(&file)) })
}

impl<'a> Resolver<'a> {
    fn new(sources: &'a Sources, environment: Environment<'a>) -> Self {
        let (problems, warnings) = (Vec::new(), Vec::new());
        Self {
            sources,
            environment,
            problems,
            warnings,
            refused: BTreeSet::new(),
            has_silence: false,
        }
    }

    /// Returns the warnings, unless there are problems.
    fn end(mut self) -> Result<Vec<Problem>, Problems> {
        if self.problems.is_empty() {
            return Ok(self.warnings);
        }
        let path = self.sources.main();
        self.problems.sort_by_key(|problem| {
            let place = problem.place.as_ref();
            place.map(|place| (place.path != path, place.path.clone(), place.line))
        });
        Err(Problems { path: path.to_owned(), problems: each_once(self.problems) })
    }
}

impl Resolver<'_> {
    fn file(&mut self, mut raw: raw::FileKeys<'_>) -> Config {
        let destinations = self.destinations(&mut raw);
        let spans = directories(&raw.drops);
        let mut drops: Vec<_> = raw
            .drops
            .into_iter()
            .filter_map(|(name, raw)| self.drop(name, raw, &destinations))
            .collect();
        drops
            .iter_mut()
            .for_each(|drop| drop.settings.runs.needs_words = needs_words(drop, &destinations));
        self.check_overlaps(&drops, &spans);
        self.warn_of_shared_places(&drops, &destinations);
        let (state_span, socket_span) = (span(&raw.state.directory), span(&raw.control.socket));
        let state_directory = self.state_directory(raw.state.directory.take());
        let control_socket = self.checked_control_socket(raw.control.socket, &state_directory);
        let mut own = vec![Own {
            what: "the state directory".to_owned(),
            path: &state_directory,
            span: state_span,
            is_tree: true,
            hint: "the daemon would upload its own database and receipts: set [state] directory \
                    to one outside of every drop directory",
        }];
        own.extend(
            self.sources.paths().map(|file| Own::secret("the configuration".to_owned(), file)),
        );
        own.extend(destinations.iter().filter_map(|to| {
            let what = format!("the credential of destination {:?}", to.name.as_str());
            Some(Own::secret(what, to.credential.file()?))
        }));
        if !control_socket.starts_with(&state_directory) {
            own.push(Own {
                what: "the control socket".to_owned(),
                path: &control_socket,
                span: socket_span,
                is_tree: false,
                hint: "set [control] socket to a path outside of every drop directory",
            });
        }
        self.check_apart(&drops, own);
        let network = self.network(raw.network);
        let notify = self.notify(raw.notify, &network);
        Config {
            path: self.sources.main().to_owned(),
            care: self.care(&mut raw.state),
            control_socket,
            state_directory,
            web: self.web(raw.web),
            transfer: self.transfer(raw.transfer),
            retry: self.retry(raw.retry),
            network,
            destinations,
            drops,
            notify,
            warnings: Vec::new(),
        }
    }

    /// Adds the problems of keys.
    fn add(&mut self, wrong: Wrong) {
        self.problems.extend(wrong.problems);
        self.refused.extend(wrong.refused);
    }

    /// Returns whether another problem explains why a key is missing.
    fn is_refused(&self, table: &str, key: &str) -> bool {
        self.refused.contains(table) || self.refused.contains(&format!("{table}.{key}"))
    }

    /// Resolves the destinations, and remembers unusable ones.
    fn destinations(&mut self, raw: &mut raw::FileKeys<'_>) -> Vec<Destination> {
        let mut usable = Vec::new();
        for (name, common, table) in raw.destinations() {
            match self.destination(name.clone(), common, table) {
                Some(destination) => usable.push(destination),
                None => {
                    self.refused.insert(format!("destinations.{name}"));
                }
            }
        }
        usable
    }

    fn problem(&mut self, span: Option<Range<usize>>, message: String, hint: Option<String>) {
        let place = span.and_then(|span| self.sources.place(&span));
        self.problems.push(Problem { place, message, hint });
    }

    /// Warns of a setting that is allowed, but may not be intended.
    fn warn(&mut self, span: Range<usize>, message: String) {
        let place = self.sources.place(&span);
        self.warnings.push(Problem { place, message, hint: None });
    }

    /// Returns a path from the file: it is relative to its file.
    fn below(&self, path: &Spanned<String>) -> PathBuf {
        self.path_from(self.sources.directory_at(path.span().start), path.as_ref())
    }

    fn main_directory(&self) -> &Path {
        self.sources.main().parent().unwrap_or(Path::new("."))
    }

    fn path_from(&self, base: &Path, path: &str) -> PathBuf {
        match path.strip_prefix("~/").zip((self.environment)("HOME")) {
            Some((rest, home)) => Path::new(&home).join(rest),
            None => base.join(path),
        }
    }

    fn control_socket(&self, asked: Option<Spanned<String>>, state: &Path) -> PathBuf {
        if let Some(asked) = asked {
            return self.below(&asked);
        }
        let runtime = (self.environment)("RUNTIME_DIRECTORY").filter(|value| !value.is_empty());
        let runtime = runtime.as_deref().and_then(|value| value.split(':').next());
        runtime.map_or(state, Path::new).join(SOCKET_NAME)
    }

    /// Refuses a path at which the daemon could not create its socket: only a socket is replaced.
    fn checked_control_socket(&mut self, asked: Option<Spanned<String>>, state: &Path) -> PathBuf {
        let span = asked.as_ref().map(Spanned::span);
        let path = self.control_socket(asked, state);
        if let Err(error) = control::check_place(&path) {
            let message = format!("[control] socket {}: {error}", path.display());
            let hint = "set [control] socket to a path where nothing else is".to_owned();
            self.problem(span, message, Some(hint));
        }
        path
    }

    fn state_directory(&mut self, asked: Option<Spanned<String>>) -> PathBuf {
        if let Some(asked) = asked {
            return self.below(&asked);
        }
        let variable = |name: &str| (self.environment)(name).filter(|value| !value.is_empty());
        if let Some(directory) = variable("STATE_DIRECTORY") {
            return directory.split(':').next().unwrap_or(&directory).into();
        }
        // The client does not have the service's environment.
        if self.sources.main().starts_with("/etc") {
            return SYSTEM_STATE.into();
        }
        let base = variable("XDG_STATE_HOME").map(PathBuf::from);
        let home = || variable("HOME").map(|home| Path::new(&home).join(".local/state"));
        match base.or_else(home) {
            Some(base) => base.join("dropferry"),
            None => {
                let hint = "set [state] directory".to_owned();
                self.problem(None, "there is no place for the state".into(), Some(hint));
                PathBuf::new()
            }
        }
    }

    fn duration(
        &mut self,
        key: &str,
        value: Option<Spanned<String>>,
        default: Duration,
        min: Duration,
    ) -> Duration {
        let Some(value) = value else { return default };
        match parse_duration(value.as_ref()) {
            Ok(duration) if duration >= min => duration,
            Ok(_) => {
                let message = format!("{key} = {:?} is too short", value.as_ref());
                let hint = format!("at least {} ms", min.as_millis());
                self.problem(Some(value.span()), message, Some(hint));
                default
            }
            Err(unit) => {
                let message = format!("{key} = {:?} is no duration", value.as_ref());
                let hint = unit_hint(value.as_ref(), &unit, |near| parse_duration(near).is_ok());
                self.problem(Some(value.span()), message, Some(hint));
                default
            }
        }
    }

    fn size(&mut self, key: &str, value: Option<Spanned<String>>, default: u64, min: u64) -> u64 {
        let Some(value) = value else { return default };
        match parse_size(value.as_ref()) {
            Ok(size) if size >= min => size,
            Ok(_) => {
                let message = format!("{key} = {:?} is too small", value.as_ref());
                self.problem(
                    Some(value.span()),
                    message,
                    Some(format!("at least {}", ByteCount(min))),
                );
                default
            }
            Err(unit) => {
                let message = format!("{key} = {:?} is no size", value.as_ref());
                let hint = unit_hint(value.as_ref(), &unit, |near| parse_size(near).is_ok());
                self.problem(Some(value.span()), message, Some(hint));
                default
            }
        }
    }

    fn retry(&mut self, raw: raw::RetryKeys) -> RetrySettings {
        let tick = Duration::from_millis(1);
        let span = raw.delay_max.as_ref().map(Spanned::span);
        let delay_min = self.duration("delay_min", raw.delay_min, Duration::from_secs(1), tick);
        let delay_max = self.duration("delay_max", raw.delay_max, Duration::from_mins(5), tick);
        if delay_max < delay_min {
            self.problem(span, "delay_max is shorter than delay_min".into(), None);
        }
        RetrySettings { delay_min, delay_max }
    }

    fn check_name(&mut self, what: &str, name: &str, span: &Range<usize>) {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.is_empty() || name.starts_with('.') || !name.chars().all(allowed) {
            let message = format!("{what} name {name:?} is not possible");
            let hint = "allowed: letters, digits, - _ and . (not first)".to_owned();
            self.problem(Some(span.clone()), message, Some(hint));
        }
    }

    fn required(
        &mut self,
        key: &str,
        of: (&str, &str),
        value: Option<&Spanned<String>>,
        span: &Range<usize>,
    ) -> Option<String> {
        let found = value.map(|value| value.as_ref().clone()).filter(|value| !value.is_empty());
        let (what, name) = of;
        let table = match what {
            "drop" => format!("drops.{name}"),
            "destination" => format!("destinations.{name}"),
            _ => format!("destinations.{name}.export"),
        };
        if found.is_none() && !self.is_refused(&table, key) {
            let message = format!("{what} {name:?} has no {key}");
            let at = value.map_or(span.clone(), Spanned::span);
            let table = table.split('.').next().unwrap_or_default();
            self.problem(Some(at), message, example(table, key));
        }
        found
    }

    /// Returns the value of a word, among the allowed ones.
    fn choice<T: Copy>(
        &mut self,
        key: &str,
        value: Option<&Spanned<String>>,
        words: &[(&str, T)],
    ) -> Option<T> {
        let value = value?;
        let found = words.iter().find(|(word, _)| word == value.as_ref());
        if found.is_none() {
            let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
            let message = format!("{key} = {:?} is not possible", value.as_ref());
            let hint = match nearest(value.as_ref(), &words) {
                Some(near) => format!("did you mean {near:?}?"),
                None => format!("allowed: {}", words.join(", ")),
            };
            self.problem(Some(value.span()), message, Some(hint));
        }
        found.map(|(_, meaning)| *meaning)
    }
}

/// Returns the position of each drop directory's path.
fn directories(drops: &BTreeMap<String, Spanned<raw::DropKeys>>) -> BTreeMap<String, Range<usize>> {
    let place = |(name, raw): (&String, &Spanned<raw::DropKeys>)| {
        let directory = raw.get_ref().directory.as_ref();
        (name.clone(), directory.map_or(raw.span(), Spanned::span))
    };
    drops.iter().map(place).collect()
}

/// Keeps one of several problems with one cause, such as a file that several destinations name.
fn each_once(problems: Vec<Problem>) -> Vec<Problem> {
    let mut once: Vec<(Problem, Vec<String>)> = Vec::new();
    for problem in problems {
        let is_same = |first: &Problem| {
            let path = |one: &Problem| one.place.as_ref().map(|place| place.path.clone());
            (&first.message, &first.hint) == (&problem.message, &problem.hint)
                && path(first) == path(&problem)
        };
        match (once.iter_mut().find(|(first, _)| is_same(first)), problem.line()) {
            (Some((_, lines)), Some(line)) => lines.push(line.to_string()),
            (Some(_), None) => {}
            (None, _) => once.push((problem, Vec::new())),
        }
    }
    let with_lines = |(mut problem, mut lines): (Problem, Vec<String>)| {
        lines.dedup();
        lines.retain(|line| problem.line().is_none_or(|first| first.to_string() != *line));
        if let Some(last) = lines.pop() {
            let before = if lines.is_empty() { String::new() } else { lines.join(", ") + " and " };
            problem.message += &format!(" (also line {before}{last})");
        }
        problem
    };
    once.into_iter().map(with_lines).collect()
}

/// Returns the position of a value in the file.
fn span(value: &Option<Spanned<String>>) -> Option<Range<usize>> {
    value.as_ref().map(Spanned::span)
}

/// Returns whether a name or word at the drop directory's destinations comes from a run's own files.
fn needs_words(drop: &Drop, destinations: &[Destination]) -> bool {
    let is_asked = |destination: &&Destination| {
        let prefix = destination.export.as_ref().map(|export| &export.prefix);
        let values = destination.metadata.iter().map(|(_, value)| value);
        let templates = values.chain(&destination.tags).chain(prefix).chain([&destination.folder]);
        templates.into_iter().any(|template| needs_reading(template))
    };
    let targets = &drop.settings.destinations;
    let to = destinations.iter().filter(|destination| targets.contains(&destination.name));
    drop.settings.runs.closing.reads_runs
        && to.into_iter().any(|destination| is_asked(&destination))
}
