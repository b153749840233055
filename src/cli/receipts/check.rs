//! Whether ledgers hold: every line is as it was written and follows the one before, and the end is there.

use std::io::{self, Write};

use super::Chosen;
use super::shelf::CheckedLedger;
use crate::cli::render::{Form, Lines};
use crate::cli::{Exit, render};
use crate::model::Hex;

/// Checks every ledger of what is asked for; with `wanted` also whether one of them has that line.
pub(super) fn execute(chosen: &Chosen<'_>, wanted: Option<[u8; 32]>) -> anyhow::Result<Exit> {
    let mut out = Lines::new(Form::Text);
    let (mut has_ledger, mut holds, mut has_head) = (false, true, wanted.is_none());
    for name in chosen.runs.iter().flat_map(|run| &run.names) {
        let mut seq = None;
        let checked = chosen.shelf.check_one(name, |line| {
            seq = seq.or(Some(line.seq).filter(|_| Some(line.sha256) == wanted));
            io::Result::Ok(())
        })?;
        writeln!(out, "{}", sentence(&checked))?;
        if let Some(seq) = seq {
            let after = match checked.head.count - seq {
                0 => "the last line".to_owned(),
                1 => format!("line {seq}; 1 line came after it"),
                count => format!("line {seq}; {count} lines came after it"),
            };
            writeln!(out, "the head that is asked for is {after}")?;
        }
        has_ledger = true;
        has_head |= seq.is_some();
        holds &= checked.fault.is_none();
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

fn sentence(checked: &CheckedLedger) -> String {
    let CheckedLedger { name, head, fault } = checked;
    let lines = if head.count == 1 { "line" } else { "lines" };
    let verdict = match fault {
        None => "holds".to_owned(),
        Some(fault) => format!("does not hold: {fault}"),
    };
    format!("{name}: {} {lines}, head {}: {verdict}", head.count, Hex(&head.sha256))
}
