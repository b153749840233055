//! The kill test: the real binary, the sandbox in its own process, SIGKILL again and again.
//!
//! Each kill comes after a random number of further calls or bytes at the far end, so that it hits
//! start, recovery, parts, reports and completes alike. What the simulation cannot see is seen here:
//! synced files, the WAL, locks, sockets cut in the middle.

use super::stage::{Options, Stage, noise, until};

const ROUNDS: u64 = 50;
const PART: u64 = 256 * 1024;
const PARTS_IN_FLIGHT: u64 = 4;

/// How much has happened at the far end.
fn movement(stage: &Stage) -> u64 {
    let ledger = stage.ledger();
    let calls = ledger["calls"].as_object().expect("an object").values();
    calls.filter_map(serde_json::Value::as_u64).sum()
}

#[test]
fn fifty_kills_lose_nothing_and_send_little_again() {
    kill_again_and_again(&["sevenbridges"]);
}

#[test]
fn fifty_kills_lose_nothing_at_s3() {
    kill_again_and_again(&["s3"]);
}

#[test]
fn fifty_kills_lose_nothing_at_basespace() {
    kill_again_and_again(&["basespace"]);
}

#[test]
fn fifty_kills_lose_nothing_at_gjirafa_vp() {
    kill_again_and_again(&["gjirafa-vp"]);
}

#[expect(clippy::print_stdout, reason = "what a kill costs is printed, to be seen to grow")]
fn kill_again_and_again(platforms: &'static [&'static str]) {
    let mut stage = Stage::new(Options {
        platforms,
        transfer: "parts_in_flight = 4\nbandwidth = \"16 MB/s\"\npart_size = \"256 KiB\"",
        switches: "{\"part_size\": 262144}",
        // A begin whose answer is lost leaves one there that nobody can name.
        orphans_allowed: usize::try_from(ROUNDS).expect("small"),
        ..Options::default()
    });
    stage.write("run/large.fastq", &noise(24 << 20, 1));
    for number in 0..30_u64 {
        let length = usize::try_from(number * number * 700).expect("small");
        stage.write(&format!("run/small {number}.txt"), &noise(length, number + 2));
    }
    let mut random = 0x9e37_79b9_u64;
    for round in 0..ROUNDS {
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        if round % 10 == 9 {
            stage.write(&format!("late/{round}.bam"), &noise(3 << 20, round));
        }
        let goal = movement(&stage) + 1 + (random >> 33) % 25;
        stage.start();
        until("there is movement", || (movement(&stage) >= goal || is_done(&stage)).then_some(()));
        stage.kill();
    }
    stage.start();
    let count = super::stage::walk(&stage.drop()).len() as u64;
    stage.until_count("completed", count);
    if platforms == ["basespace"] {
        forgive_orphans(&stage);
    }
    stage.assert_all_there();
    let ledger = stage.ledger();
    let again = ledger["bytes_received_again"].as_u64().expect("a count");
    let received = ledger["bytes_received"].as_u64().expect("a count");
    let bound = ROUNDS * PARTS_IN_FLIGHT * PART;
    println!(
        "{platforms:?}, {ROUNDS} kills: {received} bytes received, {again} of them again, bound {bound}"
    );
    assert!(again <= bound, "{again} bytes were sent again, more than {bound}");
}

/// BaseSpace shows a pending file in no list, so one whose begin had no answer cannot be found again.
/// It must be one to which nothing was ever sent, and not one for each kill.
fn forgive_orphans(stage: &Stage) {
    let ledger = stage.ledger();
    let orphans = ledger["open_uploads"].as_array().expect("a list");
    for orphan in orphans {
        let id = orphan.as_str().expect("an id");
        assert!(ledger["parts"].get(id).is_none(), "{id} was begun, sent to, and left behind");
    }
    assert!(orphans.len() as u64 <= ROUNDS / 2, "{orphans:?} were left behind");
    stage.tell("vanish", "{}");
}

fn is_done(stage: &Stage) -> bool {
    let status = stage.status();
    let counts = &status["counts"];
    ["queued", "sending", "waiting", "settling"].iter().all(|state| counts[state] == 0)
        && counts["completed"].as_u64() == Some(super::stage::walk(&stage.drop()).len() as u64)
}
