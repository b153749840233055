//! Drop directories: path, targets, settling, files.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;

use super::Resolver;
use crate::config::problem::nearest;
use crate::config::{Destination, Drop, INTERVAL_MIN, raw};
use crate::engine::settings::{DirectorySettings, DisposalSettings, RunSettings};
use crate::model::{
    ByteCount, Closing, DestinationName, DirectoryName, Disposition, Start, Unit, WholeDigest,
};
use crate::source;

impl Resolver<'_> {
    pub(super) fn drop(
        &mut self,
        name: String,
        raw: Spanned<raw::DropKeys>,
        destinations: &[Destination],
    ) -> Option<Drop> {
        let (span, mut raw) = (raw.span(), raw.into_inner());
        self.check_name("drop", &name, &span);
        if name == DirectoryName::HANDED_IN {
            let message = format!("drop name {name:?} is that of files that operators hand in");
            self.problem(Some(span.clone()), message, Some("choose another".into()));
        }
        let starts =
            [("as-files-settle", Start::AsFilesSettle), ("when-run-closed", Start::WhenRunClosed)];
        let start = self.choice("start", raw.start.as_ref(), &starts);
        let digests = [
            ("none", None),
            ("md5", Some(WholeDigest::Md5)),
            ("sha256", Some(WholeDigest::Sha256)),
        ];
        let digest = self.choice("whole_file_digest", raw.whole_file_digest.as_ref(), &digests);
        let directory = self.drop_directory(&name, raw.directory.as_ref(), &span)?;
        let names: Vec<_> = destinations.iter().map(|d| d.name.clone()).collect();
        let to =
            self.drop_destinations(&name, std::mem::take(&mut raw.destinations), &names, &span);
        let unasked =
            destinations.iter().find(|d| to.contains(&d.name) && !d.platform.traits().can_inspect);
        let disposal = self.disposal(&mut raw, &directory, unasked);
        let units = [("directory", Unit::Directory), ("file", Unit::File)];
        let unit = self.choice("unit", raw.unit.as_ref(), &units).unwrap_or(Unit::Directory);
        let include = raw.include.map(|list| self.patterns("include", list));
        let source = source::Settings {
            name: DirectoryName::new(name.clone()),
            directory: directory.clone(),
            unit,
            include: include.unwrap_or_else(|| vec!["**".into()]),
            exclude: self.patterns("exclude", raw.exclude),
            order: self.patterns("order", raw.order),
            profile: self.drop_profile(raw.profile.as_ref(), unit),
            takes_all: false,
        };
        let (quiet, scan) = (Duration::from_mins(2), Duration::from_mins(5));
        let quiet_period = self.duration("quiet_period", raw.quiet_period, quiet, INTERVAL_MIN);
        let closing = source.profile.closing(quiet_period);
        let (usual, least) = (closing.stale_after, Duration::from_secs(1));
        let stale_after = self.duration("stale_after", raw.stale_after, usual, least);
        let plain =
            DirectorySettings::plain(DirectoryName::new(name), directory.display().to_string(), to);
        let settings = DirectorySettings {
            quiet_period,
            scan_interval: self.duration("scan_interval", raw.scan_interval, scan, INTERVAL_MIN),
            priority: raw.priority,
            places_max: self.parts_in_flight("places_max", raw.places_max),
            whole_digest: digest.flatten(),
            runs: RunSettings {
                unit,
                start: start.unwrap_or(Start::AsFilesSettle),
                closing: Closing { stale_after, ..closing },
                needs_words: plain.runs.needs_words,
                sentinel: self.sentinel(raw.sentinel, unit),
            },
            disposal,
            ..plain
        };
        Some(Drop { settings, source })
    }

    /// What happens to sources, some of which go to a destination that cannot be asked.
    fn disposal(
        &mut self,
        raw: &mut raw::DropKeys,
        directory: &Path,
        unasked: Option<&Destination>,
    ) -> DisposalSettings {
        let word = raw.disposition.as_ref();
        let (grace, floor) = (raw.disposition_grace.take(), raw.disposition_free_space.take());
        let usual = Duration::from_hours(7 * 24);
        DisposalSettings {
            unverified: self.dispose_unverified(word, raw.dispose_unverified.as_ref(), unasked),
            disposition: self.disposition(word, raw.move_to.take(), directory),
            grace: self.duration("disposition_grace", grace, usual, Duration::ZERO),
            free_space: floor
                .map(|floor| ByteCount(self.size("disposition_free_space", Some(floor), 0, 1))),
        }
    }

    /// The name under which a completed run's receipt is sent.
    fn sentinel(&mut self, value: Option<Spanned<String>>, unit: Unit) -> Option<String> {
        let value = value?;
        let (span, name) = (value.span(), value.into_inner());
        if name.is_empty() || name.contains('/') || name.starts_with('.') {
            let message = format!("sentinel = {name:?} is no file name");
            self.problem(Some(span.clone()), message, Some("such as \"UPLOADED.json\"".into()));
        }
        if unit == Unit::File {
            let message = "sentinel needs unit = \"directory\"".to_owned();
            let hint = "a file that is a drop of its own has nothing to wait for";
            self.problem(Some(span), message, Some(hint.into()));
        }
        Some(name)
    }

    /// Whether sources are disposed of where a destination cannot be asked about them, which must be explicit.
    fn dispose_unverified(
        &mut self,
        disposition: Option<&Spanned<String>>,
        unverified: Option<&Spanned<bool>>,
        unasked: Option<&Destination>,
    ) -> bool {
        let said = unverified.is_some_and(|said| *said.as_ref());
        let word = disposition.filter(|word| word.as_ref() != "keep");
        if let (Some(word), Some(unasked), false) = (word, unasked, said) {
            let message = format!(
                "disposition = {:?}, and destination {:?} cannot be asked whether it still has a file",
                word.as_ref(),
                unasked.name.as_str()
            );
            let hint =
                "dispose_unverified = true lets sources go on the word of its receipts alone";
            let at = unverified.map_or(word.span(), Spanned::span);
            self.problem(Some(at), message, Some(hint.into()));
        }
        said
    }

    fn disposition(
        &mut self,
        word: Option<&Spanned<String>>,
        move_to: Option<Spanned<String>>,
        directory: &Path,
    ) -> Disposition {
        let words = ["keep", "move", "delete"].map(|word| (word, word));
        let found = self.choice("disposition", word, &words);
        let Some(to) = move_to else {
            if found == Some("move") {
                let message = "disposition = \"move\" has no move_to".to_owned();
                self.problem(word.map(Spanned::span), message, Some("move_to = \"…\"".into()));
            }
            return if found == Some("delete") { Disposition::Delete } else { Disposition::Keep };
        };
        if found != Some("move") {
            let message = "move_to is for disposition = \"move\" alone".to_owned();
            self.problem(Some(to.span()), message, None);
            return if found == Some("delete") { Disposition::Delete } else { Disposition::Keep };
        }
        let place = self.below(&to);
        if place.starts_with(directory) || directory.starts_with(&place) {
            let message = format!("move_to {} overlaps the directory", place.display());
            let hint = "what is moved there would be seen again";
            self.problem(Some(to.span()), message, Some(hint.into()));
        } else if self.ask(&place, Path::is_dir) == Some(false) {
            let message = format!("move_to {} is not there", place.display());
            self.problem(Some(to.span()), message, Some("make the directory".into()));
        }
        Disposition::Move(place.display().to_string())
    }

    fn drop_directory(
        &mut self,
        name: &str,
        value: Option<&Spanned<String>>,
        span: &Range<usize>,
    ) -> Option<PathBuf> {
        self.required("directory", ("drop", name), value, span)?;
        let directory = self.below(value?);
        // One that exists and does not answer, as a share may, is no mistake: the daemon waits for it.
        let wrong = match self.ask(&directory, |directory| std::fs::metadata(directory)) {
            Some(Ok(found)) if !found.is_dir() => "is a file, and no directory",
            Some(Err(error))
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                "is not there"
            }
            None | Some(_) => return Some(directory),
        };
        let message = format!("directory {} {wrong}", directory.display());
        let near = near_directory(&directory).map(|near| format!("did you mean {near:?}?"));
        let hint = if value?.as_ref().contains('$') {
            "variables are not replaced here; ~ is".to_owned()
        } else {
            let usual = "make it, or correct the path; relative paths start at this file";
            near.unwrap_or_else(|| usual.to_owned())
        };
        self.problem(value.map(Spanned::span), message, Some(hint));
        None
    }

    fn drop_destinations(
        &mut self,
        name: &str,
        asked: Vec<Spanned<String>>,
        known: &[DestinationName],
        span: &Range<usize>,
    ) -> Vec<DestinationName> {
        let words: Vec<_> = known.iter().map(DestinationName::as_str).collect();
        if asked.is_empty() && !self.is_refused(&format!("drops.{name}"), "destinations") {
            let message = format!("drop {name:?} has no destinations");
            let names = words.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>();
            let names = if names.is_empty() { "\"…\"".to_owned() } else { names.join(", ") };
            self.problem(Some(span.clone()), message, Some(format!("destinations = [{names}]")));
        }
        let mut found = Vec::new();
        for asked in asked {
            let destination = DestinationName::new(asked.as_ref().clone());
            if found.contains(&destination) {
                let message = format!("destination {:?} is named twice", asked.as_ref());
                self.problem(Some(asked.span()), message, None);
            } else if known.contains(&destination) {
                found.push(destination);
            } else if !self.is_refused("destinations", asked.as_ref()) {
                let message = format!("there is no usable destination {:?}", asked.as_ref());
                let near = nearest(asked.as_ref(), &words);
                let hint = near.map(|near| format!("did you mean {near:?}?"));
                let all = || format!("there are: {}", words.join(", "));
                let hint = hint.or_else(|| (!words.is_empty()).then(all));
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

    /// A file must not belong to two drop directories.
    pub(super) fn check_overlaps(
        &mut self,
        drops: &[Drop],
        spans: &BTreeMap<String, Range<usize>>,
    ) {
        let mut real = |drop: &Drop| {
            let directory = &drop.source.directory;
            let answer = self.ask(directory, |directory| directory.canonicalize());
            answer.and_then(Result::ok).unwrap_or_else(|| directory.clone())
        };
        let places: Vec<_> = drops.iter().map(&mut real).collect();
        for (index, (drop, one)) in drops.iter().zip(&places).enumerate() {
            for (other, two) in drops[..index].iter().zip(&places) {
                if one.starts_with(two) || two.starts_with(one) {
                    let (drop, other) = (drop.settings.name.as_str(), other.settings.name.as_str());
                    let span = |name: &str| spans.get(name).cloned();
                    let mut both = [(drop, span(drop)), (other, span(other))];
                    both.sort_by_key(|(_, span)| span.as_ref().map(|span| span.start));
                    let [(first, at), (second, span)] = both;
                    let at = at.and_then(|at| self.sources.place(&at));
                    let at = at.map_or(String::new(), |at| format!(" (line {})", at.line));
                    let (here, there) = if second == drop { (one, two) } else { (two, one) };
                    let how = match (here == there, here.starts_with(there)) {
                        (true, _) => "is that",
                        (false, true) => "lies in that",
                        (false, false) => "holds that",
                    };
                    let message =
                        format!("[drops.{second}] directory {how} of [drops.{first}]{at}");
                    self.problem(span, message, Some("each file may belong to one drop".into()));
                }
            }
        }
    }
}

/// Returns an existing directory whose name is similar to a missing one.
fn near_directory(directory: &Path) -> Option<PathBuf> {
    let name = directory.file_name()?.to_str()?;
    let entries = std::fs::read_dir(directory.parent()?).ok()?.filter_map(Result::ok);
    let is_directory = |entry: &std::fs::DirEntry| entry.path().is_dir();
    let names = entries.take(1000).filter(is_directory);
    let names: Vec<String> = names.filter_map(|e| e.file_name().into_string().ok()).collect();
    let words: Vec<&str> = names.iter().map(String::as_str).collect();
    nearest(name, &words).map(|near| directory.with_file_name(near))
}
