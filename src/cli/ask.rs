//! Sends requests to the running daemon.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;
use rustix::fd::BorrowedFd;

use super::Common;
use crate::clock::Clock;
use crate::control::{self, ControlRequest, Error, Reply};
use crate::model::Live;
use crate::store;

/// Display commands wait no longer for a daemon that hangs.
const LIVE_LIMIT: Duration = Duration::from_secs(2);
/// A starting daemon listens after it has read its rows.
const START_LIMIT: Duration = Duration::from_secs(5);
const START_PAUSE: Duration = Duration::from_millis(50);

/// Sends a request to the daemon of this configuration, and returns its answer.
pub(super) fn ask(common: &Common, request: &ControlRequest) -> anyhow::Result<Reply> {
    hand_in(common, request, &[])
}

/// As [`ask`], with open files.
pub(super) fn hand_in(
    common: &Common,
    request: &ControlRequest,
    files: &[BorrowedFd<'_>],
) -> anyhow::Result<Reply> {
    let ask = || reach(common, async |path| control::ask(&path, request, files).await);
    let reply = once_it_listens(ask)?;
    if let Reply::Refused(why) = &reply {
        bail!("the daemon refuses: {why}");
    }
    Ok(reply)
}

/// Returns what only the running daemon knows; `None` if none runs, or it does not answer at once.
pub(super) fn live(common: &Common) -> Option<Live> {
    let reply = reach(common, async |path| {
        let request = ControlRequest::Live;
        let asked = control::ask(&path, &request, &[]);
        let late = |_| Error::NoAnswer { path: path.clone(), why: "none at once".into() };
        tokio::time::timeout(LIVE_LIMIT, asked).await.map_err(late)?
    });
    match reply {
        Ok(Reply::Live(live)) => Some(live),
        Ok(_) | Err(_) => None,
    }
}

/// Fails if no daemon can be asked, before anything else is found to be missing.
pub(super) fn check(common: &Common) -> anyhow::Result<()> {
    once_it_listens(|| reach(common, async |path| control::reach(&path).await))
}

/// Retries while a starting daemon does not listen yet.
fn once_it_listens<T>(attempt: impl Fn() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let clock = Clock::real();
    loop {
        let answer = attempt();
        let is_early = answer.as_ref().is_err_and(has_no_socket);
        if !is_early || clock.now().monotonic.0 > START_LIMIT {
            return answer;
        }
        std::thread::sleep(START_PAUSE);
    }
}

/// Returns whether a daemon runs that cannot be asked: its socket is gone, also after the time that a start
/// takes.
pub(super) fn is_socket_gone(common: &Common) -> bool {
    check(common).as_ref().is_err_and(has_no_socket)
}

/// Returns whether a running daemon has no socket: not yet, or not any more.
fn has_no_socket(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref::<Error>(), Some(Error::SocketGone { .. }))
}

/// Tries each path of the socket until one answers.
fn reach<T>(
    common: &Common,
    exchange: impl AsyncFn(PathBuf) -> Result<T, Error>,
) -> anyhow::Result<T> {
    let places = common.places()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut none = None;
    for path in places.control_sockets {
        match runtime.block_on(exchange(path)) {
            Ok(reply) => return Ok(reply),
            Err(Error::NotRunning { path }) => {
                none.get_or_insert(path);
            }
            Err(error) => return Err(error.into()),
        }
    }
    match none {
        Some(path) if store::is_in_use(&places.state_directory) => {
            Err(Error::SocketGone { path }.into())
        }
        Some(path) => Err(Error::NotRunning { path }.into()),
        None => bail!("there is no place for a control socket"),
    }
}

/// An answer of the wrong kind is a defect of the daemon.
pub(super) fn odd<T>(reply: &Reply) -> anyhow::Result<T> {
    bail!("the daemon answers another question: {reply:?}")
}
