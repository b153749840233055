//! BaseSpace: a project instead of an AppResult.

use serde_json::json;

use super::super::stage::{Options, Stage, noise, until};
use super::{calm, stage_at};

const RUNS: [&str; 3] = ["run one", "run two", "run three"];

fn project() -> Stage {
    let stage = stage_at(
        "basespace",
        Options { basespace_project: Some("410000001"), orphans_allowed: 6, ..calm() },
    );
    for (seed, run) in (0..).zip(RUNS) {
        stage.write(&format!("{run}/Data/large"), &noise((2 << 20) + 1, seed + 20));
        stage.write(&format!("{run}/small"), &noise(100, seed + 30));
    }
    stage
}

/// Each directory has one AppResult: files have its name, and no other one was made.
fn assert_one_each(stage: &Stage) {
    stage.assert_all_there();
    assert_eq!(
        stage.ledger()["calls"]["make-appresult"],
        RUNS.len(),
        "{}",
        stage.ledger()["calls"]
    );
}

#[test]
fn each_top_level_directory_has_one_app_result() {
    let mut stage = project();
    let rule = json!([{"operation": "make-appresult", "when": "after", "action": "reset"}]);
    stage.tell("faults", &rule.to_string());
    stage.start();
    stage.until_count("completed", 6);
    assert_one_each(&stage);
}

#[test]
fn kills_in_between_make_no_second_app_result() {
    let mut stage = project();
    for goal in 1..=6 {
        stage.start();
        let calls = |stage: &Stage| -> u64 {
            let ledger = stage.ledger();
            let calls = ledger["calls"].as_object().expect("an object").values();
            calls.filter_map(serde_json::Value::as_u64).sum()
        };
        let before = calls(&stage);
        until("there is movement", || {
            (calls(&stage) >= before + goal || stage.files().len() == 6).then_some(())
        });
        stage.kill();
    }
    stage.start();
    stage.until_count("completed", 6);
    assert_one_each(&stage);
}

#[test]
fn the_session_of_an_app_result_is_complete_when_all_of_the_drop_is_there() {
    let mut stage = project();
    stage.start();
    stage.until_count("completed", 6);
    let statuses = |stage: &Stage| -> Vec<String> {
        let listed = stage.get("/basespace/v1pre3/projects/410000001/appresults?Limit=100");
        let items = listed["Response"]["Items"].as_array().expect("a list").iter();
        let ours = items.filter(|item| item["Name"].as_str().is_some_and(|n| n != "demo"));
        ours.map(|item| item["Status"].as_str().unwrap_or_default().to_owned()).collect()
    };
    until("every session is complete", || {
        let statuses = statuses(&stage);
        (statuses.len() == 3 && statuses.iter().all(|s| s == "Complete")).then_some(())
    });
    // What comes later is uploaded nevertheless: into another AppResult of that name.
    stage.write("run one/late", b"late");
    stage.until_count("completed", 7);
    until("the session of the late file is complete", || {
        let statuses = statuses(&stage);
        (statuses.len() == 4 && statuses.iter().all(|s| s == "Complete")).then_some(())
    });
    assert_eq!(stage.ledger()["breaches"], json!([]));
}
