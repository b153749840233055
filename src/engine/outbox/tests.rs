//! Grouping, order and loading, in virtual time.

use serde_json::Value;

use super::*;
use crate::engine::settings::DigestSettings;
use crate::model::{
    ByteCount, DestinationName, DirectoryName, Failure, FailureKind, ParkReason, SourcePath,
    UnsentNotice, UploadId, WallTime,
};

fn at(seconds: u64) -> Now {
    let since = Duration::from_secs(seconds);
    Now { monotonic: Monotonic(since), wall: WallTime(1_800_000_000_000_000_000).after(since) }
}

fn mail() -> Channel {
    Channel::new("mail")
}

fn channels() -> [ChannelSettings; 1] {
    [ChannelSettings::plain(mail())]
}

fn outbox(stored: StoredOutbox) -> Outbox {
    Outbox::load(&channels(), stored, at(0))
}

fn park(outbox: &mut Outbox, number: i64, reason: ParkReason, seconds: u64) -> Vec<Record> {
    let mut turn = Turn::new(at(seconds));
    let to = (&DirectoryName::new("lab"), &DestinationName::new("far"));
    let path = SourcePath::from_bytes(format!("run/{number}").as_bytes());
    let what = (UploadId(number), reason);
    outbox.end_windows(turn.now.monotonic);
    let (key, file) = facts::parked(what, to, (&path, ByteCount(2)), reason.sentence());
    outbox.gather(key, file, &mut turn);
    turn.records().to_vec()
}

/// When the channel is to be asked, or its day is over.
fn deadline(outbox: &Outbox) -> Option<Monotonic> {
    outbox.posts.values().filter_map(Post::next_deadline).min()
}

fn answer(outbox: &mut Outbox, failure: Option<FailureKind>, seconds: u64) -> Option<Record> {
    let setback = |kind| Setback { failure: Failure::new(kind, "no"), sent: ByteCount(0) };
    outbox.posts.get_mut(&mail())?.on_answer(failure.map(setback), at(seconds))
}

fn next(outbox: &mut Outbox, seconds: u64) -> Option<Value> {
    let mut turn = Turn::new(at(seconds));
    outbox.fold(&mail(), &mut turn);
    let notice = outbox.next(&mail(), turn.now.monotonic)?;
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
    assert_eq!(deadline(&outbox), Some(at(30).monotonic));
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
    assert_eq!(next(&mut outbox, 100).expect("due")["name"], "run/1");
    assert_eq!(next(&mut outbox, 100), None, "one at a time");
    answer(&mut outbox, None, 100);
    assert_eq!(next(&mut outbox, 100).expect("due")["name"], "run/2");
    answer(&mut outbox, None, 100);
    assert_eq!(next(&mut outbox, 3629), None, "the same group was told of within the hour");
    assert_eq!(next(&mut outbox, 3630).expect("due")["name"], "run/3");
}

#[test]
fn a_stored_window_goes_as_it_stands_and_a_stored_delay_is_kept_within_bounds() {
    let mut before = outbox(StoredOutbox::default());
    let records = park(&mut before, 1, ParkReason::NameTaken, 0);
    let [Record::Notice(notice)] = &records[..] else { panic!("one notice: {records:?}") };
    let stored = |notice: &Notice, attempt_count| StoredOutbox {
        unsent: vec![UnsentNotice { notice: notice.clone(), attempt_count, refused_since: None }],
        troubles: vec![(NoticeKind::Deaf, "lab".into())],
        next: Some(NoticeId(2)),
        ..StoredOutbox::default()
    };
    let mut again = outbox(stored(notice, 0));
    assert!(again.is_troubled(NoticeKind::Deaf, "lab"));
    park(&mut again, 2, ParkReason::NameTaken, 1);
    let told = again.next(&mail(), at(30).monotonic).expect("due");
    assert_eq!(&told, &**notice, "it is what it was");
    answer(&mut again, None, 30);
    assert_eq!(next(&mut again, 31).expect("the second")["name"], "run/2", "nothing joined it");

    let far = Notice { due: at(1_000_000).wall, ..Notice::clone(notice) };
    assert_eq!(deadline(&outbox(stored(&far, 0))), Some(at(30).monotonic));
    assert_eq!(deadline(&outbox(stored(&far, 3))), Some(at(300).monotonic));
}

