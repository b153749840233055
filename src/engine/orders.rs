//! Orders of operators: pause, resume, retry, abandon, close, resend, hand files in.
//!
//! An order is an event ([`super::Event::Ordered`]), its answer an effect ([`Effect::Answer`])
//! after the commit of its changes.
//!
//! A pause is a row, and applies until it is resumed. Acts in flight may finish; nothing in its
//! scope starts: no call at a paused destination, no disposal in a paused drop directory. Files are
//! still observed and admitted.
//!
//! An abandoned upload ends at once where it is known what was begun for it; that is queued for
//! removal. Otherwise the order is a row until the platform has answered what it has.
//!
//! *At a crash* an order is complete or was never given: it is committed before it is answered.
//!
//! [`Effect::Answer`]: super::event::Effect::Answer

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::dispatch::{Dispatch, ToIntake, ToNotices, ToTransfers, ToUpload};
use super::handed::HandedFile;
use super::scene::Scene;
use super::transfers::{Transfers, Upload};
use super::turn::Turn;
use crate::model::{
    Admission, Catalogued, ClosedByHand, DestinationName, DirectoryName, Hold, OrderChange,
    OrderRecord, Record, Scope, SourcePath, Standing, UploadId, Verb, WallTime,
};

/// Identifies an order, so that its answer reaches the operator who gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct OrderId(pub u64);

/// An order of an operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// Pauses, resumes, retries, abandons, or accepts other directories.
    Set {
        /// The change.
        verb: Verb,
        scopes: Vec<Scope>,
    },
    /// Closes a run although its markers or listed files are missing.
    Close {
        drop: DirectoryName,
        run: SourcePath,
        /// Who ordered it, as the receipt names them.
        by: String,
    },
    /// Sends the files at a destination's former targets to its current target, as far as the sources are here.
    Resend { to: DestinationName },
    /// Admits files from outside the drop directories.
    HandIn {
        files: Vec<HandedFile>,
        /// What the rows know about them.
        known: Catalogued,
        to: DestinationName,
    },
}

/// The result of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrderAnswer {
    /// The changes, for each scope in order.
    Changed(Vec<OrderChange>),
    /// The rows of the former targets are read, and their files admitted again.
    Resending,
    /// Each file with its upload; `None` where this version was handed in for the destination before.
    HandedIn(Vec<(SourcePath, Option<UploadId>)>),
    /// No destination has this name.
    UnknownDestination(DestinationName),
    /// The run is closed; or why it is not.
    Closed(Result<ClosedByHand, String>),
}

/// The orders in force.
#[derive(Debug, Default)]
pub(super) struct Orders {
    paused: BTreeSet<Scope>,
    /// Uploads that end once it is known what was begun for them.
    given_up: BTreeSet<UploadId>,
    is_draining: bool,
}

impl Orders {
    /// Builds it from the stored orders.
    pub(super) fn load(orders: Vec<(Standing, Scope, WallTime)>) -> Self {
        let mut loaded = Self::default();
        for (standing, scope, _) in orders {
            match (standing, scope) {
                (Standing::Paused, scope) => {
                    loaded.paused.insert(scope);
                }
                (Standing::GivenUp, Scope::Upload(id)) => {
                    loaded.given_up.insert(id);
                }
                (Standing::GivenUp, _) => {}
            }
        }
        loaded
    }

    /// Starts nothing more: the daemon stops.
    pub(super) fn drain(&mut self) {
        self.is_draining = true;
    }

    pub(super) fn is_draining(&self) -> bool {
        self.is_draining
    }

    /// An upload is abandoned, and ends once it is known what was begun for it.
    pub(super) fn give_up(&mut self, id: UploadId, turn: &mut Turn) {
        if self.given_up.insert(id) {
            stands(Standing::GivenUp, Scope::Upload(id), turn);
        }
    }

    /// Returns whether an upload is abandoned and waits to end.
    pub(super) fn gives_up(&self, id: UploadId) -> bool {
        self.given_up.contains(&id)
    }

    /// Returns whether an upload may not start anything. An abandoned one may still ask its question.
    pub(super) fn hold(&self, upload: &Admission) -> bool {
        // Called whenever an upload moves, while pauses are rare.
        self.cover(upload) && !self.gives_up(upload.id)
    }

