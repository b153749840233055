//! What is written of notices, and what a start reads of them.

use rusqlite::{Connection, Row};

use crate::model::{
    Channel, Notice, NoticeId, NoticeKind, Record, StoredOutbox, UnsentNotice, WallTime,
};

type Result<T> = std::result::Result<T, rusqlite::Error>;

/// Writes one record about a notice.
#[expect(clippy::wildcard_enum_match_arm, reason = "called with the records of notices only")]
pub(super) fn write(connection: &Connection, record: &Record) -> Result<()> {
    let touched = match record {
        Record::Notice(notice) => {
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
            connection.prepare_cached(sql)?.execute(row)?
        }
        Record::NoticeDelayed { id, retry_at, failure } => {
            let sql = "UPDATE outbox SET attempt_count = attempt_count + 1, retry_at_ns = ?2, \
                failure = ?3 WHERE id = ?1";
            let row = (id.0, retry_at.0, failure.to_string());
            connection.prepare_cached(sql)?.execute(row)?
        }
        Record::NoticeSent { id, at } => {
            let sql = "UPDATE outbox SET attempt_count = attempt_count + 1, sent_at_ns = ?2 \
                WHERE id = ?1";
            connection.prepare_cached(sql)?.execute((id.0, at.0))?
        }
        _ => 1,
    };
    debug_assert!(touched == 1, "a record of a notice that has no row");
    Ok(())
}

/// Reads what a start needs.
pub(super) fn load(connection: &Connection) -> Result<StoredOutbox> {
    let next: Option<i64> =
        connection.query_row("SELECT max(id) + 1 FROM outbox", [], |row| row.get(0))?;
    let sql = "SELECT * FROM outbox WHERE sent_at_ns IS NULL ORDER BY id";
    let mut statement = connection.prepare(sql)?;
    let unsent = statement.query_map([], read_unsent)?.filter_map(Result::transpose);
    let unsent = unsent.collect::<Result<Vec<_>>>()?;
    Ok(StoredOutbox { unsent, troubles: load_troubles(connection)?, next: next.map(NoticeId) })
}

/// Reads what was told last of each subject, where that was not that it is over.
fn load_troubles(connection: &Connection) -> Result<Vec<(NoticeKind, String)>> {
    let sql = "SELECT kind, subject, is_over, max(id) FROM outbox \
        WHERE kind IN ('deaf', 'destination-halted') GROUP BY kind, subject";
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([], |row| {
        let kind = NoticeKind::parse(row.get_ref(0)?.as_str()?);
        let (subject, is_over): (String, bool) = (row.get(1)?, row.get(2)?);
        Ok(kind.filter(|_| !is_over).map(|kind| (kind, subject)))
    })?;
    rows.filter_map(Result::transpose).collect()
}

/// Reads a notice; one of a channel or kind that this program does not know stays where it is.
fn read_unsent(row: &Row<'_>) -> Result<Option<UnsentNotice>> {
    let channel = Channel::parse(row.get_ref("channel")?.as_str()?);
    let Some((channel, kind)) = channel.zip(NoticeKind::parse(row.get_ref("kind")?.as_str()?))
    else {
        return Ok(None);
    };
    let notice = Notice {
        id: NoticeId(row.get("id")?),
        channel,
        kind,
        subject: row.get("subject")?,
        is_over: row.get("is_over")?,
        body: row.get("body")?,
        at: WallTime(row.get("created_at_ns")?),
        due: WallTime(row.get("retry_at_ns")?),
    };
    Ok(Some(UnsentNotice { notice, attempt_count: row.get("attempt_count")? }))
}
