//! What stands in the file, as `serde` reads it. Every key of the contract is here, also those whose
//! work this version does not do: `resolve` refuses them with a reason.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

use super::many::Many;

type Text = Option<Spanned<String>>;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    pub(super) state: State,
    pub(super) control: Control,
    pub(super) web: Web,
    pub(super) transfer: Transfer,
    pub(super) retry: Retry,
    pub(super) network: Network,
    pub(super) destinations: BTreeMap<String, Spanned<Destination>>,
    pub(super) drops: BTreeMap<String, Spanned<Drop>>,
    pub(super) notify: Notify,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Notify {
    pub(super) command: Option<Spanned<Many<Command>>>,
    pub(super) webhook: Option<Spanned<Many<Webhook>>>,
    pub(super) mail: Option<Spanned<Many<Mail>>>,
    pub(super) heartbeat: Option<Spanned<Many<Heartbeat>>>,
    pub(super) unreachable_after: Text,
    pub(super) disk_free_min: Text,
}

pub(super) type Words = Option<Spanned<Vec<Spanned<String>>>>;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Command {
    pub(super) name: Text,
    pub(super) run: Vec<Spanned<String>>,
    pub(super) on: Words,
    pub(super) per_hour: Option<Spanned<i64>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Webhook {
    pub(super) name: Text,
    pub(super) url_file: Text,
    pub(super) secret_file: Text,
    pub(super) format: Text,
    pub(super) on: Words,
    pub(super) per_hour: Option<Spanned<i64>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Mail {
    pub(super) name: Text,
    pub(super) to: Vec<Spanned<String>>,
    pub(super) from: Text,
    pub(super) smtp: Text,
    pub(super) tls: Text,
    pub(super) user: Text,
    pub(super) credential: Option<Spanned<Credential>>,
    pub(super) on: Words,
    pub(super) per_hour: Option<Spanned<i64>>,
    pub(super) digest: Text,
    pub(super) digest_hour: Option<Spanned<i64>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Heartbeat {
    pub(super) url_file: Text,
    pub(super) every: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct State {
    pub(super) directory: Text,
    pub(super) keep_parts: Text,
    pub(super) backup_interval: Text,
    pub(super) backups_kept: Option<Spanned<i64>>,
    pub(super) check_interval: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Control {
    pub(super) socket: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Web {
    pub(super) listen: Text,
    pub(super) hosts: Vec<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Transfer {
    pub(super) parts_in_flight: Option<Spanned<Count>>,
    pub(super) part_size: Text,
    pub(super) memory: Text,
    pub(super) bandwidth: Text,
    pub(super) timetable: Vec<Spanned<Period>>,
}

/// One period of the timetable.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Period {
    pub(super) days: Option<Spanned<Vec<Spanned<String>>>>,
    pub(super) from: Text,
    pub(super) until: Text,
    pub(super) bandwidth: Text,
}

/// One text, or a list of them.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Texts {
    One(String),
    All(Vec<String>),
}

/// A number, or `"auto"`.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Count {
    Number(i64),
    Word(String),
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Retry {
    pub(super) delay_min: Text,
    pub(super) delay_max: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Network {
    pub(super) proxy: Text,
    pub(super) ca_file: Text,
    pub(super) inactivity_timeout: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Destination {
    pub(super) platform: Text,
    pub(super) base_url: Text,
    pub(super) credential: Option<Spanned<Credential>>,
    pub(super) project: Text,
    pub(super) folder: Text,
    pub(super) when_name_taken: Text,
    pub(super) same_as: Option<Spanned<Texts>>,
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) tags: Vec<String>,
    pub(super) calls_per_second: Option<Spanned<f64>>,
    pub(super) part_size_min: Text,
    pub(super) export: Option<Spanned<Export>>,
    pub(super) app_result: Text,
    pub(super) auth_header: Text,
    pub(super) auth_prefix: Text,
    pub(super) region: Text,
    pub(super) path_style: Option<Spanned<bool>>,
    pub(super) bucket: Text,
    pub(super) prefix: Text,
    pub(super) encryption: Text,
    pub(super) kms_key_id: Text,
    pub(super) customer_key_file: Text,
}

impl Destination {
    /// Returns the keys that are given and not for every platform, with their places.
    pub(super) fn given(&self) -> Vec<(&'static str, std::ops::Range<usize>)> {
        let texts = [
            ("project", &self.project),
            ("folder", &self.folder),
            ("app_result", &self.app_result),
            ("auth_header", &self.auth_header),
            ("auth_prefix", &self.auth_prefix),
            ("region", &self.region),
            ("bucket", &self.bucket),
            ("prefix", &self.prefix),
            ("encryption", &self.encryption),
            ("kms_key_id", &self.kms_key_id),
            ("customer_key_file", &self.customer_key_file),
        ];
        let texts =
            texts.into_iter().filter_map(|(key, value)| Some((key, value.as_ref()?.span())));
        let flag = self.path_style.as_ref().map(|value| ("path_style", value.span()));
        let table = self.export.as_ref().map(|value| ("export", value.span()));
        texts.chain(flag).chain(table).collect()
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Export {
    pub(super) volume: Text,
    pub(super) prefix: Text,
    pub(super) copy_only: Option<bool>,
    pub(super) overwrite: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Credential {
    pub(super) file: Text,
    pub(super) systemd: Text,
    pub(super) profile: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Drop {
    pub(super) directory: Text,
    pub(super) destinations: Vec<Spanned<String>>,
    pub(super) unit: Text,
    pub(super) profile: Text,
    pub(super) start: Text,
    pub(super) quiet_period: Text,
    pub(super) scan_interval: Text,
    pub(super) include: Option<Vec<Spanned<String>>>,
    pub(super) exclude: Vec<Spanned<String>>,
    pub(super) order: Vec<Spanned<String>>,
    pub(super) priority: i32,
    pub(super) disposition: Text,
    pub(super) disposition_grace: Text,
    pub(super) disposition_free_space: Text,
    pub(super) dispose_unverified: Option<Spanned<bool>>,
    pub(super) move_to: Text,
    pub(super) sentinel: Text,
    pub(super) whole_file_digest: Text,
}
