//! The store as a whole: round trips, order, poison, readers, records.

use proptest::prelude::*;

use super::rest::Rest;
use super::snapshot::Snapshot;
use super::writer::{Applied, Instead, Refused, Writer};
use super::*;
use crate::model::{
    Admission, AdmittedFile, ByteCount, DestinationName, DirectoryName, ETag, Fact, Failure,
    FailureKind, Fingerprint, IgnoreReason, KnownFile, LedgerHead, LedgerPath, LineRef, Md5,
    ParkReason, PartNumber, PartSize, PartState, Provenance, RemoteFile, RemoteFileId,
    RemoteUpload, RemoteUploadId, SourcePath, StoredRows, Target, TargetId, UploadId, UploadState,
    WrittenLine,
};

const AT: WallTime = WallTime(1_800_000_000_000_000_000);
const PARTS: u32 = 3;

fn admission(id: i64, path: &[u8], parked: Option<ParkReason>) -> Admission {
    Admission {
        target_id: TargetId(1),
        id: UploadId(id),
        destination: DestinationName::new("far"),
        target: Target::new(["runs", "a b"], "n"),
        part_size: PartSize::new(4).expect("not zero"),
        rank: 7,
        at: AT,
        parked,
        decision: None,
        file: AdmittedFile {
            run: SourcePath::from_bytes(b"run"),
            provenance: Some(Box::new(Provenance { owner: u32::MAX, file_system: u64::MAX })),
            is_sentinel: false,
            drop: DirectoryName::new("drop"),
            path: SourcePath::from_bytes(path),
            fingerprint: Fingerprint {
                device: u64::MAX,
                inode: u64::MAX - 1,
                size: ByteCount(10),
                mtime_ns: -5,
                ctime_ns: Some(-4),
            },
            root: Some(crate::model::RootIdentity::new("ext4 ab /data 7")),
        },
    }
}

fn part(number: u32) -> PartNumber {
    PartNumber::new(number).expect("from 1")
}

/// Any fact, by number.
fn fact(index: usize) -> Fact {
    let part_size = PartSize::new(4).expect("not zero");
    let id = RemoteUploadId::new("u");
    let remote = RemoteUpload { id, part_size, part_count: PARTS, sequential: true };
    let file = RemoteFile {
        id: RemoteFileId::new("f"),
        name: "n".into(),
        size: Some(ByteCount(10)),
        mark: Some(crate::model::ContentMark { part_size, md5_of_parts: Md5([3; 16]) }),
        created_at: Some(AT),
        etag: None,
        version: None,
        maker: None,
    };
    let number = part(u32::try_from(index % 3).expect("small") + 1);
    let failure = Failure::new(FailureKind::ServerFault, "no");
    match index / 3 {
        0 => Fact::BeginIntended { part_size: PartSize::new(3), at: AT },
        1 | 2 => Fact::Begun { remote, at: AT },
        3..=5 => Fact::PartAccepted {
            part: number,
            md5: Md5([9; 16]),
            etag: ETag::from_header("e"),
            note: None,
            sent: ByteCount(4),
            at: AT,
        },
        6 => Fact::PartsReported { parts: vec![number] },
        7 => Fact::PartReopened { part: number, was_reported: index.is_multiple_of(2) },
        8 => Fact::ETagModeLearned { mode: crate::model::ETagMode::Opaque },
        9 => Fact::CompleteIntended { at: AT },
        10 => Fact::Completed { file, at: AT },
        11 => Fact::Described,
        12 => Fact::Verified { mark: file.mark, there: None, etag: None, at: AT },
        13 => {
            let line = LineRef {
                ledger: LedgerPath::new("d/r.jsonl"),
                seq: 1,
                offset: 0,
                sha256: [5; 32],
            };
            let head = LedgerHead { count: 1, sha256: [5; 32], length: 9 };
            let written = Box::new(WrittenLine { line, head, damaged: None });
            Fact::ReceiptWritten { written, at: AT }
        }
        14 => Fact::AttemptFailed {
            act: "complete",
            part: Some(number),
            failure,
            sent: ByteCount(1),
            retry_at: (index.is_multiple_of(2)).then_some(AT),
            at: AT,
        },
        15 => Fact::Parked { reason: ParkReason::Quota, detail: "full".into(), at: AT },
        16 => Fact::Released,
        17 => Fact::RemoteGone,
        21 => Fact::Retargeted { target: TargetId(2), part_size },
        18 => Fact::CompleteWithdrawn,
        19 => Fact::FoundPresent { file, at: AT },
        20 => Fact::SentInVain { bytes: ByteCount(2) },
        _ => Fact::Renamed { name: "other".into() },
    }
}

