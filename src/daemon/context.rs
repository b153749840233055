//! What acts need: the destinations, the drop directories, the rows, the clock. Decides nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

use super::bandwidth::Bandwidth;
use super::digests::DigestPool;
use super::hung::Hung;
use super::notices::ChannelClient;
use super::readers::Readers;
use super::receipts::Receipts;
use super::walker::Walker;
use crate::clock::Clock;
use crate::engine::event::{Event, ReadFrom};
use crate::engine::settings::DiskFloor;
use crate::model::{Channel, DestinationName, DirectoryName, Failure, FailureKind, Space};
use crate::notify::Sender;
use crate::platform::Destination;
use crate::receipt;
use crate::source::{DirectoryRoot, Filter, PartReader, RootMark, SourceFile};

/// Everything that acts need, and nothing that decides.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) destinations: BTreeMap<DestinationName, Destination>,
    /// Each drop directory's destinations.
    pub(crate) targets: BTreeMap<DirectoryName, Vec<DestinationName>>,
    pub(crate) sources: BTreeMap<DirectoryName, Source>,
    pub(crate) channels: Channels,
    /// The state directory.
    pub(crate) state: PathBuf,
    /// Lines of ledgers to write.
    pub(crate) receipts: Receipts,
    /// Views of the rows.
    pub(crate) readers: Readers,
    /// Receives the observations of a running scan.
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) parts: PartReader,
    /// The bandwidth limit.
    pub(crate) bandwidth: Arc<Bandwidth>,
    pub(crate) stopping: Stopping,
    /// For measuring durations.
    pub(crate) clock: Clock,
}

/// The channels of notices.
#[derive(Debug)]
pub(crate) struct Channels {
    pub(crate) senders: BTreeMap<Channel, Sender>,
    /// Sends their requests.
    pub(crate) client: ChannelClient,
    /// Less free space than this is reported.
    pub(crate) disk_floor: DiskFloor,
}

/// How far the daemon has stopped; acts that read for long check it.
#[derive(Debug, Default)]
pub(crate) struct Stopping {
    /// Stops reads that nothing waits for any more.
    pub(crate) stop: AtomicBool,
    /// Stops reads that can as well be done after the next start.
    pub(crate) drains: AtomicBool,
}

/// One drop directory, ready to be looked at.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) root: Arc<DirectoryRoot>,
    /// Files in it are found; otherwise each is handed in.
    pub(crate) is_watched: bool,
    /// Which of its files are uploaded, and in which order.
    pub(crate) filter: Filter,
    pub(crate) digests: DigestPool,
    /// Reads that hang.
    pub(crate) hung: Hung,
    pub(crate) walker: Walker,
    /// The directory that scans see at its path: its watch must be on that one.
    pub(crate) seen: tokio::sync::watch::Sender<Option<RootMark>>,
    pub(super) space: Mutex<Option<Space>>,
}

impl Source {
    /// Notes the space on its file system, as a scan found it.
    pub(super) fn note_space(&self, space: Option<Space>) {
        *self.space.lock().unwrap_or_else(PoisonError::into_inner) = space;
    }

    /// Returns the space on its file system, when it was scanned last.
    pub(super) fn space(&self) -> Option<Space> {
        *self.space.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Informs the watch which directory is at the path, or that none is visible.
    pub(super) fn see(&self, mark: Option<RootMark>) {
        self.seen.send_if_modified(|seen| std::mem::replace(seen, mark) != mark);
    }
}

pub(super) fn to<'a>(world: &'a World, name: &DestinationName) -> Result<&'a Destination, Failure> {
    let missing = || Failure::new(FailureKind::LocalFault, format!("{name} is not configured"));
    world.destinations.get(name).ok_or_else(missing)
}

pub(super) fn drop_of<'a>(world: &'a World, name: &DirectoryName) -> Result<&'a Source, Failure> {
    let missing = || Failure::new(FailureKind::LocalFault, format!("{name} is not configured"));
    world.sources.get(name).ok_or_else(missing)
}

pub(super) fn source_file(world: &World, from: ReadFrom) -> Result<SourceFile, Failure> {
    let root = match from.is_sentinel {
        true => Arc::new(DirectoryRoot::at(receipt::sentinel::directory(&world.state))),
        false => Arc::clone(&drop_of(world, &from.drop)?.root),
    };
    let ReadFrom { path, fingerprint, provenance, .. } = from;
    if provenance.is_none() && !from.is_sentinel && from.drop == DirectoryName::handed_in() {
        let why = format!("whose {path} was when it was handed in is not known");
        return Err(Failure::new(FailureKind::SourceChanged, why));
    }
    Ok(SourceFile { root, path, fingerprint, provenance })
}
