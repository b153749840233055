//! The content of a profile's file, as `serde` reads it. `docs/profiles.md` documents every key.

use serde::Deserialize;
use toml::Spanned;

type TextKey = Option<Spanned<String>>;
pub(super) type PatternKeys = Vec<Spanned<String>>;

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ProfileKeys {
    pub(super) based_on: TextKey,
    pub(super) description: Option<String>,
    pub(super) runs: Option<PatternKeys>,
    pub(super) above: Option<PatternKeys>,
    pub(super) notify_above: Option<bool>,
    pub(super) quiet_periods: Option<Spanned<i64>>,
    pub(super) stale_after: TextKey,
    pub(super) first: Option<PatternKeys>,
    pub(super) held: Option<PatternKeys>,
    pub(super) written_once: Option<PatternKeys>,
    pub(super) never_empty: Option<PatternKeys>,
    pub(super) left_out: Option<PatternKeys>,
    pub(super) identified_by: Option<PatternKeys>,
    pub(super) closes: Option<Vec<Spanned<Closes>>>,
    pub(super) waves: Option<Vec<Spanned<Wave>>>,
    pub(super) skip_when: Option<Vec<Spanned<SkipWhen>>>,
    pub(super) words: WordKeys<Vec<Spanned<OriginKeys>>>,
    pub(super) samples: Option<Vec<Spanned<Samples>>>,
    pub(super) outcome: Option<Vec<Spanned<OutcomeKeys>>>,
    pub(super) manifest: Option<Vec<Spanned<Manifest>>>,
}

impl ProfileKeys {
    /// Fills missing values from `base`.
    pub(super) fn or(self, base: Self) -> Self {
        Self {
            based_on: self.based_on,
            description: self.description.or(base.description),
            runs: self.runs.or(base.runs),
            above: self.above.or(base.above),
            notify_above: self.notify_above.or(base.notify_above),
            quiet_periods: self.quiet_periods.or(base.quiet_periods),
            stale_after: self.stale_after.or(base.stale_after),
            first: self.first.or(base.first),
            held: self.held.or(base.held),
            written_once: self.written_once.or(base.written_once),
            never_empty: self.never_empty.or(base.never_empty),
            left_out: self.left_out.or(base.left_out),
            identified_by: self.identified_by.or(base.identified_by),
            closes: self.closes.or(base.closes),
            waves: self.waves.or(base.waves),
            skip_when: self.skip_when.or(base.skip_when),
            words: self.words.or(base.words),
            samples: self.samples.or(base.samples),
            outcome: self.outcome.or(base.outcome),
            manifest: self.manifest.or(base.manifest),
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default, bound = "T: Deserialize<'de> + Default")]
pub(super) struct WordKeys<T> {
    pub(super) run_id: Option<T>,
    pub(super) instrument: Option<T>,
    pub(super) flowcell: Option<T>,
    pub(super) date: Option<T>,
    pub(super) sample: Option<T>,
}

impl<T> WordKeys<T> {
    fn or(self, base: Self) -> Self {
        Self {
            run_id: self.run_id.or(base.run_id),
            instrument: self.instrument.or(base.instrument),
            flowcell: self.flowcell.or(base.flowcell),
            date: self.date.or(base.date),
            sample: self.sample.or(base.sample),
        }
    }

    /// Returns the given values, with the names of their words.
    pub(super) fn given(&self) -> impl Iterator<Item = (&'static str, &T)> {
        let all = [
            ("run_id", &self.run_id),
            ("instrument", &self.instrument),
            ("flowcell", &self.flowcell),
            ("date", &self.date),
            ("sample", &self.sample),
        ];
        all.into_iter().filter_map(|(word, given)| Some((word, given.as_ref()?)))
    }
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Closes {
    pub(super) when: WordKeys<PatternKeys>,
    pub(super) any_of: Vec<PatternKeys>,
    pub(super) sooner_with: PatternKeys,
    pub(super) patience: Option<Spanned<i64>>,
    pub(super) note: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Wave {
    pub(super) below: TextKey,
    pub(super) ends: PatternKeys,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct SkipWhen {
    pub(super) file: TextKey,
    pub(super) xml: TextKey,
    pub(super) json: TextKey,
    pub(super) key: TextKey,
    pub(super) is: PatternKeys,
    pub(super) lacks: PatternKeys,
    pub(super) reason: String,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct OriginKeys {
    pub(super) file: TextKey,
    pub(super) xml: TextKey,
    pub(super) json: TextKey,
    pub(super) key: TextKey,
    pub(super) name: TextKey,
    pub(super) path: TextKey,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Samples {
    pub(super) file: TextKey,
    pub(super) sections: Vec<String>,
    pub(super) columns: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct OutcomeKeys {
    pub(super) file: TextKey,
    pub(super) xml: TextKey,
    pub(super) json: TextKey,
    pub(super) key: TextKey,
    pub(super) success: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Manifest {
    pub(super) file: TextKey,
    pub(super) separator: TextKey,
    pub(super) column: Option<Spanned<ColumnKeys>>,
    pub(super) paths: TextKey,
}

/// A column's number, counted from 1, or its name in the first line.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub(super) enum ColumnKeys {
    Number(i64),
    Name(String),
}
