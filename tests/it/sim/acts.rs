//! Acts, done in the simulated world, as the daemon's `perform` does them in the real one.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use dropferry::testing::engine::event::{
    Act, Event, FindHolder, MovedFrom, Outcome, ReadFrom, Sending, Setback, Survey, Walk,
};
use dropferry::testing::model::{
    ByteCount, ByteRange, ContentMark, DestinationName, DirectoryName, Failure, FailureKind,
    Fingerprint, Md5, Observation, PartNumber, PartSize, Place, RootIdentity, Seen, SourcePath,
    Space, StoredRows, UploadId,
};
use dropferry::testing::platform::{self, contract::PartBody};
use dropferry::testing::store;
use dropferry::testing::store::rest::Again;
use futures_util::{FutureExt, StreamExt};
use md5::{Digest, Md5 as Hasher};

use super::script::HANDED;
use super::world::World;

pub(super) type Reply = Result<Outcome, Setback>;

/// Kinds of failure that the policy retries by itself.
pub(super) const PASSING: [FailureKind; 8] = [
    FailureKind::Unreachable,
    FailureKind::Broken,
    FailureKind::TimedOut,
    FailureKind::ServerFault,
    FailureKind::BadAnswer,
    FailureKind::Throttled { after: Some(Duration::from_secs(7)) },
    FailureKind::Maintenance,
    FailureKind::Unauthorized,
];

/// Temporary refusals: the platform itself says that the request was not carried out.
pub(super) const REFUSING: [FailureKind; 3] =
    [FailureKind::Forbidden, FailureKind::NotFound, FailureKind::Quota];
/// Acts that an upload needs in order to continue, and that a platform may refuse.
pub(super) const REFUSABLE: [&str; 6] =
    ["locate", "begin", "put part", "put whole", "list parts", "complete"];

/// A fault of an act that the process survives.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fault {
    pub(super) act: &'static str,
    /// Which act of that name, counted from 1.
    pub(super) nth: u32,
    /// The act is done and its answer is lost; otherwise it is not done.
    pub(super) after: bool,
    pub(super) kind: FailureKind,
}

impl World {
    /// Does an act, with the fault that is due. Observations on the way come first.
    pub(super) fn perform(&mut self, act: Act) -> (Vec<Event>, Reply) {
        let Some(fault) = self.fault_for(name_of(&act)) else { return self.act(act) };
        let mut setback = setback(fault.kind);
        if fault.after {
            setback.failure.message = "its answer was lost".to_owned();
            self.explaining_bytes(|world| drop(world.act(act)));
            // A run's line may be there without anybody knowing of it.
            self.receipts.forget();
        }
        (Vec::new(), Err(setback))
    }

    /// Counts an act, and returns the fault that is planned for it or that hits it by chance.
    pub(super) fn fault_for(&mut self, act: &'static str) -> Option<Fault> {
        let count = self.act_counts.entry(act).or_default();
        *count += 1;
        let nth = *count;
        let planned = self.faults.iter().find(|f| f.act == act && f.nth == nth).copied();
        planned.or_else(|| self.chance_fault(act))
    }

    fn chance_fault(&mut self, act: &'static str) -> Option<Fault> {
        let is_call = !matches!(
            act,
            "look" | "find holder" | "hash part" | "hash file" | "compare content" | "find moved"
        );
        let hits = self.fault_rate > 0 && is_call && self.random.per_mille(self.fault_rate);
        hits.then(|| {
            let kind = if act == "scan" {
                FailureKind::SourceUnreadable
            } else {
                self.random.choose(&PASSING)
            };
            let is_refused = REFUSABLE.contains(&act) && self.random.per_mille(100);
            let kind = if is_refused { self.random.choose(&REFUSING) } else { kind };
            Fault { act, nth: 0, after: !is_refused && self.random.per_mille(500), kind }
        })
    }

