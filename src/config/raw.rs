//! The file as `serde` reads it: every key, with its position where a problem may refer to it.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Problems;
use super::lenient::{self, Wrong};
use super::many::Many;
use super::sources::Sources;

type Text = Option<Spanned<String>>;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct FileKeys<'a> {
    pub(super) state: StateKeys,
    pub(super) control: ControlKeys,
    pub(super) web: WebKeys,
    pub(super) transfer: TransferKeys,
    pub(super) retry: RetryKeys,
    pub(super) network: NetworkKeys,
    pub(super) destinations: BTreeMap<String, Spanned<DestinationKeys>>,
    pub(super) drops: BTreeMap<String, Spanned<DropKeys>>,
    pub(super) notify: NotifyKeys,
    /// The tables of the destinations, which are read again by platform.
    #[serde(skip)]
    tables: DeTable<'a>,
    /// The problems of its keys.
    #[serde(skip)]
    wrong: Wrong,
}

impl<'a> FileKeys<'a> {
    /// Reads keys that must all be right.
    pub(super) fn of(sources: &'a Sources) -> Result<Self, Problems> {
        let mut file = Self::of_right_keys(sources)?;
        match file.take_wrong().problems {
            none if none.is_empty() => Ok(file),
            problems => Err(Problems { path: sources.main().to_owned(), problems }),
        }
    }

    /// Removes and returns the problems of keys.
    pub(super) fn take_wrong(&mut self) -> Wrong {
        std::mem::take(&mut self.wrong)
    }

    /// Reads the right keys, and the problems of the others.
    pub(super) fn of_right_keys(sources: &'a Sources) -> Result<Self, Problems> {
        let mut root = sources.parse()?;
        let (file, wrong) = lenient::read::<Self>(sources, &mut root, "", &[])
            .map_err(|problems| Problems { path: sources.main().to_owned(), problems })?;
        let tables = root.get("destinations").and_then(|value| value.get_ref().as_table());
        let tables = tables.cloned().unwrap_or_default();
        Ok(Self { tables, wrong, ..file })
    }

    /// Keeps one destination, with another credential file, the network and the state's path.
    pub(super) fn of_destination(self, name: &str, credential: &Path) -> Self {
        let Self { state, network, mut destinations, tables, wrong, .. } = self;
        destinations.retain(|found, _| found == name);
        let file = std::path::absolute(credential).unwrap_or_default().display().to_string();
        for keys in destinations.values_mut() {
            let span = keys.get_ref().credential.as_ref().map_or(keys.span(), Spanned::span);
            let file = Some(Spanned::new(span.clone(), file.clone()));
            let keys_of_file = CredentialKeys { file, ..CredentialKeys::default() };
            keys.get_mut().credential = Some(Spanned::new(span, keys_of_file));
        }
        Self { state, network, destinations, tables, wrong, ..Self::default() }
    }

