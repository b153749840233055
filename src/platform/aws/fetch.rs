//! Fetches keys: from the token service, the services of the machine and the container, or a
//! program.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use reqwest::{Method, Url};
use serde::Deserialize;
use tokio::io::AsyncReadExt;
use tokio::process::Command;

use super::recipe::AwsRole;
use super::{AwsKeys, Lease};
use crate::model::{Failure, FailureKind};
use crate::platform::answer::{clip, parse, parse_date, parse_time};
use crate::platform::credential::Keys;
use crate::platform::http::{Request, Response, base_url, header_map, is_own_host};
use crate::platform::s3::text_in;
use crate::platform::secret::read_secret;
use crate::platform::signature::{Signing, query, sha256};

/// Time limit of a program that prints keys: it may ask a distant server.
const PROCESS_LIMIT: Duration = Duration::from_mins(1);
/// Printed keys are much shorter.
const PROCESS_OUTPUT_MAX: u64 = 64 * 1024;
/// A service on the machine's own host answers at once, or does not exist.
const HOST_LIMIT: Duration = Duration::from_secs(5);

/// Keys as programs and the host's services print them.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PrintedKeys {
    access_key_id: String,
    secret_access_key: String,
    #[serde(alias = "SessionToken")]
    token: Option<String>,
    expiration: Option<String>,
}

impl PrintedKeys {
    fn lease(self) -> Lease {
        let ends_at = self.expiration.as_deref().and_then(parse_time);
        Lease { keys: Keys::new(self.access_key_id, self.secret_access_key, self.token), ends_at }
    }
}

impl AwsKeys {
    /// Assumes a role with other keys. If the service refuses the time, its own time is used.
    pub(super) async fn assume(&self, role: &AwsRole, keys: &Keys) -> Result<Lease, Failure> {
        let (url, region) = self.token_service(role)?;
        let form = form("AssumeRole", role, None);
        let content = [("content-type", "application/x-www-form-urlencoded; charset=utf-8")];
        let mut at = self.time.now().wall;
        let mut attempt_count = 0;
        loop {
            let signing = Signing { service: "sts", region: &region, keys, at };
            let lines = content.map(|(name, value)| (name.to_owned(), value.to_owned()));
            let digest = sha256(form.as_bytes());
            let lines = signing.lines(&Method::POST, &url, lines.to_vec(), &digest);
            let lines = lines.iter().map(|(name, value)| (name.as_str(), value.as_str()));
            let (headers, body) = (header_map(lines)?, Some(Bytes::from(form.clone())));
            let request = Request { headers, body, ..Request::default() };
            let answer = self.ask(Method::POST, url.clone(), request).await?;
            let code = text_in(&answer.body, "Code").unwrap_or_default();
            attempt_count += 1;
            let is_of_time = ["RequestExpired", "SignatureDoesNotMatch"].contains(&code.as_str());
            match answer.header("date").and_then(parse_date) {
                Some(date) if is_of_time && attempt_count == 1 => at = date,
                Some(_) | None => return self.given(&answer, &role.arn),
            }
        }
    }

    /// Assumes a role with the token in a file, which another program renews.
    pub(super) async fn assume_by_token(
        &self,
        role: &AwsRole,
        token_file: &Path,
    ) -> Result<Lease, Failure> {
        let token = read_secret(token_file, false)
            .map_err(|error| self.unusable(&format!("{}: {error}", token_file.display())))?;
        let token = token.trim();
        crate::telemetry::register_secret(token);
        let (url, _) = self.token_service(role)?;
        let form = form("AssumeRoleWithWebIdentity", role, Some(token));
        let content = ("content-type", "application/x-www-form-urlencoded; charset=utf-8");
        let headers = header_map([content].into_iter())?;
        let request = Request { headers, body: Some(form.into()), ..Request::default() };
        let answer = self.ask(Method::POST, url, request).await?;
        self.given(&answer, &role.arn)
    }

