//! The daemon's side: the socket and its connections.

use std::collections::VecDeque;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinSet};

use super::place::{self, SocketPlace};
use super::wire::{Wire, WireLine};
use super::{ControlRequest, Descriptors, Error, REQUEST_MAX, ReceivedRequest, Reply};
use crate::model::Live;

/// Time in which a peer must send its line, and read its answer.
const PEER_LIMIT: Duration = Duration::from_secs(5);
/// Limit of connections. People and scripts hold few.
const PEERS_MAX: usize = 16;
/// Interval of checking that the socket is still at its path.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);
/// Pause after a connection could not be accepted, mostly for lack of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);
/// Time limit of an answer before its peer is dropped.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// Who answers requests.
#[derive(Clone)]
pub(crate) struct Answerers {
    /// The daemon's loop.
    pub(crate) asked: mpsc::Sender<ReceivedRequest>,
    /// Answers what is going on at this moment, without the loop: who looks does not wait for it.
    pub(crate) live: Arc<dyn Fn() -> Live + Send + Sync>,
}

impl std::fmt::Debug for Answerers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answerers").finish_non_exhaustive()
    }
}

/// Listens at a path. A socket that was removed, or cannot be created, is created as soon as possible.
#[derive(Debug)]
pub(crate) struct Listener {
    path: PathBuf,
    socket: Result<Socket, Error>,
}

impl Listener {
    /// Creates the socket. The caller holds the lock of the state, so no other daemon of this state
    /// listens there; must be called within a runtime.
    pub(crate) fn open(path: &Path) -> Self {
        Self { path: path.to_owned(), socket: open(path) }
    }

    /// Accepts connections until it is dropped, and passes requests on.
    pub(crate) async fn serve(self, answerers: Answerers) {
        let Self { path, mut socket } = self;
        let mut peers = Peers::default();
        let mut problem: Option<String> = None;
        loop {
            match &socket {
                Ok(socket) => {
                    if problem.take().is_some() {
                        tracing::info!("the control socket {} is there again", path.display());
                    }
                    let accept = peers.accept(socket, &answerers);
                    // Only the time-out ends it.
                    tokio::time::timeout(LOOK_INTERVAL, accept).await.unwrap_or(());
                }
                Err(error) => {
                    let why = said(error);
                    if problem.as_ref() != Some(&why) {
                        tracing::error!("nothing can be asked of this daemon: {why}");
                    }
                    problem = Some(why);
                    tokio::time::sleep(LOOK_INTERVAL).await;
                }
            }
            if socket.as_ref().is_ok_and(|socket| socket.place.is_held()) {
                continue;
            }
            if socket.is_ok() {
                let why = format!("the control socket {} was removed", path.display());
                tracing::warn!("{why}; it is made again");
                problem = Some(why);
            }
            socket = open(&path);
        }
    }
}

fn said(error: &Error) -> String {
    let why = std::error::Error::source(error).map_or(String::new(), |why| format!(": {why}"));
    let hint = error.hint().map_or(String::new(), |hint| format!("; {hint}"));
    format!("{error}{why}{hint}")
}

#[derive(Debug)]
struct Socket {
    listener: UnixListener,
    place: SocketPlace,
    path: PathBuf,
}

fn open(path: &Path) -> Result<Socket, Error> {
    let make = || {
        let (listener, place) = place::make(path)?;
        listener.set_nonblocking(true)?;
        Ok(Socket { listener: UnixListener::from_std(listener)?, place, path: path.to_owned() })
    };
    make().map_err(|source| Error::Unusable { path: path.to_owned(), source })
}

#[derive(Debug, Default)]
struct Peers {
    tasks: JoinSet<()>,
    oldest_first: VecDeque<Peer>,
}

#[derive(Debug)]
struct Peer {
    task: AbortHandle,
    /// The daemon is working on its request.
    is_served: Arc<AtomicBool>,
}

