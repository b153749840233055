//! Questions to file systems that may not answer.
//!
//! A share whose server is gone blocks any access, for hours. Reading a configuration must not
//! block: neither a start, nor the daemon's loop at a reload, nor a person. A question is asked on
//! a thread of its own, which is abandoned when there is no answer in time; the watch of the drop
//! directory then reports it as unreadable, until it answers again.

use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use super::Resolver;

/// Enough for a disk that has to spin up, and for a distant server.
const PATIENCE: Duration = Duration::from_secs(5);
/// After one silence the others, most likely on the same server, are waited for less: all of them
/// together must fit into a watchdog interval.
const PATIENCE_AFTER_SILENCE: Duration = Duration::from_millis(100);

impl Resolver<'_> {
    /// Asks about a directory; `None` when there is no answer in time.
    pub(super) fn ask<T: Send + 'static>(
        &mut self,
        directory: &Path,
        question: impl FnOnce(&Path) -> T + Send + 'static,
    ) -> Option<T> {
        let directory = directory.to_owned();
        let (sender, answer) = mpsc::sync_channel(1);
        let ask = move || {
            // The receiver is gone if the answer came late.
            sender.send(question(&directory)).ok();
        };
        std::thread::Builder::new().name("directory".into()).spawn(ask).ok()?;
        let patience = if self.has_silence { PATIENCE_AFTER_SILENCE } else { PATIENCE };
        let answer = answer.recv_timeout(patience).ok();
        self.has_silence |= answer.is_none();
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::sources::Sources;

    #[test]
    fn silence_is_waited_for_once() {
        let environment = |_: &str| None;
        let sources = Sources::single(Path::new("config.toml"), "");
        let mut resolver = Resolver::new(&sources, &environment);
        assert_eq!(resolver.ask(Path::new("/"), Path::is_dir), Some(true));
        assert!(!resolver.has_silence);
        // Senders that live as long as the test give no answer.
        let (_first, silent) = mpsc::sync_channel::<()>(0);
        assert_eq!(resolver.ask(Path::new("/"), move |_| silent.recv().is_ok()), None);
        assert!(resolver.has_silence);
        assert_eq!(resolver.ask(Path::new("/"), Path::is_dir), Some(true));
    }
}
