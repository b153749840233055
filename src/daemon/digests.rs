//! Parts of one drop directory whose digests are wanted, and those that will be.
//!
//! Side by side, digests cost a fifth of what each costs alone, but fewer parts are on their way than go
//! side by side, and most of those are being sent. So when a part of a large file is wanted, the parts
//! that follow it are digested as well, as many as make the lanes full; the next such group begins when
//! half of what is known was asked for. What is kept of a part is its digest; its file stays open as long
//! as parts of it are read or sent, and is opened again where it was closed meanwhile.
//!
//! That parts are wanted in their order, and are equally long, is a guess: where it is wrong, digesting
//! was in vain, and nothing else. *Promises*: what somebody waits for goes first; no more than
//! [`AHEAD_BYTES`] of a file are digested before they are asked for. A digest is given once: who asks
//! again, since the storage found another, has the part read again. *At a crash* all of it is forgotten.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::model::{ByteRange, Failure, UploadId};
use crate::source::{Digested, Opened, Resting, SourceFile, Wanted};

/// What is read again shall still lie in memory; and parts of the largest size that is chosen here
/// shall fill eight lanes.
const AHEAD_BYTES: u64 = 512 * 1024 * 1024;
/// Uploads that something is known of: more than are ever sent from one drop directory at once.
const COURSES_MAX: usize = 64;

/// Takes what was digested, or why it was not.
pub(super) type Answer = oneshot::Sender<Result<Digested, Failure>>;

/// Whom a digest is for.
#[derive(Debug)]
pub(super) enum For {
    /// Whoever asked for it.
    One(Answer),
    /// A part of an upload, which begins there in the file.
    Part(UploadId, u64),
}

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct Digests(Mutex<Queue>);

#[derive(Debug, Default)]
struct Queue {
    asked: VecDeque<(Wanted, For)>,
    following: VecDeque<(Wanted, For)>,
    /// The one that was asked for last is the last.
    courses: VecDeque<Course>,
    is_served: bool,
}

/// How far the digests of one upload are.
#[derive(Debug)]
struct Course {
    upload: UploadId,
    file: SourceFile,
    /// Parts that are wanted, under way or known, by where they begin.
    parts: Vec<(u64, State)>,
    /// What begins before was looked at.
    up_to: u64,
    /// The file, as long as parts of it are under way.
    opened: Opened,
}

#[derive(Debug)]
enum State {
    UnderWay(Option<Answer>),
    Known(Resting),
}

impl Digests {
    /// Wants a digest; tells whether nobody serves the line: whoever is told so must.
    pub(super) fn join(&self, wanted: Wanted, answer: Answer) -> bool {
        let mut queue = self.lock();
        queue.asked.push_back((wanted, For::One(answer)));
        queue.wants_service()
    }

    /// As [`Self::join`], of a part of a larger file, which will not be held; and has those that follow
    /// digested, so many side by side.
    pub(super) fn join_part(
        &self,
        upload: UploadId,
        (file, range): (SourceFile, ByteRange),
        answer: Answer,
        lanes: usize,
    ) -> bool {
        let mut queue = self.lock();
        let mut course = queue.take_course(upload, file);
        let awaited = match course.take(range.offset) {
            Some(State::Known(resting)) => match resting.wake(&course.opened) {
                Ok(known) => {
                    // Whoever wanted it may be gone.
                    answer.send(Ok(Digested::Read(known))).ok();
                    None
                }
                Err(wanted) => Some((answer, Some(*wanted))),
            },
            Some(State::UnderWay(_)) => {
                queue.hurry(upload, range.offset);
                Some((answer, None))
            }
            None => Some((answer, Some(course.wanted(range)))),
        };
        if let Some((answer, wanted)) = awaited {
            course.parts.push((range.offset, State::UnderWay(Some(answer))));
            let whom = For::Part(upload, range.offset);
            queue.asked.extend(wanted.map(|wanted| (wanted, whom)));
        }
        for range in course.following(range, lanes) {
            course.parts.push((range.offset, State::UnderWay(None)));
            let whom = For::Part(upload, range.offset);
            queue.following.push_back((course.wanted(range), whom));
        }
        queue.courses.push_back(course);
        queue.forget_old();
        queue.wants_service()
    }

