//! The log: its output, its format, its field names, and the removal of secrets.
//!
//! Owns the subscriber of the process and the scrubber before it. Everything is written to standard
//! error, as text or as one JSON object a line; or, if standard error is the journal's, to the
//! journal in records with fields. Text has colours only on a terminal, and not when `NO_COLOR` is
//! set. Dependencies are logged from `warn` on, unless `trace` is requested. Every line is written:
//! journald has a rate limit of its own, and a search has to find what happened.
//!
//! It promises that no registered secret and no value of a signed query string leaves the process
//! through the log: every line is scrubbed before it is written, whatever field or message it came
//! from. That is the last line of defence; types that print as `[redacted]` are the first. Names
//! and answers cannot control the terminal or begin a line either: fields are escaped.
//!
//! Code that reads a secret registers it with [`register_secret`] before using it. Replaced secrets
//! stay registered: an old token is still a token.
//!
//! At a crash the log ends with the last line written; nothing is buffered. `cli` calls [`init`]
//! once; all other code uses `tracing` with the names in [`field`].

mod journal;
mod scrub;
mod shown;

use std::io::{self, IsTerminal};
use std::str::FromStr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, reload};

use self::journal::JournalLayer;
use self::scrub::Scrubber;
pub(crate) use self::scrub::{register_secret, scrub, scrub_secrets};
use self::shown::ShownFields;

/// The names of fields. No event or span uses any other.
pub mod field {
    pub const UPLOAD_ID: &str = "upload_id";
    pub const DESTINATION: &str = "destination";
    pub const PLATFORM: &str = "platform";
    /// A path relative to its drop directory, or the drop directory's.
    pub const PATH: &str = "path";
    pub const PART: &str = "part";
    pub const PART_COUNT: &str = "part_count";
    pub const BYTES: &str = "bytes";
    pub const ATTEMPT: &str = "attempt";
    /// When it is retried, RFC 3339 in UTC.
    pub const RETRY_AT: &str = "retry_at";
    pub const KIND: &str = "kind";
    pub const STATUS: &str = "status";
    /// The platform's id of a request.
    pub const REQUEST_ID: &str = "request_id";
    pub const ELAPSED_MS: &str = "elapsed_ms";

    pub const ALL: [&str; 13] = [
        UPLOAD_ID,
        DESTINATION,
        PLATFORM,
        PATH,
        PART,
        PART_COUNT,
        BYTES,
        ATTEMPT,
        RETRY_AT,
        KIND,
        STATUS,
        REQUEST_ID,
        ELAPSED_MS,
    ];
}

/// The format of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Format {
    /// The journal's if standard error is connected to it, else text.
    #[default]
    Auto,
    Text,
    /// Records with fields, for journald; text where it cannot be reached.
    Journal,
    /// One JSON object a line, for collectors.
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) enum Level {
    /// A person must act.
    Error,
    Warn,
    /// One line for each change of state.
    #[default]
    Info,
    Debug,
    /// The shape of network traffic, and the log of dependencies.
    Trace,
}

impl Level {
    /// Every level, from few lines to many.
    pub(crate) const ALL: [Self; 5] =
        [Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace];

    /// Returns the word used on the command line.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }

