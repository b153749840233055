//! Groups, pauses, order and loading, in virtual time.

use super::*;
use crate::engine::event::Survey;
use crate::engine::settings::{PartsInFlight, RetrySettings};
use crate::model::notice::ITEMS_MAX;
use crate::model::{
    ByteCount, DirectoryHealth, Fact, FailedAttempts, Failure, FailureKind, Notice, NoticeFacts,
    ParkReason, ReportPeriod, SourcePath, UnsentNotice, WatchState,
};

fn at(seconds: u64) -> Now {
    let since = Duration::from_secs(seconds);
    Now { monotonic: Monotonic(since), wall: WallTime(1_800_000_000_000_000_000).after(since) }
}

fn mail() -> Channel {
    Channel::new("mail")
}

fn settings(channels: &[ChannelSettings]) -> Settings {
    let retry = RetrySettings { delay_min: Duration::ZERO, delay_max: Duration::ZERO };
    Settings {
        drops: Vec::new(),
        destinations: Vec::new(),
        parts_in_flight: PartsInFlight::Auto,
        memory: ByteCount(0),
        memory_per_part: ByteCount(0),
        retry,
        channels: channels.to_vec(),
        notices: NoticeSettings { report: Some(ReportPeriod::Week), ..Default::default() },
    }
}

fn notices(stored: StoredNotices) -> Notices {
    Notices::load(&settings(&[ChannelSettings::plain(mail())]), stored, at(0))
}

/// One turn with these messages and records; returns the resulting records.
fn turn(
    notices: &mut Notices,
    seconds: u64,
    decide: impl FnOnce(&mut Notices, &mut Turn),
) -> Vec<Record> {
    let mut turn = Turn::new(at(seconds));
    decide(notices, &mut turn);
    let decided = turn.records().len();
    let failing = |id: UploadId| {
        Some(FailingUpload {
            drop: DirectoryName::new("lab"),
            destination: DestinationName::new("far"),
            path: SourcePath::from_bytes(format!("run/{}", id.0).as_bytes()),
            size: ByteCount(2),
            failed: FailedAttempts { count: 9, since: Some(at(0).wall) },
            replaces_earlier: false,
            is_beside_earlier: false,
        })
    };
    notices.end_turn(&mut turn, failing);
    turn.records()[decided..].to_vec()
}

fn park(
    notices: &mut Notices,
    numbers: impl IntoIterator<Item = i64>,
    reason: ParkReason,
    seconds: u64,
) -> Vec<Record> {
    turn(notices, seconds, |_, turn| {
        let (detail, at) = (reason.sentence().to_owned(), turn.now().wall);
        for number in numbers {
            let detail = detail.clone();
            turn.fact(UploadId(number), Fact::Parked { reason, detail, at });
        }
    })
}

fn complete(notices: &mut Notices, number: u32, seconds: u64) -> Vec<Record> {
    let drop = DirectoryName::new("lab");
    let name = SourcePath::from_bytes(format!("run{number}").as_bytes());
    let row = RunRow::opened(drop, name, at(seconds).wall);
    turn(notices, seconds, |notices, _| notices.run_completed(&row, &[], None))
}

fn deadline(notices: &Notices) -> Option<Monotonic> {
    notices.queues.values().filter_map(NoticeQueue::next_try).min()
}

fn answer(notices: &mut Notices, failure: Option<FailureKind>, seconds: u64) -> Option<Record> {
    let setback = |kind| Setback { failure: Failure::new(kind, "no"), sent: ByteCount(0) };
    notices.queues.get_mut(&mail())?.on_answer(failure.map(setback), at(seconds))
}

fn next(notices: &mut Notices, seconds: u64) -> Option<Notice> {
    turn(notices, seconds, |_, _| {});
    notices
        .acts(at(seconds).monotonic)
        .into_iter()
        .find_map(|act| if let Act::Notify { notice } = act { Some(*notice) } else { None })
}

/// Sends what is due, and returns the files that it names.
fn send(notices: &mut Notices, seconds: u64) -> Option<Vec<String>> {
    let files = next(notices, seconds)?.facts.items;
    answer(notices, None, seconds);
    Some(files.into_iter().map(|item| item.name).collect())
}

/// The run that a notice is about.
fn run(notice: Option<Notice>) -> String {
    notice.expect("due").facts.name
}

