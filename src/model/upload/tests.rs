//! The law as a table, and properties that hold for every sequence of facts.

use proptest::prelude::*;

use super::*;
use crate::model::{
    ByteCount, ContentMark, ETag, ExportId, ExportPlace, Failure, FailureKind, Md5, NameDecision,
    PartNumber, PartSize, RemoteFileId, RemoteUploadId, TargetId,
};

const AT: WallTime = WallTime(7);
const PART_COUNT: u32 = 3;

fn remote() -> RemoteUpload {
    let part_size = PartSize::new(4).expect("not zero");
    RemoteUpload {
        id: RemoteUploadId::new("u"),
        part_size,
        part_count: PART_COUNT,
        sequential: false,
    }
}

fn file() -> RemoteFile {
    let id = RemoteFileId::new("f");
    RemoteFile {
        id,
        name: "n".into(),
        size: Some(ByteCount(10)),
        mark: None,
        created_at: None,
        etag: None,
        version: None,
        maker: None,
    }
}

fn place() -> ExportPlace {
    ExportPlace { volume: "v".into(), location: "l".into() }
}

fn stages() -> Vec<Stage> {
    let (remote, file) = (remote(), file());
    vec![
        Stage::Queued,
        Stage::Beginning { since: AT },
        Stage::Sending { remote: remote.clone() },
        Stage::Completing { remote: remote.clone(), since: AT },
        Stage::Completed { file: file.clone(), remote: Some(remote.clone()) },
        Stage::Verified { file: file.clone(), remote: Some(remote) },
        Stage::Receipted { file },
        Stage::Ended(EndReason::SourceChanged),
        Stage::Ended(EndReason::Abandoned),
    ]
}

fn part(number: u32) -> PartNumber {
    PartNumber::new(number).expect("from 1")
}

fn accepted(number: u32) -> Fact {
    let (md5, etag) = (Md5([1; 16]), ETag::from_header("e"));
    Fact::PartAccepted { part: part(number), md5, etag, note: None, sent: ByteCount(4), at: AT }
}

fn failed(retry_at: Option<WallTime>) -> Fact {
    Fact::AttemptFailed {
        act: "put part",
        part: None,
        failure: Failure::new(FailureKind::ServerFault, "no"),
        sent: ByteCount(1),
        retry_at,
        at: AT,
    }
}

fn parked() -> Fact {
    Fact::Parked { reason: ParkReason::Quota, detail: "full".into(), at: AT }
}

fn facts() -> Vec<Fact> {
    vec![
        Fact::BeginIntended { part_size: None, at: AT },
        Fact::Begun { remote: remote(), at: AT },
        accepted(1),
        Fact::PartsReported { parts: vec![part(1)] },
        Fact::PartReopened { part: part(1), was_reported: false },
        Fact::ETagModeLearned { mode: ETagMode::Md5 },
        Fact::CompleteIntended { at: AT },
        Fact::CompleteWithdrawn,
        Fact::Completed { file: file(), at: AT },
        Fact::FoundPresent { file: file(), at: AT },
        Fact::Renamed { name: "m".into() },
        Fact::NameDecided { decision: NameDecision::Overwrite },
        Fact::Described,
        Fact::Verified { mark: None::<ContentMark>, there: None, etag: None, at: AT },
        Fact::ReceiptWritten { written: written(), at: AT },
        Fact::ExportIntended { place: place(), at: AT },
        Fact::ExportStarted { job: ExportId::new("j"), at: AT },
        Fact::ExportFailed { message: "no".into() },
        Fact::Exported { job: ExportId::new("j"), at: AT },
        failed(None),
        parked(),
        Fact::Released,
        Fact::RemoteGone,
        Fact::Retargeted { target: TargetId(2), part_size: PartSize::new(4).expect("not zero") },
        Fact::SourceChanged { at: AT },
        Fact::Abandoned { at: AT },
        Fact::PartSizeChanged { part_size: PartSize::new(8).expect("not zero") },
        Fact::InFlight { bytes: ByteCount(3) },
        Fact::SentInVain { bytes: ByteCount(3) },
    ]
}

/// A state in a stage, with every part accepted so that completing is possible.
fn in_stage(stage: Stage) -> UploadState {
    let accepted_count = if stage.remote().is_some() { PART_COUNT } else { 0 };
    UploadState { stage, accepted_count, reported_count: 1, ..UploadState::admitted(None) }
}

