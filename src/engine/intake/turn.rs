//! What a drop directory uses in one turn of the engine, and its results.

use std::collections::BTreeSet;
use std::time::Duration;

use super::act::IntakeAct;
use crate::engine::dispatch::{Dispatch, ToIntake, ToNotices, ToUpload};
use crate::engine::event::{Act, ActId};
use crate::engine::failure;
use crate::engine::flights::Flight;
use crate::engine::flights::Flights;
use crate::engine::known::KnownFiles;
use crate::engine::settings::RetrySettings;
use crate::engine::turn::Turn;
use crate::model::{
    DestinationName, DirectoryName, Disposal, DisposalDoubt, Fingerprint, IgnoreReason, KnownFile,
    Now, Observation, PathDigest, Place, Record, RootIdentity, SourcePath, StoredRun, UploadId,
};

/// Files compared at once: reading them must not slow down writers on the same disk.
const COMPARES_MAX: usize = 2;
/// Limit of runs of one drop directory that are read, get their receipt or are disposed of at once.
/// Hundreds may close in one scan, and each of these acts takes a thread, a view of the rows and
/// memory. A share that hangs uses up only its own directory's limit.
const RUN_ACTS_MAX: usize = 4;
/// Limit of runs for which destinations are asked at once.
const ASKS_MAX: usize = 2;

/// A file to send.
#[derive(Debug)]
pub(in crate::engine) struct SettledFile {
    pub(in crate::engine) path: SourcePath,
    pub(in crate::engine) place: Place,
    pub(in crate::engine) version: Fingerprint,
    pub(in crate::engine) is_unreadable: bool,
    /// Destinations that lack this version.
    pub(in crate::engine) missing: Vec<DestinationName>,
    /// Open uploads of the file.
    pub(in crate::engine) open: Vec<UploadId>,
    /// A file in this version was sent under another path.
    pub(in crate::engine) may_be_moved: bool,
}

/// A stored part of a drop directory's state.
#[derive(Debug)]
pub(in crate::engine) enum StoredPart {
    Ignored(PathDigest, IgnoreReason),
    UnreadableDirectory(SourcePath),
    Run(Box<StoredRun>),
    /// The identity of the directory when its files were last seen.
    Root(RootIdentity),
    Disposal(Disposal),
    /// A version of a file that was admitted for a destination.
    Known(KnownFile),
    /// All versions of admitted files.
    AllKnown(KnownFiles),
}

/// How an upload ended, from the view of its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum UploadEnd {
    /// The file is another version.
    Superseded,
    Receipted,
    Abandoned,
}

/// The result of a look.
#[derive(Debug, Clone, Copy)]
pub(in crate::engine) struct LookReply<'a> {
    pub(in crate::engine) observations: &'a [Observation],
    /// The identity of the drop directory.
    pub(in crate::engine) root: Option<&'a RootIdentity>,
    /// Files that writers hold open.
    pub(in crate::engine) writers: &'a BTreeSet<SourcePath>,
}

/// Whether a destination can be asked about its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Askable {
    Now,
    Closed,
    Paused,
    /// Its platform has no such call.
    Never,
    /// It is not configured.
    Unknown,
}

/// The state of the other machines that a drop directory needs.
pub(in crate::engine) struct Surroundings<'a> {
    pub retry: RetrySettings,
    pub next_upload: UploadId,
    /// Rows are being read: which files were sent is not known.
    pub is_loading: bool,
    pub is_paused: &'a dyn Fn(&SourcePath) -> bool,
    pub destination: &'a dyn Fn(&DestinationName) -> Askable,
}

/// One step of one drop directory.
pub(in crate::engine) struct IntakeTurn<'a> {
    directory: &'a DirectoryName,
    turn: &'a mut Turn,
    flights: &'a mut Flights,
    around: Surroundings<'a>,
    said: Vec<Dispatch>,
}