#[test]
fn the_first_failure_is_sent_at_once_and_the_next_message_lists_all_of_the_pause() {
    let mut notices = notices(StoredNotices::default());
    park(&mut notices, [1, 2], ParkReason::NameTaken, 0);
    assert_eq!(send(&mut notices, 0).expect("at once"), ["run/1", "run/2"], "those of one turn");
    let mut records = Vec::new();
    for number in 3..=40 {
        let seconds = u64::try_from(number).expect("positive");
        records.extend(park(&mut notices, [number], ParkReason::NameTaken, seconds));
    }
    let rows = records.iter().filter(|record| matches!(record, Record::Notice(_))).count();
    assert_eq!((rows, records.len()), (1, 38), "every file is added to the same row");
    assert_eq!(next(&mut notices, 3599), None, "the pause lasts");
    assert_eq!(deadline(&notices), Some(at(3600).monotonic));
    let named = send(&mut notices, 3600).expect("the pause is over");
    assert_eq!(named.len(), 38);
    assert_eq!((&*named[0], &*named[37]), ("run/3", "run/40"));
    park(&mut notices, [41], ParkReason::NameTaken, 3601);
    assert_eq!(send(&mut notices, 7199), None, "that message began a pause, too");
    assert_eq!(send(&mut notices, 7200).expect("due"), ["run/41"]);
    park(&mut notices, [42], ParkReason::NameTaken, 20_000);
    assert_eq!(send(&mut notices, 20_000).expect("at once"), ["run/42"], "no pause is left");
}

#[test]
fn another_reason_is_another_group() {
    let mut notices = notices(StoredNotices::default());
    park(&mut notices, [1], ParkReason::NameTaken, 0);
    park(&mut notices, [2], ParkReason::Forbidden, 10);
    assert!(next(&mut notices, 10).is_some());
    assert_eq!(next(&mut notices, 10), None, "one at a time");
    answer(&mut notices, None, 10);
    assert_eq!(send(&mut notices, 10).expect("at once"), ["run/2"]);
}

#[test]
fn more_files_than_a_message_names_are_counted() {
    let mut notices = notices(StoredNotices::default());
    park(&mut notices, [0], ParkReason::Quota, 0);
    send(&mut notices, 0).expect("at once");
    let many = i64::try_from(ITEMS_MAX).expect("small") + 1;
    for batch in [1..=3, 4..=many] {
        park(&mut notices, batch, ParkReason::Quota, 1);
    }
    let records = park(&mut notices, [many + 1], ParkReason::Quota, 2);
    assert!(
        matches!(&records[..], [Record::NoticeFiles { items, .. }] if items.is_empty()),
        "{records:?}"
    );
    let facts = next(&mut notices, 3600).expect("due").facts;
    let count = u64::try_from(many + 1).expect("positive");
    assert_eq!((facts.items.len(), facts.number(NoticeNumber::Count)), (ITEMS_MAX, count));
    assert_eq!(facts.number(NoticeNumber::Bytes), 2 * count);
}

#[test]
fn a_pause_and_what_waits_for_its_end_outlive_a_start() {
    let mut before = notices(StoredNotices::default());
    park(&mut before, [1], ParkReason::NameTaken, 0);
    send(&mut before, 0).expect("at once");
    let records = park(&mut before, [2], ParkReason::NameTaken, 10);
    let [Record::Notice(waiting)] = &records[..] else { panic!("one notice: {records:?}") };
    let stored = |notice: &Notice, attempt_count| StoredNotices {
        unsent: vec![UnsentNotice { notice: notice.clone(), attempt_count, refused_since: None }],
        latest: vec![(notice.group.clone(), at(0).wall)],
        next: Some(NoticeId(3)),
        ..StoredNotices::default()
    };
    let mut again = notices(stored(waiting, 0));
    let records = park(&mut again, [3], ParkReason::NameTaken, 20);
    assert!(matches!(&records[..], [Record::NoticeFiles { .. }]), "it joins it: {records:?}");
    assert_eq!(next(&mut again, 3599), None);
    assert_eq!(send(&mut again, 3600).expect("due"), ["run/2", "run/3"]);

    let latest = vec![(waiting.group.clone(), at(0).wall)];
    let mut sent = notices(StoredNotices { latest, ..StoredNotices::default() });
    park(&mut sent, [3], ParkReason::NameTaken, 20);
    assert_eq!(deadline(&sent), Some(at(3600).monotonic), "what was sent has its pause");

    let far = Notice { due: at(1_000_000).wall, ..Notice::clone(waiting) };
    assert_eq!(deadline(&notices(stored(&far, 0))), Some(at(3600).monotonic), "another clock");
    assert_eq!(deadline(&notices(stored(&far, 3))), Some(at(300).monotonic));
}

