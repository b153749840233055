//! Rows of runs to values.

use rusqlite::Row;

use super::{Result, damaged, read_line, unsigned};
use crate::model::{
    ByteCount, ClosedByHand, DirectoryName, LedgerNumbers, RunCompletion, RunFiles, RunOutcome,
    RunReason, RunRow, RunState, RunWait, SourcePath, WallTime,
};

fn read_reason(row: &Row<'_>) -> Result<Option<RunReason>> {
    let Some(text) = row.get("reason")? else { return Ok(None) };
    let code = RunWait::parse(row.get_ref("reason_code")?.as_str()?);
    Ok(Some(RunReason { code: code.ok_or_else(|| damaged("runs.reason_code"))?, text }))
}

pub(in crate::store) fn read_run(row: &Row<'_>) -> Result<RunRow> {
    let state: String = row.get("state")?;
    let time = |column| -> Result<_> { Ok(row.get::<_, Option<i64>>(column)?.map(WallTime)) };
    let outcome: Option<String> = row.get("outcome")?;
    let is_success = row.get::<_, Option<bool>>("outcome_is_success")?.unwrap_or(false);
    let missing: Option<String> = row.get("closed_without")?;
    let by_hand = row.get::<_, Option<String>>("closed_by")?.zip(missing);
    let name_now: Option<Vec<u8>> = row.get("name_now")?;
    Ok(RunRow {
        drop: DirectoryName::new(row.get::<_, String>("drop_name")?),
        name: SourcePath::from_bytes(row.get_ref("run")?.as_blob()?),
        name_now: name_now.map(|name| SourcePath::from_bytes(&name)),
        state: RunState::parse(&state).ok_or_else(|| damaged("runs.state"))?,
        reason: read_reason(row)?,
        opened_at: WallTime(row.get("opened_at_ns")?),
        closed_at: time("closed_at_ns")?,
        outcome: outcome.map(|word| RunOutcome { word, is_success }),
        closed_by_hand: by_hand.map(|(by, missing)| ClosedByHand {
            by,
            missing: missing.lines().map(str::to_owned).collect(),
        }),
        is_stale: row.get("is_stale")?,
        completion: RunCompletion {
            generation: row.get("generation")?,
            at: time("completed_at_ns")?,
            receipt: read_line(row)?,
            ledgers: LedgerNumbers {
                first: row.get("first_ledger")?,
                last: row.get("last_ledger")?,
            },
        },
        files: RunFiles {
            count: unsigned(row, "file_count")?,
            size: ByteCount(unsigned(row, "size_bytes")?),
            closed_count: unsigned(row, "closed_file_count")?,
            given_up_count: unsigned(row, "given_up_count")?,
        },
    })
}
