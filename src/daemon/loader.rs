//! What a start leaves for later: read on a thread of its own, taken by the loop piece by piece.
//!
//! Parts go meanwhile. What operators order, and another configuration, wait for its end: both may mean
//! what is not in memory yet. *At a crash* nothing is to be done: the next start reads it again.

use tokio::sync::mpsc;

use super::Daemon;
use crate::engine::event::Event;
use crate::model::StoredRows;
use crate::store::Error;
use crate::store::rest::{Rest, RestReader};

/// Rows in one piece: what they take is soon taken, and their number hardly matters.
const ROWS: usize = 1_000;
/// Pieces that wait for the loop; the thread waits then.
const PORTIONS_MAX: usize = 2;

#[derive(Debug)]
pub(super) struct Loader {
    portions: mpsc::Receiver<Result<StoredRows, Error>>,
    reading: RestReader,
    /// Another configuration was asked for meanwhile.
    reload_waits: bool,
}

impl Loader {
    pub(super) fn start(rest: Rest) -> Result<Self, Error> {
        let (sender, portions) = mpsc::channel(PORTIONS_MAX);
        let reading = rest.start(ROWS, move |read| sender.blocking_send(read).is_ok())?;
        Ok(Self { portions, reading, reload_waits: false })
    }

    /// Waits for the next piece; for ever after the last one.
    pub(super) async fn next(&mut self) -> Result<StoredRows, Error> {
        match self.portions.recv().await {
            Some(portion) => portion,
            None => std::future::pending().await,
        }
    }

    /// Ends it, read or not.
    pub(super) fn finish(mut self) {
        self.portions.close();
        self.reading.finish();
    }
}

impl Daemon {
    /// Takes a piece of what is stored.
    pub(super) fn on_stored(&mut self, rows: StoredRows) {
        self.tell(Event::Stored(rows));
        if self.engine.view().is_loaded() {
            tracing::debug!("all that is stored is in memory");
        }
    }

    /// Reads the configuration again when that was asked for while rows were read.
    pub(super) fn reload_if_waiting(&mut self) {
        if self.engine.view().is_loaded()
            && std::mem::take(&mut self.persistence.loader.reload_waits)
        {
            self.reload();
        }
    }

    /// Reads the configuration again, once all that is stored is in memory.
    pub(super) fn on_reload(&mut self) {
        match self.engine.view().is_loaded() {
            true => self.reload(),
            false => self.persistence.loader.reload_waits = true,
        }
    }
}
