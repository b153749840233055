//! The output for people and for scripts.

use std::collections::BTreeMap;

use super::json::to_json;
use super::text::sheet;
use super::*;
use crate::cli::layout::width;
use crate::model::{
    Admission, AdmittedFile, ByteCount, DestinationName, DirectoryName, Fingerprint, Flow, FlowKey,
    Hold, IgnoreReason, Learned, Live, LivePause, ParkReason, PartSize, RemoteUpload,
    RemoteUploadId, RunFiles, RunReason, RunRow, RunState, RunWait, SourcePath, Stage, Target,
    TargetId, UploadId, UploadState, WallTime,
};
use crate::store::snapshot::{
    DaemonShown, DestinationShown, DropShown, FileCounts, Ignored, IgnoredShown, LastError,
    ParkedUploads, PlacesShown, ProcessShown, RunShown, RunTallyShown, StaleRun, StuckUploads,
    Tally, TroubleShown, UploadShown,
};

const NOW: WallTime = WallTime(1_800_000_000_000_000_000);

fn upload(id: i64, path: &str, stage: Stage, hold: Hold) -> UploadShown {
    let admission = Admission {
        target_id: TargetId(1),
        id: UploadId(id),
        destination: DestinationName::new("cavatica"),
        target: Target::new([""], "n"),
        part_size: PartSize::new(100).expect("not zero"),
        rank: 0,
        at: NOW,
        parked: None,
        decision: None,
        file: AdmittedFile {
            run: SourcePath::from_bytes(b"run1"),
            provenance: None,
            is_sentinel: false,
            drop: DirectoryName::new("novaseq"),
            path: SourcePath::from_bytes(path.as_bytes()),
            fingerprint: Fingerprint {
                device: 1,
                inode: 2,
                size: ByteCount(200),
                mtime_ns: 0,
                ctime_ns: None,
            },
            root: None,
        },
    };
    UploadShown {
        admission,
        state: UploadState { stage, hold, accepted_count: 1, ..UploadState::admitted(None) },
        accepted_bytes: 100,
        part_size_bytes: 100,
        part_count: 2,
        park_detail: Some("it is file 65a1 of 7 bytes".into()),
        last_error: Some(LastError {
            kind: "timed-out".into(),
            text: "nothing moved for 60 s (timed-out)".into(),
        }),
        remote_id: None,
        completed_at: None,
        ordered: None,
        waits_for: None,
        awaits: None,
    }
}

fn tally(state: &str, upload_count: u64, bytes: u64) -> Tally {
    Tally {
        state: state.into(),
        upload_count,
        size_bytes: 2 * bytes,
        accepted_bytes: bytes,
        bytes_sent: bytes + 5,
        bytes_sent_again: 5,
        bytes_in_flight: 7,
    }
}

fn status() -> Status {
    let remote = RemoteUpload {
        id: RemoteUploadId::new("u"),
        part_size: PartSize::new(100).expect("not zero"),
        part_count: 2,
        sequential: false,
    };
    let until = NOW.after(Duration::from_secs(90));
    Status {
        read_at: NOW,
        runs: vec![run("run1", RunState::Open), run("run0", RunState::Completed)],
        single_files: vec![("novaseq".into(), run_tally(0, 200, 200))],
        uploads: vec![
            upload(17, "run1/a.fastq.gz", Stage::Sending { remote: remote.clone() }, Hold::None),
            upload(18, "run1/b.fastq.gz", Stage::Sending { remote }, Hold::Waiting { until }),
            upload(19, "run1/c", Stage::Queued, Hold::Parked { reason: ParkReason::NameTaken }),
        ],
        process: ProcessShown {
            live: Some(Live { flows: vec![flow(10)], ..Live::default() }),
            is_running: true,
            daemon: Some(DaemonShown {
                pid: 4711,
                version: "0.1.0".into(),
                started_at: WallTime(NOW.0 - 7_260_000_000_000),
            }),
        },
        places: PlacesShown {
            drops: vec![DropShown {
                name: "novaseq".into(),
                directory: "/data/novaseq".into(),
                watch: "scanning".into(),
                reason: Some("NFS gives no events".into()),
                last_full_scan_at: Some(WallTime(NOW.0 - 125_000_000_000)),
            }],
            destinations: vec![DestinationShown {
                name: "cavatica".into(),
                platform: "sevenbridges".into(),
                state: "ok".into(),
                reason: None,
                since: NOW,
                next_try_at: None,
                clock_behind_ns: -7_200_000_000_000,
                failures: Vec::new(),
                learned: vec![Learned::Works, Learned::NoTags],
                is_paced: false,
            }],
            ..PlacesShown::default()
        },
        trouble: TroubleShown { parked: vec![parked(NAME_TAKEN)], ..TroubleShown::default() },
        counts: FileCounts {
            tallies: ["parked", "sending", "waiting"].map(|state| tally(state, 1, 100)).into(),
            settling_count: 3,
            ignored: IgnoredShown {
                count: 1,
                listed: vec![Ignored {
                    drop: "novaseq".into(),
                    path: SourcePath::from_bytes(b"run1/pipe"),
                    reason: IgnoreReason::Fifo,
                }],
            },
        },
        ..Status::default()
    }
}

