//! A read-only view of the engine, for use between its turns.

use super::flights::Flight;
use super::intake::IntakeAct;
use super::machines::Machines;
use super::transfers::{TransferAct, Transfers};
use crate::model::{DestinationName, StoredRoot, StoredUpload, UploadId};

/// Counts of the work in progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Uploads that are queued, sending or waiting.
    pub going: usize,
    /// Uploads that are parked.
    pub parked: usize,
    /// Files that are not settled.
    pub settling: usize,
}

/// See the module documentation.
#[derive(Debug, Clone, Copy)]
pub struct View<'a>(&'a Machines);

impl<'a> View<'a> {
    pub(super) fn of(machines: &'a Machines) -> Self {
        Self(machines)
    }

    /// Returns whether a part is in flight.
    pub fn has_parts_in_flight(self) -> bool {
        self.0.shared.permits.part_count() > 0
    }

    /// Returns the width of each destination.
    pub fn widths(self) -> impl Iterator<Item = (&'a DestinationName, u32)> {
        let transfers = self.0.transfers.iter();
        transfers.filter_map(move |(name, t)| Some((name, t.parts_max(&self.0.settings)?)))
    }

    /// Returns the path of an upload and its destination, as the log names it; `None` if it has ended.
    pub fn upload_shown(self, id: UploadId) -> Option<String> {
        let admission = self.0.transfers.values().find_map(|t| t.upload(id))?.admission();
        Some(format!("{} to {}", admission.file.path, admission.destination))
    }

    /// Returns whether nothing is in progress.
    pub fn is_idle(self) -> bool {
        self.0.shared.flights.is_empty()
    }

    /// Returns whether only looks and comparisons are in progress, which a stop need not wait for.
    pub fn is_landed(self) -> bool {
        let is_aside = |flight: &Flight| {
            matches!(flight, Flight::Intake(_, act, _) if act.only_reads())
                || matches!(flight, Flight::Transfers(_, TransferAct::Probe) | Flight::Survey)
        };
        self.0.shared.flights.all().all(is_aside)
    }

    /// Returns whether all stored rows are in memory.
    pub fn is_loaded(self) -> bool {
        self.0.shared.loading.is_none()
    }

    /// Returns whether any work for an upload, a run or a remote upload is in progress; scans,
    /// looks, probes and notices do not count.
    pub fn is_working(self) -> bool {
        let is_aside = |flight: &Flight| {
            matches!(
                flight,
                Flight::Intake(_, IntakeAct::Scan | IntakeAct::Look(_), _)
                    | Flight::Transfers(_, TransferAct::Probe)
                    | Flight::Notify(_)
            )
        };
        !self.is_loaded() || self.0.shared.flights.all().any(|flight| !is_aside(flight))
    }

    /// Returns whether every admitted upload has ended or is parked, and nothing settles.
    pub fn is_quiet(self) -> bool {
        self.is_loaded()
            && self.is_idle()
            && self.0.transfers.values().all(Transfers::is_quiet)
            && self.settling_count() == 0
            && self.0.notices.is_empty()
    }

    /// Returns whether a destination refuses our credential or is closed for maintenance.
    pub fn has_halted(self) -> bool {
        self.0.transfers.values().any(Transfers::is_halted)
    }

    /// Counts the work in progress, for one line of status.
    pub fn counts(self) -> Counts {
        let open: usize = self.0.transfers.values().map(|t| t.uploads().count()).sum();
        let parked = self.0.transfers.values().map(Transfers::parked_count).sum();
        Counts { going: open - parked, parked, settling: self.settling_count() }
    }

    fn settling_count(self) -> usize {
        self.0.intakes.values().map(|intake| intake.files().settling_count()).sum()
    }

    /// Returns every open upload as it would be stored, for comparison with rows.
    pub fn stored_uploads(self) -> Vec<StoredUpload> {
        let stored = self.0.transfers.values().flat_map(Transfers::stored_uploads);
        let mut stored: Vec<_> = stored.collect();
        stored.sort_by_key(|upload| upload.admission.id);
        stored
    }

    /// Returns the identities of the drop directories, including those that are not configured.
    pub fn roots(self) -> Vec<StoredRoot> {
        self.0.shared.roots.all(&self.0.intakes)
    }
}
