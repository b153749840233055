//! Progress by bytes, on standard error: a bar on a terminal, else a line at intervals.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::render;
use crate::clock::Clock;
use crate::model::{Monotonic, Shown};

/// Interval of lines without a terminal, so that they do not fill a log.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

pub(super) struct Bar {
    bar: ProgressBar,
    clock: Clock,
    /// The last line, with its time.
    said: Option<(String, Monotonic)>,
}

impl Bar {
    pub(super) fn new() -> Self {
        // Hidden if standard error is no terminal.
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{bar:24} {wide_msg}");
        let style = style.map(|style| style.progress_chars("##."));
        let bar = style.map_or(bar.clone(), |style| bar.with_style(style));
        Self { bar, clock: Clock::real(), said: None }
    }

    /// Shows the progress.
    pub(super) fn show(&mut self, gone: u64, total: u64, message: &str) {
        self.bar.set_length(total);
        self.bar.set_position(gone.min(total));
        let text = format!(
            "{:>5} of {}, {message}",
            render::percent(gone.min(total), total),
            render::bytes(total)
        );
        if !self.bar.is_hidden() {
            self.bar.set_message(Shown(&text).to_string());
            return self.bar.tick();
        }
        let now = self.clock.now().monotonic;
        let is_due =
            |(last, at): &(String, Monotonic)| *last != text && now.since(*at) >= LINE_INTERVAL;
        if self.said.as_ref().is_none_or(is_due) {
            render::talk(text.trim_start());
            self.said = Some((text, now));
        }
    }

    /// Prints a line above the bar.
    pub(super) fn say(&self, text: &str) {
        self.bar.suspend(|| render::talk(text));
    }

    /// Returns the rate and the time left, from the progress so far.
    pub(super) fn pace(&self) -> String {
        let (rate, left) = (self.bar.per_sec().max(0.0), self.bar.eta().as_secs());
        if rate < 1.0 {
            return "time left unknown".to_owned();
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is shown")]
        let rate = rate as u64;
        format!("{}/s, about {} left", render::bytes(rate), render::duration(left))
    }

    /// Removes the bar.
    pub(super) fn end(&self) {
        self.bar.finish_and_clear();
    }
}
