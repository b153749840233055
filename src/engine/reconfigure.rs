//! New settings without a new start: what is in flight goes on, what is gone parks, what is new begins.
//! A destination that was closed is tried at once.
//! Of what is new to this life, the rows are read first ([`super::loading`]).

use std::collections::BTreeMap;

use super::intake::Intake;
use super::loading::{Unread, UnreadDirectories};
use super::settings::Settings;
use super::targets::TargetRegistry;
use super::transfers::Transfers;
use crate::model::{DestinationName, DirectoryName, Monotonic};

/// Replaces the drop directories by those of the settings. Returns those of which rows must be read: which
/// memory does not know under their directory, or with a destination that memory does not know for them.
pub(super) fn intakes(
    settings: &Settings,
    intakes: &mut BTreeMap<DirectoryName, Intake>,
    now: Monotonic,
) -> UnreadDirectories {
    let mut old = std::mem::take(intakes);
    let mut unread = UnreadDirectories::new();
    for drop in &settings.drops {
        let known = old.remove(&drop.name);
        let known = known.filter(|intake| intake.settings().directory == drop.directory);
        if known.as_ref().is_none_or(|known| lacks_any(known, &drop.destinations)) {
            unread.insert(drop.name.clone(), Unread::new(known.is_none()));
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
    unread
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
