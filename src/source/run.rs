//! What a run's own files and its name say about it: its identity, what closes it, its outcome.
//!
//! Owns the reading of a run's small files by the rules of a [`super::Profile`]. It promises never to
//! fail because of a file's content: an instrument writes while it is read, so a file that is partially
//! written, empty, malformed or missing gives nothing, and the next source of a word is tried. Until the
//! files that identify the run are complete the run is *not identified*, and a later read may give more.
//!
//! Files are opened through `beneath` only, regular ones only, and read up to [`files::READ_MAX`];
//! a file that is too large is reported. It never writes, and never holds more than one file's
//! bytes and the words it found.
//!
//! A crash loses nothing: no state is kept between two calls. The shell calls it on a blocking
//! thread.

mod date;
mod files;
mod manifest;
mod sheet;
mod spot;
mod text;
mod xml;

use std::collections::BTreeMap;

use super::profile::{CloseRule, FilePattern, Origin, Reading, SkipRule, Spot};
use super::{DirectoryRoot, Error, Filter};
use crate::model::{LateMarkers, RunOutcome, RunReading, SkipVerdict, SourcePath};
use files::RunFolder;

/// Longest word: words name folders, and a name has at most 255 bytes.
const WORD_MAX: usize = 200;
/// Limit of samples of one run: two lanes of 1 536 wells, and as many again.
const SAMPLES_MAX: usize = 10_000;

/// Reads what the run at `run`, below the drop directory `root`, says about itself.
///
/// # Errors
/// When the drop directory or the run is missing (`SourceGone`), or this process lacks handles or
/// memory (`LocalFault`). The content of a file is never an error.
pub(crate) fn read_run(
    root: &DirectoryRoot,
    run: &SourcePath,
    filter: &Filter,
) -> Result<RunReading, Error> {
    let mut folder = RunFolder::open(root, run)?;
    let reading = filter.profile.reading();
    let words = words(&mut folder, run, reading)?;
    // A single file has nothing below it that could name or close it.
    if !folder.is_directory() {
        return Ok(RunReading { words, is_identified: true, ..RunReading::default() });
    }
    let rule = close_rule(reading, &words);
    Ok(RunReading {
        is_identified: is_identified(&mut folder, reading)?,
        samples: samples(&mut folder, reading)?,
        outcome: outcome(&mut folder, reading)?,
        missing: manifest::missing(&mut folder, &reading.manifest, filter)?,
        skip: skip(&mut folder, &reading.skips)?,
        words,
        closers: rule.map(|rule| rule.any_of.clone()).unwrap_or_default(),
        sooner_with: rule.map_or(0, |rule| rule.sooner_with),
        patience: rule.map_or(1, |rule| rule.patience),
        waits_for: rule.map_or_else(|| "no change".to_owned(), |rule| rule.waits_for.clone()),
        late: LateMarkers {
            ends: reading.waves.iter().fold(0, |set, wave| set | wave.markers),
            missing: late_missing(&mut folder, reading)?,
        },
        notes: folder.notes(),
    })
}

fn words(
    folder: &mut RunFolder<'_>,
    run: &SourcePath,
    reading: &Reading,
) -> Result<BTreeMap<String, String>, Error> {
    let mut words = BTreeMap::new();
    for (word, origins) in &reading.words {
        for origin in origins {
            let found = match origin {
                Origin::Path(regex) => spot::group(regex, word, run.as_bytes()),
                Origin::File(file, spot) => folder.ask(file, spot, word)?,
            };
            if let Some(found) = found.and_then(|found| clean(word, &found)) {
                words.insert((*word).to_owned(), found);
                break;
            }
        }
    }
    Ok(words)
}

/// Returns a word in a form for folder names; `None` when it is unusable.
fn clean(word: &str, found: &str) -> Option<String> {
    let found = found.trim();
    if word == "date" {
        return date::normal(found);
    }
    let is_name = !found.is_empty() && found.len() <= WORD_MAX && found != "." && found != "..";
    let is_text = !found.chars().any(|c| c.is_control() || c == char::REPLACEMENT_CHARACTER);
    (is_name && is_text).then(|| found.replace(['/', '\\'], "-"))
}

