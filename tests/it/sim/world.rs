//! The world of one simulated run: files, platform, disk, clock, and what happens next.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use dropferry::testing::daemon::LineSubject;
use dropferry::testing::daemon::desk::{Desk, Task};
use dropferry::testing::engine::Engine;
use dropferry::testing::engine::check;
use dropferry::testing::engine::event::{Act, ActId, Effect, Event, Outcome};
use dropferry::testing::engine::orders::OrderAnswer;
use dropferry::testing::engine::settings::{
    DestinationSettings, DirectorySettings, ExportSettings, NoticeSettings, PartWish,
    PartsInFlight, RetrySettings, RunSettings, Settings,
};
use dropferry::testing::model::{
    ByteCount, Call, ChangePolicy, Closing, Describes, DestinationName, DirectoryName, ETagLaw,
    ExportMode, FailureKind, Fingerprint, Monotonic, NamePolicies, NamePolicy, Notice, Now,
    PartLimits, PartSize, Record, Replaces, Reply, RootIdentity, SourcePath, Standing, StoredRows,
    StoredUpload, TargetAddress, Traits, UploadId, WallTime, WrittenLine,
};
use dropferry::testing::platform::fake::{Fake, WallTimeOrZero};
use dropferry::testing::store;
use dropferry::testing::store::rest::Rest;
use dropferry::testing::store::snapshot::Snapshot;
use dropferry::testing::store::writer::{Applied, Writer};

use super::acts::{Fault, name_of, setback};
use super::random::Random;
use super::receipts::{PowerCut, Receipts};
use super::story;
use super::twin::{self, Twin};

pub(super) const PART: u64 = 4;
pub(super) const PARTS_IN_FLIGHT: u32 = 2;
/// Steps after which a run is held to go in circles.
const STEPS_MAX: u32 = 20_000;
/// When every run begins.
const START: WallTime = WallTime(1_800_000_000_000_000_000);
/// The files of the database after a crash; the index of the log is rebuilt.
const DATABASE: [&str; 2] = ["dropferry.db", "dropferry.db-wal"];

/// What survives a crash, and the random numbers.
pub(super) struct World {
    pub(super) fake: Fake,
    /// Platforms that destinations no longer point to.
    pub(super) former: Vec<Fake>,
    pub(super) files: BTreeMap<SourcePath, (Fingerprint, Vec<u8>)>,
    pub(super) receipts: Receipts,
    pub(super) settings: Settings,
    pub(super) now: Now,
    pub(super) random: Random,
    pub(super) crash_count: u64,
    pub(super) act_counts: BTreeMap<&'static str, u32>,
    pub(super) faults: Vec<Fault>,
    /// How many acts in a thousand fail by chance.
    pub(super) fault_rate: usize,
    /// How many times in a thousand the clock moves although something is pending.
    pub(super) delay_rate: usize,
    /// How many times in a thousand some stored state comes into memory before anything else happens.
    pub(super) load_rate: usize,
    /// The disk is slower than everything else: a commit comes only when nothing else can happen.
    pub(super) is_disk_slow: bool,
    /// Bytes that may be sent again without a crash.
    pub(super) allowance: u64,
    /// What the rows must contain, where memory was not ahead of them.
    expected: Option<Vec<StoredUpload>>,
    /// Every version that was ever at any path, by inode.
    pub(super) versions: BTreeMap<u64, Vec<u8>>,
    /// The identity of the directory at the drop directory's path.
    pub(super) root: RootIdentity,
    /// The identity that it must have, as the last scan was asked.
    pub(super) expects: Option<RootIdentity>,
    /// How many runs each scan left out.
    pub(super) skipped: Vec<usize>,
    /// Files that were disposed of.
    pub(super) disposed: Vec<SourcePath>,
    /// The notices that were sent, in order.
    pub(super) told: Vec<Notice>,
    /// The room for the state, in hundredths.
    pub(super) room: u64,
    /// When the credential ends.
    pub(super) expires_at: Option<WallTime>,
    /// Whether what a recording would contain is replayed at once.
    pub(super) is_replayed: bool,
    /// The file for which the platform reports a length that no row can hold.
    pub(super) absurd: Option<&'static str>,
    /// The connection with which checks and acts read the rows: opening one costs more than all that is read.
    pub(super) rows: OnceCell<Snapshot>,
    directory: tempfile::TempDir,
    inode: u64,
    /// Counts the changes of all files.
    ctime: i64,
}

