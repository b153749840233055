//! The identity of one process, distinct from every other with the same id.
//!
//! The daemon's row names its process, so that a second daemon finds the first one even if the lock
//! file was removed, and a user who may not open the lock sees whether a daemon runs.

use std::fs;
use std::os::unix::fs::MetadataExt;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Process {
    id: u32,
    /// Its start time, in clock ticks since boot.
    started: u64,
    /// The PID namespace of its id.
    namespace: u64,
}

impl Process {
    /// Returns this process; `None` where the system gives no information.
    pub(super) fn own() -> Option<Self> {
        let id = std::process::id();
        Some(Self { id, started: started(id)?, namespace: namespace()? })
    }

    /// Parses the output of `Display`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split(' ');
        let id = numbers.next()?.parse().ok()?;
        let started = numbers.next()?.parse().ok()?;
        let namespace = numbers.next()?.parse().ok()?;
        Some(Self { id, started, namespace })
    }

    /// Returns whether it runs. A process of another namespace is not visible.
    pub(super) fn is_alive(&self) -> bool {
        namespace() == Some(self.namespace) && started(self.id) == Some(self.started)
    }
}

impl std::fmt::Display for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {}", self.id, self.started, self.namespace)
    }
}

/// Returns when a process started; `None` for a missing one or a zombie.
fn started(id: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name of the program, in parentheses, may contain anything.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    let state = fields.next()?;
    (!["Z", "X"].contains(&state)).then_some(())?;
    const STARTED: usize = 18;
    fields.nth(STARTED)?.parse().ok()
}

fn namespace() -> Option<u64> {
    fs::metadata("/proc/self/ns/pid").ok().map(|found| found.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_told_from_another_of_its_id() {
        let own = Process::own().expect("it runs");
        assert_eq!(Process::parse(&own.to_string()), Some(own));
        assert!(own.is_alive());
        assert!(
            !Process { started: own.started + 1, ..own }.is_alive(),
            "an id that was used again"
        );
        assert!(!Process { namespace: own.namespace + 1, ..own }.is_alive());
        let mut child = std::process::Command::new("true").spawn().expect("started");
        let id = child.id();
        std::iter::repeat_with(|| started(id)).find(Option::is_none);
        child.wait().expect("what was left of it was no process");
    }
}
