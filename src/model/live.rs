//! What only the running daemon knows: current traffic, and delays that are not stored. Computed on
//! demand for display, and never kept.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::bytes::{ByteCount, PartNumber, Space};
use super::file::SourcePath;
use super::id::{DestinationName, DirectoryName, UploadId};
use super::time::WallTime;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Live {
    /// Runs with traffic within the last seconds, or with bytes in flight.
    pub flows: Vec<Flow>,
    /// Destinations whose calls are spread over time.
    pub paced: BTreeMap<DestinationName, LivePause>,
    /// The bandwidth limit is 0.
    pub stopped: Option<LivePause>,
    /// Parts in flight; a file that is sent in one request has one.
    #[serde(default)]
    pub parts: Vec<LivePart>,
    /// File systems with little free space.
    #[serde(default)]
    pub low_disks: Vec<LowDisk>,
}

/// A file system with little free space.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LowDisk {
    /// The state directory or a drop directory.
    pub directory: String,
    /// The drop directory's name.
    pub drop: Option<DirectoryName>,
    pub space: Space,
}

/// A part in flight.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LivePart {
    pub upload: UploadId,
    pub number: PartNumber,
    /// Bytes handed to the connection.
    pub sent: ByteCount,
}

/// The traffic of a run to one destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flow {
    pub key: FlowKey,
    /// Recent rate, without bytes that were sent without effect.
    pub bytes_per_second: u64,
    pub parts_in_flight: u32,
    pub in_flight: ByteCount,
    /// Parts are in flight, and none of their bytes has moved since then.
    pub stalled_since: Option<WallTime>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FlowKey {
    pub destination: DestinationName,
    pub drop: DirectoryName,
    /// Empty for files that are runs of their own.
    pub run: SourcePath,
}

/// Why nothing is sent, and until when, where that is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LivePause {
    pub reason: String,
    pub until: Option<WallTime>,
}

impl Live {
    /// Returns the traffic to a destination.
    pub fn flows_to(&self, destination: &str) -> impl Iterator<Item = &Flow> {
        self.flows.iter().filter(move |flow| flow.key.destination.as_str() == destination)
    }

    /// Returns the parts of an upload that are in flight.
    pub fn parts_of(&self, upload: UploadId) -> impl Iterator<Item = PartNumber> {
        self.parts.iter().filter(move |part| part.upload == upload).map(|part| part.number)
    }

    /// Returns the traffic of a run to a destination.
    pub fn flow(&self, drop: &str, run: &SourcePath, destination: &str) -> Option<&Flow> {
        let is_meant = |flow: &&Flow| flow.key.drop.as_str() == drop && flow.key.run == *run;
        self.flows_to(destination).find(is_meant)
    }
}
