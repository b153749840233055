//! What the scans of a drop directory tell of it as a whole: is it there, and do we hear of it at all.
//!
//! *Away*: the directory cannot be opened or read, or another one stands at its path than the one whose
//! files are known: a link, another share, the mount point of a share that is not mounted. Then nothing
//! in it is gone: uploads that need their source wait, looks wait, and a scan is made every
//! [`AWAY_PAUSE`] until it is back, or an operator accepts the other one. The same directory, empty, was
//! emptied by someone. As long as no file was ever seen, what is mounted at its path is taken as it is.
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
use super::upload::Upload;
use super::{Engine, Flight, FlightKind};
use crate::model::{
    DirectoryName, Fact, Failure, FailureKind, Hold, Monotonic, Observation, Record, RootIdentity,
    Seen, Stage,
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
    /// Which directory it has to be, once files of it were seen.
    pub(crate) root: Option<RootIdentity>,
    /// Another one that stands at its path.
    other: Option<RootIdentity>,
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
    pub(super) fn hear(&mut self, now: Monotonic) -> bool {
        self.heard_at = Some(now);
        std::mem::take(&mut self.is_silent)
    }

    fn lose(&mut self, reason: String, is_away: bool) {
        self.failure = Some(reason);
        self.is_away = is_away;
    }

    /// Notes that the directory is there, and which it is where anything is in it.
    fn find(&mut self, root: RootIdentity, is_empty: bool) {
        if !is_empty {
            self.root.get_or_insert(root);
        }
        self.other = None;
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

    /// Returns which directories the drop directories were, those that are not configured included.
    pub fn roots(&self) -> Vec<(DirectoryName, String, RootIdentity)> {
        let known = |(name, files): (&DirectoryName, &Files)| {
            let root = files.hearing.root.clone()?;
            Some((name.clone(), files.settings.directory.clone(), root))
        };
        self.drops.iter().filter_map(known).chain(self.gone_roots.iter().cloned()).collect()
    }

    /// Remembers which directories the drop directories were, also of those that are not configured:
    /// they may be again by another configuration.
    pub(super) fn take_roots(&mut self, roots: Vec<(DirectoryName, String, RootIdentity)>) {
        self.gone_roots.clear();
        for (drop, directory, root) in roots {
            let files = self.drops.get_mut(&drop);
            match files.filter(|files| files.settings.directory == directory) {
                Some(files) => files.hearing.root = Some(root),
                None => self.gone_roots.push((drop, directory, root)),
            }
        }
    }

    /// Writes how a drop is doing, when that differs from what was last written.
    pub(super) fn tell_drop(&mut self, drop: &DirectoryName, turn: &mut Turn) {
        if let Some(health) = self.drops.get_mut(drop).and_then(Files::health) {
            turn.record(Record::DirectoryHealth(health));
        }
        self.note_hearing(drop, turn);
    }

    /// Notes which directory it is that files are seen in before a scan of it has ended.
    pub(super) fn note_root(
        &mut self,
        drop: &DirectoryName,
        root: Option<RootIdentity>,
        observations: &[Observation],
    ) {
        let is_file = |one: &Observation| matches!(one.seen, Seen::File(_) | Seen::Unreadable(..));
        let files = self.drops.get_mut(drop).filter(|files| files.settings.is_scanned);
        if let (Some(files), Some(root)) = (files, root)
            && observations.iter().any(is_file)
        {
            files.hearing.root.get_or_insert(root);
        }
    }

    /// Takes a sign of life from the scan under way.
    pub(super) fn hear(&mut self, drop: &DirectoryName, turn: &mut Turn) {
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
            FlightKind::Intake(drop, act) => act.reads_files().then(|| drop.clone()),
            FlightKind::Control(_)
            | FlightKind::Report(_)
            | FlightKind::HashPart(_)
            | FlightKind::Part(..)
            | FlightKind::Whole(..)
            | FlightKind::Receipt
            | FlightKind::Abort(_)
            | FlightKind::Probe
            | FlightKind::Finish(_)
            | FlightKind::Notify(_)
            | FlightKind::Survey
            | FlightKind::ReadRows
            | FlightKind::Export(..) => upload.map(|upload| upload.admission.drop.clone()),
        };
        if let Some(drop) = drop {
            self.on_scan_now(&drop, turn.now);
        }
    }

    /// A scan ended before it saw anything.
    pub(super) fn on_scan_failed(&mut self, drop: &DirectoryName, failure: Failure, turn: &Turn) {
        let Some(files) = self.drops.get_mut(drop) else { return };
        files.hearing.hear(turn.now.monotonic);
        if !matches!(failure.kind, FailureKind::Cancelled) {
            let is_away = matches!(failure.kind, FailureKind::SourceAway);
            files.hearing.lose(failure.message, is_away);
        }
    }

    /// A scan ended at another directory than the one whose files are known.
    pub(super) fn on_other_root(
        &mut self,
        drop: &DirectoryName,
        other: (RootIdentity, String),
        turn: &Turn,
    ) {
        let Some(files) = self.drops.get_mut(drop) else { return };
        let (root, reason) = other;
        files.hearing.hear(turn.now.monotonic);
        files.hearing.lose(reason, true);
        files.hearing.other = Some(root);
    }

    /// An operator accepts the other directory that stands at the path; tells whether there is one.
    pub(super) fn accept_root(&mut self, drop: &DirectoryName, turn: &mut Turn) -> bool {
        let other = self.drops.get_mut(drop).and_then(|files| {
            let other = files.hearing.other.take()?;
            files.hearing.root = Some(other);
            Some(())
        });
        if other.is_some() {
            self.on_scan_now(drop, turn.now);
            self.tell_drop(drop, turn);
        }
        other.is_some()
    }

    /// A scan came to its end.
    pub(super) fn on_walked(&mut self, drop: &DirectoryName, walk: Walk, turn: &mut Turn) {
        let Some(files) = self.drops.get_mut(drop) else { return };
        files.hearing.hear(turn.now.monotonic);
        let was_away = files.hearing.is_away();
        files.hearing.find(walk.root, walk.is_empty);
        files.is_scanned = true;
        files.free_space = walk.space.map(|space| space.free);
        let directory = files.settings.directory.clone();
        if was_away {
            self.release_readers(drop, turn);
        }
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
        self.runs_scanned(drop, turn);
        self.press_disposals(drop, turn.now);
        if walk.is_empty {
            self.on_emptied(drop, turn);
        }
    }

    /// What waited because its file could not be read goes on: its whole drop directory was away.
    fn release_readers(&mut self, drop: &DirectoryName, turn: &mut Turn) {
        let waits = |upload: &Upload| {
            upload.admission.drop == *drop
                && upload.life.failing_since.is_some()
                && matches!(upload.state.hold, Hold::Waiting { .. })
        };
        let waiting = self.uploads.iter().filter(|(_, upload)| waits(upload));
        let ids: Vec<_> = waiting.map(|(id, _)| *id).collect();
        ids.into_iter().for_each(|id| self.record(id, Fact::Released, turn));
    }

    /// Every directory was read: none is unreadable any more.
    fn forget_unreadable(&mut self, drop: &DirectoryName, turn: &mut Turn) {
        let Some(files) = self.drops.get_mut(drop) else { return };
        for path in std::mem::take(&mut files.unreadable) {
            files.ignored.remove(&path.digest());
            turn.record(Record::NotIgnored { drop: drop.clone(), path });
        }
    }

    /// The drop directory is there and nothing is in it: every file of it was removed by someone.
    fn on_emptied(&mut self, drop: &DirectoryName, turn: &mut Turn) {
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
