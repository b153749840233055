//! Checks every value of a profile's file, and compiles it for matching and reading.

mod rules;

use std::ops::Range;
use std::time::Duration;

use toml::Spanned;

use super::matching::Matching;
use super::{NAMES, Profile, ProfileError, TEXTS, raw};
use crate::source::PatternError;
use crate::source::patterns::{Ordered, Patterns, Rules};

/// Markers are positions in a set of 64.
const MARKERS_MAX: usize = 64;

/// Units of time, in seconds.
const TIMES: [(&str, u64); 3] = [("min", 60), ("h", 3_600), ("d", 86_400)];

pub(super) fn base(name: &Spanned<String>) -> Result<raw::ProfileKeys, ProfileError> {
    let Some(index) = NAMES.iter().position(|known| known == name.as_ref()) else {
        let message = format!("based_on = {:?} is no profile that is compiled in", name.as_ref());
        return Err(refuse(name.span(), message, format!("allowed: {}", NAMES.join(", "))));
    };
    Ok(toml::from_str(TEXTS[index])?)
}

/// Checks and compiles a whole profile.
pub(super) fn profile(name: &str, raw: raw::ProfileKeys) -> Result<Profile, ProfileError> {
    let markers = markers(&raw)?;
    let matching = matching(&raw, &markers)?;
    Ok(Profile {
        name: name.to_owned(),
        quiet_periods: quiet_periods(raw.quiet_periods.as_ref())?,
        stale_after: stale_after(raw.stale_after.as_ref())?,
        reading: rules::reading(&raw, &markers)?,
        matching,
        markers,
        raw,
    })
}

fn refuse(span: Range<usize>, message: String, hint: String) -> ProfileError {
    ProfileError::Value { span: Some(span), message, hint: Some(hint) }
}

fn missing(key: &str, example: &str) -> ProfileError {
    ProfileError::Value {
        span: None,
        message: format!("{key} is missing"),
        hint: Some(format!("{key} = {example}, or based_on = the name of a profile that has it")),
    }
}

fn quiet_periods(value: Option<&Spanned<i64>>) -> Result<u32, ProfileError> {
    let value = value.ok_or_else(|| missing("quiet_periods", "3"))?;
    match u32::try_from(*value.as_ref()) {
        Ok(count @ 1..=10_000) => Ok(count),
        Ok(_) | Err(_) => {
            let message = format!("quiet_periods = {} is not possible", value.as_ref());
            Err(refuse(value.span(), message, "allowed: a number from 1 to 10000".into()))
        }
    }
}

fn stale_after(value: Option<&Spanned<String>>) -> Result<Duration, ProfileError> {
    let value = value.ok_or_else(|| missing("stale_after", "\"96h\""))?;
    duration(value.as_ref()).ok_or_else(|| {
        let message = format!("stale_after = {:?} is no duration", value.as_ref());
        refuse(value.span(), message, "allowed: a whole number and one of min h d".into())
    })
}

fn duration(text: &str) -> Option<Duration> {
    let (run, factor) = TIMES.iter().find(|(run, _)| text.ends_with(run))?;
    let number: u64 = text.strip_suffix(run)?.trim().parse().ok()?;
    let seconds = number.checked_mul(*factor)?;
    (seconds > 0).then(|| Duration::from_secs(seconds))
}

/// Returns every marker once, in the order of first mention.
fn markers(raw: &raw::ProfileKeys) -> Result<Vec<String>, ProfileError> {
    let mut markers: Vec<String> = Vec::new();
    for marker in all_markers(raw) {
        let is_known = markers.iter().any(|known| known.eq_ignore_ascii_case(marker.as_ref()));
        if marker.as_ref().is_empty() || markers.len() == MARKERS_MAX && !is_known {
            let message = format!("any_of has {:?}", marker.as_ref());
            let hint = "allowed: at most 64 different markers, none of them empty";
            return Err(refuse(marker.span(), message, hint.into()));
        }
        if !is_known {
            markers.push(marker.as_ref().clone());
        }
    }
    Ok(markers)
}

