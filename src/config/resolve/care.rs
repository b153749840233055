//! `[state]`: maintenance of the database.

use std::time::Duration;

use toml::Spanned;

use super::Resolver;
use crate::config::{Care, INTERVAL_MIN, raw};

const DAY: Duration = Duration::from_hours(24);
/// More copies than anyone needs.
const BACKUPS_MAX: usize = 1_000;

impl Resolver<'_> {
    pub(super) fn care(&mut self, raw: &mut raw::StateKeys) -> Care {
        let (keep, backup) = (raw.keep_parts.take(), raw.backup_interval.take());
        let check = raw.check_interval.take();
        Care {
            keep_parts: self.duration_or("forever", "keep_parts", keep, 90 * DAY),
            backup_interval: self.duration_or("never", "backup_interval", backup, DAY),
            backups_kept: self.backups_kept(raw.backups_kept.take()),
            check_interval: self.duration_or("never", "check_interval", check, 7 * DAY),
        }
    }

    /// Reads a duration; `None` for a word in its place.
    fn duration_or(
        &mut self,
        word: &str,
        key: &str,
        value: Option<Spanned<String>>,
        default: Duration,
    ) -> Option<Duration> {
        if value.as_ref().is_some_and(|value| value.as_ref() == word) {
            return None;
        }
        let before = self.problems.len();
        let duration = self.duration(key, value, default, INTERVAL_MIN);
        for hint in self.problems[before..].iter_mut().filter_map(|said| said.hint.as_mut()) {
            hint.push_str(&format!(", or {word:?}"));
        }
        Some(duration)
    }

    fn backups_kept(&mut self, value: Option<Spanned<i64>>) -> usize {
        const DEFAULT: usize = 7;
        let Some(value) = value else { return DEFAULT };
        match usize::try_from(*value.as_ref()) {
            Ok(count @ 1..=BACKUPS_MAX) => count,
            Ok(_) | Err(_) => {
                let message = format!("backups_kept = {} is not possible", value.as_ref());
                let hint = format!("allowed: 1 to {BACKUPS_MAX}");
                self.problem(Some(value.span()), message, Some(hint));
                DEFAULT
            }
        }
    }
}
