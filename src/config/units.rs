//! Sizes, durations and rates as people write them.

use std::time::Duration;

/// Why a text is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UnitError {
    pub allowed: &'static str,
}

const SIZES: [(&str, u64); 9] = [
    ("B", 1),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

const DURATIONS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("min", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

const SIZE: UnitError =
    UnitError { allowed: "a whole number and one of B kB MB GB TB KiB MiB GiB TiB" };
const DURATION: UnitError = UnitError { allowed: "a whole number and one of ms s min h d" };
const RATE: UnitError = UnitError { allowed: "a size followed by /s, or \"unlimited\"" };

/// Splits a number from its unit and multiplies them.
fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number: u64 = number.parse().ok()?;
    let unit = unit.trim();
    if unit.is_empty() && number == 0 {
        return Some(0);
    }
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(*factor)
}

/// Words that people write for units, and what a number of them is.
const SPELLINGS: [(&[&str], &str, u32); 10] = [
    (&["second", "seconds", "sec", "secs"], "s", 1),
    (&["m", "minute", "minutes", "mins"], "min", 1),
    (&["hour", "hours", "hr", "hrs"], "h", 1),
    (&["day", "days"], "d", 1),
    (&["w", "week", "weeks"], "d", 7),
    (&["k", "kb", "kbyte", "kbytes"], "kB", 1),
    (&["m", "mb", "mbyte", "mbytes"], "MB", 1),
    (&["g", "gb", "gbyte", "gbytes"], "GB", 1),
    (&["t", "tb", "tbyte", "tbytes"], "TB", 1),
    (&["byte", "bytes"], "B", 1),
];

/// Returns what was most likely meant by a text that is no size, duration or rate.
pub(crate) fn nearest_spelling(text: &str, is_wanted: impl Fn(&str) -> bool) -> Option<String> {
    let text = text.trim().replace(',', ".");
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number: f64 = number.parse().ok()?;
    let (unit, rate) = unit.trim().strip_suffix("/s").map_or((unit.trim(), ""), |u| (u, "/s"));
    let lower = unit.to_lowercase();
    // Lines are sold in bits.
    let bits = [("kbit", "B", 125), ("mbit", "kB", 125), ("gbit", "MB", 125)];
    let bits = bits.into_iter().find(|(word, ..)| lower.starts_with(word));
    let bits = bits.map(|(_, unit, factor)| (unit, factor));
    let known = SPELLINGS.iter().filter(|(words, ..)| words.contains(&lower.as_str()));
    let known = known.map(|(_, unit, factor)| (*unit, *factor));
    // A fraction is a whole number of the next smaller unit.
    let smaller = [("min", "s", 60), ("h", "min", 60), ("d", "h", 24), ("s", "ms", 1000)];
    let smaller = smaller.into_iter().chain([("TB", "GB", 1000), ("GB", "MB", 1000)]);
    let smaller = smaller.chain([("MB", "kB", 1000), ("kB", "B", 1000)]);
    let smaller = smaller.chain([("GiB", "MiB", 1024), ("MiB", "KiB", 1024), ("TiB", "GiB", 1024)]);
    let smaller = smaller.filter(|(word, ..)| *word == unit);
    let smaller = smaller.map(|(_, unit, factor)| (unit, factor));
    let spelled = |(unit, factor): (&str, u32)| {
        let count = number * f64::from(factor);
        let text = format!("{count}{}{unit}{rate}", if unit.ends_with('B') { " " } else { "" });
        (count.fract() == 0.0 && is_wanted(&text)).then_some(text)
    };
    bits.into_iter().chain(known).chain(smaller).find_map(spelled)
}

/// Parses `64 MiB`.
pub(crate) fn parse_size(text: &str) -> Result<u64, UnitError> {
    scaled(text, &SIZES).ok_or(SIZE)
}

/// Parses `5min`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    scaled(text, &DURATIONS).map(Duration::from_millis).ok_or(DURATION)
}

/// Parses `50 MB/s`; `None` is `unlimited`.
pub(crate) fn parse_rate(text: &str) -> Result<Option<u64>, UnitError> {
    match text.trim() {
        "unlimited" => Ok(None),
        "0" => Ok(Some(0)),
        rate => {
            let size = rate.strip_suffix("/s").ok_or(RATE)?;
            parse_size(size).map(Some).map_err(|_| RATE)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn units_are_told_apart() {
        assert_eq!(parse_size("64 MiB"), Ok(64 << 20));
        assert_eq!(parse_size("5MB"), Ok(5_000_000));
        assert_eq!(parse_size("0"), Ok(0));
        assert_eq!(parse_duration("2min"), Ok(Duration::from_mins(2)));
        assert_eq!(parse_rate("50 MB/s"), Ok(Some(50_000_000)));
        assert_eq!(parse_rate("unlimited"), Ok(None));
        for bad in ["10 mB", "5", "-1 MB", "1.5 GiB", "", "MiB", "99999999999 TiB"] {
            assert_eq!(parse_size(bad), Err(SIZE), "{bad}");
        }
        for bad in ["2 minutes", "5", "1e3 s", "m"] {
            assert_eq!(parse_duration(bad), Err(DURATION), "{bad}");
        }
        assert_eq!(parse_rate("50 MB"), Err(RATE));
        let duration = |text: &str| nearest_spelling(text, |near| parse_duration(near).is_ok());
        let rate = |text: &str| nearest_spelling(text, |near| parse_rate(near).is_ok());
        assert_eq!(duration("2 minutes").as_deref(), Some("2min"));
        assert_eq!(duration("1.5h").as_deref(), Some("90min"));
        assert_eq!(duration("2 weeks").as_deref(), Some("14d"));
        assert_eq!(rate("50 Mbit/s").as_deref(), Some("6250 kB/s"));
        assert_eq!(rate("1,5 MB/s").as_deref(), Some("1500 kB/s"));
        assert_eq!(duration("soon"), None);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".*") {
            prop_assert!(parse_size(&text).is_ok() || parse_size(&text).is_err());
            prop_assert!(parse_rate(&text).is_ok() || parse_rate(&text).is_err());
        }

        #[test]
        fn whole_numbers_of_each_unit_are_exact(number in 0_u64..1_000_000) {
            for (unit, factor) in SIZES {
                prop_assert_eq!(parse_size(&format!("{number} {unit}")), Ok(number * factor));
            }
        }
    }
}
