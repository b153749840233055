//! The content of a snapshot, as plain values, with the words for JSON.

use super::{ParkedUploads, RunShown, RunTallyShown, Selection, StaleRun, StuckUploads};
use crate::model::remote::ContentMark;
use crate::model::{
    Admission, Code, DamagedLedger, ETag, EndReason, FailureKind, FormerTarget, Hold, IgnoreReason,
    Learned, LedgerPath, LineRef, Live, Md5, ParkReason, PartNumber, Reason, Scope, SourcePath,
    Stage, Standing, TargetAddress, UploadId, UploadState, WaitCode, WallTime,
};
use crate::store::care::Cared;
use crate::store::columns::at;

#[derive(Debug, Clone, Default)]
pub struct Status {
    pub selection: Selection,
    /// The moment of the snapshot.
    pub read_at: WallTime,
    pub process: ProcessShown,
    pub places: PlacesShown,
    pub trouble: TroubleShown,
    pub counts: FileCounts,
    /// Notices that are still to be sent.
    pub notices: NoticesShown,
    /// The orders in force, and since when.
    pub orders: Vec<(Standing, Scope, WallTime)>,
    /// Runs, the newest first.
    pub runs: Vec<RunShown>,
    /// The progress of the files that are runs of their own, by drop directory.
    pub single_files: Vec<(String, RunTallyShown)>,
    pub database: Database,
    /// Unfinished uploads, then ended ones, the newest first.
    pub uploads: Vec<UploadShown>,
}

/// The daemon's process.
#[derive(Debug, Clone, Default)]
pub struct ProcessShown {
    /// A daemon holds the lock.
    pub is_running: bool,
    /// The daemon that last ran: process, version and start.
    pub daemon: Option<DaemonShown>,
    /// What the running daemon reported; `None` when none runs or answers.
    pub live: Option<Live>,
}

/// Drop directories and destinations.
#[derive(Debug, Clone, Default)]
pub struct PlacesShown {
    pub drops: Vec<DropShown>,
    pub destinations: Vec<DestinationShown>,
    /// What was completed at former targets of the destinations.
    pub former_targets: Vec<FormerTarget>,
}

/// What does not continue by itself, or not soon.
#[derive(Debug, Clone, Default)]
pub struct TroubleShown {
    /// Parked uploads, by owner and reason.
    pub parked: Vec<ParkedUploads>,
    /// Uploads that have failed for long.
    pub stuck: Vec<StuckUploads>,
    /// Runs that have been open for long.
    pub stale: Vec<StaleRun>,
}

/// Numbers of files by their state.
#[derive(Debug, Clone, Default)]
pub struct FileCounts {
    /// Uploads by the word for their state.
    pub tallies: Vec<Tally>,
    /// Files that were seen and have not settled.
    pub settling_count: u64,
    pub ignored: IgnoredShown,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Database {
    /// Of which machine it is, and where it is there.
    pub id: String,
    /// Its last copy and its last check.
    pub care: Cared,
    pub size_bytes: u64,
    pub wal_bytes: u64,
    /// Ledgers that differ from their rows.
    pub damaged_ledgers: Vec<DamagedLedger>,
}

/// Notices that are still to be sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NoticesShown {
    pub waiting_count: u64,
    /// Why the oldest failed one was not accepted.
    pub failure: Option<String>,
    /// How many of the last thirty days were given up, because their receiver refused them.
    pub given_up_count: u64,
    /// The channel of the last of these, and why it was refused.
    pub given_up_why: Option<String>,
}

/// Paths that are not uploaded.
#[derive(Debug, Clone, Default)]
pub struct IgnoredShown {
    pub count: u64,
    /// Some of them, with their reasons.
    pub listed: Vec<Ignored>,
}

#[derive(Debug, Clone)]
pub struct Ignored {
    pub drop: String,
    pub path: SourcePath,
    pub reason: IgnoreReason,
}

/// The daemon that runs or last ran.
#[derive(Debug, Clone)]
pub struct DaemonShown {
    pub pid: u32,
    pub version: String,
    pub started_at: WallTime,
}

#[derive(Debug, Clone)]
pub struct DropShown {
    pub name: String,
    pub directory: String,
    /// `events`, `scanning` or `deaf`.
    pub watch: String,
    /// Why not `events`.
    pub reason: Option<String>,
    /// End of the last scan that saw everything.
    pub last_full_scan_at: Option<WallTime>,
}

#[derive(Debug, Clone)]
pub struct DestinationShown {
    pub name: String,
    pub platform: String,
    /// `unknown`, `ok`, `paused`, `throttled`, `unreachable` or `halted`.
    pub state: String,
    /// Why not `ok`.
    pub reason: Option<String>,
    pub since: WallTime,
    /// When it is called again, while it is not.
    pub next_try_at: Option<WallTime>,
    /// It is throttled because we keep to its limit of calls.
    pub is_paced: bool,
    /// Its clock minus ours, in nanoseconds.
    pub clock_behind_ns: i64,
    /// Lasting properties of its target that answers have shown.
    pub learned: Vec<Learned>,
    /// Failed attempts, by the kind of failure.
    pub failures: Vec<(String, u64)>,
}

