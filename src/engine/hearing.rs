//! What the scans of a drop directory tell of it as a whole: is it there, and do we hear of it at all.
//!
//! *Away*: the directory cannot be opened or read, or it is empty, another than the one whose files
//! are known, and so the mount point of a share that is not mounted. Then nothing in it is gone:
//! uploads that need their source wait, looks wait, and a scan is made every [`AWAY_PAUSE`] until it
//! is back. The same directory, empty, was emptied by someone. Another that holds anything is the
//! drop directory from then on.
//!
//! *Silent*: for two scan intervals no scan came to its end and none gave a sign of life. A scan that
//! hangs in the kernel never fails, so this deadline is the only thing that tells.
//!
//! Either makes the drop deaf, whatever its watch says. A scan that could not read all of it is no
//! full scan, and is said with its reason.

use std::time::Duration;

use super::event::{Outcome, Setback, Walk};
use super::files::Files;
use super::turn::Turn;
use super::units::Tracked;
use super::upload::Upload;
use super::{Engine, Flight, FlightKind};
use crate::model::{
    Disposition, DropName, Failure, FailureKind, Monotonic, Record, RootIdentity, Stage, UnitState,
};

/// How often a drop directory that is away is tried, where it is not scanned more often: the scan of
/// one ends at its first step.
const AWAY_PAUSE: Duration = Duration::from_secs(10);
/// Scan intervals without a word after which a drop is deaf.
const SILENT_INTERVALS: u32 = 2;
/// What a drop that is silent says for itself.
const SILENCE: &str = "for two scan intervals no scan has ended or shown anything: \
    does its file system answer?";

/// What is known of one drop directory as a whole.
#[derive(Debug, Default)]
pub(crate) struct Hearing {
    /// Which directory it was when its files were last seen.
    pub(crate) root: Option<RootIdentity>,
    /// Why the last scan saw nothing.
    failure: Option<String>,
    /// That scan failed because the directory is away, not because this machine is short of something.
    is_away: bool,
    /// When the last scan began.
    began: Option<Monotonic>,
    /// When a scan last showed or told anything, or the first began.
    heard_at: Option<Monotonic>,
    /// The deadline passed.
    is_silent: bool,
    /// Since when no scan has seen all of it, and whether that has lasted.
    partial: Option<(Monotonic, bool)>,
}

impl Hearing {
    /// Tells whether its files are out of reach, which says nothing about them.
    pub(crate) fn is_away(&self) -> bool {
        self.is_away
    }

    /// Returns why it is deaf, when it is.
    pub(crate) fn deafness(&self) -> Option<&str> {
        self.failure.as_deref().or(self.is_silent.then_some(SILENCE))
    }

    /// Returns how long to wait after a scan.
    pub(crate) fn pause(&self, scan_interval: Duration) -> Duration {
        if self.failure.is_some() { scan_interval.min(AWAY_PAUSE) } else { scan_interval }
    }

    /// Returns when silence becomes deafness, unless it has.
    pub(crate) fn deadline(&self, scan_interval: Duration) -> Option<Monotonic> {
        let heard_at = self.heard_at.filter(|_| !self.is_silent && self.failure.is_none())?;
        Some(heard_at.after(scan_interval.saturating_mul(SILENT_INTERVALS)))
    }

    /// Notes that a scan begins.
    pub(crate) fn begin(&mut self, now: Monotonic) {
        self.began = Some(now);
        self.heard_at.get_or_insert(now);
    }

    /// Notes that a scan ended or showed something, and tells whether that ends a silence.
    fn hear(&mut self, now: Monotonic) -> bool {
        self.heard_at = Some(now);
        std::mem::take(&mut self.is_silent)
    }

    fn lose(&mut self, reason: String, is_away: bool) {
        self.failure = Some(reason);
        self.is_away = is_away;
    }

    fn find(&mut self, root: RootIdentity) {
        self.root = Some(root);
        self.failure = None;
        self.is_away = false;
    }

    fn miss(&mut self, scan_interval: Duration, now: Monotonic) {
        let since = self.partial.map_or(now, |(since, _)| since);
        let is_long = now.since(since) >= scan_interval.saturating_mul(SILENT_INTERVALS);
        self.partial = Some((since, is_long));
    }
}

