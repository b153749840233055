//! The world of one simulated run: files, far side, disk, clock, and who acts next.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use dropferry::engine::event::{Act, ActId, Effect, Event, Outcome, Setback, Source};
use dropferry::engine::settings::{
    DestinationSettings, DropSettings, RetrySettings, Settings, Unit,
};
use dropferry::engine::{Engine, Stored, StoredFile, StoredUpload};
use dropferry::model::{
    ByteCount, ByteRange, DestinationName, DropName, Failure, FailureKind, Fingerprint, Md5,
    Monotonic, NamePolicy, Now, Observation, PartLimits, PartSize, Record, Seen, SourcePath,
    Traits, WallTime,
};
use dropferry::platform::contract::{BeginRequest, PartBody, Platform};
use dropferry::platform::fake::{Fake, WallTimeOrZero};
use dropferry::store::writer::Writer;
use dropferry::store::{self, Loaded};
use futures_util::{FutureExt, StreamExt};
use md5::{Digest, Md5 as Hasher};

pub(super) const PART: u64 = 4;
pub(super) const PARTS_IN_FLIGHT: u32 = 2;

/// Where a run is cut, counted in effects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// The records of this commit are lost.
    BeforeCommit,
    /// They are durable, nothing that waits for them starts.
    AfterCommit,
    /// The act is not done.
    BeforeAct,
    /// The act is done, its answer is lost with the process.
    AfterAct,
}

/// What a run does wrong without dying: the n-th act of a name, before or after.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fault {
    pub(super) act: &'static str,
    pub(super) nth: u32,
    pub(super) after: bool,
    pub(super) kind: FailureKind,
}

pub(super) struct World {
    pub(super) fake: Fake,
    pub(super) files: BTreeMap<SourcePath, (Fingerprint, Vec<u8>)>,
    /// Receipts that a power cut would leave, by upload.
    pub(super) receipts: BTreeMap<i64, [u8; 32]>,
    pub(super) settings: Settings,
    pub(super) now: Now,
    pub(super) crash_count: u64,
    pub(super) effect_count: u64,
    pub(super) act_counts: BTreeMap<&'static str, u32>,
    pub(super) faults: Vec<Fault>,
    directory: tempfile::TempDir,
    seed: u64,
    inode: u64,
}

/// One life of the daemon.
pub(super) struct Life {
    pub(super) engine: Engine,
    writer: Writer,
    pending: Vec<(ActId, Act)>,
    /// A life that has not scanned does not know what there is.
    has_scanned: bool,
}

/// How a life ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    Quiet,
    Cut,
}

pub(super) fn traits() -> Traits {
    Traits {
        limits: PartLimits {
            size_min: ByteCount(1),
            size_max: ByteCount(1 << 20),
            count_max: 1000,
            file_max: ByteCount(1 << 20),
        },
        reports_parts: true,
        report_max: 2,
        can_list_parts: true,
        wants_md5_first: false,
    }
}

