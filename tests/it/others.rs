//! Third-party programs: real S3 servers for our client, and vendors' clients for our sandbox.
//!
//! `tests/servers/install` puts them below `target/servers`. If they are missing, a test is
//! skipped; with `DROPFERRY_OTHERS=required`, as in CI, it fails.

use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::skipped::skipped;
use super::stage::{Options, Outside, Stage, noise, until, walk};

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns where a third-party program is, or reports that the test is skipped.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let program = root().join("target/servers/venv/bin").join(name);
    if program.exists() {
        return Some(program);
    }
    skipped(&format!("{name} is not installed: run tests/servers/install"));
    None
}

/// A server in a process group of its own, which ends with the test.
struct Server {
    child: Child,
    outside: Outside,
    _home: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let group = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(group) = group {
            rustix::process::kill_process_group(group, rustix::process::Signal::KILL).ok();
        }
        self.child.wait().ok();
    }
}

/// Returns ports that are free at this moment.
fn free_ports<const N: usize>() -> [u16; N] {
    let listeners: Vec<_> =
        (0..N).map(|_| TcpListener::bind("127.0.0.1:0").expect("a port")).collect();
    std::array::from_fn(|i| listeners[i].local_addr().expect("bound").port())
}

fn start(mut command: Command, outside: Outside, home: tempfile::TempDir) -> Server {
    command.stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    let child = command.spawn().expect("the server starts");
    let server = Server { child, outside, _home: home };
    until("the bucket is made", || look(&server.outside, "make").map(drop));
    server
}