    /// Takes what somebody waits for, at most so many, and fills the lanes with what follows. None ends
    /// the service, unless some are under way.
    pub(super) fn take(&self, most: usize, under_way: usize, lanes: usize) -> Vec<(Wanted, For)> {
        let mut queue = self.lock();
        let count = queue.asked.len().min(most);
        let mut taken: Vec<_> = queue.asked.drain(..count).collect();
        let free = lanes.saturating_sub(under_way + count).min(most - count);
        let count = queue.following.len().min(free);
        taken.extend(queue.following.drain(..count));
        queue.is_served = !taken.is_empty() || under_way > 0;
        taken
    }

    /// Hands on what was digested, or why it was not.
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
        if let Ok(Digested::Read(known)) = &digested {
            course.opened = known.opened();
        }
        match (course.take(at), digested) {
            (Some(State::UnderWay(Some(answer))), digested) => {
                answer.send(digested).ok();
            }
            (Some(State::UnderWay(None)), Ok(Digested::Read(known))) => {
                course.parts.push((at, State::Known(known.rest())));
            }
            // It is read again once it is wanted, and fails then.
            (Some(State::UnderWay(None) | State::Known(_)) | None, _) => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn wants_service(&mut self) -> bool {
        let is_any = !self.asked.is_empty() || !self.following.is_empty();
        is_any && !std::mem::replace(&mut self.is_served, true)
    }

    fn take_course(&mut self, upload: UploadId, file: SourceFile) -> Course {
        let index = self.courses.iter().position(|course| course.upload == upload);
        let known = index.and_then(|index| self.courses.remove(index));
        let fresh =
            |file| Course { upload, file, parts: Vec::new(), up_to: 0, opened: Opened::default() };
        known.filter(|course| course.file == file).unwrap_or_else(|| fresh(file))
    }

    /// Somebody waits for a part that merely followed.
    fn hurry(&mut self, upload: UploadId, at: u64) {
        let is_it =
            |(_, whom): &(Wanted, For)| matches!(whom, For::Part(u, a) if (*u, *a) == (upload, at));
        let index = self.following.iter().position(is_it);
        self.asked.extend(index.and_then(|index| self.following.remove(index)));
    }

    /// Forgets the upload that was asked for longest ago, unless somebody waits.
    fn forget_old(&mut self) {
        if self.courses.len() > COURSES_MAX {
            let index = self.courses.iter().position(|course| !course.is_awaited());
            index.and_then(|index| self.courses.remove(index));
        }
    }
}

impl Course {
    fn take(&mut self, at: u64) -> Option<State> {
        let index = self.parts.iter().position(|(begin, _)| *begin == at)?;
        Some(self.parts.swap_remove(index).1)
    }

    fn is_awaited(&self) -> bool {
        self.parts.iter().any(|(_, state)| matches!(state, State::UnderWay(Some(_))))
    }

    fn wanted(&self, range: ByteRange) -> Wanted {
        let wanted = Wanted::new(self.file.clone(), range, None);
        Wanted { opened: self.opened.clone(), ..wanted }
    }