    /// Removes and returns each destination, with its table.
    pub(super) fn destinations(&mut self) -> Vec<(String, Spanned<DestinationKeys>, DeTable<'a>)> {
        let mut tables = std::mem::take(&mut self.tables);
        let table = |(name, destination): (String, _)| {
            let DeValue::Table(table) = tables.remove(name.as_str())?.into_inner() else {
                return None;
            };
            Some((name, destination, table))
        };
        std::mem::take(&mut self.destinations).into_iter().filter_map(table).collect()
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct NotifyKeys {
    pub(super) command: Option<Spanned<Many<CommandKeys>>>,
    pub(super) webhook: Option<Spanned<Many<WebhookKeys>>>,
    pub(super) mail: Option<Spanned<Many<MailKeys>>>,
    pub(super) heartbeat: Option<Spanned<Many<HeartbeatKeys>>>,
    pub(super) report: Text,
    pub(super) unreachable_after: Text,
    pub(super) stuck_after: Text,
    pub(super) disk_free_min: Text,
}

pub(super) type WordList = Option<Spanned<Vec<Spanned<String>>>>;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct CommandKeys {
    pub(super) name: Text,
    pub(super) run: Vec<Spanned<String>>,
    pub(super) on: WordList,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct WebhookKeys {
    pub(super) name: Text,
    pub(super) url_file: Text,
    pub(super) secret_file: Text,
    pub(super) format: Text,
    pub(super) on: WordList,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct MailKeys {
    pub(super) name: Text,
    pub(super) to: Vec<Spanned<String>>,
    pub(super) from: Text,
    pub(super) smtp: Text,
    pub(super) tls: Text,
    pub(super) user: Text,
    pub(super) credential: Option<Spanned<CredentialKeys>>,
    pub(super) on: WordList,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct HeartbeatKeys {
    pub(super) url_file: Text,
    pub(super) every: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct StateKeys {
    pub(super) directory: Text,
    pub(super) keep_parts: Text,
    pub(super) backup_interval: Text,
    pub(super) backups_kept: Option<Spanned<i64>>,
    pub(super) check_interval: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ControlKeys {
    pub(super) socket: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct WebKeys {
    pub(super) listen: Text,
    pub(super) password_file: Text,
    pub(super) hosts: Vec<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct TransferKeys {
    pub(super) parts_in_flight: Option<Spanned<Count>>,
    pub(super) part_size: Text,
    pub(super) memory: Text,
    pub(super) bandwidth: Text,
    pub(super) timetable: Vec<Spanned<PeriodKeys>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct PeriodKeys {
    pub(super) days: Option<Spanned<Vec<Spanned<String>>>>,
    pub(super) from: Text,
    pub(super) until: Text,
    pub(super) bandwidth: Text,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Texts {
    One(String),
    All(Vec<String>),
}

impl Texts {
    pub(super) fn list(&self) -> &[String] {
        match self {
            Self::One(text) => std::slice::from_ref(text),
            Self::All(texts) => texts,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Count {
    Number(i64),
    Word(String),
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RetryKeys {
    pub(super) delay_min: Text,
    pub(super) delay_max: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct NetworkKeys {
    pub(super) proxy: Text,
    pub(super) proxy_credential: Option<Spanned<CredentialKeys>>,
    pub(super) no_proxy: Option<Spanned<Texts>>,
    pub(super) ca_file: Text,
    pub(super) inactivity_timeout: Text,
}

/// The keys of every destination. The same table is read once more as that of its platform, given
/// by `platform`: `serde(flatten)` would lose the position of each value.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct DestinationKeys {
    pub(super) platform: Text,
    pub(super) base_url: Text,
    pub(super) allow_plain_http: Option<Spanned<bool>>,
    pub(super) credential: Option<Spanned<CredentialKeys>>,
    pub(super) when_name_taken: Text,
    pub(super) when_changed: Text,
    pub(super) same_as: Option<Spanned<Texts>>,
    pub(super) calls_per_second: Option<Spanned<f64>>,
    pub(super) part_size_min: Text,
}

impl DestinationKeys {
    pub(super) const KEYS: [&str; 9] = [
        "platform",
        "base_url",
        "allow_plain_http",
        "credential",
        "when_name_taken",
        "when_changed",
        "same_as",
        "calls_per_second",
        "part_size_min",
    ];
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct SevenBridgesKeys {
    pub(super) project: Text,
    pub(super) folder: Option<String>,
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) tags: Vec<String>,
    pub(super) export: Option<Spanned<ExportKeys>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct BaseSpaceKeys {
    pub(super) app_result: Text,
    pub(super) project: Text,
    pub(super) folder: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct GjirafaVpKeys {
    pub(super) project: Text,
    pub(super) auth_header: Text,
    pub(super) auth_prefix: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct S3Keys {
    pub(super) region: Option<String>,
    pub(super) path_style: Option<bool>,
    pub(super) bucket: Text,
    pub(super) prefix: Option<String>,
    pub(super) storage_class: Text,
    pub(super) acl: Text,
    pub(super) requester_pays: bool,
    pub(super) encryption: Text,
    pub(super) kms_key_id: Option<String>,
    pub(super) customer_key_file: Text,
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) tags: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ExportKeys {
    pub(super) volume: Text,
    pub(super) prefix: String,
    pub(super) copy_only: Option<bool>,
    pub(super) overwrite: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct CredentialKeys {
    pub(super) file: Text,
    pub(super) systemd: Text,
    pub(super) profile: Text,
    pub(super) source: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct DropKeys {
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
    pub(super) places_max: Option<Spanned<Count>>,
    pub(super) stale_after: Text,
    pub(super) disposition: Text,
    pub(super) disposition_grace: Text,
    pub(super) disposition_free_space: Text,
    pub(super) dispose_unverified: Option<Spanned<bool>>,
    pub(super) move_to: Text,
    pub(super) sentinel: Text,
    pub(super) whole_file_digest: Text,
}