/// Runs `look.py`; `None` when it fails.
fn look(outside: &Outside, what: &str) -> Option<String> {
    let output = Command::new(program("python3")?)
        .arg(root().join("tests/servers/look.py"))
        .args([what, &outside.base_url, &outside.access_key, &outside.secret, &outside.bucket])
        .output()
        .expect("python runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    output.status.success().then_some(said)
}

fn outside(port: u16, access_key: &str, secret: &str) -> Outside {
    Outside {
        base_url: format!("http://127.0.0.1:{port}"),
        access_key: access_key.into(),
        secret: secret.into(),
        bucket: "lab-raw".into(),
    }
}

fn swift() -> Option<Server> {
    program("swift-proxy-server")?;
    let venv = program("python3")?.ancestors().nth(2).expect("a place").to_owned();
    let home = tempfile::tempdir().expect("a directory");
    let ports = free_ports::<4>();
    let mut command = Command::new(root().join("tests/servers/swift"));
    command.arg(venv).arg(home.path()).args(ports.map(|port| port.to_string()));
    Some(start(command, outside(ports[0], "test:tester", "testing"), home))
}

fn moto() -> Option<Server> {
    let [port] = free_ports::<1>();
    let mut command = Command::new(program("moto_server")?);
    command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
    Some(start(command, outside(port, "any", "any"), tempfile::tempdir().expect("a directory")))
}

fn rclone() -> Option<Server> {
    let [port] = free_ports::<1>();
    let home = tempfile::tempdir().expect("a directory");
    let mut command = Command::new(program("rclone")?);
    command.args(["serve", "s3", "--auth-key", "key,secret", "--addr"]);
    command.arg(format!("127.0.0.1:{port}")).arg(home.path());
    Some(start(command, outside(port, "key", "secret"), home))
}

pub(crate) fn md5_of(path: &Path) -> String {
    use md5::{Digest, Md5};
    let digest = Md5::digest(std::fs::read(path).expect("read"));
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// boto3 reads back what is in the drop directory, and nothing is left over.
fn assert_read_back(stage: &Stage, server: &Server) {
    let told = look(&server.outside, "list").expect("boto3 looks");
    let told: Value = serde_json::from_str(&told).expect("JSON");
    let mut there: Vec<_> = told["objects"].as_array().expect("a list").iter().collect();
    let here = walk(&stage.drop());
    assert_eq!(there.len(), here.len(), "{told}");
    for place in &here {
        let relative = place.strip_prefix(stage.drop()).expect("below").display();
        let key = format!("runs/{relative}");
        let index = there.iter().position(|object| object["key"] == key.as_str());
        let object = there.swap_remove(index.unwrap_or_else(|| panic!("{key} is not there")));
        assert_eq!(object["md5"], md5_of(place).as_str(), "{key}");
    }
    assert_eq!(told["uploads"], serde_json::json!([]), "uploads without an owner");
}

fn stage_for(server: &Server) -> Stage {
    let stage = Stage::new(Options {
        platforms: &["s3"],
        outside: Some(server.outside.clone()),
        transfer: "parts_in_flight = 4\nbandwidth = \"40 MB/s\"\npart_size = \"5 MiB\"",
        network: "inactivity_timeout = \"20s\"",
        ..Options::default()
    });
    stage.write("run/large.fastq", &noise(28 << 20, 1));
    stage.write("run/one part, names + all #1 & 'é'.txt", &noise(70_000, 2));
    stage.write("run/empty", b"");
    stage.write("run/deep/er/two parts", &noise(6 << 20, 3));
    stage
}

/// Uploads with kills in the middle, and compares what the server then holds.
fn kill_on_the_way(server: &Server, kills: u64) {
    let mut stage = stage_for(server);
    for round in 1..=kills {
        stage.start();
        let goal = (30 << 20) * round / (kills + 1);
        until("bytes are accepted", || {
            (stage.status()["bytes"]["accepted"].as_u64() >= Some(goal)).then_some(())
        });
        stage.kill();
    }
    stage.start();
    stage.until_count("completed", 4);
    assert_read_back(&stage, server);
}

#[test]
fn openstack_swift_holds_what_was_sent_after_kills() {
    if let Some(server) = swift() {
        kill_on_the_way(&server, 8);
    }
}

#[test]
fn moto_holds_what_was_sent_after_kills() {
    if let Some(server) = moto() {
        kill_on_the_way(&server, 8);
    }
}

#[test]
fn rclone_holds_what_was_sent() {
    if let Some(server) = rclone() {
        kill_on_the_way(&server, 0);
    }
}

/// Two drop directories have different contents under one name of one bucket: the one with a
/// receipt is there, and the other stays here.
fn two_sources_for_one_key(server: &Server) {
    for (one, two, at_once) in
        [(6 << 20, 14 << 20, true), (14 << 20, 6 << 20, false), (300, 400, true), (300, 400, false)]
    {
        let deletes = "quiet_period = \"50ms\"\nscan_interval = \"300ms\"\n\
            disposition = \"delete\"\ndisposition_grace = \"0s\"";
        let mut stage = Stage::new(Options {
            platforms: &["s3"],
            outside: Some(server.outside.clone()),
            transfer: "parts_in_flight = 4\npart_size = \"5 MiB\"",
            network: "inactivity_timeout = \"20s\"",
            drop: deletes,
            ..Options::default()
        });
        stage.add_twin(deletes);
        let name = format!("run/{one}-{at_once}.bin");
        let first = stage.put("drop", &name, &noise(one, 1));
        let put_second = |stage: &Stage| stage.put("other", &name, &noise(two, 2));
        let early = at_once.then(|| put_second(&stage));
        stage.start();
        stage.until_count("completed", 1);
        let second = early.unwrap_or_else(|| {
            until("the first is disposed of", || (!first.exists()).then_some(()));
            put_second(&stage)
        });
        stage.until_count("parked", 1);
        until("one is disposed of", || (first.exists() != second.exists()).then_some(()));
        let (sent, seed) = if first.exists() { (two, 2) } else { (one, 1) };
        let copy = stage.path("copy");
        std::fs::write(&copy, noise(sent, seed)).expect("written");
        let told = look(&server.outside, "list").expect("boto3 looks");
        let told: Value = serde_json::from_str(&told).expect("JSON");
        let key = format!("runs/{name}");
        let objects = told["objects"].as_array().expect("a list");
        let there = objects.iter().find(|object| object["key"] == key.as_str());
        assert_eq!(there.expect("it is there")["md5"], md5_of(&copy).as_str(), "{key}");
        stage.kill();
    }
}

#[test]
fn a_key_of_openstack_swift_belongs_to_one_source() {
    if let Some(server) = swift() {
        two_sources_for_one_key(&server);
    }
}

#[test]
fn a_key_of_moto_belongs_to_one_source() {
    if let Some(server) = moto() {
        two_sources_for_one_key(&server);
    }
}

#[test]
fn a_key_of_rclone_which_knows_no_conditions_belongs_to_one_source() {
    if let Some(server) = rclone() {
        two_sources_for_one_key(&server);
    }
}

#[test]
fn a_lost_database_sends_nothing_twice_to_swift() {
    let Some(server) = swift() else { return };
    let mut stage = stage_for(&server);
    stage.start();
    stage.until_count("completed", 4);
    stage.kill();
    std::fs::remove_dir_all(stage.path("state")).expect("lost");
    stage.start();
    stage.until_count("completed", 4);
    let status = stage.status();
    assert_eq!(status["bytes"]["accepted"], status["bytes"]["total"]);
    let shown = stage.output("show", &["run/large.fastq", "--json"]);
    let shown: Value = serde_json::from_slice(&shown.stdout).expect("JSON");
    assert!(!shown.to_string().contains("\"put part\""), "{shown}");
    assert_read_back(&stage, &server);
}

fn run_client(script: &str, arguments: &[&str]) {
    let python = program("python3").expect("looked for before");
    let output = Command::new(python)
        .arg(root().join("tests/servers").join(script))
        .args(arguments)
        .output()
        .expect("python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_vendors_client_works_with_our_seven_bridges() {
    let Some(_) = program("python3") else { return };
    let stage = Stage::new(Options::default());
    let file = stage.path("sample.fastq");
    std::fs::write(&file, noise(12 << 20, 5)).expect("written");
    let url = stage.url("/v2");
    run_client(
        "sevenbridges_client.py",
        &[&url, super::stage::TOKEN, "lab/demo", &file.to_string_lossy()],
    );
    assert_eq!(stage.ledger()["breaches"], serde_json::json!([]));
}

#[test]
fn boto3_works_with_our_s3() {
    let Some(_) = program("python3") else { return };
    let stage = Stage::new(Options { platforms: &["s3"], ..Options::default() });
    let file = stage.path("sample.bin");
    std::fs::write(&file, noise(12 << 20, 6)).expect("written");
    let place = file.to_string_lossy().into_owned();
    let arguments = [&*stage.url(""), "SANDBOX", super::stage::TOKEN, "lab-demo", &place];
    run_client("boto.py", &arguments);
}