/// Returns the markers of runs and of waves.
fn all_markers(raw: &raw::ProfileKeys) -> impl Iterator<Item = &Spanned<String>> {
    let closes = raw.closes.iter().flatten().map(Spanned::as_ref);
    let closes = closes.flat_map(|rule| rule.any_of.iter().flatten().chain(&rule.sooner_with));
    closes.chain(raw.waves.iter().flatten().flat_map(|wave| &wave.as_ref().ends))
}

fn patterns(rules: Rules, list: Option<&raw::PatternKeys>) -> Result<Vec<String>, ProfileError> {
    let mut kept = Vec::new();
    for pattern in list.into_iter().flatten() {
        let bare = pattern.as_ref().trim_start_matches('/');
        if bare.is_empty() {
            let message = format!("{} has an empty pattern", rules.list);
            return Err(refuse(pattern.span(), message, "leave it out".into()));
        }
        rules.compile(bare).map_err(|error| not_understood(pattern, &error))?;
        kept.push(pattern.as_ref().clone());
    }
    Ok(kept)
}

fn not_understood(pattern: &Spanned<String>, error: &PatternError) -> ProfileError {
    let hint = format!("{}; * and ? stop at slashes, ** does not, [a-z] is a class", error.source);
    refuse(pattern.span(), error.to_string(), hint)
}

/// The error when patterns that are valid one by one are too many together.
fn together(error: &PatternError) -> ProfileError {
    ProfileError::Value {
        span: None,
        message: format!("the patterns of {} are too many: {}", error.list, error.source),
        hint: None,
    }
}

fn matching(raw: &raw::ProfileKeys, markers: &[String]) -> Result<Matching, ProfileError> {
    for marker in all_markers(raw) {
        patterns(Rules::loose("any_of"), Some(&vec![marker.clone()]))?;
    }
    let list = |name, list: &Option<raw::PatternKeys>| patterns(Rules::loose(name), list.as_ref());
    let (runs, above) = (list("runs", &raw.runs)?, list("above", &raw.above)?);
    let never_empty = list("never_empty", &raw.never_empty)?;
    let (first, held) = (list("first", &raw.first)?, list("held", &raw.held)?);
    let written_once = list("written_once", &raw.written_once)?;
    let left_out = list("left_out", &raw.left_out)?;
    let compile = || -> Result<Matching, PatternError> {
        let rules = Rules::loose("any_of");
        let bare = |pattern: &'_ String| pattern.trim_start_matches('/').to_owned();
        let markers: Vec<_> = markers.iter().map(bare).collect();
        let runs: Vec<_> = runs.iter().map(bare).collect();
        let above: Vec<_> = above.iter().map(bare).collect();
        let one = |marker: &String| Ok(rules.compile(marker)?.compile_matcher());
        Ok(Matching {
            runs: Rules::loose("runs").paths(runs.iter().map(String::as_str))?,
            above: Rules::loose("above").paths(above.iter().map(String::as_str))?,
            any_marker: rules.paths(markers.iter().map(String::as_str))?,
            markers: markers.iter().map(one).collect::<Result<_, _>>()?,
            first: Ordered::new(Rules::loose("first"), &first)?,
            any_first: Patterns::new(Rules::loose("first"), &first)?,
            held: Patterns::new(Rules::loose("held"), &held)?,
            written_once: Patterns::new(Rules::loose("written_once"), &written_once)?,
            never_empty: Patterns::new(Rules::loose("never_empty"), &never_empty)?,
            left_out: Patterns::new(Rules::loose("left_out"), &left_out)?,
            left_out_below: Rules::loose("left_out").directories(&left_out)?,
        })
    };
    compile().map_err(|error| together(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_a_number_and_a_run() {
        assert_eq!(duration("96h"), Some(Duration::from_hours(96)));
        assert_eq!(duration("7 d"), Some(Duration::from_hours(168)));
        assert_eq!(duration("90min"), Some(Duration::from_mins(90)));
        for bad in ["", "h", "0h", "-1d", "1.5h", "3 weeks", "99999999999999999d"] {
            assert_eq!(duration(bad), None, "{bad}");
        }
    }
}
