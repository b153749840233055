//! What operators order: pause, resume, retry, abandon, resend, hand files in.
//!
//! An order is an event ([`super::Event::Ordered`]), its answer an effect ([`Effect::Answer`]) behind the
//! commit of what it changed.
//!
//! A pause is a row, and holds until it is resumed. What is in flight may land; nothing of what is paused
//! starts: no call at a paused destination, no disposal in a paused drop directory. Files are still
//! observed and admitted.
//!
//! An upload that is given up ends at once where it is known what was begun for it; that is queued for
//! removal. Otherwise the order is a row until the platform has said what it has.
//!
//! *At a crash* an order is whole or was never given: it is committed before it is answered.
//!
//! [`Effect::Answer`]: super::event::Effect::Answer

use std::collections::BTreeSet;

use super::Engine;
use super::answer::Answer;
use super::handed::HandedFile;
use super::ticket::Ticket;
use super::turn::Turn;
use super::upload::Upload;
use crate::model::{
    Catalogued, DestinationName, DirectoryName, Fact, Hold, Now, OrderChange, OrderRecord,
    ParkReason, Record, Scope, SourcePath, Standing, UploadId, Verb, WallTime,
};

/// Names one order, so that its answer finds the operator who gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct OrderId(pub u64);

/// Something an operator orders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Pauses, resumes, retries, gives up, or accepts other directories.
    Set {
        /// What is to be done.
        verb: Verb,
        scopes: Vec<Scope>,
    },
    /// Sends to a destination's target what its former targets hold, as far as the sources are here.
    Resend { to: DestinationName },
    /// Admits files from outside the drop directories.
    HandIn {
        files: Vec<HandedFile>,
        /// What the rows know of them.
        known: Catalogued,
        to: DestinationName,
    },
}

/// What became of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrderAnswer {
    /// What changed, for each scope in order.
    Changed(Vec<OrderChange>),
    /// The rows of the former targets are read, and their files admitted again.
    Resending,
    /// Each file with its upload; none where this version was handed in for the destination before.
    HandedIn(Vec<(SourcePath, Option<UploadId>)>),
    /// No destination has this name.
    UnknownDestination(DestinationName),
}

#[derive(Debug, Default)]
pub(crate) struct Pauses(BTreeSet<Scope>);

impl Pauses {
    /// Tells whether an upload may not start anything.
    pub(super) fn cover(&self, upload: &Ticket) -> bool {
        !self.0.is_empty()
            && (self.stops(&upload.destination)
                || self.0.contains(&Scope::Upload(upload.id))
                || self.cover_run(&upload.drop, &upload.run))
    }

    /// Tells whether no call may be made at a destination.
    pub(super) fn stops(&self, destination: &DestinationName) -> bool {
        !self.0.is_empty()
            && (self.0.contains(&Scope::All)
                || self.0.contains(&Scope::Destination(destination.clone())))
    }

    /// Tells whether nothing may be done with a run.
    pub(super) fn cover_run(&self, drop: &DirectoryName, run: &SourcePath) -> bool {
        !self.0.is_empty()
            && (self.0.contains(&Scope::All)
                || self.0.contains(&Scope::Drop(drop.clone()))
                || self.0.contains(&Scope::Run(drop.clone(), run.clone())))
    }
}

impl Engine {
    /// Takes the orders that stand, as they were stored.
    pub(super) fn take_orders(&mut self, orders: Vec<(Standing, Scope, WallTime)>) {
        for (standing, scope, _) in orders {
            match (standing, scope) {
                (Standing::Paused, scope) => {
                    self.pauses.0.insert(scope);
                }
                (Standing::GivenUp, Scope::Upload(id)) => {
                    self.given_up.insert(id);
                }
                (Standing::GivenUp, _) => {}
            }
        }
    }

    /// Carries out an order, and answers it.
    pub(super) fn on_ordered(&mut self, id: OrderId, order: Order, turn: &mut Turn) {
        let answer = match order {
            Order::Set { verb, scopes } => {
                let changes = scopes.into_iter().map(|scope| self.change(verb, scope, turn));
                OrderAnswer::Changed(changes.collect())
            }
            Order::Resend { to } | Order::HandIn { to, .. } if !self.gates.contains_key(&to) => {
                OrderAnswer::UnknownDestination(to)
            }
            Order::Resend { to } => {
                self.resend(&to, turn);
                OrderAnswer::Resending
            }
            Order::HandIn { files, known, to } => {
                OrderAnswer::HandedIn(self.hand_in(files, &known, &to, turn))
            }
        };
        turn.answer(id, answer);
    }

