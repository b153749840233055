//! What each platform needs to know of its target.

use std::ops::Range;

use toml::Spanned;

use crate::config::resolve::Resolver;
use crate::config::{Platform, raw};
use crate::engine::settings::ExportSettings;
use crate::model::ExportMode;
use crate::platform::http::{is_header_name, parse_url};
use crate::platform::s3::Encryption;
use crate::platform::{basespace, gjirafa_vp, s3, sevenbridges};

/// The region of storages that have none.
const REGION: &str = "us-east-1";

impl Resolver<'_> {
    pub(super) fn platform(
        &mut self,
        word: &str,
        (name, base_url): (&str, &str),
        raw: &raw::Destination,
        span: &Range<usize>,
    ) -> Option<Platform> {
        let base_url = base_url.to_owned();
        match word {
            "sevenbridges" => {
                let project = self.sevenbridges_project(name, raw.project.as_ref(), span)?;
                Some(Platform::SevenBridges(sevenbridges::Settings { base_url, project }))
            }
            "gjirafa-vp" => self.gjirafa_vp(name, base_url, raw, span).map(Platform::GjirafaVp),
            "s3" => self.s3(name, base_url, raw, span).map(Platform::S3),
            "basespace" => {
                let place = self.basespace_place(name, raw, span)?;
                Some(Platform::BaseSpace(basespace::Settings { base_url, place }))
            }
            _ => None,
        }
    }

    /// Returns the template of the folder below which a file's own directories stand.
    pub(super) fn folder(&self, platform: &Platform, raw: &raw::Destination) -> String {
        let given = match platform {
            Platform::SevenBridges(_) | Platform::BaseSpace(_) => &raw.folder,
            Platform::GjirafaVp(_) => &None,
            Platform::S3(_) => &raw.prefix,
        };
        let given = given.as_ref().map(|value| value.as_ref().clone()).unwrap_or_default();
        match platform {
            // The first folder is the name of the AppResult.
            Platform::BaseSpace(basespace::Settings {
                place: basespace::Place::Project(_),
                ..
            }) => format!("{{run}}/{given}"),
            Platform::SevenBridges(_)
            | Platform::GjirafaVp(_)
            | Platform::BaseSpace(_)
            | Platform::S3(_) => given,
        }
    }

    /// Files stand in an AppResult: in a given one, or in one for each drop in a given project.
    fn basespace_place(
        &mut self,
        name: &str,
        raw: &raw::Destination,
        span: &Range<usize>,
    ) -> Option<basespace::Place> {
        let given = |value: &Option<Spanned<String>>| {
            let value = value.as_ref()?;
            Some((value.as_ref().trim().to_owned(), value.span()))
        };
        let (message, at) = match (given(&raw.app_result), given(&raw.project)) {
            (Some((id, at)), None) => {
                let is_id = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit());
                if is_id {
                    return Some(basespace::Place::AppResult(id));
                }
                (format!("app_result = {id:?} is no id of decimal digits"), at)
            }
            (None, Some((project, at))) => {
                if !project.is_empty() {
                    return Some(basespace::Place::Project(project));
                }
                ("project is empty".to_owned(), at)
            }
            (Some(_), Some((_, at))) => {
                (format!("destination {name:?} has both app_result and project"), at)
            }
            (None, None) => {
                (format!("destination {name:?} has neither app_result nor project"), span.clone())
            }
        };
        let hint = "one of app_result = \"ID\" and project = \"ID or name\"".to_owned();
        self.problem(Some(at), message, Some(hint));
        None
    }

    pub(super) fn export(
        &mut self,
        name: &str,
        raw: Option<&Spanned<raw::Export>>,
    ) -> Option<ExportSettings> {
        let raw = raw?;
        let (span, raw) = (raw.span(), raw.as_ref());
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
        let prefix = raw.prefix.as_ref().map(|prefix| prefix.as_ref().clone()).unwrap_or_default();
        Some(ExportSettings { volume, prefix, mode })
    }

    fn sevenbridges_project(
        &mut self,
        name: &str,
        value: Option<&Spanned<String>>,
        span: &Range<usize>,
    ) -> Option<String> {
        let project = self.required("project", ("destination", name), value, span)?;
        let is_pair = project.split('/').filter(|part| !part.is_empty()).count() == 2
            && project.matches('/').count() == 1;
        if !is_pair {
            let message = format!("project = {project:?} is none");
            let hint = "owner/short-name, as in the project's address".to_owned();
            self.problem(value.map(Spanned::span), message, Some(hint));
            return None;
        }
        Some(project)
    }

    fn gjirafa_vp(
        &mut self,
        name: &str,
        base_url: String,
        raw: &raw::Destination,
        span: &Range<usize>,
    ) -> Option<gjirafa_vp::Settings> {
        use gjirafa_vp::Settings;
        let project =
            self.required("project", ("destination", name), raw.project.as_ref(), span)?;
        let given = |value: &Option<Spanned<String>>| value.as_ref().map(|v| v.as_ref().clone());
        let auth_header = given(&raw.auth_header).unwrap_or_else(|| "Authorization".to_owned());
        let auth_prefix = given(&raw.auth_prefix).unwrap_or_default();
        let is_plain = |c: char| !c.is_control() && !"/?#".contains(c);
        let is_segment =
            !["", ".", ".."].contains(&project.as_str()) && project.chars().all(is_plain);
        let is_sendable = auth_prefix.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        for (key, raw, text, is_usable) in [
            ("project", &raw.project, &project, is_segment),
            ("auth_header", &raw.auth_header, &auth_header, is_header_name(&auth_header)),
            ("auth_prefix", &raw.auth_prefix, &auth_prefix, is_sendable),
        ] {
            if !is_usable {
                // A secret may have been written beside what is sent with it.
                let is_safe = key == "project";
                let shown = if is_safe { format!(" = {text:?}") } else { String::new() };
                let message = format!("{key}{shown} cannot be sent");
                self.problem(raw.as_ref().map(Spanned::span), message, None);
            }
        }
        Some(Settings { base_url, project, auth_header, auth_prefix })
    }

    fn s3(
        &mut self,
        name: &str,
        base_url: String,
        raw: &raw::Destination,
        span: &Range<usize>,
    ) -> Option<s3::Settings> {
        let bucket = self.required("bucket", ("destination", name), raw.bucket.as_ref(), span)?;
        let is_name = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        if !bucket.chars().all(is_name) || bucket.starts_with('.') {
            let message = format!("bucket = {bucket:?} is no name of a bucket");
            self.problem(raw.bucket.as_ref().map(Spanned::span), message, None);
        }
        let host = parse_url(&base_url).ok();
        let is_amazon = host.as_ref().and_then(|url| url.host_str()).is_some_and(|host| {
            host.ends_with(".amazonaws.com") || host.ends_with(".amazonaws.com.cn")
        });
        let path_style = raw.path_style.as_ref().map_or(!is_amazon, |value| *value.as_ref());
        if !path_style && bucket.contains('.') {
            let message = format!("bucket = {bucket:?} has a dot, which breaks TLS in a host name");
            let hint = "set path_style = true".to_owned();
            self.problem(raw.bucket.as_ref().map(Spanned::span), message, Some(hint));
        }
        let region = raw.region.as_ref().map_or(REGION.to_owned(), |value| value.as_ref().clone());
        let encryption = self.encryption(name, raw, span);
        Some(s3::Settings { base_url, region, bucket, path_style, encryption })
    }

    fn encryption(
        &mut self,
        name: &str,
        raw: &raw::Destination,
        span: &Range<usize>,
    ) -> Encryption {
        let words = ["bucket", "storage", "kms", "customer"];
        match self.choice("encryption", raw.encryption.as_ref(), &words) {
            None | Some(0) => Encryption::Bucket,
            Some(1) => Encryption::Storage,
            Some(2) => Encryption::Kms(raw.kms_key_id.as_ref().map(|value| value.as_ref().clone())),
            Some(_) => {
                let key = raw.customer_key_file.as_ref();
                let of = ("destination", name);
                match self.required("customer_key_file", of, key, span) {
                    Some(file) => {
                        let file = self.below(&file);
                        self.check_secret(&file, key.map_or(span.clone(), Spanned::span));
                        Encryption::Customer(file)
                    }
                    None => Encryption::Bucket,
                }
            }
        }
    }
}
