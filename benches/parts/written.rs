//! Lines that are receipts, as the writer gets them.

use dropferry::testing::model::{LedgerHead, LedgerPath, LineRef, WrittenLine};

/// A line that is the receipt of an upload.
pub(crate) fn written(id: i64) -> Box<WrittenLine> {
    let seq = id.unsigned_abs();
    let line = LineRef {
        ledger: LedgerPath::new("lab/run.jsonl"),
        seq,
        offset: seq * 1000,
        sha256: [5; 32],
    };
    let head = LedgerHead { count: seq, sha256: [5; 32], length: (seq + 1) * 1000 };
    Box::new(WrittenLine { line, head, damaged: None })
}