    /// Returns the service that assumes roles, and its region.
    fn token_service(&self, role: &AwsRole) -> Result<(Url, String), Failure> {
        let variable = |name: &str| (self.environment)(name).filter(|value| !value.is_empty());
        let region = role.region.clone();
        let region = region.or_else(|| variable("AWS_REGION"));
        let region = region.or_else(|| variable("AWS_DEFAULT_REGION"));
        let region = region.unwrap_or_else(|| self.region.clone());
        let address = variable("AWS_ENDPOINT_URL_STS")
            .unwrap_or_else(|| format!("https://sts.{region}.{}/", domain(&region)));
        Ok((self.address(&address)?, region))
    }

    pub(super) fn address(&self, text: &str) -> Result<Url, Failure> {
        base_url(text, false).map_err(|failure| self.unusable(&failure.message))
    }

    /// Parses the token service's answer.
    fn given(&self, answer: &Response, role: &str) -> Result<Lease, Failure> {
        let of = |name: &str| text_in(&answer.body, name);
        let ends_at = of("Expiration").as_deref().and_then(parse_time);
        let keys = of("AccessKeyId").zip(of("SecretAccessKey")).zip(of("SessionToken"));
        if let Some(((access_key, secret), session)) = keys.filter(|_| answer.status == 200) {
            return Ok(Lease { keys: Keys::new(access_key, secret, Some(session)), ends_at });
        }
        let (code, message) = (of("Code").unwrap_or_default(), of("Message").unwrap_or_default());
        Err(self.refused(answer, &format!("role {role} is refused: {code} {message}")))
    }

