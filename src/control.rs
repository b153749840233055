//! The control socket: requests of operators to the running daemon, and its answers.
//!
//! *Owns* the protocol, the socket's file and both ends of a connection. One request is one line of
//! JSON, answered by one line; a connection may carry several, one after the other. Files that are
//! handed in come as open descriptors, in the same message as their request. *Promises*: the file
//! has mode 0660 from its creation, replaces only a socket that a daemon of the same user left
//! behind, and is created again when it was removed; the kernel reports a peer's user, and a user
//! who could only connect because the file was opened to everybody is refused; lines, lists and
//! descriptors are limited, and so is the time in which a peer must send a line or read an answer.
//! *Never* carries a secret, and never accepts a path alone as permission to read a file: the
//! daemon may have more rights than the peer.
//!
//! A change is committed before it is answered. *After a crash* the file remains; the next daemon,
//! which holds the lock of the state, replaces it.

mod client;
mod listener;
mod place;
mod users;
mod wire;

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::model::{ClosedByHand, DirectoryName, Live, OrderChange, Scope, SourcePath, Verb};

pub use client::ask;
pub(crate) use client::reach;
pub(crate) use listener::{Answerers, Listener};
pub(crate) use place::check_place;
pub(crate) use users::{LocalUser, user_shown};
pub(crate) use wire::Descriptors;

/// Limit of files in one request, each with its descriptor. Sixteen connections at once use no more
/// descriptors than a daemon with the smallest usual limit has to spare.
pub(crate) const FILES_MAX: usize = 16;
/// Limit of scopes in one order.
pub(crate) const SCOPES_MAX: usize = 1000;
/// Limit of a request's length: enough for that many scopes with paths of usual length.
const REQUEST_MAX: usize = 1024 * 1024;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ControlRequest {
    Order {
        verb: Verb,
        of: Vec<Scope>,
    },
    /// Close a run although its markers or listed files are missing.
    Close {
        drop: DirectoryName,
        run: SourcePath,
    },
    /// Send the files at a destination's former targets to its current target.
    Resend {
        to: String,
    },
    /// Send these files once. Each comes with a descriptor that the peer opened for reading, in the
    /// same order: the proof that the peer may read the file.
    Upload {
        /// Absolute paths, as bytes: names need not be UTF-8.
        paths: Vec<Vec<u8>>,
        /// The directory to which their names at the destination are relative; each file's own
        /// directory when there is none.
        #[serde(default)]
        below: Option<Vec<u8>>,
        to: String,
    },
    /// Report or set the bandwidth.
    Bandwidth {
        /// The rate to use instead of the configured one; `None` only reports.
        set: Option<RateOrder>,
    },
    /// Report what only the running daemon knows.
    Live,
    /// Report or set the log level.
    LogLevel {
        /// The level; `None` only reports.
        set: Option<String>,
    },
}

/// An ordered bandwidth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RateOrder {
    Configured,
    Unlimited,
    /// Bytes per second; zero stops.
    BytesPerSecond(u64),
}

impl ControlRequest {
    /// Describes which limit a request exceeds.
    fn excess(&self) -> Option<String> {
        match self {
            Self::Order { of, .. } => {
                let count = of.len();
                let why = || format!("an order names at most {SCOPES_MAX} things, not {count}");
                (count > SCOPES_MAX).then(why)
            }
            Self::Upload { paths, .. } => {
                let count = paths.len();
                let why = || format!("a request holds at most {FILES_MAX} files, not {count}");
                (count > FILES_MAX).then(why)
            }
            Self::Close { .. }
            | Self::Live
            | Self::Resend { .. }
            | Self::Bandwidth { .. }
            | Self::LogLevel { .. } => None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// It was done, and is committed.
    Changed(Vec<OrderChange>),
    /// The results of handed-in files.
    HandedIn {
        /// Each file's upload.
        uploads: Vec<Handed>,
        /// Paths that are not uploaded, and why.
        left_out: Vec<(String, String)>,
    },
    Bandwidth {
        /// Bytes per second; `None` is unlimited.
        bytes_per_second: Option<u64>,
        /// An ordered rate is in force, not the configured one.
        is_ordered: bool,
    },
    /// The files at former targets are sent again.
    Resending,
    /// The run is closed.
    Closed(ClosedByHand),
    LogLevel(String),
    Live(Live),
    /// It was not done, and why.
    Refused(String),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handed {
    /// Its path, for people.
    pub path: String,
    /// Its upload; `None` when this version was handed in for the destination before.
    pub upload: Option<i64>,
}

/// A request to the daemon's loop.
#[derive(Debug)]
pub(crate) struct ReceivedRequest {
    pub request: ControlRequest,
    pub descriptors: Descriptors,
    /// The peer's user id.
    pub user: u32,
    pub answer: oneshot::Sender<Reply>,
}

/// Why there is no socket, or no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing listens, because no daemon runs.
    #[error("no daemon listens at {}", path.display())]
    NotRunning { path: PathBuf },
    /// Nothing listens, although a daemon runs.
    #[error("a daemon runs, but its control socket {} is not there", path.display())]
    SocketGone { path: PathBuf },
    /// The socket's file may not be used, or cannot be created.
    #[error("the control socket {} cannot be used", path.display())]
    Unusable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The answer is invalid or missing.
    #[error("the daemon at {} gave no answer that can be understood: {why}", path.display())]
    NoAnswer { path: PathBuf, why: String },
}

impl Error {
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotRunning { .. } => {
                Some("start it: systemctl start dropferry, or dropferry run".into())
            }
            Self::SocketGone { .. } => Some(
                "the daemon makes it again within a minute; if it does not, its log says why"
                    .into(),
            ),
            Self::Unusable { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some("ask as root, or as a member of the group that owns the socket".into())
            }
            Self::Unusable { source, .. } if source.kind() == io::ErrorKind::InvalidInput => {
                Some(format!("set [control] socket to a path of at most {} bytes", place::PATH_MAX))
            }
            Self::Unusable { .. } | Self::NoAnswer { .. } => None,
        }
    }
}
