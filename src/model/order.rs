//! Orders of operators and their scope. An order is the same value in the command line, in the
//! request to the daemon, and in the engine.

use serde::{Deserialize, Serialize};

use super::file::SourcePath;
use super::id::{DestinationName, DirectoryName, UploadId};
use super::record::{Admission, AdmittedFile};
use super::run::RunRow;
use super::shown::Shown;
use super::time::WallTime;
use super::words::words;

/// The scope of an order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    All,
    Destination(DestinationName),
    Drop(DirectoryName),
    Run(DirectoryName, SourcePath),
    Upload(UploadId),
}

impl Scope {
    /// Returns whether an upload is in the scope.
    pub fn covers(&self, upload: &Admission) -> bool {
        let AdmittedFile { drop, run, .. } = &upload.file;
        match self {
            Self::All => true,
            Self::Destination(name) => *name == upload.destination,
            Self::Drop(name) => name == drop,
            Self::Run(of, name) => of == drop && name == run,
            Self::Upload(id) => *id == upload.id,
        }
    }

    /// Returns whether a run is meant, and not only uploads of it.
    pub fn covers_run(&self, run: &RunRow) -> bool {
        match self {
            Self::All => true,
            Self::Drop(name) => *name == run.drop,
            Self::Run(drop, name) => (drop, name) == (&run.drop, &run.name),
            Self::Destination(_) | Self::Upload(_) => false,
        }
    }
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::All => write!(f, "everything"),
            Self::Destination(name) => write!(f, "destination {}", Shown(name.as_str())),
            Self::Drop(name) => write!(f, "drop {}", Shown(name.as_str())),
            Self::Run(drop, run) => write!(f, "{}/{run}", Shown(drop.as_str())),
            Self::Upload(id) => write!(f, "upload {id}"),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verb {
    /// Start nothing in the scope until it is resumed.
    Pause,
    Resume,
    /// Try waiting uploads at once, and parked ones again.
    Retry,
    /// Try again uploads that are parked because their name is taken, as the operator decided.
    Decide(NameDecision),
    Abandon,
    /// Accept another directory at the path of a drop directory.
    AcceptRoot,
}

words! {
    /// An operator's decision about a taken name.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    pub enum NameDecision {
        /// The file that has the name is replaced.
        Overwrite = "overwrite";
        /// The file gets another name.
        KeepBoth = "keep-both";
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderChange {
    pub of: Scope,
    /// The object of the order exists and has not ended.
    pub is_known: bool,
    pub upload_count: u64,
}

words! {
    /// The lasting part of an order, until it is withdrawn or carried out.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
    pub enum Standing {
        Paused = "paused";
        /// The upload is to end as soon as it is known what was begun for it.
        GivenUp = "given-up";
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrderRecord {
    Stands {
        standing: Standing,
        scope: Scope,
        at: WallTime,
    },
    /// It was withdrawn, or carried out.
    Over {
        standing: Standing,
        scope: Scope,
    },
    /// A rate is set, or the configured one applies again.
    Bandwidth {
        /// Bytes per second, inner `None` for unlimited; outer `None` for the configured rate.
        rate: Option<Option<u64>>,
        at: WallTime,
    },
}
