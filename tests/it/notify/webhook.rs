//! Webhooks and heartbeats, with a receiver that fails, hangs and refuses, and kills between.

use std::collections::{BTreeMap, BTreeSet};

use hmac::{Hmac, KeyInit, Mac};
use rustix::process::Signal;
use sha2::Sha256;

use super::super::run_states::until_run;
use super::super::stage::{Options, Stage, until};
use super::receiver::{Receiver, Reply};
use super::{DROP, add, until_told, with_head, write_secret};

/// The path of the receiver's address, which is a secret as Slack's is.
const PATH: &str = "services/T0SECRETB0planted";
const KEY: &str = "planted-signing-key";

fn stage(receiver: &Receiver, more: &str) -> Stage {
    let stage = Stage::new(Options { drop: DROP, level: "trace", ..Options::default() });
    write_secret(&stage, "hook.url", &format!("http://127.0.0.1:{}/{PATH}", receiver.port));
    write_secret(&stage, "hook.key", KEY);
    add(&stage, &format!("[notify.webhook]\nurl_file = \"hook.url\"\n{more}\n"));
    stage
}

fn assert_no_secret(stage: &Stage) {
    let log = stage.log();
    assert!(log.contains("POST 127.0.0.1/"), "the log shows the calls");
    for secret in [PATH, "T0SECRETB0planted", KEY] {
        assert!(!log.contains(secret), "the log shows {secret}");
        assert!(!stage.status().to_string().contains(secret), "status shows {secret}");
    }
}

#[test]
fn a_webhook_that_fails_first_has_each_fact_once_under_its_id_and_signed() {
    let plan = [Reply::Status(500), Reply::Portal, Reply::Status(302), Reply::Status(429)];
    let receiver =
        Receiver::new(move |number, _| plan.get(number).copied().unwrap_or(Reply::Status(200)));
    let more = "secret_file = \"hook.key\"\non = [\"run-completed\"]";
    let mut stage = stage(&receiver, more);
    stage.write("run1/a.txt", b"hello");
    stage.start();
    until("it was taken", || receiver.requests().iter().any(|r| r.is_taken()).then_some(()));
    until_told(&stage);
    let requests = receiver.requests();
    assert_eq!(requests.len(), 5, "tried until it was taken, and not once more");
    let told = requests[0].json();
    assert_eq!((&told["kind"], &told["name"]), (&"run-completed".into(), &"run1".into()));
    let sentence = "run1 of lab is all at to-sevenbridges: 1 file, 5 B";
    assert_eq!(told["text"], with_head(&stage, "run1", sentence));
    for request in &requests {
        assert_eq!(request.body, requests[0].body, "the same at each try");
        assert_eq!(request.line, format!("POST /{PATH} HTTP/1.1"));
        for header in ["x-dropferry-id", "idempotency-key"] {
            assert_eq!(request.header(header), told["id"], "{header}");
        }
        assert_eq!(request.header("content-type"), "application/json");
        assert!(is_signed(request.header("x-dropferry-signature"), &request.body));
    }
    assert_no_secret(&stage);
}

fn is_signed(signature: &str, body: &str) -> bool {
    let (time, hex) = signature.split_once(",v1=").expect("two parts");
    let seconds = time.strip_prefix("t=").expect("a time");
    let mut mac = Hmac::<Sha256>::new_from_slice(KEY.as_bytes()).expect("a key");
    mac.update(format!("{seconds}.{body}").as_bytes());
    let wanted: String =
        mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    hex == wanted
}