    fn change(&mut self, verb: Verb, scope: Scope, turn: &mut Turn) -> OrderChange {
        let is_known = match verb {
            Verb::Pause | Verb::Resume | Verb::Retry | Verb::Abandon => self.knows(&scope),
            Verb::AcceptRoot => self.accept_roots(&scope, turn),
        };
        let count = if is_known { self.carry_out(verb, &scope, turn) } else { 0 };
        OrderChange { of: scope, is_known, upload_count: count as u64 }
    }

    fn knows(&self, scope: &Scope) -> bool {
        match scope {
            Scope::All => true,
            Scope::Destination(name) => self.gates.contains_key(name),
            Scope::Drop(name) => self.intakes.contains_key(name),
            Scope::Run(drop, run) => {
                self.intakes.get(drop).is_some_and(|intake| intake.runs().row(run).is_some())
                    || self.uploads.values().any(|upload| is_in(upload, scope))
            }
            Scope::Upload(id) => self.uploads.contains_key(id),
        }
    }

    fn carry_out(&mut self, verb: Verb, scope: &Scope, turn: &mut Turn) -> usize {
        let ids = if let Scope::Upload(id) = scope {
            vec![*id]
        } else {
            let uploads = self.uploads.iter();
            uploads.filter(|(_, upload)| is_in(upload, scope)).map(|(id, _)| *id).collect()
        };
        match verb {
            Verb::Pause => self.pause(scope, &ids, turn),
            Verb::Resume => self.resume(scope, &ids, turn),
            Verb::Retry => self.retry(scope, &ids, turn),
            Verb::Abandon => {
                ids.iter().for_each(|id| self.note_given_up(*id));
                self.abandon(&ids, turn)
            }
            Verb::AcceptRoot => ids.len(),
        }
    }

    /// Accepts the other directories that stand at paths; tells whether there were any.
    fn accept_roots(&mut self, scope: &Scope, turn: &mut Turn) -> bool {
        let drops: Vec<_> = match scope {
            Scope::All => self.intakes.keys().cloned().collect(),
            Scope::Drop(drop) => vec![drop.clone()],
            Scope::Destination(_) | Scope::Run(..) | Scope::Upload(_) => Vec::new(),
        };
        let mut accept = |drop: &&DirectoryName| {
            self.with_intake(drop, turn, |intake, turn| intake.accept_root(turn)) == Some(true)
        };
        drops.iter().filter(|drop| accept(drop)).count() > 0
    }

    fn pause(&mut self, scope: &Scope, ids: &[UploadId], turn: &mut Turn) -> usize {
        if self.pauses.0.insert(scope.clone()) {
            let (standing, scope) = (Standing::Paused, scope.clone());
            turn.record(Record::Order(OrderRecord::Stands { standing, scope, at: turn.now.wall }));
        }
        ids.iter().for_each(|id| self.place(*id, turn));
        ids.len()
    }

    /// Takes a pause back; taking back the pause of everything takes back every pause.
    fn resume(&mut self, scope: &Scope, ids: &[UploadId], turn: &mut Turn) -> usize {
        let over: Vec<_> = match *scope == Scope::All {
            true => std::mem::take(&mut self.pauses.0).into_iter().collect(),
            false => self.pauses.0.take(scope).into_iter().collect(),
        };
        for scope in over {
            turn.record(Record::Order(OrderRecord::Over { standing: Standing::Paused, scope }));
        }
        ids.iter().for_each(|id| self.place(*id, turn));
        let is_free = |id: &&UploadId| {
            self.uploads.get(id).is_some_and(|upload| !self.pauses.cover(&upload.admission))
        };
        ids.iter().filter(is_free).count()
    }

    fn retry(&mut self, scope: &Scope, ids: &[UploadId], turn: &mut Turn) -> usize {
        let lifted = self.retry_gates(scope, turn.now);
        let drops: Vec<_> = match scope {
            Scope::All => self.intakes.keys().cloned().collect(),
            Scope::Drop(drop) | Scope::Run(drop, _) => vec![drop.clone()],
            Scope::Destination(_) | Scope::Upload(_) => Vec::new(),
        };
        drops.iter().for_each(|drop| self.on_scan_now(drop, turn.now));
        if *scope == Scope::All {
            self.notices.retry(turn.now.monotonic);
        }
        ids.iter().filter(|id| self.retry_upload(**id, &lifted, turn)).count()
    }

    /// Ends the waits of closed destinations, also those that the far side asked for: the operator may
    /// know better. Returns which had one.
    fn retry_gates(&mut self, scope: &Scope, now: Now) -> BTreeSet<DestinationName> {
        let is_meant = |name: &DestinationName| match scope {
            Scope::All => true,
            Scope::Destination(asked) => asked == name,
            Scope::Drop(_) | Scope::Run(..) | Scope::Upload(_) => false,
        };
        let meant = self.gates.iter_mut().filter(|(name, _)| is_meant(name));
        let lifted = meant.filter_map(|(name, gate)| gate.lift(now.monotonic).then_some(name));
        lifted.cloned().collect()
    }

