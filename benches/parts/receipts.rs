//! What the receipt of a small file costs by itself: a line is made from rows, chained and made durable with
//! others, by the daemon's own appender; and its columns are written with the row.

use std::path::Path;
use std::time::Instant;

use dropferry::testing::daemon::{LineSubject, append, receipt_of};
use dropferry::testing::model::{LedgerHead, Record, TargetAddress, TargetId, UploadId, WallTime};
use dropferry::testing::receipt::Appender;
use dropferry::testing::receipt::ledger::LineStamp;
use dropferry::testing::receipt::line::LineBody;
use dropferry::testing::store::snapshot::Snapshot;
use rusqlite::Connection;

use crate::life::now;
use crate::writer::{open, small};
use crate::{Table, cpu_seconds};

/// Uploads of each case of a commit.
const POOL: i64 = 64 * 200;
/// Lines in a transaction.
const TOGETHER: usize = 64;

pub(crate) fn measure() {
    let place = tempfile::tempdir().expect("a temporary directory");
    let mut writer = open(&place);
    let target = TargetAddress {
        platform: "s3".into(),
        base_url: "https://s3.eu-central-1.amazonaws.com".into(),
        container: "lab-raw".into(),
    };
    let target = Record::Target { id: TargetId(1), address: target };
    assert!(writer.apply(&[vec![target]]).expect("written").is_whole(), "all is written");
    let mut receipted = Vec::new();
    for first in (1..=3 * POOL).step_by(TOGETHER) {
        let lives = (first..first + TOGETHER as i64).map(small);
        let (sent, rest): (Vec<_>, Vec<_>) =
            lives.map(|[admitted, sent, last]| ([admitted, sent].concat(), last)).unzip();
        assert!(writer.apply(&sent).expect("written").is_whole(), "all is written");
        receipted.extend(rest);
    }
    lines(place.path());
    println!("{:<44} {:>10} {:>12}", "in a commit of 64", "us/line", "CPU us/line");
    let mut facts = receipted.chunks(TOGETHER);
    timed("the fact, through the writer", || {
        let batch = facts.next().expect("enough of them");
        assert!(writer.apply(batch).expect("written").is_whole(), "all is written");
    });
    writer.leave();
    let database = Connection::open(place.path().join("dropferry.db")).expect("opens");
    database
        .execute_batch("PRAGMA synchronous = FULL; PRAGMA ignore_check_constraints = ON")
        .expect("set");
    let plain = "UPDATE uploads SET stage = 'receipted', receipted_at_ns = ?2, ended_at_ns = ?2";
    let ledger = format!(
        "{plain}, receipt_sha256 = zeroblob(32), ledger_id = 1, ledger_seq = ?1, ledger_offset = ?1"
    );
    for (name, sql, first) in [
        ("its row, in SQL", ledger.as_str(), POOL + 1),
        ("its row without the columns of the ledger", plain, 2 * POOL + 1),
    ] {
        let mut ids = first..;
        let mut update = database.prepare(&format!("{sql} WHERE id = ?1")).expect("prepared");
        timed(name, || {
            database.execute_batch("BEGIN IMMEDIATE").expect("begun");
            for id in ids.by_ref().take(TOGETHER) {
                assert_eq!(update.execute((id, now().0)).expect("written"), 1);
            }
            database.execute_batch("COMMIT").expect("written");
        });
    }
}

fn lines(state: &Path) {
    let rows = Snapshot::open(state).expect("opens");
    let made = |id: i64| -> LineBody {
        let detail = rows.proof(UploadId(id)).expect("read").expect("it is there");
        receipt_of(detail).expect("it is verified")
    };
    let bodies: Vec<_> = (1..=TOGETHER as i64).map(made).collect();
    let mut table = Table::of("line");
    table.case("made from rows, 64 in a transaction", || {
        let make = || (1..=TOGETHER as i64).map(made).collect::<Vec<_>>();
        rows.at_one_moment(make).expect("read").len()
    });
    table.case("made from rows, each by itself", || {
        (1..=TOGETHER as i64).map(made).collect::<Vec<_>>().len()
    });
    let (mut head, mut out) = (LedgerHead::EMPTY, Vec::new());
    table.case("written to memory, with its SHA-256", move || {
        out.clear();
        let stamp = LineStamp { at: WallTime(1_800_000_000_000_000_000), host: "seq-07" };
        for body in &bodies {
            head.append(&mut out, &stamp, body);
        }
        bodies.len()
    });
    for together in [1, 16, 64, 256] {
        let subjects: Vec<_> = (1..=together).map(|id| LineSubject::Upload(UploadId(id))).collect();
        let mut appender = Appender::new(state.to_owned(), "seq-07".into());
        // The ledger is read once in each life, which is no part of what a line costs.
        let name = format!("all of it, synced, {together} together");
        let rows = &rows;
        table.case(name, move || {
            let written = append(&mut appender, rows, now(), &subjects);
            assert!(written.iter().all(Result::is_ok), "all is written");
            written.len()
        });
    }
    table.print();
}

/// Does it for all of a pool, and prints what each line cost.
fn timed(name: &str, mut act: impl FnMut()) {
    let (started, cpu) = (Instant::now(), cpu_seconds());
    for _ in 0..POOL / TOGETHER as i64 {
        act();
    }
    let each = |seconds: f64| seconds * 1e6 / POOL as f64;
    let (wall, cpu) = (each(started.elapsed().as_secs_f64()), each(cpu_seconds() - cpu));
    println!("{name:<44} {wall:>10.2} {cpu:>12.2}");
}
