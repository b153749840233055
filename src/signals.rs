//! Signals as events: the first TERM or INT drains, the second aborts, HUP reloads.
//!
//! A thread waits for them, so that no handler does more than wake it.

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tokio::sync::mpsc;

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Stop; a second one means at once.
    Stop,
    /// Read the configuration again.
    Reload,
}

/// Signals that nobody has taken yet. More are dropped: they would say the same.
const QUEUE_MAX: usize = 8;

/// Starts to listen.
///
/// # Errors
/// When the handlers cannot be installed.
pub fn listen() -> std::io::Result<mpsc::Receiver<Signal>> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    let (sender, receiver) = mpsc::channel(QUEUE_MAX);
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in signals.forever() {
            let signal = if signal == SIGHUP { Signal::Reload } else { Signal::Stop };
            // Full means that as many are waiting; closed means that the daemon has gone.
            sender.try_send(signal).ok();
        }
    })?;
    Ok(receiver)
}
