//! What `run --record` writes can be replayed: the same events at the same times lead to the same effects.
//!
//! `.ci/run replay FILE` replays a recording that was made elsewhere, and prints what each line leads to.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};

use dropferry::testing::daemon::recording::RecordedLine;
use dropferry::testing::engine::Engine;
use dropferry::testing::engine::event::Effect;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::stage::{Options, Stage, TOKEN, noise, until};

const ALL: [&str; 4] = ["sevenbridges", "basespace", "gjirafa-vp", "s3"];
/// Events that the lives of [`record`] contain between them.
const KINDS: [&str; 8] = [
    "Committed",
    "CredentialChanged",
    "Drain",
    "Observed",
    "Ordered",
    "Outcome",
    "Reconfigured",
    "Stored",
];

/// The recording that is to be replayed and shown.
fn given() -> Option<OsString> {
    std::env::var_os("DROPFERRY_RECORDING")
}

#[expect(clippy::print_stdout, reason = "it was asked for")]
fn show(line: &str) {
    if given().is_some() {
        println!("{line}");
    }
}

/// What a replay compared.
#[derive(Debug, Default)]
struct Replayed {
    starts: usize,
    /// Calls that led to something.
    turns_with_effects: usize,
    effects: usize,
}

/// Replays a recording; the error names the line that does not replay.
fn replay(recording: &str) -> Result<Replayed, String> {
    let mut replayed = Replayed::default();
    let (mut engine, mut decided) = (None::<Engine>, None::<Vec<Effect>>);
    let mut lines = (1..).zip(recording.lines()).peekable();
    while let Some((number, text)) = lines.next() {
        let is_last_of_life = lines.peek().is_none_or(|(_, next)| next.starts_with("{\"start\""));
        let line = match serde_json::from_str::<RecordedLine>(text) {
            Ok(line) => line,
            Err(_) if is_last_of_life => continue,
            Err(error) => return Err(format!("line {number} cannot be read: {error}")),
        };
        let mut effects = Vec::new();
        match line {
            RecordedLine::Start(start) => {
                let start = *start;
                engine = Some(Engine::load(start.settings, start.stored, start.now, &mut effects));
                replayed.starts += 1;
            }
            RecordedLine::Turn { now, events } => {
                let engine = engine.as_mut().ok_or_else(|| format!("line {number}: no start"))?;
                show(&format!("line {number}, {now:?}: {events:?}"));
                engine.handle_all(now, events, &mut effects);
            }
            recorded @ RecordedLine::Effects { .. } => {
                let effects = decided.take().ok_or_else(|| format!("line {number}: of nothing"))?;
                if recorded != RecordedLine::effects(&effects) {
                    return Err(format!("line {number} is not what comes of it: {effects:#?}"));
                }
                replayed.turns_with_effects += usize::from(!effects.is_empty());
                replayed.effects += effects.len();
                continue;
            }
        }
        show(&format!("  leads to {effects:?}"));
        if decided.replace(effects).is_some() {
            return Err(format!("line {number}: effects are missing before it"));
        }
        if is_last_of_life {
            decided = None;
        }
    }
    Ok(replayed)
}

fn start(stage: &mut Stage) {
    let mut run = stage.command("run");
    run.arg("--record").arg(stage.path("recording"));
    stage.start_as(run);
}

/// Records two lives with a kill between them: uploads to every platform, failures whose answers
/// contain the token, orders, another configuration, a file that is handed in, a drain.
fn record() -> Stage {
    let mut stage = Stage::new(Options {
        platforms: &ALL,
        transfer: "parts_in_flight = 4\nbandwidth = \"8 MB/s\"\npart_size = \"256 KiB\"",
        switches: "{\"part_size\": 262144}",
        orphans_allowed: 8,
        ..Options::default()
    });
    let rules = json!([
        {"operation": "put", "nth": 2, "action": {"answer": {"status": 403, "body": {"token": TOKEN}}}},
        {"operation": "initialise", "action": {"answer": {"status": 500, "body": {"message": TOKEN}}}},
    ]);
    stage.tell("faults", &rules.to_string());
    stage.write("run/large.fastq", &noise(3 << 20, 1));
    for number in 0..5 {
        stage.write(&format!("run/small {number}.txt"), &noise(number * 9_001, 7));
    }
    start(&mut stage);
    until("something is completed", || (stage.count("completed") > 2).then_some(()));
    stage.kill();
    let cut = fs::OpenOptions::new().append(true).open(stage.path("recording"));
    cut.and_then(|mut file| file.write_all(b"{\"turn\":{\"now\"")).expect("written");
    start(&mut stage);
    until("it takes orders", || stage.output("pause", &["to-s3"]).status.success().then_some(()));
    assert!(stage.output("resume", &["to-s3"]).status.success());
    stage.signal(Signal::HUP);
    until("it reads the configuration", || stage.log().contains("was read again").then_some(()));
    fs::write(stage.path("by hand"), b"x").expect("written");
    let path = stage.path("by hand");
    let handed = stage.output("upload", &[path.to_str().expect("text"), "--to", "to-s3"]);
    assert!(handed.status.success(), "{}", String::from_utf8_lossy(&handed.stderr));
    stage.until_count("completed", 6 * 4 + 1);
    stage.signal(Signal::TERM);
    assert!(stage.wait_for_end().success());
    stage
}

