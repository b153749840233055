//! What acts need: the destinations, the drop directories, the rows, the clock. Decides nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

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
use crate::model::{Channel, DestinationName, DirectoryName, Failure, FailureKind};
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
    /// Where the rows and the receipts are.
    pub(crate) state: PathBuf,
    /// Lines of ledgers that wait to be written.
    pub(crate) receipts: Receipts,
    /// Views of the rows.
    pub(crate) readers: Readers,
    /// Where observations go while a scan runs.
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) parts: PartReader,
    /// Bytes a second.
    pub(crate) bandwidth: Arc<Bandwidth>,
    pub(crate) stopping: Stopping,
    /// For how long things take.
    pub(crate) clock: Clock,
}

/// Where notices go.
#[derive(Debug)]
pub(crate) struct Channels {
    pub(crate) senders: BTreeMap<Channel, Sender>,
    /// Makes their calls.
    pub(crate) client: ChannelClient,
}

/// How far the daemon has stopped; acts that read for long look at it.
#[derive(Debug, Default)]
pub(crate) struct Stopping {
    /// Reading that nothing waits for any more stops.
    pub(crate) stop: AtomicBool,
    /// Reading that can as well be done after the next start stops.
    pub(crate) drains: AtomicBool,
}

/// One drop directory, ready to be looked at.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) root: Arc<DirectoryRoot>,
    /// Files in it are found; without, each is handed in.
    pub(crate) is_watched: bool,
    /// What of it is uploaded, and in which order.
    pub(crate) filter: Filter,
    pub(crate) digests: DigestPool,
    /// Reads that do not come back.
    pub(crate) hung: Hung,
    pub(crate) walker: Walker,
    /// Which directory scans see at its path: its watch must be on that one.
    pub(crate) seen: tokio::sync::watch::Sender<Option<RootMark>>,
}

impl Source {
    /// Tells the watch which directory stands at the path, or that none can be seen.
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
