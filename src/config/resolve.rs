//! From what stands in the file to what the program goes by, collecting every problem on the way.

use std::ops::Range;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;

use super::problem::{line_of, nearest};
use super::units::{parse_duration, parse_rate, parse_size};
use super::{
    Config, Destination, Drop, Environment, INTERVAL_MIN, Platform, Problem, Problems, Transfer,
    raw,
};
use crate::engine::settings::{DropSettings, RetrySettings, Unit};
use crate::model::{ByteCount, DestinationName, DropName, NamePolicy, PartSize};
use crate::platform::credential::CredentialSource;
use crate::platform::{http, sevenbridges};
use crate::source;

const MIB: u64 = 1024 * 1024;

/// Collects problems; every reader returns something usable so that the rest is checked too.
struct Resolver<'a> {
    path: &'a Path,
    text: &'a str,
    environment: Environment<'a>,
    problems: Vec<Problem>,
}

/// Resolves a file.
pub(super) fn resolve(
    path: &Path,
    text: &str,
    raw: raw::File,
    environment: Environment<'_>,
) -> Result<Config, Problems> {
    let mut resolver = Resolver { path, text, environment, problems: Vec::new() };
    let config = resolver.file(raw);
    let mut problems = resolver.problems;
    if problems.is_empty() {
        return Ok(config);
    }
    problems.sort_by_key(|problem| problem.line);
    Err(Problems { path: path.to_owned(), problems })
}