    /// An upload has ended: its orders end.
    pub(super) fn ended(&mut self, id: UploadId, turn: &mut Turn) {
        let scope = Scope::Upload(id);
        if self.given_up.remove(&id) {
            over(Standing::GivenUp, scope.clone(), turn);
        }
        if self.paused.remove(&scope) {
            over(Standing::Paused, scope, turn);
        }
    }

    /// Returns whether a pause covers an upload.
    fn cover(&self, upload: &Admission) -> bool {
        !self.paused.is_empty()
            && (self.stops(&upload.destination)
                || self.paused.contains(&Scope::Upload(upload.id))
                || self.cover_run(&upload.file.drop, &upload.file.run))
    }

    /// Returns whether a destination must not be called.
    pub(super) fn stops(&self, destination: &DestinationName) -> bool {
        !self.paused.is_empty()
            && (self.paused.contains(&Scope::All)
                || self.paused.contains(&Scope::Destination(destination.clone())))
    }

    /// Returns whether nothing may be done with a run.
    pub(super) fn cover_run(&self, drop: &DirectoryName, run: &SourcePath) -> bool {
        !self.paused.is_empty()
            && (self.paused.contains(&Scope::All)
                || self.paused.contains(&Scope::Drop(drop.clone()))
                || self.paused.contains(&Scope::Run(drop.clone(), run.clone())))
    }
}

impl Orders {
    /// Carries out an order for one scope. Returns its changes, and the messages to the machines.
    pub(super) fn change(
        &mut self,
        verb: Verb,
        scope: Scope,
        scene: Scene<'_>,
        turn: &mut Turn,
    ) -> (OrderChange, Vec<Dispatch>) {
        let ids = match scope {
            Scope::Upload(id) => vec![id],
            Scope::All | Scope::Destination(_) | Scope::Drop(_) | Scope::Run(..) => {
                scene.ids(|upload| is_in(upload, &scope))
            }
        };
        let (is_known, count, said) = match verb {
            Verb::AcceptRoot => {
                let said = accept_roots(&scope, scene);
                (!said.is_empty(), ids.len(), said)
            }
            Verb::Pause | Verb::Resume | Verb::Retry | Verb::Decide(_) | Verb::Abandon
                if !knows(&scope, &ids, scene) =>
            {
                (false, 0, Vec::new())
            }
            Verb::Pause => (true, ids.len(), self.pause(&scope, &ids, turn)),
            Verb::Resume => {
                let said = self.resume(&scope, &ids, turn);
                let is_free = |id: &&UploadId| {
                    scene.upload(**id).is_some_and(|upload| !self.cover(upload.admission()))
                };
                (true, ids.iter().filter(is_free).count(), said)
            }
            Verb::Retry => {
                let goes_on = |id: &&UploadId| goes_on(**id, &scope, scene);
                (true, ids.iter().filter(goes_on).count(), retry(&scope, &ids, scene))
            }
            Verb::Decide(decision) => {
                let waits = |id: &UploadId| {
                    scene.upload(*id).is_some_and(|upload| upload.waits_for(decision))
                };
                let meant: Vec<_> = ids.iter().copied().filter(waits).collect();
                let count = meant.len();
                (true, count, Dispatch::uploads(meant, ToUpload::Decide(decision)).collect())
            }
            Verb::Abandon => (true, ids.len(), self.abandon(&ids, scene)),
        };
        let upload_count = if is_known { count as u64 } else { 0 };
        (OrderChange { of: scope, is_known, upload_count }, said)
    }

    fn pause(&mut self, scope: &Scope, ids: &[UploadId], turn: &mut Turn) -> Vec<Dispatch> {
        if self.paused.insert(scope.clone()) {
            stands(Standing::Paused, scope.clone(), turn);
        }
        Dispatch::uploads(ids.iter().copied(), ToUpload::Place).collect()
    }

    /// Ends a pause; resuming everything ends every pause.
    fn resume(&mut self, scope: &Scope, ids: &[UploadId], turn: &mut Turn) -> Vec<Dispatch> {
        let ended: Vec<_> = match *scope == Scope::All {
            true => std::mem::take(&mut self.paused).into_iter().collect(),
            false => self.paused.take(scope).into_iter().collect(),
        };
        ended.into_iter().for_each(|scope| over(Standing::Paused, scope, turn));
        Dispatch::uploads(ids.iter().copied(), ToUpload::Place).collect()
    }

