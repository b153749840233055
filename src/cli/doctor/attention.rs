//! What waits for a person: parked uploads, closed destinations, notices, disposals.

use std::collections::BTreeMap;
use std::path::Path;

use super::lines::Checks;
use crate::cli::render;
use crate::cli::status::attention::waits;
use crate::model::{Code, HALTED_AFTER, Hold, ParkReason, UploadId, WallTime};
use crate::store::snapshot::{HeldDisposal, Snapshot, Status};

/// Limit of ids shown for each reason.
const IDS_SHOWN: usize = 3;
/// Limit of shown runs whose disposal is held up.
const HELD_SHOWN: u32 = 20;

/// Returns the runs whose disposal is held up.
pub(super) fn held(state: &Path) -> Vec<HeldDisposal> {
    let held = Snapshot::open(state).and_then(|snapshot| snapshot.held_disposals(HELD_SHOWN));
    // An unreadable database has lines of its own.
    held.unwrap_or_default()
}

pub(super) fn check(status: &Status, held: &[HeldDisposal], now: WallTime) -> Checks {
    let mut checks = Checks::of("attention");
    parked(&mut checks, status);
    closed(&mut checks, status, now);
    for matter in waits(status, HALTED_AFTER) {
        checks.warn(matter.what(), matter.text(), matter.cure().unwrap_or_default());
    }
    if let Some(failure) = &status.notices.failure {
        let found = format!("{} wait to be sent: {failure}", status.notices.waiting_count);
        checks.warn("notices", found, cure(Code::NoticesWaiting));
    }
    for HeldDisposal { drop, run, failure } in held {
        let found = format!("{run} of {drop} is not disposed of: {failure}");
        checks.warn("disposal", found, cure(Code::DisposalHeld));
    }
    checks
}

/// Reports learned properties of destinations: a check is missing, or work takes longer.
pub(super) fn learned(status: &Status) -> Checks {
    let mut checks = Checks::of("destination");
    for to in &status.places.destinations {
        to.notable().for_each(|what| checks.ok(&to.name, what));
    }
    checks
}

fn cure(code: Code) -> &'static str {
    code.cure().unwrap_or_default()
}

fn parked(checks: &mut Checks, status: &Status) {
    let mut by_reason: BTreeMap<ParkReason, Vec<UploadId>> = BTreeMap::new();
    for upload in &status.uploads {
        if let Hold::Parked { reason } = upload.state.hold {
            by_reason.entry(reason).or_default().push(upload.admission.id);
        }
    }
    if by_reason.is_empty() {
        return checks.ok("parked", "no upload is parked");
    }
    for (reason, ids) in by_reason {
        let shown: Vec<_> = ids.iter().take(IDS_SHOWN).map(UploadId::to_string).collect();
        let more = if ids.len() > shown.len() { ", …" } else { "" };
        let plural = if ids.len() == 1 { "upload" } else { "uploads" };
        let found =
            format!("{} {plural} ({}{more}): {}", ids.len(), shown.join(", "), reason.sentence());
        let cure = cure(Code::Parked(reason));
        // A name that comes back into the configuration is released automatically.
        let cure = if reason == ParkReason::NotConfigured {
            cure.to_owned()
        } else {
            format!("{cure}; then: dropferry retry {}", shown.join(" "))
        };
        checks.warn("parked", found, cure);
    }
}

fn closed(checks: &mut Checks, status: &Status, now: WallTime) {
    let is_closed = |state: &str| !matches!(state, "ok" | "unknown");
    for closed in status.places.destinations.iter().filter(|one| is_closed(&one.state)) {
        let since = render::duration(closed.since.until(now).as_secs());
        let reason = closed.reason.clone().unwrap_or_default();
        let found = format!("{} is {} for {since}: {reason}", closed.name, closed.state);
        let cure = "see its lines below; uploads wait and go on by themselves";
        checks.warn("destination", found, cure);
    }
}