    fn act(&mut self, act: Act) -> (Vec<Event>, Reply) {
        let outcome = match act {
            Act::Scan { drop, skip, root } => return self.scan(drop, &skip, root),
            Act::Look { .. } if self.files.is_empty() || self.is_other_root() => Err(away()),
            Act::Look { drop, paths } => {
                let observations: Vec<_> = paths.iter().map(|path| self.observe(path)).collect();
                let known = self.rows().catalogued(&drop, &observations);
                let known = known.expect("it can be read");
                let (root, writers) = (Some(self.root.clone()), BTreeSet::new());
                Ok(Outcome::Looked { observations, root, known, writers })
            }
            Act::CompareContent { drop, path, fingerprint, against } => self.compare(
                ReadFrom { drop, path, fingerprint, is_sentinel: false, provenance: None },
                against,
            ),
            Act::FindMoved { .. } if self.files.is_empty() => Err(away()),
            Act::FindMoved { drop, files } => Ok(self.find_moved(&drop, &files)),
            Act::HashPart { source, range, .. } => {
                self.read(&source, range).map(|bytes| Outcome::PartHashed { md5: md5(&bytes) })
            }
            Act::HashFile { source, mark, .. } => self.hash_file(&source, mark),
            Act::ProveSource { source, part_size, md5s, settled, .. } => {
                self.prove_source(&source, part_size, &md5s, settled)
            }
            Act::Put(sending) => self.put(&sending),
            Act::FindHolder(asked) => Ok(self.find_holder(&asked)),
            Act::ReadRows { drops } => return (self.read_rows(drops), Ok(Outcome::RowsRead)),
            Act::WriteRunReceipt { run, generation, .. } => {
                Ok(self.write_run_receipt(&run, generation))
            }
            Act::CheckProofs(check) => self.check_proofs(&check),
            Act::Dispose { run, how, before, .. } => self.dispose(&run, &how, before),
            Act::Survey(wanted) => Ok(Outcome::Surveyed(Survey {
                directory: "/state".into(),
                space: Some(Space { free: ByteCount(self.room), total: ByteCount(100) }),
                expiries: vec![(DestinationName::new("far"), self.expires_at)],
                report: wanted.and_then(|wanted| self.report(wanted)),
            })),
            Act::Notify { notice } => {
                self.told.push(*notice);
                Ok(Outcome::Notified)
            }
            Act::Call { call, .. } => now(platform::call(&self.fake, &call)).map(Outcome::Replied),
            Act::ReadRun { .. } | Act::DigestFile { .. } | Act::WriteReceipt { .. } => {
                unreachable!("done elsewhere")
            }
        };
        (Vec::new(), outcome.map_err(|failure| Setback { failure, sent: ByteCount(0) }))
    }

    /// Whether the drop directory is the one with the files.
    fn is_here(&self) -> bool {
        self.settings.drops.first().is_some_and(|drop| drop.directory == "/drop")
    }

    fn observe(&self, path: &SourcePath) -> Observation {
        let seen = match self.files.get(path).filter(|_| self.is_here()) {
            Some((fingerprint, _)) => Seen::File(*fingerprint),
            None => Seen::Gone,
        };
        let top = path.as_bytes().iter().position(|byte| *byte == b'/');
        let run_length = top.unwrap_or(path.as_bytes().len());
        let run_length = u32::try_from(run_length).expect("short");
        let place = Place { run_length, ..Place::alone(path) };
        Observation { place, path: path.clone(), seen }
    }

    /// Returns whether a directory other than the expected one is at the path.
    fn is_other_root(&self) -> bool {
        self.expects.as_ref().is_some_and(|root| *root != self.root)
    }

    fn read(&self, source: &ReadFrom, range: ByteRange) -> Result<Vec<u8>, Failure> {
        if self.is_other_root() && !source.is_sentinel {
            return Err(away());
        }
        let Some((fingerprint, bytes)) = self.files.get(&source.path) else {
            if self.files.is_empty() {
                return Err(away());
            }
            return Err(Failure::new(FailureKind::SourceGone, "it is not there"));
        };
        if fingerprint.size != source.fingerprint.size {
            return Err(Failure::new(FailureKind::SourceChanged, "it is another version"));
        }
        let from = usize::try_from(range.offset).expect("small");
        let length = usize::try_from(range.length).expect("small");
        Ok(bytes[from..from + length].to_vec())
    }