/// An upload that follows the law in memory, as in the engine.
struct Mirror {
    state: UploadState,
    parts: Vec<PartState>,
    name: String,
}

impl Mirror {
    /// Applies the fact if the law allows it, and returns whether it did.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "only some facts name parts or change the mirror"
    )]
    fn take(&mut self, fact: &Fact) -> bool {
        use crate::model::upload::{part_transition, transition};
        let Ok(state) = transition(&self.state, fact) else { return false };
        let mut parts = self.parts.clone();
        let named: Vec<_> = match fact {
            Fact::PartAccepted { part, .. } | Fact::PartReopened { part, .. } => vec![*part],
            Fact::PartsReported { parts } => parts.clone(),
            _ => Vec::new(),
        };
        for number in named {
            let Some(old) = parts.get(number.index()) else { return false };
            let Ok(new) = part_transition(old, fact) else { return false };
            parts[number.index()] = new;
        }
        match fact {
            Fact::Begun { remote, .. } => parts = vec![PartState::Open; remote.part_count as usize],
            Fact::RemoteGone | Fact::Retargeted { .. } => parts.clear(),
            Fact::Renamed { name } => self.name.clone_from(name),
            _ => {}
        }
        (self.state, self.parts) = (state, parts);
        true
    }
}

fn open(directory: &tempfile::TempDir) -> (Writer, Loaded) {
    let settings = Settings { directory: directory.path().to_owned(), is_new: false };
    Writer::open(&settings).expect("opens")
}

fn directory() -> tempfile::TempDir {
    let shared = std::path::Path::new("/dev/shm");
    let made = if shared.is_dir() { tempfile::tempdir_in(shared) } else { tempfile::tempdir() };
    made.expect("a directory")
}

/// Writes facts in this order, each to the upload beside it, and compares the rows with memory.
fn come_back(order: Vec<(usize, usize)>) -> Result<(), TestCaseError> {
    let directory = directory();
    let (mut writer, _) = open(&directory);
    let mut mirrors = Vec::new();
    for id in 1..=2 {
        let admission = admission(id, b"run/\xff\n", None);
        writer.apply(&[vec![Record::Admit(Box::new(admission))]]).expect("written");
        let state = UploadState::admitted(None);
        mirrors.push(Mirror { state, parts: Vec::new(), name: "n".into() });
    }
    for (number, (index, which)) in order.into_iter().enumerate() {
        // What the writer remembers, and what it reads.
        if number % 5 == 4 {
            drop(writer);
            writer = open(&directory).0;
        }
        let fact = fact(index);
        if mirrors[which].take(&fact) {
            let id = UploadId(i64::try_from(which).expect("small") + 1);
            let applied = writer.apply(&[vec![Record::Upload(id, fact)]]).expect("written");
            prop_assert_eq!(applied, Applied::default());
        }
    }
    let status = Snapshot::open(directory.path()).expect("opens").status(true, AT).expect("read");
    for tally in &status.counts.tallies {
        let in_state = status.uploads.iter().filter(|upload| upload.word() == tally.state);
        prop_assert_eq!(tally.upload_count, in_state.clone().count() as u64, "{}", tally.state);
        prop_assert_eq!(tally.accepted_bytes, in_state.map(|u| u.accepted_bytes).sum::<u64>());
    }
    drop(writer);
    let (_writer, loaded) = open(&directory);
    prop_assert_eq!(loaded.state.next_upload, Some(UploadId(3)));
    let mut uploads = loaded.state.uploads.clone();
    let settings = Settings { directory: directory.path().to_owned(), is_new: false };
    let read = Rest::open(&settings, &loaded).expect("opens").read(1, |portion| {
        if let StoredRows::Uploads(more) = portion {
            uploads.extend(more);
        }
        true
    });
    prop_assert!(read.is_ok());
    for upload in &uploads {
        let mirror = &mirrors[usize::try_from(upload.admission.id.0).expect("small") - 1];
        prop_assert_eq!(&upload.state, &mirror.state);
        prop_assert_eq!(&upload.parts, &mirror.parts);
        prop_assert_eq!(&upload.admission.target.name(), &mirror.name);
        let was = admission(upload.admission.id.0, b"run/\xff\n", None);
        prop_assert_eq!(upload.admission.file.fingerprint, was.file.fingerprint);
        prop_assert_eq!(&upload.admission.file.path, &was.file.path);
    }
    let live = mirrors.iter().filter(|mirror| !mirror.state.stage.is_end()).count();
    prop_assert_eq!(uploads.len(), live);
    Ok(())
}

