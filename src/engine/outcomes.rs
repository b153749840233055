//! Routes the outcome of each act to what asked for it, and what a destination finds to whom it concerns.

use super::claims::PlaceDigest;
use super::event::{ActId, Outcome, Setback};
use super::transfers::{Around, TransferFinding, TransferTurn, Transfers, Upload, UploadEnded};
use super::turn::Turn;
use super::{Engine, Flight};
use crate::model::{DestinationName, Fact, Reply, UploadId};

impl Engine {
    pub(super) fn on_outcome(
        &mut self,
        act: ActId,
        reply: Result<Outcome, Setback>,
        turn: &mut Turn,
    ) {
        let Some(flight) = self.shared.flights.remove(act) else { return };
        match flight {
            Flight::Intake(drop, what, destination) => {
                if let Some(name) = destination {
                    self.with_transfers(&name, turn, |t, turn| t.note_reply(act, &reply, turn));
                }
                self.note_source(&drop, &what, &reply, turn.now);
                self.on_intake_reply(&drop, (act, &what), reply, turn);
            }
            Flight::Transfers(name, what) => {
                let reply = reply.map(|outcome| self.without_used(what.upload(), outcome));
                self.with_transfers(&name, turn, |t, turn| t.on_reply(act, what, reply, turn));
            }
            Flight::Notify(id) => self.notices.answered(id, reply.err(), turn),
            Flight::Survey => self.notices.surveyed(reply, turn.now),
            Flight::ReadRows => self.on_rows_read(act, reply, turn),
        }
    }

    /// Leaves out remote uploads that other uploads of ours are using: never adopted, never removed.
    fn without_used(&self, except: Option<UploadId>, outcome: Outcome) -> Outcome {
        let Outcome::Replied(Reply::BegunFound(mut found)) = outcome else { return outcome };
        found.retain(|remote| {
            let mut all = self.transfers.values().flat_map(Transfers::uploads);
            !all.any(|upload| {
                let used = upload.state.stage.remote();
                Some(upload.id()) != except && used.is_some_and(|used| used.id == remote.id)
            })
        });
        Outcome::Replied(Reply::BegunFound(found))
    }

    /// Returns the uploads of a destination; one that was not there has none yet.
    pub(super) fn add_transfers(&mut self, name: &DestinationName) -> &mut Transfers {
        let none = || Transfers::new(name.clone());
        self.transfers.entry(name.clone()).or_insert_with(none)
    }

