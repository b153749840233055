//! What needs a person: for JSON, for people, and for the exit code.

use std::time::Duration;

use serde_json::{Value, json};

use crate::cli::render;
use crate::model::{Code, DamagedLedger, LowDisk, NoticeKind, Shown, UploadId, WallTime};
use crate::store::snapshot::{
    DestinationShown, ParkedUploads, Selection, StaleRun, Status, StuckUploads,
};

/// A matter that needs a person.
#[derive(Debug)]
pub(in crate::cli) struct Matter {
    code: Code,
    what: Option<String>,
    why: Option<String>,
    /// The cure, where it differs from that of the code.
    cure: Option<String>,
    count: u64,
    /// Of several uploads, the first.
    first: Option<UploadId>,
}

/// Returns what needs a person, the most serious first.
pub(in crate::cli) fn list(status: &Status) -> Vec<Matter> {
    let database = &status.database;
    let verdict = database.care.verdict.as_ref().filter(|verdict| !verdict.is_sound);
    let unsound = verdict
        .map(|verdict| Matter { why: verdict.detail.clone(), ..Matter::of(Code::DatabaseDamaged) });
    let unsaved = database.care.backup_failure.clone();
    let unsaved = unsaved.map(|why| Matter { why: Some(why), ..Matter::of(Code::BackupFailed) });
    let deaf = status.places.drops.iter().filter(|drop| drop.watch == "deaf").map(|drop| {
        let why = drop.reason.clone();
        Matter { what: Some(drop.name.clone()), why, ..Matter::notice(NoticeKind::Deaf) }
    });
    let damaged = database.damaged_ledgers.iter();
    let damaged = damaged.map(|DamagedLedger { ledger, why }| Matter {
        what: Some(ledger.to_string()),
        why: Some(why.clone()),
        ..Matter::notice(NoticeKind::ReceiptsDamaged)
    });
    let untold = status.notices.failure.as_ref().map(|why| Matter {
        why: Some(why.clone()),
        count: status.notices.waiting_count,
        ..Matter::of(Code::NoticesWaiting)
    });
    let parked = status.trouble.parked.iter().map(Matter::parked);
    let low = status.process.live.iter().flat_map(|live| &live.low_disks).map(Matter::low_disk);
    let mut list: Vec<_> = deaf.chain(waits(status, Duration::ZERO)).chain(parked).collect();
    // Matters outside the named objects are shown only with everything.
    if status.selection == Selection::All {
        list.splice(0..0, unsound.into_iter().chain(low));
        list.extend(damaged.chain(unsaved).chain(untold));
    }
    list
}

/// Returns what has waited for too long: uploads, runs, and destinations that have refused us for
/// `halted_after` at least, or never accepted anything.
pub(in crate::cli) fn waits(status: &Status, halted_after: Duration) -> Vec<Matter> {
    let away = status.places.destinations.iter().filter_map(|to| {
        let kind = needs_person(to, status.read_at, halted_after)?;
        let reason = to.reason.as_deref().unwrap_or("no reason is known");
        let never = if to.has_worked() { "" } else { "it has never taken anything: " };
        let why = Some(format!("{never}{reason}"));
        Some(Matter { what: Some(to.name.clone()), why, ..Matter::notice(kind) })
    });
    let stuck = status.trouble.stuck.iter().map(|stuck| Matter::stuck(stuck, status.read_at));
    let stale = status.trouble.stale.iter().map(|StaleRun { drop, run, reason }| Matter {
        what: Some(format!("{drop}/{run}")),
        why: reason.clone(),
        ..Matter::notice(NoticeKind::RunStale)
    });
    away.chain(stuck).chain(stale).collect()
}

/// Returns whether a destination is closed for a reason that does not pass by itself.
fn needs_person(
    to: &DestinationShown,
    now: WallTime,
    halted_after: Duration,
) -> Option<NoticeKind> {
    let is_long = to.since.until(now) >= halted_after;
    match to.state.as_str() {
        "halted" if is_long || !to.has_worked() => Some(NoticeKind::DestinationHalted),
        "unreachable" if !to.has_worked() => Some(NoticeKind::DestinationUnreachable),
        _ => None,
    }
}

impl Matter {
    fn of(code: Code) -> Self {
        Self { code, what: None, why: None, cure: None, count: 1, first: None }
    }

    fn notice(kind: NoticeKind) -> Self {
        Self::of(Code::Notice(kind))
    }

    fn parked(parked: &ParkedUploads) -> Self {
        let ParkedUploads { drop, run, destination, reason, count, first, detail } = parked;
        let run = run.as_ref().map_or(String::new(), |run| format!("/{run}"));
        let detail = detail.as_ref().filter(|detail| *detail != reason.sentence());
        let detail = detail.map_or(String::new(), |detail| format!(" ({detail})"));
        let code = Code::Parked(*reason);
        let retry = format!("dropferry retry {first}");
        let cure = code.cure().map(|cure| cure.replace("ID", &first.to_string()));
        let cure = match cure {
            // The cure has the words already.
            Some(cure) if cure.contains("dropferry retry") => cure,
            Some(cure) => format!("{retry}, once this is done: {cure}"),
            None => retry,
        };
        let plural = if *count == 1 { "file" } else { "files" };
        Self {
            what: Some(format!("{drop}{run}")),
            why: Some(format!(
                "{count} {plural} parked for {destination}: {}{detail}",
                reason.sentence()
            )),
            cure: Some(cure),
            count: *count,
            first: Some(*first),
            ..Self::notice(NoticeKind::Parked)
        }
    }

    fn low_disk(LowDisk { directory, drop, space }: &LowDisk) -> Self {
        let (free, total) = (render::bytes(space.free.0), render::bytes(space.total.0));
        let of = drop.as_ref().map_or(String::new(), |drop| format!(", where drop {drop} is"));
        let why = Some(format!("{free} of {total} are free{of}"));
        Self { what: Some(directory.clone()), why, ..Self::notice(NoticeKind::DiskLow) }
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
            ..Self::notice(NoticeKind::UploadStuck)
        }
    }

    /// The first of several uploads.
    pub(in crate::cli) fn first(&self) -> Option<UploadId> {
        self.first
    }

    /// The subject, for people.
    pub(in crate::cli) fn what(&self) -> &str {
        self.what.as_deref().unwrap_or_default()
    }

    pub(in crate::cli) fn text(&self) -> String {
        match (&self.why, self.code) {
            // The number and the reason are in it already.
            (Some(why), Code::Notice(NoticeKind::Parked)) => why.clone(),
            (Some(why), code) => format!("{}: {why}", code.text()),
            (None, code) => code.text().to_owned(),
        }
    }

    pub(in crate::cli) fn cure(&self) -> Option<String> {
        let cure = self.cure.as_deref().or(self.code.cure())?;
        let first = self.first.map(|id| format!("show {id}"));
        Some(first.map_or(cure.to_owned(), |first| cure.replace("show ID", &first)))
    }

    pub(in crate::cli) fn json(&self) -> Value {
        json!({
            "code": self.code.as_str(), "text": self.text(), "cure": self.cure(),
            "count": self.count, "what": self.what,
        })
    }

    /// Describes it, in one line.
    pub(in crate::cli) fn line(&self) -> String {
        match &self.what {
            Some(what) => format!("{}: {}", Shown(what), self.text()),
            None => self.text(),
        }
    }
}