fn health(notices: &mut Notices, is_deaf: bool, is_scanned: bool, seconds: u64) -> Vec<Record> {
    let health = DirectoryHealth {
        drop: DirectoryName::new("lab"),
        directory: "/data".into(),
        watch: if is_deaf { WatchState::Deaf } else { WatchState::Events },
        reason: None,
        last_full_scan_at: None,
        settling_count: 0,
        root: None,
        is_scanned,
    };
    turn(notices, seconds, |_, turn| turn.record(Record::DirectoryHealth(health)))
}

#[test]
fn a_condition_is_notified_once_and_once_that_it_is_over() {
    let mut silent = Notices::load(&settings(&[]), StoredNotices::default(), at(0));
    assert!(health(&mut silent, true, true, 0).is_empty() && silent.is_empty(), "no one wants it");
    let mut notices = notices(StoredNotices::default());
    assert_eq!(health(&mut notices, true, true, 0).len(), 1);
    assert_eq!(health(&mut notices, true, true, 1).len(), 0);
    assert_eq!(health(&mut notices, false, false, 2).len(), 0, "no scan has seen it");
    let over = health(&mut notices, false, true, 3);
    assert!(matches!(&over[..], [Record::Notice(notice)] if notice.is_over), "{over:?}");
    assert_eq!(health(&mut notices, false, true, 4).len(), 0);

    assert_eq!(health(&mut notices, true, true, 10).len(), 0, "held back within the pause");
    assert_eq!(health(&mut notices, false, true, 20).len(), 0, "what was held back has no end");
    assert_eq!(health(&mut notices, true, true, 30).len(), 0);
    assert_eq!(notices.next_deadline(), Some(Monotonic(Duration::ZERO)), "the first is due");
    let held = turn(&mut notices, 3600, |_, _| {});
    assert!(matches!(&held[..], [Record::Notice(notice)] if !notice.is_over), "{held:?}");
}

#[test]
fn a_condition_that_was_notified_before_a_start_is_not_notified_again() {
    let group = NoticeGroup::of(NoticeKind::Deaf, &["lab"]);
    let stored = StoredNotices { standing: vec![group], ..StoredNotices::default() };
    let mut notices = notices(stored);
    assert_eq!(health(&mut notices, true, false, 0).len(), 0);
    assert_eq!(health(&mut notices, false, true, 1).len(), 1, "its end is");
}

#[test]
fn every_completed_run_is_a_message_of_its_own() {
    let mut notices = notices(StoredNotices::default());
    for number in 1..=3 {
        assert_eq!(complete(&mut notices, number, 10).len(), 1);
    }
    for name in ["run1", "run2", "run3"] {
        assert_eq!(run(next(&mut notices, 10)), name);
        answer(&mut notices, None, 10);
    }
    assert!(notices.is_empty());
}

#[test]
fn a_file_that_is_unreadable_for_an_hour_is_notified_once() {
    let mut notices = notices(StoredNotices::default());
    let mut fail = |seconds, wait| {
        turn(&mut notices, seconds, |_, turn| {
            let failure = Failure::new(FailureKind::SourceFailing, "input/output error");
            let failed = Fact::AttemptFailed {
                act: "put part",
                part: None,
                failure,
                sent: ByteCount(0),
                retry_at: Some(turn.now().wall.after(Duration::from_secs(wait))),
                at: turn.now().wall,
            };
            turn.fact(UploadId(1), failed);
        })
    };
    assert_eq!(fail(0, 60).len(), 0);
    let records = fail(3000, 600);
    let [Record::Notice(notice)] = &records[..] else { panic!("one notice: {records:?}") };
    assert_eq!(notice.kind, NoticeKind::UploadStuck);
    assert_eq!(fail(3600, 600).len(), 0, "once for as long as it lasts");
}