fn settings(policy: NamePolicy) -> Settings {
    Settings {
        drops: vec![DropSettings {
            name: DropName::new("drop"),
            directory: "/drop".into(),
            destinations: vec![DestinationName::new("far")],
            unit: Unit::Directory,
            quiet_period: Duration::from_secs(10),
            scan_interval: Duration::from_mins(5),
            priority: 0,
        }],
        destinations: vec![DestinationSettings {
            name: DestinationName::new("far"),
            platform: "fake".into(),
            traits: traits(),
            part_size: PartSize::new(PART).expect("not zero"),
            folder: "runs".into(),
            when_name_taken: policy,
            metadata: vec![("run".into(), "{drop}".into())],
            tags: Vec::new(),
        }],
        parts_in_flight: PARTS_IN_FLIGHT,
        memory: ByteCount(1 << 20),
        memory_per_part: ByteCount(1),
        retry: RetrySettings {
            delay_min: Duration::from_secs(1),
            delay_max: Duration::from_mins(5),
        },
    }
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        Self::with_policy(seed, NamePolicy::SkipIfSame)
    }

    pub(super) fn with_policy(seed: u64, policy: NamePolicy) -> Self {
        // Memory-backed where there is such a thing: hundreds of runs commit thousands of times.
        let shared = PathBuf::from("/dev/shm");
        let directory =
            if shared.is_dir() { tempfile::tempdir_in(shared) } else { tempfile::tempdir() };
        Self {
            fake: Fake::new(traits()),
            files: BTreeMap::new(),
            receipts: BTreeMap::new(),
            settings: settings(policy),
            now: Now {
                monotonic: Monotonic(Duration::ZERO),
                wall: WallTime(1_800_000_000_000_000_000),
            },
            crash_count: 0,
            effect_count: 0,
            act_counts: BTreeMap::new(),
            faults: Vec::new(),
            directory: directory.expect("a directory"),
            seed,
            inode: 0,
        }
    }

    /// Writes a file as a new version.
    pub(super) fn write(&mut self, path: &str, bytes: &[u8]) {
        self.inode += 1;
        let fingerprint = Fingerprint {
            device: 1,
            inode: self.inode,
            size: ByteCount(bytes.len() as u64),
            mtime_ns: self.now.wall.0,
        };
        let path = SourcePath::from_bytes(path.as_bytes());
        self.files.insert(path, (fingerprint, bytes.to_vec()));
    }

    pub(super) fn store(&self) -> store::Settings {
        store::Settings { directory: self.directory.path().to_owned() }
    }

    fn random(&mut self, below: usize) -> usize {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % below as u64).expect("below a usize")
    }

    /// Opens the disk and starts a life from it.
    pub(super) fn start(&mut self, cut: Option<(u64, Cut)>) -> (Life, End) {
        let (writer, loaded) = Writer::open(&self.store()).expect("the state opens");
        let mut effects = Vec::new();
        self.now.monotonic = self.now.monotonic.after(Duration::from_secs(1));
        let engine = Engine::load(self.settings.clone(), stored(loaded), self.now, &mut effects);
        let mut life = Life { engine, writer, pending: Vec::new(), has_scanned: false };
        let end = self.take(&mut life, effects, cut).unwrap_or(End::Quiet);
        (life, end)
    }

    /// Runs a life until it is quiet or cut. `cut` counts effects from the start of the world.
    pub(super) fn run(&mut self, cut: Option<(u64, Cut)>) -> (Life, End) {
        let (mut life, end) = self.start(cut);
        if end == End::Cut {
            return (life, end);
        }
        let end = self.go_on(&mut life, cut);
        (life, end)
    }

    /// Lets a life go on until it is quiet or cut.
    pub(super) fn go_on(&mut self, life: &mut Life, cut: Option<(u64, Cut)>) -> End {
        for _ in 0..200_000 {
            let end = self.step(life, cut);
            if let Some(end) = end {
                return end;
            }
        }
        panic!("seed {}: the run does not come to rest", self.seed);
    }

    /// Does the next thing: an act that is pending, or the passing of time.
    pub(super) fn step(&mut self, life: &mut Life, cut: Option<(u64, Cut)>) -> Option<End> {
        if life.pending.is_empty() {
            if life.engine.is_quiet() && life.has_scanned {
                return Some(End::Quiet);
            }
            let deadline = life.engine.next_deadline().expect("something is left to do");
            let wait = deadline.since(self.now.monotonic).max(Duration::from_millis(1));
            self.now.monotonic = self.now.monotonic.after(wait);
            self.now.wall = self.now.wall.after(wait);
            self.fake.state().now = WallTimeOrZero(self.now.wall);
            return self.tell(life, Event::Timer, cut);
        }
        let index = self.random(life.pending.len());
        let (id, act) = life.pending.swap_remove(index);
        self.effect_count += 1;
        if cut == Some((self.effect_count, Cut::BeforeAct)) {
            return Some(End::Cut);
        }
        let (observed, outcome) = self.perform(life, act);
        if cut == Some((self.effect_count, Cut::AfterAct)) {
            return Some(End::Cut);
        }
        for event in observed {
            life.has_scanned = true;
            if let Some(end) = self.tell(life, event, cut) {
                return Some(end);
            }
        }
        self.tell(life, Event::Outcome { act: id, outcome }, cut)
    }

    pub(super) fn tell(
        &mut self,
        life: &mut Life,
        event: Event,
        cut: Option<(u64, Cut)>,
    ) -> Option<End> {
        let mut effects = Vec::new();
        life.engine.handle(self.now, event, &mut effects);
        self.take(life, effects, cut)
    }

    fn take(
        &mut self,
        life: &mut Life,
        effects: Vec<Effect>,
        cut: Option<(u64, Cut)>,
    ) -> Option<End> {
        for effect in effects {
            match effect {
                Effect::Start(id, act) => life.pending.push((id, act)),
                Effect::Commit { records, then } => {
                    self.effect_count += 1;
                    if cut == Some((self.effect_count, Cut::BeforeCommit)) {
                        return Some(End::Cut);
                    }
                    self.commit(life, &records);
                    if cut == Some((self.effect_count, Cut::AfterCommit)) {
                        return Some(End::Cut);
                    }
                    life.pending.extend(then);
                }
            }
        }
        None
    }

    fn commit(&self, life: &mut Life, records: &[Record]) {
        let illegal = life.writer.apply(&[records.to_vec()]).expect("the disk takes it");
        assert_eq!(illegal, [], "the law forbids what the engine decided");
    }

    /// Does an act, with the fault that is planned for it.
    fn perform(&mut self, life: &Life, act: Act) -> (Vec<Event>, Result<Outcome, Setback>) {
        let name = name_of(&act);
        let count = self.act_counts.entry(name).or_default();
        *count += 1;
        let nth = *count;
        let fault = self.faults.iter().find(|fault| fault.act == name && fault.nth == nth).copied();
        let lost = |kind| {
            let failure = Failure::new(kind, "a planned fault");
            Err(Setback { failure, sent: ByteCount(0) })
        };
        match fault {
            Some(fault) if !fault.after => (Vec::new(), lost(fault.kind)),
            Some(fault) => {
                drop(self.act(life, act));
                (Vec::new(), lost(fault.kind))
            }
            None => self.act(life, act),
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "all the others are calls")]
    fn act(&mut self, life: &Life, act: Act) -> (Vec<Event>, Result<Outcome, Setback>) {
        let outcome = match act {
            Act::Scan { drop } => {
                let observations = self.files.keys().map(|path| self.observe(path)).collect();
                let outcome = Outcome::Scanned { seen_count: 0, elapsed: Duration::ZERO };
                return (vec![Event::Observed { drop, observations }], Ok(outcome));
            }
            Act::Look { paths, .. } => {
                let observations = paths.iter().map(|path| self.observe(path)).collect();
                Ok(Outcome::Looked { observations })
            }
            Act::HashPart { source, range, .. } => {
                self.read(&source, range).map(|bytes| Outcome::PartHashed { md5: md5(&bytes) })
            }
            Act::HashFile { source, mark, .. } => self.hash_file(&source, mark),
            Act::PutPart(act) => self.put(&act),
            Act::WriteReceipt { upload } => {
                let stored = life.engine.stored_uploads();
                let found = stored.iter().find(|s| s.admission.id == upload).expect("it is stored");
                let sha256 = receipt_of(found);
                self.receipts.insert(upload.0, sha256);
                Ok(Outcome::ReceiptWritten { sha256 })
            }
            call => now(remote_call(&self.fake, call)),
        };
        let outcome = outcome.map_err(|failure| Setback { failure, sent: ByteCount(0) });
        (Vec::new(), outcome)
    }

    fn observe(&self, path: &SourcePath) -> Observation {
        let seen = match self.files.get(path) {
            Some((fingerprint, _)) => Seen::File(*fingerprint),
            None => Seen::Gone,
        };
        Observation { path: path.clone(), seen, rank: 0 }
    }

    fn read(&self, source: &Source, range: ByteRange) -> Result<Vec<u8>, Failure> {
        let Some((fingerprint, bytes)) = self.files.get(&source.path) else {
            return Err(Failure::new(FailureKind::SourceGone, "it is not there"));
        };
        if !fingerprint.same_version(&source.fingerprint) {
            return Err(Failure::new(FailureKind::SourceChanged, "it is another version"));
        }
        let from = usize::try_from(range.offset).expect("small");
        let length = usize::try_from(range.length).expect("small");
        Ok(bytes[from..from + length].to_vec())
    }

    fn hash_file(
        &self,
        source: &Source,
        mark: dropferry::model::ContentMark,
    ) -> Result<Outcome, Failure> {
        let size = source.fingerprint.size;
        let whole = self.read(source, ByteRange { offset: 0, length: size.0 })?;
        let length = usize::try_from(mark.part_size.get()).expect("small");
        let mut digests = Hasher::new();
        let parts: Vec<&[u8]> =
            if whole.is_empty() { vec![&[]] } else { whole.chunks(length).collect() };
        parts.iter().for_each(|part| digests.update(md5(part).0));
        let md5_of_parts = Md5(digests.finalize().into());
        Ok(Outcome::FileHashed { mark: dropferry::model::ContentMark { md5_of_parts, ..mark } })
    }

    fn put(
        &self,
        act: &dropferry::engine::event::Remotely<dropferry::engine::event::PutPart>,
    ) -> Result<Outcome, Failure> {
        let bytes = self.read(&act.what.source, act.what.range)?;
        let sent = ByteCount(bytes.len() as u64);
        let md5 = md5(&bytes);
        let chunks = futures_util::stream::once(std::future::ready(Ok(Bytes::from(bytes)))).boxed();
        let body = PartBody { length: sent, md5: None, chunks };
        let etag = now(self.fake.put_part(&act.what.remote, act.what.part, body))?;
        Ok(Outcome::PartPut { etag, md5, sent })
    }
}

