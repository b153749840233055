//! How to get keys, from the files of AWS's tools and the environment.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::platform::credential::{AwsSource, KeyOrigin, ini_value};
use crate::platform::secret::read_secret;

/// Limit of profiles that refer to one another in a chain.
const DEPTH_MAX: usize = 8;

/// One way to get keys.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Recipe {
    Keys {
        access_key: String,
        secret: String,
        session: Option<String>,
    },
    /// A role, assumed with other keys.
    Role {
        role: AwsRole,
        from: Box<Recipe>,
    },
    /// A role, assumed with a token.
    WebIdentity {
        role: AwsRole,
        token_file: PathBuf,
    },
    Sso(Sso),
    /// A program that prints keys.
    Process(String),
    Container,
    Instance,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct AwsRole {
    pub(super) arn: String,
    pub(super) session_name: String,
    pub(super) external_id: Option<String>,
    pub(super) duration_s: Option<u32>,
    /// The region in which to assume it, where one is given.
    pub(super) region: Option<String>,
}

/// A role that a logged-in person may use.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sso {
    pub(super) start_url: String,
    pub(super) region: String,
    pub(super) account: String,
    pub(super) role: String,
    /// The login cache of AWS's tools.
    pub(super) cache: PathBuf,
    pub(super) profile: String,
}

impl fmt::Display for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keys { .. } => f.write_str("keys that are written there"),
            Self::Role { role, from } => write!(f, "{}, assumed with {from}", role.arn),
            Self::WebIdentity { role, .. } => write!(f, "{}, assumed with a token", role.arn),
            Self::Sso(sso) => write!(f, "role {} of account {} by SSO", sso.role, sso.account),
            Self::Process(_) => f.write_str("keys that a program prints"),
            Self::Container => f.write_str("the role of the container"),
            Self::Instance => f.write_str("the role of the machine"),
        }
    }
}

type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Decides how to get the keys of a source.
///
/// # Errors
/// Why there are none, with the cure.
pub(super) fn of(source: &AwsSource, environment: Lookup<'_>) -> Result<Recipe, String> {
    let files = || AwsFiles::read(source, environment);
    match &source.origin {
        KeyOrigin::Profile(name) => {
            let files = files()?;
            let none = || files.nothing_in(name);
            files.recipe(name, DEPTH_MAX)?.ok_or_else(none)
        }
        KeyOrigin::Environment => from_environment(environment).ok_or_else(|| {
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set for this program".to_owned()
        }),
        KeyOrigin::WebIdentity => from_token(environment).ok_or_else(|| {
            "AWS_ROLE_ARN and AWS_WEB_IDENTITY_TOKEN_FILE are not set for this program".to_owned()
        }),
        KeyOrigin::Instance => Ok(of_the_host(environment)),
        KeyOrigin::Chain => {
            if let Some(recipe) = from_environment(environment) {
                return Ok(recipe);
            }
            let asked = set(environment, "AWS_PROFILE");
            let name = asked.clone().unwrap_or_else(|| "default".to_owned());
            let files = files()?;
            match files.recipe(&name, DEPTH_MAX)? {
                Some(recipe) => Ok(recipe),
                None if asked.is_some() => Err(files.nothing_in(&name)),
                None => Ok(from_token(environment).unwrap_or_else(|| of_the_host(environment))),
            }
        }
    }
}

fn set(environment: Lookup<'_>, name: &str) -> Option<String> {
    environment(name).filter(|value| !value.is_empty())
}

fn from_environment(environment: Lookup<'_>) -> Option<Recipe> {
    Some(Recipe::Keys {
        access_key: set(environment, "AWS_ACCESS_KEY_ID")?,
        secret: set(environment, "AWS_SECRET_ACCESS_KEY")?,
        session: set(environment, "AWS_SESSION_TOKEN"),
    })
}

fn from_token(environment: Lookup<'_>) -> Option<Recipe> {
    let role = AwsRole {
        arn: set(environment, "AWS_ROLE_ARN")?,
        session_name: session_name(set(environment, "AWS_ROLE_SESSION_NAME")),
        external_id: None,
        duration_s: None,
        region: None,
    };
    let token_file = set(environment, "AWS_WEB_IDENTITY_TOKEN_FILE")?.into();
    Some(Recipe::WebIdentity { role, token_file })
}

fn of_the_host(environment: Lookup<'_>) -> Recipe {
    let names = ["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"];
    match names.iter().any(|name| set(environment, name).is_some()) {
        true => Recipe::Container,
        false => Recipe::Instance,
    }
}

fn session_name(given: Option<String>) -> String {
    given.unwrap_or_else(|| "dropferry".to_owned())
}

/// The contents of both files.
struct AwsFiles<'a> {
    source: &'a AwsSource,
    environment: Lookup<'a>,
    config: String,
    credentials: String,
}

