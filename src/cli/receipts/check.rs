//! The validity of ledgers: every line is unchanged and follows the one before, and the end is there.

use std::io::Write;

use super::Chosen;
use crate::cli::render::{Form, Lines};
use crate::cli::shelf::CheckedLedger;
use crate::cli::{Exit, render};
use crate::model::{Hex, LedgerHead};
use crate::receipt::place::LedgerName;
use crate::store::snapshot::Snapshot;

/// The result for one ledger.
struct CheckFinding {
    checked: CheckedLedger,
    /// How it differs from its row.
    departure: Option<String>,
    /// The line with the requested digest.
    wanted: Option<u64>,
}

/// Checks every selected ledger; with `wanted` also whether one of them has that line.
pub(super) fn execute(
    chosen: &Chosen<'_>,
    snapshot: Option<&Snapshot>,
    wanted: Option<[u8; 32]>,
) -> anyhow::Result<Exit> {
    let mut out = Lines::new(Form::Text);
    let (mut has_ledger, mut holds, mut has_head) = (false, true, wanted.is_none());
    for name in chosen.runs.iter().flat_map(|run| &run.names) {
        let found = find(chosen, snapshot, name, wanted)?;
        writeln!(out, "{}", sentence(&found))?;
        if let Some(seq) = found.wanted {
            let after = match found.checked.head.count - seq {
                0 => "the last line".to_owned(),
                1 => format!("line {seq}; 1 line came after it"),
                count => format!("line {seq}; {count} lines came after it"),
            };
            writeln!(out, "the head that is asked for is {after}")?;
        }
        has_ledger = true;
        has_head |= found.wanted.is_some();
        holds &= found.checked.fault.is_none() && found.departure.is_none();
    }
    out.flush()?;
    if !has_ledger {
        render::talk("there is no ledger of that");
    } else if !has_head {
        render::talk(
            "the head that is asked for is in none of them: the end of the ledger was cut off, or it is the \
             head of another one",
        );
    }
    Ok(if has_ledger && holds && has_head { Exit::Fine } else { Exit::Failed })
}

fn find(
    chosen: &Chosen<'_>,
    snapshot: Option<&Snapshot>,
    name: &LedgerName,
    wanted: Option<[u8; 32]>,
) -> anyhow::Result<CheckFinding> {
    let known = match snapshot {
        Some(snapshot) => snapshot.known_ledger(name.as_str())?.head,
        None => LedgerHead::EMPTY,
    };
    let (mut found, mut is_other) = (None, false);
    let checked = chosen.shelf.check_one(name, |line| {
        found = found.or(Some(line.seq).filter(|_| Some(line.sha256) == wanted));
        is_other |= line.seq == known.count && line.sha256 != known.sha256;
        anyhow::Ok(())
    })?;
    let departure = if is_other {
        Some(format!("line {} is not the one that the database knows", known.count))
    } else if checked.head.count < known.count {
        let (count, sha256) = (known.count, Hex(&known.sha256));
        Some(format!("the database knows {count} lines, the last {sha256}"))
    } else {
        None
    };
    Ok(CheckFinding { checked, departure, wanted: found })
}

fn sentence(found: &CheckFinding) -> String {
    let CheckedLedger { name, head, fault } = &found.checked;
    let lines = if head.count == 1 { "line" } else { "lines" };
    let verdict = match (fault, &found.departure) {
        (Some(fault), _) => format!("does not hold: {fault}"),
        (None, Some(departure)) => format!("does not hold: {departure}"),
        (None, None) => "holds".to_owned(),
    };
    format!("{name}: {} {lines}, head {}: {verdict}", head.count, Hex(&head.sha256))
}