#[test]
fn begins_that_fail_are_counted_until_one_succeeds() {
    let mut state = UploadState::admitted(None);
    let begin = Fact::BeginIntended { part_size: None, at: AT };
    for count in 1..=3 {
        for fact in [begin.clone(), failed(Some(AT)), Fact::Released, Fact::RemoteGone] {
            state = transition(&state, &fact).expect("lawful");
        }
        assert_eq!((state.failed.count, &state.stage), (count, &Stage::Queued));
    }
    for fact in [begin, Fact::Begun { remote: remote(), at: AT }] {
        state = transition(&state, &fact).expect("lawful");
    }
    assert_eq!(state.failed.count, 0);
}

/// For each stage, in the order of [`facts`]: `.` keeps the stage, `-` is forbidden, a letter is
/// where it leads.
const LAW: [(&str, &str); 9] = [
    ("queued", "b--------c..-------...-.xa..."),
    ("beginning", "bs--------..-------...qqxa-.."),
    ("sending", "--...._---..-------...qqxa-.."),
    ("completing", "-------sc-..-------...qqxa-.."),
    ("completed", "------------.v-----...qq-a-.."),
    ("verified", "--------------r.---...-q-a-.."),
    ("receipted", "-----------------------------"),
    ("source-changed", "-----------------------------"),
    ("abandoned", "-----------------------------"),
];

fn letter(stage: &Stage) -> char {
    match stage {
        Stage::Queued => 'q',
        Stage::Beginning { .. } => 'b',
        Stage::Sending { .. } => 's',
        Stage::Completing { .. } => '_',
        Stage::Completed { .. } => 'c',
        Stage::Verified { .. } => 'v',
        Stage::Receipted { .. } => 'r',
        Stage::Ended(EndReason::SourceChanged) => 'x',
        Stage::Ended(EndReason::Abandoned) => 'a',
    }
}

#[test]
fn the_law_is_this_table() {
    for (stage, (name, row)) in stages().into_iter().zip(LAW) {
        assert_eq!(stage.as_str(), name);
        // One part is not accepted yet, so that another may be.
        let mut found = String::new();
        for fact in facts() {
            let mut state = in_stage(stage.clone());
            if matches!(fact, Fact::PartAccepted { .. }) && state.accepted_count > 0 {
                state.accepted_count -= 1;
            }
            found.push(match transition(&state, &fact) {
                Err(_) => '-',
                Ok(next)
                    if next.stage == state.stage && !matches!(fact, Fact::BeginIntended { .. }) =>
                {
                    '.'
                }
                Ok(next) => letter(&next.stage),
            });
        }
        assert_eq!(found, row, "{name}");
    }
}

#[test]
fn an_export_is_intended_started_and_ends_and_the_receipt_waits_for_it() {
    let file = file();
    let mut state = in_stage(Stage::Verified { file, remote: Some(remote()) });
    let intended = Fact::ExportIntended { place: place(), at: AT };
    let started = Fact::ExportStarted { job: ExportId::new("j"), at: AT };
    let failed = Fact::ExportFailed { message: "no".into() };
    let exported = Fact::Exported { job: ExportId::new("j"), at: AT };
    let receipt = Fact::ReceiptWritten { written: written(), at: AT };
    for (fact, forbidden) in [
        (&intended, vec![&intended, &receipt]),
        (&started, vec![&started, &intended, &receipt]),
        (&failed, vec![&failed, &started, &exported, &receipt]),
        (&intended, vec![&intended, &receipt]),
        (&exported, vec![&exported, &failed, &started, &intended]),
    ] {
        state = transition(&state, fact).expect("legal");
        assert_eq!(state.export.as_ref().map(|export| &export.place), Some(&place()));
        for other in forbidden {
            assert!(transition(&state, other).is_err(), "{} after {}", other.name(), fact.name());
        }
    }
    assert!(transition(&state, &receipt).is_ok());
}

#[test]
fn completing_needs_every_part() {
    let mut state = in_stage(Stage::Sending { remote: remote() });
    state.accepted_count -= 1;
    assert!(transition(&state, &Fact::CompleteIntended { at: AT }).is_err());
}

#[test]
fn holds_keep_the_stage_and_parking_outlasts_waiting() {
    let state = in_stage(Stage::Sending { remote: remote() });
    let waiting = transition(&state, &failed(Some(AT))).expect("legal");
    assert_eq!((waiting.hold, waiting.failed.count), (Hold::Waiting { until: AT }, 1));
    let stopped = transition(&waiting, &parked()).expect("legal");
    assert_eq!(stopped.hold, Hold::Parked { reason: ParkReason::Quota });
    let failed_again = transition(&stopped, &failed(Some(AT))).expect("legal");
    assert_eq!(failed_again.hold, stopped.hold, "a late failure does not unpark");
    let released = transition(&failed_again, &Fact::Released).expect("legal");
    assert_eq!((released.hold, released.failed.count), (Hold::None, 0));
    assert_eq!(released.stage, state.stage);
}

