//! Dates in instruments' formats, converted to `YYYY-MM-DD`.

use jiff::civil::Date;

/// Returns the local day in a text; `None` when the text does not begin with a date.
///
/// Illumina alone has three forms in `RunInfo.xml`: `260301`, `3/1/2026 5:26:34 PM` and
/// `2026-03-01T17:26:34Z`. Folder names have `20260301`, with the time after it or without.
pub(super) fn normal(text: &str) -> Option<String> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '-' && c != '/');
    let day = &text[..end.unwrap_or(text.len())];
    let (year, month, day) = match day.len() {
        6 if is_digits(day) => (2000 + number(&day[..2])?, number(&day[2..4])?, number(&day[4..])?),
        8 if is_digits(day) => (number(&day[..4])?, number(&day[4..6])?, number(&day[6..])?),
        _ => parted(day)?,
    };
    let date = Date::new(year, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok()?;
    Some(date.to_string())
}

fn is_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

fn number(text: &str) -> Option<i16> {
    text.parse().ok()
}

/// Parses `2026-03-01` and, in the American order, `3/1/2026`.
fn parted(text: &str) -> Option<(i16, i16, i16)> {
    let (separator, is_american) = if text.contains('/') { ('/', true) } else { ('-', false) };
    let parts: Vec<_> = text.split(separator).map(number).collect::<Option<_>>()?;
    let [first, second, third] = *parts.as_slice() else { return None };
    let (year, month, day) =
        if is_american { (third, first, second) } else { (first, second, third) };
    (year >= 1_000).then_some((year, month, day))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_becomes_one() {
        for text in [
            "260301",
            "20260301",
            "20260301_1726",
            "3/1/2026 5:26:34 PM",
            "03/01/2026",
            "2026-03-01",
            "2026-03-01T17:26:34Z",
            "2026-03-01T17:26:34.123+01:00",
            " 2026-03-01 17:26 ",
        ] {
            assert_eq!(normal(text).as_deref(), Some("2026-03-01"), "{text}");
        }
        for text in
            ["", "soon", "261301", "20260231", "2026", "31/12/2026", "1-2", "26-03-01", "é", "9/9"]
        {
            assert_eq!(normal(text), None, "{text}");
        }
    }
}
