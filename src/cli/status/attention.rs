//! What needs a person: as the contract's JSON lists it, as people read it, and for the exit code.

use serde_json::{Value, json};

use crate::cli::render;
use crate::model::{Code, DamagedLedger, HALTED_AFTER, NoticeKind, Shown, UploadId, WallTime};
use crate::store::snapshot::{DestinationShown, StaleRun, Status, StuckUploads};

/// Something that somebody has to do something about.
#[derive(Debug)]
pub(in crate::cli) struct Matter {
    kind: NoticeKind,
    what: Option<String>,
    why: Option<String>,
    count: u64,
    /// Of several uploads, the first.
    first: Option<UploadId>,
}

/// Returns what needs a person.
pub(super) fn list(status: &Status) -> Vec<Matter> {
    let tally = status.tallies.iter().find(|tally| tally.state == "parked");
    let parked = tally.map_or(0, |tally| tally.upload_count);
    let parked = (parked > 0).then(|| Matter { count: parked, ..Matter::of(NoticeKind::Parked) });
    let deaf = status.drops.iter().filter(|drop| drop.watch == "deaf").map(|drop| {
        let why = drop.reason.clone();
        Matter { what: Some(drop.name.clone()), why, ..Matter::of(NoticeKind::Deaf) }
    });
    let damaged = status.database.damaged_ledgers.iter();
    let damaged = damaged.map(|DamagedLedger { ledger, why }| Matter {
        what: Some(ledger.to_string()),
        why: Some(why.clone()),
        ..Matter::of(NoticeKind::ReceiptsDamaged)
    });
    parked.into_iter().chain(deaf).chain(damaged).chain(waits(status)).collect()
}

/// Returns what waits for longer than it should: uploads, runs, and destinations that refuse us or never
/// took anything.
pub(in crate::cli) fn waits(status: &Status) -> Vec<Matter> {
    let stuck = status.stuck.iter().map(|stuck| Matter::stuck(stuck, status.read_at));
    let stale = status.stale.iter().map(|StaleRun { drop, run, reason }| Matter {
        what: Some(format!("{drop}/{run}")),
        why: reason.clone(),
        ..Matter::of(NoticeKind::RunStale)
    });
    let away = status.destinations.iter().filter_map(|to| {
        let kind = needs_person(to, status.read_at)?;
        let reason = to.reason.as_deref().unwrap_or("no reason is known");
        let never = if to.has_worked() { "" } else { "it has never taken anything: " };
        let why = Some(format!("{never}{reason}"));
        Some(Matter { what: Some(to.name.clone()), why, ..Matter::of(kind) })
    });
    stuck.chain(stale).chain(away).collect()
}

/// Tells whether a destination is closed for a reason that does not pass by itself.
fn needs_person(to: &DestinationShown, now: WallTime) -> Option<NoticeKind> {
    let is_long = to.since.until(now) >= HALTED_AFTER;
    match to.state.as_str() {
        "halted" if is_long || !to.has_worked() => Some(NoticeKind::DestinationHalted),
        "unreachable" if !to.has_worked() => Some(NoticeKind::DestinationUnreachable),
        _ => None,
    }
}

impl Matter {
    fn of(kind: NoticeKind) -> Self {
        Self { kind, what: None, why: None, count: 1, first: None }
    }

    fn stuck(stuck: &StuckUploads, now: WallTime) -> Self {
        let StuckUploads { drop, destination, count, first, since, reason } = stuck;
        let since = render::duration(since.until(now).as_secs());
        let reason = reason.as_deref().unwrap_or("no reason is known");
        Self {
            what: Some(destination.clone()),
            why: Some(format!("of {drop}, for {since}: {reason}")),
            count: *count,
            first: Some(*first),
            ..Self::of(NoticeKind::UploadStuck)
        }
    }

    /// What it is about, for people.
    pub(in crate::cli) fn what(&self) -> &str {
        self.what.as_deref().unwrap_or_default()
    }

    pub(in crate::cli) fn text(&self) -> String {
        let text = Code::Notice(self.kind).text();
        self.why.as_ref().map_or(text.to_owned(), |why| format!("{text}: {why}"))
    }

    pub(in crate::cli) fn cure(&self) -> Option<String> {
        let cure = Code::Notice(self.kind).cure()?;
        let first = self.first.map(|id| format!("show {id}"));
        Some(first.map_or(cure.to_owned(), |first| cure.replace("show ID", &first)))
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "code": Code::Notice(self.kind).as_str(), "text": self.text(), "cure": self.cure(),
            "count": self.count, "what": self.what,
        })
    }

    /// Returns its lines for people.
    pub(super) fn lines(&self) -> String {
        let text = format!("\n{}: {}\n", Shown(self.what()), Shown(&self.text()));
        self.cure().map_or(text.clone(), |cure| format!("{text}hint: {cure}\n"))
    }
}
