//! The control socket: what an operator may ask of the running daemon, and what it answers.
//!
//! *Owns* the words on the wire, the socket's file and both ends of a conversation. One request is one
//! line of JSON, answered by one line; a connection may hold several, one after the other.
//! *Promises*: the file has mode 0660 from its first moment; a peer's user is asked of the kernel, and
//! one who could only have come in because the file was opened to everybody is refused; lines are
//! bounded, and so is the time a peer may take for one. *Never* carries a secret.
//!
//! What is changed is committed before it is answered. *At a crash* the file stays behind; the next
//! daemon, which holds the lock of the state, takes its place.

use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};

use crate::model::{DestinationName, DropName, Scope, SourcePath, UploadId, Verb};

/// A request names files by their paths, as numbers; so many of the longest fit.
const LINE_MAX: u64 = 4 * 1024 * 1024;
/// An answer names each file that was handed in.
const ANSWER_MAX: u64 = 64 * 1024 * 1024;
/// A peer that is silent for longer is let go.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Conversations at once. People and scripts hold few.
const PEERS_MAX: usize = 16;
/// How long an answer is waited for: the daemon commits before it answers.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// The longest path that the kernel takes for a socket.
const PATH_MAX: usize = 107;

/// What is asked of the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Start nothing of these until told otherwise.
    Pause {
        /// What.
        of: Vec<Target>,
    },
    /// Take that back.
    Resume {
        /// What.
        of: Vec<Target>,
    },
    /// Try at once what waits, and again what is parked.
    Retry {
        /// What.
        of: Vec<Target>,
    },
    /// Give up.
    Abandon {
        /// What.
        of: Vec<Target>,
    },
    /// Send these files once.
    Upload {
        /// Absolute paths, as bytes: not every name is text.
        paths: Vec<Vec<u8>>,
        /// The name of a destination.
        to: String,
    },
    /// Say or change how fast is sent.
    Bandwidth {
        /// What holds instead of what is configured; nothing changes nothing.
        set: Option<RateOrder>,
    },
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
    /// As is configured.
    Configured,
    /// As fast as it goes.
    Unlimited,
    /// So many bytes a second; zero stops.
    BytesPerSecond(u64),
}

/// What a request is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// Everything.
    All,
    /// All that goes to a destination.
    Destination(String),
    /// All of a drop directory.
    Drop(String),
    /// All of a unit.
    Unit {
        /// In which drop directory.
        drop: String,
        /// Its path there, as bytes: not every name is text.
        path: Vec<u8>,
    },
    /// An upload.
    Upload(i64),
}

impl From<&Scope> for Target {
    fn from(scope: &Scope) -> Self {
        match scope {
            Scope::All => Self::All,
            Scope::Destination(name) => Self::Destination(name.to_string()),
            Scope::Drop(name) => Self::Drop(name.to_string()),
            Scope::Unit(drop, path) => {
                Self::Unit { drop: drop.to_string(), path: path.as_bytes().to_vec() }
            }
            Scope::Upload(id) => Self::Upload(id.0),
        }
    }
}

impl From<Target> for Scope {
    fn from(target: Target) -> Self {
        match target {
            Target::All => Self::All,
            Target::Destination(name) => Self::Destination(DestinationName::new(name)),
            Target::Drop(name) => Self::Drop(DropName::new(name)),
            Target::Unit { drop, path } => {
                Self::Unit(DropName::new(drop), SourcePath::from_bytes(&path))
            }
            Target::Upload(id) => Self::Upload(UploadId(id)),
        }
    }
}

impl Request {
    /// Builds the request of a verb.
    pub fn order(verb: Verb, of: Vec<Target>) -> Self {
        match verb {
            Verb::Pause => Self::Pause { of },
            Verb::Resume => Self::Resume { of },
            Verb::Retry => Self::Retry { of },
            Verb::Abandon => Self::Abandon { of },
        }
    }
}

/// What the daemon answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// It was done, and is committed.
    Changed(Vec<Change>),
    /// What became of files that were handed in.
    HandedIn {
        /// Each file's upload.
        uploads: Vec<Handed>,
        /// Paths that are not uploaded, and why.
        left_out: Vec<(String, String)>,
    },
    /// How fast is sent.
    Bandwidth {
        /// Bytes a second; none is unlimited.
        bytes_per_second: Option<u64>,
        /// An order holds, and not what is configured.
        is_ordered: bool,
    },
    /// Which lines are logged.
    LogLevel(String),
    /// It was not done, and why.
    Refused(String),
}

/// A file that was handed in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handed {
    /// Its path, for people.
    pub path: String,
    /// Its upload; none when this version was handed in for the destination before.
    pub upload: Option<i64>,
}

/// What a request changed of one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Of what.
    pub of: Target,
    /// There is such a thing, and it has not ended.
    pub is_known: bool,
    /// Uploads that go another way for it.
    pub upload_count: u64,
}

/// A request on its way to the daemon's loop.
#[derive(Debug)]
pub struct Asked {
    /// What is asked.
    pub request: Request,
    /// Who asks: a user's number.
    pub user: u32,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Reply>,
}

/// Why there is no socket, or no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody listens.
    #[error("no daemon listens at {}", path.display())]
    NotRunning {
        /// Where.
        path: PathBuf,
    },
    /// The socket's file may not be used, or cannot be made.
    #[error("the control socket {} cannot be used", path.display())]
    Unusable {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The answer is none.
    #[error("the daemon at {} gave no answer that can be understood: {why}", path.display())]
    NoAnswer {
        /// Where.
        path: PathBuf,
        /// Why.
        why: String,
    },
}