fn md5(bytes: &[u8]) -> Md5 {
    Md5(Hasher::digest(bytes).into())
}

/// The fake answers at once.
fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("the fake waits for nothing")
}

fn receipt_of(upload: &StoredUpload) -> [u8; 32] {
    use sha2::Sha256;
    let said = format!("{:?} {:?} {:?}", upload.admission, upload.state.stage, upload.parts);
    Sha256::digest(said).into()
}

#[expect(clippy::wildcard_enum_match_arm, reason = "acts that read files are done elsewhere")]
async fn remote_call(fake: &Fake, act: Act) -> Result<Outcome, Failure> {
    let request = |begin: dropferry::engine::event::Begin| BeginRequest {
        target: begin.target,
        size: begin.size,
        part_size: begin.part_size,
        overwrite: begin.overwrite,
    };
    Ok(match act {
        Act::Locate(act) => Outcome::Located(fake.locate(&act.what.target).await?),
        Act::Begin(act) => Outcome::Begun(fake.begin(&request(act.what)).await?),
        Act::FindBegun(act) => {
            let since = act.what.since;
            Outcome::FoundBegun(fake.find_begun(&request(act.what.begin), since).await?)
        }
        Act::ListParts(act) => Outcome::PartsListed(fake.list_parts(&act.what).await?),
        Act::Report(act) => {
            fake.report_parts(&act.what.remote, &act.what.parts).await?;
            Outcome::Reported
        }
        Act::Complete(act) => {
            Outcome::Completed(fake.complete(&act.what.remote, &act.what.parts).await?)
        }
        Act::Inspect(act) => Outcome::Inspected(fake.inspect(&act.what).await?),
        Act::Describe(act) => {
            fake.describe(&act.what.file, &act.what.description).await?;
            Outcome::Described
        }
        Act::Abort { remote, .. } => {
            fake.abort(&remote).await?;
            Outcome::Aborted
        }
        Act::Probe { .. } => {
            fake.check_access().await?;
            Outcome::Probed
        }
        other => panic!("{other:?} is no call"),
    })
}