    fn hash_file(&self, source: &ReadFrom, mark: ContentMark) -> Result<Outcome, Failure> {
        let size = source.fingerprint.size;
        let whole = self.read(source, ByteRange { offset: 0, length: size.0 })?;
        let length = usize::try_from(mark.part_size.get()).expect("small");
        let parts: Vec<&[u8]> =
            if whole.is_empty() { vec![&[]] } else { whole.chunks(length).collect() };
        let mut digests = Hasher::new();
        parts.iter().for_each(|part| digests.update(md5(part).0));
        let md5_of_parts = Md5(digests.finalize().into());
        Ok(Outcome::FileHashed { mark: ContentMark { md5_of_parts, ..mark } })
    }

    fn prove_source(
        &self,
        source: &ReadFrom,
        part_size: PartSize,
        md5s: &[Md5],
        settled: Option<Fingerprint>,
    ) -> Result<Outcome, Failure> {
        let size = source.fingerprint.size;
        let bytes = self.read(source, ByteRange { offset: 0, length: size.0 })?;
        let version = self.files[&source.path].0;
        if source.fingerprint.is_untouched(&version) {
            return Ok(Outcome::SourceProved { version, differing: Vec::new() });
        }
        let is_quiet = |before: &Fingerprint| before.same_stamp(&version);
        if !is_quiet(&source.fingerprint) && !settled.as_ref().is_some_and(is_quiet) {
            return Ok(Outcome::SourceMoved { version });
        }
        let length = usize::try_from(part_size.get()).expect("small");
        let parts = bytes.chunks(length).zip(md5s).enumerate();
        let differing = parts.filter(|(_, (part, sent))| md5(part) != **sent);
        let differing = differing.map(|(index, _)| PartNumber::from_index(index)).collect();
        Ok(Outcome::SourceProved { version, differing })
    }

    fn scan(
        &mut self,
        drop: DirectoryName,
        skip: &BTreeSet<SourcePath>,
        root: Option<RootIdentity>,
    ) -> (Vec<Event>, Reply) {
        self.skipped.push(skip.len());
        self.expects = root.or_else(|| (!self.files.is_empty()).then(|| self.root.clone()));
        if self.is_other_root() {
            let (root, reason) = (self.root.clone(), away().message);
            return (Vec::new(), Ok(Outcome::OtherRoot { root, reason }));
        }
        let is_skipped = |path: &&SourcePath| {
            if path.as_bytes().starts_with(HANDED) {
                return true;
            }
            let is_below =
                |run: &SourcePath| path.as_bytes().starts_with(&[run.as_bytes(), b"/"].concat());
            skip.iter().any(is_below)
        };
        let seen = self.files.keys().filter(|path| self.is_here() && !is_skipped(path));
        let mut observations: Vec<_> = seen.map(|path| self.observe(path)).collect();
        let of_drop = self.settings.drops.iter().find(|settings| settings.name == drop);
        let to = of_drop.map_or(&[][..], |settings| &settings.destinations);
        let known = self.rows().differences(&drop, to, &mut observations);
        let known = known.expect("it can be read");
        let walk = Walk {
            complete: true,
            unseen: BTreeSet::new(),
            is_empty: self.files.is_empty() || !self.is_here(),
            root: self.root.clone(),
            space: None,
        };
        let (elapsed, renamed) = (Duration::ZERO, Vec::new());
        let outcome = Outcome::Scanned { seen_count: 0, elapsed, walk, renamed };
        (vec![Event::Observed { drop, observations, known }], Ok(outcome))
    }

    /// Compares a file with its rows, as the daemon does.
    fn compare(&self, source: ReadFrom, against: Option<UploadId>) -> Result<Outcome, Failure> {
        let snapshot = self.rows();
        let (drop, path) = (&source.drop, &source.path);
        let sent =
            snapshot.sent_mark(drop, path, &source.fingerprint, against).expect("it can be read");
        let Some(mark) = sent else {
            return Ok(Outcome::Compared { is_same: source.fingerprint.size.0 == 0 });
        };
        let read = self.hash_file(&source, mark)?;
        Ok(Outcome::Compared { is_same: read == Outcome::FileHashed { mark } })
    }

    fn find_holder(&self, what: &FindHolder) -> Outcome {
        let snapshot = self.rows();
        let found = snapshot.place_found(&what.targets, &what.place, &what.source);
        Outcome::HolderFound(found.expect("it can be read"))
    }