/// One life of the daemon: what a crash destroys.
pub(super) struct Life {
    pub(super) engine: Engine,
    twin: Option<Twin>,
    writer: Writer,
    /// What is stored and not yet in memory, row by row.
    rest: VecDeque<StoredRows>,
    pending: Vec<Pending>,
    desk: Desk<(), OrderAnswer>,
    /// Submitted and not yet durable, in order.
    writes: VecDeque<Vec<Record>>,
    /// Events that the engine has not received yet.
    told: VecDeque<Event>,
    /// The answers to orders.
    pub(super) answers: Vec<OrderAnswer>,
    /// Whether a scan has finished: before that, a life does not know which files there are.
    pub(super) has_scanned: bool,
}

/// Something that may happen next.
enum Pending {
    Act(ActId, Box<Act>),
    /// The line of an upload was appended; the sync of its ledger is still to come.
    Sync(ActId, UploadId, Box<WrittenLine>),
}

/// What a step was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// An act was done, and the engine received its result.
    Act(&'static str),
    /// What waited for the disk is durable.
    Committed,
    /// Some more of what is stored came into memory.
    Loaded,
    /// Time passed.
    Waited,
    /// Nothing is left to do.
    Quiet,
}

pub(super) fn traits() -> Traits {
    Traits {
        limits: PartLimits {
            size_min: ByteCount(1),
            size_max: ByteCount(1 << 20),
            count_max: 1000,
            file_max: ByteCount(1 << 20),
            path_max: ByteCount(u64::MAX),
        },
        reports_parts: true,
        report_max: 2,
        describes: Describes::AfterCompletion,
        finishes_runs: false,
        has_places: true,
        wants_md5_first: false,
        sends_whole: false,
        etags: ETagLaw::Mostly { reads_back: true },
        can_inspect: true,
        replaces: Replaces::ByETag,
        parts_need_account: true,
    }
}

/// Where a project of the fake is.
pub(super) fn address(container: &str) -> TargetAddress {
    TargetAddress {
        platform: "fake".into(),
        base_url: "http://far".into(),
        container: container.into(),
    }
}

