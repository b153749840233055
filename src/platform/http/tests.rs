use std::io::{self, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use futures_util::{StreamExt, stream};

use super::stub::{Reply, Stub, traced};
use super::*;
use crate::model::{ByteCount, Now};

const LIMIT: Duration = Duration::from_millis(400);

fn http() -> Http {
    http_with(None)
}

fn settings(inactivity_timeout: Duration) -> Settings {
    Settings {
        proxy: None,
        proxy_credential: None,
        no_proxy: None,
        ca_file: None,
        inactivity_timeout,
    }
}

fn http_with(proxy: Option<&str>) -> Http {
    let proxy = proxy.map(str::to_owned);
    Http::new(&Settings { proxy, ..settings(LIMIT) }).expect("a client")
}

fn url(stub: &Stub, path: &str) -> Url {
    parse_url(&stub.url(path)).expect("a URL")
}

async fn get(http: &Http, url: Url) -> Result<Response, Failure> {
    http.send(Method::GET, url, Request::default()).await
}

fn body_of(length: u64, chunks: Vec<io::Result<Bytes>>) -> PartBody {
    PartBody { length: ByteCount(length), md5: None, chunks: stream::iter(chunks).boxed() }
}

fn bytes(length: usize) -> Bytes {
    Bytes::from(vec![7; length])
}

async fn put(stub: &Stub, body: PartBody) -> Result<Response, Failure> {
    http().send_part(Method::PUT, url(stub, "/part?sig=planted"), HeaderMap::new(), body).await
}

fn accept_all() -> Stub {
    Stub::start(|_| Reply::new(200, "").with("ETag", "\"e\""))
}

/// Serves a connection by hand: writes `answer`, then keeps the connection open for a while.
fn stalls_after(answer: &'static [u8]) -> Stub {
    Stub::raw(move |mut reader: BufReader<TcpStream>| {
        drop(reader.get_mut().write_all(answer));
        std::thread::sleep(Duration::from_secs(5));
    })
}

#[tokio::test]
async fn a_server_that_stalls_times_out() {
    for answer in
        [&b""[..], b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf"]
    {
        let stub = stalls_after(answer);
        let failure = get(&http(), url(&stub, "/x")).await.expect_err("stalls");
        assert_eq!(failure.kind, FailureKind::TimedOut, "{failure}");
        assert_eq!(failure.message, "nothing moved between here and 127.0.0.1 for 0.4 s");
    }
}

#[tokio::test]
async fn a_server_that_takes_no_bytes_times_out() {
    let stub = stalls_after(b"");
    let body = body_of(64 << 20, (0..64).map(|_| Ok(bytes(1 << 20))).collect());
    let failure = put(&stub, body).await.expect_err("stalls");
    assert_eq!(failure.kind, FailureKind::TimedOut, "{failure}");
}

#[tokio::test]
async fn a_source_that_stalls_is_named() {
    let chunks = stream::iter([Ok(bytes(10))]).chain(stream::pending()).boxed();
    let body = PartBody { length: ByteCount(20), md5: None, chunks };
    let failure = put(&accept_all(), body).await.expect_err("stalls");
    assert_eq!(failure.kind, FailureKind::TimedOut);
    assert_eq!(failure.message, "the source gave nothing to send for 0.4 s");
}

#[tokio::test]
async fn slow_is_not_stalled() {
    let stub = Stub::raw(|mut reader| {
        let head = "HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\n";
        drop(reader.get_mut().write_all(head.as_bytes()));
        for _ in 0..8 {
            std::thread::sleep(LIMIT / 6);
            drop(reader.get_mut().write_all(b"x"));
        }
    });
    let answer = get(&http(), url(&stub, "/x")).await.expect("slow, and whole");
    assert_eq!(answer.body, "xxxxxxxx");
    let chunks = stream::unfold(0, |sent| async move {
        tokio::time::sleep(LIMIT / 6).await;
        (sent < 8).then(|| (Ok(bytes(1)), sent + 1))
    });
    let body = PartBody { length: ByteCount(8), md5: None, chunks: chunks.boxed() };
    assert_eq!(put(&accept_all(), body).await.expect("slow, and whole").status, 200);
}

#[tokio::test]
async fn an_answer_that_trickles_ends() {
    let stub = Stub::raw(|mut reader: BufReader<TcpStream>| {
        drop(reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4000000\r\n\r\n"));
        while reader.get_mut().write_all(b" ").is_ok() {
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    let inactivity_timeout = Duration::from_millis(40);
    let http = Http::new(&settings(inactivity_timeout)).expect("a client");
    for length in [0, 9] {
        let chunks = if length == 0 { vec![] } else { vec![Ok(bytes(9))] };
        let body = body_of(length, chunks);
        let put = http.send_part(Method::PUT, url(&stub, "/part"), HeaderMap::new(), body).await;
        let failure = put.expect_err("trickles");
        assert_eq!(failure.kind, FailureKind::TimedOut, "{failure}");
        assert_eq!(failure.message, "127.0.0.1 answers too slowly to be waited for");
    }
    let failure = get(&http, url(&stub, "/x")).await.expect_err("trickles");
    assert_eq!(failure.kind, FailureKind::TimedOut, "{failure}");
    let private = http.call_private(&stub.url("/hook"), &[], Some("{}".into())).await;
    assert_eq!(private.expect_err("trickles").kind, FailureKind::TimedOut);
}

#[test]
fn an_answer_has_a_minute_and_a_complete_half_an_hour() {
    let limits = |seconds: u64| {
        let settings = settings(Duration::from_secs(seconds));
        let limits = Http::new(&settings).expect("a client").limits();
        (limits.silence.as_secs(), limits.answer.as_secs())
    };
    assert_eq!(limits(60), (60, 60));
    assert_eq!(limits(1), (1, 20));
    assert_eq!(limits(300), (300, 300));
    assert_eq!(COMPLETE_LIMIT, Duration::from_secs(30 * 60));
}

#[tokio::test]
async fn a_flood_of_header_lines_is_no_answer() {
    let flood = |count: usize, length: usize| {
        Stub::start(move |_| {
            let line = |reply: Reply, n| reply.with(&format!("x-{n}"), "v".repeat(length));
            (0..count).fold(Reply::new(200, "x"), line)
        })
    };
    assert!(get(&http(), url(&flood(60, 100), "/x")).await.is_ok());
    for (count, length) in [(70, 1), (2, 40_000)] {
        let failure = get(&http(), url(&flood(count, length), "/x")).await.expect_err("a flood");
        assert_eq!(
            (failure.kind, failure.status),
            (FailureKind::BadAnswer, Some(200)),
            "{failure}"
        );
    }
    for (count, length) in [(33_000, 1), (1, 4_000_000)] {
        assert!(get(&http(), url(&flood(count, length), "/x")).await.is_err(), "{count}");
    }
}

#[tokio::test]
async fn a_connection_that_breaks_is_told_from_none_at_all() {
    let resets = Stub::raw(|mut reader| {
        let mut some = [0; 1000];
        drop(reader.read_exact(&mut some));
    });
    let body = body_of(32 << 20, (0..32).map(|_| Ok(bytes(1 << 20))).collect());
    let failure = put(&resets, body).await.expect_err("reset");
    assert_eq!(failure.kind, FailureKind::Broken, "{failure}");
    for answer in [&b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf"[..], b"", b"junk\r\n\r\n"] {
        let stub = Stub::raw(move |mut reader| drop(reader.get_mut().write_all(answer)));
        let failure = get(&http(), url(&stub, "/x")).await.expect_err("breaks");
        assert_eq!(failure.kind, FailureKind::Broken, "{failure}");
        assert!(failure.message.starts_with("the connection to 127.0.0.1 broke: "), "{failure}");
    }
}

#[tokio::test]
async fn nobody_there_is_unreachable() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let url = parse_url(&format!("http://{address}/p?sig=planted")).expect("a URL");
    let failure = get(&http(), url).await.expect_err("nobody");
    assert_eq!(failure.kind, FailureKind::Unreachable);
    assert_eq!(failure.message, "cannot connect to 127.0.0.1: Connection refused (os error 111)");
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let stub = Stub::start(|_| Reply::new(302, "").with("location", "/elsewhere"));
    let answer = get(&http(), url(&stub, "/x")).await.expect("an answer");
    assert_eq!((answer.status, stub.lines().len()), (302, 1));
}

#[tokio::test]
async fn an_oversize_answer_is_not_read() {
    let stub = Stub::start(|_| Reply::new(200, vec![b' '; ANSWER_MAX + 1]));
    let failure = get(&http(), url(&stub, "/x")).await.expect_err("too long");
    assert_eq!((failure.kind, failure.status), (FailureKind::BadAnswer, Some(200)));
    let stub = Stub::start(|_| Reply::new(200, vec![b' '; ANSWER_MAX]));
    assert!(get(&http(), url(&stub, "/x")).await.is_ok());
}

#[tokio::test]
async fn a_part_goes_with_its_exact_length_and_nothing_else() {
    let stub = accept_all();
    for (length, chunks) in [
        (0, vec![]),
        (0, vec![Ok(Bytes::new())]),
        (5, vec![Ok(bytes(2)), Ok(Bytes::new()), Ok(bytes(3))]),
        (700_001, vec![Ok(bytes(700_000)), Ok(bytes(1))]),
    ] {
        let answer = put(&stub, body_of(length, chunks)).await.expect("an answer");
        assert_eq!(answer.header("etag"), Some("\"e\""));
        let seen = stub.seen().pop().expect("a request");
        assert_eq!(seen.header("content-length"), Some(&*length.to_string()));
        assert_eq!(seen.body, vec![7; usize::try_from(length).expect("small")]);
        for name in ["transfer-encoding", "content-type", "x-sbg-auth-token", "authorization"] {
            assert_eq!(seen.header(name), None, "{name}");
        }
        let count = seen.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case("content-length"));
        assert_eq!(count.count(), 1);
    }
}

#[tokio::test]
async fn a_length_that_the_platform_asks_for_does_not_stand_beside_ours() {
    let stub = accept_all();
    let asked = [("Content-Length", "99"), ("Transfer-Encoding", "chunked"), ("x-amz-acl", "a b")];
    let headers = header_map(asked.into_iter()).expect("headers");
    let body = body_of(3, vec![Ok(bytes(3))]);
    http().send_part(Method::PUT, url(&stub, "/p"), headers, body).await.expect("an answer");
    let seen = stub.seen().pop().expect("a request");
    assert_eq!(seen.header("content-length"), Some("3"));
    assert_eq!(seen.header("transfer-encoding"), None);
    assert_eq!(seen.header("x-amz-acl"), Some("a b"));
}

#[tokio::test]
async fn a_source_that_fails_says_so_itself() {
    let changed = Failure::new(FailureKind::SourceChanged, "it became longer");
    let plain = || io::Error::new(io::ErrorKind::PermissionDenied, "denied");
    let failed = || io::Error::other(changed.clone());
    for (chunks, length, kind) in [
        (vec![Ok(bytes(5)), Err(failed())], 9, FailureKind::SourceChanged),
        // All bytes, and then the source finds that it was another version.
        (vec![Ok(bytes(9)), Err(failed())], 9, FailureKind::SourceChanged),
        (vec![Err(failed())], 0, FailureKind::SourceChanged),
        (vec![Ok(bytes(5)), Err(plain())], 9, FailureKind::SourceUnreadable),
        (vec![Ok(bytes(5))], 9, FailureKind::SourceUnreadable),
        (vec![Ok(bytes(5)), Ok(bytes(5))], 9, FailureKind::SourceUnreadable),
        (vec![Ok(bytes(9)), Ok(bytes(1))], 9, FailureKind::SourceUnreadable),
        (vec![Ok(bytes(1))], 0, FailureKind::SourceUnreadable),
    ] {
        let stub = accept_all();
        let failure = put(&stub, body_of(length, chunks)).await.expect_err("a bad source");
        assert_eq!(failure.kind, kind, "{failure}");
        assert!(stub.seen().is_empty(), "the storage saw no whole part");
    }
}

#[test]
fn plain_http_is_for_this_machine_alone() {
    for good in ["https://h/x", "http://127.0.0.1:1/", "http://localhost/", "http://[::1]:9/"] {
        assert!(parse_url(good).is_ok(), "{good}");
    }
    for bad in [
        "http://example.org/planted",
        "http://127.0.0.1.evil.org/planted",
        "http://192.168.1.1/planted",
        "ftp://localhost/planted",
        "file:///planted",
        "planted",
        "",
    ] {
        let failure = parse_url(bad).expect_err(bad);
        assert_eq!(failure.kind, FailureKind::BadAnswer);
        assert!(!failure.message.contains("planted"));
    }
}

#[tokio::test]
async fn this_machine_is_not_asked_of_a_proxy() {
    let proxy = Stub::start(|_| Reply::new(502, ""));
    let stub = accept_all();
    let http = http_with(Some(&proxy.url("/")));
    assert_eq!(get(&http, url(&stub, "/x")).await.expect("an answer").status, 200);
    let outside = parse_url("https://unreachable.invalid/").expect("a URL");
    let failure = get(&http, outside).await.expect_err("refused");
    assert_eq!(failure.kind, FailureKind::Unreachable);
    let said = "lets nothing through to unreachable.invalid (502 ";
    assert!(failure.message.contains(said), "{failure}");
    assert!(failure.message.ends_with("): have that host allowed there"), "{failure}");
    // Once for the request, and once for the reason.
    assert_eq!(proxy.lines(), ["CONNECT unreachable.invalid:443"; 2]);
}

#[tokio::test]
async fn a_proxy_in_the_way_is_named_and_so_is_what_it_wants() {
    let far = || parse_url("https://platform.invalid/x").expect("a URL");
    let login = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(login.path(), "lab:p@ss: w/#rd\n").expect("written");
    let asks = |lines: &'static [&'static str]| {
        Stub::start(move |_| {
            lines
                .iter()
                .fold(Reply::new(407, ""), |reply, line| reply.with("Proxy-Authenticate", *line))
        })
    };
    for (lines, has_login, said) in [
        (&["Negotiate", "NTLM"][..], false, "takes only Negotiate and NTLM"),
        (&["Basic realm=\"x\"", "NTLM"][..], false, "set [network] proxy_credential"),
        (&["Basic realm=\"x\""][..], true, "refuses the user and the password"),
        (&[][..], false, "asks for a user and a password"),
    ] {
        let proxy = asks(lines);
        let proxy_credential = has_login.then(|| login.path().to_owned());
        let address = Some(proxy.url(""));
        let settings = Settings { proxy: address, proxy_credential, ..settings(LIMIT) };
        let http = Http::new(&settings).expect("a client");
        let failure = get(&http, far()).await.expect_err("not let through");
        assert_eq!(failure.kind, FailureKind::Unreachable);
        let place = proxy.url("").replace("http://", "the proxy ");
        assert!(failure.message.starts_with(&place) && failure.message.contains(said), "{failure}");
        let sent = proxy.seen()[0].header("proxy-authorization").map(str::to_owned);
        assert_eq!(sent.as_deref(), has_login.then_some("Basic bGFiOnBAc3M6IHcvI3Jk"));
    }
    let gone = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let place = gone.local_addr().expect("an address");
    drop(gone);
    let failure = get(&http_with(Some(&format!("http://{place}"))), far()).await.expect_err("dead");
    let expected = format!("the proxy {place} refuses the connection");
    assert!(failure.message.starts_with(&expected), "{failure}");
}

#[test]
fn a_proxy_is_left_out_where_it_is_said() {
    let proxies = |no_proxy: Option<&str>| {
        let (proxy, no_proxy) =
            (Some("http://proxy.lab:3128".to_owned()), no_proxy.map(str::to_owned));
        Proxies::new(&Settings { proxy, no_proxy, ..settings(LIMIT) })
    };
    let url = |text: &str| Url::parse(text).expect("a URL");
    for (no_proxy, address, is_used) in [
        (None, "https://s3.example/", true),
        (Some(".lab.example,10.0.0.0/8"), "https://s3.lab.example/", false),
        (Some(".lab.example,10.0.0.0/8"), "http://10.1.2.3:9000/", false),
        (Some(".lab.example,10.0.0.0/8"), "https://s3.example/", true),
        (None, "http://127.0.0.1:9/", false),
        (None, "http://169.254.169.254/latest", false),
        (None, "http://[fd00:ec2::254]/latest", false),
    ] {
        assert_eq!(
            proxies(no_proxy).are_used_for(&url(address)),
            is_used,
            "{no_proxy:?} {address}"
        );
    }
}

#[tokio::test]
async fn a_request_id_is_kept_and_bounded() {
    let stub = Stub::start(|_| Reply::new(200, "").with("X-Request-Id", "r".repeat(500)));
    let answer = get(&http(), url(&stub, "/x")).await.expect("an answer");
    assert_eq!(answer.request_id(), Some("r".repeat(120)));
}

#[tokio::test]
async fn nothing_secret_is_logged_or_told() {
    let time = TimeSource::new(|| Now {
        monotonic: crate::model::Monotonic(Duration::ZERO),
        wall: crate::model::WallTime(0),
    });
    let http = http().with_time(time);
    let (good, bad) = (accept_all(), stalls_after(b""));
    let headers = || header_map([("x-secret", "planted")].into_iter()).expect("headers");
    let act = async {
        let request = || Request { headers: headers(), ..Request::default() };
        let mut told = String::new();
        for stub in [&good, &bad] {
            let url = url(stub, "/path?signature=planted#planted");
            told += &format!("{:?}", http.send(Method::GET, url.clone(), request()).await);
            let body = body_of(1, vec![Ok(bytes(1))]);
            told += &format!("{:?}", http.send_part(Method::PUT, url, headers(), body).await);
        }
        told + &format!("{:?} {:?} {http:?}", request(), headers())
    };
    let (told, logged) = traced(act).await;
    assert!(logged.contains("GET 127.0.0.1/path"), "{logged}");
    assert!(logged.contains("answer received") && logged.contains("no answer"), "{logged}");
    assert!(!told.contains("planted"), "{told}");
    assert!(!logged.contains("planted"), "{logged}");
    let proxy = Some("http://user:planted@proxy".to_owned());
    let settings = Settings { proxy, ..settings(LIMIT) };
    assert!(!format!("{settings:?}").contains("planted"));
}

#[test]
fn unusable_settings_are_named() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let settings = |proxy: Option<&str>, ca_file: Option<&std::path::Path>| Settings {
        proxy: proxy.map(str::to_owned),
        ca_file: ca_file.map(Into::into),
        ..settings(LIMIT)
    };
    let said = Http::new(&settings(None, Some(file.path()))).expect_err("no certificate");
    assert!(said.contains("no certificate in PEM form"), "{said}");
    let said = Http::new(&settings(None, Some("/nowhere".as_ref()))).expect_err("no file");
    assert!(said.starts_with("/nowhere cannot be used: "), "{said}");
    let said = Http::new(&settings(Some("http://planted@["), None)).expect_err("no URL");
    assert!(said.starts_with("the proxy cannot be used: ") && !said.contains("planted"), "{said}");
}

mod pinned {
    //! Certificates of appliances: self-signed, with and without a name, and of version 1.

    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, SigningKey};
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use rustls::sign::{CertifiedKey, SingleCertAndKey};
    use rustls::{ServerConfig, ServerConnection, SupportedProtocolVersion};

    use super::*;
    use crate::platform::der::{SEQUENCE, element, expect};

    fn made(is_authority: bool, names: &[&str]) -> (CertificateDer<'static>, KeyPair) {
        let key = KeyPair::generate().expect("a key");
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.distinguished_name.push(DnType::CommonName, "localhost");
        if is_authority {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        let certificate = params.self_signed(&key).expect("signed").der().clone();
        (certificate, key)
    }

    fn wrap(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(content.len()).expect("short").to_be_bytes();
        let head = match length {
            [0, short @ 0..0x80] => vec![tag, short],
            [0, one] => vec![tag, 0x81, one],
            [high, low] => vec![tag, 0x82, high, low],
        };
        [&head, content].concat()
    }

    /// The same certificate in version 1: without a version field and without extensions.
    fn of_version_1(certificate: &CertificateDer<'_>, key: &KeyPair) -> CertificateDer<'static> {
        let (whole, _) = expect(certificate, SEQUENCE).expect("a certificate");
        let (signed, rest) = expect(whole, SEQUENCE).expect("what is signed");
        let (_, _, after_version) = element(signed).expect("a version");
        let mut left = after_version;
        for _ in 0..6 {
            left = element(left).expect("serial to key").2;
        }
        let signed = wrap(SEQUENCE, &after_version[..after_version.len() - left.len()]);
        let after_algorithm = element(rest).expect("an algorithm").2;
        let algorithm = &rest[..rest.len() - after_algorithm.len()];
        let signature = key.sign(&signed).expect("signed");
        let signature = wrap(3, &[&[0][..], &signature].concat());
        CertificateDer::from(wrap(SEQUENCE, &[&signed[..], algorithm, &signature].concat()))
    }

    /// A server with a certificate, and its port.
    fn serve(
        certificate: CertificateDer<'static>,
        key: &KeyPair,
        version: &'static SupportedProtocolVersion,
    ) -> u16 {
        let provider = rustls::crypto::ring::default_provider();
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let key = provider.key_provider.load_private_key(key).expect("a usable key");
        let shown = SingleCertAndKey::from(CertifiedKey::new(vec![certificate], key));
        let config = ServerConfig::builder_with_provider(provider.into())
            .with_protocol_versions(&[version])
            .expect("a version")
            .with_no_client_auth()
            .with_cert_resolver(std::sync::Arc::new(shown));
        let config = std::sync::Arc::new(config);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let mut connection = ServerConnection::new(config.clone()).expect("a connection");
                let mut tls = rustls::Stream::new(&mut connection, &mut stream);
                let mut some = [0; 1000];
                if tls.read(&mut some).is_ok() {
                    drop(tls.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"));
                    connection.send_close_notify();
                    drop(connection.complete_io(&mut stream));
                }
            }
        });
        port
    }

    fn pem(certificate: &CertificateDer<'_>) -> String {
        use base64::Engine;
        let text = base64::engine::general_purpose::STANDARD.encode(certificate);
        format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
    }

    #[tokio::test]
    async fn a_certificate_that_stands_in_ca_file_is_trusted_as_it_is_and_no_other() {
        let (named, bare, authority) =
            (made(false, &["localhost"]), made(false, &[]), made(true, &["localhost"]));
        let other = made(true, &["localhost"]);
        let old = (of_version_1(&bare.0, &bare.1), bare.1.serialize_der());
        let old = (old.0, KeyPair::try_from(old.1).expect("the same key"));
        let file = tempfile::NamedTempFile::new().expect("a file");
        for (what, (certificate, key)) in
            [("named", named), ("bare", bare), ("authority", authority), ("version 1", old)]
        {
            for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
                let port = serve(certificate.clone(), &key, version);
                let url = parse_url(&format!("https://localhost:{port}/")).expect("a URL");
                for (pinned, is_trusted) in [(&certificate, true), (&other.0, false)] {
                    std::fs::write(file.path(), pem(pinned)).expect("written");
                    let ca_file = Some(file.path().to_owned());
                    let network = Settings { ca_file, ..settings(Duration::from_secs(5)) };
                    let http = Http::new(&network).expect("a client");
                    let answer = get(&http, url.clone()).await;
                    let said = format!("{what} {version:?} {answer:?}");
                    assert_eq!(answer.is_ok(), is_trusted, "{said}");
                    assert!(is_trusted || said.contains("certificate"), "{said}");
                }
            }
        }
        // A key that does not belong to the certificate proves nothing.
        let (certificate, _) = made(false, &[]);
        let port = serve(certificate.clone(), &made(false, &[]).1, &rustls::version::TLS13);
        std::fs::write(file.path(), pem(&certificate)).expect("written");
        let ca_file = Some(file.path().to_owned());
        let http = Http::new(&Settings { ca_file, ..settings(Duration::from_secs(5)) });
        let url = parse_url(&format!("https://localhost:{port}/")).expect("a URL");
        assert!(get(&http.expect("a client"), url).await.is_err());
    }
}

#[tokio::test]
async fn a_host_that_breaks_connections_used_twice_gets_one_for_each_request_after_a_few() {
    let stub = Stub::raw(|mut reader| {
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        drop(reader.get_mut().write_all(answer));
        // The next request is read, and never answered.
        drop(reader.read_exact(&mut [0; 16]));
    });
    let (http, mut broken) = (http(), Vec::new());
    for number in 0..60 {
        if let Err(failure) = get(&http, url(&stub, "/x")).await {
            assert_eq!(failure.kind, FailureKind::Broken, "{failure}");
            broken.push(number);
        }
    }
    assert!((3..=6).contains(&broken.len()) && broken.last() < Some(&12), "{broken:?}");
}
