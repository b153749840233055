//! From rows to what a receipt says.

use crate::model::{PartSize, Stage};
use crate::receipt::{ReceiptData, ReceiptExport, ReceiptPart};
use crate::store::snapshot::Detail;

/// Returns what the receipt of an upload says; `None` before it is verified.
pub fn data_of(detail: Detail) -> Option<ReceiptData> {
    let upload = detail.upload;
    let file = match &upload.state.stage {
        Stage::Verified { file, .. } | Stage::Receipted { file } => file.clone(),
        Stage::Queued
        | Stage::Beginning { .. }
        | Stage::Sending { .. }
        | Stage::Completing { .. }
        | Stage::Completed { .. }
        | Stage::Ended(_) => return None,
    };
    let parts = detail.parts.into_iter();
    Some(ReceiptData {
        upload: upload.admission.id,
        drop: upload.admission.drop.as_str().to_owned(),
        path: upload.admission.path,
        size: upload.admission.fingerprint.size,
        mtime_ns: upload.admission.fingerprint.mtime_ns,
        destination: upload.admission.destination.as_str().to_owned(),
        platform: detail.platform,
        remote_id: file.id.as_str().to_owned(),
        remote_name: file.name,
        part_size: PartSize::new(upload.part_size_bytes)?,
        parts: parts
            .map(|part| ReceiptPart { number: part.number, md5: part.md5, etag: part.etag })
            .collect(),
        mark: detail.mark.or(file.mark),
        whole_md5: detail.whole_md5,
        whole_sha256: detail.whole_sha256,
        begun_at: detail.begun_at,
        completed_at: upload.completed_at,
        verified_at: detail.verified_at,
        export: detail.export.map(|export| ReceiptExport {
            volume: export.volume,
            location: export.location,
            job: export.job.unwrap_or_default(),
            at: export.exported_at,
        }),
        bytes_sent: upload.state.bytes_sent.0,
        attempt_count: detail.attempts.len(),
    })
}
