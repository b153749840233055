//! Exports of completed files to an attached volume.

use serde::{Deserialize, Serialize};

use super::failure::Failure;
use super::id::{ExportId, RemoteFileId};
use super::time::WallTime;

/// Where a file is exported to. Frozen when the export is intended.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ExportPlace {
    pub volume: String,
    /// The object's key below the volume's own prefix.
    pub location: String,
}

/// The durable state of one upload's export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Export {
    pub place: ExportPlace,
    pub step: ExportStep,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExportStep {
    /// We asked for a job, or were about to.
    Intended {
        since: WallTime,
    },
    /// The platform has a job of ours.
    Started {
        job: ExportId,
    },
    /// The job failed, or none was made: certainly none is running.
    Failed,
    Done,
}

/// One file to export, as the platform is asked for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportItem {
    pub file: RemoteFileId,
    pub place: ExportPlace,
}

/// How exports are made at a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportMode {
    /// The file stays at the platform; otherwise it is moved out of it.
    pub copy_only: bool,
    /// An object with that key is replaced.
    pub overwrite: bool,
}

/// A job, as the platform reports it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportJob {
    pub id: ExportId,
    pub state: ExportState,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExportState {
    /// It waits or runs.
    Pending,
    Completed,
    Failed(Failure),
}
