//! The credential of a destination: its location, its permissions, its form.

use std::io::ErrorKind;
use std::ops::Range;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use toml::Spanned;

use super::Resolver;
use crate::config::raw;
use crate::control::user_shown;
use crate::platform::aws;
use crate::platform::credential::{AwsSource, Credential, CredentialSource, KeyOrigin};

/// The content of a file of keys.
const S3_LINES: &str =
    "[default], aws_access_key_id = …, aws_secret_access_key = …, each on a line of its own";

impl Resolver<'_> {
    pub(super) fn credential(
        &mut self,
        name: &str,
        platform: &str,
        raw: Option<Spanned<raw::CredentialKeys>>,
        span: &Range<usize>,
    ) -> Option<CredentialSource> {
        let hint = match platform {
            "s3" => {
                "{ file = \"…\" }, { systemd = \"…\" }, { profile = \"…\" } or { source = \"chain\" }"
            }
            _ => "{ file = \"…\" }, { systemd = \"…\" } or { profile = \"…\" }",
        };
        let Some(raw) = raw else {
            if !self.is_refused(&format!("destinations.{name}"), "credential") {
                let message = format!("destination {name:?} has no credential");
                self.problem(Some(span.clone()), message, Some(hint.into()));
            }
            return None;
        };
        let span = raw.span();
        let inner = raw.into_inner();
        let found = self.problems.len();
        let source = match (inner.file, inner.systemd, inner.profile, inner.source) {
            (Some(file), None, None, None) => CredentialSource::File(self.below(&file)),
            (None, Some(systemd), None, None) => self.given(systemd.as_ref(), span.clone())?,
            (None, None, Some(profile), None) => {
                self.profile(platform, profile.into_inner(), span.clone())?
            }
            (None, None, None, Some(word)) => self.key_source(platform, &word)?,
            _ => {
                let message = format!("the credential of destination {name:?} is not one of these");
                self.problem(Some(span), message, Some(hint.into()));
                return None;
            }
        };
        match &source {
            CredentialSource::Given(file) => self.check_given_secret(file, span.clone()),
            CredentialSource::File(file) | CredentialSource::Profile { file, .. } => {
                self.check_secret(file, span.clone());
            }
            CredentialSource::Aws(_) => {}
        }
        if self.problems.len() == found {
            self.check_content(platform, &source, span);
        }
        Some(source)
    }

    /// Returns a credential that systemd provides.
    fn given(&mut self, name: &str, span: Range<usize>) -> Option<CredentialSource> {
        let directory = (self.environment)("CREDENTIALS_DIRECTORY");
        let given = directory.as_ref().map(|at| CredentialSource::systemd(Path::new(at), name));
        let (message, hint) = match given {
            Some(Some(source)) => return Some(source),
            Some(None) => (
                "systemd names a credential, and not a path",
                "name it in LoadCredential= of the unit",
            ),
            None => (
                "there are no systemd credentials here",
                "run as a service with LoadCredential=, or use { file = … }",
            ),
        };
        self.problem(Some(span), message.to_owned(), Some(hint.to_owned()));
        None
    }

    /// Refuses an existing credential without usable content.
    fn check_content(&mut self, platform: &str, source: &CredentialSource, span: Range<usize>) {
        let stored = || Credential::new(source.clone());
        let refused = if let CredentialSource::Aws(keys) = source {
            let checked = aws::check(keys, self.environment).map(drop);
            checked.map_err(|why| format!("the credential gives no keys: {why}"))
        } else if source.file().is_some_and(|file| std::fs::metadata(file).is_err()) {
            // Before version 254 systemd does not provide credentials to reload commands.
            Ok(())
        } else if platform == "s3" {
            stored().stored_keys().map(drop).map_err(|why| why.message)
        } else {
            stored().token().map(drop).map_err(|why| why.message)
        };
        if let Err(message) = refused {
            let file = source.file().filter(|_| !matches!(source, CredentialSource::Aws(_)));
            let hint = file.map(|file| match platform {
                "s3" => {
                    format!("write these lines into {} (chmod 600): {S3_LINES}", file.display())
                }
                _ => format!("write a valid credential into {} (chmod 600)", file.display()),
            });
            self.problem(Some(span), message, hint);
        }
    }

    /// Keys that come from another source than a file of ours.
    fn key_source(&mut self, platform: &str, word: &Spanned<String>) -> Option<CredentialSource> {
        if platform != "s3" {
            let message = format!("source is not possible for {platform:?}");
            self.problem(Some(word.span()), message, Some("use { file = \"…\" }".into()));
            return None;
        }
        let origin = match word.as_ref().as_str() {
            "environment" => KeyOrigin::Environment,
            "instance" => KeyOrigin::Instance,
            "web-identity" => KeyOrigin::WebIdentity,
            "chain" => KeyOrigin::Chain,
            // Not repeated: a secret may have been written here.
            _ => {
                let hint = "allowed: environment, instance, web-identity, chain".to_owned();
                self.problem(Some(word.span()), "this source is not possible".into(), Some(hint));
                return None;
            }
        };
        Some(self.aws(origin))
    }

    fn aws(&self, origin: KeyOrigin) -> CredentialSource {
        let file = |variable: &str, usual: &str| {
            let named = (self.environment)(variable).filter(|name| !name.is_empty());
            self.path_from(self.main_directory(), named.as_deref().unwrap_or(usual))
        };
        CredentialSource::Aws(AwsSource {
            config: file("AWS_CONFIG_FILE", "~/.aws/config"),
            credentials: file("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"),
            origin,
        })
    }

    /// The file of the vendor's own tools, and the section in it.
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
                let file = self.path_from(self.main_directory(), "~/.sevenbridges/credentials");
                Some(profile(file, &name, "auth_token"))
            }
            "s3" => Some(self.aws(KeyOrigin::Profile(name))),
            "basespace" if is_plain => {
                let file = format!("~/.basespace/{name}.cfg");
                let file = self.path_from(self.main_directory(), &file);
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

    /// A secret from systemd must exist. systemd decides who may read it: it grants access to the
    /// service's user by an ACL, whose mask shows as group bits. Before version 254 it does not
    /// provide secrets to reload commands, which cannot check more then.
    fn check_given_secret(&mut self, file: &Path, span: Range<usize>) {
        let Err(error) = std::fs::metadata(file) else { return };
        let message = format!("the credential{} cannot be read: {error}", self.named(file, &span));
        if error.kind() == std::io::ErrorKind::PermissionDenied {
            self.warn(span, message);
        } else {
            let hint = "name it in LoadCredential= of the unit".to_owned();
            self.problem(Some(span), message, Some(hint));
        }
    }

    /// Returns the name of a missing secret file, if it certainly is a file name: it was written
    /// with a directory that exists. Otherwise it may be the secret itself, and is not repeated.
    fn named(&self, file: &Path, span: &Range<usize>) -> String {
        let is_written = self.sources.written(span).is_some_and(|text| text.contains('/'));
        match is_written && file.parent().is_some_and(Path::is_dir) {
            true => format!(" {}", file.display()),
            false => String::new(),
        }
    }

    /// A secret must exist, and no other user may read it.
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
                let what = if found.is_dir() { "a directory" } else { "no file" };
                let message = format!("the credential {} is {what}", file.display());
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
            Ok(found) => {
                let denied = |error: std::io::Error| error.kind() == ErrorKind::PermissionDenied;
                if std::fs::File::open(file).is_err_and(denied) {
                    let (owner, us) = (found.uid(), rustix::process::geteuid().as_raw());
                    let message = format!(
                        "the credential {} belongs to {}, and {} may not read it",
                        file.display(),
                        user_shown(owner),
                        user_shown(us)
                    );
                    let hint =
                        format!("chown {us} {}, or LoadCredential= of a unit", file.display());
                    self.problem(Some(span), message, Some(hint));
                }
            }
        }
    }
}
