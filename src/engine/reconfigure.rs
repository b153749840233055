//! New settings without a new start: what is in flight goes on, what is gone parks, what is new begins.
//! A destination that was closed is tried at once.
//! Of what is new to this life, the rows are read first ([`super::loading`]).

use std::collections::BTreeMap;

use super::intake::Intake;
use super::loading::{Unread, UnreadDirectories};
use super::settings::{DirectorySettings, Settings};
use super::targets::TargetRegistry;
use super::transfers::Transfers;
use crate::model::{DestinationName, DirectoryName, Monotonic};

/// What follows from other drop directories.
#[derive(Debug, Default)]
pub(super) struct Replaced {
    /// Of which rows must be read: those that memory does not know under their directory, and those with a
    /// destination that memory does not know for them.
    pub(super) unread: UnreadDirectories,
    /// Those whose names stand for other directories, or for none.
    pub(super) left: Vec<DirectorySettings>,
}

/// Replaces the drop directories by those of the settings.
pub(super) fn intakes(
    settings: &Settings,
    intakes: &mut BTreeMap<DirectoryName, Intake>,
    now: Monotonic,
) -> Replaced {
    let mut old = std::mem::take(intakes);
    let mut replaced = Replaced::default();
    for drop in &settings.drops {
        let known = old.remove(&drop.name);
        let is_other = |intake: &Intake| intake.settings().directory != drop.directory;
        if let Some(intake) = known.as_ref().filter(|intake| is_other(intake)) {
            replaced.left.push(intake.settings().clone());
        }
        let known = known.filter(|intake| !is_other(intake));
        if known.as_ref().is_none_or(|known| lacks_any(known, &drop.destinations)) {
            replaced.unread.insert(drop.name.clone(), Unread::new(known.is_none()));
        }
        let intake = match known {
            Some(mut intake) => {
                intake.reconfigure(drop.clone());
                intake
            }
            None => Intake::new(drop.clone(), now),
        };
        intakes.insert(drop.name.clone(), intake);
    }
    replaced.left.extend(old.into_values().map(|intake| intake.settings().clone()));
    replaced
}

/// Has every destination adopt its settings, or learn that it has none.
pub(super) fn transfers(
    settings: &Settings,
    transfers: &mut BTreeMap<DestinationName, Transfers>,
    targets: &mut TargetRegistry,
    now: Monotonic,
) {
    for (name, transfers) in transfers.iter_mut() {
        if !settings.destinations.iter().any(|settings| settings.name == *name) {
            targets.keep_cleanups(transfers.unconfigure());
        }
    }
    for settings in &settings.destinations {
        let none = || Transfers::new(settings.name.clone());
        let transfers = transfers.entry(settings.name.clone()).or_insert_with(none);
        transfers.configure(settings.clone(), now);
    }
}

/// Returns whether a drop directory has not all of these destinations.
fn lacks_any(intake: &Intake, destinations: &[DestinationName]) -> bool {
    destinations.iter().any(|name| !intake.settings().destinations.contains(name))
}