impl<'a> IntakeTurn<'a> {
    pub(in crate::engine) fn new(
        directory: &'a DirectoryName,
        turn: &'a mut Turn,
        flights: &'a mut Flights,
        around: Surroundings<'a>,
    ) -> Self {
        Self { directory, turn, flights, around, said: Vec::new() }
    }

    pub(in crate::engine) fn into_said(self) -> Vec<Dispatch> {
        self.said
    }

    pub(super) fn now(&self) -> Now {
        self.turn.now()
    }

    pub(super) fn directory(&self) -> DirectoryName {
        self.directory.clone()
    }

    pub(super) fn around(&self) -> &Surroundings<'a> {
        &self.around
    }

    pub(super) fn record(&mut self, record: Record) {
        self.turn.record(record);
    }

    pub(super) fn say(&mut self, what: Dispatch) {
        self.said.push(what);
    }

    /// Sends the same message to several uploads.
    pub(super) fn tell_uploads(&mut self, ids: Vec<UploadId>, what: ToUpload) {
        self.said.extend(Dispatch::uploads(ids, what));
    }

    /// Records that a path is empty, and informs the uploads of its file.
    pub(super) fn note_gone(&mut self, path: &SourcePath, open: Vec<UploadId>) {
        self.record(Record::Absent { drop: self.directory(), path: path.clone() });
        self.tell_uploads(open, ToUpload::SourceGone);
    }

    /// Reports why a run that is to be disposed of is kept; or that the doubt is gone.
    pub(super) fn doubt_found(&mut self, run: &SourcePath, doubt: Option<DisposalDoubt>) {
        let (drop, run) = (self.directory(), run.clone());
        self.say(Dispatch::Notices(ToNotices::Doubt { drop, run, doubt }));
    }

    /// Writes the health of the drop directory if it has changed.
    pub(super) fn write_health(&mut self) {
        self.say(Dispatch::Intake(self.directory.clone(), ToIntake::WriteHealth));
    }

    /// Starts an act of the drop directory.
    pub(super) fn start(&mut self, what: IntakeAct, act: Act) -> ActId {
        self.start_at(None, what, act)
    }

    /// Starts an act that calls a destination.
    pub(super) fn start_at(
        &mut self,
        destination: Option<DestinationName>,
        what: IntakeAct,
        act: Act,
    ) -> ActId {
        let flight = Flight::Intake(self.directory.clone(), what, destination);
        self.flights.start(flight, act, self.turn)
    }

    /// Returns the retry delay after this many failures.
    pub(super) fn retry_delay(&self, failure_count: u32) -> Duration {
        failure::delay(self.around.retry, failure_count, u64::from(failure_count))
    }

    pub(super) fn has_run_slot(&self) -> bool {
        self.flights.has_run_slot(self.directory)
    }

    pub(super) fn compare_slots(&self) -> usize {
        COMPARES_MAX.saturating_sub(self.flights.count(|act| matches!(act, IntakeAct::Compare(_))))
    }

    pub(super) fn ask_slots(&self) -> usize {
        ASKS_MAX.saturating_sub(self.flights.count(|act| matches!(act, IntakeAct::CheckProofs(_))))
    }

    /// Returns whether moved files of this drop directory are being searched.
    pub(super) fn is_finding_moved(&self) -> bool {
        let mut acts = self.flights.intake_acts();
        acts.any(|(of, act)| of == self.directory && matches!(act, IntakeAct::FindMoved(_)))
    }
}

impl Flights {
    fn count(&self, is_meant: impl Fn(&IntakeAct) -> bool) -> usize {
        self.intake_acts().filter(|(_, act)| is_meant(act)).count()
    }

    /// Returns whether one more act of a run may begin in a drop directory.
    pub(in crate::engine) fn has_run_slot(&self, directory: &DirectoryName) -> bool {
        self.run_act_count(directory) < RUN_ACTS_MAX
    }
}
