//! Writes notices, and reads them at a start.

use std::collections::BTreeMap;

use rusqlite::{Connection, Row};
use serde_json::{Value, json};

use super::Result;
use crate::model::{
    ByteCount, Channel, DestinationName, DirectoryName, Failure, Notice, NoticeFacts, NoticeGroup,
    NoticeId, NoticeItem, NoticeKind, NoticeNumber, RunOutcome, StoredNotices, UnsentNotice,
    UploadId, WallTime,
};
use crate::store::rows::{saturated, unsigned};

/// The condition of unsent notices.
const UNSENT: &str = "sent_at_ns IS NULL AND given_up_at_ns IS NULL";
/// Ended notices are kept this long, as a record of what was sent.
const KEPT_NS: i64 = 30 * 24 * 3_600_000_000_000;
/// A pause is shorter than this: older notices begin none.
const LATEST_NS: i64 = 24 * 3_600_000_000_000;

/// Writes a notice.
pub(super) fn write_notice(connection: &Connection, notice: &Notice) -> Result<()> {
    let sql = "INSERT INTO notices (id, channel, kind, group_key, is_over, facts, created_at_ns, \
        retry_at_ns) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    let row = (
        notice.id.0,
        notice.channel.as_str(),
        notice.kind.as_str(),
        notice.group.as_str(),
        notice.is_over,
        facts_json(&notice.facts).to_string(),
        notice.at.0,
        notice.due.0,
    );
    connection.prepare_cached(sql)?.execute(row).map(has_row)?;
    write_items(connection, notice.id, &notice.facts.items)
}

/// Adds files to a notice that was not attempted yet.
pub(super) fn add_files(
    connection: &Connection,
    id: NoticeId,
    file_count: u64,
    size: ByteCount,
    items: &[NoticeItem],
) -> Result<()> {
    let (count, bytes) = (NoticeNumber::Count.as_str(), NoticeNumber::Bytes.as_str());
    let sql = format!(
        "UPDATE notices SET facts = json_set(facts, '$.numbers.{count}', ?2, \
            '$.numbers.{bytes}', ?3) WHERE id = ?1"
    );
    let row = (id.0, saturated(file_count), saturated(size.0));
    connection.prepare_cached(&sql)?.execute(row).map(has_row)?;
    write_items(connection, id, items)
}

/// The content of a notice without its list, which has rows of its own.
fn facts_json(facts: &NoticeFacts) -> Value {
    let numbers = facts.numbers.iter().map(|(number, value)| (number.as_str(), *value));
    json!({
        "drop": facts.drop.as_ref().map(DirectoryName::as_str),
        "destinations": facts.destinations.iter().map(DestinationName::as_str).collect::<Vec<_>>(),
        "name": facts.name, "directory": facts.directory, "reason": facts.reason,
        "detail": facts.detail, "outcome": facts.outcome.as_ref().map(|outcome| &outcome.word),
        "outcome_is_success": facts.outcome.as_ref().is_some_and(|outcome| outcome.is_success),
        "ledger": facts.ledger, "url": facts.url, "numbers": numbers.collect::<BTreeMap<_, _>>(),
    })
}

fn read_facts(facts: &str, items: Vec<NoticeItem>) -> NoticeFacts {
    let value: Value = serde_json::from_str(facts).unwrap_or_default();
    let text = |key: &str| value[key].as_str().map(str::to_owned);
    let outcome = |word| RunOutcome { word, is_success: value["outcome_is_success"] == true };
    let destinations = value["destinations"].as_array().into_iter().flatten();
    let number = |number: NoticeNumber| Some((number, value["numbers"][number.as_str()].as_u64()?));
    NoticeFacts {
        ledger: serde_json::from_value(value["ledger"].clone()).unwrap_or_default(),
        drop: text("drop").map(DirectoryName::new),
        destinations: destinations.filter_map(Value::as_str).map(DestinationName::new).collect(),
        name: text("name").unwrap_or_default(),
        directory: text("directory"),
        reason: text("reason"),
        detail: text("detail"),
        url: text("url"),
        outcome: text("outcome").map(outcome),
        numbers: NoticeNumber::ALL.into_iter().filter_map(number).collect(),
        items,
    }
}

