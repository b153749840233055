//! Credentials: read from their source, read again when that changes, never displayed.
//!
//! Owns the current token of one credential. A replaced token file is detected: its identity is
//! compared at every use, which costs one `stat`, far less than the call that needs the token.
//! After the platform refused a token it is read again in any case ([`Credential::forget`]),
//! because coarse file times can hide a change.
//!
//! *Promises*: the text of a token goes only into the header that carries it; errors and `Debug`
//! name the source, never the content. At each read the source must be a regular file that no other
//! user may read; reading a pipe or the like never blocks.
//!
//! Every destination keeps its own [`Version`] of what it has seen, so that each of several that
//! share a credential learns of a change. A [`KeySource`] fetches and renews temporary keys. A
//! crash loses nothing: the file is authoritative.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;

use super::answer::parse_time;
use super::secret::read_secret_bytes;
use super::shape::{text_of, token_of};
use crate::model::{Failure, FailureKind, WallTime};

/// Names under which tools write the expiry of temporary keys.
const ENDS: [&str; 3] = ["x_security_token_expires", "aws_expiration", "expiration"];

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CredentialSource {
    /// A file with only the token.
    File(PathBuf),
    /// A file from systemd, which decides who may read it: it grants access to the service's user
    /// by an ACL, whose mask shows as group bits.
    Given(PathBuf),
    /// An INI file of the vendor's own tools.
    Profile { file: PathBuf, section: String, key: &'static str },
    /// The sources of AWS's tools.
    Aws(AwsSource),
}

/// The files of AWS's tools, and the one source to use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwsSource {
    /// `~/.aws/config`
    pub config: PathBuf,
    /// `~/.aws/credentials`
    pub credentials: PathBuf,
    pub origin: KeyOrigin,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyOrigin {
    /// A profile in those files, with its references.
    Profile(String),
    /// Environment variables with the keys.
    Environment,
    /// The role of the machine or the container.
    Instance,
    /// A token in a file, which is exchanged for keys.
    WebIdentity,
    /// The first of all sources that has keys.
    Chain,
}

impl fmt::Display for AwsSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            KeyOrigin::Profile(name) => write!(f, "profile {name:?} of AWS's tools"),
            KeyOrigin::Environment => f.write_str("the environment"),
            KeyOrigin::Instance => f.write_str("the role of this machine"),
            KeyOrigin::WebIdentity => f.write_str("the web identity"),
            KeyOrigin::Chain => f.write_str("the places where AWS's tools look"),
        }
    }
}

/// Fetches keys, and renews them before they expire.
pub(crate) trait KeySource: fmt::Debug + Send + Sync {
    /// Returns keys that are valid for some time.
    fn keys(&self) -> BoxFuture<'_, Result<Keys, Failure>>;

    /// The keys were refused: the next use fetches others.
    fn forget(&self);
}

impl CredentialSource {
    /// Returns the path of a systemd credential below `$CREDENTIALS_DIRECTORY`; `None` when the
    /// name could lead out of it.
    pub fn systemd(directory: &Path, name: &str) -> Option<Self> {
        let is_plain = !name.is_empty() && !name.contains('/') && name != "." && name != "..";
        is_plain.then(|| Self::Given(directory.join(name)))
    }

    /// Returns a section of the vendor's profile file below a home directory.
    pub fn profile(home: &Path, section: impl Into<String>) -> Self {
        let file = home.join(".sevenbridges/credentials");
        Self::Profile { file, section: section.into(), key: "auth_token" }
    }

    /// Returns the file with the secret, where it is in a file.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::File(file) | Self::Given(file) | Self::Profile { file, .. } => Some(file),
            Self::Aws(AwsSource { credentials, origin: KeyOrigin::Profile(_), .. }) => {
                Some(credentials)
            }
            Self::Aws(_) => None,
        }
    }

    /// Returns the files whose change may change the secret.
    fn files(&self) -> Vec<&Path> {
        match self {
            Self::File(file) | Self::Given(file) | Self::Profile { file, .. } => {
                vec![file.as_path()]
            }
            Self::Aws(aws) => vec![aws.config.as_path(), aws.credentials.as_path()],
        }
    }

    /// Returns the section of an INI file.
    fn section(&self) -> &str {
        match self {
            Self::File(_) | Self::Given(_) => "default",
            Self::Profile { section, .. } => section,
            Self::Aws(AwsSource { origin: KeyOrigin::Profile(name), .. }) => name,
            Self::Aws(_) => "default",
        }
    }
}

