//! Signals, turned into events.
//!
//! Owns the handlers of SIGTERM, SIGINT, SIGHUP, SIGUSR1 and SIGXFSZ. A signal has no direct
//! effect: it becomes one [`Signal`] that the daemon's loop reads like any other event. The first
//! request to stop means *drain*, each later one *abort*, whichever of the two signals it is.
//!
//! It promises that a signal handler only sets a flag (signal-hook's work), and that requests to
//! stop are not lost: the thread that reads the flags waits when the channel is full. Signals of
//! one kind that come faster than they are read may count as one.
//!
//! A crash loses nothing; being killed is a supported way to stop. The daemon creates one
//! [`Signals`]; dropping it ends the thread and leaves the signals without effect.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGXFSZ};
use tokio::sync::mpsc;

/// Limit of signals that wait for the loop. People and supervisors send few.
const WAITING_MAX: usize = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    /// Start nothing more, finish acts in flight, then stop: the first SIGTERM or SIGINT.
    Drain,
    /// Cancel acts in flight and stop: any SIGTERM or SIGINT after the first.
    Abort,
    /// Read configuration and credentials again: SIGHUP.
    Reload,
    /// Log the present activity: SIGUSR1.
    Dump,
}

/// Makes a write beyond the file size limit fail, like one on a full disk, instead of ending the
/// process by its signal. Started programs get the default behaviour again.
pub(crate) fn survive_file_limit() -> io::Result<()> {
    signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false))).map(|_| ())
}

/// The signals of this process.
#[derive(Debug)]
pub(crate) struct Signals {
    signals: mpsc::Receiver<Signal>,
    handle: signal_hook::iterator::Handle,
}

impl Signals {
    /// Replaces the default effects of the signals.
    pub(crate) fn listen() -> io::Result<Self> {
        let mut caught = signal_hook::iterator::Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1])?;
        let handle = caught.handle();
        let (sender, signals) = mpsc::channel(WAITING_MAX);
        let forward = move || {
            let mut meaning = Meaning::default();
            for signal in caught.forever().filter_map(|number| meaning.of(number)) {
                if sender.blocking_send(signal).is_err() {
                    return;
                }
            }
        };
        std::thread::Builder::new().name("signals".to_owned()).spawn(forward)?;
        Ok(Self { signals, handle })
    }

    /// Waits for the next signal. May be dropped and called again without losing one.
    pub(crate) async fn next(&mut self) -> Signal {
        match self.signals.recv().await {
            Some(signal) => signal,
            // The thread ends only after `self` is dropped.
            None => std::future::pending().await,
        }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.handle.close();
    }
}

/// Whether a stop was already requested.
#[derive(Debug, Default)]
struct Meaning {
    is_stopping: bool,
}

impl Meaning {
    fn of(&mut self, number: i32) -> Option<Signal> {
        match number {
            SIGTERM | SIGINT if std::mem::replace(&mut self.is_stopping, true) => {
                Some(Signal::Abort)
            }
            SIGTERM | SIGINT => Some(Signal::Drain),
            SIGHUP => Some(Signal::Reload),
            SIGUSR1 => Some(Signal::Dump),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use signal_hook::low_level::raise;

    use super::*;

    #[test]
    fn second_request_to_stop_aborts_whichever_signal_asks() {
        let mut meaning = Meaning::default();
        let seen: Vec<_> = [SIGHUP, SIGINT, SIGHUP, SIGTERM, SIGTERM, 0]
            .map(|number| meaning.of(number))
            .into_iter()
            .flatten()
            .collect();
        let wanted = [Signal::Reload, Signal::Drain, Signal::Reload, Signal::Abort, Signal::Abort];
        assert_eq!(seen, wanted);
    }

    #[test]
    fn a_write_beyond_the_limit_of_a_file_fails_and_ends_nothing() {
        survive_file_limit().unwrap();
        raise(SIGXFSZ).unwrap();
    }

    #[tokio::test]
    async fn raised_signals_arrive() {
        let mut signals = Signals::listen().unwrap();
        let wanted = [
            (SIGUSR1, Signal::Dump),
            (SIGHUP, Signal::Reload),
            (SIGTERM, Signal::Drain),
            (SIGTERM, Signal::Abort),
        ];
        for (number, signal) in wanted {
            raise(number).unwrap();
            assert_eq!(signals.next().await, signal);
        }
    }
}
