//! The rules of a profile for a run's own files, checked and compiled.

use std::ops::Range;

use globset::GlobMatcher;
use regex::bytes::{Regex, RegexBuilder};
use toml::Spanned;

use super::super::reading::{
    CloseRule, Column, FilePattern, ManifestRule, Origin, OutcomeRule, Reading, SamplesRule,
    SkipRule, Spot, WaveRule, XmlPath,
};
use super::super::{ProfileError, raw};
use super::{not_understood, patterns, refuse};
use crate::source::patterns::Rules;

/// What a rule without markers waits for.
const NO_CHANGE: &str = "no change";

/// A value's possible positions, as keys of one table.
type SpotKeys<'a> = [(&'static str, Option<&'a Spanned<String>>); 4];

fn spot_keys(values: [Option<&Spanned<String>>; 4]) -> SpotKeys<'_> {
    let [xml, json, key, name] = values;
    [("xml", xml), ("json", json), ("key", key), ("name", name)]
}

/// Checks and compiles the rules.
pub(super) fn reading(raw: &raw::ProfileKeys, markers: &[String]) -> Result<Reading, ProfileError> {
    let closes = raw.closes.as_deref().unwrap_or_default();
    let is_default = |rule: &Spanned<raw::Closes>| rule.as_ref().when.given().next().is_none();
    if let Some(early) = closes.iter().rev().skip(1).find(|rule| is_default(rule)) {
        let message = "a [[closes]] without `when` is not the last: what follows is never reached";
        return Err(refuse(early.span(), message.into(), "put it last".into()));
    }
    let mut words = Vec::new();
    for (word, origins) in raw.words.given() {
        let origins: Result<_, _> = origins.iter().map(|one| origin(word, one)).collect();
        words.push((word, origins?));
    }
    let identified_by = raw.identified_by.iter().flatten().map(file_pattern);
    let samples = raw.samples.iter().flatten();
    let outcome = raw.outcome.iter().flatten();
    let manifest = raw.manifest.iter().flatten();
    Ok(Reading {
        identified_by: identified_by.collect::<Result<_, _>>()?,
        closes: closes.iter().map(|rule| close_rule(rule, markers)).collect::<Result<_, _>>()?,
        waves: raw
            .waves
            .iter()
            .flatten()
            .map(|wave| wave_rule(wave, markers))
            .collect::<Result<_, _>>()?,
        skips: raw.skip_when.iter().flatten().map(skip_rule).collect::<Result<_, _>>()?,
        words,
        samples: samples.map(samples_rule).collect::<Result<_, _>>()?,
        outcome: outcome.map(outcome_rule).collect::<Result<_, _>>()?,
        manifest: manifest.map(manifest_rule).collect::<Result<_, _>>()?,
    })
}

fn close_rule(rule: &Spanned<raw::Closes>, markers: &[String]) -> Result<CloseRule, ProfileError> {
    let rule = rule.as_ref();
    let mut when = Vec::new();
    for (word, list) in rule.when.given() {
        let rules = Rules::loose("when");
        let globs = patterns(rules, Some(list))?;
        let compile = |text: &String| rules.compile(text).ok().map(|glob| glob.compile_matcher());
        when.push((word, globs.iter().filter_map(compile).collect()));
    }
    let sets = rule.any_of.iter().filter(|set| !set.is_empty());
    let said: Vec<_> = sets.clone().map(|set| joined(set, " and ")).collect();
    let waits_for = if said.is_empty() { NO_CHANGE.to_owned() } else { said.join(" or ") };
    let patience = match rule.patience.as_ref() {
        None => 1,
        Some(given) => match u32::try_from(*given.as_ref()) {
            Ok(times @ 1..=1_000) => times,
            Ok(_) | Err(_) => {
                let message = format!("patience = {} is not possible", given.as_ref());
                return Err(refuse(
                    given.span(),
                    message,
                    "allowed: a number from 1 to 1000".into(),
                ));
            }
        },
    };
    Ok(CloseRule {
        sooner_with: set_of(&rule.sooner_with, markers),
        patience,
        when,
        any_of: sets.map(|set| set_of(set, markers)).collect(),
        waits_for: match &rule.note {
            Some(note) => format!("{waits_for} ({note})"),
            None => waits_for,
        },
    })
}

/// Returns the positions of some markers, as a set.
fn set_of(some: &[Spanned<String>], markers: &[String]) -> u64 {
    let position = |marker: &Spanned<String>| {
        markers.iter().position(|one| one.eq_ignore_ascii_case(marker.as_ref()))
    };
    some.iter().filter_map(position).fold(0, |set, at| set | 1 << at)
}