#[test]
fn a_report_is_a_message_and_the_next_survey_knows_of_it() {
    let mut notices = notices(StoredNotices::default());
    let wanted = |notices: &mut Notices, seconds| {
        let acts = notices.acts(at(seconds).monotonic);
        acts.into_iter().find_map(|act| if let Act::Survey(wanted) = act { wanted } else { None })
    };
    let first = wanted(&mut notices, 0).expect("a survey");
    assert_eq!((first.period, first.reported_until), (ReportPeriod::Week, None));
    let until = at(0).wall;
    let report = NoticeFacts::default().with_time(NoticeNumber::Until, until);
    let survey = Survey {
        directory: "/state".into(),
        space: None,
        expiries: Vec::new(),
        report: Some(report),
    };
    let records = turn(&mut notices, 1, |notices, turn| {
        notices.surveyed(Ok(Outcome::Surveyed(survey)), turn.now());
    });
    assert!(matches!(&records[..], [Record::Notice(notice)] if notice.at == until), "{records:?}");
    assert_eq!(wanted(&mut notices, 600), None, "not before ten minutes have passed");
    let second = wanted(&mut notices, 601).expect("another survey");
    assert_eq!(second.reported_until, Some(until));
}

#[test]
fn what_is_refused_steps_aside_and_is_given_up_after_a_day_of_tries() {
    let mut notices = notices(StoredNotices::default());
    complete(&mut notices, 1, 0);
    complete(&mut notices, 2, 0);
    assert_eq!(run(next(&mut notices, 0)), "run1");
    let delayed = answer(&mut notices, Some(FailureKind::BadRequest), 0);
    let since = Some(at(0).wall);
    assert!(
        matches!(delayed, Some(Record::NoticeDelayed { refused_since, .. }) if refused_since == since)
    );
    assert_eq!(run(next(&mut notices, 0)), "run2", "it stepped aside");
    answer(&mut notices, None, 0);
    let mut tries = 1;
    let (last, seconds) = loop {
        let seconds = deadline(&notices).expect("it waits").0.as_secs() + 1;
        next(&mut notices, seconds).expect("due");
        tries += 1;
        match answer(&mut notices, Some(FailureKind::BadRequest), seconds) {
            Some(Record::NoticeDelayed { .. }) => {}
            other => break (other, seconds),
        }
    };
    assert!(matches!(last, Some(Record::NoticeGivenUp { .. })), "{last:?}");
    assert!(seconds >= 86_400 && tries >= 20, "after {tries} tries and {seconds} s");
    assert!(notices.is_empty());
}

#[test]
fn an_outage_of_the_channel_gives_nothing_up_and_keeps_the_order() {
    let mut notices = notices(StoredNotices::default());
    complete(&mut notices, 1, 0);
    complete(&mut notices, 2, 0);
    let mut seconds = 0;
    while seconds < 300_000 {
        seconds = deadline(&notices).expect("it waits").0.as_secs() + 1;
        assert_eq!(run(next(&mut notices, seconds)), "run1");
        let record = answer(&mut notices, Some(FailureKind::Unreachable), seconds);
        assert!(matches!(record, Some(Record::NoticeDelayed { refused_since: None, .. })));
    }
}

#[test]
fn a_notice_has_the_platforms_own_page_of_the_first_destination_that_has_one() {
    let mut settings = settings(&[ChannelSettings::plain(mail())]);
    let mut notices = Notices::load(&settings, StoredNotices::default(), at(0));
    let row = RunRow::opened(DirectoryName::new("lab"), SourcePath::from_bytes(b"run"), at(1).wall);
    let (near, far) = (DestinationName::new("near"), DestinationName::new("far"));
    let url = |notices: &mut Notices, seconds| {
        let both = [near.clone(), far.clone()];
        turn(notices, seconds, |notices, _| notices.run_completed(&row, &both, None));
        let url = next(notices, seconds)?.facts.url;
        answer(notices, None, seconds);
        Some(url)
    };
    assert_eq!(url(&mut notices, 1), Some(None), "no page is known");
    let mut to = crate::engine::plan::tests::destination("runs");
    to.name = far.clone();
    to.address = crate::model::TargetAddress {
        platform: "sevenbridges".into(),
        base_url: "https://cavatica-api.sbgenomics.com/v2".into(),
        container: "lab/novaseq".into(),
    };
    settings.destinations.push(to);
    notices.reconfigure(&settings, at(2));
    let page = "https://cavatica.sbgenomics.com/u/lab/novaseq/files/";
    assert_eq!(url(&mut notices, 3), Some(Some(page.to_owned())));
}
