//! Metrics for Prometheus: base units, few labels.
//!
//! Every scrape reads the rows once and fills a registry of its own, so nothing is counted twice
//! and nothing is kept between scrapes.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{Atomic, Gauge};
use prometheus_client::registry::{Metric, Registry};

use crate::model::{DestinationName, Flow, Live, RunState, WallTime};
use crate::store::snapshot::{RunShown, Status, Tally};

/// Words for the states of uploads, in the order of a life.
const STATES: [&str; 6] = ["queued", "sending", "waiting", "completed", "parked", "abandoned"];
const WATCHES: [&str; 3] = ["events", "scanning", "deaf"];
const DESTINATION_STATES: [&str; 6] =
    ["unknown", "ok", "paused", "throttled", "unreachable", "halted"];

/// One value with its labels.
type LabelledValue<N> = (Vec<(&'static str, String)>, N);

/// Returns the text of a scrape.
pub(super) fn render(status: &Status, most: &BTreeMap<DestinationName, u32>) -> String {
    let mut metrics = Metrics(Registry::with_prefix("dropferry"));
    let version = status.process.daemon.as_ref().map_or("", |daemon| daemon.version.as_str());
    let build = (vec![("version", version.to_owned())], 1);
    metrics.family("build_info", "The version that runs", [build]);
    let started = status.process.daemon.iter().map(|daemon| (vec![], seconds(daemon.started_at)));
    metrics.family("start_time_seconds", "When the daemon started", started);
    uploads(&mut metrics, status);
    drops(&mut metrics, status);
    let states = status.places.destinations.iter().flat_map(|destination| {
        let value = |state: &'static str| one_of("destination", &destination.name, "state", state);
        DESTINATION_STATES.map(|state| (value(state), u64::from(destination.state == state)))
    });
    metrics.family("destination_state", "How a destination is doing: 1 for what holds", states);
    failures(&mut metrics, status);
    widths(&mut metrics, most, status.process.live.as_ref());
    runs(&mut metrics, status);
    let notices = &status.notices;
    metrics.one("notices_waiting", "Notices that are not sent yet", notices.waiting_count);
    let help = "Notices of the last thirty days that their receivers refused";
    metrics.one("notices_given_up", help, notices.given_up_count);
    health(&mut metrics, status);
    metrics.one("orders", "Orders in force: pauses, mostly", status.orders.len() as u64);
    let mut text = String::new();
    // Writing to a string cannot fail.
    text::encode(&mut text, &metrics.0).unwrap_or(());
    text
}

fn uploads(metrics: &mut Metrics, status: &Status) {
    let count = |of: fn(&Tally) -> u64| status.counts.tallies.iter().map(of).sum::<u64>();
    let by_state = STATES.map(|state| {
        let tally = status.counts.tallies.iter().find(|tally| tally.state == state);
        (vec![("state", state.to_owned())], tally.map_or(0, |tally| tally.upload_count))
    });
    metrics.family("uploads", "Uploads by state", by_state);
    metrics.one("settling_files", "Files seen and not yet quiet", status.counts.settling_count);
    metrics.one("ignored_files", "Paths that are not uploaded", status.counts.ignored.count);
    let size = count(|tally| tally.size_bytes);
    metrics.one("size_bytes", "Length of all files with an upload", size);
    let accepted = count(|tally| tally.accepted_bytes);
    metrics.one("accepted_bytes", "Bytes that a storage has accepted", accepted);
    let sent = Counter::<u64>::default();
    sent.inc_by(count(|tally| tally.bytes_sent));
    metrics.register("sent_bytes", "Bytes sent, also in vain", sent);
    let again = count(|tally| tally.bytes_sent_again);
    metrics.one("sent_again_bytes", "Bytes sent more than once", again);
    let in_flight = count(|tally| tally.bytes_in_flight);
    metrics.one("in_flight_bytes", "Bytes sent and not accepted yet", in_flight);
    let rate = status.process.live.iter().flat_map(|live| &live.flows);
    let rate = rate.map(|flow| flow.bytes_per_second).sum();
    metrics.one("rate_bytes_per_second", "Bytes sent each second, lately", rate);
}

fn drops(metrics: &mut Metrics, status: &Status) {
    let watches = status.places.drops.iter().flat_map(|drop| {
        let value = |watch: &'static str| one_of("drop", &drop.name, "watch", watch);
        WATCHES.map(|watch| (value(watch), u64::from(drop.watch == watch)))
    });
    let help = "How a drop directory is watched: 1 for what holds";
    metrics.family("drop_watch", help, watches);
    let scans = status.places.drops.iter().filter_map(|drop| {
        Some((vec![("drop", drop.name.clone())], seconds(drop.last_full_scan_at?)))
    });
    let help = "End of the last scan that saw the whole drop directory";
    metrics.family("drop_last_full_scan_timestamp_seconds", help, scans);
}

/// The database and its copies, and file systems with little free space.
fn health(metrics: &mut Metrics, status: &Status) {
    let care = &status.database.care;
    let is_sound = care.verdict.as_ref().is_none_or(|verdict| verdict.is_sound);
    metrics.one("database_sound", "0 when the last check found damage", u64::from(is_sound));
    let backup = care.backup_at.map_or(0.0, seconds);
    let help = "When the database was last copied, or 0";
    metrics.family("backup_timestamp_seconds", help, [(vec![], backup)]);
    let low = status.process.live.as_ref().map_or(0, |live| live.low_disks.len() as u64);
    metrics.one("low_disks", "File systems with little free space", low);
}

/// Kinds of failures are a closed list, so there are few labels.
fn failures(metrics: &mut Metrics, status: &Status) {
    let family = Family::<Vec<(&'static str, String)>, Counter>::default();
    for destination in &status.places.destinations {
        for (kind, count) in &destination.failures {
            let labels = one_of("destination", &destination.name, "kind", kind);
            family.get_or_create(&labels).inc_by(*count);
        }
    }
    metrics.register("failures", "Attempts that failed, by the kind of the failure", family);
}

fn widths(metrics: &mut Metrics, most: &BTreeMap<DestinationName, u32>, live: Option<&Live>) {
    let label = |to: &DestinationName| vec![("destination", to.as_str().to_owned())];
    let values = most.iter().map(|(to, width)| (label(to), u64::from(*width)));
    metrics.family("destination_parts_max", "Parts that may be in flight", values);
    let mut family = |name, help, value: fn(&Flow) -> u64| {
        let sum = |to: &DestinationName| -> u64 {
            live.into_iter().flat_map(|live| live.flows_to(to.as_str())).map(value).sum()
        };
        metrics.family(name, help, most.keys().map(|to| (label(to), sum(to))));
    };
    family("destination_parts", "Parts in flight", |flow| flow.parts_in_flight.into());
    let help = "Bytes sent each second, lately";
    family("destination_rate_bytes_per_second", help, |flow| flow.bytes_per_second);
}

/// Runs that are not complete: each complete one would keep a label forever.
fn runs(metrics: &mut Metrics, status: &Status) {
    let is_open = |run: &&RunShown| {
        matches!(run.row.state, RunState::Open | RunState::Closed)
            && run.row.completion.at.is_none()
    };
    let open = || status.runs.iter().filter(is_open);
    let labels = |run: &RunShown| {
        vec![("drop", run.row.drop.to_string()), ("run", run.row.name.to_string())]
    };
    let age = |run: &RunShown| seconds(status.read_at) - seconds(run.row.opened_at);
    let ages = open().map(|run| (labels(run), age(run)));
    metrics.family("run_age_seconds", "How long a run has been open", ages);
    let sizes = open().map(|run| (labels(run), run.row.files.size.0));
    metrics.family("run_bytes", "Length of the files of an open run, as they are here", sizes);
    let accepted = open().flat_map(|run| {
        run.tallies.iter().map(move |tally| {
            let mut labels = labels(run);
            labels.push(("destination", tally.destination.clone()));
            (labels, tally.accepted_bytes)
        })
    });
    metrics.family("run_accepted_bytes", "Of these, what a storage has accepted", accepted);
}

/// Returns the labels of a value that is set for one word of several.
fn one_of(
    of: &'static str,
    name: &str,
    what: &'static str,
    word: &str,
) -> Vec<(&'static str, String)> {
    vec![(of, name.to_owned()), (what, word.to_owned())]
}

struct Metrics(Registry);

impl Metrics {
    fn one(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, help, [(vec![], value)]);
    }

    fn family<N>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = LabelledValue<N>>,
    ) where
        AtomicU64: Atomic<N>,
        Gauge<N, AtomicU64>: Metric,
    {
        let family = Family::<Vec<(&'static str, String)>, Gauge<N, AtomicU64>>::default();
        for (labels, value) in values {
            family.get_or_create(&labels).set(value);
        }
        self.register(name, help, family);
    }

    fn register(&mut self, name: &str, help: &str, metric: impl Metric) {
        self.0.register(name, help, metric);
    }
}

#[expect(clippy::cast_precision_loss, reason = "seconds with fractions are what the format has")]
fn seconds(at: WallTime) -> f64 {
    at.0 as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_is_there_also_when_nothing_is() {
        let most = [(DestinationName::new("hub"), 3)].into();
        let text = render(&Status::default(), &most);
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
        let is_named = |line: &str| line.starts_with("dropferry_") || line.starts_with("# ");
        assert!(text.lines().all(is_named), "{text}");
    }
}
