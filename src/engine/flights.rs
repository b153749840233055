//! Acts in flight: those without an outcome yet.

use std::collections::BTreeMap;

use super::event::{Act, ActId};
use super::intake::IntakeAct;
use super::transfers::TransferAct;
use super::turn::Turn;
use crate::model::{DestinationName, DirectoryName, NoticeId};

/// An act without an outcome yet.
#[derive(Debug, Clone)]
pub(super) enum Flight {
    /// An act of a drop directory; with the destination that it calls, if any.
    Intake(DirectoryName, IntakeAct, Option<DestinationName>),
    Transfers(DestinationName, TransferAct),
    Notify(NoticeId),
    Survey,
    ReadRows,
}

impl Flight {
    /// Returns the drop directory of an act of a run.
    fn run_of(&self) -> Option<&DirectoryName> {
        match self {
            Self::Intake(directory, act, _) => Some(directory).filter(|_| act.is_of_run()),
            Self::Transfers(..) | Self::Notify(_) | Self::Survey | Self::ReadRows => None,
        }
    }
}

/// Acts in flight, by id. An id is never reused in one life of the process.
#[derive(Debug)]
pub(super) struct Flights {
    flights: BTreeMap<ActId, Flight>,
    /// The number of acts of runs, by drop directory.
    of_runs: BTreeMap<DirectoryName, usize>,
    next: ActId,
}

impl Flights {
    pub(super) fn new() -> Self {
        Self { flights: BTreeMap::new(), of_runs: BTreeMap::new(), next: ActId(1) }
    }

    pub(super) fn register(&mut self, flight: Flight) -> ActId {
        let act = self.next;
        self.next = ActId(act.0 + 1);
        if let Some(directory) = flight.run_of() {
            *self.of_runs.entry(directory.clone()).or_default() += 1;
        }
        self.flights.insert(act, flight);
        act
    }

    /// Registers an act and adds it to the turn's effects.
    pub(super) fn start(&mut self, flight: Flight, act: Act, turn: &mut Turn) -> ActId {
        let id = self.register(flight);
        turn.act(id, act);
        id
    }

    pub(super) fn next(&self) -> ActId {
        self.next
    }

    pub(super) fn remove(&mut self, act: ActId) -> Option<Flight> {
        let flight = self.flights.remove(&act);
        if let Some(directory) = flight.as_ref().and_then(Flight::run_of)
            && let Some(count) = self.of_runs.get_mut(directory)
        {
            *count -= 1;
            if *count == 0 {
                self.of_runs.remove(directory);
            }
        }
        flight
    }

    /// Returns how many acts of runs are in flight in a drop directory.
    pub(super) fn run_act_count(&self, directory: &DirectoryName) -> usize {
        self.of_runs.get(directory).copied().unwrap_or(0)
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
