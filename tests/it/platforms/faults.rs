//! Faults before and after every call of a platform.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::super::stage::{Options, Stage, noise};
use super::{at_each_platform, calm, nameless_begins, stage_at};

at_each_platform! {
    faults_before_and_after_every_call_lose_nothing
    a_silence_beyond_the_inactivity_timeout_loses_nothing
}

fn fill(stage: &Stage) {
    stage.write("run/large", &noise((3 << 20) + 7, 1));
    stage.write("run/small", b"x");
    stage.write("run/empty", b"");
}

fn calls_of(stage: &Stage) -> BTreeSet<String> {
    stage.ledger()["calls"].as_object().expect("an object").keys().cloned().collect()
}

/// Calls that send bytes.
fn sends(operation: &str) -> bool {
    ["put", "single", "upload-part", "put-object"].contains(&operation)
}

fn run(platform: &str, rules: &[Value], orphans_allowed: usize) -> Stage {
    let mut stage = stage_at(platform, Options { orphans_allowed, ..calm() });
    stage.tell("faults", &json!(rules).to_string());
    fill(&stage);
    stage.start();
    stage.until_count("completed", 3);
    stage.assert_all_there();
    stage
}

fn faults_before_and_after_every_call_lose_nothing(platform: &str) {
    let always = calls_of(&run(platform, &[], 0));
    assert!(always.len() >= 4, "{always:?}");
    let mut operations = always.clone();
    let answer = |status: u16| json!({"answer": {"status": status}});
    for (before, after) in [
        (json!("reset"), json!("reset")),
        (answer(500), answer(503)),
        (json!({"html": 502}), json!({"html": 502})),
        // These spoil an answer: before the work is done there is none to spoil.
        (Value::Null, json!("truncate")),
        (Value::Null, json!("wrong_etag")),
    ] {
        let rules_of = |operation: &String| {
            let nth = if before == Value::Null { 1 } else { 2 };
            let before = json!({"operation": operation, "action": before});
            let after =
                json!({"operation": operation, "nth": nth, "when": "after", "action": after});
            [before, after].into_iter().filter(|rule| rule["action"] != Value::Null)
        };
        let is_hit = |operation: &&String| after != "wrong_etag" || sends(operation);
        let rules: Vec<_> = operations.iter().filter(is_hit).flat_map(rules_of).collect();
        let stage = run(platform, &rules, nameless_begins(platform));
        let calls = stage.ledger()["calls"].clone();
        for operation in always.iter().filter(|_| before != Value::Null) {
            assert!(calls[operation].as_u64() >= Some(2), "{after}: {operation} met both: {calls}");
        }
        // Calls that are made only after a fault are hit by faults too from now on.
        operations.extend(calls_of(&stage));
    }
}

fn a_silence_beyond_the_inactivity_timeout_loses_nothing(platform: &str) {
    let rules = ["put", "upload-part"].map(
        |operation| json!({"operation": operation, "when": "after", "action": {"stall": 3000}}),
    );
    run(platform, &rules, 0);
}

/// An error answer of the storage, with any status.
fn error(status: u16, code: &str) -> Value {
    let body = format!("<Error><Code>{code}</Code><Message>once</Message></Error>");
    json!({"answer": {"status": status, "body": body}})
}

#[test]
fn an_error_that_s3_tells_at_complete_with_status_200_is_one() {
    for when in ["before", "after"] {
        let rule = json!({
            "operation": "complete", "when": when, "action": error(200, "InternalError"),
        });
        let stage = run("s3", &[rule], 0);
        assert_eq!(stage.ledger()["begun_count"], 3, "{when}: nothing was begun anew");
    }
}

#[test]
fn an_s3_that_refuses_conditions_or_says_once_that_the_name_is_taken_gets_the_files() {
    for (status, code) in
        [(501, "NotImplemented"), (409, "ConditionalRequestConflict"), (412, "PreconditionFailed")]
    {
        let action = error(status, code);
        let rules = ["complete", "put-object"]
            .map(|operation| json!({"operation": operation, "action": action}));
        run("s3", &rules, 0);
    }
}