impl fmt::Display for CredentialSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file) | Self::Given(file) | Self::Profile { file, .. } => {
                file.display().fmt(f)
            }
            Self::Aws(aws) => aws.fmt(f),
        }
    }
}

/// A secret that prints as `[redacted]`.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token(String);

impl Token {
    /// Returns the secret, for its header.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// A pair of keys of AWS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Keys {
    access_key: String,
    secret: Token,
    session: Option<Token>,
}

impl Keys {
    /// Builds a pair, and registers its secrets for removal from all output.
    pub(crate) fn new(access_key: String, secret: String, session: Option<String>) -> Self {
        crate::telemetry::register_secret(&secret);
        session.iter().for_each(|session| crate::telemetry::register_secret(session));
        Self { access_key, secret: Token(secret), session: session.map(Token) }
    }

    /// Returns the public half.
    pub(crate) fn access_key(&self) -> &str {
        &self.access_key
    }

    /// Returns the secret half, for signing.
    pub(crate) fn secret(&self) -> &str {
        self.secret.reveal()
    }

    /// Returns the token of temporary keys.
    pub(crate) fn session(&self) -> Option<&str> {
        self.session.as_ref().map(Token::reveal)
    }
}

/// Identifies a version of a credential's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Version {
    device: u64,
    inode: u64,
    size: i64,
    mtime_s: i64,
    mtime_ns: i64,
}

/// The last read value, with its version of the file.
type Cache<T> = Mutex<Option<(Version, T)>>;

/// A credential and its last read value, as a token or as keys.
#[derive(Debug)]
pub(crate) struct Credential {
    source: CredentialSource,
    token: Cache<Token>,
    keys: Cache<Keys>,
    fetches: Option<Arc<dyn KeySource>>,
}

impl Credential {
    /// Builds a credential; it is read at its first use.
    pub(crate) fn new(source: CredentialSource) -> Self {
        Self { source, token: Mutex::default(), keys: Mutex::default(), fetches: None }
    }

    /// Builds one whose keys are fetched.
    pub(crate) fn fetched(source: CredentialSource, keys: Arc<dyn KeySource>) -> Self {
        Self { fetches: Some(keys), ..Self::new(source) }
    }

    /// Returns the token, read again when its file has changed.
    ///
    /// # Errors
    /// `Unauthorized` when there is none: the destination halts until there is one.
    pub(crate) fn token(&self) -> Result<Token, Failure> {
        self.fresh(&self.token, |text| self.token_in(text))
    }

    /// Returns a pair of keys, fetched or as [`Self::stored_keys`].
    ///
    /// # Errors
    /// `Unauthorized` when there is none: the destination halts until there is one.
    pub(crate) async fn keys(&self) -> Result<Keys, Failure> {
        match &self.fetches {
            Some(source) => source.keys().await,
            None => self.stored_keys(),
        }
    }

    /// Returns a pair of keys of an AWS credentials file, read again when it has changed.
    ///
    /// # Errors
    /// As [`Self::keys`].
    pub(crate) fn stored_keys(&self) -> Result<Keys, Failure> {
        self.fresh(&self.keys, |text| self.keys_in(text))
    }