#[test]
fn rows_of_an_upload_that_was_just_begun_come_back() {
    come_back(vec![(0, 0), (3, 0)]).expect("as they were");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn rows_come_back_as_they_were_and_the_books_balance(
        order in prop::collection::vec((0_usize..69, 0_usize..2), 0..120),
    ) {
        come_back(order)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]

    #[test]
    fn ignored_paths_are_as_many_as_the_books_say(
        steps in prop::collection::vec((0..6_u8, 0..3_u8), 0..60),
    ) {
        let directory = directory();
        let (mut writer, _) = open(&directory);
        let mut expected = std::collections::BTreeSet::new();
        for (number, step) in steps {
            let (drop, path) = (DirectoryName::new("drop"), SourcePath::from_bytes(&[number]));
            let record = match step {
                0 => {
                    expected.remove(&number);
                    Record::NotIgnored { drop, path }
                }
                1 => {
                    expected.insert(number);
                    Record::Ignored { drop, path, reason: IgnoreReason::Fifo, at: AT }
                }
                _ => {
                    expected.insert(number);
                    Record::Ignored { drop, path, reason: IgnoreReason::Socket, at: AT }
                }
            };
            writer.apply(&[vec![record]]).expect("written");
        }
        let status = Snapshot::open(directory.path()).expect("opens").status(true, AT).expect("read");
        prop_assert_eq!(status.counts.ignored.count, expected.len() as u64);
        prop_assert_eq!(status.counts.ignored.listed.len(), expected.len());
    }
}

#[test]
fn what_the_law_forbids_parks_that_upload_and_stops_no_other() {
    let directory = directory();
    let (mut writer, _) = open(&directory);
    let admit = |id| Record::Admit(Box::new(admission(id, b"a", None)));
    writer.apply(&[vec![admit(1), admit(2)]]).expect("written");
    let bad = Record::Upload(UploadId(1), Fact::Described);
    let good =
        Record::Upload(UploadId(2), Fact::BeginIntended { part_size: PartSize::new(3), at: AT });
    let applied = writer.apply(&[vec![bad], vec![good]]).expect("written");
    assert_eq!((applied.illegal.len(), applied.refused.len()), (1, 0));
    let status = Snapshot::open(directory.path()).expect("opens").status(true, AT).expect("read");
    let words: Vec<_> = status.uploads.iter().map(snapshot::UploadShown::word).collect();
    assert_eq!(words, ["parked", "sending"]);
}

fn rest(
    directory: &tempfile::TempDir,
    loaded: &Loaded,
    size: usize,
) -> (Vec<Vec<i64>>, Vec<KnownFile>) {
    let settings = Settings { directory: directory.path().to_owned(), is_new: false };
    let (mut pages, mut files) = (Vec::new(), Vec::new());
    let read = Rest::open(&settings, loaded).expect("opens").read(size, |portion| {
        match portion {
            StoredRows::Uploads(page) => {
                assert!(files.is_empty(), "uploads come first");
                pages.push(page.iter().map(|upload| upload.admission.id.0).collect());
            }
            StoredRows::Known(page) => files.extend(page),
            StoredRows::Directories(_) | StoredRows::End => panic!("another part of a start"),
        }
        true
    });
    read.expect("read");
    (pages, files)
}

