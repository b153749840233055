//! The log: where it goes, how it looks, which field names it uses, and what never reaches it.
//!
//! Owns the subscriber of the process and the scrubber before it. Everything is written to standard
//! error, as text or as one JSON object a line. Text has colours only on a terminal, and not when
//! `NO_COLOR` is set. What dependencies have to say appears from `warn` on, unless `trace` is asked
//! for.
//!
//! It promises that no registered secret and no value of a signed query string leaves the process
//! by the log: every line is read once more before it is written, whatever field or message it came
//! from. That is the last line of defence; types that print as `[redacted]` are the first.
//!
//! Whoever reads a secret registers it with [`register_secret`] before using it. Secrets stay
//! registered when they are replaced: an old token is still a token.
//!
//! At a crash the log ends with the last line written; nothing is buffered. `main` calls [`init`]
//! once; everybody else uses `tracing` with the names in [`field`].

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};
use std::str::FromStr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{OnceLock, PoisonError, RwLock};

use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, reload};

/// The names of fields. No event or span uses any other.
pub mod field {
    /// The upload's id.
    pub const UPLOAD_ID: &str = "upload_id";
    /// The configured destination.
    pub const DESTINATION: &str = "destination";
    /// The vendor's API.
    pub const PLATFORM: &str = "platform";
    /// A path relative to its drop directory, or the drop directory.
    pub const PATH: &str = "path";
    /// A part's number.
    pub const PART: &str = "part";
    /// How many parts.
    pub const PART_COUNT: &str = "part_count";
    /// How many bytes.
    pub const BYTES: &str = "bytes";
    /// How many times it was tried.
    pub const ATTEMPT: &str = "attempt";
    /// When it is tried again, RFC 3339 UTC.
    pub const RETRY_AT: &str = "retry_at";
    /// A failure's kind.
    pub const KIND: &str = "kind";
    /// HTTP status.
    pub const STATUS: &str = "status";
    /// The platform's id of a request.
    pub const REQUEST_ID: &str = "request_id";
    /// How long it took.
    pub const ELAPSED_MS: &str = "elapsed_ms";

    /// All of them.
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

/// Shorter texts are not registered: replacing them would garble the log and hide nothing.
const SECRET_BYTES_MIN: usize = 6;

/// What stands in place of a secret.
const REDACTED: &str = "[redacted]";

/// Names, in lower case, after which a value is a secret, whoever put it there.
const SECRET_MARKS: [&str; 12] = [
    "x-amz-signature=",
    "x-amz-credential=",
    "x-amz-security-token=",
    "x-goog-signature=",
    "x-goog-credential=",
    "awsaccesskeyid=",
    "credential=",
    "signature=",
    "sig=",
    "token=",
    "bearer ",
    "x-sbg-auth-token: ",
];

/// The registered secrets, the longest first: a secret inside a longer one must not split it.
static SECRETS: RwLock<Vec<String>> = RwLock::new(Vec::new());

/// How the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line, for collectors.
    Json,
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Level {
    /// A person must act.
    Error,
    /// Degraded, going on.
    Warn,
    /// One line for each change of state.
    #[default]
    Info,
    /// Parts and attempts.
    Debug,
    /// The shape of what goes over the wire, and what dependencies say.
    Trace,
}

impl Level {
    /// Every level, from few lines to many.
    pub const ALL: [Self; 5] = [Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace];

    /// Returns the word used on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }

    /// Returns what is let through: of dependencies no more than warnings, unless all is asked for.
    fn directives(self) -> String {
        match self {
            Self::Error => "error".to_owned(),
            Self::Trace => "trace".to_owned(),
            Self::Warn | Self::Info | Self::Debug => format!("warn,dropferry={}", self.as_str()),
        }
    }
}

/// A word that is no level.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("log level \"{0}\" is not one of error, warn, info, debug, trace")]
pub struct UnknownLevel(String);

impl FromStr for Level {
    type Err = UnknownLevel;