    /// Returns the parts to digest next: none while half of the lanes would have nothing to do but them.
    fn following(&mut self, after: ByteRange, lanes: usize) -> Vec<ByteRange> {
        self.up_to = self.up_to.max(after.offset + after.length);
        let is_awaited = |state: &State| matches!(state, State::UnderWay(Some(_)));
        let awaited_count = self.parts.iter().filter(|(_, state)| is_awaited(state)).count();
        let ready_count = self.parts.len() - awaited_count;
        let room = usize::try_from(AHEAD_BYTES / after.length.max(1)).unwrap_or(usize::MAX);
        if ready_count >= lanes.min(room).div_ceil(2) {
            return Vec::new();
        }
        // The first group is of those that are awaited, and as many as go beside them.
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

    type Answered = oneshot::Receiver<Result<Digested, Failure>>;

    fn ask(digests: &Digests, file: &SourceFile, index: u64) -> (bool, Answered) {
        let (answer, answered) = oneshot::channel();
        let serves = digests.join_part(UPLOAD, (file.clone(), part(index)), answer, LANES);
        (serves, answered)
    }

    fn indexes(taken: &[(Wanted, For)]) -> Vec<u64> {
        taken.iter().map(|(wanted, _)| wanted.range.offset / 10).collect()
    }

    fn digest(digests: &Digests, taken: Vec<(Wanted, For)>) {
        let mut left = taken;
        let reader = PartReader::new(ByteCount(0));
        reader.digest_together(
            &Together::default(),
            |_, _| std::mem::take(&mut left),
            |whom, digested| digests.done(whom, digested),
            &AtomicBool::new(false),
        );
    }

    /// What was answered keeps the file open.
    fn known(mut answered: Answered) -> Option<Digested> {
        answered.try_recv().ok()?.ok().filter(|digested| matches!(digested, Digested::Read(_)))
    }

    #[test]
    fn parts_that_follow_are_digested_with_the_one_that_is_wanted() {
        let root = tempfile::tempdir().unwrap();
        let (file, digests) = (file(root.path()), Digests::default());
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
        let (file, digests) = (file(root.path()), Digests::default());
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
    fn a_file_of_which_nothing_is_under_way_is_closed_and_opened_again() {
        let root = tempfile::tempdir().unwrap();
        let (file, digests) = (file(root.path()), Digests::default());
        let (_, first) = ask(&digests, &file, 0);
        digest(&digests, digests.take(32, 0, LANES));
        drop(first);
        let is_open = |link: std::fs::DirEntry| {
            std::fs::read_link(link.path()).is_ok_and(|to| to == root.path().join("file"))
        };
        let mut links = std::fs::read_dir("/proc/self/fd").unwrap().filter_map(Result::ok);
        assert!(!links.any(is_open));
        assert!(digests.take(32, 0, LANES).is_empty());
        let (serves, second) = ask(&digests, &file, 1);
        assert!(serves);
        let taken = digests.take(1, 0, LANES);
        assert!(taken[0].0.digested.is_some(), "it is not read again");
        digest(&digests, taken);
        let second = known(second);
        assert!(second.is_some());
        let (_, third) = ask(&digests, &file, 2);
        assert!(known(third).is_some(), "its file is open again");
    }

    #[test]
    fn groups_end_with_the_file_and_another_file_begins_anew() {
        let root = tempfile::tempdir().unwrap();
        let (file, digests) = (file(root.path()), Digests::default());
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
        let (file, digests) = (file(root.path()), Digests::default());
        let _first = ask(&digests, &file, 0);
        let _third = ask(&digests, &file, 2);
        let (answer, _small) = oneshot::channel();
        digests.join(Wanted::new(file.clone(), part(9), None), answer);
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
        let (file, digests) = (file(root.path()), Digests::default());
        let (_, mut first) = ask(&digests, &file, 0);
        let taken = digests.take(32, 0, LANES);
        std::fs::write(root.path().join("file"), [2; 125]).unwrap();
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
        let (file, digests) = (file(root.path()), Digests::default());
        for id in 0..100 {
            let (answer, _) = oneshot::channel();
            digests.join_part(UploadId(id), (file.clone(), part(0)), answer, LANES);
            digest(&digests, digests.take(32, 0, LANES));
        }
        assert_eq!(digests.lock().courses.len(), COURSES_MAX);
    }
}
