//! Volume exports with the real binary: bulk calls, items that fail, kills.

use serde_json::{Value, json};

use super::stage::{Options, Stage, noise, until};

const EXPORT: &str =
    "[destinations.to-sevenbridges.export]\nvolume = \"lab/archive\"\nprefix = \"raw/{drop}/\"";

fn exporting(switches: &'static str) -> Stage {
    Stage::new(Options {
        destination: EXPORT,
        transfer: "parts_in_flight = 8",
        switches,
        ..Options::default()
    })
}

fn exports(stage: &Stage) -> Vec<Value> {
    let output = stage.output("exports", &["--json", "--all"]);
    let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    told["exports"].as_array().expect("a list").clone()
}

#[test]
fn three_hundred_files_are_exported_by_three_starts_and_bulk_questions() {
    let mut stage = exporting(
        "{\"sevenbridges\": {\"exports\": {\"fails_once\": [\"run/7\"], \"taken\": [\"run/42\"], \"questions\": 2}}}",
    );
    for number in 0..300 {
        stage.write(&format!("run/{number}"), number.to_string().as_bytes());
    }
    stage.start();
    stage.until_count("completed", 299);
    stage.until_count("parked", 1);
    let ledger = stage.ledger();
    let calls = |name: &str| ledger["calls"][name].as_u64().unwrap_or(0);
    // Three for all items, one more for the item that failed temporarily.
    assert_eq!(calls("bulk-exports"), 4, "{}", ledger["calls"]);
    assert!(calls("bulk-export-jobs") <= 16, "{}", ledger["calls"]);
    assert_eq!(calls("export") + calls("export-job"), 0, "bulk calls only");
    assert_eq!(ledger["breaches"], json!([]));
    let listed = exports(&stage);
    let shown = stage.output("exports", &["--json"]).stdout;
    let shown: Value = serde_json::from_slice(&shown).expect("JSON");
    let table = String::from_utf8_lossy(&stage.output("exports", &[]).stdout).into_owned();
    let shown_count = shown["exports"].as_array().map(Vec::len);
    assert_eq!(shown_count, Some(table.lines().count() - 1), "both list the same");
    assert_eq!((shown_count, listed.len()), (Some(101), 300));
    assert_eq!(listed.len(), 300);
    let of = |name: &str| listed.iter().find(|e| e["path"] == name).expect("listed").clone();
    assert_eq!(of("run/7")["state"], "completed");
    let refused = of("run/42");
    assert_eq!(refused["state"], "failed");
    assert!(refused["error"].as_str().is_some_and(|why| why.contains("9107")), "{refused}");
    let said = String::from_utf8_lossy(&stage.output("status", &[]).stdout).into_owned();
    assert!(said.contains("already contains a file"), "{said}");
    assert_eq!(stage.receipts().len(), 299, "a receipt is written after the export");
    let exported = stage.lines_of("exported");
    assert_eq!(exported.len(), 299, "each has a line of its own");
    assert_eq!(exported[0]["volume"], "lab/archive");
    let location = exported[0]["location"].as_str().expect("a text");
    assert!(location.starts_with("raw/lab/run/"), "{location}");
}

#[test]
fn kills_on_the_way_make_no_second_job() {
    let mut stage = exporting("{\"sevenbridges\": {\"exports\": {\"questions\": 3}}}");
    for number in 0..40_usize {
        stage.write(&format!("run/{number}.bin"), &noise(1000 + number, number as u64));
    }
    for round in 1..=25 {
        let calls = |stage: &Stage| {
            let ledger = stage.ledger();
            let all = ledger["calls"].as_object().expect("an object").values();
            all.filter_map(Value::as_u64).sum::<u64>()
        };
        let goal = calls(&stage) + 1 + (round * 7) % 23;
        stage.start();
        until("there is movement", || {
            (calls(&stage) >= goal || stage.count("completed") == 40).then_some(())
        });
        stage.kill();
    }
    stage.start();
    stage.until_count("completed", 40);
    stage.assert_all_there();
    assert!(exports(&stage).iter().all(|export| export["state"] == "completed"));
}