/// Returns whether every file that identifies the run exists and is complete: one that is a source
/// of a word must give it.
fn is_identified(folder: &mut RunFolder<'_>, reading: &Reading) -> Result<bool, Error> {
    for file in &reading.identified_by {
        let mut is_whole = None;
        for (word, spot) in spots(reading, file) {
            let found = folder.ask(file, spot, word)?.and_then(|found| clean(word, &found));
            is_whole = Some(is_whole == Some(true) || found.is_some());
        }
        let is_whole = match is_whole {
            Some(is_whole) => is_whole,
            None => !folder.find(file)?.is_empty(),
        };
        if !is_whole {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Returns the positions that are read in a file.
fn spots<'a>(
    reading: &'a Reading,
    file: &'a FilePattern,
) -> impl Iterator<Item = (&'static str, &'a Spot)> {
    let all =
        reading.words.iter().flat_map(|(word, origins)| origins.iter().map(|one| (*word, one)));
    all.filter_map(move |(word, origin)| match origin {
        Origin::File(other, spot) if other.text == file.text => Some((word, spot)),
        Origin::File(..) | Origin::Path(_) => None,
    })
}

/// Returns the first applicable rule of those that close the run.
fn close_rule<'a>(reading: &'a Reading, words: &BTreeMap<String, String>) -> Option<&'a CloseRule> {
    let applies = |(word, globs): &(&str, Vec<globset::GlobMatcher>)| {
        words.get(*word).is_some_and(|found| globs.iter().any(|glob| glob.is_match(found)))
    };
    reading.closes.iter().find(|rule| rule.when.iter().all(applies))
}

/// Returns the markers of waves that have begun and not ended, by their paths below the run.
fn late_missing(folder: &mut RunFolder<'_>, reading: &Reading) -> Result<Vec<String>, Error> {
    let mut missing = Vec::new();
    for wave in &reading.waves {
        let mut ends = Vec::new();
        for end in &wave.ends {
            ends.extend(folder.find(end)?);
        }
        for directory in folder.find(&wave.below)? {
            let is_over = ends.iter().any(|end| end.is_within(&directory));
            if !is_over && folder.is_directory_at(&directory)? {
                let name = String::from_utf8_lossy(directory.file_name()).into_owned();
                let (above, _) = wave.below.text.rsplit_once('/').unwrap_or(("", ""));
                let end = wave.ends.first().map_or("", |end| &end.text);
                let end = end.strip_prefix(&wave.below.text).unwrap_or(end);
                missing.push(format!("{above}/{name}{end}").trim_start_matches('/').to_owned());
            }
        }
    }
    Ok(missing)
}

/// Returns whether a rule skips the run. A missing file may still come, and then the rule does not
/// apply; the deciding file may be missing or partially written.
fn skip(folder: &mut RunFolder<'_>, rules: &[SkipRule]) -> Result<SkipVerdict, Error> {
    let mut verdict = SkipVerdict::No;
    for rule in rules {
        let mut lacks_all = true;
        for file in &rule.lacks {
            lacks_all &= folder.find(file)?.is_empty();
        }
        if !lacks_all {
            continue;
        }
        let is_there = !folder.find(&rule.file)?.is_empty();
        let said = match &rule.says {
            None => is_there.then_some(true),
            Some((spot, globs)) => {
                let word = folder.ask(&rule.file, spot, "")?;
                word.map(|word| globs.iter().any(|glob| glob.is_match(word.trim())))
            }
        };
        match said {
            Some(true) => return Ok(SkipVerdict::Yes(rule.reason.clone())),
            Some(false) => {}
            None => verdict = SkipVerdict::Undecided,
        }
    }
    Ok(verdict)
}

fn samples(folder: &mut RunFolder<'_>, reading: &Reading) -> Result<Vec<String>, Error> {
    let mut samples: Vec<String> = Vec::new();
    for rule in &reading.samples {
        for path in folder.find(&rule.file)? {
            let Some(text) = folder.read(&path, files::READ_MAX)? else { continue };
            for sample in sheet::samples(&text, &rule.sections, &rule.columns) {
                if samples.len() < SAMPLES_MAX && !samples.contains(&sample) {
                    samples.push(sample);
                }
            }
        }
    }
    Ok(samples)
}

fn outcome(folder: &mut RunFolder<'_>, reading: &Reading) -> Result<Option<RunOutcome>, Error> {
    for rule in &reading.outcome {
        let found = folder.ask(&rule.file, &rule.spot, "")?;
        if let Some(word) = found.and_then(|found| clean("", &found)) {
            let is_success = rule.success.iter().any(|known| known.eq_ignore_ascii_case(&word));
            return Ok(Some(RunOutcome { word, is_success }));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests;
