//! What is written of notices, and what a start reads of them.

use rusqlite::{Connection, Row};

use crate::model::{
    Channel, Failure, Notice, NoticeId, NoticeKind, RecentNotice, StoredOutbox, UnsentNotice,
    WallTime,
};

type Result<T> = std::result::Result<T, rusqlite::Error>;

/// What waits to be told.
const UNSENT: &str = "sent_at_ns IS NULL AND given_up_at_ns IS NULL AND folded_into IS NULL";
/// Notices that have ended are kept this long: for whoever asks what people were told.
const KEPT_NS: i64 = 30 * 24 * 3_600_000_000_000;
/// What was told within this time counts against what may be told.
const RECENT_NS: i64 = 3_600_000_000_000;
/// More of it is not read: a channel that tells more has no limit.
const RECENT_MAX: u32 = 1_000;

/// Writes a notice, or another text of one that was not tried yet.
pub(super) fn write_notice(connection: &Connection, notice: &Notice) -> Result<()> {
    let sql = "INSERT INTO outbox (id, channel, kind, subject, is_over, body, created_at_ns, \
        retry_at_ns) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) \
        ON CONFLICT DO UPDATE SET body = ?6 WHERE attempt_count = 0";
    let row = (
        notice.id.0,
        notice.channel.as_str(),
        notice.kind.as_str(),
        &notice.subject,
        notice.is_over,
        &notice.body,
        notice.at.0,
        notice.due.0,
    );
    connection.prepare_cached(sql)?.execute(row).map(has_row)
}

/// Writes that a notice was not taken, and when it is tried again.
pub(super) fn delay(
    connection: &Connection,
    id: NoticeId,
    retry_at: WallTime,
    failure: &Failure,
    refused_since: Option<WallTime>,
) -> Result<()> {
    let sql = "UPDATE outbox SET attempt_count = attempt_count + 1, retry_at_ns = ?2, \
        failure = ?3, refused_at_ns = ?4 WHERE id = ?1";
    let refused = refused_since.map(|since| since.0);
    let row = (id.0, retry_at.0, failure.to_string(), refused);
    connection.prepare_cached(sql)?.execute(row).map(has_row)
}

/// Writes that a notice is tried no more.
pub(super) fn give_up(
    connection: &Connection,
    id: NoticeId,
    at: WallTime,
    failure: &Failure,
) -> Result<()> {
    let sql = "UPDATE outbox SET attempt_count = attempt_count + 1, given_up_at_ns = ?2, \
        failure = ?3 WHERE id = ?1";
    connection.prepare_cached(sql)?.execute((id.0, at.0, failure.to_string())).map(has_row)
}

/// Writes that another notice tells of this one too.
pub(super) fn fold(connection: &Connection, id: NoticeId, into: NoticeId) -> Result<()> {
    let sql = "UPDATE outbox SET folded_into = ?2 WHERE id = ?1";
    connection.prepare_cached(sql)?.execute((id.0, into.0)).map(has_row)
}

/// Writes that a notice was taken.
pub(super) fn note_sent(connection: &Connection, id: NoticeId, at: WallTime) -> Result<()> {
    let sql = "UPDATE outbox SET attempt_count = attempt_count + 1, sent_at_ns = ?2 WHERE id = ?1";
    connection.prepare_cached(sql)?.execute((id.0, at.0)).map(has_row)
}

fn has_row(touched: usize) {
    debug_assert!(touched == 1, "a record of a notice that has no row");
}

/// Forgets notices that ended long before the newest was made; but the last of each trouble says
/// whether people know of it, and the last of all which ids were given out.
pub(super) fn prune(connection: &Connection) -> Result<usize> {
    let sql = format!(
        "DELETE FROM outbox WHERE NOT ({UNSENT}) \
            AND created_at_ns < (SELECT max(created_at_ns) FROM outbox) - {KEPT_NS} \
            AND id <> (SELECT max(id) FROM outbox) \
            AND id NOT IN (SELECT max(id) FROM outbox WHERE kind IN ({}) GROUP BY kind, subject)",
        troubles()
    );
    connection.execute(&sql, [])
}

/// The words of kinds that last, as a list.
fn troubles() -> String {
    NoticeKind::TROUBLES.map(|kind| format!("'{}'", kind.as_str())).join(", ")
}

/// Reads what a start needs.
pub(super) fn load(connection: &Connection) -> Result<StoredOutbox> {
    let next: Option<i64> =
        connection.query_row("SELECT max(id) + 1 FROM outbox", [], |row| row.get(0))?;
    let sql = format!("SELECT * FROM outbox WHERE {UNSENT} ORDER BY id");
    let mut statement = connection.prepare(&sql)?;
    let unsent = statement.query_map([], read_unsent)?.filter_map(Result::transpose);
    Ok(StoredOutbox {
        unsent: unsent.collect::<Result<Vec<_>>>()?,
        recent: load_recent(connection)?,
        digests: load_digests(connection)?,
        troubles: load_troubles(connection)?,
        next: next.map(NoticeId),
    })
}