#[test]
fn what_is_queued_comes_in_pages_and_each_once() {
    let directory = directory();
    let (mut writer, loaded) = open(&directory);
    assert_eq!(loaded.state.uploads, []);
    let admit = |id| Record::Admit(Box::new(admission(id, &id.to_le_bytes(), None)));
    writer.apply(&[(1..=25).map(admit).collect()]).expect("written");
    let begun = [24, 7]
        .map(|id| Record::Upload(UploadId(id), Fact::BeginIntended { part_size: None, at: AT }));
    let parked = Fact::Parked { reason: ParkReason::Bug, detail: String::new(), at: AT };
    let ended = Fact::Abandoned { at: AT };
    let others = [(9, parked), (10, ended)].map(|(id, fact)| Record::Upload(UploadId(id), fact));
    writer.apply(&[[begun, others].concat()]).expect("written");
    drop(writer);
    let (mut writer, loaded) = open(&directory);
    let first: Vec<_> = loaded.state.uploads.iter().map(|upload| upload.admission.id.0).collect();
    assert_eq!(first, [7, 9, 24], "what is more than queued comes first");
    assert_eq!(loaded.state.next_upload, Some(UploadId(26)));
    let (pages, files) = rest(&directory, &loaded, 10);
    assert!(pages.iter().all(|page| page.len() <= 10) && pages.len() == 3, "{pages:?}");
    let others = (1..=25).filter(|id| ![7, 9, 10, 24].contains(id)).collect::<Vec<_>>();
    assert_eq!(pages.concat(), others);
    assert_eq!(files, [], "no other upload of what was given up is open");
    let snapshot = Snapshot::open(directory.path()).expect("opens");
    let path = SourcePath::from_bytes(&10_i64.to_le_bytes());
    let known = snapshot.known_versions(&DirectoryName::new("drop"), &path).expect("read");
    assert_eq!(known.len(), 1, "what was given up is known");
    writer.apply(&[Vec::new()]).expect("written");
}

#[test]
fn the_rest_is_what_was_there_before_this_life() {
    let directory = directory();
    let (mut writer, loaded) = open(&directory);
    let admit = |id| vec![Record::Admit(Box::new(admission(id, &id.to_le_bytes(), None)))];
    writer.apply(&[admit(1)]).expect("written");
    let settings = Settings { directory: directory.path().to_owned(), is_new: false };
    let view = Rest::open(&settings, &loaded).expect("opens");
    let begun = Record::Upload(UploadId(1), Fact::BeginIntended { part_size: None, at: AT });
    writer.apply(&[admit(2), vec![begun]]).expect("written");
    let mut ids = Vec::new();
    let read = view.read(1, |portion| {
        let StoredRows::Uploads(page) = portion else { panic!("no file is known") };
        ids.extend(page.iter().map(|upload| upload.admission.id.0));
        true
    });
    read.expect("read");
    assert_eq!(ids, [1]);
}

fn runner() -> Runner {
    Runner { pid: 1, version: "0".into(), started_at: AT }
}

#[tokio::test]
async fn answers_come_after_the_commit_and_in_order() {
    let directory = directory();
    let settings = Settings { directory: directory.path().to_owned(), is_new: false };
    let (writer, _) = Writer::open(&settings).expect("opens");
    let (store, thread) = Store::start(writer, &runner()).expect("starts");
    let answers: Vec<_> = (1..=50)
        .map(|id| store.submit(vec![Record::Admit(Box::new(admission(id, b"a", None)))]))
        .collect();
    let barrier = store.submit(Vec::new());
    barrier.await.expect("answered").expect("all before it are written");
    let status = Snapshot::open(directory.path()).expect("opens").status(true, AT).expect("read");
    assert_eq!(status.uploads.len(), 50);
    assert!(status.process.is_running);
    for answer in answers {
        answer.await.expect("answered").expect("written");
    }
    drop(store);
    thread.finish();
    let status = Snapshot::open(directory.path()).expect("opens").status(true, AT).expect("read");
    assert!(!status.process.is_running);
}