#[test]
fn kills_between_taking_and_marking_give_each_fact_one_id() {
    // The first try of each message is received and never answered.
    let seen = std::sync::Mutex::new(BTreeSet::new());
    let receiver = Receiver::new(move |_, body| {
        match seen.lock().expect("not poisoned").insert(body.to_owned()) {
            true => Reply::Hang,
            false => Reply::Status(204),
        }
    });
    let mut stage = stage(&receiver, "on = [\"run-completed\"]");
    let names = ["run1", "run2", "run3"];
    for (round, name) in names.into_iter().enumerate() {
        stage.write(&format!("{name}/a.txt"), b"hello");
        stage.start();
        until("it was taken", || (receiver.requests().len() == 2 * round + 1).then_some(()));
        stage.signal(Signal::KILL);
        stage.wait_for_end();
        assert_eq!(stage.status()["notices"]["waiting"], 1, "it was not marked");
        stage.start();
        until_told(&stage);
        stage.kill();
    }
    let requests = receiver.requests();
    assert_eq!(requests.len(), 6, "each was sent twice");
    let mut ids: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for request in requests.iter().filter(|request| request.is_taken()) {
        let name = request.json()["name"].as_str().expect("a name").to_owned();
        ids.entry(name).or_default().insert(request.header("x-dropferry-id").to_owned());
    }
    assert_eq!(ids.keys().collect::<Vec<_>>(), names);
    let all: BTreeSet<_> = ids.values().flatten().collect();
    assert!(ids.values().all(|ids| ids.len() == 1) && all.len() == 3, "{ids:?}");
}

#[test]
fn a_notice_that_is_refused_holds_up_none_behind_it_and_status_says_so() {
    let receiver = Receiver::new(|_, body| match body.contains("run1") {
        true => Reply::Status(400),
        false => Reply::Status(200),
    });
    let mut stage = stage(&receiver, "format = \"slack\"\non = [\"run-completed\"]");
    stage.write("run1/a.txt", b"hello");
    stage.start();
    until("it was refused", || receiver.requests().pop());
    stage.write("run2/b.txt", b"world");
    until_run(&stage, "run2", "completed");
    let taken = until("another is taken", || {
        receiver.requests().into_iter().find(|request| request.is_taken())
    });
    let sentence = "run2 of lab is all at to-sevenbridges: 1 file, 5 B";
    let text = with_head(&stage, "run2", sentence);
    assert_eq!(taken.json()["text"], text);
    assert_eq!(taken.json()["blocks"][1]["text"]["text"], text);
    let notices = until("one waits", || {
        Some(stage.status()["notices"].clone()).filter(|notices| notices["waiting"] == 1)
    });
    let failure = notices["failure"].as_str().expect("a reason");
    assert!(failure.starts_with("webhook: the webhook refuses the notice: well"), "{failure}");
    assert_eq!(notices["given_up"], 0);
}

#[test]
fn an_address_is_read_at_each_try_and_one_that_others_may_read_is_not_used() {
    let receiver = Receiver::new(|_, _| Reply::Status(200));
    let mut stage = stage(&receiver, "on = [\"run-completed\"]");
    stage.start();
    until("the configuration was read", || {
        (stage.status()["daemon"]["running"] == true).then_some(())
    });
    let url = stage.path("hook.url");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(&url, open).expect("set");
    stage.write("run1/a.txt", b"hello");
    let failure =
        until("it says why", || stage.status()["notices"]["failure"].as_str().map(str::to_owned));
    assert!(failure.contains("it may be read by others (mode 644)"), "{failure}");
    assert!(receiver.requests().is_empty());
    write_secret(&stage, "hook.url", &format!("http://127.0.0.1:{}/{PATH}", receiver.port));
    until("it is told", || receiver.requests().pop());
    until_told(&stage);
}

#[test]
fn a_heart_beats_while_the_daemon_lives_whatever_its_receiver_says() {
    let receiver = Receiver::new(|number, _| match number {
        0 => Reply::Status(500),
        _ => Reply::Status(200),
    });
    let mut stage = Stage::new(Options { drop: DROP, ..Options::default() });
    write_secret(&stage, "ping.url", &format!("http://127.0.0.1:{}/{PATH}", receiver.port));
    add(&stage, "[notify.heartbeat]\nurl_file = \"ping.url\"\nevery = \"1s\"\n");
    stage.start();
    until("it beats", || (receiver.requests().len() >= 3).then_some(()));
    assert!(receiver.requests().iter().all(|beat| beat.line == format!("GET /{PATH} HTTP/1.1")));
    stage.kill();
    let log = stage.log();
    assert!(log.contains("the heartbeat does not arrive: the webhook failed"), "{log}");
    assert!(log.contains("the heartbeat arrives again"), "{log}");
    assert!(!log.contains("planted"), "{log}");
    assert_eq!(stage.status()["notices"]["waiting"], 0, "beats are no notices");
}
