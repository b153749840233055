//! One vendor's stand-in: its state, its ledger, its faults.

use std::fmt::Debug;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use serde_json::{Map, Value};

use super::digits::hex;
use super::faults::{Action, Rule, Rules, Switches};
use super::ledger::Ledger;
use super::{Settings, unix_time};

/// What every vendor's state provides.
pub(super) trait Holds: Debug + Send {
    /// Returns every file.
    fn files(&self) -> Vec<RemoteFile>;
    /// Returns the ids of uploads in progress.
    fn open_uploads(&self) -> Vec<String>;
    /// Drops an upload in progress, or all.
    fn vanish(&mut self, id: Option<&str>);
}

/// A file, for tests and the demo.
#[derive(Debug, Clone, Serialize)]
pub struct RemoteFile {
    pub id: String,
    pub name: String,
    /// The project, bucket or container it is in.
    pub project: String,
    /// Its folder, from the top of the project.
    pub folder: String,
    pub size: u64,
    pub metadata: Map<String, Value>,
    pub tags: Vec<String>,
    /// The files with the bytes of its parts, in order.
    pub parts: Vec<std::path::PathBuf>,
}

#[derive(Debug)]
pub(super) struct Stand<W> {
    pub(super) world: W,
    pub(super) ledger: Ledger,
    pub(super) rules: Rules,
    pub(super) switches: Switches,
    pub(super) counter: u64,
}

impl<W> Stand<W> {
    pub(super) fn new(world: W, settings: &Settings) -> Mutex<Self> {
        Mutex::new(Self {
            world,
            ledger: Ledger::default(),
            rules: Rules::new(settings.rules.clone()),
            switches: settings.switches.clone(),
            counter: 0,
        })
    }

    /// Returns an id that was not used before.
    pub(super) fn new_id(&mut self, length: usize) -> String {
        use sha2::{Digest, Sha256};
        self.counter += 1;
        let seed = format!("{}:{}", self.counter, unix_time().as_nanos());
        hex(&Sha256::digest(seed))[..length].to_owned()
    }
}

/// Operations on any vendor's stand-in.
pub(super) trait Control: Sync {
    fn files(&self) -> Vec<RemoteFile>;
    fn ledger(&self) -> Ledger;
    fn set_rules(&self, rules: Vec<Rule>);
    fn set_switches(&self, switches: Switches);
    fn vanish(&self, id: Option<&str>);
    fn is_down(&self) -> bool;
    /// Counts a call and returns the faults that apply to it, before and after the work.
    fn take_faults(&self, operation: &str, key: &str) -> (Option<Action>, Option<Action>);
}

/// Locks a stand; one from before a panic is still usable.
pub(super) fn lock<W>(stand: &Mutex<Stand<W>>) -> MutexGuard<'_, Stand<W>> {
    stand.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<W: Holds> Control for Mutex<Stand<W>> {
    fn files(&self) -> Vec<RemoteFile> {
        lock(self).world.files()
    }

    fn ledger(&self) -> Ledger {
        let stand = lock(self);
        Ledger { open_uploads: stand.world.open_uploads(), ..stand.ledger.clone() }
    }

    fn set_rules(&self, rules: Vec<Rule>) {
        lock(self).rules = Rules::new(rules);
    }

    fn set_switches(&self, switches: Switches) {
        lock(self).switches = switches;
    }

    fn vanish(&self, id: Option<&str>) {
        lock(self).world.vanish(id);
    }

    fn is_down(&self) -> bool {
        lock(self).switches.down
    }

    fn take_faults(&self, operation: &str, key: &str) -> (Option<Action>, Option<Action>) {
        let mut stand = lock(self);
        stand.ledger.call(operation);
        if stand.switches.down {
            return (Some(Action::Reset), None);
        }
        stand.rules.take(operation, key)
    }
}
