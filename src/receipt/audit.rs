//! Checks that a ledger matches its rows: every line is valid, and it has at least the known lines.
//!
//! Reads one line at a time, and changes nothing. Lines after those that the rows know are no
//! damage: they are durable, and their records are in progress.

use std::io::{self, BufReader};
use std::path::Path;

use super::ledger::{LedgerFault, LedgerReader, shortfall};
use super::place::LedgerName;
use crate::model::{LedgerHead, LedgerPath};

const READ_BYTES: usize = 256 << 10;

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum LedgerVerdict {
    /// It is valid up to this head.
    Holds(LedgerHead),
    Damaged(String),
    /// The check was cancelled.
    Halted,
}

/// Checks a ledger from its first line to its last.
///
/// # Errors
/// When it cannot be read, which proves nothing about its content.
pub(crate) fn audit(
    state: &Path,
    ledger: &LedgerPath,
    known: LedgerHead,
    is_halted: impl Fn() -> bool,
) -> io::Result<LedgerVerdict> {
    let damaged = |why: &str| Ok(LedgerVerdict::Damaged(why.to_owned()));
    let Some(name) = LedgerName::parse(ledger.as_str()) else {
        return damaged("its name is none of a ledger");
    };
    let path = name.path(state);
    let file = match super::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return damaged("it is missing"),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            return damaged("it is no file");
        }
        opened => BufReader::with_capacity(READ_BYTES, opened?),
    };
    let (mut lines, mut fault) = (LedgerReader::new(file), None);
    for line in &mut lines {
        match line {
            Ok(line) => {
                if let Some(why) = line.departure(known) {
                    return Ok(LedgerVerdict::Damaged(why));
                }
                if is_halted() {
                    return Ok(LedgerVerdict::Halted);
                }
            }
            Err(LedgerFault::Unreadable(error)) => return Err(error),
            Err(found) => fault = Some(found),
        }
    }
    let head = lines.head();
    Ok(match (fault, shortfall(head, known)) {
        // A line that is being written.
        (Some(fault), None) if fault.is_torn() => LedgerVerdict::Holds(head),
        (Some(fault), _) => LedgerVerdict::Damaged(fault.to_string()),
        (None, Some(why)) => LedgerVerdict::Damaged(why),
        (None, None) => LedgerVerdict::Holds(head),
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::model::WallTime;
    use crate::receipt::ledger::LineStamp;
    use crate::receipt::line::LineBody;

    fn ledger() -> (Vec<u8>, [LedgerHead; 3]) {
        let (mut text, mut head) = (Vec::new(), LedgerHead::EMPTY);
        let heads = std::array::from_fn(|index| {
            let members = [("what".to_owned(), index.into())].into_iter().collect();
            let body = LineBody::Other { kind: "renamed".into(), members };
            head.append(&mut text, &LineStamp { at: WallTime(0), host: "h" }, &body);
            head
        });
        (text, heads)
    }

    #[test]
    fn a_ledger_is_held_against_what_the_rows_know() {
        let state = tempfile::tempdir().unwrap();
        let path = state.path().join("receipts/lab/run.jsonl");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let name = LedgerPath::new("lab/run.jsonl");
        let (text, heads) = ledger();
        let at = |count: usize| usize::try_from(heads[count - 1].length).unwrap();
        let other = LedgerHead { sha256: [7; 32], ..heads[1] };
        let torn = [&text[..], b"{\"kind\""].concat();
        let mut changed = text.clone();
        changed[at(2) + 12] ^= 1;
        let holds = |head| LedgerVerdict::Holds(head);
        let damaged = |why: &str| LedgerVerdict::Damaged(why.to_owned());
        for (text, known, verdict) in [
            (&text[..], heads[2], holds(heads[2])),
            (&text, heads[1], holds(heads[2])),
            (&torn, heads[2], holds(heads[2])),
            (&text[..at(2)], heads[2], damaged("it ends with line 2, and had 3")),
            (&text, other, damaged("line 2: it is another than was written")),
            (b"", heads[0], damaged("it ends with line 0, and had 1")),
        ] {
            fs::write(&path, text).unwrap();
            assert_eq!(audit(state.path(), &name, known, || false).unwrap(), verdict);
        }
        for (text, known) in [(&changed, heads[1]), (&torn, LedgerHead { count: 4, ..heads[2] })] {
            fs::write(&path, text).unwrap();
            let verdict = audit(state.path(), &name, known, || false).unwrap();
            assert!(matches!(&verdict, LedgerVerdict::Damaged(why) if why.starts_with("line ")));
        }
        let halted = audit(state.path(), &name, heads[2], || true).unwrap();
        assert_eq!(halted, LedgerVerdict::Halted);
        fs::remove_file(&path).unwrap();
        let missing = audit(state.path(), &name, heads[2], || false).unwrap();
        assert_eq!(missing, damaged("it is missing"));
    }
}
