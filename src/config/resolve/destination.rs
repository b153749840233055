//! Targets: platform, place, policy, credential.

use std::ops::Range;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use toml::Spanned;

use super::Resolver;
use crate::config::{Destination, Platform, raw};
use crate::model::{DestinationName, NamePolicy};
use crate::platform::credential::CredentialSource;
use crate::platform::{http, sevenbridges};

impl Resolver<'_> {
    pub(super) fn destination(
        &mut self,
        name: String,
        raw: Spanned<raw::Destination>,
    ) -> Option<Destination> {
        let (span, raw) = (raw.span(), raw.into_inner());
        self.check_name("destination", &name, &span);
        self.refuse(raw.export.as_ref().map(Spanned::span), "export");
        let platform =
            self.required("platform", ("destination", &name), raw.platform.as_ref(), &span)?;
        self.only("platform", raw.platform.as_ref(), &["sevenbridges"]);
        if platform != "sevenbridges" {
            return None;
        }
        let foreign = [
            ("app_result", raw.app_result.as_ref().map(Spanned::span)),
            ("auth_header", raw.auth_header.as_ref().map(Spanned::span)),
            ("auth_prefix", raw.auth_prefix.as_ref().map(Spanned::span)),
            ("region", raw.region.as_ref().map(Spanned::span)),
            ("path_style", raw.path_style.as_ref().map(Spanned::span)),
            ("bucket", raw.bucket.as_ref().map(Spanned::span)),
            ("prefix", raw.prefix.as_ref().map(Spanned::span)),
        ];
        for (key, span) in foreign.into_iter().filter_map(|(key, span)| Some((key, span?))) {
            let message = format!("{key} means nothing to platform \"sevenbridges\"");
            self.problem(Some(span), message, Some("leave it out".into()));
        }
        let base_url = self.base_url(&name, raw.base_url.as_ref(), &span)?;
        let project = self.project(&name, raw.project.as_ref(), &span)?;
        let credential = self.credential(&name, raw.credential, &span)?;
        Some(Destination {
            platform: Platform::SevenBridges(sevenbridges::Settings { base_url, project }),
            credential,
            folder: raw.folder.map(Spanned::into_inner).unwrap_or_default(),
            when_name_taken: self.name_policy(raw.when_name_taken.as_ref()),
            metadata: raw.metadata.into_iter().collect(),
            tags: raw.tags,
            calls_per_second: self.calls_per_second(raw.calls_per_second.as_ref()),
            name: DestinationName::new(name),
        })
    }

    fn base_url(
        &mut self,
        name: &str,
        value: Option<&Spanned<String>>,
        span: &Range<usize>,
    ) -> Option<String> {
        let url = self.required("base_url", ("destination", name), value, span)?;
        if let Err(failure) = http::parse_url(&url) {
            let message = format!("base_url = {url:?}: {}", failure.message);
            let hint = "an https:// address; http:// is accepted on this machine only".to_owned();
            self.problem(value.map(Spanned::span), message, Some(hint));
            return None;
        }
        Some(url)
    }

    fn project(
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

    fn name_policy(&mut self, value: Option<&Spanned<String>>) -> NamePolicy {
        let words = ["skip-if-same", "overwrite", "rename", "park"];
        let policies =
            [NamePolicy::SkipIfSame, NamePolicy::Overwrite, NamePolicy::Rename, NamePolicy::Park];
        self.choice("when_name_taken", value, &words)
            .map_or(NamePolicy::SkipIfSame, |i| policies[i])
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

    fn credential(
        &mut self,
        name: &str,
        raw: Option<Spanned<raw::Credential>>,
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
                CredentialSource::File(Path::new(&directory).join(systemd.as_ref()))
            }
            (None, None, Some(profile)) => CredentialSource::Profile {
                file: self.below("~/.sevenbridges/credentials"),
                section: profile.into_inner(),
            },
            _ => {
                let message = format!("the credential of destination {name:?} is not one of three");
                self.problem(Some(span), message, Some(hint.into()));
                return None;
            }
        };
        self.check_secret(&source, span);
        Some(source)
    }

    /// A secret must be there, and nobody else may read it.
    fn check_secret(&mut self, source: &CredentialSource, span: Range<usize>) {
        let (CredentialSource::File(file) | CredentialSource::Profile { file, .. }) = source;
        match std::fs::metadata(file) {
            Err(error) => {
                let message = format!("the credential {} cannot be read: {error}", file.display());
                let hint = format!("write the token into it and run: chmod 600 {}", file.display());
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
