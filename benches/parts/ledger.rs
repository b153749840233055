//! The ledger of a run of 300 000 files: what a line costs, and how long the program takes to read them all.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use dropferry::testing::model::{ETagMode, LedgerHead, Md5, UploadId, WallTime};
use dropferry::testing::receipt::ledger::LineStamp;
use dropferry::testing::receipt::line::{
    LineBody, LineCourse, LineDestination, LinePart, LineProof, LineSource, LineTarget, UploadLine,
    WholeFileDigests,
};
use wait4::Wait4;

use crate::program::program;

const LINES: i64 = 300_000;
const SIZE: u64 = 8192;
/// Lines that are written at once.
const TOGETHER: usize = 1_000;
/// Another build to compare with.
const PROGRAM: &str = "DROPFERRY_PARTS_PROGRAM";

pub(crate) fn measure() {
    let place = tempfile::tempdir().expect("a temporary directory");
    let receipts = place.path().join("state/receipts/lab");
    fs::create_dir_all(&receipts).expect("made");
    let mut file = fs::File::create(receipts.join("run1.jsonl")).expect("made");
    let stamp = LineStamp { at: WallTime(1_800_000_000_000_000_000), host: "seq-07" };
    let (mut text, mut head, mut took) = (Vec::new(), LedgerHead::EMPTY, Duration::ZERO);
    // A program that is started from a large process counts as large.
    for first in (1..=LINES).step_by(TOGETHER) {
        let last = LINES.min(first + TOGETHER as i64 - 1);
        let bodies: Vec<_> = (first..=last).map(upload).collect();
        let started = Instant::now();
        for body in &bodies {
            head.append(&mut text, &stamp, body);
        }
        took += started.elapsed();
        file.write_all(&text).expect("written");
        text.clear();
    }
    let (each, length) = (took.as_secs_f64() * 1e6 / LINES as f64, head.length / 1_000_000);
    println!("{:<36} {each:>10.2} us   {length} MB", "a line, written to memory");
    configure(place.path());
    for (asked, limit) in [
        (&["--check"][..], ""),
        (&["--format", "md5sum"], "at most 3 s and 64 MiB"),
        (&["--format", "html"], ""),
    ] {
        let (wall, cpu, peak) = run(place.path(), asked);
        let (wall, cpu) = (wall.as_secs_f64(), cpu.as_secs_f64());
        let name = format!("receipts run1 {}", asked.join(" "));
        println!("{name:<36} {wall:>10.2} s    CPU {cpu:.2} s, {} MB   {limit}", peak / 1_000_000);
    }
}

fn upload(id: i64) -> LineBody {
    let md5 = Md5(std::array::from_fn(|at| id.to_le_bytes()[at % 8]));
    let path = format!("run1/Data/Intensities/BaseCalls/L001/C{}.1/{id:08}.cbcl", id % 300);
    LineBody::Upload(Box::new(UploadLine {
        source: LineSource {
            id: UploadId(id),
            drop: "lab".into(),
            run: Some("run1".into()),
            run_bytes: None,
            path: path.clone(),
            path_bytes: None,
            size: SIZE,
            mtime_ns: 1_800_000_000_000_000_000,
            ctime_ns: Some(1_800_000_000_000_000_000),
            inode: id.unsigned_abs(),
            root: Some("ext4 ab /data 7".into()),
            sentinel: false,
        },
        target: LineTarget {
            destination: LineDestination {
                name: "bucket".into(),
                platform: "s3".into(),
                base_url: "https://s3.eu-central-1.amazonaws.com".into(),
                bucket: Some("lab-raw".into()),
                project: None,
            },
            target: 1,
            place: path.clone(),
            remote_id: path,
            remote_name: format!("{id:08}.cbcl"),
            version_id: None,
            remote_etag: Some(md5.to_string()),
        },
        proof: LineProof {
            etag_mode: Some(ETagMode::Md5),
            wave: None,
            supersedes: None,
            forced_by: None,
            part_size: 64 << 20,
            parts: vec![LinePart {
                number: 1,
                offset: 0,
                length: SIZE,
                md5,
                etag: md5.to_string(),
            }],
            content_digest: Some(format!("{md5}-1")),
            remote_digest: None,
            remote_part_size: None,
            whole_file_digests: WholeFileDigests { md5: Some(md5), sha256: None },
        },
        course: LineCourse {
            begun_at: Some(WallTime(1_800_000_000_000_000_000)),
            completed_at: Some(WallTime(1_800_000_000_000_000_000)),
            verified_at: Some(WallTime(1_800_000_000_000_000_000)),
            bytes_sent: SIZE,
            bytes_sent_again: 0,
            attempt_count: 0,
        },
    }))
}

/// There is no database: the run is found by its ledger.
fn configure(place: &Path) {
    fs::create_dir(place.join("drop")).expect("made");
    let text = "[state]\ndirectory = \"state\"\n[destinations.bucket]\nplatform = \"s3\"\n\
        base_url = \"http://127.0.0.1:9\"\nbucket = \"lab-raw\"\ncredential = { file = \"keys\" }\n\
        [drops.lab]\ndirectory = \"drop\"\ndestinations = [\"bucket\"]\n";
    fs::write(place.join("config.toml"), text).expect("written");
}

/// Returns how long the command took, its CPU time, and its most memory in bytes.
fn run(place: &Path, asked: &[&str]) -> (Duration, Duration, u64) {
    let started = Instant::now();
    let mut command = program(PROGRAM);
    command.args(["receipts", "run1"]).args(asked).arg("--config").arg(place.join("config.toml"));
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it runs");
    let used = child.wait4().expect("it ends");
    assert!(used.status.success(), "{asked:?}");
    let usage = used.rusage;
    (started.elapsed(), usage.utime + usage.stime, usage.maxrss)
}
