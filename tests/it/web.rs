//! The status page, the metrics and the health of the running daemon.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use dropferry::testing::clock::Clock;
use serde_json::Value;

use super::stage::{Options, Stage, noise, until};

fn stage() -> (Stage, String) {
    let mut stage = Stage::new(Options { web: "127.0.0.1:0", ..Options::default() });
    let config = fs::read_to_string(stage.path("config.toml")).expect("read");
    let hosts = "listen = \"127.0.0.1:0\"\nhosts = [\"seq-07.lab.example\"]";
    let config = config.replace("listen = \"127.0.0.1:0\"", hosts);
    fs::write(stage.path("config.toml"), config).expect("written");
    stage.start();
    let address = until("the page is served", || {
        let log = stage.log();
        let (_, rest) = log.split_once("the status page is at http://")?;
        rest.split_once('/').map(|(address, _)| address.to_owned())
    });
    (stage, address)
}

fn ask(address: &str, method: &str, path: &str, host: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("it listens");
    let head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    let status = answer.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("a status");
    (status, answer)
}

fn get(address: &str, path: &str) -> (u16, String) {
    ask(address, "GET", path, address)
}

/// Sends a request as it stands, and returns the status of its answer.
fn raw(address: &str, request: &str) -> u16 {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    answer.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("a status")
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").expect("a head and a body").1
}

#[test]
fn the_page_says_what_status_says_and_changes_nothing() {
    let (stage, address) = stage();
    stage.write("run1/<script>alert(1)</script>", &noise(1000, 3));
    stage.until_count("completed", 1);
    let (status, page) = get(&address, "/");
    assert_eq!(status, 200);
    assert!(page.contains("Is my run there yet?") && page.contains("content-security-policy"));
    for file in ["/script.js", "/style.css"] {
        assert_eq!(get(&address, file).0, 200, "{file}");
    }
    let (_, answer) = get(&address, "/api/status");
    let shown: Value = serde_json::from_str(body(&answer)).expect("JSON");
    let told = stage.status();
    for key in ["schema", "counts", "drops", "destinations", "uploads", "runs"] {
        if key != "drops" {
            assert_eq!(shown[key], told[key], "{key}");
        }
    }
    assert_eq!(ask(&address, "POST", "/api/status", &address).0, 405);
    assert_eq!(ask(&address, "GET", "/", "evil.example").0, 421);
    assert_eq!(ask(&address, "GET", "/", "localhost").0, 200);
    assert_eq!(get(&address, "/nothing").0, 404);
}

#[test]
fn metrics_are_prometheus_text() {
    let (stage, address) = stage();
    stage.write("run1/a", &noise(70_000, 3));
    stage.until_count("completed", 1);
    let (status, answer) = get(&address, "/metrics");
    assert_eq!(status, 200);
    let text = body(&answer);
    for line in [
        "dropferry_uploads{state=\"completed\"} 1",
        "dropferry_uploads{state=\"parked\"} 0",
        "dropferry_accepted_bytes 70000",
        "dropferry_sent_bytes_total 70000",
        "dropferry_drop_watch{drop=\"lab\",watch=\"deaf\"} 0",
        "dropferry_destination_state{destination=\"to-sevenbridges\",state=\"ok\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in {text}");
    }
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').expect("a name and a value");
        assert!(name.starts_with("dropferry_") && value.parse::<f64>().is_ok(), "{line}");
        let family = name.split('{').next().expect("a name");
        assert!(text.contains(&format!("# TYPE {family} ")), "{family} has no type");
    }
}

#[test]
fn a_deaf_drop_is_unwell_and_a_stopped_daemon_is_no_answer() {
    let (mut stage, address) = stage();
    until("it is well", || (get(&address, "/healthz").0 == 200).then_some(()));
    fs::rename(stage.drop(), stage.path("elsewhere")).expect("renamed");
    let answer = until("it is unwell", || {
        let (status, answer) = get(&address, "/healthz");
        (status == 503).then_some(answer)
    });
    assert!(body(&answer).starts_with("drop lab is deaf: "), "{answer}");
    fs::rename(stage.path("elsewhere"), stage.drop()).expect("renamed");
    until("it is well again", || (get(&address, "/healthz").0 == 200).then_some(()));
    stage.kill();
    assert!(TcpStream::connect(&address).is_err());
}

#[test]
fn a_taken_address_is_said_and_stops_nothing() {
    let (stage, address) = stage();
    let mut second = Stage::new(Options::default());
    let config = fs::read_to_string(second.path("config.toml")).expect("read");
    let config = config.replace("listen = \"off\"", &format!("listen = \"{address}\""));
    fs::write(second.path("config.toml"), config).expect("written");
    second.start();
    second.write("run1/a", b"x");
    second.until_count("completed", 1);
    assert!(second.log().contains(&format!("no status page at {address}: ")), "{}", second.log());
    drop(stage);
    second.signal(rustix::process::Signal::HUP);
    until("the page is served", || second.log().contains("the status page is at").then_some(()));
    assert_eq!(get(&address, "/healthz").0, 200);
}

#[test]
fn only_requests_that_name_this_machine_exactly_are_answered() {
    let (_stage, address) = stage();
    let node = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let below = format!("{node}.evil.example");
    let with_port = format!("{below}:8377");
    for host in [&*node, "localhost:1", "127.0.0.1", "[::1]:80", "SEQ-07.lab.example"] {
        assert_eq!(ask(&address, "GET", "/api/status", host).0, 200, "{host}");
    }
    for host in [&*below, &with_port, "seq-07", "localhost.evil.example", "127.1", "1.2.3.4", ""] {
        assert_eq!(ask(&address, "GET", "/api/status", host).0, 421, "{host}");
    }
    let get = |target: &str, hosts: &str| {
        raw(&address, &format!("GET {target} HTTP/1.1\r\n{hosts}Connection: close\r\n\r\n"))
    };
    assert_eq!(get("/api/status", "Host: localhost\r\nHost: evil.example\r\n"), 421);
    assert_eq!(get("/api/status", "Host: localhost\r\nHost: localhost\r\n"), 421);
    assert_eq!(get("http://evil.example/api/status", "Host: localhost\r\n"), 421);
    assert_eq!(get("http://localhost/api/status", "Host: evil.example\r\n"), 421);
    assert_eq!(get("http://localhost/api/status", "Host: localhost\r\n"), 200);
    assert_eq!(get("/api/status", ""), 421);
    assert_eq!(raw(&address, "GET / HTTP/1.0\r\n\r\n"), 421);
}

#[test]
fn held_connections_are_few_and_keep_nobody_out() {
    let (mut stage, address) = stage();
    let descriptors = |stage: &Stage| {
        fs::read_dir(format!("/proc/{}/fd", stage.pid())).expect("its descriptors").count()
    };
    let before = descriptors(&stage);
    let mut held: Vec<_> = (0..150)
        .map(|_| {
            let mut stream = TcpStream::connect(&address).expect("it listens");
            stream.write_all(b"GET / HTTP/1.1\r\nHost: local").ok();
            stream
        })
        .collect();
    assert_eq!(get(&address, "/healthz").0, 200);
    assert!(descriptors(&stage) < before + 80, "{} and {before}", descriptors(&stage));
    let started = Clock::real();
    let last = held.last_mut().expect("held");
    last.set_read_timeout(Some(Duration::from_secs(60))).expect("set");
    // A reset is an end as well.
    drop(last.read_to_end(&mut Vec::new()));
    assert!(started.now().monotonic.0 < Duration::from_secs(30), "{:?}", started.now().monotonic.0);
    assert!(stage.is_running());
}