fn settings(policy: NamePolicy) -> Settings {
    let far = vec![DestinationName::new("far")];
    let plain = DirectorySettings::plain(DirectoryName::new("drop"), "/drop".into(), far);
    Settings {
        drops: vec![DirectorySettings {
            quiet_period: Duration::from_secs(10),
            runs: RunSettings {
                closing: Closing { quiet: Duration::from_secs(100), ..plain.runs.closing },
                ..plain.runs.clone()
            },
            ..plain
        }],
        destinations: vec![DestinationSettings {
            name: DestinationName::new("far"),
            platform: "fake".into(),
            address: address("lab"),
            same_as: Vec::new(),
            traits: traits(),
            part_size: PartWish::Fixed(PartSize::new(PART).expect("not zero")),
            folder: "runs".into(),
            policies: NamePolicies { taken: policy, changed: ChangePolicy::Replace },
            metadata: vec![("run".into(), "{drop}".into())],
            tags: Vec::new(),
            export: None,
        }],
        parts_in_flight: PartsInFlight::Fixed(PARTS_IN_FLIGHT),
        memory: ByteCount(1 << 20),
        memory_per_part: ByteCount(1),
        retry: RetrySettings {
            delay_min: Duration::from_secs(1),
            delay_max: Duration::from_mins(5),
        },
        channels: Vec::new(),
        notices: NoticeSettings::default(),
    }
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        Self::with(seed, NamePolicy::SkipIfSame, traits())
    }

    pub(super) fn with(seed: u64, policy: NamePolicy, traits: Traits) -> Self {
        let mut settings = settings(policy);
        settings.destinations[0].traits = traits;
        let fake = Fake::new(traits);
        let directory = new_state();
        fake.state().now = WallTimeOrZero(START);
        Self {
            fake,
            former: Vec::new(),
            files: BTreeMap::new(),
            receipts: Receipts::new(directory.path()),
            settings,
            now: Now { monotonic: Monotonic(Duration::ZERO), wall: START },
            random: Random(seed),
            crash_count: 0,
            act_counts: BTreeMap::new(),
            faults: Vec::new(),
            fault_rate: 0,
            delay_rate: 0,
            is_disk_slow: false,
            allowance: 0,
            load_rate: 500,
            expected: None,
            versions: BTreeMap::new(),
            skipped: Vec::new(),
            disposed: Vec::new(),
            told: Vec::new(),
            room: 50,
            expires_at: None,
            is_replayed: false,
            absurd: None,
            root: RootIdentity::new("first"),
            expects: None,
            rows: OnceCell::new(),
            directory,
            inode: 0,
            ctime: 0,
        }
    }

    /// Returns the world as a crash at this moment leaves it; a power cut removes more.
    pub(super) fn crashed(&self, life: &Life, power_cut: Option<PowerCut>) -> Self {
        let directory = directory();
        let receipts = self.receipts.crashed(directory.path(), power_cut);
        for name in DATABASE {
            let from = self.state().join(name);
            if from.exists() {
                std::fs::copy(from, directory.path().join(name)).expect("copied");
            }
        }
        Self {
            fake: self.fake.twin(),
            former: self.former.clone(),
            files: self.files.clone(),
            receipts,
            settings: self.settings.clone(),
            now: self.now,
            random: self.random.clone(),
            crash_count: self.crash_count + 1,
            act_counts: self.act_counts.clone(),
            faults: self.faults.clone(),
            fault_rate: self.fault_rate,
            delay_rate: self.delay_rate,
            is_disk_slow: self.is_disk_slow,
            allowance: self.allowance,
            load_rate: self.load_rate,
            expected: life.is_durable().then(|| life.stored_uploads()),
            versions: self.versions.clone(),
            skipped: self.skipped.clone(),
            disposed: self.disposed.clone(),
            told: self.told.clone(),
            room: self.room,
            expires_at: self.expires_at,
            is_replayed: self.is_replayed,
            absurd: self.absurd,
            root: self.root.clone(),
            expects: self.expects.clone(),
            rows: OnceCell::new(),
            directory,
            inode: self.inode,
            ctime: self.ctime,
        }
    }

    /// Sends every file to a second destination as well: another folder of the same platform.
    pub(super) fn add_destination(&mut self) {
        let mut second = self.settings.destinations[0].clone();
        second.name = DestinationName::new("second");
        second.folder = "copies".into();
        self.settings.drops[0].destinations.push(second.name.clone());
        self.settings.destinations.push(second);
    }

    /// Has every file exported to a volume.
    pub(super) fn export(&mut self) {
        for destination in &mut self.settings.destinations {
            destination.export = Some(ExportSettings {
                volume: "lab/archive".into(),
                prefix: "raw/{drop}".into(),
                mode: ExportMode { copy_only: true, overwrite: false },
            });
        }
    }

    /// Writes a file as a new version.
    pub(super) fn write(&mut self, path: &str, bytes: &[u8]) {
        self.write_at(path.as_bytes(), bytes);
    }

    /// Writes a file whose name may not be valid text.
    pub(super) fn write_at(&mut self, path: &[u8], bytes: &[u8]) {
        self.inode += 1;
        self.ctime += 1;
        let fingerprint = Fingerprint {
            device: 1,
            inode: self.inode,
            size: ByteCount(bytes.len() as u64),
            mtime_ns: self.now.wall.0,
            ctime_ns: Some(self.ctime),
        };
        let path = SourcePath::from_bytes(path);
        self.versions.insert(self.inode, bytes.to_vec());
        self.files.insert(path, (fingerprint, bytes.to_vec()));
    }

    /// Gives a file another mode, or a different content of the same length in the same inode with
    /// its modification time set back: `stat` reports the same for both.
    pub(super) fn touch(&mut self, path: &str, bytes: Option<&[u8]>) {
        self.ctime += 1;
        let file = self.files.get_mut(path.as_bytes()).expect("it is there");
        file.0.ctime_ns = Some(self.ctime);
        if let Some(bytes) = bytes {
            assert_eq!(bytes.len(), file.1.len(), "the length stays");
            file.1 = bytes.to_vec();
        }
    }

    /// Gives every file another inode, as a share that is mounted again may.
    pub(super) fn remount(&mut self) {
        for (fingerprint, bytes) in self.files.values_mut() {
            self.inode += 1;
            fingerprint.inode = self.inode;
            self.versions.insert(self.inode, bytes.clone());
        }
    }

    /// Gives a file another modification time, and another content of the same length or none.
    pub(super) fn stamp(&mut self, path: &str, bytes: Option<&[u8]>) {
        self.touch(path, bytes);
        let file = self.files.get_mut(path.as_bytes()).expect("it is there");
        file.0.mtime_ns += 1;
    }

    /// Moves a file; its own rename changes it, the rename of a directory above it does not.
    pub(super) fn rename_file(&mut self, from: &str, to: &str, is_changed: bool) {
        let (mut fingerprint, bytes) = self.files.remove(from.as_bytes()).expect("it is there");
        if is_changed {
            self.ctime += 1;
            fingerprint.ctime_ns = Some(self.ctime);
        }
        self.files.insert(SourcePath::from_bytes(to.as_bytes()), (fingerprint, bytes));
    }

    /// The state directory.
    pub(super) fn state(&self) -> &Path {
        self.directory.path()
    }

    /// The rows, as the last commit left them.
    pub(super) fn rows(&self) -> &Snapshot {
        self.rows.get_or_init(|| Snapshot::open(self.state()).expect("the state can be read"))
    }

    fn has_scans(&self) -> bool {
        self.settings.drops.iter().any(|drop| drop.is_scanned)
    }

    /// Returns the largest number of bytes in flight at a time.
    pub(super) fn in_flight_max(&self) -> u64 {
        let part = self.fake.state().faults.part_size.map_or(PART, |size| size.get().max(PART));
        u64::from(PARTS_IN_FLIGHT) * part * self.settings.destinations.len() as u64
    }

    /// Does something that the engine does not learn of: everything that is sent meanwhile may be sent again.
    pub(super) fn explaining_bytes<T>(&mut self, act: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.fake.state().bytes_received;
        let done = act(self);
        self.allowance += self.fake.state().bytes_received - before;
        done
    }

    /// Opens the disk and starts a life from it.
    pub(super) fn start(&mut self) -> Life {
        let settings = store::Settings { directory: self.state().to_owned(), is_new: false };
        let (writer, loaded) = Writer::open(&settings).expect("the state opens");
        let rest = read_rest(&settings, &loaded);
        let stored = loaded.state;
        let uploads = with_rest(stored.uploads.clone(), &rest);
        for upload in &uploads {
            assert_eq!(check::check(upload), [], "the rows of {}", upload.admission.id);
        }
        if let Some(expected) = self.expected.take() {
            assert_same(&expected, &uploads);
        }
        let mut effects = Vec::new();
        story::line(&self.now, || "a life starts".to_owned());
        self.pass(Duration::from_secs(1));
        let twin = self.is_replayed.then(|| Twin::load(&self.settings, &stored, self.now));
        let engine = Engine::load(self.settings.clone(), stored, self.now, &mut effects);
        let twin = twin.map(|(twin, again)| {
            twin::assert_equal(&effects, &again);
            twin
        });
        let mut life = Life {
            engine,
            twin,
            writer,
            rest,
            pending: Vec::new(),
            desk: Desk::new(),
            writes: VecDeque::new(),
            told: VecDeque::new(),
            answers: Vec::new(),
            has_scanned: !self.has_scans(),
        };
        life.take(effects);
        life
    }

    /// Starts a life and runs it until it is quiet.
    pub(super) fn run(&mut self) -> Life {
        let mut life = self.start();
        self.settle(&mut life);
        life
    }

    /// Lets a life continue until it is quiet.
    pub(super) fn settle(&mut self, life: &mut Life) {
        for _ in 0..STEPS_MAX {
            if self.step(life) == Step::Quiet {
                return;
            }
        }
        panic!("the run does not come to rest: {:#?}", life.engine.view().stored_uploads());
    }

    /// Lets one thing happen: an act, a commit, or the passing of time.
    pub(super) fn step(&mut self, life: &mut Life) -> Step {
        if !life.rest.is_empty() && self.random.per_mille(self.load_rate) {
            return self.load(life);
        }
        while let Some(event) = life.told.pop_front() {
            self.tell(life, event);
        }
        let count = life.pending.len() + usize::from(!life.writes.is_empty());
        if count == 0 || (self.delay_rate > 0 && self.random.per_mille(self.delay_rate)) {
            return self.wait(life);
        }
        let is_held = self.is_disk_slow && !life.pending.is_empty();
        let index = self.random.below(if is_held { life.pending.len() } else { count });
        if index == life.pending.len() {
            let together = 1 + self.random.below(life.writes.len());
            story::line(&self.now, || format!("commit of {together}"));
            life.commit(together);
            return Step::Committed;
        }
        match life.pending.swap_remove(index) {
            Pending::Act(id, act) => {
                if let Act::WriteReceipt { upload } = *act {
                    self.append(life, id, upload)
                } else {
                    self.do_act(life, id, *act)
                }
            }
            Pending::Sync(id, upload, written) => {
                story::line(&self.now, || format!("u{} sync receipt", upload.0));
                self.receipts.sync(&written);
                let outcome = Ok(Outcome::ReceiptWritten(written));
                self.tell(life, Event::Outcome { act: id, outcome });
                Step::Act("sync receipt")
            }
        }
    }

    fn load(&self, life: &mut Life) -> Step {
        if let Some(portion) = life.rest.pop_front() {
            self.tell(life, Event::Stored(portion));
        }
        Step::Loaded
    }

    /// Puts other settings in force. Acts that were decided before are done at the earlier
    /// platform, and their answers come afterwards.
    pub(super) fn reconfigure(&mut self, life: &mut Life, settings: Settings, far: Option<Fake>) {
        // Another configuration waits until everything that is stored is in memory.
        while !life.engine.view().is_loaded() {
            self.step(life);
        }
        life.commit_all();
        let pending = std::mem::take(&mut life.pending);
        let mut late = Vec::new();
        for pending in pending {
            match pending {
                Pending::Act(id, act) if !matches!(*act, Act::WriteReceipt { .. }) => {
                    let (observed, outcome) = self.explaining_bytes(|world| world.perform(*act));
                    late.extend(observed);
                    late.push(Event::Outcome { act: id, outcome });
                }
                Pending::Act(..) | Pending::Sync(..) => life.pending.push(pending),
            }
        }
        self.settings = settings.clone();
        if let Some(far) = far {
            self.former.push(std::mem::replace(&mut self.fake, far));
        }
        self.tell(life, Event::Reconfigured(settings));
        late.into_iter().for_each(|event| self.tell(life, event));
        life.has_scanned = !self.has_scans();
    }

    /// Brings everything that is stored into memory, as the daemon does before it takes an order.
    pub(super) fn load_all(&self, life: &mut Life) {
        while !life.rest.is_empty() {
            self.load(life);
        }
    }

    fn append(&mut self, life: &mut Life, id: ActId, upload: UploadId) -> Step {
        let fault = self.fault_for("write receipt");
        story::line(&self.now, || {
            format!(
                "u{} append receipt{}",
                upload.0,
                if fault.is_some() { " -> failed" } else { "" }
            )
        });
        let mut written = None;
        if fault.is_none_or(|fault| fault.after) {
            self.rows();
            let rows = self.rows.get().expect("it is open");
            // Nothing is written if the upload has been given up since the line was asked for.
            let subject = LineSubject::Upload(upload);
            written = self.receipts.append(rows, self.now.wall, subject).ok();
        }
        match written {
            Some(written) if fault.is_none() => {
                life.pending.push(Pending::Sync(id, upload, Box::new(written)));
            }
            written => {
                if let Some(written) = written {
                    self.receipts.fail(&written, self.random.per_mille(500));
                }
                let outcome = Err(setback(FailureKind::LocalFault));
                self.tell(life, Event::Outcome { act: id, outcome });
            }
        }
        Step::Act("append receipt")
    }

    fn do_act(&mut self, life: &mut Life, id: ActId, act: Act) -> Step {
        let name = name_of(&act);
        let label = story::is_printed().then(|| story::label(&act));
        let is_absurd = self.is_absurd(&act);
        let (observed, mut outcome) = self.perform(act);
        story::line(&self.now, || {
            format!("{} -> {}", label.unwrap_or_default(), story::result(&outcome))
        });
        if let Ok(Outcome::Replied(Reply::Completed(file))) = &mut outcome
            && is_absurd
        {
            file.size = Some(ByteCount(u64::MAX));
        }
        for event in observed {
            self.tell(life, event);
        }
        life.has_scanned |= name == "scan" && outcome.is_ok();
        self.tell(life, Event::Outcome { act: id, outcome });
        Step::Act(name)
    }

    fn is_absurd(&self, act: &Act) -> bool {
        let Act::Call { call, .. } = act else { return false };
        let Call::Complete(request) = &**call else { return false };
        self.absurd.is_some_and(|name| request.begun.target.name() == name)
    }

    fn wait(&mut self, life: &mut Life) -> Step {
        let is_idle = life.is_still();
        if is_idle && life.rest.is_empty() && life.engine.view().is_quiet() && life.has_scanned {
            return Step::Quiet;
        }
        if is_idle && !life.rest.is_empty() {
            return self.load(life);
        }
        if let Some(deadline) = life.engine.next_deadline() {
            let wait = deadline.since(self.now.monotonic).max(Duration::from_millis(1));
            self.pass(wait);
            self.tell(life, Event::Timer);
        } else if is_idle {
            let orders = super::check::status(self).orders;
            let is_paused = orders.iter().any(|(order, ..)| *order == Standing::Paused);
            assert!(is_paused, "nothing is pending and nothing will be");
            // Only the operator can go on.
            self.pass(Duration::from_hours(1));
        }
        Step::Waited
    }

    /// Lets time pass on both clocks, and on the platform's.
    pub(super) fn pass(&mut self, time: Duration) {
        self.now.monotonic = self.now.monotonic.after(time);
        self.now.wall = self.now.wall.after(time);
        let mut far = self.fake.state();
        far.now = WallTimeOrZero(far.now.0.after(time));
    }

    pub(super) fn tell(&self, life: &mut Life, event: Event) {
        let mut effects = Vec::new();
        let again = life.twin.as_mut().map(|twin| twin.handle(self.now, &event));
        life.engine.handle(self.now, event, &mut effects);
        again.iter().for_each(|again| twin::assert_equal(&effects, again));
        life.take(effects);
    }
}

