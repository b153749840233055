//! Asks the running daemon.

use anyhow::bail;

use super::Common;
use crate::control::{self, Reply, Request};

/// Sends a request to the daemon of this configuration, and returns its answer.
///
/// # Errors
/// When no daemon listens, or it refuses.
pub(super) fn ask(common: &Common, request: &Request) -> anyhow::Result<Reply> {
    let places = common.places()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut none = None;
    for path in &places.control_sockets {
        match runtime.block_on(control::ask(path, request)) {
            Ok(Reply::Refused(why)) => bail!("the daemon refuses: {why}"),
            Ok(reply) => return Ok(reply),
            Err(error @ control::Error::NotRunning { .. }) => {
                none.get_or_insert(error);
            }
            Err(error) => return Err(error.into()),
        }
    }
    match none {
        Some(error) => Err(error.into()),
        None => bail!("there is no place for a control socket"),
    }
}

/// An answer to another question is a defect of the daemon.
///
/// # Errors
/// Always.
pub(super) fn odd<T>(reply: &Reply) -> anyhow::Result<T> {
    bail!("the daemon answers another question: {reply:?}")
}
