//! The network settings: proxies and certificates; and the explanations of proxies that refuse.

use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hyper_util::client::proxy::matcher::Matcher;
use reqwest::header::HeaderValue;
use reqwest::{NoProxy, Proxy, Url};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{CONNECT_LIMIT, Settings, is_loopback, root_cause};
use crate::model::{Failure, FailureKind};
use crate::platform::secret::read_secret;
use crate::telemetry::register_secret;

/// Variables that may hold a proxy's address, which may contain a password.
const PROXY_VARIABLES: [&str; 6] =
    ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];
/// Time limit of a proxy's answer to the question how to log in,
const PROXY_LIMIT: Duration = Duration::from_secs(5);
/// and its length limit.
const PROXY_ANSWER_MAX: u64 = 8 * 1024;

/// The proxies for requests.
#[derive(Debug)]
pub(crate) struct Proxies {
    matcher: Matcher,
    /// The configured user and password.
    login: Option<HeaderValue>,
}

/// The proxy of a request.
#[derive(Debug, Clone)]
pub(super) struct ProxyPlace {
    host: String,
    port: u16,
    /// As a header; marked as sensitive, so never printed.
    login: Option<HeaderValue>,
    /// The connection to it uses TLS.
    is_secure: bool,
}

impl Proxies {
    /// Uses the settings, else the usual environment variables.
    pub(crate) fn new(settings: &Settings) -> Self {
        let matcher = match &settings.proxy {
            Some(address) => {
                let exceptions = settings.no_proxy.clone().unwrap_or_else(variable_no_proxy);
                Matcher::builder().all(address.as_str()).no(exceptions).build()
            }
            None => Matcher::from_env(),
        };
        let login = login(settings).ok().flatten();
        let login = login.and_then(|(user, password)| {
            let login = BASE64_STANDARD.encode(format!("{user}:{password}"));
            let mut header = HeaderValue::try_from(format!("Basic {login}")).ok()?;
            header.set_sensitive(true);
            Some(header)
        });
        Self { matcher, login }
    }

    /// Returns the proxy for an address.
    pub(super) fn of(&self, url: &Url) -> Option<ProxyPlace> {
        if is_own_host(url) {
            return None;
        }
        let found = self.matcher.intercept(&url.as_str().parse().ok()?)?;
        let is_secure = found.uri().scheme_str() == Some("https");
        Some(ProxyPlace {
            host: found.uri().host()?.to_owned(),
            port: found.uri().port_u16().unwrap_or(if is_secure { 443 } else { 80 }),
            login: self.login.as_ref().or(found.basic_auth()).cloned(),
            is_secure,
        })
    }

    /// Returns whether an address is reached through a proxy.
    pub(crate) fn are_used_for(&self, url: &Url) -> bool {
        self.of(url).is_some()
    }
}

/// Returns whether an address is on this machine, or a metadata service of the machine's own host.
pub(crate) fn is_own_host(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    let is_metadata = match address {
        Ok(std::net::IpAddr::V4(address)) => address.is_link_local(),
        Ok(std::net::IpAddr::V6(address)) => address.segments()[..2] == [0xFD00, 0x0EC2],
        Err(_) => false,
    };
    is_metadata || is_loopback(url)
}

fn variable_no_proxy() -> String {
    let variable = |name: &&str| std::env::var(name).ok();
    ["NO_PROXY", "no_proxy"].iter().find_map(variable).unwrap_or_default()
}

/// Registers passwords of proxies for removal from all output.
pub(super) fn register_proxies(configured: Option<&str>) {
    let others = PROXY_VARIABLES.iter().filter_map(|name| std::env::var(name).ok());
    for address in configured.map(str::to_owned).into_iter().chain(others) {
        let url = Url::parse(&address).ok();
        if let Some(password) = url.as_ref().and_then(Url::password) {
            register_secret(password);
        }
    }
}

