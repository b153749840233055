//! Rows of notices: which are kept, and what is read back.

use super::*;
const DAY_NS: i64 = 24 * 3_600_000_000_000;

fn database() -> Connection {
    let connection = Connection::open_in_memory().expect("opened");
    let schema = include_str!("../../../../migrations/0001_initial.sql");
    connection.execute_batch(schema).expect("made");
    connection
}

fn lab() -> DirectoryName {
    DirectoryName::new("lab")
}

fn notice(id: i64, kind: NoticeKind, day: i64, facts: NoticeFacts) -> Notice {
    let at = WallTime(day * DAY_NS);
    Notice {
        id: NoticeId(id),
        channel: Channel::new("mail"),
        kind,
        group: NoticeGroup::of(kind, &["lab"]),
        is_over: id % 2 == 0,
        facts,
        at,
        due: at,
    }
}

fn send(connection: &Connection, id: i64, kind: NoticeKind, day: i64) {
    let notice = notice(id, kind, day, NoticeFacts::default());
    write_notice(connection, &notice).expect("written");
    note_sent(connection, NoticeId(id), notice.at).expect("written");
}

fn ids(connection: &Connection) -> Vec<i64> {
    let mut statement = connection.prepare("SELECT id FROM notices ORDER BY id").expect("sql");
    let rows = statement.query_map([], |row| row.get(0)).expect("read");
    rows.collect::<Result<_>>().expect("read")
}

#[test]
fn old_notices_go_and_what_a_start_must_know_stays() {
    let connection = database();
    send(&connection, 1, NoticeKind::Deaf, 100);
    send(&connection, 2, NoticeKind::RunCompleted, 100);
    send(&connection, 3, NoticeKind::Deaf, 101);
    send(&connection, 4, NoticeKind::Report, 102);
    send(&connection, 5, NoticeKind::Parked, 129);
    assert_eq!(prune(&connection).expect("pruned"), 0, "none is old enough");
    let unsent = "UPDATE notices SET sent_at_ns = NULL WHERE id = 2";
    connection.execute(unsent, []).expect("changed");
    send(&connection, 7, NoticeKind::Parked, 140);
    assert_eq!(prune(&connection).expect("pruned"), 1);
    let kept = [2, 3, 4, 5, 7];
    assert_eq!(
        ids(&connection),
        kept,
        "the unsent, the last of a condition, the report, the young"
    );
    connection.execute("UPDATE notices SET sent_at_ns = 1 WHERE id = 2", []).expect("changed");
    prune(&connection).expect("pruned");
    assert_eq!(ids(&connection), [3, 4, 5, 7]);
    let stored = load(&connection).expect("read");
    let group = |kind| NoticeGroup::of(kind, &["lab"]);
    assert_eq!(stored.standing, [group(NoticeKind::Deaf)]);
    assert_eq!(stored.next, Some(NoticeId(8)));
    assert_eq!(stored.reported_until, Some(WallTime(102 * DAY_NS)));
    let latest = (group(NoticeKind::Parked), WallTime(140 * DAY_NS));
    assert_eq!(stored.latest, [latest], "near the newest");
}

fn item(number: i64) -> NoticeItem {
    NoticeItem {
        upload: Some(UploadId(number)),
        drop: lab(),
        name: format!("run/{number}"),
        file_count: 1,
        size: ByteCount(3),
    }
}

/// Every field of a notice.
fn all_facts() -> NoticeFacts {
    let (reason, detail) = (Some("name-taken".to_owned()), Some("in full".to_owned()));
    let facts = NoticeFacts {
        drop: Some(lab()),
        destinations: vec![DestinationName::new("far"), DestinationName::new("near")],
        name: "run\"1".into(),
        directory: Some("/data".into()),
        reason,
        detail,
        outcome: Some(RunOutcome { word: "RunCompleted".into(), is_success: true }),
        items: vec![item(1), item(2)],
        ..NoticeFacts::default()
    };
    NoticeNumber::ALL.into_iter().zip(1..).fold(facts, |facts, (number, n)| facts.with(number, n))
}

#[test]
fn facts_come_back_as_they_were_written() {
    let connection = database();
    let sparse = NoticeFacts { name: "far".into(), ..NoticeFacts::default() };
    let written = [(1, all_facts()), (2, sparse)];
    let written = written.map(|(id, facts)| notice(id, NoticeKind::Parked, 100, facts));
    written.iter().for_each(|notice| write_notice(&connection, notice).expect("written"));
    let read = load(&connection).expect("read").unsent;
    assert_eq!(read.into_iter().map(|unsent| unsent.notice).collect::<Vec<_>>(), written);
}

#[test]
fn files_that_are_added_are_listed_and_counted() {
    let connection = database();
    let first = notice(1, NoticeKind::Parked, 100, all_facts());
    write_notice(&connection, &first).expect("written");
    add_files(&connection, NoticeId(1), 4, ByteCount(16), &[item(3)]).expect("added");
    let facts = load(&connection).expect("read").unsent.remove(0).notice.facts;
    let numbers = [NoticeNumber::Count, NoticeNumber::Bytes, NoticeNumber::Files];
    assert_eq!(numbers.map(|number| facts.number(number)), [4, 16, 2]);
    assert_eq!(facts.items, [item(1), item(2), item(3)]);
    connection.execute("DELETE FROM notices", []).expect("removed");
    let left = "SELECT count(*) FROM notice_items";
    let left: u32 = connection.query_row(left, [], |row| row.get(0)).expect("counted");
    assert_eq!(left, 0, "they go with it");
}
