//! The sandbox: local stand-ins of the platforms, to try a configuration without an account.
//!
//! An island: it imports no other module, and is written from the vendors' rules, not from our
//! clients. It is strict: it refuses what a vendor would refuse, and records every breach of the
//! rules in its ledger together with every byte received. It listens on this machine only, keeps
//! the objects on disk, and misbehaves on request (`faults`, `switches`).
//!
//! Every vendor has a [`Stand`] of its own: state, ledger, rules and switches. The sandbox's own
//! calls are under `/_sandbox/VENDOR/`: `files`, `ledger`, `faults`, `switches`, `vanish`.

pub(crate) mod basespace;
mod control;
mod digits;
mod faulting;
pub mod faults;
pub(crate) mod gjirafa_vp;
pub(crate) mod ledger;
pub(crate) mod s3;
mod server;
mod sevenbridges;
mod stand;
pub(crate) mod storage;

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use faults::{Rule, Switches};
use ledger::Ledger;
pub(crate) use stand::RemoteFile;
use stand::{Control, Stand};

/// The vendors with a stand-in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Vendor {
    /// Seven Bridges, below `/v2`.
    SevenBridges,
    /// BaseSpace, below `/basespace/v1pre3`.
    BaseSpace,
    /// Gjirafa VP, below `/gjirafa`; its storage below `/gjirafa-storage`.
    GjirafaVp,
    /// S3, path style, everywhere else.
    S3,
}

impl Vendor {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::SevenBridges, Self::BaseSpace, Self::GjirafaVp, Self::S3];

    /// Returns its name in configurations.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SevenBridges => "sevenbridges",
            Self::BaseSpace => "basespace",
            Self::GjirafaVp => "gjirafa-vp",
            Self::S3 => "s3",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|vendor| vendor.as_str() == name)
    }

    /// Returns its name for people.
    pub fn title(self) -> &'static str {
        match self {
            Self::SevenBridges => "Seven Bridges",
            Self::BaseSpace => "BaseSpace",
            Self::GjirafaVp => "Gjirafa VP",
            Self::S3 => "S3",
        }
    }
}

/// The settings of the sandbox.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Address to listen on; port 0 takes any.
    pub listen: SocketAddr,
    /// Directory of the objects.
    pub directory: PathBuf,
    /// Bytes are counted and digested, and not kept: no object can be read.
    pub discards: bool,
    /// The token that every stand-in accepts.
    pub token: String,
    /// The existing Seven Bridges projects.
    pub projects: Vec<String>,
    /// Smallest part, except the last.
    pub part_size_min: u64,
    /// Limit of calls in one window.
    pub rate_limit: u64,
    /// Length of the window.
    pub rate_window: Duration,
    /// Faults, from the start.
    pub rules: Vec<Rule>,
    /// Deviations from the defaults, from the start.
    pub switches: Switches,
}

impl Settings {
    /// A strict stand-in on any port.
    pub fn new(directory: PathBuf) -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            directory,
            discards: false,
            token: "0123456789abcdef0123456789abcdef".into(),
            projects: vec!["lab/demo".into()],
            part_size_min: 5 * 1024 * 1024,
            rate_limit: 1000,
            rate_window: Duration::from_mins(5),
            rules: Vec::new(),
            switches: Switches::default(),
        }
    }

    /// Returns the location for an arriving part.
    fn place(&self, name: &str) -> storage::Place {
        let is_kept = !self.discards;
        storage::Place { path: self.directory.join("parts").join(name), is_kept }
    }
}

/// A running sandbox; it stops when dropped.
#[derive(Debug)]
pub struct Sandbox {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: tokio::task::JoinHandle<()>,
}

/// State shared by all requests.
#[derive(Debug)]
struct Shared {
    settings: Settings,
    sevenbridges: Mutex<Stand<sevenbridges::World>>,
    basespace: Mutex<Stand<basespace::World>>,
    gjirafa_vp: Mutex<Stand<gjirafa_vp::World>>,
    s3: Mutex<Stand<s3::World>>,
}

impl Shared {
    fn new(settings: Settings) -> Self {
        Self {
            sevenbridges: Stand::new(sevenbridges::World::new(&settings.projects), &settings),
            basespace: Stand::new(basespace::World::new(), &settings),
            gjirafa_vp: Stand::new(gjirafa_vp::World::new(), &settings),
            s3: Stand::new(s3::World::new(), &settings),
            settings,
        }
    }

    fn stand(&self, vendor: Vendor) -> &dyn Control {
        match vendor {
            Vendor::SevenBridges => &self.sevenbridges,
            Vendor::BaseSpace => &self.basespace,
            Vendor::GjirafaVp => &self.gjirafa_vp,
            Vendor::S3 => &self.s3,
        }
    }