#[tokio::test]
async fn a_failed_commit_poisons_everything_after_it() {
    let directory = directory();
    let settings = Settings { directory: directory.path().to_owned(), is_new: false };
    let (writer, _) = Writer::open(&settings).expect("opens");
    writer.limit_growth(4);
    let (store, thread) = Store::start(writer, &runner()).expect("starts");
    let admit = |id| vec![Record::Admit(Box::new(admission(id, b"a", None)))];
    store.submit(admit(1)).await.expect("answered").expect("written");
    // The database may not grow any more: this commit fails as on a full disk.
    let large = Record::Admit(Box::new(admission(3, &[b'a'; 100_000], None)));
    let failed = store.submit([admit(2), vec![large]].concat());
    let after = store.submit(admit(4));
    assert!(failed.await.expect("answered").is_err());
    assert!(after.await.expect("answered").is_err());
    assert!(store.submit(admit(5)).await.expect("answered").is_err());
    drop(store);
    thread.finish();
    let status = Snapshot::open(directory.path()).expect("opens").status(true, AT).expect("read");
    assert_eq!(status.uploads.len(), 1, "nothing of the failed transaction is there");
}

#[test]
fn a_second_writer_is_refused_and_says_what_to_do() {
    let directory = directory();
    let (_first, _) = open(&directory);
    let settings = Settings { directory: directory.path().to_owned(), is_new: false };
    let error = Writer::open(&settings).expect_err("the first one has it");
    assert_eq!(error.kind, Kind::Locked);
    assert!(error.hint().is_some_and(|hint| hint.contains("stop the other daemon")));
}

#[test]
fn a_state_that_may_only_be_read_is_read() {
    use std::os::unix::fs::PermissionsExt;
    let directory = directory();
    let (mut writer, _) = open(&directory);
    writer.apply(&[vec![Record::Admit(Box::new(admission(1, b"a", None)))]]).expect("written");
    drop(writer);
    let mode = |mode| std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(directory.path(), mode(0o555)).expect("set");
    let status = Snapshot::open(directory.path()).expect("opens").status(true, AT).expect("read");
    assert_eq!(status.uploads.len(), 1);
    std::fs::set_permissions(directory.path(), mode(0o755)).expect("set");
}

#[test]
fn attempts_are_kept_up_to_their_bound() {
    let directory = directory();
    let (mut writer, _) = open(&directory);
    writer.apply(&[vec![Record::Admit(Box::new(admission(1, b"a", None)))]]).expect("written");
    for _ in 0..80 {
        writer.apply(&[vec![Record::Upload(UploadId(1), fact(42))]]).expect("written");
    }
    let snapshot = Snapshot::open(directory.path()).expect("opens");
    let detail = snapshot.detail(UploadId(1)).expect("read").expect("there");
    assert_eq!(detail.attempts.len(), 50);
    assert_eq!(detail.upload.state.failed.count, 80);
}

#[test]
fn the_first_commits_of_a_life_are_not_held_up_by_folding() {
    let directory = directory();
    let (mut writer, _) = open(&directory);
    let size = || std::fs::metadata(directory.path().join("dropferry.db")).expect("there").len();
    let before = size();
    let mut sizes = Vec::new();
    for commit in 0..70 {
        let row =
            |n: i64| Record::Admit(admission(commit * 40 + n + 1, &[b'a'; 1000], None).into());
        writer.apply(&[(0..40).map(row).collect()]).expect("written");
        sizes.push(size());
    }
    assert!(sizes[..64].iter().all(|size| *size == before), "{sizes:?}");
    assert!(sizes[65] > before, "{sizes:?}");
}

