//! Configuration: checked, typed and complete before anything starts.
//!
//! Two sets of types: `raw` mirrors the file, [`Config`] is what the program uses; outside of `raw`
//! no option is left open. All problems are found in one pass and reported with file, line, what
//! was found, what is allowed, and a hint. What this version cannot do is refused, never silently
//! ignored.

mod lenient;
mod many;
mod problem;
mod raw;
mod resolve;
mod sources;
mod units;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use self::raw::FileKeys;
use self::sources::Sources;
pub(crate) use problem::nearest_words;
pub(crate) use problem::{Problem, Problems};
pub(crate) use resolve::{CredentialPlace, PLATFORM_WORDS, PlatformWord};
pub(crate) use units::{duration_argument, parse_rate, unit_hint};

use crate::engine::settings::{
    ChannelSettings, DirectorySettings, ExportSettings, NoticeSettings, PartWish, PartsInFlight,
    RetrySettings,
};
use crate::limiter::{Rate, Timetable};
use crate::model::{ByteCount, DestinationName, NamePolicies, PartSize, TargetAddress, Traits};
use crate::notify;
use crate::platform::credential::CredentialSource;
use crate::platform::{basespace, gjirafa_vp, http, s3, sevenbridges};
use crate::{source, web};

/// The commented default configuration, which documents every key.
pub const DEFAULT: &str = include_str!("../config/default.toml");

#[derive(Debug, Clone)]
pub struct Config {
    pub path: PathBuf,
    /// The state directory.
    pub state_directory: PathBuf,
    pub care: Care,
    /// The path of the control socket.
    pub control_socket: PathBuf,
    /// The status page, if it is served.
    pub web: Option<web::Settings>,
    pub transfer: Transfer,
    pub retry: RetrySettings,
    pub network: http::Settings,
    pub destinations: Vec<Destination>,
    pub drops: Vec<Drop>,
    pub notify: NotifyConfig,
    /// Settings that are allowed, but may not be intended.
    pub warnings: Vec<Problem>,
}

/// The channels, and what they get.
#[derive(Debug, Clone)]
pub struct NotifyConfig {
    pub channels: Vec<ChannelConfig>,
    pub notices: NoticeSettings,
    /// The addresses for heartbeats.
    pub heartbeats: Vec<notify::heartbeat::Settings>,
}

/// The paths to find a daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// The state directory.
    pub state_directory: PathBuf,
    /// Possible paths of the control socket, the likeliest first.
    pub control_sockets: Vec<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Care {
    /// How long parts and attempts of ended uploads are kept; `None` is forever.
    pub keep_parts: Option<Duration>,
    /// Interval of copies; `None` is never.
    pub backup_interval: Option<Duration>,
    pub backups_kept: usize,
    /// Interval of checks; `None` is never.
    pub check_interval: Option<Duration>,
}

#[derive(Debug, Clone)]
pub struct ChannelConfig {
    pub settings: ChannelSettings,
    pub sender: notify::Sender,
}

#[derive(Debug, Clone)]
pub struct Transfer {
    pub parts_in_flight: PartsInFlight,
    pub part_size: PartWish,
    /// Ceiling for part buffers.
    pub memory: ByteCount,
    /// The limit in bytes per second, if there is one.
    pub bandwidth: Rate,
    /// When another rate applies.
    pub timetable: Timetable,
}

#[derive(Debug, Clone)]
pub struct Destination {
    pub name: DestinationName,
    pub platform: Platform,
    /// Other addresses of the same target.
    pub same_as: Vec<TargetAddress>,
    pub credential: CredentialSource,
    pub folder: String,
    pub policies: NamePolicies,
    pub metadata: Vec<(String, String)>,
    pub tags: Vec<String>,
    /// Where verified files are exported to.
    pub export: Option<ExportSettings>,
    /// A fixed call budget, instead of what the platform announces.
    pub calls_per_second: Option<f64>,
    /// The smallest part that it accepts, where that is less than the platform documents.
    pub part_size_min: Option<PartSize>,
}

