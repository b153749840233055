//! A password before anything is shown, for a page that other machines reach.
//!
//! *Promises*: the password is kept as its Argon2 hash; a browser that gave it has a signed cookie,
//! so that its later requests cost no hash; few guesses are checked at a time, and each wrong one
//! takes a second. A program sends it as `Authorization: Basic` with any user name. *Never* accepts
//! the cookie for anything but reading: there is nothing else.
//!
//! *A crash* loses logins: the signing key is generated at each start.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use argon2::Argon2;
use axum::Form;
use axum::extract::{Request, State};
use axum::http::header::{
    AUTHORIZATION, COOKIE, HOST, LOCATION, REFERER, SET_COOKIE, WWW_AUTHENTICATE,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use sha2::Sha256;
use tokio::sync::Semaphore;

use super::{Site, typed, up};
use crate::model::WallTime;

const FORM: &str = include_str!("login.html");
/// A login is valid for a working week.
const LIFE: Duration = Duration::from_hours(7 * 24);
/// Duration of a wrong guess.
const WRONG_PAUSE: Duration = Duration::from_secs(1);
/// Limit of concurrent guesses: each takes 19 MiB for its hash.
const GUESSES_MAX: usize = 2;

/// A password from its file; it is never displayed.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(pub String);

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password")
    }
}

pub(super) struct LoginGate {
    salt: [u8; 16],
    hash: [u8; 32],
    /// Signs cookies.
    key: [u8; 32],
    /// The signature of the last correct `Authorization`.
    known: Mutex<Option<Vec<u8>>>,
    guesses: Semaphore,
    /// The cookie's name contains the port: cookies of a host are shared by its ports.
    cookie: String,
    now: fn() -> WallTime,
}

impl std::fmt::Debug for LoginGate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoginGate").finish_non_exhaustive()
    }
}

impl LoginGate {
    /// Hashes the password.
    pub(super) fn new(password: Password, port: u16, now: fn() -> WallTime) -> Self {
        let (mut salt, mut key) = ([0; 16], [0; 32]);
        for secret in [&mut salt[..], &mut key[..]] {
            getrandom::fill(secret).expect("the operating system has random numbers");
        }
        let hash = hashed(password.0.as_bytes(), &salt);
        let cookie = format!("dropferry-{port}");
        let guesses = Semaphore::new(GUESSES_MAX);
        Self { salt, hash, key, known: Mutex::default(), guesses, cookie, now }
    }

    fn signature(&self, of: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("any length is a key");
        mac.update(of);
        mac
    }

    /// Returns whether a request comes from a browser with a login.
    fn has_cookie(&self, headers: &HeaderMap) -> bool {
        let cookies = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
        cookies.flat_map(|line| line.split(';')).any(|cookie| {
            let value = cookie.trim().strip_prefix(&self.cookie);
            value.and_then(|value| value.strip_prefix('=')).is_some_and(|it| self.is_ours(it))
        })
    }

    /// Returns whether a cookie value is one of ours, and has not expired.
    fn is_ours(&self, value: &str) -> bool {
        let Some((until, signature)) = value.split_once('.') else { return false };
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap_or_default();
        let is_signed = self.signature(until.as_bytes()).verify_slice(&signature).is_ok();
        is_signed && until.parse().is_ok_and(|until| (self.now)() < WallTime(until))
    }

    fn new_cookie(&self) -> String {
        let until = (self.now)().after(LIFE).0.to_string();
        let signature = self.signature(until.as_bytes()).finalize().into_bytes();
        let signature = BASE64_URL_SAFE_NO_PAD.encode(signature);
        let (cookie, age) = (&self.cookie, LIFE.as_secs());
        format!("{cookie}={until}.{signature}; Max-Age={age}; Path=/; HttpOnly; SameSite=Strict")
    }

    /// Compares a password; `None` when too many are being compared.
    async fn knows(self: &Arc<Self>, password: String) -> Option<bool> {
        let _room = self.guesses.try_acquire().ok()?;
        let login = Arc::clone(self);
        let compared = tokio::task::spawn_blocking(move || {
            let hash = hashed(password.as_bytes(), &login.salt);
            // Signatures are compared in constant time.
            let right = login.signature(&login.hash).finalize().into_bytes();
            login.signature(&hash).verify_slice(&right).is_ok()
        });
        let is_right = compared.await.unwrap_or(false);
        if !is_right {
            tokio::time::sleep(WRONG_PAUSE).await;
        }
        Some(is_right)
    }

    /// Checks a password that a program sends with each request: the correct one is not hashed again.
    async fn knows_basic(self: &Arc<Self>, headers: &HeaderMap) -> Option<bool> {
        let encoded = headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Basic ")?;
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if known
            .is_some_and(|known| self.signature(encoded.as_bytes()).verify_slice(&known).is_ok())
        {
            return Some(true);
        }
        let decoded = String::from_utf8(BASE64_STANDARD.decode(encoded.trim()).ok()?).ok()?;
        let is_right = self.knows(decoded.split_once(':')?.1.to_owned()).await?;
        if is_right {
            let signature = self.signature(encoded.as_bytes()).finalize().into_bytes().to_vec();
            *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some(signature);
        }
        Some(is_right)
    }
}

