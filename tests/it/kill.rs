//! The kill test: the real binary, the sandbox in its own process, SIGKILL again and again.
//!
//! Each kill comes after a random number of further calls or bytes at the far end, so that it hits
//! start, recovery, parts, reports and completes alike. What the simulation cannot see is seen here:
//! synced files, the WAL, locks, sockets cut in the middle.

use super::stage::{Options, Stage, noise, until, walk};

const PART: u64 = 256 * 1024;
const PARTS_IN_FLIGHT: u64 = 4;

/// How much has happened at the far ends.
fn movement(stage: &Stage, platforms: &[&str]) -> u64 {
    let count = |platform: &&str| -> u64 {
        let ledger = stage.ledger_of(platform);
        let calls = ledger["calls"].as_object().expect("an object").values();
        calls.filter_map(serde_json::Value::as_u64).sum()
    };
    platforms.iter().map(count).sum()
}

#[test]
fn fifty_kills_lose_nothing_and_send_little_again() {
    kill_again_and_again(&["sevenbridges"], 50);
}

#[test]
fn fifty_kills_lose_nothing_at_s3() {
    kill_again_and_again(&["s3"], 50);
}

#[test]
fn fifty_kills_lose_nothing_at_basespace() {
    kill_again_and_again(&["basespace"], 50);
}

#[test]
fn fifty_kills_lose_nothing_at_gjirafa_vp() {
    kill_again_and_again(&["gjirafa-vp"], 50);
}

/// Uploads of a destination that may be beginning at once: as many large ones as parts in flight, and
/// twice as many small ones.
const BEGINNING_MAX: usize = 12;

#[test]
fn ten_kills_lose_nothing_at_four_platforms_at_once() {
    kill_again_and_again(&["sevenbridges", "basespace", "gjirafa-vp", "s3"], 10);
}

#[expect(clippy::print_stdout, reason = "what a kill costs is printed, to be seen to grow")]
fn kill_again_and_again(platforms: &'static [&'static str], rounds: u64) {
    let mut stage = Stage::new(Options {
        platforms,
        transfer: "parts_in_flight = 4\nbandwidth = \"16 MB/s\"\npart_size = \"256 KiB\"",
        switches: "{\"part_size\": 262144}",
        // A begin whose answer is lost leaves one there that nobody can name: one for each kill, and
        // once as many as begin together.
        orphans_allowed: usize::try_from(rounds).expect("small") + BEGINNING_MAX,
        ..Options::default()
    });
    stage.write("run/large.fastq", &noise(usize::try_from(rounds << 19).expect("small"), 1));
    for number in 0..30_u64 {
        let length = usize::try_from(number * number * 700).expect("small");
        stage.write(&format!("run/small {number}.txt"), &noise(length, number + 2));
    }
    let mut random = 0x9e37_79b9_u64;
    for round in 0..rounds {
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        if round % 10 == 9 {
            stage.write(&format!("late/{round}.bam"), &noise(3 << 20, round));
        }
        let goal = movement(&stage, platforms) + 1 + (random >> 33) % (25 * platforms.len() as u64);
        stage.start();
        until("there is movement", || {
            (movement(&stage, platforms) >= goal || is_done(&stage, platforms)).then_some(())
        });
        stage.kill();
    }
    stage.start();
    stage.until_count("completed", upload_count(&stage, platforms));
    stage.assert_all_there();
    for platform in platforms {
        let ledger = stage.ledger_of(platform);
        let again = ledger["bytes_received_again"].as_u64().expect("a count");
        let received = ledger["bytes_received"].as_u64().expect("a count");
        // On their way, and as many that arrived before that was written down.
        let bound = rounds * 2 * PARTS_IN_FLIGHT * PART;
        println!(
            "{platform}, {rounds} kills: {received} bytes received, {again} of them again, bound {bound}"
        );
        assert!(again <= bound, "{platform}: {again} bytes were sent again, more than {bound}");
    }
}

fn upload_count(stage: &Stage, platforms: &[&str]) -> u64 {
    (walk(&stage.drop()).len() * platforms.len()) as u64
}

fn is_done(stage: &Stage, platforms: &[&str]) -> bool {
    let status = stage.status();
    let counts = &status["counts"];
    ["queued", "sending", "waiting", "settling"].iter().all(|state| counts[state] == 0)
        && counts["completed"].as_u64() == Some(upload_count(stage, platforms))
}

/// What went over the wire twice for kills is said to within what a second moves, by the running daemon,
/// while it is down, and in the receipt.
#[test]
fn what_kills_have_sent_again_is_counted() {
    const RATE: u64 = 2_000_000;
    const KILLS: u64 = 2;
    let mut stage = Stage::new(Options {
        transfer: "parts_in_flight = 4\nbandwidth = \"2 MB/s\"\npart_size = \"4 MiB\"",
        switches: "{\"part_size\": 4194304}",
        ..Options::default()
    });
    stage.write("run/large.fastq", &noise(20 << 20, 1));
    let bytes = |stage: &Stage, of: &str| stage.status()["bytes"][of].as_u64().expect("a count");
    let addresses = |stage: &Stage| stage.ledger()["calls"]["part-url"].as_u64().unwrap_or(0);
    for kill in 1..=KILLS {
        // Until a part is begun, what `status` reads may be of the life before.
        let before = addresses(&stage);
        stage.start();
        until("a part is begun", || (addresses(&stage) > before).then_some(()));
        until("much is in flight", || (bytes(&stage, "in_flight") > 6 << 20).then_some(()));
        stage.kill();
        assert_eq!(bytes(&stage, "in_flight"), 0, "nothing is in flight of a dead daemon");
        let again = bytes(&stage, "sent_again");
        assert!(again > kill * (5 << 20), "after kill {kill}: {again}");
    }
    stage.start();
    let ordered = stage.output("bandwidth", &["unlimited"]);
    until("it takes orders", || {
        (ordered.status.success() || stage.output("bandwidth", &["unlimited"]).status.success())
            .then_some(())
    });
    stage.until_count("completed", 1);
    let received = stage.ledger()["bytes_received_again"].as_u64().expect("a count");
    let said = bytes(&stage, "sent_again");
    assert!(received.abs_diff(said) <= KILLS * RATE * 2, "{received} received again, {said} said");
    let upload = stage.status()["uploads"][0].clone();
    assert_eq!(upload["sent_again_bytes"].as_u64(), Some(said));
    assert_eq!(bytes(&stage, "in_flight"), 0);
    stage.assert_all_there();
}