    fn fresh<T: Clone>(
        &self,
        cache: &Cache<T>,
        take: impl FnOnce(&str) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let version = self.stat().map_err(|error| self.failure(&error.to_string()))?;
        let mut read = cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, secret)) = read.as_ref()
            && *known == version
        {
            return Ok(secret.clone());
        }
        let secret = take(&self.text()?)?;
        *read = Some((version, secret.clone()));
        Ok(secret)
    }

    /// Drops the read value, so that the next use reads it again: the platform refused it.
    pub(crate) fn forget(&self) {
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = None;
        *self.keys.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.fetches.iter().for_each(|source| source.forget());
    }

    /// Returns the present version of the file; `None` when there is none.
    pub(crate) fn version(&self) -> Option<Version> {
        self.stat().ok()
    }

    /// Returns whether the file has another version than `seen`, and updates that.
    pub(crate) fn changed_since(&self, seen: &mut Option<Version>) -> bool {
        let version = self.version();
        let has_changed = version.is_some() && version != *seen;
        *seen = version;
        has_changed
    }

    /// Returns when it expires, where it says so itself: in a JSON web token, or where the tool
    /// that fetched temporary keys wrote it beside them.
    pub(crate) fn expires_at(&self) -> Option<WallTime> {
        let text = self.text().ok()?;
        let section = self.source.section();
        let mut beside = ENDS.iter().filter_map(|key| parse_time(ini_value(&text, section, key)?));
        beside.next().or_else(|| end_of_web_token(self.token().ok()?.reveal()))
    }

    /// Returns the version of the file; of several, that of the last written one.
    fn stat(&self) -> io::Result<Version> {
        let files = self.source.files();
        let newest = files.iter().filter_map(|file| version_of(file).ok());
        let newest = newest.max_by_key(|version| (version.mtime_s, version.mtime_ns));
        newest.map_or_else(|| version_of(files.last().unwrap_or(&Path::new(""))), Ok)
    }

    fn text(&self) -> Result<String, Failure> {
        let is_private = !matches!(self.source, CredentialSource::Given(_));
        let Some(file) = self.source.file() else { return Err(self.failure("it is no file")) };
        let bytes = read_secret_bytes(file, is_private)
            .map_err(|error| self.failure(&error.to_string()))?;
        text_of(&bytes).map(str::to_owned).map_err(|why| self.failure(why))
    }

    fn token_in(&self, text: &str) -> Result<Token, Failure> {
        let token = match &self.source {
            CredentialSource::File(_) | CredentialSource::Given(_) => text,
            CredentialSource::Profile { section, key, .. } => ini_value(text, section, key)
                .ok_or_else(|| self.failure(&missing(text, section, key)))?,
            CredentialSource::Aws(_) => return Err(self.failure("it holds keys, and no token")),
        };
        let token = token_of(token).map_err(|why| self.failure(why))?;
        crate::telemetry::register_secret(token);
        Ok(Token(token.to_owned()))
    }

    fn keys_in(&self, text: &str) -> Result<Keys, Failure> {
        let section = self.source.section();
        let value = |key: &str| {
            let found = ini_value(text, section, key).filter(|value| !value.is_empty());
            found.map(str::to_owned)
        };
        let needed =
            |key: &str| value(key).ok_or_else(|| self.failure(&missing(text, section, key)));
        let access_key = needed("aws_access_key_id")?;
        Ok(Keys::new(access_key, needed("aws_secret_access_key")?, value("aws_session_token")))
    }

    fn failure(&self, why: &str) -> Failure {
        let message = format!("the credential in {} cannot be used: {why}", self.source);
        Failure::new(FailureKind::Unauthorized, message)
    }
}

/// Returns the present version of a file.
pub(super) fn version_of(file: &Path) -> io::Result<Version> {
    let stat = rustix::fs::stat(file)?;
    Ok(Version {
        device: stat.st_dev,
        inode: stat.st_ino,
        size: stat.st_size,
        mtime_s: stat.st_mtime,
        mtime_ns: i64::try_from(stat.st_mtime_nsec).unwrap_or(0),
    })
}

/// Describes what an INI file lacks. A missing section is not named: the secret itself may have
/// been written in its place.
fn missing(text: &str, section: &str, key: &str) -> String {
    let heading = format!("[{section}]");
    match section == "default" || text.lines().any(|line| line.trim() == heading) {
        true => format!("no {key} in section [{section}]"),
        false => "it has no section of that name".to_owned(),
    }
}

/// Returns the value of a key in a section of an INI file; lines before any section apply to all.
pub(crate) fn ini_value<'a>(text: &'a str, section: &str, key: &str) -> Option<&'a str> {
    let mut is_here = true;
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            is_here = name.trim() == section;
        } else if is_here
            && !line.starts_with(['#', ';'])
            && let Some((found, value)) = line.split_once(['=', ':'])
            && found.trim() == key
        {
            return Some(value.trim());
        }
    }
    None
}