impl Life {
    /// Returns whether everything that was decided is on disk.
    pub(super) fn is_durable(&self) -> bool {
        // An event that only reports a commit changes nothing.
        self.writes.is_empty() && self.told.iter().all(|event| *event == Event::Committed)
    }

    /// Returns the acts that were decided and have not come back.
    fn under_way(&self) -> impl Iterator<Item = &Act> {
        let pending = self.pending.iter().filter_map(|pending| match pending {
            Pending::Act(_, act) => Some(act.as_ref()),
            Pending::Sync(..) => None,
        });
        pending.chain(self.desk.held_back())
    }

    /// Counts the acts of runs that were decided and have not come back.
    pub(super) fn run_act_count(&self) -> usize {
        let is_runs = |act: &&Act| {
            matches!(act, Act::ReadRun { .. } | Act::WriteRunReceipt { .. } | Act::Dispose { .. })
        };
        self.under_way().filter(is_runs).count()
    }

    /// Returns every upload that the rows must hold, in memory or not.
    pub(super) fn stored_uploads(&self) -> Vec<StoredUpload> {
        with_rest(self.engine.view().stored_uploads(), &self.rest)
    }

    /// Counts the parts that are in flight.
    pub(super) fn part_act_count(&self) -> usize {
        self.under_way().filter(|act| name_of(act) == "put part").count()
    }

