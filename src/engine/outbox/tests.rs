//! Grouping, order and loading, in virtual time.

use serde_json::Value;

use super::*;
use crate::model::{
    ByteCount, DestinationName, DropName, ParkReason, SourcePath, UnsentNotice, UploadId, WallTime,
};

fn at(seconds: u64) -> Now {
    let since = Duration::from_secs(seconds);
    Now { monotonic: Monotonic(since), wall: WallTime(1_800_000_000_000_000_000).after(since) }
}

fn channels() -> [ChannelSettings; 1] {
    [ChannelSettings { channel: Channel::Command, on: NoticeKind::ALL.into() }]
}

fn outbox(stored: StoredOutbox) -> Outbox {
    Outbox::load(&channels(), stored, at(0))
}

fn park(outbox: &mut Outbox, number: i64, reason: ParkReason, seconds: u64) -> Vec<Record> {
    let mut turn = Turn::new(at(seconds));
    let to = (&DropName::new("lab"), &DestinationName::new("far"));
    let path = SourcePath::from_bytes(format!("run/{number}").as_bytes());
    let what = (UploadId(number), reason);
    outbox.groups.retain(|_, group| group.until > turn.now.monotonic);
    let (key, file) = words::parked(what, to, (&path, ByteCount(2)), reason.sentence());
    outbox.park(key, file, &mut turn);
    turn.records().to_vec()
}

fn next(outbox: &mut Outbox, seconds: u64) -> Option<Value> {
    let notice = outbox.next(Channel::Command, at(seconds).monotonic)?;
    serde_json::from_str(&notice.body).ok()
}

#[test]
fn forty_files_that_park_within_a_window_are_one_notice() {
    let mut outbox = outbox(StoredOutbox::default());
    let mut ids = BTreeSet::new();
    for number in 1..=40 {
        let seconds = u64::from(number > 1) * 29;
        for record in park(&mut outbox, number, ParkReason::NameTaken, seconds) {
            let Record::Notice(notice) = record else { panic!("not a notice: {record:?}") };
            ids.insert(notice.id);
        }
    }
    assert_eq!(ids.len(), 1, "every file is written into the same row");
    assert_eq!(next(&mut outbox, 29), None, "the window is open");
    assert_eq!(outbox.next_deadline(), Some(at(30).monotonic));
    let told = next(&mut outbox, 30).expect("the window is over");
    assert_eq!((&told["count"], &told["size_bytes"]), (&40.into(), &80.into()));
    assert_eq!(told["paths"].as_array().map(Vec::len), Some(5));
    let text = told["text"].as_str().expect("a text");
    assert!(text.starts_with("40 files of lab are parked on the way to far, because "), "{text}");
    assert!(text.ends_with(": run/1, run/2, run/3, run/4, run/5 and 35 more"), "{text}");
}

#[test]
fn another_reason_or_another_window_is_another_notice() {
    let mut outbox = outbox(StoredOutbox::default());
    park(&mut outbox, 1, ParkReason::NameTaken, 0);
    park(&mut outbox, 2, ParkReason::Forbidden, 10);
    park(&mut outbox, 3, ParkReason::NameTaken, 30);
    let waiting: Vec<_> = outbox.posts[&Channel::Command].waiting.keys().map(|key| key.0).collect();
    assert_eq!(waiting, [30, 40, 60].map(|seconds| at(seconds).monotonic));
    assert_eq!(next(&mut outbox, 100).expect("due")["name"], "run/1");
    assert_eq!(next(&mut outbox, 100), None, "one at a time");
}

#[test]
fn a_stored_window_goes_as_it_stands_and_a_stored_delay_is_kept_within_bounds() {
    let mut before = outbox(StoredOutbox::default());
    let records = park(&mut before, 1, ParkReason::NameTaken, 0);
    let [Record::Notice(notice)] = &records[..] else { panic!("one notice: {records:?}") };
    let stored = |notice: &Notice, attempt_count| StoredOutbox {
        unsent: vec![UnsentNotice { notice: notice.clone(), attempt_count }],
        troubles: vec![(NoticeKind::Deaf, "lab".into())],
        next: Some(NoticeId(2)),
    };
    let mut again = outbox(stored(notice, 0));
    assert!(again.is_troubled(NoticeKind::Deaf, "lab"));
    park(&mut again, 2, ParkReason::NameTaken, 1);
    let told = again.next(Channel::Command, at(30).monotonic).expect("due");
    assert_eq!(&told, &**notice, "it is what it was");
    assert_eq!(again.posts[&Channel::Command].waiting.len(), 2, "nothing joined it");

    let far = Notice { due: at(1_000_000).wall, ..Notice::clone(notice) };
    assert_eq!(outbox(stored(&far, 0)).next_deadline(), Some(at(30).monotonic));
    assert_eq!(outbox(stored(&far, 3)).next_deadline(), Some(at(300).monotonic));
}

#[test]
fn what_no_channel_wants_is_no_row_and_troubles_are_told_once() {
    let mut turn = Turn::new(at(0));
    let (key, file) = words::parked(
        (UploadId(1), ParkReason::Quota),
        (&DropName::new("lab"), &DestinationName::new("far")),
        (&SourcePath::from_bytes(b"a"), ByteCount(1)),
        "full",
    );
    let message = Message::parked(&key, &file);
    let mut silent = Outbox::load(&[], StoredOutbox::default(), at(0));
    silent.trouble(&message, &mut turn);
    assert!(turn.records().is_empty() && silent.is_empty());
    let mut outbox = outbox(StoredOutbox::default());
    outbox.trouble(&message, &mut turn);
    outbox.trouble(&message, &mut turn);
    assert_eq!(turn.records().len(), 1);
    let mut over = message;
    over.is_over = true;
    outbox.trouble(&over, &mut turn);
    outbox.trouble(&over, &mut turn);
    assert_eq!(turn.records().len(), 2);
}