    /// Runs a program that prints keys, through a shell as the tools of AWS do.
    pub(super) async fn run(&self, command: &str) -> Result<Lease, Failure> {
        let failed = |why: String| self.unusable(&format!("credential_process {why}"));
        let mut child = Command::new("sh")
            .args(["-c", command])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| failed(format!("cannot be run: {error}")))?;
        let mut text = Vec::new();
        let stdout = child.stdout.take();
        let ended = async {
            if let Some(stdout) = stdout {
                stdout.take(PROCESS_OUTPUT_MAX).read_to_end(&mut text).await?;
            }
            child.wait().await
        };
        let status = match tokio::time::timeout(PROCESS_LIMIT, ended).await {
            Ok(ended) => ended.map_err(|error| failed(format!("broke off: {error}")))?,
            Err(_) => {
                return Err(failed(format!("does not end within {} s", PROCESS_LIMIT.as_secs())));
            }
        };
        if !status.success() {
            return Err(failed(format!("ended with {status}")));
        }
        let written = serde_json::from_slice::<PrintedKeys>(&text);
        // The parser's own message may quote a secret.
        written
            .map(PrintedKeys::lease)
            .map_err(|_| failed("printed something else than keys".into()))
    }

    /// Gets the keys of a container's role from its service.
    pub(super) async fn container(&self) -> Result<Lease, Failure> {
        let variable = |name: &str| (self.environment)(name).filter(|value| !value.is_empty());
        let relative = variable("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
        let address = match relative {
            Some(path) => format!("http://169.254.170.2{path}"),
            None => variable("AWS_CONTAINER_CREDENTIALS_FULL_URI").unwrap_or_default(),
        };
        let url = self.host_address(&address)?;
        let token = match variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") {
            Some(file) => {
                let read = read_secret(Path::new(&file), false);
                Some(read.map_err(|error| self.unusable(&format!("{file}: {error}")))?)
            }
            None => variable("AWS_CONTAINER_AUTHORIZATION_TOKEN"),
        };
        let token = token.as_deref().map(str::trim);
        token.iter().for_each(|token| crate::telemetry::register_secret(token));
        let lines = token.iter().map(|token| ("authorization", *token));
        let answer = self.ask_host(Method::GET, url, lines).await?;
        self.written(&answer, "the container's service")
    }

    /// Gets the keys of a machine's role from its service: first a token, which only the machine
    /// itself gets.
    pub(super) async fn instance(&self) -> Result<Lease, Failure> {
        let variable = |name: &str| (self.environment)(name).filter(|value| !value.is_empty());
        if variable("AWS_EC2_METADATA_DISABLED").is_some_and(|is| is.eq_ignore_ascii_case("true")) {
            return Err(self.unusable("AWS_EC2_METADATA_DISABLED is set"));
        }
        let mode = variable("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE").unwrap_or_default();
        let usual = match mode.eq_ignore_ascii_case("ipv6") {
            true => "http://[fd00:ec2::254]",
            false => "http://169.254.169.254",
        };
        let address = variable("AWS_EC2_METADATA_SERVICE_ENDPOINT");
        let base = self.host_address(address.as_deref().unwrap_or(usual))?;
        let at = |path: &str| {
            let mut url = base.clone();
            url.set_path(path);
            url
        };
        let life = [("x-aws-ec2-metadata-token-ttl-seconds", "21600")];
        let answer = self.ask_host(Method::PUT, at("/latest/api/token"), life.into_iter()).await?;
        let token = std::str::from_utf8(&answer.body).unwrap_or_default().trim();
        if answer.status != 200 || token.is_empty() {
            return Err(self.refused(&answer, "the machine's service gives no token"));
        }
        let roles = "/latest/meta-data/iam/security-credentials/";
        let line = || [("x-aws-ec2-metadata-token", token)].into_iter();
        let answer = self.ask_host(Method::GET, at(roles), line()).await?;
        let text = std::str::from_utf8(&answer.body).unwrap_or_default();
        let Some(role) = text.lines().next().filter(|_| answer.status == 200) else {
            return Err(self.refused(&answer, "this machine has no role"));
        };
        let url = at(&format!("{roles}{}", role.trim()));
        let answer = self.ask_host(Method::GET, url, line()).await?;
        self.written(&answer, "the machine's service")
    }

    fn written(&self, answer: &Response, who: &str) -> Result<Lease, Failure> {
        if answer.status != 200 {
            return Err(self.refused(answer, &format!("{who} refuses")));
        }
        let read = parse::<PrintedKeys>(answer).map(PrintedKeys::lease);
        read.map_err(|failure| self.unusable(&format!("{who}: {}", failure.message)))
    }

    /// Parses the address of a service of the host: plain HTTP goes only to the host itself.
    fn host_address(&self, text: &str) -> Result<Url, Failure> {
        let url = base_url(text, true).map_err(|failure| self.unusable(&failure.message))?;
        match url.scheme() == "https" || is_own_host(&url) {
            true => Ok(url),
            false => Err(self.unusable("the address of the service of keys is not on this host")),
        }
    }

    async fn ask_host<'a>(
        &self,
        method: Method,
        url: Url,
        lines: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Result<Response, Failure> {
        let request = Request { headers: header_map(lines)?, ..Request::default() };
        match tokio::time::timeout(HOST_LIMIT, self.ask(method, url, request)).await {
            Ok(answer) => answer,
            Err(_) => {
                let why = format!("no service answers within {} s", HOST_LIMIT.as_secs());
                Err(self.unusable(&why))
            }
        }
    }

    pub(super) async fn ask(
        &self,
        method: Method,
        url: Url,
        request: Request,
    ) -> Result<Response, Failure> {
        let asked = self.http.send(method, url, request).await;
        asked.map_err(|failure| {
            let message = format!("keys from {} cannot be had: {}", self.source, failure.message);
            Failure { message, ..failure }
        })
    }

    pub(super) fn refused(&self, answer: &Response, why: &str) -> Failure {
        let failure = self.unusable(&clip(why.trim_end()));
        let kind = match answer.status {
            429 | 500..=599 => FailureKind::ServerFault,
            _ => failure.kind,
        };
        let request_id = answer.request_id();
        Failure { kind, status: Some(answer.status), request_id, ..failure }
    }
}

fn form(action: &str, role: &AwsRole, token: Option<&str>) -> String {
    let duration = role.duration_s.map(|duration| duration.to_string());
    let pairs = [
        ("Action", Some(action)),
        ("DurationSeconds", duration.as_deref()),
        ("ExternalId", role.external_id.as_deref()),
        ("RoleArn", Some(role.arn.as_str())),
        ("RoleSessionName", Some(role.session_name.as_str())),
        ("Version", Some("2011-06-15")),
        ("WebIdentityToken", token),
    ];
    query(pairs.into_iter().filter_map(|(name, value)| Some((name, value?))))
}

/// Returns the domain of AWS's services in a region.
pub(super) fn domain(region: &str) -> &'static str {
    if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" }
}
