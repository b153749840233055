//! Credentials: read from where they are kept, read again when that changes, never shown.
//!
//! A token file that is replaced is picked up by itself: its identity is compared before use. The
//! text of a token reaches only the header it is sent in; errors name the place, never the content.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::model::{Failure, FailureKind};

/// Where a credential is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CredentialSource {
    /// A file that holds the token alone.
    File(PathBuf),
    /// An INI file of the vendor's own tools: the value of `auth_token` in this section.
    Profile {
        /// The INI file.
        file: PathBuf,
        /// The section.
        section: String,
    },
}

/// A secret that prints as `[redacted]`.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// Returns the secret, for the header it is sent in.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// A credential and the version of its file that was read last.
#[derive(Debug)]
pub struct Credential {
    source: CredentialSource,
    read: Mutex<Option<(Version, Token)>>,
}

/// Tells one version of a file from another.
type Version = (u64, u64, i64, i64);

impl Credential {
    /// Names a credential; it is read at its first use.
    pub fn new(source: CredentialSource) -> Self {
        Self { source, read: Mutex::new(None) }
    }

    /// Returns the token, read again when its file is another than before.
    ///
    /// # Errors
    /// `Unauthorized` when there is none: the destination halts until there is.
    pub fn token(&self) -> Result<Token, Failure> {
        let version = self.version().map_err(|error| self.failure(&error.to_string()))?;
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, token)) = read.as_ref()
            && *known == version
        {
            return Ok(token.clone());
        }
        let token = self.load()?;
        *read = Some((version, token.clone()));
        Ok(token)
    }

    /// Tells whether the file is another than the one last read.
    pub fn has_changed(&self) -> bool {
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let known = read.as_ref().map(|(version, _)| *version);
        self.version().ok().is_some_and(|version| Some(version) != known)
    }

    fn file(&self) -> &Path {
        match &self.source {
            CredentialSource::File(file) | CredentialSource::Profile { file, .. } => file,
        }
    }

    fn version(&self) -> std::io::Result<Version> {
        let stat = rustix::fs::stat(self.file())?;
        Ok((
            stat.st_ino,
            stat.st_size.cast_unsigned(),
            stat.st_mtime,
            i64::try_from(stat.st_mtime_nsec).unwrap_or(0),
        ))
    }

    fn load(&self) -> Result<Token, Failure> {
        let text = std::fs::read_to_string(self.file())
            .map_err(|error| self.failure(&error.to_string()))?;
        let token = match &self.source {
            CredentialSource::File(_) => text.trim(),
            CredentialSource::Profile { section, .. } => ini_value(&text, section, "auth_token")
                .ok_or_else(|| self.failure(&format!("no auth_token in section [{section}]")))?,
        };
        let is_sendable = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
        if is_sendable {
            crate::telemetry::register_secret(token);
            return Ok(Token(token.to_owned()));
        }
        Err(self.failure("it holds no token: one line of printable characters is expected"))
    }

    fn failure(&self, why: &str) -> Failure {
        let message = format!("the credential in {} cannot be used: {why}", self.file().display());
        Failure::new(FailureKind::Unauthorized, message)
    }
}

/// Returns the value of a key in a section of an INI file.
pub fn ini_value<'a>(text: &'a str, section: &str, key: &str) -> Option<&'a str> {
    let mut here = false;
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            here = name.trim() == section;
        } else if here
            && let Some((found, value)) = line.split_once('=')
            && found.trim() == key
        {
            return Some(value.trim());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_token_is_picked_up() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("token");
        std::fs::write(&file, "first\n").expect("written");
        let credential = Credential::new(CredentialSource::File(file.clone()));
        assert_eq!(credential.token().expect("read").reveal(), "first");
        assert!(!credential.has_changed());
        std::fs::write(directory.path().join("new"), "second").expect("written");
        std::fs::rename(directory.path().join("new"), &file).expect("replaced");
        assert!(credential.has_changed());
        assert_eq!(credential.token().expect("read").reveal(), "second");
    }

    #[test]
    fn what_cannot_be_sent_is_named_by_place_and_never_shown() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("token");
        for content in ["", "  \n", "two words", "line\nline", "caf\u{e9}"] {
            std::fs::write(&file, content).expect("written");
            let failure =
                Credential::new(CredentialSource::File(file.clone())).token().expect_err("bad");
            assert_eq!(failure.kind, FailureKind::Unauthorized);
            assert!(failure.message.contains("token cannot be used"), "{failure}");
            assert!(!failure.message.contains("words"), "{failure}");
        }
    }

    #[test]
    fn a_profile_is_a_section_of_an_ini_file() {
        let text = "[other]\nauth_token = x\n[default]\napi_endpoint=u\n auth_token = secret \n";
        assert_eq!(ini_value(text, "default", "auth_token"), Some("secret"));
        assert_eq!(ini_value(text, "default", "missing"), None);
        assert_eq!(ini_value(text, "none", "auth_token"), None);
    }
}
