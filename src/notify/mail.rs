//! Mail: each notice is one message to all recipients, sent through a mail server of the lab.
//!
//! The `Message-ID` follows from the notice's id, and the rest of the message from its row, so that
//! a repeated message is identical and mail programs show it once. With a password, the connection
//! is encrypted, and the server's certificate is verified.

use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls as Encryption, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};

use super::{Means, body, secret, words};
use crate::model::{Failure, FailureKind, Notice, Shown};

/// A server that takes longer counts as stuck.
const TIME_LIMIT: Duration = Duration::from_mins(2);
/// Limit of the server's words in a message.
const WORDS_MAX: usize = 300;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub to: Vec<String>,
    pub from: String,
    pub host: String,
    pub port: u16,
    /// How the connection is encrypted.
    pub tls: Tls,
    /// The login name, where the file has only the password.
    pub user: Option<String>,
    /// Holds the password, or `user:password`.
    pub credential: Option<PathBuf>,
    /// Certificates to trust besides those of the system.
    pub ca_file: Option<PathBuf>,
}

/// How a connection is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    /// After the server's greeting; a server without STARTTLS is refused.
    Starttls,
    Always,
    None,
}

/// Returns whether a text is a mail address, with or without a name.
pub(crate) fn is_address(text: &str) -> bool {
    text.parse::<Mailbox>().is_ok()
}

/// Sends a notice.
///
/// # Errors
/// `BadRequest` when the server refuses this message; other kinds when it was not reached, or failed.
pub(crate) async fn send(
    settings: &Settings,
    notice: &Notice,
    means: Means<'_>,
) -> Result<String, Failure> {
    let message = message(settings, notice)?;
    let transport = transport(settings, means)?;
    match tokio::time::timeout(TIME_LIMIT, transport.send(message)).await {
        Ok(Ok(answer)) => {
            let said = answer.message().collect::<Vec<_>>().join(" ");
            Ok(format!("{} {}", answer.code(), Shown(&said)))
        }
        Ok(Err(error)) => Err(failure(settings, &error)),
        Err(_) => Err(unsent(
            settings,
            FailureKind::TimedOut,
            &format!("no end within {} s", TIME_LIMIT.as_secs()),
        )),
    }
}

/// Connects to the server, and logs in where there is a credential.
///
/// # Errors
/// When it is not reached, or refuses the login.
pub(crate) async fn probe(settings: &Settings, means: Means<'_>) -> Result<String, Failure> {
    let transport = transport(settings, means)?;
    match tokio::time::timeout(TIME_LIMIT, transport.test_connection()).await {
        Ok(Ok(true)) => Ok(format!("{} answers", settings.host)),
        Ok(Ok(false)) => Err(unsent(settings, FailureKind::ServerFault, "it is not ready")),
        Ok(Err(error)) => Err(failure(settings, &error)),
        Err(_) => Err(unsent(settings, FailureKind::TimedOut, "no answer")),
    }
}

fn unsent(settings: &Settings, kind: FailureKind, why: &str) -> Failure {
    Failure::new(kind, format!("the mail is not taken by {}: {}", settings.host, why))
}

/// Distinguishes a refusal of this message from a failure of the server.
fn failure(settings: &Settings, error: &lettre::transport::smtp::Error) -> Failure {
    /// The server requires a login, or another one.
    const LOGIN: [u16; 4] = [530, 534, 535, 538];
    let status = error.status().map(u16::from);
    let kind = match status {
        Some(code) if LOGIN.contains(&code) => FailureKind::Unauthorized,
        _ if error.is_permanent() => FailureKind::BadRequest,
        _ if error.is_transient() => FailureKind::ServerFault,
        _ if error.is_timeout() => FailureKind::TimedOut,
        _ => FailureKind::Unreachable,
    };
    let said = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    let said: String = said.chars().take(WORDS_MAX).collect();
    Failure { status, ..unsent(settings, kind, &Shown(&said).to_string()) }
}

fn message(settings: &Settings, notice: &Notice) -> Result<Message, Failure> {
    let unusable = |why: String| unsent(settings, FailureKind::BadRequest, &why);
    let mailbox = |text: &String| {
        text.parse::<Mailbox>().map_err(|error| unusable(format!("{text:?}: {error}")))
    };
    let from = mailbox(&settings.from)?;
    let (id, body) = (notice.public_id(), body(notice));
    let place = from.email.domain().to_owned();
    let at = UNIX_EPOCH + Duration::from_nanos(u64::try_from(notice.at.0).unwrap_or(0));
    let mut builder = Message::builder()
        .from(from)
        .date(at)
        .message_id(Some(format!("<{id}.dropferry@{place}>")))
        .subject(words::subject(notice.kind, notice.is_over, &body))
        .raw_header(header("Auto-Submitted", "auto-generated"))
        .raw_header(header("X-Dropferry-Id", &id))
        .header(ContentType::TEXT_PLAIN);
    for to in &settings.to {
        builder = builder.to(mailbox(to)?);
    }
    let content = words::mail(notice.kind, notice.is_over, &body);
    let content = format!("{content}\n-- \ndropferry on {}, message {id}\n", here());
    builder.body(content).map_err(|error| unusable(error.to_string()))
}

fn header(name: &'static str, value: &str) -> HeaderValue {
    HeaderValue::new(HeaderName::new_from_ascii_str(name), value.to_owned())
}

fn here() -> String {
    if let ClientId::Domain(name) = ClientId::default() { name } else { "this machine".into() }
}

fn transport(
    settings: &Settings,
    means: Means<'_>,
) -> Result<AsyncSmtpTransport<Tokio1Executor>, Failure> {
    let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&settings.host)
        .port(settings.port)
        .timeout(Some(TIME_LIMIT / 2))
        .tls(encryption(settings)?);
    if let Some(file) = &settings.credential {
        let secret = secret::read(file, means)?;
        let (user, password) = login(settings, file, &secret)?;
        (means.keep)(password);
        builder = builder.credentials(Credentials::new(user.to_owned(), password.to_owned()));
    }
    Ok(builder.build())
}

fn login<'a>(
    settings: &'a Settings,
    file: &Path,
    secret: &'a str,
) -> Result<(&'a str, &'a str), Failure> {
    let both = settings.user.as_deref().map(|user| (user, secret));
    both.or_else(|| secret.split_once(':')).ok_or_else(|| {
        let message = format!("{} cannot be used: it is not user:password", file.display());
        Failure::new(FailureKind::Unauthorized, message)
    })
}

fn encryption(settings: &Settings) -> Result<Encryption, Failure> {
    if settings.tls == Tls::None {
        return Ok(Encryption::None);
    }
    let unusable = |why: String| Failure::new(FailureKind::Unreachable, why);
    let mut parameters = TlsParameters::builder(settings.host.clone());
    if let Some(file) = &settings.ca_file {
        parameters = parameters.add_root_certificate(certificates(file).map_err(unusable)?);
    }
    let parameters = parameters.build_rustls().map_err(|error| unusable(error.to_string()))?;
    Ok(match settings.tls {
        Tls::Starttls => Encryption::Required(parameters),
        Tls::Always => Encryption::Wrapper(parameters),
        Tls::None => Encryption::None,
    })
}

fn certificates(file: &Path) -> Result<Certificate, String> {
    let unusable = |why: String| format!("{} cannot be used: {why}", file.display());
    let pem = std::fs::read(file).map_err(|error| unusable(error.to_string()))?;
    Certificate::from_pem(&pem).map_err(|error| unusable(error.to_string()))
}