impl<'a> AwsFiles<'a> {
    fn read(source: &'a AwsSource, environment: Lookup<'a>) -> Result<Self, String> {
        let text = |file: &Path, is_private| match read_secret(file, is_private) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
            read => read.map_err(|error| format!("{}: {error}", file.display())),
        };
        let config = text(&source.config, false)?;
        Ok(Self { source, environment, config, credentials: text(&source.credentials, true)? })
    }

    fn nothing_in(&self, name: &str) -> String {
        let (config, credentials) =
            (self.source.config.display(), self.source.credentials.display());
        match self.is_there(name) {
            // A missing section is not named: a secret may have been written in its place.
            false => format!("neither {credentials} nor {config} has a profile of that name"),
            true => format!(
                "profile {name:?} in {credentials} and {config} has no aws_access_key_id with \
                 aws_secret_access_key, no role_arn, no sso_session and no credential_process"
            ),
        }
    }

    fn is_there(&self, name: &str) -> bool {
        let has = |text: &str, heading: String| text.lines().any(|line| line.trim() == heading);
        has(&self.credentials, format!("[{name}]"))
            || has(&self.config, format!("[profile {name}]"))
            || (name == "default" && has(&self.config, "[default]".to_owned()))
    }

    /// Returns a value of a profile. `credentials` takes precedence.
    fn value(&self, profile: &str, key: &str) -> Option<String> {
        let in_config = || {
            let section = format!("profile {profile}");
            let found = value_in(&self.config, &section, key);
            found
                .or_else(|| value_in(&self.config, "default", key).filter(|_| profile == "default"))
        };
        value_in(&self.credentials, profile, key).or_else(in_config)
    }

    /// Returns how to get the keys of a profile; `None` for one without keys.
    fn recipe(&self, profile: &str, depth: usize) -> Result<Option<Recipe>, String> {
        if depth == 0 {
            return Err("the profiles that source_profile names go in circles".to_owned());
        }
        let of = |key: &str| self.value(profile, key);
        if let Some(arn) = of("role_arn") {
            return self.role(profile, arn, depth).map(Some);
        }
        if let Some(keys) = self.keys(profile) {
            return Ok(Some(keys));
        }
        if of("sso_session").is_some() || of("sso_start_url").is_some() {
            return self.sso(profile).map(|sso| Some(Recipe::Sso(sso)));
        }
        Ok(of("credential_process").map(Recipe::Process))
    }

    fn keys(&self, profile: &str) -> Option<Recipe> {
        Some(Recipe::Keys {
            access_key: self.value(profile, "aws_access_key_id")?,
            secret: self.value(profile, "aws_secret_access_key")?,
            session: self.value(profile, "aws_session_token"),
        })
    }

    fn role(&self, profile: &str, arn: String, depth: usize) -> Result<Recipe, String> {
        let of = |key: &str| self.value(profile, key);
        if of("mfa_serial").is_some() {
            return Err(format!(
                "role {arn} asks for the code of a device (mfa_serial), which no daemon has"
            ));
        }
        let role = AwsRole {
            session_name: session_name(of("role_session_name")),
            external_id: of("external_id"),
            duration_s: of("duration_seconds").and_then(|text| text.parse().ok()),
            region: of("region"),
            arn,
        };
        if let Some(token_file) = of("web_identity_token_file") {
            return Ok(Recipe::WebIdentity { role, token_file: token_file.into() });
        }
        let from = match (of("source_profile"), of("credential_source").as_deref()) {
            // A profile may refer to itself, for the keys in it.
            (Some(source), None) if source == profile => self.keys(profile),
            (Some(source), None) => {
                let found = self.recipe(&source, depth - 1)?;
                return match found {
                    Some(from) => Ok(Recipe::Role { role, from: Box::new(from) }),
                    None => Err(self.nothing_in(&source)),
                };
            }
            (None, Some("Environment")) => from_environment(self.environment),
            (None, Some("EcsContainer")) => Some(Recipe::Container),
            (None, Some("Ec2InstanceMetadata")) => Some(Recipe::Instance),
            _ => {
                return Err(format!(
                    "role {} has neither source_profile nor a known credential_source",
                    role.arn
                ));
            }
        };
        match from {
            Some(from) => Ok(Recipe::Role { role, from: Box::new(from) }),
            None => Err(format!("there are no keys with which role {} is assumed", role.arn)),
        }
    }

    fn sso(&self, profile: &str) -> Result<Sso, String> {
        let session = self.value(profile, "sso_session");
        let section = session.map(|name| format!("sso-session {name}"));
        let needed = |key: &str| {
            let of_session =
                section.as_ref().and_then(|section| value_in(&self.config, section, key));
            let found = of_session.or_else(|| self.value(profile, key));
            found.ok_or_else(|| format!("profile {profile:?} has no {key}"))
        };
        let home = set(self.environment, "HOME").unwrap_or_default();
        Ok(Sso {
            start_url: needed("sso_start_url")?,
            region: needed("sso_region")?,
            account: needed("sso_account_id")?,
            role: needed("sso_role_name")?,
            cache: Path::new(&home).join(".aws/sso/cache"),
            profile: profile.to_owned(),
        })
    }
}

/// Returns a non-empty value, without the comment after it.
fn value_in(text: &str, section: &str, key: &str) -> Option<String> {
    let value = ini_value(text, section, key)?;
    let end = [" #", " ;", "\t#", "\t;"].iter().filter_map(|mark| value.find(mark)).min();
    let value = value[..end.unwrap_or(value.len())].trim();
    (!value.is_empty()).then(|| value.to_owned())
}