    /// The run of an abandoned upload is not complete, and records that.
    fn abandon(&self, ids: &[UploadId], scene: Scene<'_>) -> Vec<Dispatch> {
        let is_new = |id: &&UploadId| !self.gives_up(**id);
        let files = ids.iter().filter(is_new).filter_map(|id| scene.upload(*id));
        let notes = files.map(|upload| {
            let drop = upload.admission().file.drop.clone();
            Dispatch::Intake(drop, ToIntake::GivenUp(upload.file()))
        });
        notes.chain(Dispatch::uploads(ids.iter().copied(), ToUpload::GiveUp)).collect()
    }
}

/// Records an order in force.
fn stands(standing: Standing, scope: Scope, turn: &mut Turn) {
    turn.record(Record::Order(OrderRecord::Stands { standing, scope, at: turn.now().wall }));
}

/// Records the end of an order.
fn over(standing: Standing, scope: Scope, turn: &mut Turn) {
    turn.record(Record::Order(OrderRecord::Over { standing, scope }));
}

fn knows(scope: &Scope, ids: &[UploadId], scene: Scene<'_>) -> bool {
    match scope {
        Scope::All => true,
        Scope::Destination(name) => scene.is_configured(name),
        Scope::Drop(name) => scene.intakes.contains_key(name),
        Scope::Run(drop, run) => {
            scene.intakes.get(drop).is_some_and(|intake| intake.runs().row(run).is_some())
                || !ids.is_empty()
        }
        Scope::Upload(id) => scene.upload(*id).is_some(),
    }
}

/// Accepts the other directories at the paths.
fn accept_roots(scope: &Scope, scene: Scene<'_>) -> Vec<Dispatch> {
    let is_meant = |name: &DirectoryName| match scope {
        Scope::All => true,
        Scope::Drop(drop) => drop == name,
        Scope::Destination(_) | Scope::Run(..) | Scope::Upload(_) => false,
    };
    let others = scene.intakes.iter().filter(|(name, i)| is_meant(name) && i.health().has_other());
    others.map(|(name, _)| Dispatch::Intake(name.clone(), ToIntake::AcceptRoot)).collect()
}

/// Returns whether a retry order ends the wait of a destination, including a pause that the
/// platform asked for: the operator may know better.
fn lifts(scope: &Scope, name: &DestinationName) -> bool {
    match scope {
        Scope::All => true,
        Scope::Destination(asked) => asked == name,
        Scope::Drop(_) | Scope::Run(..) | Scope::Upload(_) => false,
    }
}

/// Returns whether a retried upload continues.
fn goes_on(id: UploadId, scope: &Scope, scene: Scene<'_>) -> bool {
    let Some(upload) = scene.upload(id) else { return false };
    let to = &upload.admission().destination;
    let waits = lifts(scope, to) && scene.transfers.get(to).is_some_and(Transfers::waits);
    upload.is_held_up() || (waits && upload.state().hold == Hold::None)
}

fn retry(scope: &Scope, ids: &[UploadId], scene: Scene<'_>) -> Vec<Dispatch> {
    let destinations = scene.transfers.keys().filter(|name| lifts(scope, name));
    let lifts = destinations.map(|name| Dispatch::Transfers(name.clone(), ToTransfers::Lift));
    let drops: Vec<_> = match scope {
        Scope::All => scene.intakes.keys().cloned().collect(),
        Scope::Drop(drop) | Scope::Run(drop, _) => vec![drop.clone()],
        Scope::Destination(_) | Scope::Upload(_) => Vec::new(),
    };
    let scans = drops.into_iter().map(|drop| Dispatch::Intake(drop, ToIntake::ScanNow));
    let notices = (*scope == Scope::All).then_some(Dispatch::Notices(ToNotices::Retry));
    let uploads = Dispatch::uploads(ids.iter().copied(), ToUpload::Retry);
    lifts.chain(scans).chain(notices).chain(uploads).collect()
}

fn is_in(upload: &Upload, scope: &Scope) -> bool {
    scope.covers(upload.admission())
}