const NAME_TAKEN: &str = "it is file 65a1 of 7 bytes";

fn parked(detail: &str) -> ParkedUploads {
    ParkedUploads {
        drop: "novaseq".into(),
        run: Some(SourcePath::from_bytes(b"run1")),
        destination: "cavatica".into(),
        reason: ParkReason::NameTaken,
        count: 1,
        first: UploadId(19),
        detail: Some(detail.into()),
    }
}

fn flow(bytes_per_second: u64) -> Flow {
    Flow {
        key: FlowKey {
            destination: DestinationName::new("cavatica"),
            drop: DirectoryName::new("novaseq"),
            run: SourcePath::from_bytes(b"run1"),
        },
        bytes_per_second,
        parts_in_flight: 2,
        in_flight: ByteCount(7),
        stalled_since: None,
    }
}

fn run_tally(parked_count: u64, size_bytes: u64, accepted_bytes: u64) -> RunTallyShown {
    RunTallyShown {
        destination: "cavatica".into(),
        upload_count: 9,
        completed_count: if size_bytes == accepted_bytes { 9 } else { 1 },
        parked_count,
        size_bytes,
        accepted_bytes,
        last_activity_at: WallTime(NOW.0 - 60_000_000_000),
        url: None,
    }
}

fn run(name: &str, state: RunState) -> RunShown {
    let (drop, path) = (DirectoryName::new("novaseq"), SourcePath::from_bytes(name.as_bytes()));
    let is_open = state == RunState::Open;
    let waits = RunReason::new(RunWait::MarkerMissing, "waits for CopyComplete.txt");
    let row = RunRow {
        state,
        reason: is_open.then_some(waits),
        files: RunFiles { count: 9, size: ByteCount(600), ..RunFiles::default() },
        ..RunRow::opened(drop, path, WallTime(NOW.0 - 3_600_000_000_000))
    };
    let tally = if is_open { run_tally(1, 600, 300) } else { run_tally(0, 600, 600) };
    RunShown { row, words: BTreeMap::new(), tallies: vec![tally], disposal: None }
}

fn text(status: &Status) -> String {
    sheet(status, Some(80)).plain()
}

#[test]
fn people_read_this() {
    insta::assert_snapshot!(text(&status()));
}

#[test]
fn scripts_read_this() {
    let host = serde_json::json!("seq-07");
    let mut json = to_json(&status());
    json["host"] = host;
    insta::assert_snapshot!(format!("{json:#}"));
}

#[test]
fn nothing_at_all_is_said_too() {
    insta::assert_snapshot!(text(&Status::default()));
}

/// Ten scenes, with the first lines of each.
fn scenes() -> Vec<(&'static str, Status)> {
    let well = || {
        let mut status = status();
        status.trouble.parked.clear();
        status.runs[0].tallies[0].parked_count = 0;
        status.counts.tallies.retain(|tally| tally.state == "sending");
        status.uploads.truncate(1);
        status.places.destinations[0].clock_behind_ns = 0;
        status
    };
    let closed = |state: &str, reason: &str| {
        let mut status = well();
        let to = &mut status.places.destinations[0];
        state.clone_into(&mut to.state);
        to.reason = Some(reason.into());
        to.since = WallTime(NOW.0 - 102_000_000_000);
        to.next_try_at = Some(NOW.after(Duration::from_secs(23)));
        status.process.live = Some(Live::default());
        status
    };
    let mut deaf = well();
    deaf.places.drops[0].watch = "deaf".into();
    deaf.places.drops[0].reason =
        Some("/data/novaseq is empty and not the directory it was: is its share mounted?".into());
    let mut full = well();
    full.database.care.backup_failure = Some("no space left on device".into());
    let mut waiting = well();
    waiting.counts.settling_count = 0;
    waiting.uploads.clear();
    waiting.counts.tallies.clear();
    waiting.runs[0].tallies = vec![run_tally(0, 600, 600)];
    let mut stalled = well();
    let since = Some(WallTime(NOW.0 - 45_000_000_000));
    let flow = Flow { stalled_since: since, ..flow(0) };
    stalled.process.live = Some(Live { flows: vec![flow], ..Live::default() });
    let mut stopped = well();
    let until = Some(NOW.after(Duration::from_hours(2)));
    let stop = LivePause { reason: "the bandwidth is 0 by the timetable".into(), until };
    stopped.process.live = Some(Live { stopped: Some(stop), ..Live::default() });
    let down = Status {
        process: ProcessShown { is_running: false, live: None, ..well().process },
        ..well()
    };
    vec![
        ("all well", well()),
        ("parked", status()),
        ("halted", closed("halted", "the platform refused the call: the access token is invalid")),
        ("throttled", closed("throttled", "the platform asked for a pause")),
        (
            "unreachable",
            closed(
                "unreachable",
                "cannot connect to cavatica-api.sbgenomics.com: connection refused",
            ),
        ),
        ("deaf", deaf),
        ("disk full", full),
        ("run open and waiting for its marker", waiting),
        ("stalled", stalled),
        ("outside the timetable", stopped),
        ("daemon down", down),
    ]
}

