//! From rows to receipts.
//!
//! Receipts that are asked for while others are being written are written together: a thread takes
//! whatever waits, and ends when nothing does. *At a crash* an act that was not answered is done again,
//! with the same bytes.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::context::World;
use super::line::{ServedQueue, served};
use crate::model::{ETagMode, Failure, FailureKind, PartSize, Stage, UploadId};
use crate::receipt::{
    self, Receipt, ReceiptDigests, ReceiptExport, ReceiptPart, ReceiptSource, ReceiptTarget,
};
use crate::store::snapshot::{Detail, PartShown, Snapshot};

/// Receipts in one go: they share the disk's waits, and are in memory together.
const TOGETHER_MAX: usize = 128;

/// Receipts that wait to be written.
pub(crate) type Receipts = ServedQueue<AwaitedReceipt>;

/// A receipt that somebody waits for.
#[derive(Debug)]
pub(crate) struct AwaitedReceipt {
    upload: UploadId,
    answer: oneshot::Sender<Result<[u8; 32], Failure>>,
}

/// Writes the receipt of an upload, with those of others that are asked for meanwhile.
pub(super) async fn write(world: &Arc<World>, upload: UploadId) -> Result<[u8; 32], Failure> {
    let (answer, answered) = oneshot::channel();
    if world.receipts.join(AwaitedReceipt { upload, answer }) {
        let world = Arc::clone(world);
        tokio::task::spawn_blocking(move || serve(&world));
    }
    served(answered).await
}

fn serve(world: &World) {
    loop {
        let asked = world.receipts.take(TOGETHER_MAX);
        if asked.is_empty() {
            return;
        }
        let rendered = world.readers.lend(|snapshot| {
            asked.iter().map(|asked| render(world, snapshot, asked.upload)).collect::<Vec<_>>()
        });
        let rendered = rendered
            .unwrap_or_else(|error| asked.iter().map(|_| Err(local(error.to_string()))).collect());
        let (ready, asked): (Vec<_>, Vec<_>) = rendered
            .into_iter()
            .zip(asked)
            .filter_map(|(rendered, asked)| match rendered {
                Ok(ready) => Some((ready, asked)),
                Err(failure) => {
                    // Whoever asked may be gone.
                    asked.answer.send(Err(failure)).ok();
                    None
                }
            })
            .unzip();
        let written = receipt::write_all(&ready);
        for ((written, asked), (place, _)) in written.into_iter().zip(asked).zip(&ready) {
            let written = written.map_err(|error| {
                local(format!("the receipt {} cannot be written: {error}", place.display()))
            });
            asked.answer.send(written).ok();
        }
    }
}

fn local(why: String) -> Failure {
    Failure::new(FailureKind::LocalFault, why)
}

/// Renders a receipt from rows, and says where it shall stand.
fn render(
    world: &World,
    snapshot: &Snapshot,
    upload: UploadId,
) -> Result<(PathBuf, Vec<u8>), Failure> {
    let detail = snapshot.detail(upload).map_err(|error| local(error.to_string()))?;
    let detail = detail.ok_or_else(|| local(format!("upload {upload} has no row")))?;
    let receipt = receipt_of(detail)
        .ok_or_else(|| local(format!("upload {upload} is not verified, and so has no receipt")))?;
    let place = receipt::path_for(&world.state, &receipt.source.drop, &receipt.source.path, upload);
    Ok((place, receipt::render(&receipt)))
}

/// Returns what the receipt of an upload says; `None` before it is verified.
pub fn receipt_of(detail: Detail) -> Option<Receipt> {
    let (admission, state) = (detail.upload.admission, detail.upload.state);
    let file = match state.stage {
        Stage::Verified { file, .. } | Stage::Receipted { file } => file,
        Stage::Queued
        | Stage::Beginning { .. }
        | Stage::Sending { .. }
        | Stage::Completing { .. }
        | Stage::Completed { .. }
        | Stage::Ended(_) => return None,
    };
    let part =
        |part: PartShown| ReceiptPart { number: part.number, md5: part.md5, etag: part.etag };
    Some(Receipt {
        upload: admission.id,
        source: ReceiptSource {
            drop: admission.drop.as_str().to_owned(),
            path: admission.path,
            size: admission.fingerprint.size,
            mtime_ns: admission.fingerprint.mtime_ns,
            root: admission.root,
        },
        target: ReceiptTarget {
            destination: admission.destination.as_str().to_owned(),
            platform: detail.platform,
            remote_id: file.id.as_str().to_owned(),
            remote_name: file.name,
        },
        part_size: PartSize::new(detail.upload.part_size_bytes)?,
        parts: detail.parts.into_iter().map(part).collect(),
        digests: ReceiptDigests {
            mark: detail.mark.or(file.mark),
            remote_mark: file.mark,
            etag_mode: Some(state.etag_mode).filter(|mode| *mode != ETagMode::Unknown),
            whole_md5: detail.whole_md5,
            whole_sha256: detail.whole_sha256,
        },
        begun_at: detail.begun_at,
        completed_at: detail.upload.completed_at,
        verified_at: detail.verified_at,
        export: detail.export.map(|export| ReceiptExport {
            volume: export.volume,
            location: export.location,
            job: export.job.unwrap_or_default(),
            at: export.exported_at,
        }),
        bytes_sent: state.bytes_sent.0,
        attempt_count: detail.attempts.len(),
    })
}
