//! What a run's own files and its name say of it: who it is, what closes it, how it ended.
//!
//! Owns the reading of a run's small files by the rules of a [`super::Profile`]. It promises never to fail for
//! what a file says: an instrument writes while it is read, so a file that is half-written, empty, of
//! another form or not there says nothing, and the next source of a word is asked. Until the files that
//! name the run are whole the run is *not identified*, and reading again may say more.
//!
//! Files are opened through `beneath` only, regular ones only, and read up to [`files::READ_MAX`]; what
//! is not read for its size is said. It never writes, and never holds more than one file's bytes and
//! the words it found.
//!
//! At a crash nothing is lost: nothing is kept between two calls. The shell calls it on a blocking
//! thread.

mod date;
mod files;
mod manifest;
mod sheet;
mod spot;
mod text;
mod xml;

use std::collections::BTreeMap;

use super::profile::{FilePattern, Origin, Reading, Spot};
use super::{DirectoryRoot, Error, Filter};
use crate::model::{RunOutcome, RunReading, SourcePath};
use files::RunFolder;

/// Longest word: what it names are folders, and a name has at most 255 bytes.
const WORD_MAX: usize = 200;
/// Most samples of one run: two lanes of 1 536 wells, and as many again.
const SAMPLES_MAX: usize = 10_000;

/// Reads what the run at `run`, below the drop directory `root`, says of itself.
///
/// # Errors
/// When the drop directory or the run is not there (`SourceGone`), or this process ran out of handles
/// or memory (`LocalFault`). What a file says, or does not, is never an error.
pub(crate) fn read_run(
    root: &DirectoryRoot,
    run: &SourcePath,
    filter: &Filter,
) -> Result<RunReading, Error> {
    let mut folder = RunFolder::open(root, run)?;
    let reading = filter.profile.reading();
    let words = words(&mut folder, run, reading)?;
    // A file on its own has nothing below it that could name or close it.
    if !folder.is_directory() {
        return Ok(RunReading { words, is_identified: true, ..RunReading::default() });
    }
    let (closers, waits_for) = closing(reading, &words);
    Ok(RunReading {
        is_identified: is_identified(&mut folder, reading)?,
        samples: samples(&mut folder, reading)?,
        outcome: outcome(&mut folder, reading)?,
        missing: manifest::missing(&mut folder, &reading.manifest, filter)?,
        words,
        closers,
        waits_for,
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

/// Returns a word as it may be in the name of a folder; `None` when it is none.
fn clean(word: &str, found: &str) -> Option<String> {
    let found = found.trim();
    if word == "date" {
        return date::normal(found);
    }
    let is_name = !found.is_empty() && found.len() <= WORD_MAX && found != "." && found != "..";
    let is_text = !found.chars().any(|c| c.is_control() || c == char::REPLACEMENT_CHARACTER);
    (is_name && is_text).then(|| found.replace(['/', '\\'], "-"))
}

/// Returns whether every file that names the run is there and whole: one that a word is looked for in
/// must give it.
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

/// Returns what is looked for in a file.
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

/// Returns which markers close the run, also for people: those of the first rule that applies.
fn closing(reading: &Reading, words: &BTreeMap<String, String>) -> (Vec<u64>, String) {
    let applies = |(word, globs): &(&str, Vec<globset::GlobMatcher>)| {
        words.get(*word).is_some_and(|found| globs.iter().any(|glob| glob.is_match(found)))
    };
    let rule = reading.closes.iter().find(|rule| rule.when.iter().all(applies));
    rule.map_or_else(
        || (Vec::new(), "no change".to_owned()),
        |rule| (rule.any_of.clone(), rule.waits_for.clone()),
    )
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
