//! The client side.

use std::io;
use std::path::Path;
use std::time::Duration;

use rustix::fd::BorrowedFd;
use tokio::net::UnixStream;

use super::wire::{Wire, WireLine};
use super::{ControlRequest, Error, Reply};

/// Limit of an answer's length: it names each ordered object.
const ANSWER_MAX: usize = 64 * 1024 * 1024;
/// Time limit of an answer: the daemon commits before it answers.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// Sends a request to a running daemon, with open files.
pub async fn ask(
    path: &Path,
    request: &ControlRequest,
    files: &[BorrowedFd<'_>],
) -> Result<Reply, Error> {
    let no_answer = |why: String| Error::NoAnswer { path: path.to_owned(), why };
    let mut wire = Wire::new(connect(path).await?);
    let exchange = async {
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        let sent = wire.send(&line, files).await;
        // A daemon that refuses a request may stop reading it.
        match (wire.line(ANSWER_MAX).await, sent) {
            (Ok(WireLine::Whole(reply, _)), _) => Ok(reply),
            (_, Err(error)) | (Err(error), Ok(())) => Err(error),
            (Ok(_), Ok(())) => Err(io::Error::other("it ended the conversation")),
        }
    };
    let reply = tokio::time::timeout(ANSWER_LIMIT, exchange).await;
    let reply =
        reply.map_err(|_| no_answer(format!("none within {} s", ANSWER_LIMIT.as_secs())))?;
    let reply = reply.map_err(|error: io::Error| no_answer(error.to_string()))?;
    serde_json::from_slice(&reply).map_err(|error| no_answer(error.to_string()))
}

async fn connect(path: &Path) -> Result<UnixStream, Error> {
    UnixStream::connect(path).await.map_err(|source| {
        let (path, kind) = (path.to_owned(), source.kind());
        match matches!(kind, io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) {
            true => Error::NotRunning { path },
            false => Error::Unusable { path, source },
        }
    })
}

/// Returns whether a daemon listens, without sending a request.
pub(crate) async fn reach(path: &Path) -> Result<(), Error> {
    connect(path).await.map(drop)
}
