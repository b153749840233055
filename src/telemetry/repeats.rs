//! Lines that repeat themselves: written a few times, then counted.
//!
//! A line is the same as another when it comes from the same place in the program, says the same and
//! is about the same: upload, destination, path, kind. Of warnings and errors, numbers that stand
//! alone in the message are counters and make no difference. So the line that says of each of a
//! thousand uploads that it is complete is a thousand lines, and a disk that refuses a thousand
//! times is a few and a count. Below info nothing is held back: who asks for it wants all of it.
//!
//! The count goes out with the next line that is written, when the window of the repeated line has
//! ended or another line comes; no timer waits for it. *Never* holds back the first of anything.
//! *Bounds*: lines remembered and their length.

use std::collections::VecDeque;
use std::fmt::{self, Write};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tracing::field::{Field, Value, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::field;
use crate::model::Monotonic;

/// A repeated line is written so often in each window.
const WRITTEN_MAX: u32 = 5;
/// How long a line is counted before it is written again.
const WINDOW: Duration = Duration::from_mins(1);
/// Lines remembered; the oldest is forgotten for another.
const KEPT_MAX: usize = 64;
/// Bytes of a message remembered, for the line that says how often it was repeated.
const MESSAGE_MAX: usize = 512;
/// What tells two lines with the same message apart.
const ABOUT: [&str; 5] =
    [field::UPLOAD_ID, field::DESTINATION, field::PLATFORM, field::PATH, field::KIND];

/// Counts repeats, for whatever writes lines.
pub(super) struct Repeats {
    now: Box<dyn Fn() -> Monotonic + Send + Sync>,
    kept: Mutex<VecDeque<Kept>>,
}

/// A line that was written lately.
struct Kept {
    key: u64,
    metadata: &'static Metadata<'static>,
    message: String,
    since: Monotonic,
    written_count: u32,
    held_count: u64,
}

/// What becomes of a line.
pub(super) struct Verdict {
    /// What must be said before it.
    pub(super) before: Vec<Summary>,
    /// It is written itself.
    pub(super) is_written: bool,
}

/// How often a line was repeated.
pub(super) struct Summary {
    metadata: &'static Metadata<'static>,
    /// The line that says so.
    pub(super) text: String,
}

impl Summary {
    /// Returns how much the repeated line matters.
    pub(super) fn level(&self) -> &'static Level {
        self.metadata.level()
    }

    /// Hands it over as an event of the repeated line's own place.
    pub(super) fn with_event(&self, mut give: impl FnMut(&Event<'_>)) {
        let fields = self.metadata.fields();
        let Some(message) = fields.field("message") else { return };
        let values = [(&message, Some(&self.text as &dyn Value))];
        give(&Event::new(self.metadata, &fields.value_set(&values)));
    }
}

impl Kept {
    fn take_held(&mut self) -> Option<Summary> {
        let count = std::mem::take(&mut self.held_count);
        let times = if count == 1 { "once more".to_owned() } else { format!("{count} times") };
        let text = format!("{} … repeated {times}", self.message);
        (count > 0).then_some(Summary { metadata: self.metadata, text })
    }
}

impl Repeats {
    /// Starts with nothing remembered.
    pub(super) fn new(now: impl Fn() -> Monotonic + Send + Sync + 'static) -> Self {
        Self { now: Box::new(now), kept: Mutex::default() }
    }

    /// Judges the next line.
    pub(super) fn judge(&self, event: &Event<'_>) -> Verdict {
        let now = (self.now)();
        let key = (*event.metadata().level() <= Level::INFO).then(|| Read::of(event));
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = |kept: &Kept| now.since(kept.since) >= WINDOW;
        let ended = kept.iter_mut().filter(|kept| is_over(kept));
        let mut before: Vec<_> = ended.filter_map(Kept::take_held).collect();
        kept.retain(|kept| !is_over(kept));
        let found = key.as_ref().and_then(|read| kept.iter_mut().find(|old| old.key == read.key));
        if let Some(old) = found {
            if old.written_count >= WRITTEN_MAX {
                old.held_count += 1;
                return Verdict { before, is_written: false };
            }
            old.written_count += 1;
        } else if let Some(read) = key {
            if kept.len() == KEPT_MAX {
                before.extend(kept.pop_front().and_then(|mut oldest| oldest.take_held()));
            }
            kept.push_back(read.kept(event.metadata(), now));
        }
        before.extend(kept.iter_mut().filter_map(Kept::take_held));
        Verdict { before, is_written: true }
    }

    /// Takes what is being counted.
    pub(super) fn take_held(&self) -> Vec<Summary> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter_mut().filter_map(Kept::take_held).collect()
    }
}

/// What was read of a line.
struct Read {
    hasher: DefaultHasher,
    message: String,
    key: u64,
}

impl Read {
    fn of(event: &Event<'_>) -> Self {
        let mut read = Self { hasher: DefaultHasher::new(), message: String::new(), key: 0 };
        event.record(&mut read);
        event.metadata().callsite().hash(&mut read.hasher);
        match *event.metadata().level() <= Level::WARN {
            true => without_counters(&read.message).hash(&mut read.hasher),
            false => read.message.hash(&mut read.hasher),
        }
        read.key = read.hasher.finish();
        read
    }

    fn kept(mut self, metadata: &'static Metadata<'static>, now: Monotonic) -> Kept {
        let end = self.message.floor_char_boundary(MESSAGE_MAX);
        self.message.truncate(end);
        let message = std::mem::take(&mut self.message);
        Kept { key: self.key, metadata, message, since: now, written_count: 1, held_count: 0 }
    }
}

