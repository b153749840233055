//! The status page, the metrics and the health of the running daemon.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use dropferry::testing::clock::Clock;
use serde_json::Value;

use super::stage::{Options, Stage, noise, until};

fn stage() -> (Stage, String) {
    stage_with("127.0.0.1:0", "hosts = [\"seq-07.lab.example\"]")
}

/// A stage with more lines of `[web]`.
fn stage_with(listen: &str, more: &str) -> (Stage, String) {
    let mut stage = Stage::new(Options::default());
    let config = fs::read_to_string(stage.path("config.toml")).expect("read");
    let web = format!("listen = \"{listen}\"\n{more}");
    let config = config.replacen("listen = \"off\"", &web, 1);
    fs::write(stage.path("config.toml"), config).expect("written");
    write_password(&stage, "correct horse");
    stage.start();
    let address = address_of(&stage);
    (stage, address)
}

/// Returns the address of the page of a daemon that has just started.
pub(crate) fn address_of(stage: &Stage) -> String {
    until("the page is served", || {
        let log = stage.log();
        let (_, rest) = log.split_once("the status page is at http://")?;
        rest.split_once('/').map(|(address, _)| address.to_owned())
    })
}

fn write_password(stage: &Stage, password: &str) {
    let file = stage.path("web.pass");
    fs::write(&file, format!("{password}\n")).expect("written");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("set");
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

pub(crate) fn get(address: &str, path: &str) -> (u16, String) {
    ask(address, "GET", path, address)
}

/// Sends a request as it is, and returns the status of its answer.
fn raw(address: &str, request: &str) -> u16 {
    answer_to(address, request).0
}

fn answer_to(address: &str, request: &str) -> (u16, String) {
    try_answer_to(address, request).expect("it answers")
}

/// As [`answer_to`]; `None` if there is no answer, or if the connection is cut.
fn try_answer_to(address: &str, request: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let status = answer.split(' ').nth(1).and_then(|word| word.parse().ok())?;
    Some((status, answer))
}

pub(crate) fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").expect("a head and a body").1
}

#[test]
fn the_page_says_what_status_says_and_changes_nothing() {
    let (stage, address) = stage();
    stage.write("<script>alert(1)/a", &noise(1000, 3));
    stage.until_count("completed", 1);
    let (status, page) = get(&address, "/");
    assert_eq!(status, 200);
    assert!(page.contains("\\u003cscript>alert(1)") && page.contains("content-security-policy"));
    assert!(!page.contains("<script>alert(1)"), "{page}");
    for file in ["/script.js", "/style.css"] {
        assert_eq!(get(&address, file).0, 200, "{file}");
    }
    until("the page says what status says", || {
        let (_, answer) = get(&address, "/api/status");
        let shown: Value = serde_json::from_str(body(&answer)).expect("JSON");
        let told = stage.status();
        let keys =
            ["schema", "host", "daemon", "counts", "bytes", "destinations", "uploads", "runs"];
        // Runs continue and rates fall between the two.
        keys.iter().all(|key| shown[key] == told[key] && !told[key].is_null()).then_some(())
    });
    assert_eq!(ask(&address, "POST", "/api/status", &address).0, 405);
    assert_eq!(ask(&address, "GET", "/", "evil.example").0, 421);
    assert_eq!(ask(&address, "GET", "/", "localhost").0, 200);
    assert_eq!(get(&address, "/nothing").0, 404);
}

