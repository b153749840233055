//! Keys for a login by SSO: the login is found in the cache of AWS's tools, renewed with its
//! refresh token before it ends, and written back for those tools.
//!
//! *Never* renews a login whose file cannot be written: the service may issue another refresh
//! token, which the tools would not know.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use reqwest::{Method, Url};
use serde::Deserialize;
use serde_json::{Value, json};

use super::fetch::domain;
use super::recipe::Sso;
use super::{AHEAD, AwsKeys, Lease};
use crate::model::{Failure, FailureKind, WallTime};
use crate::platform::answer::{parse, parse_time};
use crate::platform::credential::Keys;
use crate::platform::http::{Request, header_map};
use crate::platform::secret::read_secret;
use crate::platform::signature::query;
use crate::telemetry::register_secret;

/// Renewals of this process: each writes a file of its own before it takes the place of the login.
static RENEWALS: AtomicU64 = AtomicU64::new(0);
/// The most logins that are searched for the one of a portal.
const LOGINS_MAX: usize = 256;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RoleCredentials {
    role_credentials: PortalKeys,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PortalKeys {
    access_key_id: String,
    secret_access_key: String,
    session_token: String,
    /// Milliseconds since 1970.
    expiration: i64,
}

/// A login that was renewed.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Renewed {
    access_token: String,
    /// In seconds.
    expires_in: u32,
    refresh_token: Option<String>,
}

/// A login as AWS's tools store it.
struct Login {
    file: PathBuf,
    fields: Value,
    ends_at: WallTime,
}

impl Login {
    fn read(file: PathBuf) -> Option<Self> {
        let fields: Value = serde_json::from_str(&read_secret(&file, false).ok()?).ok()?;
        // Older tools write the name of the zone.
        let ends_at = parse_time(&fields["expiresAt"].as_str()?.replace("UTC", "Z"))?;
        let login = Self { file, fields, ends_at };
        ["accessToken", "refreshToken", "clientSecret"]
            .into_iter()
            .filter_map(|name| login.text(name))
            .for_each(register_secret);
        login.text("accessToken").is_some().then_some(login)
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.fields[name].as_str()
    }

    /// Returns the request for a new access token, if the login has the fields for it.
    fn renewal(&self) -> Option<Value> {
        Some(json!({
            "grantType": "refresh_token",
            "clientId": self.text("clientId")?,
            "clientSecret": self.text("clientSecret")?,
            "refreshToken": self.text("refreshToken")?,
        }))
    }
}

impl AwsKeys {
    /// Asks the portal for the keys of a role, with the access token of the login.
    pub(super) async fn sso(&self, sso: &Sso) -> Result<Lease, Failure> {
        let again = format!("run: aws sso login --profile {}", sso.profile);
        let ours = |login: &Login| login.text("startUrl") == Some(sso.start_url.as_str());
        let ours = logins(&sso.cache).into_iter().filter(ours);
        let mut login = ours
            .max_by_key(|login| login.ends_at)
            .ok_or_else(|| self.unusable(&format!("there is no login: {again}")))?;
        let now = self.time.now().wall;
        if login.ends_at <= now.after(AHEAD) {
            match self.renew(sso, &login).await {
                Ok(renewed) => login = renewed,
                // The current token is still valid, and the next fetch tries again.
                Err(_) if login.ends_at > now => {}
                Err(Failure { kind: FailureKind::Unauthorized, message, .. }) => {
                    let why = format!("the login has ended: {again} ({message})");
                    return Err(self.unusable(&why));
                }
                Err(failure) => return Err(failure),
            }
        }
        let mut url = self.service("AWS_ENDPOINT_URL_SSO", "portal.sso", sso)?;
        url.set_path("/federation/credentials");
        let pairs = [("account_id", sso.account.as_str()), ("role_name", sso.role.as_str())];
        url.set_query(Some(&query(pairs)));
        let token = login.text("accessToken").unwrap_or_default();
        let headers = header_map([("x-amz-sso_bearer_token", token)].into_iter())?;
        let request = Request { headers, ..Request::default() };
        let answer = self.ask(Method::GET, url, request).await?;
        if answer.status != 200 {
            let why = format!("SSO refuses role {} of account {}", sso.role, sso.account);
            let again = if answer.status == 401 { format!(": {again}") } else { String::new() };
            return Err(self.refused(&answer, &format!("{why}{again}")));
        }
        let keys = parse::<RoleCredentials>(&answer)?.role_credentials;
        let ends_at = Some(WallTime(keys.expiration.saturating_mul(1_000_000)));
        let session = Some(keys.session_token);
        let keys = Keys::new(keys.access_key_id, keys.secret_access_key, session);
        Ok(Lease { keys, ends_at })
    }

    /// Renews a login, and writes it in place of the former one.
    async fn renew(&self, sso: &Sso, login: &Login) -> Result<Login, Failure> {
        let question = login.renewal().ok_or_else(|| self.unusable("it has no refresh token"))?;
        let unwritable = |error: std::io::Error| {
            self.unusable(&format!("{} cannot be written: {error}", login.file.display()))
        };
        let number = RENEWALS.fetch_add(1, Ordering::Relaxed);
        let beside = login.file.with_extension(format!("renewed-{}-{number}", std::process::id()));
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let mut file = options.open(&beside).map_err(unwritable)?;
        let mut url = self.service("AWS_ENDPOINT_URL_SSO_OIDC", "oidc", sso)?;
        url.set_path("/token");
        let headers = header_map([("content-type", "application/json")].into_iter())?;
        let body = Some(Bytes::from(question.to_string()));
        let request = Request { headers, body, ..Request::default() };
        let answer = self.ask(Method::POST, url, request).await;
        let renewed = answer.and_then(|answer| match answer.status {
            200 => parse::<Renewed>(&answer),
            _ => Err(self.refused(&answer, "SSO does not renew the login")),
        });
        let renewed = match renewed {
            Ok(renewed) => renewed,
            Err(failure) => {
                std::fs::remove_file(&beside).ok();
                // A refresh token counts once: another process may have used it.
                let now = Login::read(login.file.clone());
                return now.filter(|now| now.fields != login.fields).ok_or(failure);
            }
        };
        let mut fields = login.fields.clone();
        let life = Duration::from_secs(renewed.expires_in.into());
        let ends_at = self.time.now().wall.after(life);
        let ends = jiff::Timestamp::from_second(ends_at.0 / 1_000_000_000);
        fields["expiresAt"] = ends.map(|ends| ends.to_string()).unwrap_or_default().into();
        fields["accessToken"] = renewed.access_token.into();
        if let Some(next) = renewed.refresh_token {
            fields["refreshToken"] = next.into();
        }
        file.write_all(fields.to_string().as_bytes()).map_err(unwritable)?;
        file.sync_all().map_err(unwritable)?;
        std::fs::rename(&beside, &login.file).map_err(unwritable)?;
        Login::read(login.file.clone()).ok_or_else(|| self.unusable("SSO gave no login"))
    }

    fn service(&self, variable: &str, host: &str, sso: &Sso) -> Result<Url, Failure> {
        let usual = || format!("https://{host}.{}.{}", sso.region, domain(&sso.region));
        self.address(&(self.environment)(variable).unwrap_or_else(usual))
    }
}

/// Reads the logins that the tools of AWS keep.
fn logins(cache: &Path) -> Vec<Login> {
    let Ok(entries) = std::fs::read_dir(cache) else { return Vec::new() };
    let files = entries.filter_map(|entry| Some(entry.ok()?.path())).take(LOGINS_MAX);
    files.filter_map(Login::read).collect()
}
