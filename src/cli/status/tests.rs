//! What people and scripts read.

use super::*;
use crate::model::{
    Admission, ByteCount, DestinationName, DirectoryName, Fingerprint, Hold, IgnoreReason, Learned,
    ParkReason, PartSize, RemoteUpload, RemoteUploadId, SourcePath, Stage, Target, TargetId,
    UploadId, UploadState,
};
use crate::store::snapshot::{
    DaemonShown, DestinationShown, DropShown, Ignored, NoticesShown, Selection, StaleRun,
    StuckUploads, Tally,
};

const NOW: WallTime = WallTime(1_800_000_000_000_000_000);

fn upload(id: i64, path: &str, stage: Stage, hold: Hold) -> UploadShown {
    let admission = Admission {
        run: SourcePath::from_bytes(b"run1"),
        provenance: None,
        target_id: TargetId(1),
        is_sentinel: false,
        id: UploadId(id),
        drop: DirectoryName::new("novaseq"),
        path: SourcePath::from_bytes(path.as_bytes()),
        fingerprint: Fingerprint {
            device: 1,
            inode: 2,
            size: ByteCount(200),
            mtime_ns: 0,
            ctime_ns: None,
        },
        destination: DestinationName::new("cavatica"),
        target: Target { folders: vec![], name: "n".into() },
        part_size: PartSize::new(100).expect("not zero"),
        rank: 0,
        at: NOW,
        parked: None,
        root: None,
    };
    UploadShown {
        admission,
        state: UploadState { stage, hold, accepted_count: 1, ..UploadState::admitted(None) },
        accepted_bytes: 100,
        part_size_bytes: 100,
        part_count: 2,
        park_detail: Some("file 65a1 of 7 bytes stands under this name".into()),
        last_error: Some("nothing moved for 60 s (timed-out)".into()),
        remote_id: None,
        completed_at: None,
        ordered: None,
        waits_for: None,
        awaits: None,
    }
}

fn status() -> Status {
    let remote = RemoteUpload {
        id: RemoteUploadId::new("u"),
        part_size: PartSize::new(100).expect("not zero"),
        part_count: 2,
        sequential: false,
    };
    let tally = |state: &str, upload_count, bytes| Tally {
        state: state.into(),
        upload_count,
        size_bytes: 2 * bytes,
        accepted_bytes: bytes,
        bytes_sent: bytes + 5,
        bytes_sent_again: 5,
        bytes_in_flight: 7,
    };
    let until = NOW.after(Duration::from_secs(90));
    Status {
        selection: Selection::All,
        read_at: NOW,
        stuck: Vec::new(),
        stale: Vec::new(),
        orders: Vec::new(),
        former_targets: Vec::new(),
        database: Database::default(),
        notices: NoticesShown::default(),
        runs: Vec::new(),
        is_running: true,
        daemon: Some(DaemonShown {
            pid: 4711,
            version: "0.1.0".into(),
            started_at: WallTime(NOW.0 - 7_260_000_000_000),
        }),
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
            learned: vec![Learned::Works, Learned::NoTags],
        }],
        tallies: vec![tally("parked", 1, 100), tally("sending", 1, 100), tally("waiting", 1, 100)],
        settling_count: 3,
        ignored_count: 1,
        ignored: vec![Ignored {
            drop: "novaseq".into(),
            path: SourcePath::from_bytes(b"run1/pipe"),
            reason: IgnoreReason::Fifo,
        }],
        rate_bytes_per_second: 10,
        uploads: vec![
            upload(17, "run1/a.fastq.gz", Stage::Sending { remote: remote.clone() }, Hold::None),
            upload(18, "run1/b.fastq.gz", Stage::Sending { remote }, Hold::Waiting { until }),
            upload(19, "run1/c", Stage::Queued, Hold::Parked { reason: ParkReason::NameTaken }),
        ],
    }
}

fn run(name: &[u8], completed_count: u64, parked_count: u64) -> Run {
    Run {
        given_up_count: 0,
        closed_by: None,
        drop: "novaseq".into(),
        name: SourcePath::from_bytes(name),
        destination: "cavatica".into(),
        file_count: 9,
        completed_count,
        parked_count,
        state: None,
        reason: None,
    }
}

#[test]
fn people_read_this() {
    insta::assert_snapshot!(to_text(
        &status(),
        &[run(b"run1", 1, 1), run(b"run0", 9, 0), run(b"", 0, 0)],
        NOW
    ));
}

#[test]
fn scripts_read_this() {
    insta::assert_snapshot!(format!("{:#}", to_json(&status())));
}

#[test]
fn nothing_at_all_is_said_too() {
    insta::assert_snapshot!(to_text(&Status::default(), &[], NOW));
}

#[test]
fn what_needs_someone_is_told_by_the_exit_code() {
    assert_eq!(judge(&status()), Exit::Attention);
    assert_eq!(judge(&Status::default()), Exit::Fine);
    let mut deaf = Status::default();
    deaf.drops.extend(status().drops);
    assert_eq!(judge(&deaf), Exit::Fine);
    deaf.drops[0].watch = "deaf".into();
    assert_eq!(judge(&deaf), Exit::Attention);
}

#[test]
fn what_waits_for_long_is_said_with_its_cure_and_so_is_a_destination_that_never_worked() {
    let mut status = Status { read_at: NOW, ..Status::default() };
    status.stuck.push(StuckUploads {
        drop: "novaseq".into(),
        destination: "cavatica".into(),
        count: 3,
        first: UploadId(17),
        since: WallTime(NOW.0 - 7_200_000_000_000),
        reason: Some("the bucket is not there".into()),
    });
    status.stale.push(StaleRun {
        drop: "novaseq".into(),
        run: SourcePath::from_bytes(b"run1"),
        reason: Some("waits for CopyComplete.txt".into()),
    });
    assert_eq!(judge(&status), Exit::Attention);
    insta::assert_snapshot!(to_text(&status, &[], NOW));
    let mut status = Status { read_at: NOW, ..Status::default() };
    let [to] = &self::status().destinations[..] else { panic!("one destination") };
    status.destinations.push(to.clone());
    let judged = |status: &mut Status, state: &str, seconds: i64, has_worked: bool| {
        let to = &mut status.destinations[0];
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
        ("halted", 1, true, Exit::Fine),
        ("halted", 1, false, Exit::Attention),
        ("halted", 150, true, Exit::Attention),
    ] {
        assert_eq!(judged(&mut status, state, seconds, has_worked), expected, "{state} {seconds}");
    }
}
