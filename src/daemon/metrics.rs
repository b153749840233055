//! What is going on, in Prometheus' text format: base runs, few labels.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::engine::Pace;
use crate::model::{DestinationName, WallTime};
use crate::store::snapshot::{Status, Tally};

/// Words for the state of uploads, in the order of a life.
const STATES: [&str; 6] = ["queued", "sending", "waiting", "completed", "parked", "abandoned"];
const WATCHES: [&str; 3] = ["events", "scanning", "deaf"];
const DESTINATION_STATES: [&str; 6] =
    ["unknown", "ok", "paused", "throttled", "unreachable", "halted"];

pub(super) fn render(status: &Status, paces: &BTreeMap<DestinationName, Pace>) -> String {
    let mut text = MetricsText(String::new());
    let version = status.daemon.as_ref().map_or("", |daemon| daemon.version.as_str());
    text.family("build_info", "gauge", "The version that runs.");
    text.line("build_info", &[("version", version)], 1.0);
    if let Some(daemon) = &status.daemon {
        text.family("start_time_seconds", "gauge", "When the daemon started.");
        text.line("start_time_seconds", &[], seconds(daemon.started_at));
    }
    uploads(&mut text, status);
    drops(&mut text, status);
    destinations(&mut text, status);
    widths(&mut text, paces);
    text.one("notices_waiting", "gauge", "Notices that are not sent yet.", {
        status.notices.waiting_count
    });
    text.one("orders", "gauge", "Orders that stand: pauses, mostly.", status.orders.len() as u64);
    text.0
}

fn uploads(text: &mut MetricsText, status: &Status) {
    let count = |of: fn(&Tally) -> u64| status.tallies.iter().map(of).sum::<u64>();
    text.family("uploads", "gauge", "Uploads by state.");
    for state in STATES {
        let tally = status.tallies.iter().find(|tally| tally.state == state);
        let value = tally.map_or(0, |tally| tally.upload_count);
        text.line("uploads", &[("state", state)], float(value));
    }
    text.one("settling_files", "gauge", "Files seen and not yet quiet.", status.settling_count);
    text.one("ignored_files", "gauge", "Paths that are not uploaded.", status.ignored.count);
    text.one("size_bytes", "gauge", "Length of all files with an upload.", count(|t| t.size_bytes));
    let accepted = count(|tally| tally.accepted_bytes);
    text.one("accepted_bytes", "gauge", "Bytes that a storage has accepted.", accepted);
    let sent = count(|tally| tally.bytes_sent);
    text.one("sent_bytes_total", "counter", "Bytes sent, also in vain.", sent);
    let again = count(|tally| tally.bytes_sent_again);
    text.one("sent_again_bytes", "gauge", "Bytes sent more than once.", again);
    let in_flight = count(|tally| tally.bytes_in_flight);
    text.one("in_flight_bytes", "gauge", "Bytes sent and not accepted yet.", in_flight);
    let rate = status.live.iter().flat_map(|live| &live.flows);
    let rate = rate.map(|flow| flow.bytes_per_second).sum();
    text.one("rate_bytes_per_second", "gauge", "Bytes sent each second, lately.", rate);
}

fn drops(text: &mut MetricsText, status: &Status) {
    text.family("drop_watch", "gauge", "How a drop directory is watched: 1 for what holds.");
    for drop in &status.drops {
        for watch in WATCHES {
            let holds = f64::from(u8::from(drop.watch == watch));
            text.line("drop_watch", &[("drop", &drop.name), ("watch", watch)], holds);
        }
    }
    let help = "End of the last scan that saw the whole drop directory.";
    text.family("drop_last_full_scan_timestamp_seconds", "gauge", help);
    for drop in &status.drops {
        let Some(at) = drop.last_full_scan_at else { continue };
        let labels = [("drop", drop.name.as_str())];
        text.line("drop_last_full_scan_timestamp_seconds", &labels, seconds(at));
    }
}

fn destinations(text: &mut MetricsText, status: &Status) {
    text.family("destination_state", "gauge", "How a destination is doing: 1 for what holds.");
    for destination in &status.destinations {
        for state in DESTINATION_STATES {
            let holds = f64::from(u8::from(destination.state == state));
            let labels = [("destination", destination.name.as_str()), ("state", state)];
            text.line("destination_state", &labels, holds);
        }
    }
}

fn widths(text: &mut MetricsText, paces: &BTreeMap<DestinationName, Pace>) {
    let mut gauge = |name: &str, help: &str, value: fn(&Pace) -> u64| {
        text.family(name, "gauge", help);
        for (destination, pace) in paces {
            text.line(name, &[("destination", destination.as_str())], float(value(pace)));
        }
    };
    gauge("destination_parts_max", "Parts that may be on their way.", |pace| pace.width.into());
    gauge("destination_parts", "Parts that are on their way.", |pace| pace.flying.into());
    gauge(
        "destination_rate_bytes_per_second",
        "Bytes sent each second, when last measured.",
        |pace| pace.bytes_per_second,
    );
}

struct MetricsText(String);

impl MetricsText {
    fn one(&mut self, name: &str, kind: &str, help: &str, value: u64) {
        self.family(name, kind, help);
        self.line(name, &[], float(value));
    }

    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let head = format!("# HELP dropferry_{name} {help}\n# TYPE dropferry_{name} {kind}\n");
        self.0.push_str(&head);
    }

    fn line(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let labels: Vec<_> =
            labels.iter().map(|(key, value)| format!("{key}=\"{}\"", escaped(value))).collect();
        let labels = match labels.is_empty() {
            true => String::new(),
            false => format!("{{{}}}", labels.join(",")),
        };
        // Writing to a text cannot fail.
        writeln!(self.0, "dropferry_{name}{labels} {value}").unwrap_or(());
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[expect(clippy::cast_precision_loss, reason = "the format has floats alone")]
fn float(value: u64) -> f64 {
    value as f64
}

#[expect(clippy::cast_precision_loss, reason = "seconds with fractions are what the format has")]
fn seconds(at: WallTime) -> f64 {
    at.0 as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_cannot_break_out_of_their_quotes() {
        let mut text = MetricsText(String::new());
        text.line("x", &[("drop", "a\"b\\c\nd")], 1.5);
        assert_eq!(text.0, "dropferry_x{drop=\"a\\\"b\\\\c\\nd\"} 1.5\n");
    }

    #[test]
    fn every_state_is_there_also_when_nothing_is() {
        let pace = Pace { width: 3, flying: 2, bytes_per_second: 9 };
        let paces = [(DestinationName::new("hub"), pace)].into();
        let text = render(&Status::default(), &paces);
        assert!(
            text.contains("dropferry_destination_parts_max{destination=\"hub\"} 3\n"),
            "{text}"
        );
        for state in STATES {
            assert!(
                text.contains(&format!("dropferry_uploads{{state=\"{state}\"}} 0\n")),
                "{text}"
            );
        }
        let is_named = |line: &&str| line.starts_with("dropferry_") || line.starts_with("# ");
        assert!(text.lines().all(|line| is_named(&line)), "{text}");
    }
}
