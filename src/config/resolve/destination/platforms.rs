//! The keys of each platform.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use toml::Spanned;

use super::{Of, TargetKeys};
use crate::config::resolve::Resolver;
use crate::config::{Platform, raw};
use crate::engine::settings::ExportSettings;
use crate::model::ExportMode;
use crate::platform::http::{base_url, is_header_name};
use crate::platform::s3::Encryption;
use crate::platform::{basespace, gjirafa_vp, s3, sevenbridges};

/// The region of storages without regions.
const REGION: &str = "us-east-1";

impl Resolver<'_> {
    pub(super) fn sevenbridges(
        &mut self,
        of: Of<'_>,
        raw: raw::SevenBridgesKeys,
    ) -> Option<TargetKeys> {
        let value = raw.project.as_ref();
        let project = self.required("project", ("destination", of.name), value, &of.span)?;
        let export = self.export(of.name, raw.export);
        let is_pair = project.split_once('/').is_some_and(|(owner, name)| {
            !owner.is_empty() && !name.is_empty() && !name.contains('/')
        });
        if !is_pair {
            let message = format!("project = {project:?} is none");
            let hint = "owner/short-name, as in the project's address".to_owned();
            self.problem(value.map(Spanned::span), message, Some(hint));
            return None;
        }
        let settings = sevenbridges::Settings { base_url: of.base_url, project };
        let target =
            TargetKeys::new(Platform::SevenBridges(settings), raw.folder.unwrap_or_default());
        Some(TargetKeys { metadata: raw.metadata, tags: raw.tags, export, ..target })
    }

    fn export(
        &mut self,
        name: &str,
        raw: Option<Spanned<raw::ExportKeys>>,
    ) -> Option<ExportSettings> {
        let raw = raw?;
        let (span, raw) = (raw.span(), raw.into_inner());
        let of = ("export of destination", name);
        let volume = self.required("volume", of, raw.volume.as_ref(), &span)?;
        if volume.matches('/').count() != 1 || volume.starts_with('/') || volume.ends_with('/') {
            let message = format!("volume = {volume:?} is none");
            let hint = "owner/name, as in the volume's address".to_owned();
            self.problem(raw.volume.as_ref().map(Spanned::span), message, Some(hint));
        }
        let mode = ExportMode {
            copy_only: raw.copy_only.unwrap_or(true),
            overwrite: raw.overwrite.unwrap_or(false),
        };
        Some(ExportSettings { volume, prefix: raw.prefix, mode })
    }

    pub(super) fn basespace(&mut self, of: Of<'_>, raw: raw::BaseSpaceKeys) -> Option<TargetKeys> {
        let place = self.basespace_place(&of, raw.app_result, raw.project)?;
        let folder = raw.folder.unwrap_or_default();
        let folder = match &place {
            // The first folder is the name of the AppResult.
            basespace::BaseSpacePlace::Project(_) => format!("{{run}}/{folder}"),
            basespace::BaseSpacePlace::AppResult(_) => folder,
        };
        let settings = basespace::Settings { base_url: of.base_url, place };
        Some(TargetKeys::new(Platform::BaseSpace(settings), folder))
    }

    /// Files are put into an AppResult: a given one, or one for each run in a given project.
    fn basespace_place(
        &mut self,
        of: &Of<'_>,
        app_result: Option<Spanned<String>>,
        project: Option<Spanned<String>>,
    ) -> Option<basespace::BaseSpacePlace> {
        let name = of.name;
        let (message, at) = match (app_result, project) {
            (Some(given), None) => {
                let id = given.as_ref().trim();
                if !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit()) {
                    return Some(basespace::BaseSpacePlace::AppResult(id.to_owned()));
                }
                (format!("app_result = {id:?} is no id of decimal digits"), given.span())
            }
            (None, Some(given)) => {
                let project = given.as_ref().trim();
                if !project.is_empty() {
                    return Some(basespace::BaseSpacePlace::Project(project.to_owned()));
                }
                ("project is empty".to_owned(), given.span())
            }
            (Some(_), Some(project)) => {
                (format!("destination {name:?} has both app_result and project"), project.span())
            }
            (None, None) => (
                format!("destination {name:?} has neither app_result nor project"),
                of.span.clone(),
            ),
        };
        let hint = "one of app_result = \"ID\" and project = \"ID or name\"".to_owned();
        self.problem(Some(at), message, Some(hint));
        None
    }

    pub(super) fn gjirafa_vp(&mut self, of: Of<'_>, raw: raw::GjirafaVpKeys) -> Option<TargetKeys> {
        let at = ("destination", of.name);
        let project = self.required("project", at, raw.project.as_ref(), &of.span)?;
        let given = |value: &Option<Spanned<String>>| value.as_ref().map(|v| v.as_ref().clone());
        let auth_header = given(&raw.auth_header).unwrap_or_else(|| "Authorization".to_owned());
        let auth_prefix = given(&raw.auth_prefix).unwrap_or_default();
        let is_plain = |c: char| !c.is_control() && !"/?#".contains(c);
        let is_segment = ![".", ".."].contains(&project.as_str()) && project.chars().all(is_plain);
        let is_sendable = auth_prefix.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        // The headers are not repeated: a secret may have been written beside them.
        for (key, value, is_usable) in [
            (format!("project = {project:?}"), &raw.project, is_segment),
            ("auth_header".to_owned(), &raw.auth_header, is_header_name(&auth_header)),
            ("auth_prefix".to_owned(), &raw.auth_prefix, is_sendable),
        ] {
            if !is_usable {
                let message = format!("{key} cannot be sent");
                self.problem(value.as_ref().map(Spanned::span), message, None);
            }
        }
        let base_url = of.base_url;
        let settings = gjirafa_vp::Settings { base_url, project, auth_header, auth_prefix };
        Some(TargetKeys::new(Platform::GjirafaVp(settings), String::new()))
    }

    pub(super) fn s3(&mut self, of: Of<'_>, raw: raw::S3Keys) -> Option<TargetKeys> {
        let at = raw.bucket.as_ref().map(Spanned::span);
        let bucket =
            self.required("bucket", ("destination", of.name), raw.bucket.as_ref(), &of.span)?;
        let is_name = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        if !bucket.chars().all(is_name) || bucket.starts_with('.') {
            let message = format!("bucket = {bucket:?} is no name of a bucket");
            self.problem(at.clone(), message, None);
        }
        let host = base_url(&of.base_url, of.allow_plain_http).ok();
        let is_amazon = host.as_ref().and_then(|url| url.host_str()).is_some_and(|host| {
            host.ends_with(".amazonaws.com") || host.ends_with(".amazonaws.com.cn")
        });
        let path_style = raw.path_style.unwrap_or(!is_amazon);
        if !path_style && bucket.contains('.') {
            let message = format!("bucket = {bucket:?} has a dot, which breaks TLS in a host name");
            self.problem(at, message, Some("set path_style = true".into()));
        }
        self.check_header_names(&raw.metadata, &of.span);
        let region = raw.region.unwrap_or_else(|| REGION.to_owned());
        let words = ["bucket", "storage", "kms", "customer"].map(|word| (word, word));
        let encryption = match self.choice("encryption", raw.encryption.as_ref(), &words) {
            Some("storage") => Encryption::Storage,
            Some("kms") => Encryption::Kms(raw.kms_key_id),
            Some("customer") => self.customer_key(&of, raw.customer_key_file),
            Some(_) | None => Encryption::Bucket,
        };
        let prefix = raw.prefix.unwrap_or_default();
        let settings = s3::Settings {
            object: s3::ObjectSettings {
                storage_class: self.header_word("storage_class", raw.storage_class),
                acl: self.header_word("acl", raw.acl),
            },
            base_url: of.base_url,
            region,
            bucket,
            path_style,
            allow_plain_http: of.allow_plain_http,
            requester_pays: raw.requester_pays,
            encryption,
            checks: s3::CheckSettings { prefix: fixed_part(&prefix), tags: raw.tags.clone() },
        };
        let target = TargetKeys::new(Platform::S3(settings), prefix);
        Some(TargetKeys { metadata: raw.metadata, tags: raw.tags, ..target })
    }

    /// Returns a word for a header line; the storage defines which words are valid.
    fn header_word(&mut self, key: &str, value: Option<Spanned<String>>) -> Option<String> {
        let value = value?;
        let word = value.as_ref();
        if word.is_empty() || !word.bytes().all(|byte| byte.is_ascii_graphic()) {
            let message = format!("{key} cannot be sent");
            let hint = "one word, as the storage's documents name it".to_owned();
            self.problem(Some(value.span()), message, Some(hint));
        }
        Some(value.into_inner())
    }

    fn customer_key(&mut self, of: &Of<'_>, key: Option<Spanned<String>>) -> Encryption {
        let at = ("destination", of.name);
        let found = self.required("customer_key_file", at, key.as_ref(), &of.span);
        let Some(key) = key.filter(|_| found.is_some()) else { return Encryption::Bucket };
        let file = self.below(&key);
        self.check_secret(&file, key.span());
        Encryption::Customer(file)
    }

    /// S3 carries metadata in header lines: a key becomes part of a header's name, in lower case.
    /// Values may be anything.
    fn check_header_names(&mut self, metadata: &BTreeMap<String, String>, whole: &Range<usize>) {
        let mut seen = BTreeSet::new();
        for key in metadata.keys() {
            let name = key.to_lowercase();
            let why = if !is_header_name(&format!("x-amz-meta-{name}")) || key.is_empty() {
                "letters, digits and - _ . make a key"
            } else if name.starts_with("dropferry-") {
                "keys that begin with dropferry- are kept for the program"
            } else if seen.insert(name) {
                continue;
            } else {
                "capital and small letters are the same in a key"
            };
            let message = format!("metadata has the key {key:?}, which S3 cannot carry");
            self.problem(Some(whole.clone()), message, Some(why.into()));
        }
    }
}

/// Returns the common start of the keys below a prefix.
fn fixed_part(prefix: &str) -> String {
    let (fixed, has_words) =
        prefix.split_once('{').map_or((prefix, false), |(fixed, _)| (fixed, true));
    let mut names: Vec<_> = fixed.split('/').filter(|name| !name.is_empty()).collect();
    if (!has_words || fixed.ends_with('/')) && !names.is_empty() {
        names.push("");
    }
    names.join("/")
}

#[cfg(test)]
mod tests {
    use super::fixed_part;

    #[test]
    fn keys_below_a_prefix_begin_as_far_as_it_has_no_words() {
        for (prefix, fixed) in [
            ("", ""),
            ("/", ""),
            ("runs", "runs/"),
            ("/runs//lab/", "runs/lab/"),
            ("runs/{drop}/", "runs/"),
            ("runs/x{drop}", "runs/x"),
            ("{drop}/runs", ""),
        ] {
            assert_eq!(fixed_part(prefix), fixed, "{prefix}");
        }
    }
}
