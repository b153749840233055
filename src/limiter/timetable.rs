//! Rates by time: periods of a week, in local time.
//!
//! *Promises*: the first period that covers a time gives its rate; a period whose end is not after
//! its start continues into the next day; times are wall-clock times, so that a day of 23 or 25
//! hours has the same periods as any other. *Never* reads a clock.

use jiff::civil::{DateTime, Time, Weekday};

/// Bytes per second; `None` is unlimited, zero stops.
pub(crate) type Rate = Option<u64>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Days(u8);

impl Days {
    pub const ALL: Self = Self(0b111_1111);

    #[must_use]
    pub fn with(self, day: Weekday) -> Self {
        Self(self.0 | Self::bit(day))
    }

    fn has(self, day: Weekday) -> bool {
        self.0 & Self::bit(day) != 0
    }

    fn bit(day: Weekday) -> u8 {
        1 << day.to_monday_zero_offset()
    }
}

/// A period on some days.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period {
    pub days: Days,
    pub from: Time,
    /// When it ends; midnight is the end of the day, and an earlier time is one of the next day.
    pub until: Time,
    pub rate: Rate,
}

impl Period {
    fn covers(&self, at: DateTime) -> bool {
        let (day, time) = (at.weekday(), at.time());
        let today = self.days.has(day) && time >= self.from;
        let yesterday = self.days.has(day.previous()) && time < self.until;
        match self.from < self.until {
            true => today && time < self.until,
            false => today || yesterday,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Timetable(Vec<Period>);

impl Timetable {
    /// Keeps periods in the order of precedence.
    pub fn new(periods: Vec<Period>) -> Self {
        Self(periods)
    }

    /// Returns whether it has no periods.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the rate of the first period that covers a local time.
    pub fn rate_at(&self, at: DateTime) -> Option<Rate> {
        self.0.iter().find(|period| period.covers(at)).map(|period| period.rate)
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;
    use jiff::tz::TimeZone;
    use jiff::{SignedDuration, ToSpan};

    use super::*;

    fn time(hour: i8, minute: i8) -> Time {
        Time::constant(hour, minute, 0, 0)
    }

    fn office() -> Timetable {
        use Weekday::{Friday, Monday, Thursday, Tuesday, Wednesday};
        let days = [Monday, Tuesday, Wednesday, Thursday, Friday]
            .into_iter()
            .fold(Days::default(), Days::with);
        let lunch = Period { days, from: time(12, 0), until: time(12, 30), rate: Some(0) };
        let work = Period { days, from: time(7, 0), until: time(19, 0), rate: Some(10) };
        let friday = Days::default().with(Friday);
        let night = Period { days: friday, from: time(22, 0), until: time(6, 0), rate: None };
        Timetable::new(vec![lunch, work, night])
    }

    #[test]
    fn the_first_period_that_covers_a_moment_holds() {
        let table = office();
        // 2026-11-20 is a Friday.
        let (friday, saturday) = (date(2026, 11, 20), date(2026, 11, 21));
        for (at, rate) in [
            (friday.at(6, 59, 59, 999), None),
            (friday.at(7, 0, 0, 0), Some(Some(10))),
            (friday.at(12, 0, 0, 0), Some(Some(0))),
            (friday.at(12, 30, 0, 0), Some(Some(10))),
            (friday.at(19, 0, 0, 0), None),
            (friday.at(22, 0, 0, 0), Some(None)),
            (saturday.at(5, 59, 0, 0), Some(None)),
            (saturday.at(6, 0, 0, 0), None),
            (saturday.at(12, 0, 0, 0), None),
            (saturday.at(23, 0, 0, 0), None),
            (friday.at(3, 0, 0, 0), None),
        ] {
            assert_eq!(table.rate_at(at), rate, "{at}");
        }
        assert_eq!(Timetable::default().rate_at(friday.at(1, 0, 0, 0)), None);
    }

    #[test]
    fn midnight_is_an_end_and_a_whole_day_has_no_gap() {
        let until_midnight =
            Period { days: Days::ALL, from: time(18, 0), until: time(0, 0), rate: Some(1) };
        let table = Timetable::new(vec![until_midnight]);
        let day = date(2026, 11, 20);
        assert_eq!(table.rate_at(day.at(23, 59, 59, 0)), Some(Some(1)));
        assert_eq!(table.rate_at(day.at(0, 0, 0, 0)), None);
        let always = Period { days: Days::ALL, from: time(0, 0), until: time(0, 0), rate: Some(2) };
        let table = Timetable::new(vec![always]);
        for minute in 0..24 * 60 {
            let at = day.at(0, 0, 0, 0).checked_add(i64::from(minute).minutes()).expect("a time");
            assert_eq!(table.rate_at(at), Some(Some(2)), "{at}");
        }
    }

    /// Summer time begins on 2026-03-29 at 02:00 and ends on 2026-10-25 at 03:00: a period from one
    /// to four lasts two hours in the first night and four in the other.
    #[test]
    fn days_of_23_and_25_hours_have_the_same_periods() {
        let rule = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").expect("a rule");
        let night = Period { days: Days::ALL, from: time(1, 0), until: time(4, 0), rate: Some(5) };
        let table = Timetable::new(vec![night]);
        for (day, hours) in
            [(date(2026, 3, 28), 3), (date(2026, 3, 29), 2), (date(2026, 10, 25), 4)]
        {
            let start = day.to_zoned_datetime(rule.clone()).expect("midnight").timestamp();
            let covered = (0..24 * 60).filter(|minute| {
                let at = start + SignedDuration::from_mins(*minute);
                table.rate_at(at.to_zoned_datetime(rule.clone()).datetime()).is_some()
            });
            assert_eq!(covered.count(), hours * 60, "{day}");
        }
    }
}