fn wave_rule(one: &Spanned<raw::Wave>, markers: &[String]) -> Result<WaveRule, ProfileError> {
    let raw = one.as_ref();
    let (Some(below), false) = (&raw.below, raw.ends.is_empty()) else {
        let hint = "below = \"Analysis/*\", ends = [\"Analysis/*/CopyComplete.txt\"]".to_owned();
        return Err(refuse(one.span(), "[[waves]] needs below and ends".into(), hint));
    };
    Ok(WaveRule {
        below: file_pattern(below)?,
        ends: raw.ends.iter().map(file_pattern).collect::<Result<_, _>>()?,
        markers: set_of(&raw.ends, markers),
    })
}

fn skip_rule(one: &Spanned<raw::SkipWhen>) -> Result<SkipRule, ProfileError> {
    let raw = one.as_ref();
    let keys = spot_keys([raw.xml.as_ref(), raw.json.as_ref(), raw.key.as_ref(), None]);
    if raw.reason.is_empty() || raw.is.is_empty() && raw.lacks.is_empty() {
        let message = "[[skip_when]] needs a reason, and is or lacks".to_owned();
        let hint = "reason = \"a wash run\", json = \"RunType\", is = [\"Wash*\"]".to_owned();
        return Err(refuse(one.span(), message, hint));
    }
    let says = (!raw.is.is_empty()).then(|| -> Result<_, ProfileError> {
        let spot = spot("[[skip_when]]", keys, one.span())?;
        let globs = patterns(Rules::loose("is"), Some(&raw.is))?;
        let compile = |text: &String| Rules::loose("is").compile(text).ok();
        Ok((spot, globs.iter().filter_map(compile).map(|glob| glob.compile_matcher()).collect()))
    });
    Ok(SkipRule {
        file: required_file("[[skip_when]]", raw.file.as_ref(), one.span())?,
        says: says.transpose()?,
        lacks: raw.lacks.iter().map(file_pattern).collect::<Result<_, _>>()?,
        reason: raw.reason.clone(),
    })
}

fn joined(set: &[Spanned<String>], word: &str) -> String {
    let names: Vec<_> = set.iter().map(|marker| marker.as_ref().as_str()).collect();
    names.join(word)
}

/// Compiles a pattern of files, component by component.
fn file_pattern(pattern: &Spanned<String>) -> Result<FilePattern, ProfileError> {
    let text = pattern.as_ref().trim_start_matches('/');
    let compile = |part: &str| -> Result<GlobMatcher, ProfileError> {
        if part.is_empty() || part.contains("**") || part == ".." {
            let message = format!("file = {text:?} is not possible");
            let hint = "allowed: a path below the run; * stops at slashes, ** is not for here";
            return Err(refuse(pattern.span(), message, hint.into()));
        }
        let glob = Rules::loose("file").compile(part);
        Ok(glob.map_err(|error| not_understood(pattern, &error))?.compile_matcher())
    };
    let parts = text.split('/').map(compile).collect::<Result<_, _>>()?;
    Ok(FilePattern { text: text.to_owned(), parts })
}

fn required_file(
    table: &str,
    file: Option<&Spanned<String>>,
    span: Range<usize>,
) -> Result<FilePattern, ProfileError> {
    match file {
        Some(file) => file_pattern(file),
        None => {
            let hint = "file = \"SampleSheet*.csv\", a path below the run".to_owned();
            Err(refuse(span, format!("{table} has no file"), hint))
        }
    }
}

fn origin(word: &'static str, one: &Spanned<raw::OriginKeys>) -> Result<Origin, ProfileError> {
    let raw = one.as_ref();
    let keys = [raw.xml.as_ref(), raw.json.as_ref(), raw.key.as_ref(), raw.name.as_ref()];
    let keys = spot_keys(keys);
    match (&raw.path, &raw.file) {
        (Some(path), None) if keys.iter().all(|(_, value)| value.is_none()) => {
            Ok(Origin::Path(named_group(word, path)?))
        }
        (None, Some(file)) => Ok(Origin::File(file_pattern(file)?, spot(word, keys, one.span())?)),
        (_, _) => {
            let hint = "allowed: path = …, or file = … with one of xml, json, key, name";
            Err(refuse(one.span(), format!("a source of {word} is not possible"), hint.into()))
        }
    }
}

