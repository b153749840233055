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

use serde::{Deserialize, Serialize};

use super::Engine;
use super::handed::HandedFile;
use super::ticket::Ticket;
use super::transfers::{Transfers, Upload};
use super::turn::Turn;
use crate::model::{
    Catalogued, DestinationName, DirectoryName, Fact, Now, OrderChange, OrderRecord, Record, Scope,
    SourcePath, Standing, UploadId, Verb, WallTime,
};

/// Names one order, so that its answer finds the operator who gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct OrderId(pub u64);

/// Something an operator orders.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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

/// What operators ordered and is not over.
#[derive(Debug, Default)]
pub(super) struct Orders {
    paused: BTreeSet<Scope>,
    /// Uploads that end once it is known what was begun for them.
    given_up: BTreeSet<UploadId>,
}

impl Orders {
    /// Loads the orders that stand, as they were stored.
    pub(super) fn load(&mut self, orders: Vec<(Standing, Scope, WallTime)>) {
        for (standing, scope, _) in orders {
            match (standing, scope) {
                (Standing::Paused, scope) => {
                    self.paused.insert(scope);
                }
                (Standing::GivenUp, Scope::Upload(id)) => {
                    self.given_up.insert(id);
                }
                (Standing::GivenUp, _) => {}
            }
        }
    }

    /// Tells whether an upload is given up, as soon as it is known what was begun for it.
    pub(super) fn gives_up(&self, id: UploadId) -> bool {
        self.given_up.contains(&id)
    }

    /// Tells whether an upload may not start anything. One that is given up has a question left.
    pub(super) fn hold(&self, upload: &Ticket) -> bool {
        // Asked whenever an upload moves, and there is hardly ever a pause.
        self.cover(upload) && !self.gives_up(upload.id)
    }

    /// An upload has ended: no order about it stands any more.
    pub(super) fn ended(&mut self, id: UploadId, turn: &mut Turn) {
        let scope = Scope::Upload(id);
        if self.given_up.remove(&id) {
            let scope = scope.clone();
            turn.record(Record::Order(OrderRecord::Over { standing: Standing::GivenUp, scope }));
        }
        if self.paused.remove(&scope) {
            turn.record(Record::Order(OrderRecord::Over { standing: Standing::Paused, scope }));
        }
    }

    /// Tells whether a pause covers an upload.
    fn cover(&self, upload: &Ticket) -> bool {
        !self.paused.is_empty()
            && (self.stops(&upload.destination)
                || self.paused.contains(&Scope::Upload(upload.id))
                || self.cover_run(&upload.drop, &upload.run))
    }

    /// Tells whether no call may be made at a destination.
    pub(super) fn stops(&self, destination: &DestinationName) -> bool {
        !self.paused.is_empty()
            && (self.paused.contains(&Scope::All)
                || self.paused.contains(&Scope::Destination(destination.clone())))
    }

    /// Tells whether nothing may be done with a run.
    pub(super) fn cover_run(&self, drop: &DirectoryName, run: &SourcePath) -> bool {
        !self.paused.is_empty()
            && (self.paused.contains(&Scope::All)
                || self.paused.contains(&Scope::Drop(drop.clone()))
                || self.paused.contains(&Scope::Run(drop.clone(), run.clone())))
    }
}

