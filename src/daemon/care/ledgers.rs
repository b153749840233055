//! Checks the ledgers: each chain, its length, and that the line of each row is at its position.
//!
//! Reads one line and some rows at a time. Its findings become records and notices through the engine.

use std::collections::BTreeMap;
use std::path::Path;

use crate::model::{LedgerFinding, LedgerPath, SourcePath};
use crate::receipt::{self, LedgerVerdict, LineFault, sentinel};
use crate::store::Error;
use crate::store::care::Halt;
use crate::store::snapshot::Snapshot;

/// Rows that are read at a time.
const ROWS_MAX: u32 = 1_000;

/// Returns the ledgers that differ from their rows; `None` when cancelled.
///
/// # Errors
/// When the rows cannot be read.
pub(super) fn check(state: &Path, halt: &Halt) -> Result<Option<Vec<LedgerFinding>>, Error> {
    let snapshot = Snapshot::open(state)?;
    let (mut damage, mut was_damaged) = (BTreeMap::new(), Vec::new());
    for (ledger, known) in snapshot.known_ledgers()? {
        match receipt::audit(state, &ledger, known.head, || halt.is_asked()) {
            Ok(LedgerVerdict::Halted) => return Ok(None),
            Ok(LedgerVerdict::Holds(_)) => {}
            Ok(LedgerVerdict::Damaged(why)) => drop(damage.insert(ledger.clone(), why)),
            Err(error) => {
                tracing::warn!("the ledger {ledger} cannot be checked: {error}");
                continue;
            }
        }
        was_damaged.extend(known.damage.map(|_| ledger));
    }
    if find_lines(&snapshot, state, &mut damage, halt)?.is_none() {
        return Ok(None);
    }
    let is_new = |ledger: &LedgerPath| !was_damaged.contains(ledger);
    let whole = was_damaged.iter().filter(|ledger| !damage.contains_key(*ledger));
    let whole = whole.map(|ledger| LedgerFinding { ledger: ledger.clone(), damage: None });
    let mut found: Vec<_> = whole.collect();
    let damaged = damage.into_iter().filter(|(ledger, _)| is_new(ledger));
    found.extend(damaged.map(|(ledger, why)| LedgerFinding { ledger, damage: Some(why) }));
    Ok(Some(found))
}

/// Removes the sentinels that were sent; a failing removal is retried the next time.
///
/// # Errors
/// When the rows cannot be read.
pub(super) fn remove_sent_sentinels(state: &Path) -> Result<(), Error> {
    let snapshot = Snapshot::open(state)?;
    let is_sent = |path: &SourcePath| {
        snapshot.is_sentinel_sent(path).unwrap_or_else(|error| {
            tracing::warn!("the sentinel {path} is kept: {error}");
            false
        })
    };
    if let Err(error) = sentinel::remove_sent(state, is_sent) {
        tracing::warn!("sentinels that were sent cannot be removed: {error}");
    }
    Ok(())
}

/// Checks the line of every upload with a receipt; `None` when cancelled.
fn find_lines(
    snapshot: &Snapshot,
    state: &Path,
    damage: &mut BTreeMap<LedgerPath, String>,
    halt: &Halt,
) -> Result<Option<()>, Error> {
    let mut after = None;
    loop {
        let lines = snapshot.receipt_lines(after, ROWS_MAX)?;
        let Some((last, _)) = lines.last() else { return Ok(Some(())) };
        after = Some(*last);
        for (upload, line) in lines {
            if halt.is_asked() {
                return Ok(None);
            }
            if damage.contains_key(&line.ledger) {
                continue;
            }
            match receipt::check(state, Some(&line)) {
                Ok(()) => {}
                Err(LineFault::Unreadable(error)) => {
                    tracing::warn!("the receipt of upload {upload} cannot be checked: {error}");
                }
                Err(LineFault::Damaged(why)) => {
                    damage.insert(line.ledger, format!("the line of upload {upload} {why}"));
                }
            }
        }
    }
}