impl Resolver<'_> {
    fn file(&mut self, raw: raw::File) -> Config {
        self.refuse(raw.notify.as_ref().map(Spanned::span), "[notify]");
        self.refuse(raw.control.socket.as_ref().map(Spanned::span), "[control]");
        let destinations: Vec<_> = raw
            .destinations
            .into_iter()
            .filter_map(|(name, raw)| self.destination(name, raw))
            .collect();
        let names: Vec<_> = destinations.iter().map(|d| d.name.clone()).collect();
        let drops: Vec<_> =
            raw.drops.into_iter().filter_map(|(name, raw)| self.drop(name, raw, &names)).collect();
        self.check_overlaps(&drops);
        Config {
            path: self.path.to_owned(),
            state_directory: self.state_directory(raw.state.directory),
            web_listen: self.web_listen(raw.web.listen),
            transfer: self.transfer(raw.transfer),
            retry: self.retry(raw.retry),
            network: self.network(raw.network),
            destinations,
            drops,
        }
    }

    fn problem(&mut self, span: Option<Range<usize>>, message: String, hint: Option<String>) {
        let line = span.map(|span| line_of(self.text, span.start));
        self.problems.push(Problem { line, message, hint });
    }

    /// Refuses a key whose work this version does not do.
    fn refuse(&mut self, span: Option<Range<usize>>, key: &str) {
        if let Some(span) = span {
            let message = format!("{key} is not available in this version");
            self.problem(Some(span), message, Some("leave it out".into()));
        }
    }

    /// Refuses every value of a key but those that this version does.
    fn only(&mut self, key: &str, value: Option<&Spanned<String>>, allowed: &[&str]) {
        if let Some(value) = value.filter(|value| !allowed.contains(&value.as_ref().as_str())) {
            let found = value.as_ref();
            let message = format!("{key} = {found:?} is not available in this version");
            let hint = format!("allowed: {}", allowed.join(", "));
            self.problem(Some(value.span()), message, Some(hint));
        }
    }

    fn below(&self, path: &str) -> PathBuf {
        let base = self.path.parent().unwrap_or(Path::new("."));
        match path.strip_prefix("~/").zip((self.environment)("HOME")) {
            Some((rest, home)) => Path::new(&home).join(rest),
            None => base.join(path),
        }
    }

    fn state_directory(&mut self, asked: Option<Spanned<String>>) -> PathBuf {
        if let Some(asked) = asked {
            return self.below(asked.as_ref());
        }
        let variable = |name: &str| (self.environment)(name).filter(|value| !value.is_empty());
        if let Some(directory) = variable("STATE_DIRECTORY") {
            return directory.split(':').next().unwrap_or(&directory).into();
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

    fn web_listen(&mut self, asked: Option<Spanned<String>>) -> Option<std::net::SocketAddr> {
        self.only("listen", asked.as_ref(), &["off"]);
        None
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
                self.problem(
                    Some(value.span()),
                    message,
                    Some(format!("allowed: {}", unit.allowed)),
                );
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
                self.problem(
                    Some(value.span()),
                    message,
                    Some(format!("allowed: {}", unit.allowed)),
                );
                default
            }
        }
    }

    fn transfer(&mut self, raw: raw::Transfer) -> Transfer {
        self.refuse(raw.timetable.as_ref().map(Spanned::span), "[[transfer.timetable]]");
        let part_size = self.size("part_size", raw.part_size, 64 * MIB, 1);
        Transfer {
            parts_in_flight: self.parts_in_flight(raw.parts_in_flight),
            part_size: PartSize::new(part_size)
                .unwrap_or_else(|| PartSize::new(64 * MIB).expect("not zero")),
            memory: ByteCount(self.size("memory", raw.memory, 64 * MIB, 2 * MIB)),
            bandwidth: self.bandwidth(raw.bandwidth),
        }
    }

    fn bandwidth(&mut self, value: Option<Spanned<String>>) -> Option<u64> {
        let value = value?;
        match parse_rate(value.as_ref()) {
            Ok(rate) => rate,
            Err(unit) => {
                let message = format!("bandwidth = {:?} is no rate", value.as_ref());
                self.problem(
                    Some(value.span()),
                    message,
                    Some(format!("allowed: {}", unit.allowed)),
                );
                None
            }
        }
    }

    fn parts_in_flight(&mut self, value: Option<Spanned<raw::Count>>) -> u32 {
        const AUTO: u32 = 8;
        let Some(value) = value else { return AUTO };
        let found = match value.as_ref() {
            raw::Count::Number(number) => match u32::try_from(*number) {
                Ok(count @ 1..=256) => return count,
                Ok(_) | Err(_) => number.to_string(),
            },
            raw::Count::Word(word) if word == "auto" => return AUTO,
            raw::Count::Word(word) => format!("{word:?}"),
        };
        let hint = "allowed: \"auto\", or a number from 1 to 256".to_owned();
        self.problem(
            Some(value.span()),
            format!("parts_in_flight = {found} is not possible"),
            Some(hint),
        );
        AUTO
    }

    fn retry(&mut self, raw: raw::Retry) -> RetrySettings {
        let tick = Duration::from_millis(1);
        let span = raw.delay_max.as_ref().map(Spanned::span);
        let delay_min = self.duration("delay_min", raw.delay_min, Duration::from_secs(1), tick);
        let delay_max = self.duration("delay_max", raw.delay_max, Duration::from_mins(5), tick);
        if delay_max < delay_min {
            self.problem(span, "delay_max is shorter than delay_min".into(), None);
        }
        RetrySettings { delay_min, delay_max }
    }

    fn network(&mut self, raw: raw::Network) -> http::Settings {
        let ca_file = raw.ca_file.map(|file| (file.span(), self.below(file.as_ref())));
        if let Some((span, file)) = ca_file.as_ref().filter(|(_, file)| !file.is_file()) {
            let message = format!("ca_file {} is not there", file.display());
            self.problem(Some(span.clone()), message, None);
        }
        http::Settings {
            proxy: raw.proxy.map(Spanned::into_inner),
            ca_file: ca_file.map(|(_, file)| file),
            inactivity_timeout: self.duration(
                "inactivity_timeout",
                raw.inactivity_timeout,
                Duration::from_mins(1),
                Duration::from_millis(100),
            ),
        }
    }

    fn destination(&mut self, name: String, raw: Spanned<raw::Destination>) -> Option<Destination> {
        let (span, raw) = (raw.span(), raw.into_inner());
        self.check_name("destination", &name, &span);
        self.refuse(raw.export.as_ref().map(Spanned::span), "export");
        let platform =
            self.required("platform", "destination", &name, raw.platform.as_ref(), &span)?;
        self.only("platform", raw.platform.as_ref(), &["sevenbridges"]);
        if platform != "sevenbridges" {
            return None;
        }
        let foreign = [
            ("app_result", raw.app_result.as_ref().map(Spanned::span)),
            ("auth_header", raw.auth_header.as_ref().map(Spanned::span)),
            ("auth_prefix", raw.auth_prefix.as_ref().map(Spanned::span)),
            ("region", raw.region.as_ref().map(Spanned::span)),
            ("path_style", raw.path_style.as_ref().map(Spanned::span)),
            ("bucket", raw.bucket.as_ref().map(Spanned::span)),
            ("prefix", raw.prefix.as_ref().map(Spanned::span)),
        ];
        for (key, span) in foreign.into_iter().filter_map(|(key, span)| Some((key, span?))) {
            let message = format!("{key} means nothing to platform \"sevenbridges\"");
            self.problem(Some(span), message, Some("leave it out".into()));
        }
        let base_url = self.base_url(&name, raw.base_url.as_ref(), &span)?;
        let project = self.project(&name, raw.project.as_ref(), &span)?;
        let credential = self.credential(&name, raw.credential, &span)?;
        Some(Destination {
            platform: Platform::SevenBridges(sevenbridges::Settings { base_url, project }),
            credential,
            folder: raw.folder.map(Spanned::into_inner).unwrap_or_default(),
            when_name_taken: self.name_policy(raw.when_name_taken.as_ref()),
            metadata: raw.metadata.into_iter().collect(),
            tags: raw.tags,
            calls_per_second: self.calls_per_second(raw.calls_per_second.as_ref()),
            name: DestinationName::new(name),
        })
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
        what: &str,
        name: &str,
        value: Option<&Spanned<String>>,
        span: &Range<usize>,
    ) -> Option<String> {
        let found = value.map(|value| value.as_ref().clone()).filter(|value| !value.is_empty());
        if found.is_none() {
            let message = format!("{what} {name:?} has no {key}");
            self.problem(Some(value.map_or(span.clone(), Spanned::span)), message, None);
        }
        found
    }

    fn base_url(
        &mut self,
        name: &str,
        value: Option<&Spanned<String>>,
        span: &Range<usize>,
    ) -> Option<String> {
        let url = self.required("base_url", "destination", name, value, span)?;
        if let Err(failure) = http::parse_url(&url) {
            let message = format!("base_url = {url:?}: {}", failure.message);
            let hint = "an https:// address; http:// is accepted on this machine only".to_owned();
            self.problem(value.map(Spanned::span), message, Some(hint));
            return None;
        }
        Some(url)
    }

    fn project(
        &mut self,
        name: &str,
        value: Option<&Spanned<String>>,
        span: &Range<usize>,
    ) -> Option<String> {
        let project = self.required("project", "destination", name, value, span)?;
        let is_pair = project.split('/').filter(|part| !part.is_empty()).count() == 2
            && project.matches('/').count() == 1;
        if !is_pair {
            let message = format!("project = {project:?} is none");
            let hint = "owner/short-name, as in the project's address".to_owned();
            self.problem(value.map(Spanned::span), message, Some(hint));
            return None;
        }
        Some(project)
    }

    fn name_policy(&mut self, value: Option<&Spanned<String>>) -> NamePolicy {
        let words = ["skip-if-same", "overwrite", "rename", "park"];
        let policies =
            [NamePolicy::SkipIfSame, NamePolicy::Overwrite, NamePolicy::Rename, NamePolicy::Park];
        self.choice("when_name_taken", value, &words)
            .map_or(NamePolicy::SkipIfSame, |i| policies[i])
    }

    /// Returns the position of a word among those allowed.
    fn choice(
        &mut self,
        key: &str,
        value: Option<&Spanned<String>>,
        words: &[&str],
    ) -> Option<usize> {
        let value = value?;
        let found = words.iter().position(|word| word == value.as_ref());
        if found.is_none() {
            let message = format!("{key} = {:?} is not possible", value.as_ref());
            let hint = match nearest(value.as_ref(), words) {
                Some(near) => format!("did you mean {near:?}?"),
                None => format!("allowed: {}", words.join(", ")),
            };
            self.problem(Some(value.span()), message, Some(hint));
        }
        found
    }

    fn calls_per_second(&mut self, value: Option<&Spanned<f64>>) -> Option<f64> {
        let value = value?;
        let rate = *value.as_ref();
        if rate.is_finite() && (0.01..=1_000_000.0).contains(&rate) {
            return Some(rate);
        }
        let hint = Some("a number from 0.01 to 1000000".to_owned());
        self.problem(
            Some(value.span()),
            format!("calls_per_second = {rate} is not possible"),
            hint,
        );
        None
    }

    fn credential(
        &mut self,
        name: &str,
        raw: Option<Spanned<raw::Credential>>,
        span: &Range<usize>,
    ) -> Option<CredentialSource> {
        let hint = "{ file = \"…\" }, { systemd = \"…\" } or { profile = \"…\" }";
        let Some(raw) = raw else {
            let message = format!("destination {name:?} has no credential");
            self.problem(Some(span.clone()), message, Some(hint.into()));
            return None;
        };
        let span = raw.span();
        let inner = raw.into_inner();
        let source = match (inner.file, inner.systemd, inner.profile) {
            (Some(file), None, None) => CredentialSource::File(self.below(file.as_ref())),
            (None, Some(systemd), None) => {
                let Some(directory) = (self.environment)("CREDENTIALS_DIRECTORY") else {
                    let message = "there are no systemd credentials here".to_owned();
                    let hint = "run as a service with LoadCredential=, or use { file = … }";
                    self.problem(Some(span), message, Some(hint.into()));
                    return None;
                };
                CredentialSource::File(Path::new(&directory).join(systemd.as_ref()))
            }
            (None, None, Some(profile)) => CredentialSource::Profile {
                file: self.below("~/.sevenbridges/credentials"),
                section: profile.into_inner(),
            },
            _ => {
                let message = format!("the credential of destination {name:?} is not one of three");
                self.problem(Some(span), message, Some(hint.into()));
                return None;
            }
        };
        self.check_secret(&source, span);
        Some(source)
    }

    /// A secret must be there, and nobody else may read it.
    fn check_secret(&mut self, source: &CredentialSource, span: Range<usize>) {
        let (CredentialSource::File(file) | CredentialSource::Profile { file, .. }) = source;
        match std::fs::metadata(file) {
            Err(error) => {
                let message = format!("the credential {} cannot be read: {error}", file.display());
                let hint = format!("write the token into it and run: chmod 600 {}", file.display());
                self.problem(Some(span), message, Some(hint));
            }
            Ok(found) if found.permissions().mode() & 0o077 != 0 => {
                let mode = found.permissions().mode() & 0o777;
                let message = format!(
                    "the credential {} may be read by others (mode {mode:o})",
                    file.display()
                );
                self.problem(Some(span), message, Some(format!("chmod 600 {}", file.display())));
            }
            Ok(_) => {}
        }
    }

    fn drop(
        &mut self,
        name: String,
        raw: Spanned<raw::Drop>,
        destinations: &[DestinationName],
    ) -> Option<Drop> {
        let (span, raw) = (raw.span(), raw.into_inner());
        self.check_name("drop", &name, &span);
        self.only("profile", raw.profile.as_ref(), &["plain"]);
        self.only("start", raw.start.as_ref(), &["as-files-settle"]);
        self.only("disposition", raw.disposition.as_ref(), &["keep"]);
        self.only("whole_file_digest", raw.whole_file_digest.as_ref(), &["none"]);
        self.refuse(raw.move_to.as_ref().map(Spanned::span), "move_to");
        self.duration("disposition_grace", raw.disposition_grace, Duration::ZERO, Duration::ZERO);
        let directory = self.drop_directory(&name, raw.directory.as_ref(), &span)?;
        let to = self.drop_destinations(&name, raw.destinations, destinations, &span);
        let units = [Unit::Directory, Unit::File];
        let unit = self.choice("unit", raw.unit.as_ref(), &["directory", "file"]);
        let include = raw.include.map(|list| self.patterns("include", list));
        let source = source::Settings {
            name: DropName::new(name.clone()),
            directory: directory.clone(),
            include: include.unwrap_or_else(|| vec!["**".into()]),
            exclude: self.patterns("exclude", raw.exclude),
            order: self.patterns("order", raw.order),
        };
        let settings = DropSettings {
            name: DropName::new(name),
            directory: directory.display().to_string(),
            destinations: to,
            unit: unit.map_or(Unit::Directory, |index| units[index]),
            quiet_period: self.duration(
                "quiet_period",
                raw.quiet_period,
                Duration::from_mins(2),
                INTERVAL_MIN,
            ),
            scan_interval: self.duration(
                "scan_interval",
                raw.scan_interval,
                Duration::from_mins(5),
                INTERVAL_MIN,
            ),
            priority: raw.priority,
        };
        Some(Drop { settings, source })
    }

    fn drop_directory(
        &mut self,
        name: &str,
        value: Option<&Spanned<String>>,
        span: &Range<usize>,
    ) -> Option<PathBuf> {
        let directory = self.required("directory", "drop", name, value, span)?;
        let directory = self.below(&directory);
        if !directory.is_dir() {
            let message = format!("directory {} is not there", directory.display());
            let hint = "make it, or correct the path; relative paths start at this file".to_owned();
            self.problem(value.map(Spanned::span), message, Some(hint));
            return None;
        }
        Some(directory)
    }

    fn drop_destinations(
        &mut self,
        name: &str,
        asked: Vec<Spanned<String>>,
        known: &[DestinationName],
        span: &Range<usize>,
    ) -> Vec<DestinationName> {
        if asked.is_empty() {
            let message = format!("drop {name:?} has no destinations");
            self.problem(Some(span.clone()), message, Some("destinations = [\"…\"]".into()));
        }
        let words: Vec<_> = known.iter().map(DestinationName::as_str).collect();
        let mut found = Vec::new();
        for asked in asked {
            let destination = DestinationName::new(asked.as_ref().clone());
            if found.contains(&destination) {
                let message = format!("destination {:?} is named twice", asked.as_ref());
                self.problem(Some(asked.span()), message, None);
            } else if known.contains(&destination) {
                found.push(destination);
            } else {
                let message = format!("there is no usable destination {:?}", asked.as_ref());
                let hint =
                    nearest(asked.as_ref(), &words).map(|near| format!("did you mean {near:?}?"));
                self.problem(Some(asked.span()), message, hint);
            }
        }
        if found.len() > 64 {
            self.problem(Some(span.clone()), "a drop has at most 64 destinations".into(), None);
        }
        found
    }

    fn patterns(&mut self, key: &str, patterns: Vec<Spanned<String>>) -> Vec<String> {
        for pattern in &patterns {
            if let Err(error) = globset::Glob::new(pattern.as_ref()) {
                self.problem(Some(pattern.span()), format!("{key}: {error}"), None);
            }
        }
        patterns.into_iter().map(Spanned::into_inner).collect()
    }

    /// One file must not belong to two drops.
    fn check_overlaps(&mut self, drops: &[Drop]) {
        let real = |drop: &Drop| drop.source.directory.canonicalize().unwrap_or_default();
        for (index, drop) in drops.iter().enumerate() {
            for other in &drops[..index] {
                let (one, two) = (real(drop), real(other));
                if one.starts_with(&two) || two.starts_with(&one) {
                    let message = format!(
                        "the directories of drops {:?} and {:?} overlap",
                        other.settings.name.as_str(),
                        drop.settings.name.as_str()
                    );
                    self.problem(None, message, Some("each file may belong to one drop".into()));
                }
            }
        }
    }
}