impl Visit for Read {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            // Writing to a string cannot fail.
            write!(self.message, "{value:?}").unwrap_or(());
        } else if ABOUT.contains(&field.name()) {
            field.name().hash(&mut self.hasher);
            format!("{value:?}").hash(&mut self.hasher);
        }
    }
}

/// Puts one sign in place of each number that is a word of its own.
fn without_counters(message: &str) -> String {
    let is_number = |word: &str| {
        let word = word.trim_end_matches([',', '.', ';', ':', ')']).trim_start_matches('(');
        !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit())
    };
    let word = |word| if is_number(word) { "#" } else { word };
    message.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

/// Formats lines as another does, but for repeats.
pub(super) struct Sparing<F> {
    pub(super) inner: F,
    pub(super) repeats: Arc<Repeats>,
}

impl<S, N, F> FormatEvent<S, N> for Sparing<F>
where
    S: Subscriber + for<'lookup> LookupSpan<'lookup>,
    N: for<'writer> FormatFields<'writer> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let verdict = self.repeats.judge(event);
        let mut result = Ok(());
        for summary in verdict.before {
            summary.with_event(|event| {
                result = result.and(self.inner.format_event(context, writer.by_ref(), event));
            });
        }
        match verdict.is_written {
            true => result.and(self.inner.format_event(context, writer, event)),
            false => result,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    /// A place that keeps what was written.
    #[derive(Clone, Default)]
    struct Place(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Place {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// Runs with a log whose clock is moved by hand; returns its lines and what is still counted.
    fn logged(json: bool, log: impl FnOnce(&AtomicU64)) -> (Vec<String>, Vec<String>) {
        let (place, seconds) = (Place::default(), Arc::new(AtomicU64::new(0)));
        let (writer, clock) = (place.clone(), Arc::clone(&seconds));
        let now = move || Monotonic(Duration::from_secs(clock.load(Ordering::Relaxed)));
        let repeats = Arc::new(Repeats::new(now));
        let held = Arc::clone(&repeats);
        let layer = tracing_subscriber::fmt::layer()
            .with_writer(move || writer.clone())
            .with_ansi(false)
            .with_target(false)
            .without_time();
        if json {
            let layer = layer.json().flatten_event(true);
            let layer = layer.map_event_format(|inner| Sparing { inner, repeats });
            let log_to = tracing_subscriber::registry().with(layer);
            tracing::subscriber::with_default(log_to, || log(&seconds));
        } else {
            let layer = layer.map_event_format(|inner| Sparing { inner, repeats });
            let log_to = tracing_subscriber::registry().with(layer);
            tracing::subscriber::with_default(log_to, || log(&seconds));
        }
        let text = String::from_utf8(place.0.lock().unwrap().clone()).unwrap();
        let lines = text.lines().map(|line| line.trim().to_owned()).collect();
        (lines, held.take_held().into_iter().map(|summary| summary.text).collect())
    }

    fn refuse(attempt: u32) {
        tracing::warn!(destination = "far", attempt, "refused after {attempt} s");
    }

    #[test]
    fn what_repeats_itself_is_written_some_times_then_counted_before_the_next_line() {
        let (lines, held) = logged(false, |_| {
            (1..=42).for_each(refuse);
            tracing::info!("something else");
            (0..6).for_each(refuse);
        });
        assert_eq!(lines.len(), 7, "{lines:#?}");
        assert_eq!(lines[0], "WARN refused after 1 s destination=\"far\" attempt=1");
        assert_eq!(lines[5], "WARN refused after 1 s … repeated 37 times");
        assert_eq!(lines[6], "INFO something else");
        assert_eq!(held, ["refused after 1 s … repeated 6 times"]);
    }

    #[test]
    fn the_count_is_said_in_json_too() {
        let (lines, _) = logged(true, |_| {
            (1..=7).for_each(refuse);
            tracing::info!("something else");
        });
        let said: serde_json::Value = serde_json::from_str(&lines[5]).unwrap();
        assert_eq!(said["message"], "refused after 1 s … repeated 2 times");
        assert_eq!(said["level"], "WARN");
    }

    #[test]
    fn a_window_that_ended_is_counted_and_begins_anew() {
        let (lines, held) = logged(false, |seconds| {
            (0..6).for_each(refuse);
            seconds.store(60, Ordering::Relaxed);
            (0..6).for_each(refuse);
        });
        assert_eq!(lines.len(), 11, "{lines:#?}");
        assert_eq!(lines[5], "WARN refused after 0 s … repeated once more");
        assert_eq!(held.len(), 1);
    }

    #[test]
    fn a_thousand_uploads_that_complete_are_a_thousand_lines() {
        let (lines, held) = logged(false, |_| {
            for upload_id in 0..1_000 {
                tracing::info!(upload_id, "completed");
                tracing::error!(path = format!("f{upload_id}"), "parked");
                tracing::info!("notice {upload_id} is told");
            }
        });
        assert_eq!((lines.len(), held.len()), (3_000, 0));
    }

    #[test]
    fn what_is_asked_for_in_full_is_written_in_full() {
        let (lines, _) = logged(false, |_| (0..100).for_each(|_| tracing::debug!("a part")));
        assert_eq!(lines.len(), 100);
    }

    #[test]
    fn what_is_remembered_is_bounded_and_nothing_counted_is_lost() {
        let (lines, held) = logged(false, |_| {
            for upload_id in 0..100 {
                (0..6).for_each(|_| tracing::error!(upload_id, "{}", "x".repeat(9_999)));
            }
        });
        let counts = lines.iter().filter(|line| line.contains("once more")).count();
        assert_eq!((lines.len(), counts, held.len()), (500 + 99, 99, 1));
        assert!(held[0].len() < 600);
    }
}
