//! Rows that a start loads later: read on a thread of its own, received by the loop in portions.
//!
//! Parts are sent meanwhile. Orders of operators, and a new configuration, wait for the end: both may concern
//! rows that are not in memory yet. *After a crash* nothing has to be done: the next start reads them again.

use tokio::sync::mpsc;

use super::Daemon;
use crate::engine::event::Event;
use crate::model::StoredRows;
use crate::store::Error;
use crate::store::rest::{Rest, RestReader};

/// Rows in one portion: small enough to be handled quickly; the exact number hardly matters.
const ROWS: usize = 1_000;
/// Limit of portions that wait for the loop; then the thread waits.
const PORTIONS_MAX: usize = 2;

#[derive(Debug)]
pub(super) struct Loader {
    portions: mpsc::Receiver<Result<StoredRows, Error>>,
    reading: RestReader,
    /// A new configuration was requested meanwhile.
    reload_waits: bool,
}

impl Loader {
    pub(super) fn start(rest: Rest) -> Result<Self, Error> {
        let (sender, portions) = mpsc::channel(PORTIONS_MAX);
        let reading = rest.start(ROWS, move |read| sender.blocking_send(read).is_ok())?;
        Ok(Self { portions, reading, reload_waits: false })
    }

    /// Waits for the next portion; forever after the last one.
    pub(super) async fn next(&mut self) -> Result<StoredRows, Error> {
        match self.portions.recv().await {
            Some(portion) => portion,
            None => std::future::pending().await,
        }
    }

    /// Ends it, finished or not.
    pub(super) fn finish(mut self) {
        self.portions.close();
        self.reading.finish();
    }
}

impl Daemon {
    /// Receives a portion of the rows.
    pub(super) fn on_stored(&mut self, rows: StoredRows) {
        self.tell(Event::Stored(rows));
        if self.engine.view().is_loaded() {
            tracing::debug!("all that is stored is in memory");
        }
    }

    /// Reads the configuration again if that was requested while rows were read.
    pub(super) fn reload_if_waiting(&mut self) {
        if self.engine.view().is_loaded()
            && std::mem::take(&mut self.persistence.loader.reload_waits)
        {
            self.reload();
        }
    }

    /// Reads the configuration again, once all rows are in memory.
    pub(super) fn on_reload(&mut self) {
        match self.engine.view().is_loaded() {
            true => self.reload(),
            false => self.persistence.loader.reload_waits = true,
        }
    }
}