/// Parses the one key that gives a value's position in a file.
fn spot(what: &str, keys: SpotKeys<'_>, span: Range<usize>) -> Result<Spot, ProfileError> {
    let mut given = keys.into_iter().filter_map(|(key, value)| Some((key, value?)));
    let (Some((key, value)), None) = (given.next(), given.next()) else {
        let hint = "allowed: one of xml, json, key, and for words also name".to_owned();
        return Err(refuse(span, format!("{what} does not say where in its file it is"), hint));
    };
    let text = value.as_ref().as_str();
    match key {
        "xml" => XmlPath::parse(text).map(Spot::Xml).ok_or_else(|| {
            let hint = "allowed: Element/Element, Element/Element@Attribute; * is any element";
            refuse(value.span(), format!("xml = {text:?} is no place"), hint.into())
        }),
        "json" => Ok(Spot::Json(text.split('.').map(str::to_owned).collect())),
        "key" => Ok(Spot::Key(text.to_owned())),
        _ => Ok(Spot::Name(named_group(what, value)?)),
    }
}

fn named_group(word: &str, value: &Spanned<String>) -> Result<Regex, ProfileError> {
    let text = value.as_ref();
    // Bytes, because names need not be UTF-8; and ASCII classes, because no instrument writes other digits.
    let regex = RegexBuilder::new(text).unicode(false).build().map_err(|error| {
        let said = error.to_string();
        let last = said.lines().last().unwrap_or_default().to_owned();
        refuse(value.span(), format!("{text:?} is no regular expression"), last)
    })?;
    if regex.capture_names().flatten().any(|name| name == word) {
        return Ok(regex);
    }
    let message = format!("{text:?} has no group named {word}");
    Err(refuse(value.span(), message, format!("put (?<{word}>…) around what it is")))
}

fn samples_rule(one: &Spanned<raw::Samples>) -> Result<SamplesRule, ProfileError> {
    let raw = one.as_ref();
    if raw.columns.is_empty() {
        let hint = "columns = [\"Sample_ID\"]".to_owned();
        return Err(refuse(one.span(), "[[samples]] has no columns".into(), hint));
    }
    Ok(SamplesRule {
        file: required_file("[[samples]]", raw.file.as_ref(), one.span())?,
        sections: raw.sections.clone(),
        columns: raw.columns.clone(),
    })
}

fn outcome_rule(one: &Spanned<raw::OutcomeKeys>) -> Result<OutcomeRule, ProfileError> {
    let raw = one.as_ref();
    let keys = spot_keys([raw.xml.as_ref(), raw.json.as_ref(), raw.key.as_ref(), None]);
    if raw.success.is_empty() {
        let hint = "success = [\"RunCompleted\"]".to_owned();
        return Err(refuse(one.span(), "[[outcome]] has no success".into(), hint));
    }
    Ok(OutcomeRule {
        file: required_file("[[outcome]]", raw.file.as_ref(), one.span())?,
        spot: spot("[[outcome]]", keys, one.span())?,
        success: raw.success.clone(),
    })
}

fn manifest_rule(one: &Spanned<raw::Manifest>) -> Result<ManifestRule, ProfileError> {
    let raw = one.as_ref();
    let separators = [("line", None), ("tab", Some(b'\t')), ("comma", Some(b','))];
    let separator = choice("separator", raw.separator.as_ref(), &separators)?;
    let kinds = [("relative", false), ("absolute", true)];
    Ok(ManifestRule {
        file: required_file("[[manifest]]", raw.file.as_ref(), one.span())?,
        separator,
        column: column(raw.column.as_ref())?,
        is_absolute: choice("paths", raw.paths.as_ref(), &kinds)?,
    })
}

fn column(value: Option<&Spanned<raw::ColumnKeys>>) -> Result<Column, ProfileError> {
    let Some(value) = value else { return Ok(Column::Number(0)) };
    match value.as_ref() {
        raw::ColumnKeys::Name(name) => Ok(Column::Name(name.clone())),
        raw::ColumnKeys::Number(number) => match usize::try_from(*number) {
            Ok(number @ 1..=1_000) => Ok(Column::Number(number - 1)),
            Ok(_) | Err(_) => {
                let hint = "allowed: a number from 1, or the column's name".to_owned();
                Err(refuse(value.span(), format!("column = {number} is not possible"), hint))
            }
        },
    }
}

/// Returns the value of a word; the first where none is given.
fn choice<T: Copy>(
    key: &str,
    value: Option<&Spanned<String>>,
    words: &[(&str, T)],
) -> Result<T, ProfileError> {
    let Some(value) = value else { return Ok(words[0].1) };
    let found = words.iter().find(|(word, _)| word == value.as_ref());
    found.map(|(_, meaning)| *meaning).ok_or_else(|| {
        let allowed: Vec<_> = words.iter().map(|(word, _)| *word).collect();
        let message = format!("{key} = {:?} is not possible", value.as_ref());
        refuse(value.span(), message, format!("allowed: {}", allowed.join(", ")))
    })
}
