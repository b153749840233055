//! Receipts: each ledger is valid and matches its rows, and the lines of some rows are at their positions.

use std::path::Path;

use super::lines::Checks;
use crate::model::{Code, NoticeKind};
use crate::receipt::{self, LedgerVerdict};
use crate::store::snapshot::Snapshot;

/// Limit of ledger bytes that are read: a report should come within seconds.
const READ_MAX: u64 = 1 << 30;
/// Limit of rows whose lines are checked.
const ROWS_MAX: u32 = 10_000;
/// Limit of shown damages; the rest is counted.
const SHOWN: usize = 3;

/// The findings so far.
#[derive(Default)]
struct ReceiptsFound {
    ledger_count: u64,
    read_count: u64,
    read_bytes: u64,
    damage: Vec<String>,
    damaged_count: u64,
    /// Damaged once, by their rows, and whole again.
    restored: Vec<String>,
}

impl ReceiptsFound {
    fn note(&mut self, damage: String) {
        self.damaged_count += 1;
        self.damage.extend(Some(damage).filter(|_| self.damage.len() < SHOWN));
    }
}

pub(super) fn check(state: &Path) -> Checks {
    let mut checks = Checks::of("receipts");
    match read(state) {
        Err(error) => checks.warn("all", format!("{error:#}"), "see the lines of the database"),
        Ok(found) if found.damaged_count > 0 => {
            let (named, count) = (found.damage.join("; "), found.damaged_count);
            let more = if count > SHOWN as u64 { "; and more" } else { "" };
            let cure = Code::Notice(NoticeKind::ReceiptsDamaged).cure().unwrap_or_default();
            checks.fail("all", format!("{count} do not hold: {named}{more}"), cure);
        }
        Ok(found) if !found.restored.is_empty() => {
            let names = found.restored.join(", ");
            let cure = "restart the daemon: it reads them again a minute later, once it is idle";
            checks.warn("all", format!("whole again, and not yet noted as such: {names}"), cure);
        }
        Ok(found) if found.read_count < found.ledger_count => {
            let text = format!(
                "{} of {} ledgers were read and hold; `dropferry receipts --check` reads all",
                found.read_count, found.ledger_count
            );
            checks.ok("all", text);
        }
        Ok(found) => checks.ok("all", format!("{} ledgers hold", found.ledger_count)),
    }
    checks
}

fn read(state: &Path) -> anyhow::Result<ReceiptsFound> {
    let snapshot = Snapshot::open(state)?;
    let mut found = ReceiptsFound::default();
    for (ledger, known) in snapshot.known_ledgers()? {
        found.ledger_count += 1;
        if found.read_bytes > READ_MAX {
            continue;
        }
        found.read_count += 1;
        found.read_bytes += known.head.length;
        match receipt::audit(state, &ledger, known.head, || false) {
            Ok(LedgerVerdict::Damaged(why)) => found.note(format!("{ledger}: {why}")),
            Err(error) => found.note(format!("{ledger}: it cannot be read: {error}")),
            Ok(LedgerVerdict::Holds(_) | LedgerVerdict::Halted) if known.damage.is_some() => {
                found.restored.push(ledger.to_string());
            }
            Ok(LedgerVerdict::Holds(_) | LedgerVerdict::Halted) => {}
        }
    }
    for (upload, line) in snapshot.receipt_lines(None, ROWS_MAX)? {
        if let Err(damage) = receipt::check(state, Some(&line)) {
            found.note(format!("the receipt of upload {upload} {damage}"));
        }
    }
    Ok(found)
}