    /// Lets a destination take a step, and acts on what it finds.
    pub(super) fn with_transfers<R>(
        &mut self,
        name: &DestinationName,
        turn: &mut Turn,
        step: impl FnOnce(&mut Transfers, &mut TransferTurn<'_>) -> R,
    ) -> Option<R> {
        let transfers = self.transfers.get_mut(name)?;
        let around = Around {
            settings: &self.settings,
            intakes: &self.intakes,
            orders: &self.orders,
            loading: self.loading.as_ref(),
        };
        let mut lent = TransferTurn::new(turn, &mut self.shared, around);
        let returned = step(transfers, &mut lent);
        for finding in lent.into_findings() {
            self.on_transfer_finding(name, finding, turn);
        }
        Some(returned)
    }

    /// Lets every destination take a step.
    pub(super) fn with_all_transfers(
        &mut self,
        turn: &mut Turn,
        step: impl Fn(&mut Transfers, &mut TransferTurn<'_>),
    ) {
        let names: Vec<_> = self.transfers.keys().cloned().collect();
        for name in names {
            self.with_transfers(&name, turn, &step);
        }
    }

    /// Lets the destination of an upload take a step; none when there is no such upload.
    pub(super) fn with_owner<R>(
        &mut self,
        id: UploadId,
        turn: &mut Turn,
        step: impl FnOnce(&mut Transfers, &mut TransferTurn<'_>) -> R,
    ) -> Option<R> {
        let mut transfers = self.transfers.iter();
        let (name, _) = transfers.find(|(_, transfers)| transfers.upload(id).is_some())?;
        self.with_transfers(&name.clone(), turn, step)
    }

    /// Lets the destination of each of these uploads take a step with it.
    pub(super) fn with_owners(
        &mut self,
        ids: impl IntoIterator<Item = UploadId>,
        turn: &mut Turn,
        step: impl Fn(&mut Transfers, UploadId, &mut TransferTurn<'_>),
    ) {
        for id in ids {
            self.with_owner(id, turn, |transfers, turn| step(transfers, id, turn));
        }
    }

    /// Records a fact about an upload.
    pub(super) fn record(&mut self, id: UploadId, fact: Fact, turn: &mut Turn) {
        self.with_owner(id, turn, |transfers, turn| transfers.record(id, fact, turn));
    }

    /// Returns an upload that has not ended.
    pub(super) fn upload(&self, id: UploadId) -> Option<&Upload> {
        self.transfers.values().find_map(|transfers| transfers.upload(id))
    }

    /// Returns the uploads that have not ended, in order.
    pub(super) fn upload_ids(&self) -> Vec<UploadId> {
        let all = self.transfers.values().flat_map(Transfers::uploads);
        let mut ids: Vec<_> = all.map(Upload::id).collect();
        ids.sort_unstable();
        ids
    }

    fn on_transfer_finding(
        &mut self,
        name: &DestinationName,
        finding: TransferFinding,
        turn: &mut Turn,
    ) {
        match finding {
            TransferFinding::Ended(ended) => self.on_ended(ended, turn),
            TransferFinding::Freed(place) => self.hand_over(place, turn),
            TransferFinding::Missing(id) => {
                if let Some(loading) = &mut self.loading {
                    loading.misses(id);
                }
            }
            TransferFinding::SourceAway(drop) => self.on_scan_now(&drop, turn.now),
            TransferFinding::Answering => self.notices.destination_answered(name),
        }
    }

    /// An upload has ended: its orders are over, and its file and run may go on.
    fn on_ended(&mut self, ended: UploadEnded, turn: &mut Turn) {
        self.orders.ended(ended.ticket.id, turn);
        if ended.ticket.is_sentinel {
            return;
        }
        if let Some(intake) = self.intakes.get_mut(&ended.ticket.drop) {
            intake.left(&ended.ticket, turn.now.monotonic);
        }
        match &mut self.loading {
            Some(loading) => loading.ended(ended),
            None => self.end_known(&ended, turn),
        }
    }

    /// Notes what the end of an upload means for its file.
    pub(super) fn end_known(&mut self, ended: &UploadEnded, turn: &mut Turn) {
        let UploadEnded { ticket, end } = ended;
        self.with_intake(&ticket.drop, turn, |intake, turn| intake.ended(ticket, *end, turn));
    }

    /// A place was given up: the upload that has waited longest for it has it from here on.
    fn hand_over(&mut self, place: PlaceDigest, turn: &mut Turn) {
        let next = self.shared.claims.waiting(place).first().copied();
        let is_free = self.shared.claims.holder(place).is_none();
        if let Some(next) = next.filter(|_| is_free) {
            self.with_owners([next], turn, Transfers::claim);
            self.with_owners([next], turn, Transfers::place);
        }
        self.name_holder(place, turn);
    }

    /// Has the rows of all that wait for a place name the upload that holds it.
    pub(super) fn name_holder(&mut self, place: PlaceDigest, turn: &mut Turn) {
        let Some(holder) = self.shared.claims.holder(place) else { return };
        for id in self.shared.claims.waiting(place) {
            self.with_owner(id, turn, |t, turn| t.await_place(id, Some(holder), turn));
        }
    }

    /// Finds the targets of every destination; what is to be removed at one that is there again is queued.
    pub(super) fn assign_targets(&mut self, turn: &mut Turn) {
        self.with_all_transfers(turn, Transfers::assign_target);
        for what in self.shared.targets.take_cleanups() {
            let name = what.destination.clone();
            self.add_transfers(&name);
            self.with_transfers(&name, turn, |t, turn| t.queue_cleanup(what, turn));
        }
    }
}