    fn from_str(word: &str) -> Result<Self, UnknownLevel> {
        let found = Self::ALL.into_iter().find(|level| level.as_str() == word);
        found.ok_or_else(|| UnknownLevel(word.to_owned()))
    }
}

/// Why the log could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("the log is set up twice")]
pub struct Error {
    /// What the subscriber said.
    #[source]
    source: Box<dyn std::error::Error + Send + Sync>,
}

/// Sends the log of this process to standard error.
///
/// # Errors
/// When it was called before.
pub fn init(format: Format, level: Level) -> Result<(), Error> {
    let terminal = io::stderr().is_terminal();
    // By the convention of no-color.org an empty value does not count.
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let (filter, handle) = reload::Layer::new(EnvFilter::new(level.directives()));
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(Scrubber(io::stderr))
        .with_ansi(terminal && !no_color && format == Format::Text);
    let lines = match format {
        Format::Text => lines.with_target(level >= Level::Debug).boxed(),
        Format::Json => lines.json().flatten_event(true).boxed(),
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
/// The level in force.
static LEVEL: AtomicU8 = AtomicU8::new(Level::Info as u8);

/// Changes which lines are written from here on.
///
/// # Errors
/// When there is no log, or it cannot be changed.
pub fn set_level(level: Level) -> Result<(), NotSet> {
    if SET_LEVEL.get().is_some_and(|set| set(level)) {
        LEVEL.store(level as u8, Ordering::Relaxed);
        return Ok(());
    }
    Err(NotSet)
}

/// Returns the level in force.
pub fn level() -> Level {
    Level::ALL[usize::from(LEVEL.load(Ordering::Relaxed)).min(Level::ALL.len() - 1)]
}

/// The level of the log cannot be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the level of the log cannot be changed")]
pub struct NotSet;

/// Sees to it that `secret` never appears in the log, also as JSON and `Debug` escape it.
/// Texts of less than six bytes are not taken.
pub fn register_secret(secret: &str) {
    let secret = secret.trim();
    if secret.len() < SECRET_BYTES_MIN {
        return;
    }
    let debug = unquoted(format!("{secret:?}"));
    let forms = [json_escaped(secret), json_escaped(&debug), debug, secret.to_owned()];
    let mut secrets = SECRETS.write().unwrap_or_else(PoisonError::into_inner);
    for form in forms {
        if !secrets.contains(&form) {
            secrets.push(form);
        }
    }
    secrets.sort_by_key(|form| std::cmp::Reverse(form.len()));
}

fn json_escaped(text: &str) -> String {
    unquoted(serde_json::Value::from(text).to_string())
}

/// Takes the quotation marks off both ends.
fn unquoted(mut text: String) -> String {
    text.pop();
    text.split_off(1)
}

/// Replaces every registered secret and every value of a signed query string by `[redacted]`.
///
/// The log goes through it by itself; error texts for other channels may be passed here.
pub fn scrub(text: &str) -> Cow<'_, str> {
    let mut text = Cow::Borrowed(text);
    let secrets = SECRETS.read().unwrap_or_else(PoisonError::into_inner);
    for secret in secrets.iter() {
        if text.contains(secret.as_str()) {
            text = Cow::Owned(text.replace(secret.as_str(), REDACTED));
        }
    }
    match scrub_marked(&text) {
        Some(scrubbed) => Cow::Owned(scrubbed),
        None => text,
    }
}

/// Replaces the values after [`SECRET_MARKS`]; `None` when there is none.
fn scrub_marked(text: &str) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    let mut scrubbed = String::new();
    let mut done = 0;
    while let Some((start, end)) = next_marked(&lower, done) {
        scrubbed.push_str(&text[done..start]);
        scrubbed.push_str(REDACTED);
        done = end;
    }
    scrubbed.push_str(&text[done..]);
    (done > 0).then_some(scrubbed)
}

/// Finds the first value after a mark at or behind `from` in lower-case text.
fn next_marked(lower: &str, mut from: usize) -> Option<(usize, usize)> {
    loop {
        let start = from + first_value(&lower[from..])?;
        let length = lower[start..].find(ends_a_value).unwrap_or(lower.len() - start);
        if length > 0 && !lower[start..].starts_with(REDACTED) {
            return Some((start, start + length));
        }
        from = start;
    }
}

/// Returns where the first value after a mark begins.
fn first_value(lower: &str) -> Option<usize> {
    let after = |mark: &&str| {
        let mut found = lower.match_indices(*mark).map(|(at, _)| at);
        found.find(|at| begins_a_word(lower, *at)).map(|at| at + mark.len())
    };
    SECRET_MARKS.iter().filter_map(after).min()
}

/// Tells whether a name begins here, and is not the end of a longer one such as `design=`.
fn begins_a_word(text: &str, at: usize) -> bool {
    !text[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '-')
}

fn ends_a_value(c: char) -> bool {
    c.is_whitespace()
        || c.is_control()
        || matches!(c, '&' | '"' | '\'' | '<' | '>' | ')' | ',' | '\\')
}

/// Makes writers that scrub what passes.
#[derive(Debug)]
struct Scrubber<M>(M);

impl<'a, M: MakeWriter<'a>> MakeWriter<'a> for Scrubber<M> {
    type Writer = ScrubbingWriter<M::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        ScrubbingWriter(self.0.make_writer())
    }
}

/// Scrubs each write by itself: the subscriber writes an event at once.
#[derive(Debug)]
struct ScrubbingWriter<W>(W);

impl<W: Write> Write for ScrubbingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(scrub(&String::from_utf8_lossy(bytes)).as_bytes())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// A place that keeps what was written.
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
            .with_writer(Scrubber(move || writer.clone()))
            .with_ansi(false);
        if json {
            tracing::subscriber::with_default(builder.json().finish(), log);
        } else {
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
    fn signed_queries_are_replaced_and_the_rest_is_kept() {
        let cases = [
            (
                "PUT https://h/o?partNumber=3&X-Amz-Signature=abc123&x=1 failed",
                "PUT https://h/o?partNumber=3&X-Amz-Signature=[redacted]&x=1 failed",
            ),
            ("u?Signature=a%2Fb&Signature=c", "u?Signature=[redacted]&Signature=[redacted]"),
            ("{\"u\":\"h?sig=zzz\",\"n\":1}", "{\"u\":\"h?sig=[redacted]\",\"n\":1}"),
            ("authorization: Bearer abc.def", "authorization: Bearer [redacted]"),
            (
                "AWS4-HMAC-SHA256 Credential=AKIA/x/aws4_request, SignedHeaders=host, Signature=ab",
                "AWS4-HMAC-SHA256 Credential=[redacted], SignedHeaders=host, Signature=[redacted]",
            ),
            ("design=good sig= end", "design=good sig= end"),
            ("token=[redacted] sig=x", "token=[redacted] sig=[redacted]"),
            ("ümlaut sig=ü&ß", "ümlaut sig=[redacted]&ß"),
            ("nothing here", "nothing here"),
        ];
        for (said, written) in cases {
            assert_eq!(scrub(said), written);
        }
    }

    #[test]
    fn longer_secret_is_replaced_whole_and_short_ones_not_at_all() {
        register_secret("abcdef-inner");
        register_secret("abcdef-inner-outer");
        register_secret("tiny");
        assert_eq!(scrub("x abcdef-inner-outer tiny"), "x [redacted] tiny");
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
