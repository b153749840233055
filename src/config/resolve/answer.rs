//! Questions to file systems that may not answer.
//!
//! A share whose server is gone lets whoever looks at it wait, for hours. Nobody who reads a
//! configuration may: neither a start, nor the daemon's loop at a reload, nor a person. A question is
//! asked on a thread of its own, which is left behind when there is no answer in time; the watch of
//! the drop directory then says that it is deaf, and hears it again.

use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use super::Resolver;

/// Enough for a disk that has to spin up, and for a server far away.
const PATIENCE: Duration = Duration::from_secs(5);
/// After one silence the others, most likely of the same server, are not waited for as long: all of
/// them together must fit between two turns that feed a watchdog.
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
            // Nobody listens any more when the answer came late.
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
        // Senders that are kept, for as long as the test lasts, make no answer.
        let (_first, silent) = mpsc::sync_channel::<()>(0);
        assert_eq!(resolver.ask(Path::new("/"), move |_| silent.recv().is_ok()), None);
        assert!(resolver.has_silence);
        assert_eq!(resolver.ask(Path::new("/"), Path::is_dir), Some(true));
    }
}
