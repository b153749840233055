//! What a snapshot shows, as plain values, and the contract's words for it.

use super::{ParkedUploads, RunShown, RunTallyShown, Selection, StaleRun, StuckUploads};
use crate::model::remote::ContentMark;
use crate::model::{
    Admission, Code, DamagedLedger, ETag, EndReason, FailureKind, FormerTarget, Hold, IgnoreReason,
    Learned, LedgerPath, LineRef, Live, Md5, ParkReason, PartNumber, Reason, Scope, SourcePath,
    Stage, Standing, TargetAddress, UploadId, UploadState, WaitCode, WallTime,
};
use crate::store::care::Cared;

#[derive(Debug, Clone, Default)]
pub struct Status {
    pub selection: Selection,
    /// What it shows was so at that time.
    pub read_at: WallTime,
    pub process: ProcessShown,
    pub places: PlacesShown,
    pub trouble: TroubleShown,
    pub counts: FileCounts,
    /// Notices that are still to be sent.
    pub notices: NoticesShown,
    /// What operators ordered, and since when.
    pub orders: Vec<(Standing, Scope, WallTime)>,
    /// Drops as runs, the newest first.
    pub runs: Vec<RunShown>,
    /// How far the files are that are runs of their own, by drop directory.
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
    /// Process, version and start of the daemon that last ran.
    pub daemon: Option<DaemonShown>,
    /// What the running daemon said; none when none runs or answers.
    pub live: Option<Live>,
}

/// Where files come from and go to.
#[derive(Debug, Clone, Default)]
pub struct PlacesShown {
    pub drops: Vec<DropShown>,
    pub destinations: Vec<DestinationShown>,
    /// What was completed at targets that their destinations no longer have.
    pub former_targets: Vec<FormerTarget>,
}

/// What does not go on by itself, or not soon.
#[derive(Debug, Clone, Default)]
pub struct TroubleShown {
    /// What is parked, by what it belongs to and why.
    pub parked: Vec<ParkedUploads>,
    /// Uploads that are tried in vain for long.
    pub stuck: Vec<StuckUploads>,
    /// Runs that are open for long.
    pub stale: Vec<StaleRun>,
}

/// How many files are where.
#[derive(Debug, Clone, Default)]
pub struct FileCounts {
    /// Uploads by the word for their state.
    pub tallies: Vec<Tally>,
    /// Files seen and not yet quiet.
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
    /// Ledgers of receipts that are not as the rows know them.
    pub damaged_ledgers: Vec<DamagedLedger>,
}

/// Notices that are still to be sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NoticesShown {
    pub waiting_count: u64,
    /// Why the oldest that failed was not taken.
    pub failure: Option<String>,
    /// How many of the last thirty days were given up, for their receiver refused them.
    pub given_up_count: u64,
    /// By which channel the last of these was to go, and why it was refused.
    pub given_up_why: Option<String>,
}

/// Paths that are not uploaded.
#[derive(Debug, Clone, Default)]
pub struct IgnoredShown {
    pub count: u64,
    /// Some of them: which, and why.
    pub listed: Vec<Ignored>,
}

#[derive(Debug, Clone)]
pub struct Ignored {
    pub drop: String,
    pub path: SourcePath,
    pub reason: IgnoreReason,
}

/// Who runs or last ran.
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
    /// It is throttled by our own keeping to its limit of calls.
    pub is_paced: bool,
    /// Its clock minus ours.
    pub clock_behind_ns: i64,
    /// What the answers of its target have shown, for good.
    pub learned: Vec<Learned>,
    /// How many attempts failed, by the kind of the failure.
    pub failures: Vec<(String, u64)>,
}

/// What an upload waits for that is not its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    pub code: Code,
    /// What it is, for people.
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
    /// Bytes sent for them, also in vain.
    pub bytes_sent: u64,
    /// Bytes of these that were sent more than once.
    pub bytes_sent_again: u64,
    /// Bytes of these in flight, or that were when the daemon ended.
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
    pub last_error: Option<String>,
    pub remote_id: Option<String>,
    pub completed_at: Option<WallTime>,
    pub ordered: Option<Standing>,
    /// What it waits for together with all others of its destination.
    pub waits_for: Option<Wait>,
    /// The upload that holds the place which this one is to have.
    pub awaits: Option<Awaited>,
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
    /// The line that is its receipt.
    pub receipt: Option<LineRef>,
    /// What the row of its run says, where it is a file of one.
    pub run: Option<RunOfUpload>,
    /// Its export, once one was intended.
    pub export: Option<ExportShown>,
    pub parts: Vec<PartShown>,
    /// Failed attempts, the newest first.
    pub attempts: Vec<Attempt>,
}