impl Destination {
    /// Returns how its platform differs from the others.
    pub fn traits(&self) -> Traits {
        let mut traits = self.platform.traits();
        if let Some(min) = self.part_size_min {
            traits.limits.size_min = ByteCount(min.get());
        }
        traits
    }
}

impl Destination {
    /// Returns its target, which identifies it whatever its name.
    pub fn address(&self) -> TargetAddress {
        self.platform.address(self.platform.base_url())
    }

    /// Returns its target and those that are declared to be the same.
    pub fn addresses(&self) -> Vec<TargetAddress> {
        std::iter::once(self.address()).chain(self.same_as.iter().cloned()).collect()
    }
}

#[derive(Debug, Clone)]
pub enum Platform {
    SevenBridges(sevenbridges::Settings),
    GjirafaVp(gjirafa_vp::Settings),
    /// Any S3-compatible storage.
    S3(s3::Settings),
    BaseSpace(basespace::Settings),
}

impl Platform {
    /// Returns its name in the configuration.
    pub fn name(&self) -> &'static str {
        match self {
            Self::SevenBridges(_) => "sevenbridges",
            Self::GjirafaVp(_) => "gjirafa-vp",
            Self::S3(_) => "s3",
            Self::BaseSpace(_) => "basespace",
        }
    }

    /// Returns how it differs from the others.
    pub fn traits(&self) -> Traits {
        let mut traits = match self {
            Self::SevenBridges(_) => sevenbridges::TRAITS,
            Self::GjirafaVp(_) => gjirafa_vp::TRAITS,
            Self::S3(_) => s3::TRAITS,
            Self::BaseSpace(_) => basespace::TRAITS,
        };
        if let Self::BaseSpace(settings) = self {
            traits.finishes_runs = matches!(settings.place, basespace::BaseSpacePlace::Project(_));
        }
        traits
    }

    fn is_here(&self) -> bool {
        http::parse_url(self.base_url()).is_ok_and(|url| http::is_loopback(&url))
    }

    /// Returns the call budget to use where the platform announces none.
    pub fn calls_per_second(&self) -> Option<f64> {
        match self {
            Self::SevenBridges(_) => None,
            // The vendor gives no limit: a modest rate, except for a server on this machine.
            Self::GjirafaVp(_) => Some(if self.is_here() { 10_000.0 } else { 5.0 }),
            // Storages are made for many calls, and report when there are too many.
            Self::S3(_) => Some(10_000.0),
            // The vendor limits calls, but does not document the limit.
            Self::BaseSpace(_) => Some(if self.is_here() { 10_000.0 } else { 10.0 }),
        }
    }

    /// Returns its target at an address: all spellings of one address give one target.
    pub fn address(&self, base_url: &str) -> TargetAddress {
        let container = match self {
            Self::SevenBridges(settings) => settings.project.clone(),
            Self::GjirafaVp(settings) => settings.project.clone(),
            Self::S3(settings) => settings.bucket.clone(),
            Self::BaseSpace(settings) => match &settings.place {
                basespace::BaseSpacePlace::AppResult(id) => format!("AppResult {id}"),
                basespace::BaseSpacePlace::Project(project) => format!("project {project}"),
            },
        };
        let base_url = http::canonical_url(base_url);
        TargetAddress { platform: self.name().to_owned(), base_url, container }
    }

    /// Returns whether the operator accepts plain HTTP.
    pub fn allows_plain_http(&self) -> bool {
        matches!(self, Self::S3(s3::Settings { allow_plain_http: true, .. }))
    }

    /// Returns the address of its account, which shares a call budget.
    pub fn base_url(&self) -> &str {
        match self {
            Self::SevenBridges(settings) => &settings.base_url,
            Self::GjirafaVp(settings) => &settings.base_url,
            Self::S3(settings) => &settings.base_url,
            Self::BaseSpace(settings) => &settings.base_url,
        }
    }
}

#[derive(Debug, Clone)]
pub struct Drop {
    /// The engine's settings.
    pub settings: DirectorySettings,
    /// The settings of finding files.
    pub source: source::Settings,
}