    /// Has an upload go on, and tells whether something had held it up.
    fn retry_upload(
        &mut self,
        id: UploadId,
        lifted: &BTreeSet<DestinationName>,
        turn: &mut Turn,
    ) -> bool {
        let Some(upload) = self.uploads.get_mut(&id) else { return false };
        upload.hurry();
        let is_released = match upload.state.hold {
            Hold::Waiting { .. } => true,
            Hold::Parked { reason } => reason != ParkReason::NotConfigured,
            Hold::None => return lifted.contains(&upload.admission.destination),
        };
        if is_released {
            self.record(id, Fact::Released, turn);
        }
        is_released
    }

    /// A run of which something was given up is not all there, and says so.
    fn note_given_up(&mut self, id: UploadId) {
        let Some(upload) = self.uploads.get(&id).filter(|_| !self.given_up.contains(&id)) else {
            return;
        };
        if let Some(intake) = self.intakes.get_mut(&upload.admission.drop) {
            intake.given_up(&upload.admission);
        }
    }

    fn abandon(&mut self, ids: &[UploadId], turn: &mut Turn) -> usize {
        for id in ids {
            let Some(upload) = self.uploads.get_mut(id) else { continue };
            let can_ask = self.gates.contains_key(&upload.admission.destination);
            let answer = upload.give_up(can_ask, turn.now);
            let is_over = answer.facts.iter().any(|fact| matches!(fact, Fact::Abandoned { .. }));
            if !is_over && self.given_up.insert(*id) {
                let (standing, scope) = (Standing::GivenUp, Scope::Upload(*id));
                turn.record(Record::Order(OrderRecord::Stands {
                    standing,
                    scope,
                    at: turn.now.wall,
                }));
            }
            self.settle_answer(*id, answer, turn);
        }
        ids.len()
    }

    /// Tells whether an upload may not start anything. One that is given up has a question left.
    pub(super) fn is_paused(&self, id: UploadId) -> bool {
        // Asked whenever an upload moves, and there is hardly ever a pause.
        if self.pauses.0.is_empty() {
            return false;
        }
        let upload = self.uploads.get(&id);
        upload.is_some_and(|upload| self.pauses.cover(&upload.admission))
            && !self.given_up.contains(&id)
    }

    /// Marks a loaded upload that was given up before it was known what was begun for it.
    pub(super) fn give_up_stored(&mut self, id: UploadId, turn: &mut Turn) {
        if self.given_up.contains(&id) {
            self.abandon(&[id], turn);
        }
    }

    /// An upload has ended: nothing stands of it any more.
    pub(super) fn end_orders(&mut self, id: UploadId, turn: &mut Turn) {
        let scope = Scope::Upload(id);
        if self.given_up.remove(&id) {
            let scope = scope.clone();
            turn.record(Record::Order(OrderRecord::Over { standing: Standing::GivenUp, scope }));
        }
        if self.pauses.0.remove(&scope) {
            turn.record(Record::Order(OrderRecord::Over { standing: Standing::Paused, scope }));
        }
    }

    /// Another limit of bytes per second holds: the search for the width starts again under it.
    pub(super) fn on_rate_changed(&mut self, bytes_per_second: Option<u64>, now: Now) {
        self.may_send = bytes_per_second != Some(0);
        self.gates.values_mut().for_each(|gate| gate.width.begin_anew(now.monotonic));
    }
}

fn is_in(upload: &Upload, scope: &Scope) -> bool {
    let Ticket { id, destination, drop, run, .. } = &upload.admission;
    scope.covers((*id, destination), (drop, run))
}

impl Upload {
    /// What failed is tried again at once.
    fn hurry(&mut self) {
        self.life.part_waits.clear();
        self.life.hold_until = None;
    }

    /// Ends the upload for good; not before it is known what was begun for it.
    fn give_up(&mut self, can_ask: bool, now: Now) -> Answer {
        use crate::model::Stage::{
            Beginning, Completed, Completing, Ended, Queued, Receipted, Sending, Verified,
        };
        self.life.is_given_up = true;
        match self.state.stage {
            Queued | Sending { .. } => self.end_changed(now),
            Beginning { .. } if can_ask => {
                let mut answer = self.end_changed(now);
                // It may not be held up by what it waits for: it has only a question left.
                if answer.facts.is_empty() && self.state.hold != Hold::None {
                    answer.facts.push(Fact::Released);
                }
                answer
            }
            Beginning { .. } | Completing { .. } | Completed { .. } | Verified { .. } => {
                self.superseded(now)
            }
            Receipted { .. } | Ended(_) => Answer::default(),
        }
    }
}
