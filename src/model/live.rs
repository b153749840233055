//! What only the running daemon knows: what moves at this moment, and what holds it up besides what is
//! stored. It is asked for and shown, and never kept.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::bytes::{ByteCount, PartNumber};
use super::file::SourcePath;
use super::id::{DestinationName, DirectoryName, UploadId};
use super::time::WallTime;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Live {
    /// Runs of which something was sent within the last seconds, or is in flight.
    pub flows: Vec<Flow>,
    /// Destinations whose calls are spread over time.
    pub paced: BTreeMap<DestinationName, LivePause>,
    /// The bandwidth is 0.
    pub stopped: Option<LivePause>,
    /// Parts in flight; files that go in one request have one.
    #[serde(default)]
    pub parts: Vec<(UploadId, PartNumber)>,
}

/// What of a run goes to one destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flow {
    pub key: FlowKey,
    /// Bytes sent in a second, lately, without those that were sent in vain.
    pub bytes_per_second: u64,
    pub parts_in_flight: u32,
    pub in_flight: ByteCount,
    /// Parts are in flight, and since then not a byte of them has gone.
    pub stalled_since: Option<WallTime>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FlowKey {
    pub destination: DestinationName,
    pub drop: DirectoryName,
    /// Empty for files that are runs of their own.
    pub run: SourcePath,
}

/// Why nothing is sent, and until when where that is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LivePause {
    pub reason: String,
    pub until: Option<WallTime>,
}

impl Live {
    /// Returns what goes to a destination.
    pub fn flows_to(&self, destination: &str) -> impl Iterator<Item = &Flow> {
        self.flows.iter().filter(move |flow| flow.key.destination.as_str() == destination)
    }

    /// Returns which parts of an upload are in flight.
    pub fn parts_of(&self, upload: UploadId) -> impl Iterator<Item = PartNumber> {
        let of_it = self.parts.iter().filter(move |(id, _)| *id == upload);
        of_it.map(|(_, number)| *number)
    }

    /// Returns what of a run goes to a destination.
    pub fn flow(&self, drop: &str, run: &SourcePath, destination: &str) -> Option<&Flow> {
        let is_meant = |flow: &&Flow| flow.key.drop.as_str() == drop && flow.key.run == *run;
        self.flows_to(destination).find(is_meant)
    }
}