fn event_kinds(recording: &str) -> BTreeSet<String> {
    let name = |event: &Value| {
        let first = event.as_object().and_then(|of| of.keys().next());
        event.as_str().or(first.map(String::as_str)).expect("a name").to_owned()
    };
    let lines = recording.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let turns = lines.filter_map(|line| line["turn"]["events"].as_array().cloned());
    turns.flatten().map(|event| name(&event)).collect()
}

/// Neither a secret, nor an address but those in the configuration.
fn assert_no_secret(recording: &str) {
    for secret in [TOKEN, "ignature", "X-Amz", "expires=", "SANDBOX"] {
        assert!(!recording.contains(secret), "{secret:?} is recorded");
    }
    for (at, _) in recording.match_indices("://") {
        let (before, _) = recording.split_at(at);
        assert!(before.ends_with("\"base_url\":\"http"), "an address: {}", &recording[at - 80..]);
    }
}

/// Another event leads to something else, and a replay names the line.
fn assert_a_change_is_seen(recording: &str) {
    let began = "{\"Begun\":{\"id\":\"";
    assert!(recording.contains(began), "nothing was begun");
    let changed = recording.replacen(began, &format!("{began}another"), 1);
    let line = changed.lines().position(|line| line.contains("another")).expect("it is there") + 2;
    let error = replay(&changed).expect_err("another reply leads to other effects");
    assert!(error.starts_with(&format!("line {line} is not what comes of it")), "{error}");
    let lines = recording.lines().enumerate();
    let without: Vec<_> = lines.filter(|(index, _)| *index != line - 1).map(|(_, l)| l).collect();
    replay(&without.join("\n")).expect_err("effects are missing");
}

#[test]
fn what_is_recorded_replays_byte_for_byte_and_holds_no_secret() {
    if let Some(path) = given() {
        let replayed = replay(&fs::read_to_string(path).expect("read")).expect("it replays");
        assert!(replayed.effects > 0, "nothing was decided");
        return;
    }
    let stage = record();
    let path = stage.path("recording");
    assert_eq!(fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o600);
    let recording = fs::read_to_string(&path).expect("read");
    let replayed = replay(&recording).expect("it replays");
    assert_eq!(replayed.starts, 2, "{replayed:?}");
    assert!(replayed.turns_with_effects > 50 && replayed.effects > 100, "{replayed:?}");
    let kinds = event_kinds(&recording);
    assert!(KINDS.iter().all(|kind| kinds.contains(*kind)), "{kinds:?}");
    assert_no_secret(&recording);
    assert_a_change_is_seen(&recording);
}

#[test]
fn a_recording_is_refused_where_it_would_be_uploaded_or_replace_something() {
    let stage = Stage::new(Options::default());
    symlink(stage.path("elsewhere"), stage.path("link")).expect("linked");
    symlink(stage.drop(), stage.path("other-way")).expect("linked");
    let config = fs::read(stage.path("config.toml")).expect("read");
    for (name, why) in [
        ("drop/recording", "lies in the directory of drop \"lab\""),
        ("other-way/recording", "lies in the directory of drop \"lab\""),
        ("config.toml", "not a recording"),
        ("state", "refused"),
        ("link", "refused"),
    ] {
        let path = stage.path(name);
        let refused = stage.output("run", &["--record", path.to_str().expect("text")]);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(3), "{name}: {said}");
        assert!(said.contains(why), "{name}: {said}");
    }
    assert_eq!(fs::read(stage.path("config.toml")).expect("read"), config);
    assert!(!stage.path("elsewhere").exists() && !stage.drop().join("recording").exists());
}

#[test]
fn a_configuration_that_would_upload_the_recording_is_refused() {
    let mut stage = Stage::new(Options::default());
    fs::create_dir(stage.path("records")).expect("made");
    let mut run = stage.command("run");
    run.arg("--record").arg(stage.path("records/recording"));
    stage.start_as(run);
    until("it is ready", || stage.log().contains("started").then_some(()));
    let config = fs::read_to_string(stage.path("config.toml")).expect("read");
    let more = "[drops.two]\ndirectory = \"records\"\ndestinations = [\"to-sevenbridges\"]\n";
    fs::write(stage.path("config.toml"), format!("{config}\n{more}")).expect("written");
    stage.signal(Signal::HUP);
    until("it is refused", || stage.log().contains("the old one stays").then_some(()));
    assert!(stage.log().contains("the recording"), "{}", stage.log());
}