/// Reads what was told last of each subject, where that was not that it is over.
fn load_troubles(connection: &Connection) -> Result<Vec<(NoticeKind, String)>> {
    let sql = format!(
        "SELECT kind, subject, is_over, max(id) FROM outbox WHERE kind IN ({}) \
            GROUP BY kind, subject",
        troubles()
    );
    let mut statement = connection.prepare(&sql)?;
    let rows = statement.query_map([], |row| {
        let kind = NoticeKind::parse(row.get_ref(0)?.as_str()?);
        let (subject, is_over): (String, bool) = (row.get(1)?, row.get(2)?);
        Ok(kind.filter(|_| !is_over).map(|kind| (kind, subject)))
    })?;
    rows.filter_map(Result::transpose).collect()
}

/// Reads what was told in the hour before the newest, for there is no clock here.
fn load_recent(connection: &Connection) -> Result<Vec<RecentNotice>> {
    let sql = format!(
        "SELECT channel, sent_at_ns, retry_at_ns, body FROM outbox WHERE folded_into IS NULL \
            AND max(ifnull(sent_at_ns, 0), retry_at_ns) \
                > (SELECT max(max(ifnull(sent_at_ns, 0), created_at_ns)) FROM outbox) - {RECENT_NS} \
            ORDER BY id DESC LIMIT {RECENT_MAX}"
    );
    let mut statement = connection.prepare(&sql)?;
    let rows = statement.query_map([], |row| {
        let sent: Option<i64> = row.get(1)?;
        Ok(RecentNotice {
            channel: Channel::new(row.get_ref(0)?.as_str()?),
            sent_at: sent.map(WallTime),
            due: WallTime(row.get(2)?),
            body: row.get(3)?,
        })
    })?;
    rows.collect()
}

fn load_digests(connection: &Connection) -> Result<Vec<(Channel, String)>> {
    let sql = "SELECT channel, max(subject) FROM outbox WHERE kind = ?1 GROUP BY channel";
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([NoticeKind::Digest.as_str()], |row| {
        Ok((Channel::new(row.get_ref(0)?.as_str()?), row.get(1)?))
    })?;
    rows.collect()
}

/// Reads a notice; one of a kind that this program does not know stays where it is.
fn read_unsent(row: &Row<'_>) -> Result<Option<UnsentNotice>> {
    let Some(kind) = NoticeKind::parse(row.get_ref("kind")?.as_str()?) else {
        return Ok(None);
    };
    let refused: Option<i64> = row.get("refused_at_ns")?;
    let notice = Notice {
        id: NoticeId(row.get("id")?),
        channel: Channel::new(row.get_ref("channel")?.as_str()?),
        kind,
        subject: row.get("subject")?,
        is_over: row.get("is_over")?,
        body: row.get("body")?,
        at: WallTime(row.get("created_at_ns")?),
        due: WallTime(row.get("retry_at_ns")?),
    };
    let (attempt_count, refused_since) = (row.get("attempt_count")?, refused.map(WallTime));
    Ok(Some(UnsentNotice { notice, attempt_count, refused_since }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_NS: i64 = 24 * 3_600_000_000_000;

    fn database() -> Connection {
        let connection = Connection::open_in_memory().expect("opened");
        let schema = include_str!("../../../migrations/0001_initial.sql");
        connection.execute_batch(schema).expect("made");
        connection
    }

    fn tell(connection: &Connection, id: i64, kind: NoticeKind, day: i64) {
        let at = WallTime(day * DAY_NS);
        let notice = Notice {
            id: NoticeId(id),
            channel: Channel::new("mail"),
            kind,
            subject: "lab".into(),
            is_over: id % 2 == 0,
            body: "{}".into(),
            at,
            due: at,
        };
        write_notice(connection, &notice).expect("written");
        note_sent(connection, NoticeId(id), at).expect("written");
    }

    fn ids(connection: &Connection) -> Vec<i64> {
        let mut statement = connection.prepare("SELECT id FROM outbox ORDER BY id").expect("sql");
        let rows = statement.query_map([], |row| row.get(0)).expect("read");
        rows.collect::<Result<_>>().expect("read")
    }

    #[test]
    fn old_notices_go_and_what_a_start_must_know_stays() {
        let connection = database();
        tell(&connection, 1, NoticeKind::Deaf, 100);
        tell(&connection, 2, NoticeKind::RunCompleted, 100);
        tell(&connection, 3, NoticeKind::Deaf, 101);
        tell(&connection, 4, NoticeKind::Parked, 129);
        assert_eq!(prune(&connection).expect("pruned"), 0, "none is old enough");
        let unsent = "UPDATE outbox SET sent_at_ns = NULL WHERE id = 2";
        connection.execute(unsent, []).expect("changed");
        tell(&connection, 5, NoticeKind::Parked, 140);
        assert_eq!(prune(&connection).expect("pruned"), 1);
        assert_eq!(ids(&connection), [2, 3, 4, 5], "the unsent, the last of a trouble, the young");
        connection.execute("UPDATE outbox SET sent_at_ns = 1 WHERE id = 2", []).expect("changed");
        prune(&connection).expect("pruned");
        assert_eq!(ids(&connection), [3, 4, 5]);
        let stored = load(&connection).expect("read");
        assert_eq!(stored.troubles, [(NoticeKind::Deaf, "lab".to_owned())]);
        assert_eq!(stored.next, Some(NoticeId(6)));
        assert_eq!(stored.recent.len(), 1, "of the last hour: {:?}", stored.recent);
    }
}