    /// Returns whether it simulates an outage: connections are closed at once.
    fn is_down(&self) -> bool {
        Vendor::ALL.iter().all(|vendor| self.stand(*vendor).is_down())
    }
}

/// Returns the time since 1970. The sandbox has the platforms' clock, not the daemon's.
#[expect(clippy::disallowed_methods, reason = "the sandbox is an island with a clock of its own")]
fn unix_time() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

impl Sandbox {
    /// Starts to listen. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When the address is in use or the directory cannot be created.
    pub async fn start(settings: Settings) -> io::Result<Self> {
        std::fs::create_dir_all(settings.directory.join("parts"))?;
        let listener = tokio::net::TcpListener::bind(settings.listen).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::new(settings));
        let server = server::start(listener, &shared);
        Ok(Self { address, shared, server })
    }

    /// Returns its address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the base URL of a stand-in.
    pub fn base_url(&self, vendor: Vendor) -> String {
        match vendor {
            Vendor::SevenBridges => format!("http://{}/v2", self.address),
            Vendor::BaseSpace => format!("http://{}/basespace/v1pre3", self.address),
            Vendor::GjirafaVp => format!("http://{}/gjirafa", self.address),
            Vendor::S3 => format!("http://{}", self.address),
        }
    }

    /// Returns what was received.
    pub fn ledger(&self, vendor: Vendor) -> Ledger {
        self.shared.stand(vendor).ledger()
    }

    /// Returns every file.
    pub fn files(&self, vendor: Vendor) -> Vec<RemoteFile> {
        self.shared.stand(vendor).files()
    }

    /// Changes a stand-in's deviations from the defaults.
    pub fn switch(&self, vendor: Vendor, switches: Switches) {
        self.shared.stand(vendor).set_switches(switches);
    }

    /// Drops every upload in progress at a stand-in.
    pub fn vanish(&self, vendor: Vendor) {
        self.shared.stand(vendor).vanish(None);
    }

    /// Replaces a stand-in's faults.
    pub fn set_rules(&self, vendor: Vendor, rules: Vec<Rule>) {
        self.shared.stand(vendor).set_rules(rules);
    }

    /// Returns the configuration lines of a destination at a stand-in, without its credential.
    pub fn destination_lines(&self, vendor: Vendor) -> String {
        let base_url = self.base_url(vendor);
        let head = format!("platform = \"{}\"\nbase_url = \"{base_url}\"\n", vendor.as_str());
        head + &match vendor {
            Vendor::SevenBridges => format!(
                "project = \"{}\"\n",
                self.shared.settings.projects.first().map_or("lab/demo", String::as_str)
            ),
            Vendor::BaseSpace => format!("project = \"{}\"\n", basespace::PROJECT),
            Vendor::GjirafaVp => format!("project = \"{}\"\n", gjirafa_vp::PROJECT),
            Vendor::S3 => {
                format!(
                    "region = \"{}\"\nbucket = \"{}\"\npath_style = true\n",
                    s3::REGION,
                    s3::BUCKET
                )
            }
        }
    }

    /// Returns a configuration for it.
    pub fn ready_configuration(&self) -> String {
        let mut text = "[state]\ndirectory = \"state\"\n\n".to_owned();
        for vendor in Vendor::ALL {
            text += &format!(
                "[destinations.{}]\n{}credential = {{ file = \"{}\" }}\n\n",
                vendor.as_str(),
                self.destination_lines(vendor),
                if vendor == Vendor::S3 { "sandbox.s3" } else { "sandbox.token" }
            );
        }
        let names = Vendor::ALL.map(|vendor| format!("\"{}\"", vendor.as_str())).join(", ");
        text + &format!(
            "[drops.example]\ndirectory = \"drop\"\ndestinations = [{names}]\n\
             quiet_period = \"5s\"\n"
        )
    }
}

impl Sandbox {
    /// Writes that configuration, its credentials and its drop directory into the directory of the
    /// sandbox, and returns its path. A configuration that already points here is kept.
    ///
    /// # Errors
    /// When something cannot be written.
    pub fn write_configuration(&self) -> io::Result<PathBuf> {
        let settings = &self.shared.settings;
        let place = |name: &str| settings.directory.join(name);
        let keys = format!(
            "[default]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
            s3::ACCESS_KEY,
            settings.token
        );
        for (name, secret) in [("sandbox.token", &settings.token), ("sandbox.s3", &keys)] {
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(place(name))?;
            file.write_all(secret.as_bytes())?;
        }
        std::fs::create_dir_all(place("drop"))?;
        let file = place("config.toml");
        let is_here = std::fs::read_to_string(&file)
            .is_ok_and(|text| text.contains(&self.base_url(Vendor::S3)));
        if !is_here {
            std::fs::write(&file, self.ready_configuration())?;
        }
        Ok(file)
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.server.abort();
    }
}
