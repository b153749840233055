//! What is between this machine and a destination.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Stdio};

use serde_json::json;

use super::super::skipped::skipped;
use super::super::stage::{Options, Stage};
use super::{configure_more, doctor};

/// Adds a destination at an address.
fn add_destination(stage: &Stage, base_url: &str) {
    configure_more(
        stage,
        &format!(
            "[destinations.other]\nplatform = \"s3\"\nbase_url = \"{base_url}\"\n\
             credential = {{ file = \"sandbox.s3\" }}\nbucket = \"b\"\nregion = \"us-east-1\"\n\
             path_style = true\n"
        ),
    );
}

/// Answers every connection in the same way, for as long as the test runs.
fn serve(answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming().filter_map(Result::ok) {
            let mut reader = BufReader::new(stream);
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok_and(|count| count > 2) {
                line.clear();
            }
            reader.get_mut().write_all(answer.as_bytes()).ok();
        }
    });
    address
}

#[test]
fn a_revoked_credential_is_told_with_where_to_write_another() {
    let stage = Stage::new(Options { switches: "{\"token_revoked\": true}", ..Options::default() });
    let found = doctor(&stage, &[]);
    found.assert_code(1);
    let cure = format!("write a valid credential into {}", stage.path("sandbox.token").display());
    found.assert_says(("destination", "fail"), "(unauthorized, status 401", &cure);
}

#[test]
fn a_place_that_is_not_there_is_told() {
    let stage = Stage::new(Options::default());
    let config = std::fs::read_to_string(stage.path("config.toml")).expect("read");
    let wrong = config.replace("lab/demo", "lab/other");
    std::fs::write(stage.path("config.toml"), wrong).expect("written");
    let found = doctor(&stage, &[]);
    found.assert_code(1);
    found.assert_says(
        ("destination", "fail"),
        "project lab/other is not there",
        "make the project",
    );
}

#[test]
fn certificates_that_are_none_are_told() {
    let network = "inactivity_timeout = \"2s\"\nca_file = \"sandbox.token\"";
    let stage = Stage::new(Options { network, ..Options::default() });
    let found = doctor(&stage, &[]);
    found.assert_code(1);
    found.assert_says(("destination", "fail"), "sandbox.token cannot be used: ", "correct what it");
}

#[test]
fn names_without_address_and_ports_without_server_are_told() {
    let stage = Stage::new(Options::default());
    add_destination(&stage, "https://no-such-host.invalid");
    let found = doctor(&stage, &[]);
    found.assert_code(1);
    found.assert_says(
        ("destination", "fail"),
        "the name no-such-host.invalid has no address",
        "correct base_url, or the name server",
    );
    let stage = Stage::new(Options::default());
    add_destination(&stage, "http://127.0.0.1:1");
    let found = doctor(&stage, &[]);
    found.assert_code(1);
    found.assert_says(
        ("destination", "fail"),
        "cannot connect to 127.0.0.1: Connection refused",
        "let this machine reach 127.0.0.1",
    );
    found.assert_says(("orphans", "warn"), "they cannot be looked for", "the destination");
}

#[test]
fn a_page_in_place_of_an_answer_is_told_to_come_from_somebody_else() {
    let stage = Stage::new(Options::default());
    let rule = json!([{"operation": "any", "times": 0, "action": {"html": 200}}]);
    stage.tell("faults", &rule.to_string());
    let found = doctor(&stage, &[]);
    found.assert_code(1);
    found.assert_says(
        ("destination", "fail"),
        "(bad-answer, status 200)",
        "somebody else answers for 127.0.0.1, such as a portal or a filter",
    );
}

#[test]
fn a_clock_that_is_off_is_told() {
    let answer = "HTTP/1.1 403 Forbidden\r\nDate: Sat, 01 Jan 2000 00:00:00 GMT\r\n\
        Content-Length: 0\r\nConnection: close\r\n\r\n";
    let stage = Stage::new(Options::default());
    add_destination(&stage, &format!("http://{}", serve(answer)));
    let found = doctor(&stage, &[]);
    found.assert_code(1);
    found.assert_says(
        ("destination", "fail"),
        " ahead of that of 127.0.0.1",
        "timedatectl set-ntp",
    );
}