#[test]
fn what_settles_in_a_directory_that_was_taken_out_is_not_counted() {
    let directory = tempfile::tempdir().expect("a directory");
    let settings = Settings { directory: directory.path().to_owned(), is_new: false };
    let (mut writer, _) = Writer::open(&settings).expect("opened");
    let health = |name: &str| {
        Record::DirectoryHealth(crate::model::DirectoryHealth {
            is_scanned: true,
            drop: DirectoryName::new(name),
            directory: "/data".into(),
            watch: crate::model::WatchState::Deaf,
            reason: None,
            last_full_scan_at: None,
            settling_count: 12,
            root: None,
        })
    };
    let shown = |writer: &mut Writer, records: Vec<Record>| {
        writer.apply(&[records]).expect("written");
        let status = Snapshot::open(directory.path()).and_then(|rows| rows.status(false, AT));
        let status = status.expect("read");
        let names: Vec<_> = status.places.drops.into_iter().map(|drop| drop.name).collect();
        (status.counts.settling_count, names.join(" "))
    };
    let configured = |names: &[&str]| {
        let drops = names.iter().map(|name| DirectoryName::new(*name)).collect();
        let stuck_after = std::time::Duration::from_hours(1);
        Record::Configured { drops, destinations: Vec::new(), stuck_after }
    };
    let both = vec![health("a"), health("b"), configured(&["a", "b"])];
    assert_eq!(shown(&mut writer, both), (24, "a b".into()));
    assert_eq!(shown(&mut writer, vec![configured(&["b"])]), (12, "b".into()));
    assert_eq!(shown(&mut writer, vec![configured(&["a", "b"])]), (24, "a b".into()));
}

#[test]
fn what_a_kill_cut_in_flight_is_counted_as_sent() {
    let directory = directory();
    let (mut writer, _) = open(&directory);
    let admit = |id| Record::Admit(Box::new(admission(id, b"a", None)));
    let moved = |id, fact| Record::Upload(UploadId(id), fact);
    let in_flight = |bytes| Fact::InFlight { bytes: ByteCount(bytes) };
    let records = vec![admit(1), admit(2), moved(1, in_flight(70)), moved(2, in_flight(5))];
    writer.apply(&[records]).expect("written");
    writer.apply(&[vec![moved(2, in_flight(0))]]).expect("written");
    let sums = || {
        let snapshot = Snapshot::open(directory.path()).expect("opens");
        let tallies = snapshot.status(true, AT).expect("read").counts.tallies;
        let sum = |of: fn(&snapshot::Tally) -> u64| tallies.iter().map(of).sum::<u64>();
        (sum(|t| t.bytes_sent), sum(|t| t.bytes_in_flight), sum(|t| t.bytes_sent_again))
    };
    assert_eq!(sums(), (0, 70, 0));
    drop(writer);
    let (_writer, _) = open(&directory);
    assert_eq!(sums(), (70, 0, 70));
}

/// A file whose length does not fit a column.
fn absurd_file() -> RemoteFile {
    let id = RemoteFileId::new("f");
    RemoteFile {
        id,
        name: "n".into(),
        size: Some(ByteCount(u64::MAX)),
        mark: None,
        created_at: None,
        etag: None,
        version: None,
        maker: None,
    }
}

fn shown(directory: &tempfile::TempDir) -> Vec<(i64, &'static str, Option<String>)> {
    let status = Snapshot::open(directory.path()).expect("opens").status(true, AT).expect("read");
    let shown = status.uploads.into_iter();
    shown.map(|upload| (upload.admission.id.0, upload.word(), upload.park_detail)).collect()
}

#[test]
fn a_value_that_no_row_can_hold_parks_its_upload_and_stops_no_other() {
    let directory = directory();
    let (mut writer, _) = open(&directory);
    let admit = |id| Record::Admit(Box::new(admission(id, b"a", None)));
    let upload = |id, fact| Record::Upload(UploadId(id), fact);
    let intended = || Fact::BeginIntended { part_size: None, at: AT };
    assert!(writer.apply(&[vec![admit(1), admit(2)]]).expect("written").is_whole());
    let absurd = Fact::FoundPresent { file: absurd_file(), at: AT };
    let batches = [
        vec![admit(3), upload(1, absurd), upload(2, intended())],
        vec![
            upload(1, Fact::Verified { mark: None, there: None, etag: None, at: AT }),
            upload(3, intended()),
        ],
    ];
    let Applied { illegal, refused } = writer.apply(&batches).expect("written");
    assert_eq!(illegal, []);
    let [first, follows] = &*refused else { panic!("two of them: {refused:?}") };
    let Instead::Parked(row) = &first.instead else { panic!("it is parked: {first:?}") };
    assert_eq!((first.batch, first.upload), (0, Some(UploadId(1))));
    assert_eq!((row.admission.id, &row.state.stage), (UploadId(1), &crate::model::Stage::Queued));
    assert_eq!((follows.batch, &follows.instead), (1, &Instead::LeftOut));
    let rows = shown(&directory);
    let detail = rows[0].2.clone().expect("it says why");
    assert!(
        detail.contains("found-present") && detail.contains("18446744073709551615"),
        "{detail}"
    );
    assert_eq!(rows.iter().map(|row| row.1).collect::<Vec<_>>(), ["parked", "sending", "sending"]);

    // Memory reloads it from its row and says so; from then on its facts are written again.
    let reason = ParkReason::CannotBeStored;
    let parked = Fact::Parked { reason, detail: "why".into(), at: AT };
    let retried = vec![upload(1, parked), upload(1, Fact::Released), upload(1, intended())];
    assert!(writer.apply(&[retried]).expect("written").is_whole());
    assert_eq!(shown(&directory)[0].1, "sending");
}