    /// Counts the bytes in flight for uploads that have ended: what was begun for them at the
    /// platform may be removed before they arrive.
    pub(super) fn bytes_in_vain(&self) -> u64 {
        let live = self.engine.view().stored_uploads();
        let live: BTreeSet<_> = live.iter().map(|upload| upload.admission.id).collect();
        let ended =
            self.under_way().filter(|act| act.upload().is_some_and(|id| !live.contains(&id)));
        let length = |act: &Act| if let Act::Put(sending) = act { sending.range.length } else { 0 };
        ended.map(length).sum()
    }

    /// Returns whether nothing that was decided is pending.
    pub(super) fn is_still(&self) -> bool {
        self.pending.is_empty() && self.is_durable()
    }

    /// Makes everything that was decided durable.
    pub(super) fn commit_all(&mut self) {
        let count = self.writes.len();
        self.commit(count);
    }

    pub(super) fn take(&mut self, effects: Vec<Effect>) {
        let tasks = self.desk.receive(effects, &(), |_, answer| Some(answer));
        self.carry_out(tasks);
        for upload in self.engine.view().stored_uploads() {
            assert_eq!(check::check(&upload), [], "memory of {}", upload.admission.id);
        }
    }

    /// Makes the oldest waiting records durable, in one transaction, and starts what waited for them.
    fn commit(&mut self, count: usize) {
        let batches: Vec<_> = self.writes.drain(..count).collect();
        let applied = self.writer.apply(&batches).expect("the disk takes it");
        let Applied { illegal, refused } = applied;
        assert_eq!(illegal, [], "the law forbids what the engine decided");
        for batch in 0..count {
            let of_it = refused.iter().filter(|refused| refused.batch == batch).cloned();
            let tasks = self.desk.landed(&of_it.collect::<Vec<_>>());
            self.carry_out(tasks);
        }
    }

