//! Tracks decisions that are not known to be durable.
//!
//! Parts are sent while checkpoints are being written, so a crash may cost parts that were accepted
//! without a durable checkpoint: at most as many as may be in flight. A file that is sent in one
//! request is recognised by its admission, which must be durable first; most were admitted long
//! before their turn and wait for no commit. Parts are sent only when the begin of their upload is
//! durable: where a platform cannot list uploads, the parts of a forgotten one could not be found.

use std::collections::VecDeque;

use crate::model::UploadId;

#[derive(Debug)]
pub(crate) struct Disk {
    /// Commits in progress, in order.
    commits: VecDeque<Group>,
    /// The content of the next commit.
    next: Group,
    /// Uploads with smaller ids are durable.
    durable_to: UploadId,
}

/// What one commit makes durable.
#[derive(Debug, Default)]
struct Group {
    /// Bytes of accepted parts.
    bytes: u64,
    /// The id after that of the last admitted upload.
    admitted_to: Option<UploadId>,
    begun: Vec<UploadId>,
}

impl Disk {
    pub(crate) fn new(next_upload: UploadId) -> Self {
        Self { commits: VecDeque::new(), next: Group::default(), durable_to: next_upload }
    }

    pub(crate) fn accepted(&mut self, bytes: u64) {
        self.next.bytes += bytes;
    }

    pub(crate) fn admitted(&mut self, id: UploadId) {
        self.next.admitted_to = Some(UploadId(id.0 + 1));
    }

    pub(crate) fn begun(&mut self, id: UploadId) {
        self.next.begun.push(id);
    }

    pub(crate) fn has_begun(&self, id: UploadId) -> bool {
        !self.commits.iter().chain([&self.next]).any(|group| group.begun.contains(&id))
    }

    /// Everything so far was given to the store.
    pub(crate) fn handed_over(&mut self) {
        self.commits.push_back(std::mem::take(&mut self.next));
    }

    /// The oldest commit in progress is durable.
    pub(crate) fn committed(&mut self) {
        let Some(group) = self.commits.pop_front() else { return };
        self.durable_to = self.durable_to.max(group.admitted_to.unwrap_or(self.durable_to));
    }

    /// Returns the bytes of accepted parts that a crash would cause to be sent again.
    pub(crate) fn unproved_bytes(&self) -> u64 {
        self.commits.iter().map(|group| group.bytes).sum::<u64>() + self.next.bytes
    }

    pub(crate) fn has(&self, id: UploadId) -> bool {
        id < self.durable_to
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_handed_over_is_durable_in_its_order() {
        let mut disk = Disk::new(UploadId(3));
        assert!(disk.has(UploadId(2)) && !disk.has(UploadId(3)));
        disk.admitted(UploadId(3));
        disk.accepted(5);
        disk.begun(UploadId(1));
        assert!(!disk.has_begun(UploadId(1)), "not handed over yet");
        disk.handed_over();
        disk.accepted(7);
        disk.handed_over();
        assert_eq!((disk.unproved_bytes(), disk.has(UploadId(3))), (12, false));
        assert!(!disk.has_begun(UploadId(1)) && disk.has_begun(UploadId(2)));
        disk.committed();
        assert!(disk.has_begun(UploadId(1)));
        assert_eq!((disk.unproved_bytes(), disk.has(UploadId(3))), (7, true));
        assert!(!disk.has(UploadId(4)));
        disk.committed();
        assert_eq!(disk.unproved_bytes(), 0);
        disk.accepted(1);
        assert_eq!(disk.unproved_bytes(), 1, "not handed over yet");
    }
}
