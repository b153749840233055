use std::io::{self, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use futures_util::{StreamExt, stream};

use super::stub::{Reply, Stub, traced};
use super::*;
use crate::model::ByteCount;

const LIMIT: Duration = Duration::from_millis(400);

fn http() -> Http {
    http_with(None)
}

fn http_with(proxy: Option<&str>) -> Http {
    let proxy = proxy.map(str::to_owned);
    Http::new(&Settings { proxy, ca_file: None, inactivity_timeout: LIMIT }).expect("a client")
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

/// Serves a connection by hand: `answer` is written, then the connection stays open for a while.
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
    let http = Http::new(&Settings { proxy: None, ca_file: None, inactivity_timeout });
    let http = http.expect("a client");
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
        let inactivity_timeout = Duration::from_secs(seconds);
        let settings = Settings { proxy: None, ca_file: None, inactivity_timeout };
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
async fn a_connection_that_breaks_is_unreachable() {
    let resets = Stub::raw(|mut reader| {
        let mut some = [0; 1000];
        drop(reader.read_exact(&mut some));
    });
    let body = body_of(32 << 20, (0..32).map(|_| Ok(bytes(1 << 20))).collect());
    let failure = put(&resets, body).await.expect_err("reset");
    assert_eq!(failure.kind, FailureKind::Unreachable, "{failure}");
    for answer in [&b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf"[..], b"", b"junk\r\n\r\n"] {
        let stub = Stub::raw(move |mut reader| drop(reader.get_mut().write_all(answer)));
        let failure = get(&http(), url(&stub, "/x")).await.expect_err("breaks");
        assert_eq!(failure.kind, FailureKind::Unreachable, "{failure}");
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
        // Whole, and then the source finds that it was another version.
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
    assert_eq!(get(&http, outside).await.expect_err("refused").kind, FailureKind::Unreachable);
    assert_eq!(proxy.lines(), ["CONNECT unreachable.invalid:443"]);
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
    let settings = Settings { proxy, ca_file: None, inactivity_timeout: LIMIT };
    assert!(!format!("{settings:?}").contains("planted"));
}

#[test]
fn unusable_settings_are_named() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let settings = |proxy: Option<&str>, ca_file: Option<&std::path::Path>| Settings {
        proxy: proxy.map(str::to_owned),
        ca_file: ca_file.map(Into::into),
        inactivity_timeout: LIMIT,
    };
    let said = Http::new(&settings(None, Some(file.path()))).expect_err("no certificate");
    assert!(said.contains("no certificate in PEM form"), "{said}");
    let said = Http::new(&settings(None, Some("/nowhere".as_ref()))).expect_err("no file");
    assert!(said.starts_with("/nowhere cannot be used: "), "{said}");
    let said = Http::new(&settings(Some("http://planted@["), None)).expect_err("no URL");
    assert!(said.starts_with("the proxy cannot be used: ") && !said.contains("planted"), "{said}");
}