#[test]
fn a_proxy_that_wants_to_know_who_asks_is_told() {
    let answer = "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\
        Proxy-Authenticate: Basic realm=\"lab\"\r\nConnection: close\r\n\r\n";
    let stage = Stage::new(Options::default());
    let config = std::fs::read_to_string(stage.path("config.toml")).expect("read");
    let proxy = format!("[network]\nproxy = \"http://{}\"", serve(answer));
    std::fs::write(stage.path("config.toml"), config.replace("[network]", &proxy))
        .expect("written");
    add_destination(&stage, "https://far.invalid");
    let found = doctor(&stage, &[]);
    found.assert_code(1);
    found.assert_says(
        ("destination", "fail"),
        " asks for a user and a password: set [network] proxy_credential",
        "[network] proxy_credential = { file = \"FILE\" }",
    );
}

/// A proxy that knows our login and forbids every address: the login is sent, or else the proxy would ask for it.
#[test]
fn a_proxy_that_knows_the_login_is_quoted_with_why_it_refuses() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming().filter_map(Result::ok) {
            let mut reader = BufReader::new(stream);
            let (mut line, mut knows_login) = (String::new(), false);
            while reader.read_line(&mut line).is_ok_and(|count| count > 2) {
                // lab:secret
                knows_login |= line
                    .trim_end()
                    .eq_ignore_ascii_case("Proxy-Authorization: Basic bGFiOnNlY3JldA==");
                line.clear();
            }
            let status = match knows_login {
                true => "403 Not on the list",
                false => "407 Who asks?\r\nProxy-Authenticate: Basic realm=\"lab\"",
            };
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
            reader.get_mut().write_all(answer.as_bytes()).ok();
        }
    });
    let proxy =
        format!("proxy = \"http://{address}\"\nproxy_credential = {{ file = \"proxy.pass\" }}");
    let stage = Stage::new(Options::default());
    let config = std::fs::read_to_string(stage.path("config.toml")).expect("read");
    let config = config.replace("[network]", &format!("[network]\n{proxy}"));
    std::fs::write(stage.path("config.toml"), config).expect("written");
    std::fs::write(stage.path("proxy.pass"), "lab:secret\n").expect("written");
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(stage.path("proxy.pass"), private).expect("set");
    add_destination(&stage, "https://far.invalid");
    let why =
        "lets nothing through to far.invalid (403 Not on the list): have that host allowed there";
    let found = doctor(&stage, &[]);
    found.assert_code(1);
    found.assert_says(("destination", "fail"), why, "have it let this");
    let output = stage.output("check-config", &["--online"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.code() == Some(1) && said.contains(why), "{said}");
    assert!(!said.contains("secret") && !said.contains("bGFi"), "{said}");
}

#[test]
fn a_far_side_that_says_nothing_does_not_hold_the_report_back() {
    let stage = Stage::new(Options::default());
    // Accepts connections (by its backlog alone) and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let config = std::fs::read_to_string(stage.path("config.toml")).expect("read");
    let patient = config.replace("inactivity_timeout = \"2s\"", "inactivity_timeout = \"1h\"");
    std::fs::write(stage.path("config.toml"), patient).expect("written");
    add_destination(&stage, &format!("http://{}", silent.local_addr().expect("an address")));
    let found = doctor(&stage, &[]);
    found.assert_code(1);
    found.assert_says(
        ("destination", "fail"),
        "nothing answers within 10 s",
        "let this machine reach",
    );
    found.assert_says(("destination", "ok"), "the credential is accepted", "");
}

#[test]
fn a_certificate_that_is_not_trusted_is_told_with_its_issuer() {
    let stage = Stage::new(Options::default());
    let (key, certificate) = (stage.path("key.pem"), stage.path("certificate.pem"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"])
        .args(["-subj", "/O=Lab/CN=Lab filter CA", "-addext", "subjectAltName=DNS:localhost"])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output();
    let Ok(made) = made else {
        skipped("openssl is not installed");
        return;
    };
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let mut server = Command::new("openssl")
        .args(["s_server", "-accept", "127.0.0.1:0", "-www", "-cert"])
        .arg(&certificate)
        .arg("-key")
        .arg(&key)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let mut lines = BufReader::new(server.stdout.take().expect("piped")).lines();
    let accepts = lines.find_map(|line| line.ok()?.strip_prefix("ACCEPT ").map(str::to_owned));
    let port = accepts.as_deref().and_then(|address| address.rsplit(':').next()).expect("a port");
    add_destination(&stage, &format!("https://localhost:{port}"));
    let drain = std::thread::spawn(move || lines.for_each(drop));
    let found = doctor(&stage, &[]);
    server.kill().expect("killed");
    server.wait().expect("reaped");
    drain.join().expect("it ends");
    found.assert_code(1);
    found.assert_says(
        ("destination", "fail"),
        "the certificate of localhost is not trusted (issued by \"Lab filter CA\"): ",
        "[network] ca_file = \"FILE\" with that CA's certificate",
    );
}
