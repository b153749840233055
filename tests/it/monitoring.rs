//! What is shipped for Prometheus and Grafana: rules, dashboard and the list of metrics, held against what
//! `/metrics` says.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::others::root;
use super::skipped::skipped;
use super::stage::{Options, Stage, noise, until};
use super::web::{address_of, body, get};

const RULES: &str = "docs/monitoring/alerts.yml";

/// Returns the metrics of a daemon that has something to say of each: a run is open, and an attempt failed.
fn metrics() -> String {
    let transfer = "parts_in_flight = 4\npart_size = \"64 KiB\"";
    let mut stage = Stage::new(Options { transfer, web: "127.0.0.1:0", ..Options::default() });
    // One part is never accepted.
    stage.tell(
        "faults",
        "[{\"operation\": \"put\", \"nth\": 2, \"times\": 1000, \"action\": {\"answer\": {\"status\": 503}}}]",
    );
    stage.write("run1/a", &noise(300_000, 3));
    stage.start();
    let address = address_of(&stage);
    until("an attempt failed while a run is open", || {
        let (_, answer) = get(&address, "/metrics");
        let is_there = |name: &str| answer.contains(&format!("\ndropferry_{name}{{"));
        let names =
            ["failures_total", "run_accepted_bytes", "drop_last_full_scan_timestamp_seconds"];
        (names.into_iter().all(is_there) && is_there("destination_parts"))
            .then(|| body(&answer).to_owned())
    })
}

/// Returns the names of metrics in a text, each with the matchers behind it, as `name{…}`.
fn selectors(text: &str) -> BTreeSet<(String, String)> {
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let mut found = BTreeSet::new();
    for rest in text.split("dropferry_").skip(1) {
        let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
        let (name, rest) = rest.split_at(end);
        let labels = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'));
        found.insert((format!("dropferry_{name}"), labels.map_or("", |(l, _)| l).to_owned()));
    }
    found
}

#[test]
fn rules_dashboard_and_list_name_what_metrics_has_and_nothing_else() {
    let text = metrics();
    let shown =
        selectors(&text.lines().filter(|l| !l.starts_with('#')).collect::<Vec<_>>().join("\n"));
    let names: BTreeSet<_> = shown.iter().map(|(name, _)| name.as_str()).collect();
    let dashboard =
        fs::read_to_string(root().join("docs/monitoring/dashboard.json")).expect("read");
    let dashboard: Value = serde_json::from_str(&dashboard).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().expect("targets"));
    let queries: Vec<_> = targets.map(|target| target["expr"].as_str().expect("a query")).collect();
    let rules = fs::read_to_string(root().join(RULES)).expect("read");
    for (name, labels) in selectors(&format!("{rules}\n{}", queries.join("\n"))) {
        assert!(names.contains(name.as_str()), "{name} is not in {names:?}");
        for label in
            labels.split(',').filter(|label| label.contains("=\"") && !label.contains("!="))
        {
            let is_shown = shown.iter().any(|(of, found)| *of == name && found.contains(label));
            assert!(is_shown, "{name} has no {label}: {shown:?}");
        }
    }
    let page = fs::read_to_string(root().join("docs/monitoring.md")).expect("read");
    let (_, table) = page.split_once("\n| name | means |\n").expect("a table");
    let rows = table.lines().take_while(|line| line.starts_with('|'));
    let names_of_row = |row: &str| row.split('|').nth(1).unwrap_or_default().to_owned();
    let listed = selectors(&rows.map(names_of_row).collect::<Vec<_>>().join("\n"));
    let listed: BTreeSet<_> = listed.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(listed, names, "docs/monitoring.md lists every metric");
    let kinds = include_str!("../../src/model/failure.rs")
        .split_once("-> &'static str {")
        .expect("words")
        .1;
    let kinds = kinds.split_once("\n    }").expect("their end").0;
    for kind in kinds.split('"').skip(1).step_by(2) {
        assert!(page.contains(&format!("`{kind}`")), "docs/monitoring.md lists {kind}");
    }
}

/// Gives counters their whole name in what is said of them: promtool reads the older text format.
fn as_prometheus_writes(text: &str) -> String {
    let counter =
        |line: &str| Some(line.strip_prefix("# TYPE ")?.strip_suffix(" counter")?.to_owned());
    text.lines().filter_map(counter).fold(text.to_owned(), |text, name| {
        let whole = |word: &str| format!("# {word} {name} ");
        ["HELP", "TYPE"].iter().fold(text, |text, word| {
            text.replace(&whole(word), &whole(word).replace(&name, &format!("{name}_total")))
        })
    })
}

#[test]
fn promtool_accepts_the_rules_and_each_fires_in_its_state_and_the_text_is_clean() {
    if Command::new("promtool").arg("--version").output().is_err() {
        return skipped("promtool is not installed: Debian's package prometheus has it");
    }
    for words in
        [["check", "rules", RULES], ["test", "rules", "tests/it/monitoring/alerts.test.yml"]]
    {
        let output = Command::new("promtool").args(words).current_dir(root()).output();
        let output = output.expect("it runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
    let rules = fs::read_to_string(root().join(RULES)).expect("read");
    let tests = include_str!("monitoring/alerts.test.yml");
    for name in rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(
            tests.contains(&format!("alertname: {name}\n        exp_alerts")),
            "{name} is tried"
        );
    }
    let mut check = Command::new("promtool");
    check
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = check.spawn().expect("it runs");
    let mut text = child.stdin.take().expect("piped");
    std::io::Write::write_all(&mut text, as_prometheus_writes(&metrics()).as_bytes())
        .expect("written");
    drop(text);
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
