//! `[transfer]`: concurrency, memory and bandwidth.

use jiff::civil::{Time, Weekday};
use toml::Spanned;

use super::{MIB, Resolver};
use crate::config::units::{parse_rate, unit_hint};
use crate::config::{Transfer, raw};
use crate::engine::settings::{PartWish, PartsInFlight};
use crate::limiter::{Days, Period, Rate, Timetable};
use crate::model::{ByteCount, PartSize};

/// The days of a week as they are written, from Monday on.
const DAYS: [(&str, Weekday); 7] = [
    ("mon", Weekday::Monday),
    ("tue", Weekday::Tuesday),
    ("wed", Weekday::Wednesday),
    ("thu", Weekday::Thursday),
    ("fri", Weekday::Friday),
    ("sat", Weekday::Saturday),
    ("sun", Weekday::Sunday),
];

impl Resolver<'_> {
    pub(super) fn transfer(&mut self, raw: raw::TransferKeys) -> Transfer {
        Transfer {
            parts_in_flight: self.parts_in_flight("parts_in_flight", raw.parts_in_flight),
            part_size: self.part_size(raw.part_size),
            memory: ByteCount(self.size("memory", raw.memory, 64 * MIB, 2 * MIB)),
            bandwidth: self.bandwidth(raw.bandwidth),
            timetable: self.timetable(raw.timetable),
        }
    }

    fn part_size(&mut self, value: Option<Spanned<String>>) -> PartWish {
        let is_auto = value.as_ref().is_none_or(|value| value.as_ref() == "auto");
        let value = value.filter(|_| !is_auto);
        let size = self.size("part_size", value, 0, 1);
        PartSize::new(size).map_or(PartWish::Auto, PartWish::Fixed)
    }

    fn bandwidth(&mut self, value: Option<Spanned<String>>) -> Rate {
        let value = value?;
        match parse_rate(value.as_ref()) {
            Ok(rate) => rate,
            Err(unit) => {
                let message = format!("bandwidth = {:?} is no rate", value.as_ref());
                let hint = unit_hint(value.as_ref(), &unit, |near| parse_rate(near).is_ok());
                self.problem(Some(value.span()), message, Some(hint));
                None
            }
        }
    }

    pub(super) fn parts_in_flight(
        &mut self,
        key: &str,
        value: Option<Spanned<raw::Count>>,
    ) -> PartsInFlight {
        let Some(value) = value else { return PartsInFlight::Auto };
        let found = match value.as_ref() {
            raw::Count::Number(number) => match u32::try_from(*number) {
                Ok(count @ 1..=256) => return PartsInFlight::Fixed(count),
                Ok(_) | Err(_) => number.to_string(),
            },
            raw::Count::Word(word) if word == "auto" => return PartsInFlight::Auto,
            raw::Count::Word(word) => format!("{word:?}"),
        };
        let hint = "allowed: \"auto\", or a number from 1 to 256".to_owned();
        self.problem(Some(value.span()), format!("{key} = {found} is not possible"), Some(hint));
        PartsInFlight::Auto
    }

    fn timetable(&mut self, raw: Vec<Spanned<raw::PeriodKeys>>) -> Timetable {
        let periods: Vec<_> = raw.into_iter().filter_map(|period| self.period(period)).collect();
        Timetable::new(periods)
    }

    fn period(&mut self, raw: Spanned<raw::PeriodKeys>) -> Option<Period> {
        let (span, raw) = (raw.span(), raw.into_inner());
        let days = self.days(raw.days);
        let given = [("from", &raw.from), ("until", &raw.until), ("bandwidth", &raw.bandwidth)];
        let missing: Vec<_> =
            given.iter().filter(|(_, value)| value.is_none()).map(|(key, _)| *key).collect();
        if !missing.is_empty() {
            let message = format!("a period of the timetable has no {}", missing.join(", "));
            let hint = "from = \"07:00\", until = \"19:00\", bandwidth = \"10 MB/s\"".to_owned();
            self.problem(Some(span), message, Some(hint));
            return None;
        }
        let (from, until) = (self.time("from", raw.from?), self.time("until", raw.until?));
        let (rate, (from, until)) = (self.bandwidth(raw.bandwidth), from.zip(until)?);
        if from == until && from != Time::midnight() {
            let message = format!("from and until are both {from}");
            let hint = "a whole day is from = \"00:00\", until = \"24:00\"".to_owned();
            self.problem(Some(span), message, Some(hint));
        }
        Some(Period { days, from, until, rate })
    }

    fn days(&mut self, raw: Option<Spanned<Vec<Spanned<String>>>>) -> Days {
        let Some(raw) = raw else { return Days::ALL };
        if raw.as_ref().is_empty() {
            let hint = format!("allowed: {}", DAYS.map(|(word, _)| word).join(", "));
            self.problem(Some(raw.span()), "days = [] is never".into(), Some(hint));
        }
        let found = raw.as_ref().iter().filter_map(|word| self.choice("days", Some(word), &DAYS));
        found.fold(Days::default(), Days::with)
    }

    /// Parses a time of day; `24:00` is midnight as an end.
    fn time(&mut self, key: &str, value: Spanned<String>) -> Option<Time> {
        let text = value.as_ref();
        let number = |text: &str| -> Option<i8> {
            (text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit()))
                .then(|| text.parse().ok())?
        };
        let parts = text.split_once(':').and_then(|(h, m)| number(h).zip(number(m)));
        let time = match parts {
            Some((24, 0)) if key == "until" => Some(Time::midnight()),
            Some((hour, minute)) => Time::new(hour, minute, 0, 0).ok(),
            None => None,
        };
        if time.is_none() {
            let message = format!("{key} = {text:?} is no time of day");
            let hint = "allowed: 00:00 to 23:59, and 24:00 as an end".to_owned();
            self.problem(Some(value.span()), message, Some(hint));
        }
        time
    }
}
