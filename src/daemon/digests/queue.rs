//! The parts of one drop directory to digest: those that a task waits for, and those ahead.
//!
//! Digests in parallel lanes cost a fifth of separate ones, but fewer parts are in flight than there are
//! lanes, and most of those are being sent. So when a part of a large file is wanted, the following
//! parts are digested as well, as many as fill the lanes; the next such group begins when half of the
//! known digests were requested. Only the digest of a part is kept: no file stays open for it.
//!
//! That parts are wanted in order, and are equally long, is an assumption: if it is wrong, digests
//! are wasted, and nothing else. *Promises*: awaited parts go first; at most [`AHEAD_BYTES`] of a
//! file are digested before they are requested. A digest is given once: a second request, after the
//! storage found a different one, reads the part again. *A crash* resets everything.
//! again, since the storage found another, has the part read again. *At a crash* all of it is forgotten.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::model::{ByteRange, Failure, UploadId};
use crate::source::{Digested, SourceFile, WantedRange};

/// Bytes that are read again should still be in memory; and parts of the largest automatic size
/// should fill eight lanes.
const AHEAD_BYTES: u64 = 512 * 1024 * 1024;
/// Limit of remembered uploads: more than are ever sent from one drop directory at once.
const COURSES_MAX: usize = 64;

/// Receives a digest, or its failure.
pub(super) type DigestAnswer = oneshot::Sender<Result<Digested, Failure>>;

/// The requester of a digest.
#[derive(Debug)]
pub(super) enum For {
    One(DigestAnswer),
    /// A part of an upload, at this offset in the file.
    Part(UploadId, u64),
}

/// The queue. See the module documentation.
#[derive(Debug, Default)]
pub(super) struct DigestQueue(Mutex<Queued>);

#[derive(Debug, Default)]
struct Queued {
    asked: VecDeque<(WantedRange, For)>,
    ahead: VecDeque<(WantedRange, For)>,
    /// The most recently requested one is the last.
    courses: VecDeque<Course>,
    is_served: bool,
}

/// The progress of one upload's digests.
#[derive(Debug)]
struct Course {
    upload: UploadId,
    file: SourceFile,
    /// Parts that are wanted, in progress or known, by offset.
    parts: BTreeMap<u64, PartDigest>,
    /// Parts below this offset were handled.
    up_to: u64,
}

#[derive(Debug)]
enum PartDigest {
    InProgress(Option<DigestAnswer>),
    Known(Digested),
}

impl DigestQueue {
    /// Queues a digest; returns whether the caller must start a thread that serves the queue.
    pub(super) fn join(&self, wanted: WantedRange, answer: DigestAnswer) -> bool {
        let mut queue = self.lock();
        queue.asked.push_back((wanted, For::One(answer)));
        queue.wants_thread()
    }

    /// As [`Self::join`], for a part of a larger file, which is not kept; also digests the
    /// following parts, for this many lanes.
    pub(super) fn join_part(
        &self,
        upload: UploadId,
        wanted: WantedRange,
        answer: DigestAnswer,
        lanes: usize,
    ) -> bool {
        let range = wanted.range;
        let mut queue = self.lock();
        let mut course = queue.remove_course(upload, &wanted.file);
        match course.parts.remove(&range.offset) {
            Some(PartDigest::Known(digested)) => {
                // The task that wanted it may be gone.
                answer.send(Ok(digested)).ok();
            }
            Some(PartDigest::InProgress(_)) => {
                queue.hurry(upload, range.offset);
                course.parts.insert(range.offset, PartDigest::InProgress(Some(answer)));
            }
            None => {
                course.parts.insert(range.offset, PartDigest::InProgress(Some(answer)));
                queue.asked.push_back((wanted, For::Part(upload, range.offset)));
            }
        }
        for range in course.following(range, lanes) {
            course.parts.insert(range.offset, PartDigest::InProgress(None));
            let wanted = WantedRange { file: course.file.clone(), range, room: None };
            queue.ahead.push_back((wanted, For::Part(upload, range.offset)));
        }
        queue.courses.push_back(course);
        queue.forget_old();
        queue.wants_thread()
    }