/// Returns the `exp` of a JSON web token.
pub(crate) fn end_of_web_token(token: &str) -> Option<WallTime> {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let mut pieces = token.split('.');
    let (_, claims, _, None) = (pieces.next()?, pieces.next()?, pieces.next()?, pieces.next())
    else {
        return None;
    };
    let claims: serde_json::Value =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
    claims.get("exp")?.as_i64()?.checked_mul(1_000_000_000).map(WallTime)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token_file(content: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("token");
        std::fs::write(&file, content).expect("written");
        keep_private(&file);
        (directory, file)
    }

    fn keep_private(file: &Path) {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(file, mode).expect("set");
    }

    fn replace(file: &Path, content: &str) {
        let fresh = file.with_extension("fresh");
        std::fs::write(&fresh, content).expect("written");
        keep_private(&fresh);
        std::fs::rename(&fresh, file).expect("replaced");
    }

    #[test]
    fn a_replaced_token_is_picked_up() {
        let (_directory, file) = token_file(b"first\n");
        let credential = Credential::new(CredentialSource::File(file.clone()));
        assert_eq!(credential.token().expect("read").reveal(), "first");
        replace(&file, "second");
        assert_eq!(credential.token().expect("read").reveal(), "second");
        std::fs::remove_file(&file).expect("removed");
        assert_eq!(credential.token().expect_err("gone").kind, FailureKind::Unauthorized);
    }

    #[test]
    fn a_credential_that_says_so_is_known_to_end() {
        let end = |content: &[u8]| {
            let (_directory, file) = token_file(content);
            Credential::new(CredentialSource::File(file)).expires_at()
        };
        // {"alg":"none"} . {"exp":1800000000} . an ignored signature
        let web = end(b"eyJhbGciOiJub25lIn0.eyJleHAiOjE4MDAwMDAwMDB9.c2ln");
        assert_eq!(web, Some(WallTime(1_800_000_000_000_000_000)));
        let keys = end(b"[default]\naws_session_token = x\nexpiration = 2027-01-15T08:00:00Z\n");
        assert_eq!(keys, web);
        assert_eq!(end(b"5ec2e7f00dfeed"), None);
        assert_eq!(end(b"a.b.c"), None);
    }

    #[test]
    fn each_who_shares_a_credential_learns_of_a_change_once() {
        let (_directory, file) = token_file(b"first");
        let credential = Credential::new(CredentialSource::File(file.clone()));
        let (mut one, mut other) = (credential.version(), credential.version());
        assert!(!credential.changed_since(&mut one));
        replace(&file, "second");
        credential.token().expect("somebody used it meanwhile");
        assert!(credential.changed_since(&mut one));
        assert!(!credential.changed_since(&mut one));
        assert!(credential.changed_since(&mut other));
        std::fs::remove_file(&file).expect("removed");
        assert!(!credential.changed_since(&mut one), "a file that is not there is no credential");
        replace(&file, "third");
        assert!(credential.changed_since(&mut one));
    }

    #[test]
    fn a_forgotten_token_is_read_again_though_its_file_looks_the_same() {
        let (_directory, file) = token_file(b"first");
        let credential = Credential::new(CredentialSource::File(file.clone()));
        let before = std::fs::metadata(&file).expect("there").modified().expect("a time");
        credential.token().expect("read");
        std::fs::write(&file, "other").expect("written");
        let handle = std::fs::File::options().write(true).open(&file).expect("opened");
        handle.set_modified(before).expect("set back");
        assert_eq!(credential.token().expect("read").reveal(), "first");
        credential.forget();
        assert_eq!(credential.token().expect("read").reveal(), "other");
    }

    #[test]
    fn what_cannot_be_sent_is_named_by_place_and_never_shown() {
        let long = vec![b'x'; 70_000];
        for content in [
            &b""[..],
            b"  \n",
            b"two words",
            b"words\x07",
            b"words\nline",
            b"caf\xc3\xa9 words",
            b"\xff words",
            &long,
        ] {
            let (_directory, file) = token_file(content);
            let failure =
                Credential::new(CredentialSource::File(file.clone())).token().expect_err("bad");
            assert_eq!(failure.kind, FailureKind::Unauthorized);
            assert!(failure.message.contains("token cannot be used"), "{failure}");
            assert!(!failure.message.contains("words"), "{failure}");
        }
    }

    #[test]
    fn what_is_no_private_file_is_refused_at_each_read_and_not_waited_for() {
        use std::os::unix::fs::PermissionsExt;
        let (directory, file) = token_file(b"planted");
        let credential = Credential::new(CredentialSource::File(file.clone()));
        credential.token().expect("read");
        let set = |mode| std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode));
        set(0o640).expect("set");
        credential.forget();
        let failure = credential.token().expect_err("others may read it");
        assert!(failure.message.contains("mode 640"), "{failure}");
        let given = Credential::new(CredentialSource::Given(file.clone()));
        assert_eq!(given.token().expect("systemd's to say").reveal(), "planted");
        let pipe = directory.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).expect("a pipe");
        for place in [&pipe, Path::new("/dev/zero"), directory.path()] {
            let credential = Credential::new(CredentialSource::File(place.to_owned()));
            let failure = credential.token().expect_err("no file");
            assert!(failure.message.contains("it is no file"), "{failure}");
            assert!(credential.stored_keys().is_err() && credential.expires_at().is_none());
        }
    }

    #[test]
    fn a_token_does_not_print_itself() {
        let (_directory, file) = token_file(b"planted");
        let credential = Credential::new(CredentialSource::File(file));
        let token = credential.token().expect("read");
        assert_eq!(format!("{token:?}"), "[redacted]");
        assert!(!format!("{credential:?}").contains("planted"));
    }

    #[test]
    fn a_profile_is_a_section_of_an_ini_file() {
        let text = "[other]\nauth_token = x\n[default]\n# auth_token = old\napi_endpoint=u\n auth_token = secret \n";
        assert_eq!(ini_value(text, "default", "auth_token"), Some("secret"));
        assert_eq!(ini_value(text, "default", "missing"), None);
        assert_eq!(ini_value(text, "none", "auth_token"), None);
        let home = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(home.path().join(".sevenbridges")).expect("made");
        let file = home.path().join(".sevenbridges/credentials");
        std::fs::write(&file, text).expect("written");
        keep_private(&file);
        let credential = Credential::new(CredentialSource::profile(home.path(), "default"));
        assert_eq!(credential.token().expect("read").reveal(), "secret");
    }

    #[test]
    fn lines_before_any_section_belong_to_all() {
        let (_directory, file) = token_file(b"apiServer = https://x\naccessToken = secret\n");
        let section = "DEFAULT".to_owned();
        let source = CredentialSource::Profile { file, section, key: "accessToken" };
        assert_eq!(Credential::new(source).token().expect("read").reveal(), "secret");
    }

    #[test]
    fn keys_are_those_of_one_section_and_do_not_print_themselves() {
        let text = b"[default]\naws_access_key_id = A\naws_secret_access_key = planted-one\n\
            [lab]\naws_access_key_id = B\naws_secret_access_key = planted/two+\n\
            aws_session_token = planted-three\n[half]\naws_access_key_id = C\n";
        let (_directory, file) = token_file(text);
        let plain =
            Credential::new(CredentialSource::File(file.clone())).stored_keys().expect("read");
        assert_eq!(
            (plain.access_key(), plain.secret(), plain.session()),
            ("A", "planted-one", None)
        );
        let of = |section: &str| {
            let (file, section) = (file.clone(), section.to_owned());
            let key = "aws_secret_access_key";
            Credential::new(CredentialSource::Profile { file, section, key })
        };
        let lab = of("lab").stored_keys().expect("read");
        assert_eq!((lab.access_key(), lab.secret()), ("B", "planted/two+"));
        assert_eq!(lab.session(), Some("planted-three"));
        assert!(!format!("{lab:?}").contains("planted"));
        for section in ["half", "none"] {
            let failure = of(section).stored_keys().expect_err("incomplete");
            assert_eq!(failure.kind, FailureKind::Unauthorized);
            assert_eq!(failure.message.contains(section), section == "half", "{failure}");
        }
    }

    #[test]
    fn keys_are_read_again_when_their_file_is_another_or_they_were_refused() {
        let pair = |secret: &str| {
            format!("[default]\naws_access_key_id = A\naws_secret_access_key = {secret}\n")
        };
        let (_directory, file) = token_file(pair("first").as_bytes());
        let credential = Credential::new(CredentialSource::File(file.clone()));
        let secret = || credential.stored_keys().expect("read").secret().to_owned();
        assert_eq!(secret(), "first");
        replace(&file, &pair("second"));
        assert_eq!(secret(), "second");
        let before = std::fs::metadata(&file).expect("there").modified().expect("a time");
        std::fs::write(&file, pair("thirds")).expect("written");
        let handle = std::fs::File::options().write(true).open(&file).expect("opened");
        handle.set_modified(before).expect("set back");
        assert_eq!(secret(), "second", "the file looks the same");
        credential.forget();
        assert_eq!(secret(), "thirds");
    }

    #[test]
    fn a_systemd_credential_stays_in_its_directory() {
        let directory = Path::new("/run/credentials/dropferry.service");
        let source = CredentialSource::systemd(directory, "cavatica").expect("a plain name");
        assert_eq!(source.file(), Some(directory.join("cavatica").as_path()));
        for name in ["", ".", "..", "a/b", "/etc/shadow"] {
            assert_eq!(CredentialSource::systemd(directory, name), None, "{name}");
        }
    }
}
