//! New settings without a new start: what is in flight goes on, what is gone parks, what is new begins.
//! A destination that was closed is tried at once.
//! Of what is new to this life, the rows are read first ([`super::reread`]).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Engine;
use super::intake::Intake;
use super::reread::Unread;
use super::settings::{DirectorySettings, Settings};
use super::transfers::Transfers;
use super::turn::Turn;
use crate::model::{DestinationName, DirectoryName};

impl Engine {
    pub(super) fn on_reconfigured(&mut self, settings: Settings, turn: &mut Turn) {
        let roots = self.roots();
        let unread = self.replace_drops(&settings, turn);
        self.load_roots(roots, turn.now);
        self.notices.reconfigure(&settings, turn.now);
        self.settings = settings;
        self.configure_transfers(turn);
        let ids = self.upload_ids();
        self.with_owners(ids.iter().copied(), turn, Transfers::retarget);
        self.claim_all(turn);
        self.with_owners(ids.iter().copied(), turn, Transfers::join_run);
        self.read_again(unread, turn);
        self.with_owners(ids, turn, Transfers::park_or_release);
    }

    /// Returns the drop directories of which rows must be read: those that memory does not know under
    /// their directory, and those with a destination that memory does not know for them.
    fn replace_drops(
        &mut self,
        settings: &Settings,
        turn: &Turn,
    ) -> BTreeMap<DirectoryName, Unread> {
        let mut old = std::mem::take(&mut self.intakes);
        let mut unread = BTreeMap::new();
        for drop in &settings.drops {
            let known = old.remove(&drop.name);
            let is_other = |intake: &Intake| intake.settings().directory != drop.directory;
            if let Some(intake) = known.as_ref().filter(|intake| is_other(intake)) {
                self.keep_directory(intake.settings());
            }
            let known = known.filter(|intake| !is_other(intake));
            if known.as_ref().is_none_or(|known| lacks_any(known, &drop.destinations)) {
                unread.insert(drop.name.clone(), Unread::new(known.is_none()));
            }
            let intake = match known {
                Some(mut intake) => {
                    intake.reconfigure(drop.clone());
                    intake
                }
                None => Intake::new(drop.clone(), turn.now.monotonic),
            };
            self.intakes.insert(drop.name.clone(), intake);
        }
        old.values().for_each(|intake| self.keep_directory(intake.settings()));
        unread
    }

    /// Open uploads remember the directory of their files, for its name stands for another one or for none.
    fn keep_directory(&mut self, drop: &DirectorySettings) {
        let directory: Arc<str> = drop.directory.as_str().into();
        for transfers in self.transfers.values_mut() {
            transfers.keep_directory(&drop.name, &directory);
        }
    }

    /// Has every destination adopt its settings, or learn that it has none.
    fn configure_transfers(&mut self, turn: &mut Turn) {
        for (name, transfers) in &mut self.transfers {
            if !self.settings.destinations.iter().any(|settings| settings.name == *name) {
                self.shared.targets.keep_cleanups(transfers.unconfigure());
            }
        }
        for settings in self.settings.destinations.clone() {
            let transfers = self.add_transfers(&settings.name);
            transfers.configure(settings, turn.now.monotonic);
        }
        self.assign_targets(turn);
        self.with_all_transfers(turn, Transfers::write_health);
    }

    /// Claims every place anew: which targets are the same has changed. What was begun goes first.
    fn claim_all(&mut self, turn: &mut Turn) {
        self.shared.claims.forget();
        let all = self.transfers.values().flat_map(Transfers::uploads);
        let mut ids: Vec<_> = all.map(|upload| (upload.claim_order(), upload.id())).collect();
        ids.sort_unstable();
        for (_, id) in ids {
            self.with_owners([id], turn, Transfers::claim);
            self.with_owners([id], turn, Transfers::restart_waiting);
        }
    }
}

/// Returns whether a drop directory has not all of these destinations.
fn lacks_any(intake: &Intake, destinations: &[DestinationName]) -> bool {
    destinations.iter().any(|name| !intake.settings().destinations.contains(name))
}