    /// Removes awaited parts, up to this number, and fills the lanes with following ones. `None`
    /// ends the service, unless some are in progress.
    pub(super) fn take(
        &self,
        most: usize,
        in_progress: usize,
        lanes: usize,
    ) -> Vec<(WantedRange, For)> {
        let mut queue = self.lock();
        let count = queue.asked.len().min(most);
        let mut taken: Vec<_> = queue.asked.drain(..count).collect();
        let free = lanes.saturating_sub(in_progress + count).min(most - count);
        let count = queue.ahead.len().min(free);
        taken.extend(queue.ahead.drain(..count));
        queue.is_served = !taken.is_empty() || in_progress > 0;
        taken
    }

    /// Passes on a digest, or its failure.
    pub(super) fn done(&self, whom: For, digested: Result<Digested, Failure>) {
        let (upload, at) = match whom {
            For::One(answer) => {
                answer.send(digested).ok();
                return;
            }
            For::Part(upload, at) => (upload, at),
        };
        let mut queue = self.lock();
        let course = queue.courses.iter_mut().find(|course| course.upload == upload);
        let Some(course) = course else { return };
        match (course.parts.remove(&at), digested) {
            (Some(PartDigest::InProgress(Some(answer))), digested) => {
                answer.send(digested).ok();
            }
            (Some(PartDigest::InProgress(None)), Ok(digested)) => {
                course.parts.insert(at, PartDigest::Known(digested));
            }
            // It is read again once it is wanted, and fails then.
            (Some(PartDigest::InProgress(None) | PartDigest::Known(_)) | None, _) => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queued> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queued {
    fn wants_thread(&mut self) -> bool {
        let is_any = !self.asked.is_empty() || !self.ahead.is_empty();
        is_any && !std::mem::replace(&mut self.is_served, true)
    }

    fn remove_course(&mut self, upload: UploadId, file: &SourceFile) -> Course {
        let index = self.courses.iter().position(|course| course.upload == upload);
        let known = index.and_then(|index| self.courses.remove(index));
        known.filter(|course| course.file == *file).unwrap_or_else(|| Course {
            upload,
            file: file.clone(),
            parts: BTreeMap::new(),
            up_to: 0,
        })
    }

    /// Moves a part that was to be digested ahead to the awaited ones.
    fn hurry(&mut self, upload: UploadId, at: u64) {
        let is_it = |(_, whom): &(WantedRange, For)| matches!(whom, For::Part(u, a) if (*u, *a) == (upload, at));
        let index = self.ahead.iter().position(is_it);
        self.asked.extend(index.and_then(|index| self.ahead.remove(index)));
    }

    /// Drops the least recently requested upload, unless a task waits for it.
    fn forget_old(&mut self) {
        if self.courses.len() > COURSES_MAX {
            let index = self.courses.iter().position(|course| !course.is_awaited());
            index.and_then(|index| self.courses.remove(index));
        }
    }
}

impl Course {
    fn is_awaited(&self) -> bool {
        self.parts.values().any(PartDigest::is_awaited)
    }

    /// Returns the parts to digest next: none while that would use half of the lanes for them alone.
    fn following(&mut self, after: ByteRange, lanes: usize) -> Vec<ByteRange> {
        self.up_to = self.up_to.max(after.offset + after.length);
        let awaited_count = self.parts.values().filter(|state| state.is_awaited()).count();
        let ready_count = self.parts.len() - awaited_count;
        let room = usize::try_from(AHEAD_BYTES / after.length.max(1)).unwrap_or(usize::MAX);
        if ready_count >= lanes.min(room).div_ceil(2) {
            return Vec::new();
        }
        // The first group has the awaited parts, and as many as fit beside them.
        let beside = if ready_count == 0 { lanes.saturating_sub(awaited_count) } else { lanes };
        let mut ranges = Vec::new();
        while ranges.len() < beside.min(room - ready_count)
            && self.up_to < self.file.fingerprint.size.0
        {
            let length = after.length.min(self.file.fingerprint.size.0 - self.up_to);
            ranges.push(ByteRange { offset: self.up_to, length });
            self.up_to += length;
        }
        ranges
    }
}

impl PartDigest {
    fn is_awaited(&self) -> bool {
        matches!(self, Self::InProgress(Some(_)))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::model::{ByteCount, FailureKind, Fingerprint, SourcePath};
    use crate::source::{DirectoryRoot, PartReader, Together};

    const LANES: usize = 4;
    const UPLOAD: UploadId = UploadId(7);

    /// A file of twelve parts of 10 bytes, and one of 5.
    fn file(root: &Path) -> SourceFile {
        let name = root.join("file");
        std::fs::write(&name, [1; 125]).unwrap();
        let seen = std::fs::metadata(name).unwrap();
        let fingerprint = Fingerprint {
            device: seen.dev(),
            inode: seen.ino(),
            size: ByteCount(seen.size()),
            mtime_ns: seen.mtime() * 1_000_000_000 + seen.mtime_nsec(),
            ctime_ns: Some(seen.ctime() * 1_000_000_000 + seen.ctime_nsec()),
        };
        SourceFile {
            root: Arc::new(DirectoryRoot::at(root)),
            path: SourcePath::from_bytes(b"file"),
            fingerprint,
            provenance: None,
        }
    }

    fn part(index: u64) -> ByteRange {
        let offset = index * 10;
        ByteRange { offset, length: 10.min(125 - offset) }
    }

    fn wanted(file: &SourceFile, index: u64) -> WantedRange {
        WantedRange { file: file.clone(), range: part(index), room: None }
    }

    type Answered = oneshot::Receiver<Result<Digested, Failure>>;

    fn ask(digests: &DigestQueue, file: &SourceFile, index: u64) -> (bool, Answered) {
        let (answer, answered) = oneshot::channel();
        let serves = digests.join_part(UPLOAD, wanted(file, index), answer, LANES);
        (serves, answered)
    }

    fn indexes(taken: &[(WantedRange, For)]) -> Vec<u64> {
        taken.iter().map(|(wanted, _)| wanted.range.offset / 10).collect()
    }

    fn digest(digests: &DigestQueue, taken: Vec<(WantedRange, For)>) {
        let mut left = taken;
        let reader = PartReader::new(ByteCount(0));
        reader.digest_together(
            &Together::default(),
            |_, _| std::mem::take(&mut left),
            |whom, digested| digests.done(whom, digested),
            &AtomicBool::new(false),
        );
    }

    fn known(mut answered: Answered) -> Option<Digested> {
        answered.try_recv().ok()?.ok()
    }

    #[test]
    fn parts_that_follow_are_digested_with_the_one_that_is_wanted() {
        let root = tempfile::tempdir().unwrap();
        let (file, digests) = (file(root.path()), DigestQueue::default());
        let (serves, first) = ask(&digests, &file, 2);
        assert!(serves);
        let taken = digests.take(32, 0, LANES);
        assert_eq!(indexes(&taken), [2, 3, 4, 5]);
        let (serves, second) = ask(&digests, &file, 3);
        assert!(!serves, "it is served");
        digest(&digests, taken);
        let (first, second) = (known(first), known(second));
        assert!(first.is_some() && second.is_some());
        assert!(digests.take(32, 0, LANES).is_empty(), "half of the lanes is known");
        let (serves, third) = ask(&digests, &file, 4);
        assert!(serves && known(third).is_some(), "the next group begins");
        assert_eq!(indexes(&digests.take(32, 0, LANES)), [6, 7, 8, 9]);
        let (serves, again) = ask(&digests, &file, 4);
        assert!(!serves && known(again).is_none(), "a digest is given once");
        assert_eq!(indexes(&digests.take(32, 4, LANES)), [4]);
    }

    #[test]
    fn a_file_that_cannot_be_opened_does_not_end_the_service_unsaid() {
        let root = tempfile::tempdir().unwrap();
        let (file, digests) = (file(root.path()), DigestQueue::default());
        std::fs::remove_file(root.path().join("file")).unwrap();
        let (serves, mut gone) = ask(&digests, &file, 0);
        assert!(serves);
        PartReader::new(ByteCount(0)).digest_together(
            &Together::default(),
            |most, under_way| digests.take(most, under_way, LANES),
            |whom, digested| digests.done(whom, digested),
            &AtomicBool::new(false),
        );
        assert_eq!(gone.try_recv().unwrap().unwrap_err().kind, FailureKind::SourceAway);
        assert!(ask(&digests, &file, 1).0, "somebody is to serve");
    }

    #[test]
    fn no_file_stays_open_for_a_digest_that_is_kept() {
        let root = tempfile::tempdir().unwrap();
        let (file, digests) = (file(root.path()), DigestQueue::default());
        let (_, first) = ask(&digests, &file, 0);
        digest(&digests, digests.take(32, 0, LANES));
        drop(first);
        let is_open = |link: std::fs::DirEntry| {
            std::fs::read_link(link.path()).is_ok_and(|to| to == root.path().join("file"))
        };
        let mut links = std::fs::read_dir("/proc/self/fd").unwrap().filter_map(Result::ok);
        assert!(!links.any(is_open));
        assert!(digests.take(32, 0, LANES).is_empty());
        let (_, second) = ask(&digests, &file, 1);
        assert!(known(second).is_some(), "it is not read again");
    }

    #[test]
    fn groups_end_with_the_file_and_another_file_begins_anew() {
        let root = tempfile::tempdir().unwrap();
        let (file, digests) = (file(root.path()), DigestQueue::default());
        let _first = ask(&digests, &file, 11);
        let taken = digests.take(32, 0, LANES);
        assert_eq!(indexes(&taken), [11, 12]);
        assert_eq!(taken[1].0.range.length, 5);
        digest(&digests, taken);
        std::fs::remove_file(root.path().join("file")).unwrap();
        let other = self::file(root.path());
        let (_, answered) = ask(&digests, &other, 12);
        assert!(known(answered).is_none(), "what is known of another version is forgotten");
        assert_eq!(indexes(&digests.take(32, 0, LANES)), [12]);
    }

    #[test]
    fn who_waits_goes_before_what_follows() {
        let root = tempfile::tempdir().unwrap();
        let (file, digests) = (file(root.path()), DigestQueue::default());
        let _first = ask(&digests, &file, 0);
        let _third = ask(&digests, &file, 2);
        let (answer, _small) = oneshot::channel();
        digests.join(wanted(&file, 9), answer);
        assert_eq!(indexes(&digests.take(32, 0, LANES)), [0, 2, 9, 1]);
        assert_eq!(indexes(&digests.take(32, 4, LANES)), [0; 0], "the lanes are full");
        assert_eq!(indexes(&digests.take(32, 3, LANES)), [3]);
        assert!(digests.take(32, 0, LANES).is_empty());
        assert!(ask(&digests, &file, 12).0, "the service has ended");
        assert_eq!(indexes(&digests.take(32, 0, LANES)), [12]);
        assert!(digests.take(32, 1, LANES).is_empty());
        assert!(!ask(&digests, &file, 11).0, "whoever serves is busy");
    }

    #[test]
    fn what_could_not_be_read_ahead_fails_once_it_is_wanted() {
        let root = tempfile::tempdir().unwrap();
        let (file, digests) = (file(root.path()), DigestQueue::default());
        let (_, mut first) = ask(&digests, &file, 0);
        let taken = digests.take(32, 0, LANES);
        std::fs::write(root.path().join("file"), [2; 126]).unwrap();
        digest(&digests, taken);
        let failure = first.try_recv().unwrap().unwrap_err();
        assert_eq!(failure.kind, FailureKind::SourceChanged);
        let (_, mut second) = ask(&digests, &file, 1);
        assert!(second.try_recv().is_err(), "it is read again");
        assert!(indexes(&digests.take(32, 0, LANES)).contains(&1));
    }

    #[test]
    fn no_more_uploads_are_known_than_are_ever_sent_at_once() {
        let root = tempfile::tempdir().unwrap();
        let (file, digests) = (file(root.path()), DigestQueue::default());
        for id in 0..100 {
            let (answer, _) = oneshot::channel();
            digests.join_part(UploadId(id), wanted(&file, 0), answer, LANES);
            digest(&digests, digests.take(32, 0, LANES));
        }
        assert_eq!(digests.lock().courses.len(), COURSES_MAX);
    }
}