#[test]
fn metrics_are_openmetrics_text() {
    let (stage, address) = stage();
    stage.write("run1/a", &noise(70_000, 3));
    until("the open run is counted", || {
        let (_, answer) = get(&address, "/metrics");
        answer.contains("dropferry_run_bytes{drop=\"lab\",run=\"run1\"} 70000").then_some(())
    });
    stage.until_count("completed", 1);
    let (status, answer) = get(&address, "/metrics");
    assert_eq!(status, 200);
    let text = body(&answer);
    assert!(
        answer.contains("application/openmetrics-text") && text.ends_with("# EOF\n"),
        "{answer}"
    );
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
        let family = name.split('{').next().expect("a name").trim_end_matches("_total");
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

#[test]
fn a_page_beyond_loopback_needs_a_password() {
    let stage = Stage::new(Options { web: "0.0.0.0:0", ..Options::default() });
    let output = stage.output("run", &[]);
    assert_eq!(output.status.code(), Some(3));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("other machines reach it, and there is no password_file"), "{said}");
    let config = fs::read_to_string(stage.path("config.toml")).expect("read");
    let with = config.replace("\"0.0.0.0:0\"", "\"0.0.0.0:0\"\npassword_file = \"web.pass\"");
    fs::write(stage.path("config.toml"), with).expect("written");
    for (password, mode, expected) in [
        ("correct horse", 0o644, "may be read by others"),
        ("short", 0o600, "holds no password"),
        ("two\nlines of it", 0o600, "holds no password"),
    ] {
        write_password(&stage, password);
        let mode = fs::Permissions::from_mode(mode);
        fs::set_permissions(stage.path("web.pass"), mode).expect("set");
        let output = stage.output("check-config", &[]);
        assert_eq!(output.status.code(), Some(3), "{password}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(expected) && !said.contains(password), "{said}");
    }
    write_password(&stage, "correct horse");
    assert!(stage.output("check-config", &[]).status.success());
}

#[test]
fn with_a_password_nothing_is_shown_before_it_is_known() {
    let address = {
        let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        port.local_addr().expect("bound").to_string()
    };
    let (stage, _) = stage_with(&address, "password_file = \"web.pass\"");
    stage.write("run1/secret-name", b"x");
    stage.until_count("completed", 1);
    let ask = |path: &str, header: &str| {
        let host = format!("Host: {address}\r\n{header}Connection: close\r\n\r\n");
        answer_to(&address, &format!("GET {path} HTTP/1.1\r\n{host}"))
    };
    let log_in = |password: &str, host: &str| {
        let body = format!("password={}", password.replace(' ', "+"));
        let head = format!(
            "POST /login HTTP/1.1\r\nHost: {host}\r\nReferer: http://{host}/runs/lab/run1\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\nConnection: close",
            body.len()
        );
        try_answer_to(&address, &format!("{head}\r\n\r\n{body}"))
    };
    let log_in_now = |password: &str, host: &str| log_in(password, host).expect("it answers");
    let shown = ["/", "/runs/lab/run1", "/uploads/1", "/script.js", "/metrics", "/nothing"];
    let data = ["/api/status", "/api/page", "/api/events", "/api/history", "/api/files?q=secret"];
    for path in shown.iter().chain(&data) {
        let (status, answer) = ask(path, "");
        assert!(status == 401 && !answer.contains("secret-name"), "{path}: {answer}");
    }
    assert_eq!(ask("/healthz", "").0, 200);
    assert_eq!(log_in_now("correct horse", "evil.example").0, 421);
    let (status, answer) = log_in_now("correct hors", &address);
    assert!(status == 401 && !answer.contains("set-cookie"), "{answer}");

    let (status, answer) = log_in_now("correct horse", &address);
    assert_eq!(status, 303, "{answer}");
    assert!(answer.contains("location: /runs/lab/run1\r\n"), "{answer}");
    let (_, cookie) = answer.split_once("set-cookie: ").expect("a cookie");
    let cookie = cookie.lines().next().expect("a line");
    assert!(cookie.ends_with("; Path=/; HttpOnly; SameSite=Strict"), "{cookie}");
    let cookie = format!("Cookie: a=b; {}\r\n", cookie.split(';').next().expect("a value"));
    assert!(ask("/api/status", &cookie).1.contains("secret-name"));
    let forged = cookie.replace("=1", "=2");
    assert_eq!(ask("/api/status", &forged).0, 401);

    let basic = |text: &str| format!("Authorization: Basic {}\r\n", BASE64_STANDARD.encode(text));
    let started = Clock::real();
    assert_eq!(ask("/metrics", &basic("any:wrong")).0, 401);
    assert!(started.now().monotonic.0 >= Duration::from_secs(1), "a wrong guess takes a second");
    for _ in 0..2 {
        assert_eq!(ask("/metrics", &basic("prometheus:correct horse")).0, 200);
    }
    write_password(&stage, "battery staple");
    stage.signal(rustix::process::Signal::HUP);
    let (status, _) = until("another password is taken", || {
        log_in("battery staple", &address).filter(|(status, _)| *status == 303)
    });
    assert_eq!(status, 303);
    assert_eq!(ask("/api/status", &cookie).0, 401, "a former login has ended");
    assert!(!stage.log().contains("correct horse"));
}

#[test]
fn events_tell_what_has_changed_and_their_listeners_are_few() {
    let (stage, address) = stage();
    let listen = || {
        let mut stream = TcpStream::connect(&address).expect("it listens");
        let host = format!("Host: {address}\r\n\r\n");
        stream.write_all(format!("GET /api/events HTTP/1.1\r\n{host}").as_bytes()).expect("sent");
        BufReader::new(stream)
    };
    let first = |reader: &mut BufReader<TcpStream>| {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a line");
        line
    };
    let mut listeners: Vec<_> = (0..32).map(|_| listen()).collect();
    for listener in &mut listeners {
        assert_eq!(first(listener), "HTTP/1.1 200 OK\r\n");
    }
    assert_eq!(first(&mut listen()), "HTTP/1.1 503 Service Unavailable\r\n");
    assert_eq!(get(&address, "/api/status").0, 200, "there is room for others");
    stage.write("run1/a", b"x");
    for listener in &mut listeners {
        let told = listener.lines().map_while(Result::ok).find(|line| line.contains("\"run1\""));
        assert!(told.is_some_and(|line| line.starts_with("data: {")), "it is told of the run");
    }
}

#[test]
fn a_run_a_file_and_an_upload_can_be_asked_for() {
    let (stage, address) = stage();
    stage.write("run1/reads/a.fastq", &noise(70_000, 3));
    stage.write("run1/Reads.csv", b"x");
    stage.write("run2/b", b"x");
    stage.until_count("completed", 3);
    let ask = |path: &str| -> Value {
        let (status, answer) = get(&address, path);
        assert_eq!(status, 200, "{path}: {answer}");
        serde_json::from_str(body(&answer)).expect("JSON")
    };
    let run = ask("/api/runs/lab/run1");
    assert_eq!(run["runs"].as_array().map(Vec::len), Some(1));
    assert_eq!(run["uploads"].as_array().map(Vec::len), Some(2));
    let paths = |found: &Value| {
        let found = found["uploads"].as_array().expect("a list").iter();
        found.map(|up| up["path"].as_str().expect("a path").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(paths(&ask("/api/files?q=READS")).len(), 2);
    assert_eq!(paths(&ask("/api/files?q=b&drop=lab&run=run2")), ["run2/b"]);
    assert_eq!(paths(&ask("/api/files?q=%25")), [""; 0], "nothing stands for anything else");
    let id = &ask("/api/files?q=fastq")["uploads"][0]["id"];
    let upload = ask(&format!("/api/uploads/{id}"));
    assert_eq!(upload["upload"]["path"], "run1/reads/a.fastq");
    assert!(["a", "r"].contains(&upload["part_map"].as_str().expect("a map")), "{upload}");
    for (path, up) in [("/runs/lab/run1", "./../../"), (&*format!("/uploads/{id}"), "./../")] {
        let (status, page) = get(&address, path);
        assert_eq!(status, 200, "{path}");
        assert!(page.contains(&format!("src=\"{up}script.js\"")), "{page}");
    }
    for path in ["/runs/lab/run9", "/runs/other/run1", "/uploads/99", "/api/uploads/99"] {
        assert_eq!(get(&address, path).0, 404, "{path}");
    }
    let history = ask("/api/history");
    assert_eq!((&history["hour"]["count"], &history["day"]["count"]), (&360.into(), &288.into()));
}
