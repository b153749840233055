//! Acts that were handed out and have not come back.

use std::collections::BTreeMap;

use super::event::{Act, ActId};
use super::intake::IntakeAct;
use super::transfers::TransferAct;
use super::turn::Turn;
use crate::model::{DestinationName, DirectoryName, NoticeId};

/// Acts in flight, by their ids. An id is never used again in one life of the process.
/// An act that was handed out and has not come back.
#[derive(Debug, Clone)]
pub(super) enum Flight {
    /// An act of a drop directory; with the destination that it calls, if it calls one.
    Intake(DirectoryName, IntakeAct, Option<DestinationName>),
    Transfers(DestinationName, TransferAct),
    Notify(NoticeId),
    Survey,
    ReadRows,
}

#[derive(Debug)]
pub(super) struct Flights {
    flights: BTreeMap<ActId, Flight>,
    next: ActId,
}

impl Flights {
    pub(super) fn new() -> Self {
        Self { flights: BTreeMap::new(), next: ActId(1) }
    }

    pub(super) fn register(&mut self, flight: Flight) -> ActId {
        let act = self.next;
        self.next = ActId(act.0 + 1);
        self.flights.insert(act, flight);
        act
    }

    /// Registers an act and hands it out with what the turn decides.
    pub(super) fn start(&mut self, flight: Flight, act: Act, turn: &mut Turn) -> ActId {
        let id = self.register(flight);
        turn.act(id, act);
        id
    }

    pub(super) fn next(&self) -> ActId {
        self.next
    }

    pub(super) fn remove(&mut self, act: ActId) -> Option<Flight> {
        self.flights.remove(&act)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.flights.is_empty()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Flight> {
        self.flights.values()
    }

    pub(super) fn intake_acts(&self) -> impl Iterator<Item = (&DirectoryName, &IntakeAct)> {
        self.all().filter_map(|flight| {
            if let Flight::Intake(directory, act, _) = flight {
                Some((directory, act))
            } else {
                None
            }
        })
    }
}