#[test]
fn what_no_channel_wants_is_no_row_and_troubles_are_told_once() {
    let mut turn = Turn::new(at(0));
    let (key, file) = facts::parked(
        (UploadId(1), ParkReason::Quota),
        (&DirectoryName::new("lab"), &DestinationName::new("far")),
        (&SourcePath::from_bytes(b"a"), ByteCount(1)),
        "full",
    );
    let message = Message::gathered(&key, &file);
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

fn item(name: &str) -> Item {
    let name = Some(name.to_owned());
    Item { drop: "lab".into(), name, file_count: 2, size_bytes: 10 }
}

fn complete(outbox: &mut Outbox, number: i64, seconds: u64) -> Vec<Record> {
    let mut turn = Turn::new(at(seconds));
    let name = format!("run{number}");
    let far = DestinationName::new(&*name);
    let mut message = Message::reach(&far, Some("a message of any kind"));
    message.kind = NoticeKind::RunCompleted;
    outbox.complete(&message, &item(&name), &mut turn);
    turn.records().to_vec()
}

#[test]
fn what_is_more_than_an_hour_allows_is_told_by_one_that_names_all() {
    let limited = ChannelSettings { per_hour: Some(2), ..ChannelSettings::plain(mail()) };
    let mut outbox = Outbox::load(&[limited], StoredOutbox::default(), at(0));
    for number in 1..=5 {
        complete(&mut outbox, number, 10);
    }
    for (name, seconds) in [("run1", 10), ("run2", 20)] {
        assert_eq!(next(&mut outbox, seconds).expect("within the limit")["name"], name);
        answer(&mut outbox, None, seconds);
    }
    assert_eq!(next(&mut outbox, 3609), None, "the hour is full");
    assert_eq!(deadline(&outbox), Some(at(3610).monotonic));
    let mut turn = Turn::new(at(3610));
    outbox.fold(&mail(), &mut turn);
    let folded = turn.records().iter().filter_map(|record| {
        if let Record::NoticeFolded { id, into } = record { Some((id.0, into.0)) } else { None }
    });
    assert_eq!(folded.collect::<Vec<_>>(), [(3, 6), (4, 6), (5, 6)]);
    let told = next(&mut outbox, 3610).expect("the first left the hour");
    assert_eq!((&told["kind"], &told["count"]), (&"summary".into(), &3.into()));
    assert_eq!(told["notices"].as_array().map(Vec::len), Some(3));
    answer(&mut outbox, None, 3610);
    assert!(outbox.is_empty());
    complete(&mut outbox, 6, 9000);
    complete(&mut outbox, 7, 9000);
    assert_eq!(next(&mut outbox, 9000).expect("not held")["name"], "run6", "none was held back");
}

#[test]
fn a_limit_counts_what_was_sent_before_a_start() {
    let sent_at = Some(at(0).wall);
    let recent =
        |body: &str| RecentNotice { channel: mail(), sent_at, due: at(0).wall, body: body.into() };
    let parked =
        "{\"kind\":\"parked\",\"drop\":\"lab\",\"destination\":\"far\",\"reason\":\"quota\"}";
    let stored = StoredOutbox { recent: vec![recent("{}"), recent(parked)], ..Default::default() };
    let limited = ChannelSettings { per_hour: Some(2), ..ChannelSettings::plain(mail()) };
    let mut outbox = Outbox::load(&[limited], stored, at(60));
    complete(&mut outbox, 1, 60);
    assert_eq!(deadline(&outbox), Some(at(3600).monotonic), "two were sent a minute ago");
    park(&mut outbox, 2, ParkReason::Quota, 61);
    assert_eq!(next(&mut outbox, 3600).expect("room")["name"], "run1", "the group has its pause");
}

#[test]
fn what_is_refused_steps_aside_and_is_given_up_after_a_day_of_tries() {
    let mut outbox = outbox(StoredOutbox::default());
    complete(&mut outbox, 1, 0);
    complete(&mut outbox, 2, 0);
    assert_eq!(next(&mut outbox, 0).expect("due")["name"], "run1");
    let delayed = answer(&mut outbox, Some(FailureKind::BadRequest), 0);
    let since = Some(at(0).wall);
    assert!(
        matches!(delayed, Some(Record::NoticeDelayed { refused_since, .. }) if refused_since == since)
    );
    assert_eq!(next(&mut outbox, 0).expect("it stepped aside")["name"], "run2");
    answer(&mut outbox, None, 0);
    let mut tries = 1;
    let (last, seconds) = loop {
        let seconds = deadline(&outbox).expect("it waits").0.as_secs() + 1;
        next(&mut outbox, seconds).expect("due");
        tries += 1;
        match answer(&mut outbox, Some(FailureKind::BadRequest), seconds) {
            Some(Record::NoticeDelayed { .. }) => {}
            other => break (other, seconds),
        }
    };
    assert!(matches!(last, Some(Record::NoticeGivenUp { .. })), "{last:?}");
    assert!(seconds >= 86_400 && tries >= 20, "after {tries} tries and {seconds} s");
    assert!(outbox.is_empty());
}

#[test]
fn an_outage_of_the_way_gives_nothing_up_and_keeps_the_order() {
    let mut outbox = outbox(StoredOutbox::default());
    complete(&mut outbox, 1, 0);
    complete(&mut outbox, 2, 0);
    let mut seconds = 0;
    while seconds < 300_000 {
        seconds = deadline(&outbox).expect("it waits").0.as_secs() + 1;
        assert_eq!(next(&mut outbox, seconds).expect("due")["name"], "run1");
        let record = answer(&mut outbox, Some(FailureKind::Unreachable), seconds);
        assert!(matches!(record, Some(Record::NoticeDelayed { refused_since: None, .. })));
    }
}

fn daily() -> ChannelSettings {
    let digest = DigestSettings { hour: 9, zone: jiff::tz::TimeZone::UTC };
    ChannelSettings { digest: Some(digest), ..ChannelSettings::plain(mail()) }
}

/// 2027-01-15T08:00:00Z is the beginning: the day ends in an hour.
const DAY_END: u64 = 3600;

#[test]
fn a_day_is_one_notice_also_when_a_start_falls_into_it() {
    let mut first = Outbox::load(&[daily()], StoredOutbox::default(), at(0));
    let mut rows = Vec::new();
    for (number, seconds) in [(1, 10), (2, 20), (2, 30)] {
        rows.extend(complete(&mut first, number, seconds));
    }
    assert_eq!(deadline(&first), Some(at(DAY_END).monotonic));
    let Some(Record::Notice(row)) = rows.pop() else { panic!("a row") };
    assert_eq!(row.subject, "2027-01-15");
    let unsent = UnsentNotice { notice: *row, attempt_count: 0, refused_since: None };
    let stored = StoredOutbox {
        digests: vec![(mail(), "2027-01-15".into())],
        next: Some(NoticeId(unsent.notice.id.0 + 1)),
        unsent: vec![unsent],
        ..StoredOutbox::default()
    };
    let mut second = Outbox::load(&[daily()], stored, at(100));
    complete(&mut second, 3, 100);
    assert_eq!(next(&mut second, 3599), None);
    let mut turn = Turn::new(at(DAY_END));
    second.end_days((4, ByteCount(7)), &mut turn);
    let told = next(&mut second, DAY_END).expect("the day is over");
    assert_eq!(told["id"].as_str().map(|id| id.ends_with("-1")), Some(true), "{told}");
    assert_eq!((&told["completed_count"], &told["size_bytes"]), (&3.into(), &30.into()));
    assert_eq!((&told["parked_count"], &told["parked_size_bytes"]), (&4.into(), &7.into()));
    answer(&mut second, None, DAY_END);
    complete(&mut second, 4, DAY_END);
    assert_eq!(deadline(&second), Some(at(DAY_END + 86_400).monotonic), "the next day");
}

#[test]
fn a_day_without_anything_to_tell_has_no_notice_and_one_that_was_told_is_not_told_again() {
    let mut outbox = Outbox::load(&[daily()], StoredOutbox::default(), at(0));
    let mut turn = Turn::new(at(DAY_END));
    outbox.end_days((0, ByteCount(0)), &mut turn);
    assert!(turn.records().is_empty() && outbox.is_empty());
    let mut turn = Turn::new(at(DAY_END + 86_400));
    outbox.end_days((1, ByteCount(5)), &mut turn);
    assert_eq!(turn.records().len(), 1, "something is parked");
    let digests = vec![(mail(), "2027-01-15".into())];
    let stored = StoredOutbox { digests, ..StoredOutbox::default() };
    let mut again = Outbox::load(&[daily()], stored, at(0));
    complete(&mut again, 1, 0);
    assert_eq!(deadline(&again), Some(at(DAY_END + 86_400).monotonic));
}
