//! The content of the page in tests of its appearance: JSON of `status` with large numbers.

use serde_json::{Value, json};

const GB: u64 = 1_000_000_000;

fn at(minutes_ago: u64) -> String {
    let then = jiff::Timestamp::now().as_second() - i64::try_from(60 * minutes_ago).expect("small");
    jiff::Timestamp::from_second(then).expect("a time").to_string()
}

fn reason(code: &str, text: &str, cure: Option<&str>) -> Value {
    json!({ "code": code, "text": text, "cure": cure })
}

fn destination(name: &str, platform: &str) -> Value {
    json!({
        "name": name, "platform": platform, "state": "ok", "reason": null, "since": at(600),
        "next_try_at": null, "rate_per_second": 0, "parts_in_flight": 0,
    })
}

fn run_at(name: &str, (there, files): (u64, u64), (sent, size): (u64, u64)) -> Value {
    json!({
        "name": name, "file_count": files, "completed_count": there, "parked_count": 0,
        "bytes": size, "accepted_bytes": sent, "rate_per_second": 0, "seconds_left": null,
        "url": format!("https://{name}.example/lab/novaseq"),
    })
}

fn run(name: &str, state: &str, destinations: Value) -> Value {
    json!({
        "drop": "novaseq", "name": name, "state": state, "reason": null, "file_count": 5492,
        "file_bytes": 102 * GB, "last_activity_at": at(1), "opened_at": at(700), "closed_at": null,
        "completed_at": if state == "completed" { json!(at(40)) } else { Value::Null },
        "held_by": null, "stale": false, "wave_count": 1, "destinations": destinations,
    })
}

fn upload(id: u64, path: &str, state: &str, reason: Value) -> Value {
    json!({
        "id": id, "drop": "novaseq", "run": "251128_A00123_0042_AHXXXXDSX7", "path": path,
        "path_bytes": null, "destination": "cavatica", "state": state, "reason": reason,
        "size_bytes": 9 * GB, "accepted_bytes": 4 * GB, "in_flight_bytes": 268_435_456_u64,
        "part_size_bytes": 67_108_864, "part_count": 135, "accepted_part_count": 60,
        "attempt_count": 0, "sent_again_bytes": 0, "retry_at": null, "remote_id": null,
        "completed_at": null,
    })
}

/// A daemon with one run that has arrived completely.
pub(super) fn well() -> Value {
    let there = json!([
        run_at("cavatica", (5492, 5492), (102 * GB, 102 * GB)),
        run_at("archive", (5492, 5492), (102 * GB, 102 * GB))
    ]);
    let earlier = json!([run_at("cavatica", (5400, 5400), (98 * GB, 98 * GB))]);
    json!({
        "schema": 2, "host": "seq-07",
        "daemon": { "running": true, "version": "0.2.0", "pid": 4711, "started_at": at(3000) },
        "drops": [{
            "name": "novaseq", "directory": "/data/novaseq", "watch": "events",
            "last_full_scan_at": at(3), "reason": null,
        }],
        "destinations": [destination("cavatica", "sevenbridges"), destination("archive", "s3")],
        "counts": {
            "settling": 0, "queued": 0, "sending": 0, "waiting": 0, "completed": 10_892, "parked": 0,
            "ignored": 4, "abandoned": 0,
        },
        "bytes": {
            "total": 200 * GB, "accepted": 200 * GB, "in_flight": 0, "rate_per_second": 0,
            "seconds_left": null, "sent_again": 0,
        },
        "runs": [
            run("251128_A00123_0042_AHXXXXDSX7", "completed", there),
            run("251126_A00123_0041_BHXXXXDSX7", "completed", earlier)
        ],
        "uploads": [], "attention": [], "orders": [], "notices": { "failure": null },
    })
}

/// The same with the newest run under way.
pub(super) fn sending() -> Value {
    let mut status = well();
    let mut first = run_at("cavatica", (3200, 5492), (61 * GB, 102 * GB));
    first["rate_per_second"] = json!(98_000_000);
    first["seconds_left"] = json!(430);
    let second = run_at("archive", (5000, 5492), (90 * GB, 102 * GB));
    status["runs"][0] = run("251128_A00123_0042_AHXXXXDSX7", "closed", json!([first, second]));
    status["counts"]["sending"] = json!(4);
    status["counts"]["queued"] = json!(2780);
    status["bytes"] = json!({
        "total": 302 * GB, "accepted": 249 * GB, "in_flight": GB, "rate_per_second": 98_000_000,
        "seconds_left": 430, "sent_again": 0,
    });
    let path = "251128_A00123_0042_AHXXXXDSX7/Data/Intensities/BaseCalls/L001/C1.1/L001_";
    let file = |id: u64| upload(id, &format!("{path}{id}.cbcl"), "sending", Value::Null);
    status["uploads"] = (1..5).map(file).collect();
    status
}

/// With a file that is parked.
pub(super) fn parked() -> Value {
    let mut status = sending();
    let taken = reason(
        "name-taken",
        "archive has another file runs/novaseq/report.pdf (293 KiB): its digest is not the same",
        Some("dropferry retry 17 --overwrite"),
    );
    status["counts"]["parked"] = json!(1);
    status["runs"][0]["destinations"][1]["parked_count"] = json!(1);
    let path = "251128_A00123_0042_AHXXXXDSX7/report.pdf";
    status["uploads"][3] = upload(17, path, "parked", taken.clone());
    let mut matter = taken;
    matter["what"] = json!("novaseq/251128_A00123_0042_AHXXXXDSX7");
    matter["count"] = json!(1);
    status["attention"] = json!([matter]);
    status
}

/// One upload of many parts, with its map.
pub(super) fn upload_with_map() -> Value {
    let slow = reason("retrying", "nothing moved for 60 s (timed-out)", None);
    let mut up = upload(17, "251128_A00123_0042_AHXXXXDSX7/reads/a.fastq.gz", "waiting", slow);
    up["attempt_count"] = json!(3);
    up["sent_again_bytes"] = json!(134_217_728);
    up["retry_at"] = json!(at(0));
    up["attempts"] = json!([{
        "act": "part", "part": 41, "kind": "timed-out", "status": null, "request_id": "A1B2C3",
        "message": "nothing moved for 60 s", "at": at(1), "retry_at": at(0),
    }]);
    let map = format!("{}RrA{}fFff{}", "r".repeat(40), "a".repeat(17), "w".repeat(71));
    json!({ "upload": up, "part_map": map })
}

/// What was sent in the last hour and the last day.
pub(super) fn history() -> Value {
    let wave = |step: u64, count: u64| -> Vec<u64> {
        (0..count)
            .map(|at| step * 1_000_000 * (20 + (at * 7919) % 60) * u64::from(at % 90 > 20))
            .collect()
    };
    json!({
        "since": at(3000),
        "hour": { "step_seconds": 10, "count": 360, "bytes": wave(10, 360) },
        "day": { "step_seconds": 300, "count": 288, "bytes": wave(300, 200) },
    })
}