    fn carry_out(&mut self, tasks: Vec<Task<(), OrderAnswer>>) {
        for task in tasks {
            match task {
                Task::Write(records) => self.writes.push_back(records),
                Task::Start((), id, act) => self.pending.push(Pending::Act(id, Box::new(act))),
                Task::Answer(answer) => self.answers.push(answer),
                Task::Tell(event) => self.told.push_back(event),
            }
        }
    }
}

/// A directory with the database that every first start makes; it is made only once.
fn new_state() -> tempfile::TempDir {
    static BLANK: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let directory = directory();
        let settings = store::Settings { directory: directory.path().to_owned(), is_new: false };
        drop(Writer::open(&settings).expect("the state opens"));
        std::fs::read(directory.path().join(DATABASE[0])).expect("it can be read")
    });
    let directory = directory();
    std::fs::write(directory.path().join(DATABASE[0]), &*BLANK).expect("written");
    directory
}

/// Memory-backed if possible: thousands of runs commit dozens of times each.
fn directory() -> tempfile::TempDir {
    let shared = PathBuf::from("/dev/shm");
    let made = if shared.is_dir() { tempfile::tempdir_in(shared) } else { tempfile::tempdir() };
    made.expect("a directory")
}

/// Adds the uploads that follow.
fn with_rest(mut uploads: Vec<StoredUpload>, rest: &VecDeque<StoredRows>) -> Vec<StoredUpload> {
    for rows in rest {
        if let StoredRows::Uploads(more) = rows {
            uploads.extend(more.iter().cloned());
        }
    }
    uploads.sort_by_key(|upload| upload.admission.id);
    uploads
}

/// Reads what a start leaves for later, row by row.
fn read_rest(settings: &store::Settings, loaded: &store::Loaded) -> VecDeque<StoredRows> {
    let mut rest = VecDeque::new();
    let read = Rest::open(settings, loaded).expect("the state opens").read(1, |found| {
        rest.push_back(found);
        true
    });
    read.expect("the rows can be read");
    rest.push_back(StoredRows::End);
    rest
}

/// The uploads that stayed in memory equal the uploads that were stored.
pub(super) fn assert_same(lived: &[StoredUpload], loaded: &[StoredUpload]) {
    assert_eq!(lived.len(), loaded.len(), "uploads in memory and in rows");
    for (lived, loaded) in lived.iter().zip(loaded) {
        let id = lived.admission.id;
        assert_eq!(lived.admission, loaded.admission, "the admission of {id}");
        assert_eq!(lived.state, loaded.state, "the state of {id}");
        assert_eq!(lived.parts, loaded.parts, "the parts of {id}");
    }
}