/// Passes requests with a login, and those for public resources; else answers with the form.
pub(super) async fn admit(State(site): State<Site>, request: Request, next: Next) -> Response {
    let Some(login) = &site.login else { return next.run(request).await };
    let path = request.uri().path();
    let is_open = ["/healthz", "/login", "/style.css"].contains(&path);
    if is_open || login.has_cookie(request.headers()) {
        return next.run(request).await;
    }
    if login.knows_basic(request.headers()).await == Some(true) {
        return next.run(request).await;
    }
    if path == "/metrics" || path.starts_with("/api/") {
        let mut refused = (StatusCode::UNAUTHORIZED, "log in\n").into_response();
        if path == "/metrics" {
            let basic = HeaderValue::from_static("Basic realm=\"dropferry\"");
            refused.headers_mut().insert(WWW_AUTHENTICATE, basic);
        }
        return refused;
    }
    form(StatusCode::UNAUTHORIZED, &up(path), "")
}

#[derive(Deserialize)]
pub(super) struct LoginForm {
    password: String,
}

/// Handles the form.
pub(super) async fn log_in(
    State(site): State<Site>,
    headers: HeaderMap,
    Form(given): Form<LoginForm>,
) -> Response {
    let Some(login) = &site.login else { return back(&headers).into_response() };
    match login.knows(given.password).await {
        Some(true) => ([(SET_COOKIE, login.new_cookie())], back(&headers)).into_response(),
        Some(false) => form(StatusCode::UNAUTHORIZED, "./", "That is not the password."),
        None => form(StatusCode::TOO_MANY_REQUESTS, "./", "Busy: try again in a moment."),
    }
}

fn form(status: StatusCode, up: &str, said: &str) -> Response {
    let form = FORM.replace("{up}", up).replace("{said}", said);
    (status, typed("text/html; charset=utf-8", form)).into_response()
}

/// Redirects to the page that showed the form, but never to another host.
fn back(headers: &HeaderMap) -> (StatusCode, [(axum::http::HeaderName, String); 1]) {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let from = text(REFERER).and_then(|text| text.parse::<Uri>().ok());
    let from = from.filter(|uri| uri.authority().map(|it| it.as_str()) == text(HOST));
    let path = from.as_ref().and_then(Uri::path_and_query).map(|path| path.as_str());
    let path = path.filter(|path| !path.starts_with("//") && !path.ends_with("/login"));
    (StatusCode::SEE_OTHER, [(LOCATION, path.unwrap_or("./").to_owned())])
}

fn hashed(password: &[u8], salt: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    let done = Argon2::default().hash_password_into(password, salt, &mut hash);
    done.expect("a password of a file or a form is short, the salt long enough");
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    static NOW: std::sync::atomic::AtomicI64 = std::sync::atomic::AtomicI64::new(0);

    fn now() -> WallTime {
        WallTime(NOW.load(std::sync::atomic::Ordering::Relaxed))
    }

    fn asked_with(cookie: &str) -> HeaderMap {
        let value = cookie.split(';').next().expect("a cookie").parse().expect("a header");
        [(COOKIE, value)].into_iter().collect()
    }

    #[test]
    fn a_cookie_is_ours_until_it_expires_and_no_other_is() {
        let login = || LoginGate::new(Password("correct horse".into()), 8377, now);
        let (ours, other) = (login(), login());
        let cookie = ours.new_cookie();
        assert!(ours.has_cookie(&asked_with(&cookie)));
        assert!(!other.has_cookie(&asked_with(&cookie)), "a start draws another key");
        let longer = cookie.replacen("dropferry-8377=", "dropferry-8377=9", 1);
        for bad in [&*longer, "dropferry-8377=", "dropferry-8377=9.", "dropferry-837=1.AA", "x"] {
            assert!(!ours.has_cookie(&asked_with(bad)), "{bad}");
        }
        let life = i64::try_from(LIFE.as_nanos()).unwrap();
        NOW.store(life - 1, std::sync::atomic::Ordering::Relaxed);
        assert!(ours.has_cookie(&asked_with(&cookie)));
        NOW.store(life, std::sync::atomic::Ordering::Relaxed);
        assert!(!ours.has_cookie(&asked_with(&cookie)));
    }

    #[test]
    fn a_login_goes_back_to_its_page_and_to_no_other_host() {
        let to = |referer: &str| {
            let headers = [(HOST, "lab:8377"), (REFERER, referer)];
            let headers = headers.map(|(name, value)| (name, value.parse().unwrap()));
            back(&headers.into_iter().collect()).1[0].1.clone()
        };
        assert_eq!(to("http://lab:8377/runs/a/b?x=1"), "/runs/a/b?x=1");
        for other in ["http://evil/runs", "http://lab:8377//evil/", "http://lab:8377/login", "lab"]
        {
            assert_eq!(to(other), "./", "{other}");
        }
    }
}