/// A wait of an upload for a reason outside its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    pub code: Code,
    /// The reason, for people.
    pub reason: String,
    /// When it is tried again, where that is known.
    pub until: Option<WallTime>,
}

#[derive(Debug, Clone, Default)]
pub struct Tally {
    pub state: String,
    pub upload_count: u64,
    /// Length of their files.
    pub size_bytes: u64,
    pub accepted_bytes: u64,
    /// Bytes sent for them, also without effect.
    pub bytes_sent: u64,
    /// Bytes of these that were sent more than once.
    pub bytes_sent_again: u64,
    /// Bytes in flight for these, or those in flight when the daemon ended.
    pub bytes_in_flight: u64,
}

#[derive(Debug, Clone)]
pub struct UploadShown {
    pub admission: Admission,
    pub state: UploadState,
    pub accepted_bytes: u64,
    /// The layout's part size, or the wished one.
    pub part_size_bytes: u64,
    /// The layout's part count, or what the wished size would give.
    pub part_count: u32,
    /// Why it is parked, in full.
    pub park_detail: Option<String>,
    pub last_error: Option<LastError>,
    pub remote_id: Option<String>,
    pub completed_at: Option<WallTime>,
    pub ordered: Option<Standing>,
    /// Why it waits together with all others of its destination.
    pub waits_for: Option<Wait>,
    /// The upload that holds its place.
    pub awaits: Option<Awaited>,
}

/// The newest failure of an upload.
#[derive(Debug, Clone)]
pub struct LastError {
    /// The word of its [`FailureKind`].
    pub kind: String,
    pub text: String,
}

impl LastError {
    pub(super) fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Option<Self>> {
        let kind: Option<String> = row.get(at!("last_error_kind"))?;
        let text: Option<String> = row.get(at!("last_error"))?;
        Ok(kind.zip(text).map(|(kind, text)| Self { kind, text }))
    }
}

/// An upload that another one waits for.
#[derive(Debug, Clone)]
pub struct Awaited {
    pub upload: UploadId,
    /// Its drop directory and its path, once they are read.
    pub file: Option<String>,
}

#[derive(Debug, Clone)]
pub struct Detail {
    pub upload: UploadShown,
    pub remote: RemoteShown,
    pub times: StageTimes,
    pub digests: FileDigests,
    /// Its receipt line.
    pub receipt: Option<LineRef>,
    /// The row of its run, where it belongs to one.
    pub run: Option<RunOfUpload>,
    /// Its export, once one was intended.
    pub export: Option<ExportShown>,
    pub parts: Vec<PartShown>,
    /// Failed attempts, the newest first.
    pub attempts: Vec<Attempt>,
}

/// The platform's ids of an upload, and its target.
#[derive(Debug, Clone)]
pub struct RemoteShown {
    pub upload_id: Option<String>,
    pub name: Option<String>,
    pub platform: String,
    /// Its present target, or that of its completion; `None` when its row is missing.
    pub target: Option<TargetAddress>,
}

/// When an upload reached its stages.
#[derive(Debug, Clone)]
pub struct StageTimes {
    pub begun_at: Option<WallTime>,
    pub verified_at: Option<WallTime>,
    pub receipted_at: Option<WallTime>,
    pub ended_at: Option<WallTime>,
    /// When its parts and attempts were removed, long after its end.
    pub pruned_at: Option<WallTime>,
}

/// Digests of a whole file.
#[derive(Debug, Clone)]
pub struct FileDigests {
    /// The digest over all parts.
    pub mark: Option<ContentMark>,
    /// MD5 of the whole file, where it was requested.
    pub md5: Option<Md5>,
    /// SHA-256 of the whole file, where it was requested.
    pub sha256: Option<[u8; 32]>,
}

/// What the receipt of an upload needs from the row of its run.
#[derive(Debug, Clone)]
pub struct RunOfUpload {
    /// The number of the first ledger for its lines.
    pub first_ledger: u32,
    /// How often it was completed.
    pub generation: u32,
    /// The ledger with the line that completes it.
    pub completed_in: Option<LedgerPath>,
}

#[derive(Debug, Clone)]
pub struct ExportShown {
    pub volume: String,
    pub location: String,
    /// `intended`, `started`, `failed` or `completed`.
    pub state: String,
    pub job: Option<String>,
    /// The last job's failure.
    pub error: Option<String>,
    pub intended_at: Option<WallTime>,
    /// When the platform had a job.
    pub started_at: Option<WallTime>,
    /// When it was known to be on the volume.
    pub exported_at: Option<WallTime>,
}

#[derive(Debug, Clone)]
pub struct PartShown {
    pub number: PartNumber,
    /// Digest of its bytes.
    pub md5: Md5,
    pub etag: ETag,
    /// It was reported to the platform.
    pub reported: bool,
    pub accepted_at: WallTime,
}

