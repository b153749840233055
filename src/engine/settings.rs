//! The engine's settings: drop directories, destinations, limits. Validated by `config`.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::{
    ByteCount, Channel, Closing, DestinationName, DirectoryName, Disposition, ExportMode,
    NamePolicies, NoticeKind, PartSize, ReportPeriod, Space, Start, TargetAddress, Traits, Unit,
    WholeDigest,
};

/// All settings of the engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    pub drops: Vec<DirectorySettings>,
    pub destinations: Vec<DestinationSettings>,
    /// Limit of parts in flight.
    pub parts_in_flight: PartsInFlight,
    /// Ceiling for part buffers.
    pub memory: ByteCount,
    /// Most memory that one part in flight takes.
    pub memory_per_part: ByteCount,
    pub retry: RetrySettings,
    /// Who is notified, and of what.
    pub channels: Vec<ChannelSettings>,
    pub notices: NoticeSettings,
}

/// Most parts in flight to one destination, where the configuration gives no number: more
/// connections take memory and strain the server; one of them carries 4 MiB per round trip, so all
/// of them fill a gigabit at a round trip of one second.
pub(super) const WIDTH_MAX: u32 = 32;

/// How many parts are in flight at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PartsInFlight {
    /// As many to each destination as increase the rate.
    Auto,
    /// This many, all destinations together.
    Fixed(u32),
}

impl PartsInFlight {
    /// Returns the most that may be in flight to one destination.
    pub fn most(self) -> u32 {
        match self {
            Self::Auto => WIDTH_MAX,
            Self::Fixed(count) => count,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PartWish {
    /// Chosen for the measured speed.
    Auto,
    Fixed(PartSize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoticeSettings {
    /// A destination that is unreachable for this long is notified.
    pub unreachable_after: Duration,
    /// An upload that fails for this long is notified.
    pub stuck_after: Duration,
    /// A file system with less free space than this is notified.
    pub disk_floor: DiskFloor,
    /// How often a summary is sent, if ever.
    pub report: Option<ReportPeriod>,
}

impl Default for NoticeSettings {
    fn default() -> Self {
        Self {
            unreachable_after: Duration::from_hours(1),
            stuck_after: Duration::from_hours(1),
            disk_floor: DiskFloor::Percent(5),
            report: None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DiskFloor {
    /// Hundredths of its size.
    Percent(u8),
    Bytes(ByteCount),
}

impl DiskFloor {
    /// Returns whether the space is too little. Once it was, it must exceed the limit by a fifth,
    /// so that a varying space is not a new condition each time.
    pub fn is_low(self, space: Space, was_low: bool) -> bool {
        let floor = match self {
            Self::Percent(share) => space.total.0 / 100 * u64::from(share),
            Self::Bytes(size) => size.0,
        };
        let floor = if was_low { floor.saturating_add(floor / 5) } else { floor };
        space.free.0 < floor
    }
}

/// A channel by which people are notified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelSettings {
    pub channel: Channel,
    /// The kinds of notices that it gets.
    pub on: BTreeSet<NoticeKind>,
}

impl ChannelSettings {
    /// Returns the settings of a channel that gets every kind.
    pub fn plain(channel: Channel) -> Self {
        Self { channel, on: NoticeKind::all_told().collect() }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetrySettings {
    /// The first delay's ceiling.
    pub delay_min: Duration,
    /// The ceiling of later delays, unless the platform asks for more.
    pub delay_max: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectorySettings {
    /// `[drops.NAME]`.
    pub name: DirectoryName,
    /// Its directory, as it is displayed.
    pub directory: String,
    /// One upload to each.
    pub destinations: Vec<DestinationName>,
    pub runs: RunSettings,
    /// A file without changes for this long has settled.
    pub quiet_period: Duration,
    /// Files are found by scans and events; otherwise each is handed in.
    pub is_scanned: bool,
    /// From the end of one scan to the start of the next.
    pub scan_interval: Duration,
    /// Higher goes first.
    pub priority: i32,
    /// Most parts of its files in flight, to all destinations.
    pub places_max: PartsInFlight,
    /// The digest of the whole file for each receipt.
    pub whole_digest: Option<WholeDigest>,
    pub disposal: DisposalSettings,
}

/// What makes a run, and what happens to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunSettings {
    pub unit: Unit,
    pub start: Start,
    pub closing: Closing,
    /// Names or metadata at a destination use words from a run's own files.
    pub needs_words: bool,
    /// The name under which a completed run's receipt is sent.
    pub sentinel: Option<String>,
}

/// What happens to sources.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DisposalSettings {
    pub disposition: Disposition,
    /// Time to wait after completion.
    pub grace: Duration,
    /// With less free space than this, the grace is skipped.
    pub free_space: Option<ByteCount>,
    /// Sources are disposed of also where a destination cannot be asked about its files.
    pub unverified: bool,
}

impl DirectorySettings {
    /// Returns the settings of the drop directory of handed-in files.
    pub fn handed_in(destinations: Vec<DestinationName>) -> Self {
        let plain = Self::plain(DirectoryName::handed_in(), "/".into(), destinations);
        let runs = RunSettings { unit: Unit::File, ..plain.runs };
        Self { runs, is_scanned: false, ..plain }
    }

    /// Returns default settings of a drop directory: files are sent as they settle, runs close
    /// after a period without change, sources are kept.
    pub fn plain(
        name: DirectoryName,
        directory: String,
        destinations: Vec<DestinationName>,
    ) -> Self {
        let quiet_period = Duration::from_mins(2);
        Self {
            name,
            directory,
            destinations,
            quiet_period,
            is_scanned: true,
            scan_interval: Duration::from_mins(5),
            priority: 0,
            places_max: PartsInFlight::Auto,
            runs: RunSettings {
                unit: Unit::Directory,
                start: Start::AsFilesSettle,
                closing: Closing {
                    reads_runs: false,
                    may_skip: false,
                    has_groups: false,
                    tells_runs_apart: false,
                    quiet: quiet_period * 10,
                    stale_after: Duration::from_hours(96),
                },
                needs_words: false,
                sentinel: None,
            },
            whole_digest: None,
            disposal: DisposalSettings {
                disposition: Disposition::Keep,
                grace: Duration::ZERO,
                free_space: None,
                unverified: false,
            },
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DestinationSettings {
    /// `[destinations.NAME]`.
    pub name: DestinationName,
    /// The platform's name, for people.
    pub platform: String,
    /// The address of its target.
    pub address: TargetAddress,
    /// Other addresses of the same target.
    pub same_as: Vec<TargetAddress>,
    /// How the platform differs from others.
    pub traits: Traits,
    pub part_size: PartWish,
    /// Remote folder, with `{drop}`, `{run}` and `{date}`; empty for the top.
    pub folder: String,
    /// What to do about a file with the name of an upload.
    pub policies: NamePolicies,
    /// Metadata to set on each file; values may contain the same words in braces.
    pub metadata: Vec<(String, String)>,
    pub tags: Vec<String>,
    /// Where verified files are exported to, if at all.
    pub export: Option<ExportSettings>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportSettings {
    pub volume: String,
    /// The folders before a file's own directories, with the same words in braces as the folder.
    pub prefix: String,
    pub mode: ExportMode,
}