impl Error {
    /// Returns what helps.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotRunning { .. } => {
                Some("start it: systemctl start dropferry, or dropferry run".into())
            }
            Self::Unusable { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some("ask as root, or as a member of the group that owns the socket".into())
            }
            Self::Unusable { source, .. } if source.kind() == io::ErrorKind::InvalidInput => {
                Some(format!("set [control] socket to a path of at most {PATH_MAX} bytes"))
            }
            Self::Unusable { .. } | Self::NoAnswer { .. } => None,
        }
    }
}

/// The socket that the daemon listens on; dropped, its file is removed.
#[derive(Debug)]
pub struct Listener {
    listener: UnixListener,
    path: PathBuf,
}

impl Listener {
    /// Makes the socket, in place of one that a former daemon left behind. Whoever calls holds the lock
    /// of the state, so no other daemon of this state listens there.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let unusable = |source| Error::Unusable { path: path.to_owned(), source };
        if path.as_os_str().len() > PATH_MAX {
            return Err(unusable(io::Error::new(
                io::ErrorKind::InvalidInput,
                "its path is too long for a socket",
            )));
        }
        // Made under another name and moved: nobody sees it with another mode.
        let own = path.with_extension(format!("{}", std::process::id()));
        for old in [path, &own] {
            let is_socket = std::fs::symlink_metadata(old)
                .is_ok_and(|old| std::os::unix::fs::FileTypeExt::is_socket(&old.file_type()));
            if is_socket {
                std::fs::remove_file(old).map_err(unusable)?;
            }
        }
        let listener = UnixListener::bind(&own).map_err(unusable)?;
        let mode = std::fs::Permissions::from_mode(0o660);
        std::fs::set_permissions(&own, mode)
            .and_then(|()| std::fs::rename(&own, path))
            .map_err(unusable)?;
        Ok(Self { listener, path: path.to_owned() })
    }

    /// Takes conversations until it is dropped, and hands on what is asked.
    pub async fn serve(self, asked: mpsc::Sender<Asked>) {
        let mut peers = tokio::task::JoinSet::new();
        loop {
            let Ok((stream, _)) = self.listener.accept().await else {
                // Out of descriptors, most likely: what is open has to end first.
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            };
            while peers.try_join_next().is_some() {}
            if peers.len() >= PEERS_MAX {
                drop(peers.join_next().await);
            }
            let (path, asked) = (self.path.clone(), asked.clone());
            peers.spawn(async move {
                if let Err(error) = converse(stream, &path, &asked).await {
                    tracing::debug!("a conversation at the control socket broke off: {error}");
                }
            });
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // A file that is left behind is replaced by the next daemon.
        std::fs::remove_file(&self.path).unwrap_or(());
    }
}

/// Holds one conversation on the daemon's side.
async fn converse(stream: UnixStream, path: &Path, asked: &mpsc::Sender<Asked>) -> io::Result<()> {
    let user = stream.peer_cred()?.uid();
    let (reading, mut writing) = stream.into_split();
    let mut lines = BufReader::new(reading);
    if !may_ask(user, path) {
        return say(&mut writing, &Reply::Refused("the socket is open to everybody".into())).await;
    }
    loop {
        let mut line = String::new();
        let mut bounded = (&mut lines).take(LINE_MAX);
        let read = tokio::time::timeout(SILENCE_MAX, bounded.read_line(&mut line));
        match read.await {
            Ok(Ok(0)) | Err(_) => return Ok(()),
            Ok(Err(error)) => return Err(error),
            Ok(Ok(_)) => {}
        }
        let reply = match serde_json::from_str(&line) {
            Ok(request) => ask_loop(request, user, asked).await,
            Err(error) => Reply::Refused(format!("that is no request: {error}")),
        };
        say(&mut writing, &reply).await?;
        if !line.ends_with('\n') {
            return Ok(());
        }
    }
}

async fn ask_loop(request: Request, user: u32, asked: &mpsc::Sender<Asked>) -> Reply {
    let (answer, reply) = oneshot::channel();
    let sent = asked.send(Asked { request, user, answer }).await;
    match (sent, reply.await) {
        (Ok(()), Ok(reply)) => reply,
        _ => Reply::Refused("the daemon stops".into()),
    }
}

async fn say(to: &mut (impl AsyncWriteExt + Unpin), reply: &Reply) -> io::Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    to.write_all(&line).await
}

/// Root and the daemon's own user may; others, where the file's mode let them in as its group.
fn may_ask(user: u32, path: &Path) -> bool {
    let own = rustix::process::geteuid().as_raw();
    let is_open_to_all = || std::fs::metadata(path).map_or(true, |file| file.mode() & 0o007 != 0);
    user == 0 || user == own || !is_open_to_all()
}

/// Asks a running daemon.
///
/// # Errors
/// When none listens, or it does not answer.
pub async fn ask(path: &Path, request: &Request) -> Result<Reply, Error> {
    let no_answer = |why: String| Error::NoAnswer { path: path.to_owned(), why };
    let stream = UnixStream::connect(path).await.map_err(|source| {
        let (path, kind) = (path.to_owned(), source.kind());
        match matches!(kind, io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) {
            true => Error::NotRunning { path },
            false => Error::Unusable { path, source },
        }
    })?;
    let exchange = async {
        let (reading, mut writing) = stream.into_split();
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        writing.write_all(&line).await?;
        let mut reply = String::new();
        BufReader::new(reading).take(ANSWER_MAX).read_line(&mut reply).await?;
        io::Result::Ok(reply)
    };
    let reply = tokio::time::timeout(ANSWER_LIMIT, exchange).await;
    let reply =
        reply.map_err(|_| no_answer(format!("none within {} s", ANSWER_LIMIT.as_secs())))?;
    let reply = reply.map_err(|error| no_answer(error.to_string()))?;
    serde_json::from_str(&reply).map_err(|error| no_answer(error.to_string()))
}
