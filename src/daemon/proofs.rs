//! What is asked before a source goes: the receipts of its run, and what a destination says of each file.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::{StreamExt, stream};

use super::context::{World, to};
use super::workers::{self, cancelled, failed, off_the_loop};
use crate::engine::event::{Outcome, ProofCheck, ProofsChecked};
use crate::model::{
    ArrivedFile, Call, DisposalDoubt, Failure, FailureKind, RemoteFile, RemoteFileId,
    RemoteStanding, Reply,
};
use crate::platform::Destination;
use crate::receipt;
use crate::store::snapshot::{RunRef, Snapshot};

/// Files in one act: some seconds where calls are few, and little is asked for again when one fails.
const BATCH_MAX: u32 = 100;
/// Files that a destination is asked about at once.
const ASKED_MAX: usize = 4;

/// Files of a run, and the first reason found here why it stays.
struct Batch {
    files: Vec<ArrivedFile>,
    doubt: Option<DisposalDoubt>,
}

/// Checks the receipts of a batch of files, and asks the destination about each of them.
pub(super) async fn check(world: Arc<World>, check: ProofCheck) -> workers::ActReply {
    let (local, asked) = (Arc::clone(&world), check.clone());
    let read = move || {
        let read = |snapshot: &Snapshot| read(snapshot, &local.state, &asked);
        let unreadable =
            |error: crate::store::Error| Failure::new(FailureKind::LocalFault, error.to_string());
        local.readers.lend(read).flatten().map_err(unreadable)
    };
    let Batch { files, mut doubt } = off_the_loop(read).await?;
    if doubt.is_none() && check.asks {
        let destination = to(&world, &check.destination).or_else(failed)?;
        let ask = async |file: &ArrivedFile| inspect(destination, &file.remote).await;
        let answers = stream::iter(&files).map(ask).buffered(ASKED_MAX);
        let mut answers = std::pin::pin!(stream::iter(&files).zip(answers));
        while let Some((file, answer)) = answers.next().await {
            if world.drains.load(Ordering::Relaxed) {
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
        (Some(doubt), _) => ProofsChecked::Doubted(doubt),
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
    let mut damage = None;
    if check.after.is_none() && !check.is_file {
        let row = snapshot.run(&check.drop, &check.run)?;
        damage = row.and_then(|row| receipt::run_damage(state, &row));
    }
    let of_file = |file: &ArrivedFile| {
        let damage = receipt::check(state, file.receipt.as_ref()).err()?;
        Some(format!("the receipt of {}, upload {}, {damage}", file.path, file.upload))
    };
    let damage = damage.or_else(|| files.iter().find_map(of_file));
    Ok(Batch { files, doubt: damage.map(DisposalDoubt::ReceiptDamaged) })
}