impl Files {
    /// Tells whether a scan saw the mount point of a share that is not mounted, by all signs.
    fn is_bare(&self, walk: Walk) -> bool {
        let is_another = self.hearing.root.is_some_and(|root| root != walk.root);
        walk.is_empty && is_another && self.misses_files()
    }

    /// Tells whether files should be there: all may have been disposed of.
    fn misses_files(&self) -> bool {
        let is_under_way =
            |unit: &Tracked| matches!(unit.row.state, UnitState::Open | UnitState::Closed);
        match self.settings.disposition {
            Disposition::Keep => !self.known.is_empty(),
            Disposition::Move(_) | Disposition::Delete => {
                !self.disposals.is_empty()
                    || self.units.iter().any(is_under_way)
                    || self.known.all_live().next().is_some()
            }
        }
    }

    /// Says what scans do not see, when they miss something.
    pub(crate) fn missed(&self) -> Option<String> {
        let (_, is_long) = self.hearing.partial?;
        let lasting = if is_long { ", for two scan intervals or longer" } else { "" };
        Some(format!("{}{lasting}", self.unseen()))
    }

    fn unseen(&self) -> String {
        let mut directories = self.unreadable.iter();
        match (directories.next(), directories.count()) {
            (None, _) => "some files could not be looked at for the moment".to_owned(),
            (Some(first), 0) => format!("directory {first} cannot be read"),
            (Some(first), more) => format!("directory {first} and {more} more cannot be read"),
        }
    }

    /// Returns when it wants attention by itself.
    pub(crate) fn next_deadline(&self) -> Option<Monotonic> {
        let scan = match self.scan {
            super::files::Scan::Due(at) => self.settings.is_scanned.then_some(at),
            super::files::Scan::Running(_) => None,
        };
        let silence = self.hearing.deadline(self.settings.scan_interval);
        let may_look = !self.hearing.is_away() && !self.is_looking;
        let look = self.settle.next_deadline().filter(|_| may_look);
        [scan, silence, look].into_iter().flatten().min()
    }
}

impl Upload {
    /// Tells whether it cannot go on without reading its source.
    fn needs_source(&self) -> bool {
        match &self.state.stage {
            Stage::Queued | Stage::Beginning { .. } => true,
            Stage::Sending { remote } => self.state.accepted_count < remote.part_count,
            Stage::Completing { .. }
            | Stage::Completed { .. }
            | Stage::Verified { .. }
            | Stage::Receipted { .. }
            | Stage::Ended(_) => false,
        }
    }
}

impl Engine {
    /// Tells whether an upload waits for its drop directory to be back.
    pub(super) fn waits_for_drop(&self, upload: &Upload) -> bool {
        let files = self.drops.get(&upload.admission.drop);
        files.is_some_and(|files| files.hearing.is_away()) && upload.needs_source()
    }

    /// Remembers which directories the drop directories were.
    pub(super) fn take_roots(&mut self, roots: Vec<(DropName, String, RootIdentity)>) {
        for (drop, directory, root) in roots {
            let files = self.drops.get_mut(&drop);
            if let Some(files) = files.filter(|files| files.settings.directory == directory) {
                files.hearing.root = Some(root);
            }
        }
    }

    /// Writes how a drop is doing, when that differs from what was last written.
    pub(super) fn tell_drop(&mut self, drop: &DropName, turn: &mut Turn) {
        if let Some(health) = self.drops.get_mut(drop).and_then(Files::health) {
            turn.record(Record::DropHealth(health));
        }
        self.note_hearing(drop, turn);
    }

    /// Takes a sign of life from the scan under way.
    pub(super) fn hear(&mut self, drop: &DropName, turn: &mut Turn) {
        let now = turn.now.monotonic;
        let Some(files) = self.drops.get_mut(drop) else { return };
        // What is seen may change what is said to be missed.
        if files.hearing.hear(now) || files.hearing.partial.is_some() {
            self.tell_drop(drop, turn);
        }
    }

    /// Calls drops deaf whose silence has lasted.
    pub(super) fn listen(&mut self, turn: &mut Turn) {
        let now = turn.now.monotonic;
        let mut silent = Vec::new();
        for (name, files) in &mut self.drops {
            let deadline = files.hearing.deadline(files.settings.scan_interval);
            if deadline.is_some_and(|at| at <= now) {
                files.hearing.is_silent = true;
                silent.push(name.clone());
            }
        }
        silent.iter().for_each(|drop| self.tell_drop(drop, turn));
    }

