//! The status line of `systemctl status`: activity, rate, and problems that need a person.
//!
//! It is built from the loop's memory, every few seconds and only while the loop runs. It names unreadable
//! drop directories, closed destinations and a refused configuration, so that no second command is needed for
//! these; the rest is in `dropferry status`. At a crash the supervisor drops the line.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::journal::Journal;
use crate::config::Config;
use crate::engine::Counts;
use crate::model::{ByteCount, DestinationState, Monotonic};

/// Interval of rebuilding the line during activity.
const INTERVAL: Duration = Duration::from_secs(10);
/// The rate covers the last minute: a part on a slow line takes about that long.
const RATE_OVER: Duration = Duration::from_mins(1);
/// Limit of names of one kind in the line; more are counted.
const NAMES_MAX: usize = 3;

/// State between two lines.
#[derive(Debug)]
pub(super) struct Headline {
    due: Monotonic,
    /// Bytes sent by time, over the last minute; the oldest first.
    sent: VecDeque<(Monotonic, ByteCount)>,
    /// The configuration on disk was refused, and an older one is in force.
    pub(super) is_refused: bool,
}

impl Headline {
    pub(super) fn new(now: Monotonic) -> Self {
        Self { due: now, sent: VecDeque::new(), is_refused: false }
    }

    pub(super) fn is_due(&self, now: Monotonic) -> bool {
        self.due <= now
    }

    pub(super) fn line(
        &mut self,
        now: Monotonic,
        counts: Counts,
        journal: &Journal,
        config: &Config,
    ) -> String {
        self.due = now.after(INTERVAL);
        let mut parts = vec![going(counts, config)];
        if let Some(rate) = self.rate(now, journal.sent).filter(|rate| rate.0 > 0) {
            parts.push(format!("{rate}/s"));
        }
        if counts.parked > 0 {
            parts.push(format!("{} parked", counts.parked));
        }
        parts.extend(troubles(journal, config));
        if self.is_refused {
            parts.push("the configuration on disk is refused, an older one is in force".into());
        }
        parts.join("; ")
    }

    /// Returns the accepted bytes per second, over the last minute.
    fn rate(&mut self, now: Monotonic, sent: ByteCount) -> Option<ByteCount> {
        // If the second oldest is older than a minute, the oldest is not needed.
        while self.sent.get(1).is_some_and(|(at, _)| now.since(*at) >= RATE_OVER) {
            self.sent.pop_front();
        }
        let first = self.sent.front().copied();
        self.sent.push_back((now, sent));
        let (at, before) = first?;
        let elapsed_ms = u64::try_from(now.since(at).as_millis()).ok().filter(|ms| *ms > 0)?;
        Some(ByteCount(sent.0.saturating_sub(before.0).saturating_mul(1000) / elapsed_ms))
    }
}

fn going(counts: Counts, config: &Config) -> String {
    match (config.drops.len(), counts.going, counts.settling) {
        (0, 0, _) => format!("no drop directory is configured in {}", config.path.display()),
        (_, 0, 0) => "nothing to send".into(),
        (_, going, 0) => format!("{going} to send"),
        (_, going, settling) => format!("{going} to send, {settling} not settled"),
    }
}

/// Configured names that do not work.
fn troubles(journal: &Journal, config: &Config) -> Vec<String> {
    let deaf = config.drops.iter().map(|drop| &drop.settings.name);
    let deaf: Vec<_> =
        deaf.filter(|name| journal.deaf.contains(name)).map(|n| n.as_str()).collect();
    let mut closed: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for target in &config.destinations {
        let state = journal.destinations.get(&target.name).map(|(state, _)| *state);
        if let Some(state) =
            state.filter(|state| !matches!(state, DestinationState::Ok | DestinationState::Unknown))
        {
            closed.entry(state.as_str()).or_default().push(target.name.as_str());
        }
    }
    if !deaf.is_empty() {
        closed.insert("deaf", deaf);
    }
    closed.into_iter().map(|(word, names)| format!("{word}: {}", listed(&names))).collect()
}

fn listed(names: &[&str]) -> String {
    match names.len().checked_sub(NAMES_MAX).filter(|more| *more > 0) {
        Some(more) => format!("{} and {more} more", names[..NAMES_MAX].join(", ")),
        None => names.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{DestinationName, DirectoryName};

    fn config(text: &str) -> Config {
        let environment = |name: &str| (name == "HOME").then(|| "/nowhere".to_owned());
        Config::parse(std::path::Path::new("/etc/dropferry/config.toml"), text, &environment)
            .expect("accepted")
    }

    fn at(seconds: u64) -> Monotonic {
        Monotonic(Duration::from_secs(seconds))
    }

    const IDLE: Counts = Counts { going: 0, parked: 0, settling: 0 };

    #[test]
    fn says_what_to_do_where_nothing_is_configured() {
        let mut headline = Headline::new(at(0));
        assert!(headline.is_due(at(0)));
        let line = headline.line(at(0), IDLE, &Journal::default(), &config(""));
        assert_eq!(line, "no drop directory is configured in /etc/dropferry/config.toml");
        assert!(!headline.is_due(at(9)) && headline.is_due(at(10)));
    }

    #[test]
    fn says_what_goes_how_fast_and_what_does_not() {
        let place = tempfile::tempdir().expect("a directory");
        let token = place.path().join("token");
        std::fs::write(&token, "t").expect("written");
        std::fs::create_dir(place.path().join("drop")).expect("made");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&token, mode).expect("set");
        let (place, token) = (place.path().display(), token.display());
        let config = config(&format!(
            "[destinations.hub]\nplatform = \"sevenbridges\"\nproject = \"a/b\"\n\
             base_url = \"http://127.0.0.1:1\"\ncredential = {{ file = \"{token}\" }}\n\
             [drops.novaseq]\ndirectory = \"{place}/drop\"\ndestinations = [\"hub\"]\n"
        ));
        let mut journal = Journal::default();
        let counts = Counts { going: 3, parked: 2, settling: 5 };
        let mut headline = Headline::new(at(0));
        headline.line(at(0), counts, &journal, &config);
        journal.sent = ByteCount(64 << 20);
        journal
            .deaf
            .extend([DirectoryName::new("novaseq"), DirectoryName::new("no longer configured")]);
        journal.destinations.insert(DestinationName::new("hub"), (DestinationState::Halted, None));
        headline.is_refused = true;
        let line = headline.line(at(64), counts, &journal, &config);
        assert_eq!(
            line,
            "3 to send, 5 not settled; 1 MiB/s; 2 parked; deaf: novaseq; halted: hub; \
             the configuration on disk is refused, an older one is in force"
        );
        headline.is_refused = false;
        let line = headline.line(at(200), IDLE, &Journal::default(), &config);
        assert_eq!(line, "nothing to send");
    }

    #[test]
    fn many_names_are_counted() {
        assert_eq!(listed(&["a", "b", "c"]), "a, b, c");
        assert_eq!(listed(&["a", "b", "c", "d", "e"]), "a, b, c and 2 more");
    }
}