/// What the far side calls an upload, and where it is.
#[derive(Debug, Clone)]
pub struct RemoteShown {
    pub upload_id: Option<String>,
    pub name: Option<String>,
    pub platform: String,
    /// The target that it goes to, or was completed at; none when its row is not there.
    pub target: Option<TargetAddress>,
}

/// When an upload came to its stages.
#[derive(Debug, Clone)]
pub struct StageTimes {
    pub begun_at: Option<WallTime>,
    pub verified_at: Option<WallTime>,
    pub receipted_at: Option<WallTime>,
    pub ended_at: Option<WallTime>,
    /// When its parts and attempts were removed, for it ended long ago.
    pub pruned_at: Option<WallTime>,
}

/// Digests of a whole file.
#[derive(Debug, Clone)]
pub struct FileDigests {
    /// The digest over all parts.
    pub mark: Option<ContentMark>,
    /// MD5 of the whole file, where it was asked for.
    pub md5: Option<Md5>,
    /// SHA-256 of the whole file, where it was asked for.
    pub sha256: Option<[u8; 32]>,
}

/// What the receipt of an upload takes from the row of its run.
#[derive(Debug, Clone)]
pub struct RunOfUpload {
    /// The number of the first ledger for its lines.
    pub first_ledger: u32,
    /// How often it was completed.
    pub generation: u32,
    /// The ledger with the line that says that it is completed.
    pub completed_in: Option<LedgerPath>,
}

#[derive(Debug, Clone)]
pub struct ExportShown {
    pub volume: String,
    pub location: String,
    /// `intended`, `started`, `failed` or `completed`.
    pub state: String,
    pub job: Option<String>,
    /// How the last job failed.
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
    /// The platform was told.
    pub reported: bool,
    pub accepted_at: WallTime,
}

#[derive(Debug, Clone)]
pub struct Attempt {
    pub act: String,
    pub part: Option<u32>,
    /// How it failed, for policy.
    pub kind: String,
    pub status: Option<u16>,
    /// The platform's id of the request.
    pub request_id: Option<String>,
    /// How it failed, for people.
    pub message: String,
    pub at: WallTime,
    /// When the upload went on.
    pub retry_at: Option<WallTime>,
}

impl Detail {
    /// Returns the state of each part as one letter: `w` waits, `f` is in flight, `a` is accepted, `r` is
    /// reported; a capital was sent again. It is empty where the parts are not known any more.
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
        match (&self.state.stage, self.state.hold) {
            (Stage::Receipted { .. }, _) => "completed",
            (Stage::Ended(_), _) => "abandoned",
            (_, Hold::Parked { .. }) => "parked",
            (_, Hold::Waiting { .. }) => "waiting",
            (_, Hold::None) if self.waits_for.is_some() => "waiting",
            (Stage::Queued, Hold::None) if self.state.wire.in_flight.0 > 0 => "sending",
            (Stage::Queued, Hold::None) => "queued",
            (
                Stage::Beginning { .. }
                | Stage::Sending { .. }
                | Stage::Completing { .. }
                | Stage::Completed { .. }
                | Stage::Verified { .. },
                Hold::None,
            ) => "sending",
        }
    }

    /// Counts parts that are there: all of a file that was there without being sent.
    pub fn there_count(&self) -> u32 {
        match self.word() {
            "completed" => self.part_count,
            _ => self.state.accepted_count,
        }
    }

    /// Returns why it is where it is, when that needs a reason.
    pub fn reason(&self) -> Option<Reason> {
        let waits = |code, text: &str| Some((Code::Wait(code), text.to_owned()));
        let said = match (&self.state.stage, self.state.hold) {
            (Stage::Ended(EndReason::SourceChanged), _) => {
                let gone = format!("({})", FailureKind::SourceGone.as_str());
                let is_gone = self.last_error.as_ref().is_some_and(|why| why.ends_with(&gone));
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
                self.last_error.as_ref().and_then(|error| waits(WaitCode::Retrying, error))
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