/// Returns the configured proxy.
pub(super) fn proxy(settings: &Settings) -> Result<Option<Proxy>, String> {
    let Some(address) = &settings.proxy else { return Ok(None) };
    let mut proxy = Proxy::all(address).map_err(|error| {
        format!("the proxy cannot be used: {}", root_cause(&error.without_url()))
    })?;
    if let Some((user, password)) = login(settings)? {
        proxy = proxy.basic_auth(&user, &password);
    }
    let exceptions = settings.no_proxy.as_deref().map(NoProxy::from_string);
    Ok(Some(proxy.no_proxy(exceptions.unwrap_or_else(NoProxy::from_env))))
}

/// Returns the configured user and password for the proxy.
fn login(settings: &Settings) -> Result<Option<(String, String)>, String> {
    let Some(file) = &settings.proxy_credential else { return Ok(None) };
    let unusable = |why: &str| format!("{} cannot be used: {why}", file.display());
    // systemd decides who may read its credentials.
    let is_private = std::env::var_os("CREDENTIALS_DIRECTORY")
        .is_none_or(|directory| !file.starts_with(directory));
    let text = read_secret(file, is_private).map_err(|error| unusable(&error.to_string()))?;
    let login = text.trim_end_matches(['\r', '\n']);
    let (user, password) = login
        .split_once(':')
        .filter(|(user, _)| !user.is_empty() && !login.contains(char::is_control))
        .ok_or_else(|| unusable("one line USER:PASSWORD is expected"))?;
    register_secret(password);
    Ok(Some((user.to_owned(), password.to_owned())))
}

pub(super) fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let unusable = |why: String| format!("{} cannot be used: {why}", file.display());
    let pem = std::fs::read(file).map_err(|error| unusable(error.to_string()))?;
    let found = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    let found = found.map_err(|error| unusable(error.to_string()))?;
    if found.is_empty() {
        return Err(unusable("it holds no certificate in PEM form".into()));
    }
    Ok(found)
}

/// Maps a transport error; a failure of the source that ended the body is passed through.
pub(super) fn failure_of(error: reqwest::Error, host: &str, proxy: Option<&ProxyPlace>) -> Failure {
    if let Some(failure) = obstacle(&error, host, proxy) {
        return failure;
    }
    let error = error.without_url();
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(current) = cause {
        if let Some(failure) = current.downcast_ref::<Failure>() {
            return failure.clone();
        }
        cause = current.source();
    }
    let why = root_cause(&error);
    let (kind, message) = match (error.is_connect(), error.is_timeout()) {
        (_, true) => {
            let limit = CONNECT_LIMIT.as_secs();
            (FailureKind::Unreachable, format!("no connection to {host} within {limit} s"))
        }
        (true, false) if why.contains("CaUsedAsEndEntity") => {
            let message = format!(
                "cannot connect to {host}: invalid peer certificate: it is one of an authority itself; the \
                 server, or a filter on the way, must show one that the authority signed"
            );
            (FailureKind::Unreachable, message)
        }
        (true, false) => (FailureKind::Unreachable, format!("cannot connect to {host}: {why}")),
        (false, false) => (FailureKind::Broken, format!("the connection to {host} broke: {why}")),
    };
    Failure::new(kind, message)
}

/// Describes the proxy's part in a request that failed at it.
fn obstacle(error: &reqwest::Error, host: &str, proxy: Option<&ProxyPlace>) -> Option<Failure> {
    let proxy = proxy?;
    let (place, why) = (format!("{}:{}", proxy.host, proxy.port), root_cause(error));
    let mut causes = std::iter::successors(Some(error as &dyn std::error::Error), |e| e.source());
    let tunnel = causes.find_map(|cause| {
        let text = cause.to_string();
        text.strip_prefix("tunnel error: ").map(str::to_owned)
    });
    let is_plain = error.url().is_some_and(|url| url.scheme() == "http");
    let message = match tunnel {
        Some(text) if text.contains("authorization") => {
            format!("the proxy {place} {ASKS}")
        }
        Some(text) if text.contains("underlying") => unreached(proxy, &why),
        Some(text) if text.contains("unsuccessful") => {
            format!("the proxy {place} {REFUSES} {host}")
        }
        Some(text) => format!("the proxy {place} {REFUSES} {host}: {text}"),
        None if error.is_timeout() && error.is_connect() => {
            format!("no connection to {host} by the proxy {place} in time")
        }
        None if is_plain && error.is_connect() => unreached(proxy, &why),
        None => return None,
    };
    Some(Failure::new(FailureKind::Unreachable, message))
}

