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