impl Engine {
    /// Carries out an order, and answers it.
    pub(super) fn on_ordered(&mut self, id: OrderId, order: Order, turn: &mut Turn) {
        let answer = match order {
            Order::Set { verb, scopes } => {
                let changes = scopes.into_iter().map(|scope| self.change(verb, scope, turn));
                OrderAnswer::Changed(changes.collect())
            }
            Order::Resend { to } | Order::HandIn { to, .. } if !self.is_configured(&to) => {
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

    fn is_configured(&self, name: &DestinationName) -> bool {
        self.transfers.get(name).is_some_and(Transfers::is_configured)
    }

    /// Returns the uploads that are meant, in order.
    fn ids_in(&self, scope: &Scope) -> Vec<UploadId> {
        if let Scope::Upload(id) = scope {
            return vec![*id];
        }
        let all = self.transfers.values().flat_map(Transfers::uploads);
        let mut ids: Vec<_> = all.filter(|upload| is_in(upload, scope)).map(Upload::id).collect();
        ids.sort_unstable();
        ids
    }

    fn knows(&self, scope: &Scope) -> bool {
        match scope {
            Scope::All => true,
            Scope::Destination(name) => self.is_configured(name),
            Scope::Drop(name) => self.intakes.contains_key(name),
            Scope::Run(drop, run) => {
                self.intakes.get(drop).is_some_and(|intake| intake.runs().row(run).is_some())
                    || !self.ids_in(scope).is_empty()
            }
            Scope::Upload(id) => self.upload(*id).is_some(),
        }
    }

    fn carry_out(&mut self, verb: Verb, scope: &Scope, turn: &mut Turn) -> usize {
        let ids = self.ids_in(scope);
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
        if self.orders.paused.insert(scope.clone()) {
            let (standing, scope) = (Standing::Paused, scope.clone());
            turn.record(Record::Order(OrderRecord::Stands { standing, scope, at: turn.now.wall }));
        }
        self.with_owners(ids.iter().copied(), turn, Transfers::place);
        ids.len()
    }

    /// Takes a pause back; taking back the pause of everything takes back every pause.
    fn resume(&mut self, scope: &Scope, ids: &[UploadId], turn: &mut Turn) -> usize {
        let over: Vec<_> = match *scope == Scope::All {
            true => std::mem::take(&mut self.orders.paused).into_iter().collect(),
            false => self.orders.paused.take(scope).into_iter().collect(),
        };
        for scope in over {
            turn.record(Record::Order(OrderRecord::Over { standing: Standing::Paused, scope }));
        }
        self.with_owners(ids.iter().copied(), turn, Transfers::place);
        let is_free = |id: &&UploadId| {
            self.upload(**id).is_some_and(|upload| !self.orders.cover(&upload.admission))
        };
        ids.iter().filter(is_free).count()
    }

    fn retry(&mut self, scope: &Scope, ids: &[UploadId], turn: &mut Turn) -> usize {
        let lifted = self.lift(scope, turn.now);
        let drops: Vec<_> = match scope {
            Scope::All => self.intakes.keys().cloned().collect(),
            Scope::Drop(drop) | Scope::Run(drop, _) => vec![drop.clone()],
            Scope::Destination(_) | Scope::Upload(_) => Vec::new(),
        };
        drops.iter().for_each(|drop| self.on_scan_now(drop, turn.now));
        if *scope == Scope::All {
            self.notices.retry(turn.now.monotonic);
        }
        let mut retried = 0;
        for id in ids {
            let is_lifted = |u: &Upload| lifted.contains(&u.admission.destination);
            let is_lifted = self.upload(*id).is_some_and(is_lifted);
            let is_retried = self.with_owner(*id, turn, |t, turn| t.retry(*id, is_lifted, turn));
            retried += usize::from(is_retried == Some(true));
        }
        retried
    }

    /// Ends the waits of closed destinations, also those that the far side asked for: the operator may
    /// know better. Returns which had one.
    fn lift(&mut self, scope: &Scope, now: Now) -> BTreeSet<DestinationName> {
        let is_meant = |name: &DestinationName| match scope {
            Scope::All => true,
            Scope::Destination(asked) => asked == name,
            Scope::Drop(_) | Scope::Run(..) | Scope::Upload(_) => false,
        };
        let meant = self.transfers.iter_mut().filter(|(name, _)| is_meant(name));
        let lifted = meant.filter_map(|(name, t)| t.lift(now.monotonic).then_some(name));
        lifted.cloned().collect()
    }

    /// A run of which something was given up is not all there, and says so.
    fn note_given_up(&mut self, id: UploadId) {
        let transfers = self.transfers.values().find_map(|transfers| transfers.upload(id));
        let Some(upload) = transfers.filter(|_| !self.orders.gives_up(id)) else { return };
        if let Some(intake) = self.intakes.get_mut(&upload.admission.drop) {
            intake.given_up(&upload.admission);
        }
    }

    /// Gives uploads up; again, where one was given up before it was known what was begun for it.
    pub(super) fn abandon(&mut self, ids: &[UploadId], turn: &mut Turn) -> usize {
        for id in ids {
            let at = turn.now;
            let answer = self.transfers.values_mut().find_map(|t| t.give_up(*id, at));
            let Some(answer) = answer else { continue };
            let is_over = answer.facts.iter().any(|fact| matches!(fact, Fact::Abandoned { .. }));
            if !is_over && self.orders.given_up.insert(*id) {
                let (standing, scope, at) = (Standing::GivenUp, Scope::Upload(*id), at.wall);
                turn.record(Record::Order(OrderRecord::Stands { standing, scope, at }));
            }
            self.with_owner(*id, turn, |t, turn| t.settle_answer(*id, answer, turn));
        }
        ids.len()
    }
}

fn is_in(upload: &Upload, scope: &Scope) -> bool {
    let Ticket { id, destination, drop, run, .. } = &upload.admission;
    scope.covers((*id, destination), (drop, run))
}
