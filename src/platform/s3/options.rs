//! Header lines that some storages do not support, which are left out where they are refused; and
//! the list of an upload's parts, which some do not give.
//!
//! Owns these findings. A refusal that names a line concerns that line. One that names none is
//! tested, one line at a time, the likeliest first, on the refused request. A request that succeeds
//! without a line might have succeeded with it: only when two requests in a row, neither of which
//! succeeded with the line, succeed without it, is it left out permanently. A refusal for another
//! reason removes no line. *Never* repeats a request: the next attempt is the engine's.
//!
//! [`Options::news`] reports the removed lines, a row keeps them, and a start restores them.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::answers::S3Call;
use crate::model::{Failure, Learned};

/// After this many refusals in a row a list is not requested any more: one refusal may pass by itself.
const LISTS_REFUSED_MAX: u32 = 2;
/// Limit of requests under test; further ones continue unchanged.
const TRIALS_MAX: usize = 64;

/// The lines, the likeliest to be unsupported first. A condition is left out only of writes.
pub(super) const OPTIONS: [(Learned, &str); 5] = [
    (Learned::NoObjectSize, "x-amz-mp-object-size"),
    (Learned::NoConditions, "if-none-match"),
    (Learned::NoTags, "x-amz-tagging"),
    (Learned::NoContentMd5, "content-md5"),
    (Learned::NoConditions, "if-match"),
];

#[derive(Debug, Default)]
pub(super) struct Options(Mutex<OptionState>);

#[derive(Debug, Default)]
struct OptionState {
    left_out: Vec<Learned>,
    /// With the storage's answers; not reported yet.
    news: Vec<(Learned, String)>,
    /// The line without which the last tested request succeeded.
    suspect: Option<Learned>,
    /// How often the list of an upload's parts was refused since the last success.
    lists_refused: u32,
    /// By object and call.
    trials: BTreeMap<(String, S3Call), OptionTrial>,
}

#[derive(Debug)]
struct OptionTrial {
    /// The line left out of the next attempt.
    without: Learned,
    /// The storage's answer to the attempt with it.
    said: String,
    /// Lines that were not the reason.
    cleared: Vec<Learned>,
}

/// A request and its answer.
#[derive(Debug)]
pub(super) struct Attempted<'a> {
    pub(super) call: S3Call,
    pub(super) key: &'a str,
    pub(super) headers: &'a [(String, String)],
    /// The refusal's message, where it was refused.
    pub(super) refusal: Option<&'a str>,
    /// It was refused as an invalid request.
    pub(super) is_of_lines: bool,
    /// The refusal says that something is not supported.
    pub(super) is_of_the_unknown: bool,
}

impl Options {
    fn lock(&self) -> MutexGuard<'_, OptionState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves a line out, as found in an earlier run.
    pub(super) fn leave_out(&self, what: Learned) {
        let mut state = self.lock();
        let is_option = matches!(what, Learned::NoPartLists | Learned::NoETags)
            || OPTIONS.iter().any(|(option, _)| *option == what);
        if is_option && !state.left_out.contains(&what) {
            state.left_out.push(what);
        }
    }

    pub(super) fn left_out(&self) -> Vec<Learned> {
        self.lock().left_out.clone()
    }

    /// Applies the answer to a list of an upload's parts, with its refusal.
    pub(super) fn judge_list(&self, refusal: Option<&str>) {
        let mut state = self.lock();
        state.lists_refused = refusal.map_or(0, |_| state.lists_refused + 1);
        if let Some(said) = refusal.filter(|_| state.lists_refused >= LISTS_REFUSED_MAX) {
            state.found(Learned::NoPartLists, said.to_owned());
        }
    }

    /// An answer to received bytes had no ETag.
    pub(super) fn learn_no_etags(&self, failure: &Failure) {
        self.lock().found(Learned::NoETags, failure.message.clone());
    }

    /// Returns the new findings.
    pub(super) fn news(&self) -> Vec<(Learned, String)> {
        std::mem::take(&mut self.lock().news)
    }

    /// Removes the lines that are left out of a request.
    pub(super) fn without(&self, call: S3Call, key: &str, headers: &mut Vec<(String, String)>) {
        let state = self.lock();
        let has_none = state.left_out.is_empty() && state.trials.is_empty();
        if has_none || call == S3Call::Get {
            return;
        }
        let trial = state.trials.get(&(key.to_owned(), call)).map(|trial| trial.without);
        let is_out = |what: Learned| trial == Some(what) || state.left_out.contains(&what);
        headers.retain(|(name, _)| {
            let option = OPTIONS.iter().find(|(_, line)| line == name);
            option.is_none_or(|(what, _)| !is_out(*what))
        });
    }

    /// Applies an answer. Returns whether the next attempt differs from this one.
    pub(super) fn judge(&self, judged: &Attempted<'_>) -> bool {
        let carried = || {
            let has = |line: &str| judged.headers.iter().any(|(name, _)| name == line);
            OPTIONS.into_iter().filter(move |(_, line)| has(line))
        };
        let mut state = self.lock();
        let is_open = !state.trials.is_empty() || state.suspect.is_some();
        if !(is_open || judged.is_of_lines) || judged.call == S3Call::Get {
            return false;
        }
        let key = (judged.key.to_owned(), judged.call);
        let Some(said) = judged.refusal else {
            let trial = state.trials.remove(&key);
            let passed = trial.filter(|trial| carried().all(|(what, _)| what != trial.without));
            if let Some(trial) = passed {
                state.suspected(trial);
            } else if carried().any(|(what, _)| state.suspect == Some(what)) {
                state.suspect = None;
            }
            return false;
        };
        if !judged.is_of_lines {
            // Throttled or unreachable: this says nothing about the lines, and the trial continues.
            return false;
        }
        let lower = said.to_ascii_lowercase();
        if let Some((what, _)) = carried().find(|(_, line)| lower.contains(line)) {
            state.trials.remove(&key);
            state.found(what, said.to_owned());
            return true;
        }
        if !judged.is_of_the_unknown {
            state.trials.remove(&key);
            return false;
        }
        let cleared = match state.trials.remove(&key) {
            // It was in flight before the trial.
            Some(trial) if carried().any(|(what, _)| what == trial.without) => {
                state.trials.insert(key, trial);
                return true;
            }
            Some(trial) => [trial.cleared, vec![trial.without]].concat(),
            None => Vec::new(),
        };
        let next = carried().find(|(what, _)| !cleared.contains(what));
        match next {
            Some((without, _)) if state.trials.len() < TRIALS_MAX => {
                let trial = OptionTrial { without, said: said.to_owned(), cleared };
                state.trials.insert(key, trial);
                true
            }
            Some(_) | None => false,
        }
    }
}

