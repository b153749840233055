//! New settings without a restart: acts in flight continue, uploads of removed names park, new
//! names begin. A closed destination is tried at once. For names that are new to this process, the
//! rows are read first ([`super::loading`]).

use std::collections::BTreeMap;

use super::intake::Intake;
use super::loading::{Unread, UnreadDirectories};
use super::settings::Settings;
use super::targets::TargetRegistry;
use super::transfers::Transfers;
use crate::model::{DestinationName, DirectoryName, Monotonic};

/// Replaces the drop directories by those of the settings. Returns those whose rows must be read:
/// memory does not know them with their directory, or with all their destinations.
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

/// Applies the settings of every destination, or their absence.
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

/// Returns whether a drop directory lacks one of these destinations.
fn lacks_any(intake: &Intake, destinations: &[DestinationName]) -> bool {
    destinations.iter().any(|name| !intake.settings().destinations.contains(name))
}