#[test]
fn the_first_five_lines_say_what_it_is_and_what_to_do() {
    let first = |(name, status): (&str, Status)| {
        let text = text(&status);
        let lines: Vec<_> = text.lines().take(5).collect();
        format!("== {name}\n{}\n", lines.join("\n"))
    };
    insta::assert_snapshot!(scenes().into_iter().map(first).collect::<String>());
}

#[test]
fn no_line_is_wider_than_the_terminal_and_wide_signs_count() {
    let mut status = status();
    status.runs[0].row.name = SourcePath::from_bytes("試料".repeat(60).as_bytes());
    status.uploads[0].admission.file.path = SourcePath::from_bytes("試/".repeat(60).as_bytes());
    status.trouble.parked = vec![parked(&"long ".repeat(60))];
    for columns in [60, 80, 200] {
        for line in sheet(&status, Some(columns)).plain().lines() {
            assert!(width(line) <= columns, "{columns}: {line}");
        }
    }
}

#[test]
fn a_time_is_left_only_where_it_can_be_told() {
    let left = |status: &Status| {
        let json = to_json(status);
        let run = json["runs"][0]["destinations"][0]["seconds_left"].as_u64();
        (json["bytes"]["seconds_left"].as_u64(), run)
    };
    for (name, mut status) in scenes() {
        status.runs[0].tallies[0].accepted_bytes = 300;
        let expected = match name {
            "all well" | "deaf" | "disk full" => (Some(10), Some(30)),
            "run open and waiting for its marker" => (Some(0), Some(30)),
            // A parked upload waits for a person.
            "parked" => (None, None),
            _ => (None, None),
        };
        assert_eq!(left(&status), expected, "{name}");
    }
}

#[test]
fn what_needs_someone_is_told_by_the_exit_code() {
    for (name, status) in scenes() {
        let expected = match name {
            "parked" | "halted" | "deaf" | "disk full" => Exit::Attention,
            "daemon down" => Exit::NotRunning,
            _ => Exit::Fine,
        };
        assert_eq!(judge(&status), expected, "{name}");
    }
    assert_eq!(judge(&Status::default()), Exit::NotRunning);
}

#[test]
fn what_waits_for_long_is_said_with_its_cure_and_so_is_a_destination_that_never_worked() {
    let mut status = Status {
        read_at: NOW,
        process: ProcessShown { is_running: true, ..ProcessShown::default() },
        ..Status::default()
    };
    status.trouble.stuck.push(StuckUploads {
        drop: "novaseq".into(),
        destination: "cavatica".into(),
        count: 3,
        first: UploadId(17),
        since: WallTime(NOW.0 - 7_200_000_000_000),
        reason: Some("the bucket is not there".into()),
    });
    status.trouble.stale.push(StaleRun {
        drop: "novaseq".into(),
        run: SourcePath::from_bytes(b"run1"),
        reason: Some("waits for CopyComplete.txt".into()),
    });
    assert_eq!(judge(&status), Exit::Attention);
    insta::assert_snapshot!(text(&status));
    let mut status = Status {
        read_at: NOW,
        process: ProcessShown { is_running: true, ..ProcessShown::default() },
        ..Status::default()
    };
    let [to] = &self::status().places.destinations[..] else { panic!("one destination") };
    status.places.destinations.push(to.clone());
    let judged = |status: &mut Status, state: &str, seconds: i64, has_worked: bool| {
        let to = &mut status.places.destinations[0];
        to.state = state.into();
        to.learned = has_worked.then_some(Learned::Works).into_iter().collect();
        to.since = WallTime(NOW.0 - seconds * 1_000_000_000);
        judge(status)
    };
    for (state, seconds, has_worked, expected) in [
        ("ok", 9000, false, Exit::Fine),
        ("throttled", 9000, false, Exit::Fine),
        ("unreachable", 9000, true, Exit::Fine),
        ("unreachable", 1, false, Exit::Attention),
        ("halted", 1, true, Exit::Attention),
        ("halted", 1, false, Exit::Attention),
        ("halted", 150, true, Exit::Attention),
    ] {
        assert_eq!(judged(&mut status, state, seconds, has_worked), expected, "{state} {seconds}");
    }
}
