//! The control socket: what an operator may ask of the running daemon, and what it answers.
//!
//! *Owns* the words of the protocol, the socket's file and both ends of a conversation. One request is
//! one line of JSON, answered by one line; a connection may hold several, one after the other. Files
//! that are handed in come with open descriptors, in the same message as their request.
//! *Promises*: the file has mode 0660 from its first moment, takes the place of nothing but a socket
//! that a daemon of the same user left behind, and is made again when it was removed; a peer's user is
//! asked of the kernel, and one who could only have come in because the file was opened to everybody
//! is refused; lines, lists and descriptors are bounded, and so is the time that a peer may take to
//! send a line or to read an answer. *Never* carries a secret, and never takes a path alone as a
//! reason to read a file: the daemon may read more than the peer.
//!
//! What is changed is committed before it is answered. *At a crash* the file stays behind; the next
//! daemon, which holds the lock of the state, takes its place.

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
pub(crate) use listener::Listener;
pub(crate) use place::check_place;
pub(crate) use users::{LocalUser, user_shown};
pub(crate) use wire::Descriptors;

/// Files in one request, each with its descriptor. Sixteen conversations at once take no more
/// descriptors than a daemon with the smallest usual limit has to spare.
pub(crate) const FILES_MAX: usize = 16;
/// Things that one order names.
pub(crate) const SCOPES_MAX: usize = 1000;
/// The longest request: so many things with paths of usual length fit.
const REQUEST_MAX: usize = 1024 * 1024;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ControlRequest {
    Order {
        verb: Verb,
        of: Vec<Scope>,
    },
    /// Close a run although its markers or listed files have not come.
    Close {
        drop: DirectoryName,
        run: SourcePath,
    },
    /// Send to a destination's target what its former targets hold.
    Resend {
        to: String,
    },
    /// Send these files once. Each comes with a descriptor that the peer opened for reading, in the
    /// same order: the proof that the peer may read what the daemon is to send.
    Upload {
        /// Absolute paths, as bytes: not every name is text.
        paths: Vec<Vec<u8>>,
        /// The directory below which their names at the destination begin; each file's own directory
        /// when there is none.
        #[serde(default)]
        below: Option<Vec<u8>>,
        to: String,
    },
    /// Say or change how fast is sent.
    Bandwidth {
        /// What holds instead of what is configured; nothing changes nothing.
        set: Option<RateOrder>,
    },
    /// Say what only the running daemon knows.
    Live,
    /// Say or change which lines are logged.
    LogLevel {
        /// The level; nothing changes nothing.
        set: Option<String>,
    },
}

/// How fast is to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RateOrder {
    Configured,
    Unlimited,
    /// So many bytes a second; zero stops.
    BytesPerSecond(u64),
}

impl ControlRequest {
    /// Says what of a request is more than one may hold.
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
    /// What became of files that were handed in.
    HandedIn {
        /// Each file's upload.
        uploads: Vec<Handed>,
        /// Paths that are not uploaded, and why.
        left_out: Vec<(String, String)>,
    },
    Bandwidth {
        /// Bytes a second; none is unlimited.
        bytes_per_second: Option<u64>,
        /// An order holds, and not what is configured.
        is_ordered: bool,
    },
    /// What former targets hold is sent again.
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
    /// Its upload; none when this version was handed in for the destination before.
    pub upload: Option<i64>,
}

/// A request on its way to the daemon's loop.
#[derive(Debug)]
pub(crate) struct ReceivedRequest {
    pub request: ControlRequest,
    pub descriptors: Descriptors,
    /// Who asks: a user's number.
    pub user: u32,
    pub answer: oneshot::Sender<Reply>,
}

/// Why there is no socket, or no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody listens, for no daemon runs.
    #[error("no daemon listens at {}", path.display())]
    NotRunning { path: PathBuf },
    /// Nobody listens, although a daemon runs.
    #[error("a daemon runs, but its control socket {} is not there", path.display())]
    SocketGone { path: PathBuf },
    /// The socket's file may not be used, or cannot be made.
    #[error("the control socket {} cannot be used", path.display())]
    Unusable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The answer is none.
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