fn write_items(connection: &Connection, id: NoticeId, items: &[NoticeItem]) -> Result<()> {
    let sql = "INSERT INTO notice_items (notice_id, position, upload_id, drop_name, name, \
        file_count, size_bytes) VALUES (?1, (SELECT ifnull(max(position), 0) + 1 \
        FROM notice_items WHERE notice_id = ?1), ?2, ?3, ?4, ?5, ?6)";
    let mut insert = connection.prepare_cached(sql)?;
    items.iter().try_for_each(|item| {
        let upload = item.upload.map(|id| id.0);
        let (count, size) = (saturated(item.file_count), saturated(item.size.0));
        let row = (id.0, upload, item.drop.as_str(), &item.name, count, size);
        insert.execute(row).map(has_row)
    })
}

/// Writes that a notice was not accepted, and when it is retried.
pub(super) fn delay(
    connection: &Connection,
    id: NoticeId,
    retry_at: WallTime,
    failure: &Failure,
    refused_since: Option<WallTime>,
) -> Result<()> {
    let sql = "UPDATE notices SET attempt_count = attempt_count + 1, retry_at_ns = ?2, \
        failure = ?3, refused_at_ns = ?4 WHERE id = ?1";
    let refused = refused_since.map(|since| since.0);
    let row = (id.0, retry_at.0, failure.to_string(), refused);
    connection.prepare_cached(sql)?.execute(row).map(has_row)
}

/// Writes that a notice is given up.
pub(super) fn give_up(
    connection: &Connection,
    id: NoticeId,
    at: WallTime,
    failure: &Failure,
) -> Result<()> {
    let sql = "UPDATE notices SET attempt_count = attempt_count + 1, given_up_at_ns = ?2, \
        failure = ?3 WHERE id = ?1";
    connection.prepare_cached(sql)?.execute((id.0, at.0, failure.to_string())).map(has_row)
}

/// Writes that a notice was accepted.
pub(super) fn note_sent(connection: &Connection, id: NoticeId, at: WallTime) -> Result<()> {
    let sql = "UPDATE notices SET attempt_count = attempt_count + 1, sent_at_ns = ?2 WHERE id = ?1";
    connection.prepare_cached(sql)?.execute((id.0, at.0)).map(has_row)
}

fn has_row(touched: usize) {
    debug_assert!(touched == 1, "a record of a notice that has no row");
}

/// Removes notices that ended long before the newest was made, except the last of each condition,
/// which shows whether people know of it, the last report, which shows the reported period, and the
/// last of all, which shows the used ids.
pub(super) fn prune(connection: &Connection) -> Result<usize> {
    let sql = format!(
        "DELETE FROM notices WHERE NOT ({UNSENT}) \
            AND created_at_ns < (SELECT max(created_at_ns) FROM notices) - {KEPT_NS} \
            AND id <> (SELECT max(id) FROM notices) \
            AND id NOT IN (SELECT max(id) FROM notices WHERE kind = 'report') \
            AND id NOT IN (SELECT max(id) FROM notices WHERE kind IN ({}) GROUP BY group_key)",
        conditions()
    );
    connection.execute(&sql, [])
}

/// The words of conditions, as an SQL list.
fn conditions() -> String {
    NoticeKind::CONDITIONS.map(|kind| format!("'{}'", kind.as_str())).join(", ")
}

