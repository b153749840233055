//! Why a run is open, or closed and not completed, for people.

use super::TrackedRun;
use crate::engine::settings::DirectorySettings;
use crate::model::{Monotonic, Now, RunReason, RunState, RunWait, SourcePath};

/// Why a completed run is not complete any more.
const CAME_LATE: &str = "files came after it was closed";

impl TrackedRun {
    /// Returns why it is open or not completed, while it is; `settling` is a file of it that has not settled.
    pub(in crate::engine::intake) fn explain(
        &mut self,
        directory: &DirectorySettings,
        settling: Option<&SourcePath>,
        now: Now,
    ) {
        let is_late = self.row.is_late();
        let since = match self.row.state {
            RunState::Open => self.scans.last().map(|_| self.row.opened_at),
            RunState::Closed if !is_late => self.row.closed_at.filter(|_| settling.is_some()),
            RunState::Closed | RunState::Completed | RunState::Gone | RunState::Skipped => None,
        };
        let stale_after = directory.runs.closing.stale_after;
        self.row.is_stale = since.is_some_and(|since| since.until(now.wall) >= stale_after);
        let unseen = self.scans.unseen();
        let unseen = unseen.map(|place| {
            let text = format!("{place} cannot be read: let the daemon read it");
            RunReason::new(RunWait::Unread, text)
        });
        match self.row.state {
            RunState::Open => {
                self.row.reason = unseen.or(self.wait_reason(directory, settling, now))
            }
            RunState::Closed => {
                // A run that became open again was closed again.
                let late = is_late.then(|| match self.reading.late.missing.first() {
                    Some(marker) => format!("{CAME_LATE}; waits for {marker}"),
                    None => CAME_LATE.to_owned(),
                });
                let late = late.map(|text| RunReason::new(RunWait::CameLate, text));
                let changes = || settling.map(|path| self.still_changes(Some(path)));
                self.row.reason = unseen.or(late).or_else(changes);
            }
            RunState::Completed | RunState::Gone | RunState::Skipped => {}
        }
    }

    fn wait_reason(
        &self,
        directory: &DirectorySettings,
        settling: Option<&SourcePath>,
        now: Now,
    ) -> Option<RunReason> {
        let last = self.scans.last()?;
        if let Some(other) = &self.copy_of {
            let text =
                format!("it is the same run of the instrument as {other}, which is under way");
            return Some(RunReason::new(RunWait::CopyOf, text));
        }
        if directory.runs.needs_words && self.read_of.is_some() && !self.reading.is_identified {
            let text = "nothing is sent before the file that names the run is whole";
            return Some(RunReason::new(RunWait::Unnamed, text));
        }
        if let Some(first) = self.reading.missing.first() {
            let text = format!("its manifest lists {first}, which is not there");
            return Some(RunReason::new(RunWait::ManifestIncomplete, text));
        }
        if self.has_markers(last.markers()) {
            let note = self.reading.notes.first();
            let note = note.map(|text| RunReason::new(RunWait::Unread, text));
            // A change is worth reporting only after the closing time.
            let is_due =
                |since: Monotonic| now.monotonic.since(since) > directory.runs.closing.quiet;
            let is_long = self.row.is_stale || self.marked_since.is_some_and(is_due);
            let changing = is_long.then(|| self.still_changes(settling.or(self.scans.changed())));
            return note.or(changing);
        }
        let (marker, minutes) =
            (&self.reading.waits_for, directory.runs.closing.stale_after.as_secs() / 60);
        let time =
            if minutes < 60 { format!("{minutes} min") } else { format!("{} h", minutes / 60) };
        let text = match self.row.is_stale {
            false => format!("waits for {marker}"),
            true => format!("no {marker} for more than {time}: has the run been broken off?"),
        };
        Some(RunReason::new(RunWait::MarkerMissing, text))
    }

    /// Names the file that keeps changing.
    fn still_changes(&self, path: Option<&SourcePath>) -> RunReason {
        let what = path.map_or("something of it".to_owned(), |path| {
            path.below(&self.row.name).unwrap_or_else(|| path.clone()).to_string()
        });
        let text = format!("{what} still changes: a run ends when nothing of it does any more");
        RunReason::new(RunWait::StillChanging, text)
    }
}