    /// Returns the filter: only warnings of dependencies, unless everything is requested.
    fn directives(self) -> String {
        match self {
            Self::Error => "error".to_owned(),
            Self::Trace => "trace".to_owned(),
            Self::Warn | Self::Info | Self::Debug => format!("warn,dropferry={}", self.as_str()),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("log level \"{0}\" is not one of error, warn, info, debug, trace")]
pub(crate) struct UnknownLevel(String);

impl FromStr for Level {
    type Err = UnknownLevel;

    fn from_str(word: &str) -> Result<Self, UnknownLevel> {
        let found = Self::ALL.into_iter().find(|level| level.as_str() == word);
        found.ok_or_else(|| UnknownLevel(word.to_owned()))
    }
}

/// Why the log could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("the log cannot be set up")]
pub(crate) struct Error {
    /// The subscriber's error.
    #[source]
    source: Box<dyn std::error::Error + Send + Sync>,
}

/// Sends the log of this process to standard error, or to the journal behind it.
pub(crate) fn init(format: Format, level: Level) -> Result<(), Error> {
    let format = match format {
        Format::Auto if journal::is_standard_error() => Format::Journal,
        Format::Auto => Format::Text,
        asked @ (Format::Text | Format::Journal | Format::Json) => asked,
    };
    let terminal = io::stderr().is_terminal();
    // By the convention of no-color.org an empty value does not count.
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let (filter, handle) = reload::Layer::new(EnvFilter::new(level.directives()));
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(Scrubber { inner: io::stderr, is_json: format == Format::Json })
        .with_ansi(terminal && !no_color && format == Format::Text);
    let lines = match format {
        Format::Auto | Format::Text => {
            lines.with_target(level >= Level::Debug).map_fmt_fields(ShownFields).boxed()
        }
        Format::Json => lines.json().flatten_event(true).boxed(),
        Format::Journal => JournalLayer::new(journal::SOCKET)
            .map_err(|source| Error { source: Box::new(source) })?
            .boxed(),
    };
    let log = tracing_subscriber::registry().with(filter).with(lines);
    log.try_init().map_err(|source| Error { source: Box::new(source) })?;
    let set: SetLevel =
        Box::new(move |level| handle.reload(EnvFilter::new(level.directives())).is_ok());
    LEVEL.store(level as u8, Ordering::Relaxed);
    // A second initialisation was refused above.
    SET_LEVEL.set(set).unwrap_or(());
    Ok(())
}

type SetLevel = Box<dyn Fn(Level) -> bool + Send + Sync>;

/// Changes the level of the running log.
static SET_LEVEL: OnceLock<SetLevel> = OnceLock::new();
static LEVEL: AtomicU8 = AtomicU8::new(Level::Info as u8);

/// Changes the level from here on.
pub(crate) fn set_level(level: Level) -> Result<(), NotSet> {
    if SET_LEVEL.get().is_some_and(|set| set(level)) {
        LEVEL.store(level as u8, Ordering::Relaxed);
        return Ok(());
    }
    Err(NotSet)
}

pub(crate) fn level() -> Level {
    Level::ALL[usize::from(LEVEL.load(Ordering::Relaxed)).min(Level::ALL.len() - 1)]
}

/// The level of the log cannot be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the level of the log cannot be changed")]
pub(crate) struct NotSet;

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::scrub::REDACTED;
    use super::*;

    /// A writer that keeps its output.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Kept {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    fn logged(json: bool, log: impl FnOnce()) -> String {
        let kept = Kept::default();
        let writer = kept.clone();
        let builder = tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::new(Level::Info.directives()))
            .with_writer(Scrubber { inner: move || writer.clone(), is_json: json })
            .with_ansi(false);
        if json {
            tracing::subscriber::with_default(builder.json().finish(), log);
        } else {
            let builder = builder.map_fmt_fields(ShownFields);
            tracing::subscriber::with_default(builder.finish(), log);
        }
        kept.text()
    }

    #[test]
    fn registered_secret_is_replaced_in_any_field_and_format() {
        register_secret("s3cr\"et\\token\n");
        for json in [false, true] {
            let text = logged(json, || {
                tracing::info!(path = "a s3cr\"et\\token b", "said s3cr\"et\\token");
                tracing::info!(kind = ?"s3cr\"et\\token", "debug");
            });
            assert!(!text.contains("s3cr"), "{text}");
            assert_eq!(text.matches(REDACTED).count(), 3, "{text}");
        }
    }

    #[test]
    fn a_name_controls_no_terminal_and_begins_no_line() {
        let odd = "x\u{1b}[2J\u{9b}31m\u{202e}\n2026-01-01T00:00:00Z  INFO FORGED";
        for json in [false, true] {
            let text = logged(json, || {
                let span = tracing::info_span!("upload", destination = %odd);
                span.in_scope(|| tracing::info!(path = %odd, reason = odd, "said {odd}"));
            });
            assert_eq!(text.lines().count(), 1, "{text}");
            assert!(!text.trim_end().contains(crate::model::misleads), "{text:?}");
            // JSON has the span twice.
            assert_eq!(text.matches("FORGED").count(), if json { 5 } else { 4 }, "{text}");
        }
    }

    #[test]
    fn dependencies_are_silent_below_warnings_unless_trace_is_asked_for() {
        let text = logged(false, || {
            tracing::info!(target: "hyper::proto", "noise");
            tracing::warn!(target: "hyper::proto", "trouble");
            tracing::info!("ours");
            tracing::debug!("details");
        });
        assert!(text.contains("ours") && text.contains("trouble"), "{text}");
        assert!(!text.contains("noise") && !text.contains("details"), "{text}");
        assert_eq!(Level::Trace.directives(), "trace");
        assert_eq!(Level::Error.directives(), "error");
    }

    #[test]
    fn levels_are_read_back_and_others_refused() {
        for level in Level::ALL {
            assert_eq!(level.as_str().parse(), Ok(level));
        }
        let error = "loud".parse::<Level>().unwrap_err();
        assert!(error.to_string().starts_with("log level \"loud\" is not one of"));
    }
}