impl Peers {
    /// Accepts connections, forever.
    async fn accept(&mut self, socket: &Socket, answerers: &Answerers) {
        loop {
            self.make_room().await;
            let Ok((stream, _)) = socket.listener.accept().await else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let is_served = Arc::new(AtomicBool::new(false));
            let (path, answerers) = (socket.path.clone(), answerers.clone());
            let served = Arc::clone(&is_served);
            let task = self.tasks.spawn(async move {
                if let Err(error) = converse(stream, &path, &answerers, &served).await {
                    tracing::debug!("a conversation at the control socket broke off: {error}");
                }
            });
            self.oldest_first.push_back(Peer { task, is_served });
        }
    }

    /// If there are too many, drops the peer that has been idle for longest.
    async fn make_room(&mut self) {
        while self.tasks.try_join_next().is_some() {}
        self.oldest_first.retain(|peer| !peer.task.is_finished());
        while self.tasks.len() >= PEERS_MAX {
            let is_idle = |peer: &Peer| !peer.is_served.load(Ordering::Relaxed);
            let idle = self.oldest_first.iter().position(is_idle);
            if let Some(peer) = idle.and_then(|at| self.oldest_first.remove(at)) {
                peer.task.abort();
            }
            // Ended or cancelled. If all are being served, one of them ends soon.
            drop(self.tasks.join_next().await);
        }
    }
}

async fn converse(
    stream: UnixStream,
    path: &Path,
    answerers: &Answerers,
    is_served: &AtomicBool,
) -> io::Result<()> {
    let user = stream.peer_cred()?.uid();
    let mut wire = Wire::new(stream);
    if !may_ask(user, path) {
        return say(&mut wire, &Reply::Refused("the socket is open to everybody".into())).await;
    }
    loop {
        let (line, descriptors) = match in_time(wire.line(REQUEST_MAX)).await? {
            WireLine::Whole(line, descriptors) => (line, descriptors),
            WireLine::End => return Ok(()),
            WireLine::TooLong => {
                let why = format!("a request has at most {REQUEST_MAX} bytes");
                return say(&mut wire, &Reply::Refused(why)).await;
            }
            WireLine::TooManyDescriptors => {
                let why = format!("a request holds at most {} files", super::FILES_MAX);
                return say(&mut wire, &Reply::Refused(why)).await;
            }
        };
        is_served.store(true, Ordering::Relaxed);
        let reply = answer(&line, descriptors, user, answerers).await;
        is_served.store(false, Ordering::Relaxed);
        say(&mut wire, &reply).await?;
    }
}

async fn answer(line: &[u8], descriptors: Descriptors, user: u32, answerers: &Answerers) -> Reply {
    let request: ControlRequest = match serde_json::from_slice(line) {
        Ok(request) => request,
        Err(error) => return Reply::Refused(format!("that is no request: {error}")),
    };
    if let Some(excess) = request.excess() {
        return Reply::Refused(excess);
    }
    if request == ControlRequest::Live {
        return Reply::Live((answerers.live)());
    }
    let (answer, reply) = oneshot::channel();
    let exchange = async {
        let sent =
            answerers.asked.send(ReceivedRequest { request, descriptors, user, answer }).await;
        sent.is_ok().then_some(reply.await.ok()).flatten()
    };
    match tokio::time::timeout(ANSWER_LIMIT, exchange).await {
        Ok(Some(reply)) => reply,
        Ok(None) => Reply::Refused("the daemon stops".into()),
        Err(_) => Reply::Refused("the daemon is busy; ask again".into()),
    }
}

async fn say(wire: &mut Wire, reply: &Reply) -> io::Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    in_time(wire.send(&line, &[])).await
}

async fn in_time<T>(exchange: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let ended = tokio::time::timeout(PEER_LIMIT, exchange).await;
    ended.unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "the peer is silent")))
}

/// Root and the daemon's own user may; others, if the file's mode permits their group.
fn may_ask(user: u32, path: &Path) -> bool {
    let own = rustix::process::geteuid().as_raw();
    let is_open_to_all = || std::fs::metadata(path).map_or(true, |file| file.mode() & 0o007 != 0);
    user == 0 || user == own || !is_open_to_all()
}