#[test]
fn an_admission_that_no_row_can_hold_has_a_row_or_is_ignored() {
    let directory = directory();
    let (mut writer, _) = open(&directory);
    let mut absurd = admission(1, b"huge", None);
    absurd.file.fingerprint.size = ByteCount(u64::MAX);
    let good = |id, path: &[u8]| Record::Admit(Box::new(admission(id, path, None)));
    let batch = vec![Record::Admit(Box::new(absurd)), good(2, b"a"), good(2, b"twice")];
    let Applied { refused, .. } = writer.apply(&[batch]).expect("written");
    let instead: Vec<_> = refused.iter().map(|Refused { instead, .. }| instead).collect();
    assert!(matches!(*instead, [Instead::Parked(_), Instead::Nothing]), "{instead:?}");
    let words: Vec<_> = shown(&directory).into_iter().map(|row| (row.0, row.1)).collect();
    assert_eq!(words, [(1, "parked"), (2, "queued")]);
    let status = Snapshot::open(directory.path()).expect("opens").status(true, AT).expect("read");
    let ignored: Vec<_> =
        status.counts.ignored.listed.iter().map(|row| (row.path.to_string(), row.reason)).collect();
    assert_eq!(ignored, [("twice".to_owned(), IgnoreReason::CannotBeStored)]);
    drop(writer);
    let (_, loaded) = open(&directory);
    assert_eq!(loaded.state.uploads.len(), 1, "what is parked is loaded");
}

#[test]
fn a_record_of_no_upload_that_is_refused_stops_nothing() {
    let directory = directory();
    let (mut writer, _) = open(&directory);
    let moved = Record::Moved {
        drop: DirectoryName::new("drop"),
        path: SourcePath::from_bytes(b"a"),
        fingerprint: admission(1, b"a", None).file.fingerprint,
        // There is no such upload.
        upload: UploadId(77),
        at: AT,
    };
    let admit = Record::Admit(Box::new(admission(1, b"a", None)));
    let Applied { refused, .. } = writer.apply(&[vec![moved, admit]]).expect("written");
    assert_eq!(refused.len(), 1);
    assert_eq!((refused[0].upload, &refused[0].instead), (None, &Instead::Nothing));
    assert_eq!(shown(&directory).len(), 1);
}

#[test]
fn sums_of_files_of_any_length_stay_numbers() {
    let directory = directory();
    let (mut writer, _) = open(&directory);
    let admit = |id: i64| {
        let mut admission = admission(id, &id.to_le_bytes(), Some(ParkReason::TooLarge));
        admission.file.fingerprint.size = ByteCount(i64::MAX.unsigned_abs());
        Record::Admit(Box::new(admission))
    };
    let small = Record::Admit(Box::new(admission(5, b"a", None)));
    let batch = (1..=4).map(admit).chain([small]).collect();
    assert!(writer.apply(&[batch]).expect("written").is_whole());
    let ended = |id| Record::Upload(UploadId(id), Fact::Abandoned { at: AT });
    assert!(writer.apply(&[(1..=4).map(ended).collect()]).expect("written").is_whole());
    let status = Snapshot::open(directory.path()).expect("opens").status(true, AT).expect("read");
    let size =
        |word| status.counts.tallies.iter().find(|t| t.state == word).expect("there").size_bytes;
    assert_eq!((size("queued"), size("parked")), (10, 0), "what ended counts no more");
    drop(writer);
    open(&directory);
}
