//! What needs a person, as the contract's JSON lists it.

use serde_json::{Value, json};

use crate::model::{Code, DamagedLedger, NoticeKind};
use crate::store::snapshot::Status;

/// Returns what somebody has to do something about.
pub(super) fn list(status: &Status) -> Vec<Value> {
    let parked = status.tallies.iter().filter(|tally| tally.state == "parked");
    let parked = parked.filter(|tally| tally.upload_count > 0);
    let parked = parked.map(|tally| entry(NoticeKind::Parked, None, None, tally.upload_count));
    let deaf = status.drops.iter().filter(|drop| drop.watch == "deaf");
    let deaf =
        deaf.map(|drop| entry(NoticeKind::Deaf, Some(&drop.name), drop.reason.as_deref(), 1));
    let damaged = status.database.damaged_ledgers.iter();
    let damaged = damaged.map(|DamagedLedger { ledger, why }| {
        entry(NoticeKind::ReceiptsDamaged, Some(ledger.as_str()), Some(why), 1)
    });
    parked.chain(deaf).chain(damaged).collect()
}

fn entry(kind: NoticeKind, what: Option<&str>, why: Option<&str>, count: u64) -> Value {
    let code = Code::Notice(kind);
    let why = why.map_or(String::new(), |why| format!(": {why}"));
    json!({
        "code": code.as_str(), "text": format!("{}{why}", code.text()), "cure": code.cure(),
        "count": count, "what": what,
    })
}