impl Drop {
    /// Returns the profile of the run folders in it.
    pub fn profile(&self) -> &Arc<source::Profile> {
        &self.source.profile
    }
}

/// Reads an environment variable.
pub(crate) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Returns the file to read: the requested one, else `$DROPFERRY_CONFIG`, else the system's.
pub(crate) fn locate(asked: Option<&Path>, environment: Environment<'_>) -> PathBuf {
    asked
        .map(Path::to_owned)
        .or_else(|| environment("DROPFERRY_CONFIG").map(PathBuf::from))
        .unwrap_or_else(|| "/etc/dropferry/config.toml".into())
}

impl Config {
    /// Reads and checks a configuration file.
    pub fn load(path: &Path, environment: Environment<'_>) -> Result<Self, Problems> {
        let sources = Sources::read(path)?;
        resolve::resolve(&sources, FileKeys::of_right_keys(&sources)?, environment)
    }

    /// Reads only the paths of the state and the control socket, for commands that only read or
    /// ask: they may be about an unreadable drop directory or a missing credential.
    pub fn load_places(path: &Path, environment: Environment<'_>) -> Result<Places, Problems> {
        let sources = Sources::read(path)?;
        resolve::places(&sources, FileKeys::of(&sources)?, environment)
    }

    /// Reads only the names of the drop directories, and accesses none: one may be on a share that
    /// does not answer.
    pub fn load_drop_directories(
        path: &Path,
        environment: Environment<'_>,
    ) -> Result<Vec<(String, PathBuf)>, Problems> {
        let sources = Sources::read(path)?;
        Ok(resolve::drop_directories(&sources, FileKeys::of(&sources)?, environment))
    }

    /// Reads which file holds a destination's credential, which need not exist yet; `None` where
    /// the configuration has no such destination.
    pub(crate) fn load_credential_place(
        path: &Path,
        name: &str,
        environment: Environment<'_>,
    ) -> Result<Option<CredentialPlace>, Problems> {
        let sources = Sources::read(path)?;
        Ok(resolve::credential_place(&sources, FileKeys::of(&sources)?, environment, name))
    }

    /// Reads and checks one destination, with another credential file, and the network; nothing else.
    pub(crate) fn load_destination(
        path: &Path,
        name: &str,
        credential: &Path,
        environment: Environment<'_>,
    ) -> Result<Self, Problems> {
        let sources = Sources::read(path)?;
        let keys = FileKeys::of_right_keys(&sources)?.of_destination(name, credential);
        resolve::resolve(&sources, keys, environment)
    }

    /// Returns whether a configuration has no drop directory and no destination yet.
    pub(crate) fn is_blank(path: &Path) -> Result<bool, Problems> {
        let sources = Sources::read(path)?;
        let keys = FileKeys::of(&sources)?;
        Ok(keys.drops.is_empty() && keys.destinations.is_empty())
    }

    /// Returns every file with a secret.
    pub fn secret_files(&self) -> Vec<&Path> {
        let credentials = self.destinations.iter().filter_map(|target| target.credential.file());
        let credentials = credentials.chain(self.network.proxy_credential.as_deref());
        let channels =
            self.notify.channels.iter().flat_map(|channel| channel.sender.secret_files());
        let beats = self.notify.heartbeats.iter().map(|beat| beat.url_file.as_path());
        credentials.chain(channels).chain(beats).collect()
    }

    /// Refuses a file of our own in a drop directory: it would be uploaded.
    ///
    /// # Errors
    /// Names the drop directory.
    pub(crate) fn check_apart(&self, what: &str, file: &Path) -> Result<(), Problems> {
        resolve::check_apart(self, what, file)
    }

    /// Checks the text of a configuration file.
    pub fn parse(path: &Path, text: &str, environment: Environment<'_>) -> Result<Self, Problems> {
        let sources = Sources::single(path, text);
        resolve::resolve(&sources, FileKeys::of_right_keys(&sources)?, environment)
    }
}

/// The shortest quiet period and scan interval: less would be a busy loop.
const INTERVAL_MIN: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests;
