//! Faults of the sandbox, on request: rules for single calls, switches for general behaviour.
//!
//! A rule names an operation, which of its calls, and whether the fault comes before the work or
//! after it. The expensive bugs are after: the platform did it, the answer was lost.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{basespace, gjirafa_vp, s3, sevenbridges};

/// One fault.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// `initialise`, `list`, `details`, `part-url`, `put`, `report`, `report-many`, `complete`,
    /// `abort`, `find`, `file`, `folder`, `metadata`, `tags`, `user`, `project`, or `any`.
    pub operation: String,
    /// From which matching call on, counted from 1.
    #[serde(default = "one")]
    pub nth: u64,
    /// How often; 0 means always.
    #[serde(default = "one")]
    pub times: u64,
    /// Only calls about an object whose key has this suffix; only at S3.
    #[serde(default)]
    pub key: String,
    /// One in this many of the calls from `nth` on.
    #[serde(default = "one")]
    pub every: u64,
    /// Of these, those that are drawn at random.
    #[serde(default)]
    pub chance: Option<Chance>,
    /// Before or after the work.
    #[serde(default)]
    pub when: When,
    pub action: Action,
}

fn one() -> u64 {
    1
}

/// Draws calls at random, with the same result each time.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chance {
    /// This many of a thousand.
    pub per_mille: u64,
    pub seed: u64,
}

impl Chance {
    /// Spreads the number of a call by the finaliser of splitmix64.
    fn draws(self, call: u64) -> bool {
        let mut z = self.seed ^ call.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % 1000 < self.per_mille
    }
}

/// Before or after the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum When {
    /// The work is not done.
    #[default]
    Before,
    /// The work is done, its answer is replaced.
    After,
}

/// The fault to inject.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Close the connection without an answer.
    Reset,
    /// Answer with this status, body and headers.
    Answer {
        status: u16,
        #[serde(default)]
        body: serde_json::Value,
        #[serde(default)]
        headers: BTreeMap<String, String>,
    },
    /// Answer with a web page.
    Html(u16),
    /// Wait this many milliseconds, then continue.
    Stall(u64),
    /// Truncate the answer's body to half.
    Truncate,
    /// Answer a part with another ETag than its MD5.
    WrongEtag,
    /// Store a part or a file with a wrong byte, each time another one. The digest sent with it is
    /// compared before.
    Corrupt,
}

/// Rules, with how often each has matched and applied.
#[derive(Debug)]
pub(super) struct Rules(Vec<(Rule, u64, u64)>);

impl Rules {
    pub(super) fn new(rules: Vec<Rule>) -> Self {
        Self(rules.into_iter().map(|rule| (rule, 0, 0)).collect())
    }

    /// Counts one call about `key` and returns the faults that apply to it, before and after.
    pub(super) fn take(&mut self, operation: &str, key: &str) -> (Option<Action>, Option<Action>) {
        let (mut before, mut after) = (None, None);
        for (rule, matched, applied) in &mut self.0 {
            let is_meant = rule.operation == operation || rule.operation == "any";
            if !is_meant || !key.ends_with(&rule.key) {
                continue;
            }
            *matched += 1;
            let due =
                *matched >= rule.nth && (*matched - rule.nth).is_multiple_of(rule.every.max(1));
            let is_drawn = rule.chance.is_none_or(|chance| chance.draws(*matched));
            if !due || !is_drawn || (rule.times > 0 && *applied >= rule.times) {
                continue;
            }
            *applied += 1;
            let side = if rule.when == When::Before { &mut before } else { &mut after };
            side.get_or_insert_with(|| rule.action.clone());
        }
        (before, after)
    }
}

/// Deviations where the platforms' documentation leaves the behaviour open.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Switches {
    /// Every connection is closed without an answer.
    pub down: bool,
    /// 503 with code 0 everywhere.
    pub maintenance: bool,
    /// The token is refused.
    pub token_revoked: bool,
    /// The part size, whatever is wished.
    pub part_size: Option<u64>,
    /// `md5`, `none`, `kms` (32 digits that are not the MD5, with the header that explains it), `salted`
    /// (such digits without the header) or `unlike` (other digits each time, without the header).
    pub storage_etag: String,
    /// Lifetime of a signed address, in seconds.
    pub url_life: u64,
    /// Lifetime of an unfinished upload, in seconds.
    pub upload_life: u64,
    pub sevenbridges: sevenbridges::Switches,
    pub basespace: basespace::Switches,
    /// For Gjirafa VP only.
    pub gjirafa_vp: gjirafa_vp::Switches,
    /// For S3 only.
    pub s3: s3::Switches,
}

impl Default for Switches {
    fn default() -> Self {
        Self {
            down: false,
            maintenance: false,
            token_revoked: false,
            part_size: None,
            storage_etag: "md5".into(),
            url_life: 12 * 3600,
            upload_life: 7 * 24 * 3600,
            sevenbridges: sevenbridges::Switches::default(),
            basespace: basespace::Switches::default(),
            gjirafa_vp: gjirafa_vp::Switches::default(),
            s3: s3::Switches::default(),
        }
    }
}
