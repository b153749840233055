//! The sandbox: local stand-ins of the platforms, to try a configuration without an account.
//!
//! An island: it imports nothing of ours, and is written from the vendors' rules, not from our
//! clients. It is strict: what a vendor would refuse it refuses, and every breach of the rules is
//! written in its ledger together with every byte received. It listens on this machine only, keeps
//! the objects on disk, and misbehaves on request (`faults`, `switches`).
//!
//! Control is under `/_sandbox/`: `files`, `ledger`, `faults`, `switches`, `vanish`.

mod control;
pub mod faults;
pub mod ledger;
mod server;
pub mod sevenbridges;
pub mod storage;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use faults::{Rule, Rules, Switches};
use ledger::Ledger;
use sevenbridges::World;

/// How the sandbox stands.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where to listen; port 0 takes any.
    pub listen: SocketAddr,
    /// Where objects are kept.
    pub directory: PathBuf,
    /// The token that is accepted.
    pub token: String,
    /// Projects that exist.
    pub projects: Vec<String>,
    /// Smallest part, the last excepted.
    pub part_size_min: u64,
    /// Calls in one window.
    pub rate_limit: u64,
    /// Length of the window.
    pub rate_window: Duration,
    /// What it does wrong, from the start.
    pub rules: Vec<Rule>,
    /// How it differs from the defaults, from the start.
    pub switches: Switches,
}

impl Settings {
    /// A strict stand-in on any port.
    pub fn new(directory: PathBuf) -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            directory,
            token: "0123456789abcdef0123456789abcdef".into(),
            projects: vec!["lab/demo".into()],
            part_size_min: 5 * 1024 * 1024,
            rate_limit: 1000,
            rate_window: Duration::from_mins(5),
            rules: Vec::new(),
            switches: Switches::default(),
        }
    }
}

/// A running sandbox; it stops when dropped.
#[derive(Debug)]
pub struct Sandbox {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: tokio::task::JoinHandle<()>,
}

/// What all requests share.
#[derive(Debug)]
struct Shared {
    settings: Settings,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    world: World,
    ledger: Ledger,
    rules: Rules,
    switches: Switches,
    window: Window,
    counter: u64,
}

/// Calls counted in the current window.
#[derive(Debug)]
struct Window {
    ends_at: u64,
    used: u64,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Seconds and the rest since 1970. The sandbox keeps the platforms' time, not the daemon's.
#[expect(clippy::disallowed_methods, reason = "the sandbox is an island with a clock of its own")]
fn unix_time() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

impl Sandbox {
    /// Starts to listen. Must be called on a tokio runtime.
    ///
    /// # Errors
    /// When the address is taken or the directory cannot be made.
    pub async fn start(settings: Settings) -> io::Result<Self> {
        std::fs::create_dir_all(settings.directory.join("parts"))?;
        let listener = tokio::net::TcpListener::bind(settings.listen).await?;
        let address = listener.local_addr()?;
        let state = State {
            world: World::new(&settings.projects),
            ledger: Ledger::default(),
            rules: Rules::new(settings.rules.clone()),
            switches: settings.switches.clone(),
            window: Window { ends_at: 0, used: 0 },
            counter: 0,
        };
        let shared = Arc::new(Shared { settings, state: Mutex::new(state) });
        let server = server::start(listener, &shared);
        Ok(Self { address, shared, server })
    }

    /// Returns where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the base URL of the Seven Bridges stand-in.
    pub fn base_url(&self) -> String {
        format!("http://{}/v2", self.address)
    }

    /// Returns what was received.
    pub fn ledger(&self) -> Ledger {
        self.shared.state().ledger.clone()
    }

    /// Returns every file, without its folders.
    pub fn files(&self) -> Vec<sevenbridges::RemoteFile> {
        self.shared.state().world.files()
    }

    /// Changes how it differs from the defaults.
    pub fn switch(&self, change: impl FnOnce(&mut Switches)) {
        change(&mut self.shared.state().switches);
    }

    /// Replaces what it does wrong.
    pub fn set_rules(&self, rules: Vec<Rule>) {
        self.shared.state().rules = Rules::new(rules);
    }

    /// Returns a configuration that points at it.
    pub fn ready_configuration(&self) -> String {
        format!(
            "# Write the token into sandbox.token beside this file: chmod 600 sandbox.token\n\
             [destinations.sandbox]\nplatform = \"sevenbridges\"\nbase_url = \"{}\"\n\
             credential = {{ file = \"sandbox.token\" }}\nproject = \"{}\"\n\n\
             [drops.example]\ndirectory = \"drop\"\ndestinations = [\"sandbox\"]\n\
             quiet_period = \"5s\"\n",
            self.base_url(),
            self.shared.settings.projects.first().map_or("lab/demo", String::as_str),
        )
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.server.abort();
    }
}