    /// Scans a drop at once whose storage failed at an act: whether it is away, a scan tells.
    pub(super) fn note_source(
        &mut self,
        flight: &Flight,
        reply: &Result<Outcome, Setback>,
        turn: &Turn,
    ) {
        let is_away = |setback: &Setback| matches!(setback.failure.kind, FailureKind::SourceAway);
        if !reply.as_ref().is_err_and(is_away) {
            return;
        }
        let upload = flight.upload.and_then(|id| self.uploads.get(&id));
        let drop = match &flight.kind {
            FlightKind::Look(drop, _)
            | FlightKind::Compare(drop, _)
            | FlightKind::FindMoved(drop, _) => Some(drop.clone()),
            FlightKind::Scan(_)
            | FlightKind::Control(_)
            | FlightKind::Report(_)
            | FlightKind::HashPart(_)
            | FlightKind::Part(..)
            | FlightKind::Whole(..)
            | FlightKind::Receipt
            | FlightKind::Abort(_)
            | FlightKind::Probe
            | FlightKind::ReadUnit(_)
            | FlightKind::UnitReceipt(_)
            | FlightKind::Dispose(_)
            | FlightKind::Finish(_)
            | FlightKind::Notify(_)
            | FlightKind::Survey
            | FlightKind::Export(..) => upload.map(|upload| upload.admission.drop.clone()),
        };
        if let Some(drop) = drop {
            self.on_scan_now(&drop, turn.now);
        }
    }

    /// A scan ended before it saw anything.
    pub(super) fn on_scan_failed(&mut self, drop: &DropName, failure: Failure, turn: &Turn) {
        let Some(files) = self.drops.get_mut(drop) else { return };
        files.hearing.hear(turn.now.monotonic);
        if !matches!(failure.kind, FailureKind::Cancelled) {
            let is_away = matches!(failure.kind, FailureKind::SourceAway);
            files.hearing.lose(failure.message, is_away);
        }
    }

    /// A scan came to its end.
    pub(super) fn on_walked(&mut self, drop: &DropName, walk: Walk, turn: &mut Turn) {
        let Some(files) = self.drops.get_mut(drop) else { return };
        files.hearing.hear(turn.now.monotonic);
        if files.is_bare(walk) {
            let directory = &files.settings.directory;
            let reason =
                format!("{directory} is empty and not the directory it was: is its share mounted?");
            files.hearing.lose(reason, true);
            return;
        }
        files.hearing.find(walk.root);
        files.is_scanned = true;
        files.free_space = walk.space.map(|space| space.free);
        let directory = files.settings.directory.clone();
        self.note_space(&directory, Some(drop), walk.space, turn);
        let Some(files) = self.drops.get_mut(drop) else { return };
        if !walk.complete {
            files.hearing.miss(files.settings.scan_interval, turn.now.monotonic);
            return;
        }
        files.hearing.partial = None;
        if files.scan_is_full {
            files.last_full_scan_at = Some(turn.now.wall);
            self.forget_unreadable(drop, turn);
        }
        self.units_scanned(drop, turn);
        self.press_disposals(drop, turn.now);
        if walk.is_empty {
            self.on_emptied(drop, turn);
        }
    }

    /// Every directory was read: none is unreadable any more.
    fn forget_unreadable(&mut self, drop: &DropName, turn: &mut Turn) {
        let Some(files) = self.drops.get_mut(drop) else { return };
        for path in std::mem::take(&mut files.unreadable) {
            files.ignored.remove(&path.digest());
            turn.record(Record::NotIgnored { drop: drop.clone(), path });
        }
    }

    /// The drop directory is there and nothing is in it: every file of it was removed by someone.
    fn on_emptied(&mut self, drop: &DropName, turn: &mut Turn) {
        let Some(files) = self.drops.get_mut(drop) else { return };
        let live: Vec<_> = files.known.all_live().collect();
        let began = files.hearing.began.unwrap_or(turn.now.monotonic);
        files.comparing.clear();
        files.unplaced.clear();
        if files.settle.forget_before(began) {
            // One of them may have come back behind the scan.
            self.on_scan_now(drop, turn.now);
        }
        live.into_iter().for_each(|id| self.on_gone(id, turn));
    }
}
