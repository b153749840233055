//! Drop directories: where, to which targets, how settled, which files.

use std::io::ErrorKind;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;

use super::Resolver;
use crate::config::problem::nearest;
use crate::config::{Drop, INTERVAL_MIN, raw};
use crate::engine::settings::DropSettings;
use crate::model::{DestinationName, DropName, Unit};
use crate::source;

impl Resolver<'_> {
    pub(super) fn drop(
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
        let unit = unit.map_or(Unit::Directory, |index| units[index]);
        let include = raw.include.map(|list| self.patterns("include", list));
        let source = source::Settings {
            name: DropName::new(name.clone()),
            directory: directory.clone(),
            unit,
            include: include.unwrap_or_else(|| vec!["**".into()]),
            exclude: self.patterns("exclude", raw.exclude),
            order: self.patterns("order", raw.order),
        };
        let settings = DropSettings {
            name: DropName::new(name),
            directory: directory.display().to_string(),
            destinations: to,
            unit,
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
        let directory = self.required("directory", ("drop", name), value, span)?;
        let directory = self.below(&directory);
        // One that is there and does not answer, as a share may, is no mistake: the daemon waits for it.
        let is_missing = match std::fs::metadata(&directory) {
            Ok(found) => !found.is_dir(),
            Err(error) => matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory),
        };
        if is_missing {
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
    pub(super) fn check_overlaps(&mut self, drops: &[Drop]) {
        let real = |drop: &Drop| {
            let directory = &drop.source.directory;
            directory.canonicalize().unwrap_or_else(|_| directory.clone())
        };
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