impl OptionState {
    /// A request succeeded without a line.
    fn suspected(&mut self, trial: OptionTrial) {
        if self.suspect.replace(trial.without) == Some(trial.without) {
            self.suspect = None;
            self.found(trial.without, trial.said);
        }
    }

    fn found(&mut self, what: Learned, said: String) {
        if !self.left_out.contains(&what) {
            self.left_out.push(what);
            self.news.push((what, said));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [&str; 3] = ["if-none-match", "x-amz-tagging", "content-md5"];

    /// Sends a request up to this often to a storage that refuses an unsupported line with a
    /// message, and returns the number of attempts until it succeeded.
    fn attempts(
        options: &Options,
        key: &str,
        refuses: impl Fn(&[(String, String)]) -> Option<String>,
    ) -> Option<usize> {
        (1..=6).find(|_| {
            let line = |name: &&str| ((*name).to_owned(), "x".to_owned());
            let mut headers: Vec<_> = ALL.iter().map(line).collect();
            options.without(S3Call::PutObject, key, &mut headers);
            let said = refuses(&headers);
            options.judge(&Attempted {
                call: S3Call::PutObject,
                key,
                headers: &headers,
                refusal: said.as_deref(),
                is_of_lines: said.is_some(),
                is_of_the_unknown: said.as_ref().is_some_and(|said| said.contains("Not")),
            });
            said.is_none()
        })
    }

    fn has(headers: &[(String, String)], name: &str) -> bool {
        headers.iter().any(|(found, _)| found == name)
    }

    #[test]
    fn a_line_that_is_named_is_left_out_at_once_and_for_all() {
        let options = Options::default();
        let refuses = |headers: &[(String, String)]| {
            has(headers, "x-amz-tagging").then(|| "Unsupported header 'X-Amz-Tagging'".to_owned())
        };
        assert_eq!(attempts(&options, "a", refuses), Some(2));
        assert_eq!(attempts(&options, "b", refuses), Some(1));
        assert_eq!(options.left_out(), [Learned::NoTags]);
        let news = options.news();
        assert_eq!((news.len(), news[0].0), (1, Learned::NoTags));
        assert!(options.news().is_empty(), "it is told once");
    }

    #[test]
    fn a_refusal_that_names_no_line_is_tried_out_and_costs_only_the_one_that_it_was() {
        for guilty in ALL {
            let options = Options::default();
            let refuses = |headers: &[(String, String)]| {
                has(headers, guilty).then(|| "NotImplemented".to_owned())
            };
            assert!(attempts(&options, "a", refuses).is_some(), "{guilty}");
            assert!(options.left_out().is_empty(), "one request alone proves nothing");
            assert!(attempts(&options, "b", refuses).is_some(), "{guilty}");
            assert_eq!(attempts(&options, "c", refuses), Some(1), "{guilty}");
            let line =
                |what: &Learned| OPTIONS.iter().find(|(found, _)| found == what).expect("one").1;
            assert_eq!(options.left_out().iter().map(line).collect::<Vec<_>>(), [guilty]);
        }
    }

    #[test]
    fn a_refusal_for_another_reason_costs_no_line_also_while_others_pass() {
        let options = Options::default();
        let bad = |key: &str| attempts(&options, key, |_| Some("NotImplemented".to_owned()));
        assert_eq!(bad("odd"), None);
        assert_eq!(attempts(&options, "good", |_| None), Some(1));
        assert_eq!(attempts(&options, "odd", |_| Some("AccessDenied".to_owned())), None);
        assert!(options.left_out().is_empty());
        assert_eq!(options.lock().trials.len(), 0);
    }

    #[test]
    fn a_refusal_that_passes_by_itself_costs_no_line_however_often_it_comes() {
        let options = Options::default();
        for round in 0..20 {
            let count = std::cell::Cell::new(0);
            let refuses = |_: &[(String, String)]| {
                let is_first = count.replace(count.get() + 1) == 0;
                is_first.then(|| "NotImplemented".to_owned())
            };
            assert_eq!(attempts(&options, &format!("odd {round}"), refuses), Some(2));
            assert_eq!(attempts(&options, &format!("good {round}"), |_| None), Some(1));
        }
        assert!(options.left_out().is_empty() && options.news().is_empty());
    }

    #[test]
    fn what_an_earlier_run_found_is_left_out_from_the_start() {
        let options = Options::default();
        options.leave_out(Learned::NoConditions);
        options.leave_out(Learned::ETagsAreMd5s);
        let refuses = |headers: &[(String, String)]| {
            has(headers, "if-none-match").then(|| "NotImplemented".to_owned())
        };
        assert_eq!(attempts(&options, "a", refuses), Some(1));
        assert_eq!(options.left_out(), [Learned::NoConditions]);
        assert!(options.news().is_empty());
    }
}