#[test]
fn losing_the_remote_upload_forgets_every_part() {
    let state = in_stage(Stage::Completing { remote: remote(), since: AT });
    let next = transition(&state, &Fact::RemoteGone).expect("legal");
    assert_eq!((next.accepted_count, next.reported_count, next.restart_count), (0, 0, 1));
    assert_eq!((next.stage, next.etag_mode), (Stage::Queued, ETagMode::Unknown));
}

#[test]
fn a_part_moves_from_open_to_accepted_to_reported_and_back() {
    let open = PartState::Open;
    let held = part_transition(&open, &accepted(1)).expect("legal");
    let told =
        part_transition(&held, &Fact::PartsReported { parts: vec![part(1)] }).expect("legal");
    assert!(matches!(told, PartState::Reported { .. }));
    let reopen = |was_reported| Fact::PartReopened { part: part(1), was_reported };
    assert_eq!(part_transition(&held, &reopen(false)), Ok(PartState::Open));
    assert_eq!(part_transition(&told, &reopen(true)), Ok(PartState::Open));
    for (state, fact) in [
        (&held, accepted(1)),
        (&told, accepted(1)),
        (&open, Fact::PartsReported { parts: vec![part(1)] }),
        (&told, Fact::PartsReported { parts: vec![part(1)] }),
        (&held, reopen(true)),
        (&told, reopen(false)),
        (&open, reopen(false)),
    ] {
        assert!(part_transition(state, &fact).is_err(), "{state:?} {}", fact.name());
    }
}

proptest! {
    #[test]
    fn no_sequence_of_facts_breaks_the_books(order in prop::collection::vec(0_usize..24, 0..200)) {
        let facts = facts();
        let mut state = UploadState::admitted(None);
        for index in order {
            let Ok(next) = transition(&state, &facts[index]) else { continue };
            prop_assert!(!state.stage.is_end() || next.stage == state.stage, "an end is an end");
            prop_assert!(next.reported_count <= next.accepted_count);
            if let Some(remote) = next.stage.remote() {
                prop_assert!(next.accepted_count <= remote.part_count);
            }
            prop_assert!(!next.stage.is_end() || next.hold == Hold::None);
            prop_assert!(next.wire.sent >= state.wire.sent);
            prop_assert!(next.restart_count >= state.restart_count);
            state = next;
        }
    }
}

#[test]
fn what_is_in_flight_is_counted_once_however_it_ends() {
    let move_by = |state: &UploadState, fact: &Fact| transition(state, fact).expect("legal");
    let sending =
        UploadState { accepted_count: 0, ..in_stage(Stage::Sending { remote: remote() }) };
    let sending = UploadState { reported_count: 0, ..sending };
    let counts = |state: &UploadState| (state.wire.sent.0, state.wire.in_flight.0);
    let flying = move_by(&sending, &Fact::InFlight { bytes: ByteCount(70) });
    assert_eq!(counts(&flying), (0, 70));
    let sent = |sent| {
        let Fact::PartAccepted { part, md5, etag, at, .. } = accepted(1) else { panic!("a part") };
        Fact::PartAccepted { part, md5, etag, note: None, sent: ByteCount(sent), at }
    };
    assert_eq!(counts(&move_by(&flying, &sent(50))), (50, 20));
    assert_eq!(counts(&move_by(&flying, &sent(90))), (90, 0));
    assert_eq!(counts(&move_by(&flying, &sent(0))), (0, 70), "it was found there");
    assert_eq!(counts(&move_by(&flying, &failed(None))), (1, 69));
    assert_eq!(counts(&move_by(&flying, &Fact::SentInVain { bytes: ByteCount(70) })), (70, 0));
    let again = UploadState { wire: WireBytes { sent: ByteCount(90), ..sending.wire }, ..sending };
    assert_eq!(again.bytes_sent_again(ByteCount(50)), ByteCount(40));
    assert_eq!(again.bytes_sent_again(ByteCount(100)), ByteCount(0));
}

fn written() -> Box<crate::model::WrittenLine> {
    let line = crate::model::LineRef {
        ledger: String::from("d/r.jsonl").into(),
        seq: 1,
        offset: 0,
        sha256: [0; 32],
    };
    Box::new(crate::model::WrittenLine { line, head: Default::default(), damaged: None })
}
