//! The networks of hospitals: proxies that ask for a login and intercept TLS, captive portals,
//! lines that stall, machines that sleep, IPv6.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;
use serde_json::json;

use super::stage::{Options, Stage, noise, until};

/// A proxy that runs for as long as a test.
struct Proxy {
    child: Child,
    address: String,
    said: std::sync::mpsc::Receiver<String>,
}

impl Proxy {
    /// Starts one that intercepts TLS in front of a stage's sandbox; `None` if its program is not installed.
    fn start(stage: &Stage, tls: &str) -> Option<Self> {
        let directory = stage.path(".").display().to_string();
        Self::run(stage, "hospital.py", &["--tls", tls, "--directory", &directory])
    }

    fn run(stage: &Stage, program: &str, flags: &[&str]) -> Option<Self> {
        let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/servers/venv/bin/python");
        if !python.exists() {
            super::skipped::skipped("tests/servers/install has not been run");
            return None;
        }
        let servers = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/servers");
        let server = stage.url("");
        let mut child = Command::new(python)
            .arg(servers.join(program))
            .args(["--server", server.trim_start_matches("http://")])
            .args(flags)
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let first = lines.next().expect("it says where it listens").expect("text");
        let address = first.trim_start_matches("listens at ").to_owned();
        let (sender, said) = std::sync::mpsc::sync_channel(1000);
        std::thread::spawn(move || {
            lines.map_while(Result::ok).for_each(|line| sender.try_send(line).unwrap_or(()));
        });
        Some(Self { child, address, said })
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A stage whose S3 has a name that only the proxy can resolve.
fn behind_a_proxy() -> Stage {
    let stage = Stage::new(Options {
        platforms: &["s3"],
        destination: "path_style = true",
        ..Options::default()
    });
    let config = fs::read_to_string(stage.path("config.toml")).expect("read");
    let config = config.replace(
        &format!("base_url = \"{}\"", stage.url("")),
        "base_url = \"https://platform.test\"",
    );
    fs::write(stage.path("config.toml"), config).expect("written");
    stage
}

fn configure(stage: &Stage, lines: &str) {
    let config = fs::read_to_string(stage.path("config.toml")).expect("read");
    let (before, rest) = config.split_once("[network]\n").expect("a section");
    let (_, after) = rest.split_once("[destinations").expect("a section after it");
    let config =
        format!("{before}[network]\ninactivity_timeout = \"2s\"\n{lines}\n[destinations{after}");
    fs::write(stage.path("config.toml"), config).expect("written");
}

fn until_unreachable(stage: &Stage, why: &str) {
    until(&format!("it says {why}; the log:\n{}", stage.log()), || {
        let status = stage.status();
        let to = &status["destinations"][0];
        let said = to["reason"]["text"].as_str().unwrap_or("").to_owned();
        (to["state"] == "unreachable" && said.contains(why)).then_some(())
    });
}

#[test]
fn a_proxy_with_a_password_and_a_certificate_of_its_own_is_passed_by_tls_1_2_and_1_3() {
    for tls in ["1.2", "1.3"] {
        let mut stage = behind_a_proxy();
        let Some(proxy) = Proxy::start(&stage, tls) else { return };
        stage.write("run/large", &noise(3 << 20, 7));
        stage.write("run/small", b"x");
        let known = format!("proxy = \"http://lab:secret@{}\"", proxy.address);
        configure(&stage, &format!("proxy = \"http://{}\"\nca_file = \"ca.pem\"", proxy.address));
        stage.start();
        until_unreachable(&stage, "proxy");
        configure(&stage, &known);
        stage.signal(Signal::HUP);
        until_unreachable(&stage, "certificate");
        configure(&stage, &format!("{known}\nca_file = \"ca.pem\""));
        stage.signal(Signal::HUP);
        stage.until_count("completed", 2);
        stage.assert_all_there();
        let version = format!("TLSv{tls}");
        let tunnels: Vec<_> =
            proxy.said.try_iter().filter(|line| line.ends_with(&version)).collect();
        assert!(!tunnels.is_empty(), "nothing went by {version}");
        assert!(!stage.log().contains("secret"), "the proxy's password is in the log");
        assert_eq!(stage.count("parked"), 0);
    }
}

/// A platform's own page is known for its own address alone, which only a proxy can lead to the sandbox. Its file is
/// there already, for the sandbox has no addresses of storage that begin with https.
#[test]
fn a_completed_run_is_told_and_shown_with_its_page_at_the_platform() {
    let destination = "when_name_taken = \"skip-if-same\"";
    let mut stage = Stage::new(Options { destination, ..Options::default() });
    let Some(proxy) = Proxy::start(&stage, "1.3") else { return };
    stage.write("run/empty", b"");
    stage.start();
    stage.until_count("completed", 1);
    stage.kill();
    fs::remove_dir_all(stage.path("state")).expect("removed");
    let config = fs::read_to_string(stage.path("config.toml")).expect("read");
    let own = "https://cavatica-api.sbgenomics.com/v2";
    let told = stage.path("told");
    let notify = format!(
        "[notify.command]\nrun = [\"/bin/sh\", \"-c\", \"cat > {0}.now && mv {0}.now {0}\"]\n\
         on = [\"run-completed\"]\n",
        told.display()
    );
    let config = config.replace(&stage.url("/v2"), own) + &notify;
    fs::write(stage.path("config.toml"), config).expect("written");
    let lines = format!("proxy = \"http://lab:secret@{}\"\nca_file = \"ca.pem\"", proxy.address);
    configure(&stage, &lines);
    stage.start();
    let told = until("it is told", || fs::read(&told).ok());
    let told: serde_json::Value = serde_json::from_slice(&told).expect("JSON");
    let page = "https://cavatica.sbgenomics.com/u/lab/demo/files/";
    assert_eq!((&told["kind"], &told["url"]), (&json!("run-completed"), &json!(page)), "{told}");
    assert_eq!(stage.status()["runs"][0]["destinations"][0]["url"], page);
    let shown = stage.output("show", &["run"]).stdout;
    assert!(String::from_utf8_lossy(&shown).contains(page));
}

/// A part is under way long after its last byte has left this machine: its answer comes seconds
/// after the last visible progress.
#[test]
fn a_proxy_that_takes_a_body_at_once_and_passes_it_on_slowly_is_waited_for() {
    let transfer = "parts_in_flight = 4\npart_size = \"1 MiB\"";
    let mut stage = Stage::new(Options { platforms: &["s3"], transfer, ..Options::default() });
    let Some(proxy) = Proxy::run(&stage, "holding.py", &["--rate", "600000"]) else { return };
    configure(&stage, "");
    let config = fs::read_to_string(stage.path("config.toml")).expect("read");
    let config = config.replace(&stage.url(""), &format!("http://{}", proxy.address));
    let config = config.replace("inactivity_timeout = \"2s\"", "inactivity_timeout = \"1s\"");
    fs::write(stage.path("config.toml"), config).expect("written");
    let bytes = noise(4 << 20, 5);
    stage.write("run/large", &bytes);
    stage.start();
    stage.until_count("completed", 1);
    stage.assert_all_there();
    let received = stage.ledger()["bytes_received"].as_u64().expect("a count");
    let length = bytes.len() as u64;
    assert!(received <= 2 * length, "{received} bytes of {length} were received");
}

#[test]
fn a_portal_that_answers_in_place_of_the_platform_is_no_success() {
    for platform in [&["sevenbridges"][..], &["s3"], &["basespace"], &["gjirafa-vp"]] {
        let mut stage = Stage::new(Options { platforms: platform, ..Options::default() });
        let rule = json!([{"operation": "any", "times": 6, "action": {"html": 200}}]);
        stage.tell("faults", &rule.to_string());
        stage.write("run/a", &noise(100_000, 3));
        stage.start();
        stage.until_count("completed", 1);
        stage.assert_all_there();
    }
}

#[test]
fn a_machine_that_slept_while_its_connections_died_goes_on() {
    let mut stage = Stage::new(Options {
        transfer: "parts_in_flight = 4\npart_size = \"64 KiB\"\nbandwidth = \"400 kB/s\"",
        ..Options::default()
    });
    stage.write("run/large", &noise(1 << 20, 3));
    stage.start();
    until("parts are on their way", || {
        (stage.status()["bytes"]["accepted"].as_u64() > Some(0)).then_some(())
    });
    stage.signal(Signal::STOP);
    // Meanwhile the server closes whatever was open, and half of an answer is lost.
    stage.tell(
        "faults",
        &json!([{"operation": "put", "when": "after", "action": "reset"}]).to_string(),
    );
    stage.signal(Signal::CONT);
    stage.until_count("completed", 1);
    stage.assert_all_there();
}

#[test]
fn the_other_family_of_addresses_does_as_well() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        super::skipped::skipped_by_machine("this machine has no IPv6");
        return;
    }
    let mut stage = Stage::new(Options { listen: "[::1]:0", ..Options::default() });
    stage.write("run/a", &noise(100_000, 3));
    stage.start();
    stage.until_count("completed", 1);
    stage.assert_all_there();
}

#[test]
fn a_name_that_has_no_address_is_waited_for() {
    let mut stage = Stage::new(Options { platforms: &["s3"], ..Options::default() });
    let config = fs::read_to_string(stage.path("config.toml")).expect("read");
    let here = format!("base_url = \"{}\"", stage.url(""));
    let nowhere = config.replace(&here, "base_url = \"https://no-such-host.invalid\"");
    fs::write(stage.path("config.toml"), nowhere).expect("written");
    stage.write("run/a", b"x");
    stage.start();
    until_unreachable(&stage, "no-such-host.invalid");
    assert_eq!(stage.count("parked"), 0);
    fs::write(stage.path("config.toml"), config).expect("written");
    stage.signal(Signal::HUP);
    stage.until_count("completed", 1);
}