#[derive(Debug, Clone)]
pub struct Attempt {
    pub act: String,
    pub part: Option<u32>,
    /// The kind of the failure.
    pub kind: String,
    pub status: Option<u16>,
    /// The platform's id of the request.
    pub request_id: Option<String>,
    /// The message, for people.
    pub message: String,
    pub at: WallTime,
    /// When the upload continued.
    pub retry_at: Option<WallTime>,
}

impl Detail {
    /// Returns the state of each part as one letter: `w` waits, `f` is in flight, `a` is accepted,
    /// `r` is reported; a capital was sent again. Empty where the parts are not known any more.
    pub fn part_map(&self, live: &Live) -> String {
        if self.times.pruned_at.is_some() {
            return String::new();
        }
        let mut map = vec![b'w'; self.upload.part_count as usize];
        let mut set = |index: usize, letter: u8| {
            if let Some(part) = map.get_mut(index) {
                *part = letter;
            }
        };
        live.parts_of(self.upload.admission.id).for_each(|part| set(part.index(), b'f'));
        for part in &self.parts {
            set(part.number.index(), if part.reported { b'r' } else { b'a' });
        }
        for part in self.attempts.iter().filter_map(|attempt| attempt.part) {
            let index = (part as usize).saturating_sub(1);
            if let Some(part) = map.get_mut(index) {
                part.make_ascii_uppercase();
            }
        }
        map.into_iter().map(char::from).collect()
    }
}

impl Awaited {
    fn reason(&self) -> String {
        let file = self.file.as_ref().map_or(String::new(), |file| format!(", {file}"));
        format!("waits for upload {}{file}, which goes to the same place", self.upload)
    }
}

impl UploadShown {
    pub(super) fn note_orders(&mut self, orders: &[(Standing, Scope, WallTime)]) {
        let is_meant = |scope: &Scope| scope.covers(&self.admission);
        let meant = orders.iter().filter(|(_, scope, _)| is_meant(scope));
        self.ordered = meant.map(|(standing, _, _)| *standing).max();
    }

    /// Returns the contract's word for its state.
    pub fn word(&self) -> &'static str {
        match self.state.word() {
            "queued" | "sending" if self.waits_for.is_some() => "waiting",
            "queued" if self.state.wire.in_flight.0 > 0 => "sending",
            word => word,
        }
    }

    /// Counts the parts that have arrived: all of a file that was found there.
    pub fn there_count(&self) -> u32 {
        match self.word() {
            "completed" => self.part_count,
            _ => self.state.accepted_count,
        }
    }

    /// Returns the reason for its state, when it needs one.
    pub fn reason(&self) -> Option<Reason> {
        let waits = |code, text: &str| Some((Code::Wait(code), text.to_owned()));
        let said = match (&self.state.stage, self.state.hold) {
            (Stage::Ended(EndReason::SourceChanged), _) => {
                let gone = FailureKind::SourceGone.as_str();
                let is_gone = self.last_error.as_ref().is_some_and(|last| last.kind == gone);
                let code = if is_gone { WaitCode::SourceGone } else { WaitCode::SourceChanged };
                waits(code, code.sentence())
            }
            (Stage::Ended(EndReason::Abandoned), _) => {
                waits(WaitCode::GivenUp, "given up by the operator")
            }
            (_, Hold::Parked { reason }) => {
                Some((Code::Parked(reason), self.parked_because(reason)))
            }
            (_, Hold::Waiting { .. }) => {
                self.last_error.as_ref().and_then(|last| waits(WaitCode::Retrying, &last.text))
            }
            (_, Hold::None) if self.ordered == Some(Standing::GivenUp) => {
                let text = "given up, once it is known what was begun for it";
                waits(WaitCode::GivenUp, text)
            }
            (_, Hold::None) => {
                let held = self.waits_for.as_ref();
                let held = held.map(|wait| (wait.code, wait.reason.clone()));
                let is_queued = self.state.stage == Stage::Queued;
                let awaited = self.awaits.as_ref().filter(|_| is_queued && self.ordered.is_none());
                let awaited = awaited.map(Awaited::reason);
                awaited.map(|text| (Code::Wait(WaitCode::PlaceAwaited), text)).or(held)
            }
        };
        let (code, text) = said?;
        let Admission { id, destination, .. } = &self.admission;
        let (upload, destination) = (Some(*id), Some(destination.clone()));
        Some(Reason { code, text, upload, destination })
    }

    /// Returns when it continues, or is tried again, while it waits.
    pub fn retry_at(&self) -> Option<WallTime> {
        match self.state.hold {
            Hold::Waiting { until } => Some(until),
            Hold::None => self.waits_for.as_ref().and_then(|wait| wait.until),
            Hold::Parked { .. } => None,
        }
    }

    fn parked_because(&self, reason: ParkReason) -> String {
        match &self.park_detail {
            Some(detail) if detail != reason.sentence() => {
                format!("{}: {detail}", reason.sentence())
            }
            Some(_) | None => reason.sentence().to_owned(),
        }
    }
}