    /// Reads rows for another configuration, as the daemon does.
    fn read_rows(&self, drops: Vec<(DirectoryName, bool)>) -> Vec<Event> {
        let settings = store::Settings { directory: self.state().to_owned(), is_new: false };
        let again = Again::open(&settings).expect("the state can be read");
        let new = drops.iter().filter(|(_, is_new)| *is_new).map(|(drop, _)| drop.clone());
        let new: BTreeSet<_> = new.collect();
        let mut found = Vec::new();
        if !new.is_empty() {
            let rows = again.drops(&new).expect("they can be read");
            found.push(StoredRows::Directories(Box::new(rows)));
        }
        let all = drops.into_iter().map(|(drop, _)| drop).collect();
        let known = again.known(&all, 1, |files| {
            found.push(StoredRows::Known(files));
            true
        });
        known.expect("they can be read");
        found.into_iter().map(Event::Stored).collect()
    }

    /// Asks rows and files which of these were moved, as the daemon does.
    fn find_moved(&self, drop: &DirectoryName, files: &[(SourcePath, Fingerprint)]) -> Outcome {
        let snapshot = self.rows();
        let targets = self.settings.drops.first().map_or(&[][..], |drop| &drop.destinations);
        let found = files.iter().map(|(path, version)| {
            let sent = snapshot.sent_elsewhere(drop, path, version, targets);
            let mut sent = sent.expect("it can be read").into_iter();
            let is_left = |path: &SourcePath| {
                self.files.get(path).is_none_or(|(there, _)| there.inode != version.inode)
            };
            let moved = sent.find(|sent| is_left(&sent.path))?;
            let is_untouched = moved.version.is_untouched(version);
            Some(MovedFrom { upload: moved.upload, is_untouched })
        });
        Outcome::MovedFound(found.collect())
    }

    fn body(&self, source: &ReadFrom, range: ByteRange) -> Result<(PartBody, Md5), Failure> {
        let bytes = self.read(source, range)?;
        let (length, md5) = (ByteCount(bytes.len() as u64), md5(&bytes));
        let chunks = futures_util::stream::once(std::future::ready(Ok(Bytes::from(bytes)))).boxed();
        Ok((PartBody { length, md5: None, chunks }, md5))
    }

    fn put(&self, sending: &Sending) -> Result<Outcome, Failure> {
        let (body, md5) = self.body(&sending.source, sending.range)?;
        let sent = body.length;
        let reply = now(platform::put(&self.fake, &sending.request, body))?;
        Ok(Outcome::Sent { reply, md5, sent })
    }
}

/// The failure of an act in an empty drop directory.
fn away() -> Failure {
    Failure::new(FailureKind::SourceAway, "it is empty")
}

pub(super) fn setback(kind: FailureKind) -> Setback {
    Setback { failure: Failure::new(kind, "a planned fault"), sent: ByteCount(0) }
}

pub(super) fn md5(bytes: &[u8]) -> Md5 {
    Md5(Hasher::digest(bytes).into())
}

/// The fake answers at once.
pub(super) fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("the fake waits for nothing")
}

pub(super) fn name_of(act: &Act) -> &'static str {
    match act {
        Act::Call { call, .. } => call.name(),
        Act::Put(sending) => sending.request.name(),
        Act::Scan { .. } => "scan",
        Act::Look { .. } => "look",
        Act::CompareContent { .. } => "compare content",
        Act::FindMoved { .. } => "find moved",
        Act::HashPart { .. } => "hash part",
        Act::HashFile { .. } => "hash file",
        Act::ProveSource { .. } => "prove source",
        Act::WriteReceipt { .. } => "write receipt",
        Act::ReadRun { .. } => "read run",
        Act::WriteRunReceipt { .. } => "write run receipt",
        Act::DigestFile { .. } => "digest file",
        Act::CheckProofs(_) => "check proofs",
        Act::Dispose { .. } => "dispose",
        Act::Notify { .. } => "notify",
        Act::FindHolder(_) => "find holder",
        Act::ReadRows { .. } => "read rows",
        Act::Survey(_) => "survey",
    }
}