/// Describes why a proxy is not reached.
fn unreached(proxy: &ProxyPlace, why: &str) -> String {
    let place = format!("{}:{}", proxy.host, proxy.port);
    if why.contains("Connection refused") {
        format!("the proxy {place} refuses the connection: no proxy listens there")
    } else if why.contains("lookup address") {
        format!("the name of the proxy, {}, cannot be resolved", proxy.host)
    } else if why.contains("InvalidContentType") {
        format!("the proxy {place} does not speak TLS: its address begins with http://")
    } else {
        format!("cannot connect to the proxy {place}: {why}")
    }
}

/// The problem of a proxy that gives no tunnel, until it explains itself.
const REFUSES: &str = "lets nothing through to";
/// The end of a refusal without a login, until the proxy names its schemes.
const ASKS: &str = "asks for a user and a password";

/// Adds the login schemes that a refusing proxy accepts.
pub(super) async fn explained(failure: Failure, host: &str, proxy: Option<&ProxyPlace>) -> Failure {
    let is_refused = failure.message.ends_with(&format!("{REFUSES} {host}"));
    let is_asked = failure.message.ends_with(ASKS) || is_refused;
    let Some(proxy) = proxy.filter(|_| is_asked) else { return failure };
    let asked = tokio::time::timeout(PROXY_LIMIT, ask_proxy(proxy, host)).await;
    let ProxyAnswer { status, schemes } = asked.ok().flatten().unwrap_or_default();
    if is_refused {
        let status = status.map_or(String::new(), |status| format!(" ({status})"));
        let message = format!("{}{status}: have that host allowed there", failure.message);
        return Failure { message, ..failure };
    }
    let has_basic = schemes.iter().any(|scheme| scheme.eq_ignore_ascii_case("basic"));
    let place = format!("{}:{}", proxy.host, proxy.port);
    let message = if !schemes.is_empty() && !has_basic {
        format!(
            "the proxy {place} takes only {}, which is not spoken here: have it let this machine \
             through by its address or by Basic, or run a proxy such as cntlm on this machine",
            schemes.join(" and ")
        )
    } else if proxy.login.is_some() {
        format!("the proxy {place} refuses the user and the password that it is given")
    } else {
        format!("{}: set [network] proxy_credential", failure.message)
    };
    Failure { message, ..failure }
}

/// A proxy's answer to a tunnel request.
#[derive(Debug, Default)]
struct ProxyAnswer {
    /// Its status line.
    status: Option<String>,
    /// The login schemes that it accepts.
    schemes: Vec<String>,
}

/// Requests a tunnel from a proxy, as requests do.
async fn ask_proxy(proxy: &ProxyPlace, host: &str) -> Option<ProxyAnswer> {
    if proxy.is_secure {
        return None;
    }
    let mut stream = TcpStream::connect((proxy.host.as_str(), proxy.port)).await.ok()?;
    let mut request = format!("CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n").into_bytes();
    if let Some(login) = &proxy.login {
        request.extend([b"Proxy-Authorization: ", login.as_bytes(), b"\r\n"].concat());
    }
    request.extend(b"\r\n");
    stream.write_all(&request).await.ok()?;
    let (mut answer, mut stream) = (Vec::<u8>::new(), stream.take(PROXY_ANSWER_MAX));
    while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
        if stream.read_buf(&mut answer).await.ok()? == 0 {
            break;
        }
    }
    let scheme = |line: &str| {
        let (name, value) = line.split_once(':')?;
        let scheme = value.split_whitespace().next()?.trim_end_matches(',');
        let is_word = scheme.bytes().all(|byte| byte.is_ascii_alphanumeric());
        (name.eq_ignore_ascii_case("proxy-authenticate") && is_word).then(|| scheme.to_owned())
    };
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.lines().next().and_then(|line| line.strip_prefix("HTTP/1."));
    let status = status.and_then(|line| line.get(2..)).map(|line| line.chars().take(40).collect());
    Some(ProxyAnswer { status, schemes: answer.lines().filter_map(scheme).take(8).collect() })
}