pub(super) fn name_of(act: &Act) -> &'static str {
    match act {
        Act::Scan { .. } => "scan",
        Act::Look { .. } => "look",
        Act::Locate(_) => "locate",
        Act::Begin(_) => "begin",
        Act::FindBegun(_) => "find begun",
        Act::PutPart(_) => "put part",
        Act::HashPart { .. } => "hash part",
        Act::HashFile { .. } => "hash file",
        Act::ListParts(_) => "list parts",
        Act::Report(_) => "report",
        Act::Complete(_) => "complete",
        Act::Inspect(_) => "inspect",
        Act::Describe(_) => "describe",
        Act::WriteReceipt { .. } => "write receipt",
        Act::Abort { .. } => "abort",
        Act::Probe { .. } => "probe",
    }
}

pub(super) fn stored(loaded: Loaded) -> Stored {
    let upload = |upload: store::LoadedUpload| StoredUpload {
        admission: upload.admission,
        state: upload.state,
        parts: upload.parts,
    };
    let file = |file: store::KnownFile| StoredFile {
        drop: file.drop,
        path: file.path,
        fingerprint: file.fingerprint,
        destination: file.destination,
    };
    Stored {
        uploads: loaded.uploads.into_iter().map(upload).collect(),
        known: loaded.known.into_iter().map(file).collect(),
        cleanups: loaded.cleanups,
        ignored: loaded.ignored,
        next_upload: loaded.next_upload,
    }
}
