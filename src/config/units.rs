//! Sizes, durations and rates as people write them.

use std::time::Duration;

/// Why a text is invalid.
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

const SIZE: UnitError = UnitError { allowed: "a number and one of B kB MB GB TB KiB MiB GiB TiB" };
const DURATION: UnitError = UnitError { allowed: "a number and one of ms s min h d" };
const RATE: UnitError = UnitError { allowed: "a size followed by /s, or \"unlimited\"" };

/// A fraction with more digits is a mistake.
const FRACTION_DIGITS_MAX: usize = 9;

/// Splits a number from its unit and multiplies them; a fraction of one is dropped.
fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if fraction.is_empty() || fraction.len() > FRACTION_DIGITS_MAX {
        return None;
    }
    let (whole, part): (u64, u64) = (whole.parse().ok()?, fraction.parse().ok()?);
    let unit = unit.trim();
    if unit.is_empty() && (whole, part) == (0, 0) {
        return Some(0);
    }
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    let tenths = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let number = u128::from(whole) * tenths + u128::from(part);
    u64::try_from(number * u128::from(*factor) / tenths).ok()
}

/// Spellings of units, the intended unit, and the factor. Lines are sold in bits.
const SPELLINGS: [(&[&str], &str, f64); 13] = [
    (&["second", "seconds", "sec", "secs"], "s", 1.0),
    (&["m", "minute", "minutes", "mins"], "min", 1.0),
    (&["hour", "hours", "hr", "hrs"], "h", 1.0),
    (&["day", "days"], "d", 1.0),
    (&["w", "week", "weeks"], "d", 7.0),
    (&["k", "kb", "kbyte", "kbytes"], "kB", 1.0),
    (&["m", "mb", "mbyte", "mbytes"], "MB", 1.0),
    (&["g", "gb", "gbyte", "gbytes"], "GB", 1.0),
    (&["t", "tb", "tbyte", "tbytes"], "TB", 1.0),
    (&["byte", "bytes"], "B", 1.0),
    (&["kbit", "kbits"], "kB", 0.125),
    (&["mbit", "mbits"], "MB", 0.125),
    (&["gbit", "gbits"], "GB", 0.125),
];

/// Returns the most likely intended value, else what is allowed.
pub(crate) fn unit_hint(text: &str, unit: &UnitError, is_wanted: impl Fn(&str) -> bool) -> String {
    spelling_hint(text, is_wanted).unwrap_or_else(|| format!("allowed: {}", unit.allowed))
}

/// Returns the most likely intended value of a text that is no size, duration or rate.
fn spelling_hint(text: &str, is_wanted: impl Fn(&str) -> bool) -> Option<String> {
    let text = text.trim();
    // Three digits after a comma may be thousands.
    let is_fraction = text.split_once(',').is_none_or(|(_, rest)| {
        rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len()) != 3
    });
    let written = Some(text.replace(',', ".")).filter(|_| is_fraction)?;
    let end = written.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(written.len());
    let (number, unit) = written.split_at(end);
    let number: f64 = number.parse().ok()?;
    let (unit, rate) = match unit.trim() {
        unit if unit.ends_with("bps") => (unit.trim_end_matches("ps"), "/s"),
        unit => unit.strip_suffix("/s").map_or((unit, ""), |unit| (unit, "/s")),
    };
    let lower = unit.trim().to_lowercase();
    let lower = if rate == "/s" && text.ends_with("bps") { lower + "it" } else { lower };
    let known = SPELLINGS.iter().filter(|(words, ..)| words.contains(&lower.as_str()));
    let spelled = |(_, unit, factor): &(&[&str], &str, f64)| {
        let gap = if unit.ends_with('B') { " " } else { "" };
        let text = format!("{}{gap}{unit}{rate}", number * factor);
        let why = if *factor == 0.125 { "a byte has 8 bits: " } else { "" };
        is_wanted(&text).then(|| format!("{why}did you mean {text:?}?"))
    };
    let point = || format!("a fraction is written with a point: did you mean {written:?}?");
    is_wanted(&written).then(point).or_else(|| known.into_iter().find_map(spelled))
}

/// Parses `64 MiB`.
pub(crate) fn parse_size(text: &str) -> Result<u64, UnitError> {
    scaled(text, &SIZES).ok_or(SIZE)
}

/// Parses `5min`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    scaled(text, &DURATIONS).map(Duration::from_millis).ok_or(DURATION)
}

/// Parses the duration of a command's option.
///
/// # Errors
/// The most likely intended value, else what is allowed.
pub(crate) fn duration_argument(text: &str) -> Result<Duration, String> {
    let is_wanted = |near: &str| parse_duration(near).is_ok();
    parse_duration(text).map_err(|unit| unit_hint(text, &unit, is_wanted))
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
        assert_eq!(parse_size("1.5 GiB"), Ok(3 << 29));
        assert_eq!(parse_duration("1.5h"), Ok(Duration::from_mins(90)));
        assert_eq!(parse_rate("6.25 MB/s"), Ok(Some(6_250_000)));
        for bad in
            ["10 mB", "5", "-1 MB", "1. GB", ".5 GB", "1.2.3 GB", "", "MiB", "99999999999 TiB"]
        {
            assert_eq!(parse_size(bad), Err(SIZE), "{bad}");
        }
        for bad in ["2 minutes", "5", "1e3 s", "m"] {
            assert_eq!(parse_duration(bad), Err(DURATION), "{bad}");
        }
        assert_eq!(parse_rate("50 MB"), Err(RATE));
        let duration = |text: &str| spelling_hint(text, |near| parse_duration(near).is_ok());
        let rate = |text: &str| spelling_hint(text, |near| parse_rate(near).is_ok());
        for (said, near) in [
            (duration("2 minutes"), "did you mean \"2min\"?"),
            (duration("1,5h"), "a fraction is written with a point: did you mean \"1.5h\"?"),
            (duration("2 weeks"), "did you mean \"14d\"?"),
            (rate("50 Mbit/s"), "a byte has 8 bits: did you mean \"6.25 MB/s\"?"),
            (rate("100Mbps"), "a byte has 8 bits: did you mean \"12.5 MB/s\"?"),
            (rate("1,5 MB/s"), "a fraction is written with a point: did you mean \"1.5 MB/s\"?"),
        ] {
            assert_eq!(said.as_deref(), Some(near));
        }
        assert_eq!((duration("soon"), rate("1,000 MB/s")), (None, None));
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
