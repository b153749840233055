//! Targets: platform, place, policy, credential.

mod platforms;

use std::collections::BTreeMap;
use std::ops::Range;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::DeTable;

use super::Resolver;
use crate::config::problem::line_of;
use crate::config::{Destination, Platform, Problem, raw};
use crate::engine::settings::ExportSettings;
use crate::model::{DestinationName, NamePolicy, PartSize, TargetAddress};
use crate::platform::credential::CredentialSource;
use crate::platform::http;

/// What the platform of a destination says of its target.
struct TargetKeys {
    platform: Platform,
    /// The template of the folder below which a file's own directories are made.
    folder: String,
    metadata: BTreeMap<String, String>,
    tags: Vec<String>,
    export: Option<ExportSettings>,
}

impl TargetKeys {
    fn new(platform: Platform, folder: String) -> Self {
        Self { platform, folder, metadata: BTreeMap::new(), tags: Vec::new(), export: None }
    }
}

/// A destination whose target is read.
struct Of<'a> {
    name: &'a str,
    base_url: String,
    span: Range<usize>,
}

impl Resolver<'_> {
    pub(super) fn destination(
        &mut self,
        name: String,
        raw: Spanned<raw::DestinationKeys>,
        table: DeTable<'_>,
    ) -> Option<Destination> {
        let (span, mut raw) = (raw.span(), raw.into_inner());
        self.check_name("destination", &name, &span);
        self.required("platform", ("destination", &name), raw.platform.as_ref(), &span)?;
        let words = ["sevenbridges", "basespace", "gjirafa-vp", "s3"].map(|word| (word, word));
        let platform = self.choice("platform", raw.platform.as_ref(), &words)?;
        let credential = self.credential(&name, platform, raw.credential.take(), &span);
        let base_url = self.base_url(&name, raw.base_url.as_ref(), &span)?;
        let of = Of { name: &name, base_url, span };
        let target = match platform {
            "sevenbridges" => self.keys(table).and_then(|keys| self.sevenbridges(of, keys)),
            "basespace" => self.keys(table).and_then(|keys| self.basespace(of, keys)),
            "gjirafa-vp" => self.keys(table).and_then(|keys| self.gjirafa_vp(of, keys)),
            _ => self.keys(table).and_then(|keys| self.s3(of, keys)),
        }?;
        Some(Destination {
            folder: target.folder,
            same_as: self.same_as(&target.platform, raw.same_as.as_ref()),
            platform: target.platform,
            credential: credential?,
            when_name_taken: self.name_policy(raw.when_name_taken.as_ref()),
            export: target.export,
            metadata: target.metadata.into_iter().collect(),
            tags: target.tags,
            calls_per_second: self.calls_per_second(raw.calls_per_second.as_ref()),
            part_size_min: self.part_size_min(raw.part_size_min),
            name: DestinationName::new(name),
        })
    }

    /// Reads the keys of a destination's platform. A key that the platform does not have is refused:
    /// ignoring it would be a promise that is not kept.
    fn keys<T: DeserializeOwned>(&mut self, mut table: DeTable<'_>) -> Option<T> {
        for key in raw::DestinationKeys::KEYS {
            table.remove(key);
        }
        let keys = T::deserialize(toml::Deserializer::from(Spanned::new(0..0, table)));
        let refuse = |error| Problem::syntax(self.text, &error, &raw::DestinationKeys::KEYS);
        keys.map_err(|error| self.problems.push(refuse(error))).ok()
    }

    fn base_url(
        &mut self,
        name: &str,
        value: Option<&Spanned<String>>,
        span: &Range<usize>,
    ) -> Option<String> {
        let url = self.required("base_url", ("destination", name), value, span)?;
        if let Err(failure) = http::base_url(&url) {
            // A secret that was written here, or beside the host, is not repeated.
            let is_address = url.starts_with("http://") || url.starts_with("https://");
            let is_safe = is_address && !url.contains('@');
            let shown = if is_safe { format!(" = {url:?}") } else { String::new() };
            let message = format!("base_url{shown}: {}", failure.message);
            let hint = "an https:// address; http:// is accepted on this machine only".to_owned();
            self.problem(value.map(Spanned::span), message, Some(hint));
            return None;
        }
        Some(url)
    }

    /// Returns the targets at former addresses that are declared to be the same.
    fn same_as(
        &mut self,
        platform: &Platform,
        value: Option<&Spanned<raw::Texts>>,
    ) -> Vec<TargetAddress> {
        let Some(value) = value else { return Vec::new() };
        let urls = match value.as_ref() {
            raw::Texts::One(url) => std::slice::from_ref(url),
            raw::Texts::All(urls) => urls,
        };
        for url in urls {
            if let Err(failure) = http::parse_url(url) {
                let message = format!("same_as = {url:?}: {}", failure.message);
                let hint = "a former base_url of the same target".to_owned();
                self.problem(Some(value.span()), message, Some(hint));
            }
        }
        urls.iter().map(|url| platform.address(url)).collect()
    }

    fn name_policy(&mut self, value: Option<&Spanned<String>>) -> NamePolicy {
        let policies = [
            ("skip-if-same", NamePolicy::SkipIfSame),
            ("overwrite", NamePolicy::Overwrite),
            ("rename", NamePolicy::Rename),
            ("park", NamePolicy::Park),
        ];
        self.choice("when_name_taken", value, &policies).unwrap_or(NamePolicy::SkipIfSame)
    }

    fn calls_per_second(&mut self, value: Option<&Spanned<f64>>) -> Option<f64> {
        let value = value?;
        let rate = *value.as_ref();
        if rate.is_finite() && (0.01..=1_000_000.0).contains(&rate) {
            return Some(rate);
        }
        let hint = Some("a number from 0.01 to 1000000".to_owned());
        self.problem(
            Some(value.span()),
            format!("calls_per_second = {rate} is not possible"),
            hint,
        );
        None
    }

    fn part_size_min(&mut self, value: Option<Spanned<String>>) -> Option<PartSize> {
        value.as_ref()?;
        PartSize::new(self.size("part_size_min", value, 0, 1))
    }

    fn credential(
        &mut self,
        name: &str,
        platform: &str,
        raw: Option<Spanned<raw::CredentialKeys>>,
        span: &Range<usize>,
    ) -> Option<CredentialSource> {
        let hint = "{ file = \"…\" }, { systemd = \"…\" } or { profile = \"…\" }";
        let Some(raw) = raw else {
            let message = format!("destination {name:?} has no credential");
            self.problem(Some(span.clone()), message, Some(hint.into()));
            return None;
        };
        let span = raw.span();
        let inner = raw.into_inner();
        let source = match (inner.file, inner.systemd, inner.profile) {
            (Some(file), None, None) => CredentialSource::File(self.below(file.as_ref())),
            (None, Some(systemd), None) => {
                let Some(directory) = (self.environment)("CREDENTIALS_DIRECTORY") else {
                    let message = "there are no systemd credentials here".to_owned();
                    let hint = "run as a service with LoadCredential=, or use { file = … }";
                    self.problem(Some(span), message, Some(hint.into()));
                    return None;
                };
                let source = CredentialSource::systemd(Path::new(&directory), systemd.as_ref());
                let Some(source) = source else {
                    let message = "systemd names a credential, and not a path".to_owned();
                    let hint = "name it in LoadCredential= of the unit".to_owned();
                    self.problem(Some(span), message, Some(hint));
                    return None;
                };
                self.check_given_secret(source.file(), span);
                return Some(source);
            }
            (None, None, Some(profile)) => {
                self.profile(platform, profile.into_inner(), span.clone())?
            }
            _ => {
                let message = format!("the credential of destination {name:?} is not one of three");
                self.problem(Some(span), message, Some(hint.into()));
                return None;
            }
        };
        self.check_secret(source.file(), span);
        Some(source)
    }

    /// The file that the vendor's own tools keep, and the section in it.
    fn profile(
        &mut self,
        platform: &str,
        name: String,
        span: Range<usize>,
    ) -> Option<CredentialSource> {
        let profile = |file, section: &str, key| CredentialSource::Profile {
            file,
            section: section.to_owned(),
            key,
        };
        let is_plain = !name.is_empty() && !name.contains('/') && !name.starts_with('.');
        match platform {
            "sevenbridges" => {
                let file = self.below("~/.sevenbridges/credentials");
                Some(profile(file, &name, "auth_token"))
            }
            "s3" => {
                let file = match (self.environment)("AWS_SHARED_CREDENTIALS_FILE") {
                    Some(file) => self.below(&file),
                    None => self.below("~/.aws/credentials"),
                };
                Some(profile(file, &name, "aws_secret_access_key"))
            }
            "basespace" if is_plain => {
                let file = self.below(&format!("~/.basespace/{name}.cfg"));
                Some(profile(file, "DEFAULT", "accessToken"))
            }
            _ => {
                let message = format!("this profile is not possible for {platform:?}");
                let hint = "use { file = \"…\" }".to_owned();
                self.problem(Some(span), message, Some(hint));
                None
            }
        }
    }

    /// A secret that systemd gives must be there. Who may read it is systemd's to say: it lets the
    /// service's user in by an ACL, whose mask shows as bits of a group. Before version 254 it keeps
    /// the secrets from the commands of a reload, which then cannot say more.
    fn check_given_secret(&mut self, file: &Path, span: Range<usize>) {
        let Err(error) = std::fs::metadata(file) else { return };
        let message = format!("the credential{} cannot be read: {error}", self.named(file, &span));
        if error.kind() == std::io::ErrorKind::PermissionDenied {
            let line = Some(line_of(self.text, span.start));
            self.warnings.push(Problem { line, message, hint: None });
        } else {
            let hint = "name it in LoadCredential= of the unit".to_owned();
            self.problem(Some(span), message, Some(hint));
        }
    }

    /// Returns the name of a secret's file that is not there, where it is one for certain: it was written
    /// with its directory, which is there. Else it may be the secret itself, and is not repeated.
    fn named(&self, file: &Path, span: &Range<usize>) -> String {
        let is_written = self.text.get(span.clone()).is_some_and(|text| text.contains('/'));
        match is_written && file.parent().is_some_and(Path::is_dir) {
            true => format!(" {}", file.display()),
            false => String::new(),
        }
    }

    /// A secret must be there, and nobody else may read it.
    pub(super) fn check_secret(&mut self, file: &Path, span: Range<usize>) {
        match std::fs::metadata(file) {
            Err(error) => {
                let name = self.named(file, &span);
                let message = format!("the credential{name} cannot be read: {error}");
                let name = if name.is_empty() { " FILE" } else { name.as_str() };
                let hint = format!("write the secret into that file and run: chmod 600{name}");
                self.problem(Some(span), message, Some(hint));
            }
            Ok(found) if !found.is_file() => {
                let message = format!("the credential {} is no file", file.display());
                let hint = "name the file that holds the secret".to_owned();
                self.problem(Some(span), message, Some(hint));
            }
            Ok(found) if found.permissions().mode() & 0o077 != 0 => {
                let mode = found.permissions().mode() & 0o777;
                let message = format!(
                    "the credential {} may be read by others (mode {mode:o})",
                    file.display()
                );
                self.problem(Some(span), message, Some(format!("chmod 600 {}", file.display())));
            }
            Ok(_) => {}
        }
    }
}
