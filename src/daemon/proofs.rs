//! The checks before a source is disposed of: the receipts of its run, and each file at a destination.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::{StreamExt, stream};

use super::context::{World, to};
use super::workers::{self, cancelled, failed, off_the_loop};
use crate::engine::event::{Outcome, ProofCheck, ProofsChecked};
use crate::model::{
    ArrivedFile, Call, DisposalDoubt, Failure, FailureKind, LedgerFinding, LineRef, RemoteFile,
    RemoteFileId, RemoteStanding, Reply, RunRow,
};
use crate::platform::Destination;
use crate::receipt::place::LedgerName;
use crate::receipt::{self, LineFault};
use crate::store::snapshot::{RunRef, Snapshot};

/// Files in one act: some seconds where calls are limited, and little is repeated when one fails.
const BATCH_MAX: u32 = 100;
/// Files that a destination is asked about at once.
const ASKED_MAX: usize = 4;

/// Files of a run, and the first local reason to keep it.
struct Batch {
    files: Vec<ArrivedFile>,
    doubt: Option<ReceiptDoubt>,
}

/// A missing or invalid receipt line.
struct ReceiptDoubt {
    why: String,
    /// Its ledger, if that is not known to be damaged.
    ledger: Option<LedgerFinding>,
}

/// Checks the receipts of a batch of files, and asks the destination about each file.
pub(super) async fn check(world: Arc<World>, check: ProofCheck) -> workers::ActReply {
    let (local, asked) = (Arc::clone(&world), check.clone());
    let read = move || {
        let read = |snapshot: &Snapshot| read(snapshot, &local.state, &asked);
        let unreadable =
            |error: crate::store::Error| Failure::new(FailureKind::LocalFault, error.to_string());
        local.readers.lend(read).flatten().map_err(unreadable)
    };
    let Batch { files, doubt } = off_the_loop(read).await?;
    let (doubt, ledger) = doubt.map_or((None, None), |found| (Some(found.why), found.ledger));
    if ledger.is_some() {
        world.receipts.reread();
    }
    let mut doubt = doubt.map(DisposalDoubt::ReceiptDamaged);
    if doubt.is_none() && check.asks {
        let destination = to(&world, &check.destination).or_else(failed)?;
        let ask = async |file: &ArrivedFile| inspect(destination, &file.remote).await;
        let answers = stream::iter(&files).map(ask).buffered(ASKED_MAX);
        let mut answers = std::pin::pin!(stream::iter(&files).zip(answers));
        while let Some((file, answer)) = answers.next().await {
            if world.stopping.drains.load(Ordering::Relaxed) {
                return cancelled();
            }
            let found = RemoteStanding::of(&file.sent, answer.or_else(failed)?.as_ref());
            if !found.lets_source_go(file.sent.etag_mode) {
                let why =
                    format!("{} of {}, as {}: {found}", check.destination, file.path, file.remote);
                doubt = Some(DisposalDoubt::GoneAtDestination(why));
                break;
            }
        }
    }
    let last = files.last().filter(|_| files.len() == BATCH_MAX as usize);
    Ok(Outcome::ProofsChecked(match (doubt, last) {
        (Some(doubt), _) => ProofsChecked::Doubted(doubt, ledger),
        (None, Some(last)) => ProofsChecked::UpTo(last.upload),
        (None, None) => ProofsChecked::Complete,
    }))
}

async fn inspect(
    destination: &Destination,
    file: &RemoteFileId,
) -> Result<Option<RemoteFile>, Failure> {
    let reply = destination.call(&Call::Inspect(file.clone())).await?;
    if let Reply::Inspected(found) = reply { Ok(found) } else { unexpected(&reply) }
}

fn unexpected<T>(reply: &Reply) -> Result<T, Failure> {
    Err(Failure::new(FailureKind::LocalFault, format!("{reply:?} is the reply to another call")))
}

fn read(
    snapshot: &Snapshot,
    state: &Path,
    check: &ProofCheck,
) -> Result<Batch, crate::store::Error> {
    let run = RunRef { drop: &check.drop, run: &check.run, is_file: check.is_file };
    let files = snapshot.arrived_files(&run, &check.destination, check.after, BATCH_MAX)?;
    let mut doubt = None;
    if check.after.is_none() && !check.is_file {
        let row =
            snapshot.run(&check.drop, &check.run)?.filter(|row| row.completion.receipt.is_some());
        if let Some(row) = row {
            doubt =
                doubt_of(snapshot, state, row.completion.receipt.as_ref(), &row.name.to_string())?
                    .or(damaged_ledger(snapshot, &row)?);
        }
    }
    for file in &files {
        if doubt.is_some() {
            break;
        }
        let what = format!("{}, upload {},", file.path, file.upload);
        doubt = doubt_of(snapshot, state, file.receipt.as_ref(), &what)?;
    }
    Ok(Batch { files, doubt })
}

/// Returns the ledger of a run that is known to be damaged, if any: its lost lines may be in no row.
fn damaged_ledger(
    snapshot: &Snapshot,
    row: &RunRow,
) -> Result<Option<ReceiptDoubt>, crate::store::Error> {
    let name = LedgerName::of_run(row.drop.as_str(), &row.name);
    for number in row.completion.ledgers.first..=row.completion.ledgers.last {
        let ledger = name.numbered(number);
        if let Some(damage) = snapshot.known_ledger(ledger.as_str())?.damage {
            let why = format!("the ledger {ledger} is damaged: {damage}");
            return Ok(Some(ReceiptDoubt { why, ledger: None }));
        }
    }
    Ok(None)
}

/// Returns why a receipt is missing or invalid, if so.
fn doubt_of(
    snapshot: &Snapshot,
    state: &Path,
    line: Option<&LineRef>,
    what: &str,
) -> Result<Option<ReceiptDoubt>, crate::store::Error> {
    let Err(fault) = receipt::check(state, line) else { return Ok(None) };
    let why = format!("the receipt of {what} {fault}");
    let damaged = match (fault, line) {
        (LineFault::Damaged(_), Some(line)) => Some(line.ledger.clone()),
        (LineFault::Damaged(_) | LineFault::Unreadable(_), _) => None,
    };
    let ledger = match damaged {
        Some(ledger) if snapshot.known_ledger(ledger.as_str())?.damage.is_none() => {
            Some(LedgerFinding { ledger, damage: Some(why.clone()) })
        }
        Some(_) | None => None,
    };
    Ok(Some(ReceiptDoubt { why, ledger }))
}