/// Reads what a start needs.
pub(super) fn load(connection: &Connection) -> Result<StoredNotices> {
    let reported = "SELECT max(created_at_ns) FROM notices WHERE kind = 'report'";
    let reported: Option<i64> = connection.query_row(reported, [], |row| row.get(0))?;
    let next: Option<i64> =
        connection.query_row("SELECT max(id) + 1 FROM notices", [], |row| row.get(0))?;
    let sql = format!("SELECT * FROM notices WHERE {UNSENT} ORDER BY id");
    let mut statement = connection.prepare(&sql)?;
    let unsent = statement.query_map([], |row| read_unsent(connection, row))?;
    Ok(StoredNotices {
        unsent: unsent.filter_map(Result::transpose).collect::<Result<Vec<_>>>()?,
        latest: load_latest(connection)?,
        standing: load_standing(connection)?,
        reported_until: reported.map(WallTime),
        next: next.map(NoticeId),
    })
}

/// Reads the groups whose last notice does not end their condition.
fn load_standing(connection: &Connection) -> Result<Vec<NoticeGroup>> {
    let sql = format!(
        "SELECT group_key, is_over, max(id) FROM notices WHERE kind IN ({}) GROUP BY group_key",
        conditions()
    );
    let mut statement = connection.prepare(&sql)?;
    let rows = statement.query_map([], |row| {
        let is_over: bool = row.get(1)?;
        Ok((!is_over).then_some(NoticeGroup::new(row.get_ref(0)?.as_str()?)))
    })?;
    rows.filter_map(Result::transpose).collect()
}

/// Reads when each group had its last notice, close to the newest of all, because there is no clock here.
fn load_latest(connection: &Connection) -> Result<Vec<(NoticeGroup, WallTime)>> {
    let sql = format!(
        "SELECT group_key, max(max(created_at_ns, ifnull(sent_at_ns, 0))) FROM notices \
            WHERE NOT is_over AND kind <> 'run-completed' AND kind <> 'report' \
            AND created_at_ns > (SELECT max(created_at_ns) FROM notices) - {LATEST_NS} \
            GROUP BY group_key"
    );
    let mut statement = connection.prepare(&sql)?;
    let rows = statement.query_map([], |row| {
        Ok((NoticeGroup::new(row.get_ref(0)?.as_str()?), WallTime(row.get(1)?)))
    })?;
    rows.collect()
}

fn read_items(connection: &Connection, id: NoticeId) -> Result<Vec<NoticeItem>> {
    let sql = "SELECT * FROM notice_items WHERE notice_id = ?1 ORDER BY position";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map([id.0], |row| {
        let upload: Option<i64> = row.get("upload_id")?;
        Ok(NoticeItem {
            upload: upload.map(UploadId),
            drop: DirectoryName::new(row.get::<_, String>("drop_name")?),
            name: row.get("name")?,
            file_count: unsigned(row, "file_count")?,
            size: ByteCount(unsigned(row, "size_bytes")?),
        })
    })?;
    rows.collect()
}

/// Reads a notice; one of a kind that this program does not know is left in place.
fn read_unsent(connection: &Connection, row: &Row<'_>) -> Result<Option<UnsentNotice>> {
    let Some(kind) = NoticeKind::parse(row.get_ref("kind")?.as_str()?) else { return Ok(None) };
    let id = NoticeId(row.get("id")?);
    let facts = read_facts(row.get_ref("facts")?.as_str()?, read_items(connection, id)?);
    let refused: Option<i64> = row.get("refused_at_ns")?;
    let notice = Notice {
        id,
        channel: Channel::new(row.get_ref("channel")?.as_str()?),
        kind,
        group: NoticeGroup::new(row.get_ref("group_key")?.as_str()?),
        is_over: row.get("is_over")?,
        facts,
        at: WallTime(row.get("created_at_ns")?),
        due: WallTime(row.get("retry_at_ns")?),
    };
    let (attempt_count, refused_since) = (row.get("attempt_count")?, refused.map(WallTime));
    Ok(Some(UnsentNotice { notice, attempt_count, refused_since }))
}

#[cfg(test)]
mod tests;
