//! The paths of ledgers: `STATE/receipts/<drop directory>/<run>.jsonl`.
//!
//! Names are escaped flat, so that no file name can be the ledger name of another, lead into
//! another directory or be too long: bytes other than letters, digits and `. _ - + = , @` become
//! `%XX`, and so does a leading dot. An escaped name that is too long is cut and ends in `~` and 16
//! hexadecimal digits of the SHA-256 of the whole. An escaped name has no other `~`.

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::directory;
use crate::model::{Hex, LEDGER_SUFFIX as SUFFIX, LedgerPath, SourcePath, WallTime, split_ledger};

/// Longest escaped name: leaves room for number, suffix and the additions to a torn tail's name.
const ESCAPED_MAX: usize = 200;
/// The ledger name of files that are their own runs begins with this.
const FILES: &str = "~files-";

/// Names one ledger by its path below the directory of receipts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LedgerName(String);

impl LedgerName {
    /// Returns the ledger of a run.
    pub fn of_run(drop: &str, run: &SourcePath) -> Self {
        Self(format!("{}/{}{SUFFIX}", escaped(drop.as_bytes()), escaped(run.as_bytes())))
    }

    /// Returns the ledger of files that are their own runs: one for each month, in UTC.
    pub fn of_files(drop: &str, at: WallTime) -> Self {
        let at = jiff::Timestamp::from_nanosecond(i128::from(at.0)).unwrap_or_default();
        let month = at.to_zoned_datetime(jiff::tz::TimeZone::UTC).strftime("%Y-%m");
        Self(format!("{}/{FILES}{month}{SUFFIX}", escaped(drop.as_bytes())))
    }

    /// Parses a path below the directory of receipts; `None` unless it is that of a ledger.
    pub fn parse(text: &str) -> Option<Self> {
        let (drop, file) = text.split_once('/')?;
        let stem = file.strip_suffix(SUFFIX)?;
        let is_plain = !drop.is_empty() && !stem.is_empty() && !file.contains('/');
        (is_plain && !text.contains('\0')).then(|| Self(text.to_owned()))
    }

    /// Returns the ledger of the same name with a number: `<run>~2.jsonl`. The first has none.
    #[must_use]
    pub fn numbered(&self, number: u32) -> Self {
        let (base, _) = split_ledger(&self.0);
        match number {
            0 | 1 => Self(format!("{base}{SUFFIX}")),
            _ => Self(format!("{base}~{number}{SUFFIX}")),
        }
    }

    /// Returns its number among those of the same name, from 1.
    pub fn number(&self) -> u32 {
        split_ledger(&self.0).1
    }

    /// Returns the escaped name of its drop directory.
    pub fn drop(&self) -> &str {
        self.0.split('/').next().unwrap_or_default()
    }

    /// Returns whether it holds files that are their own runs.
    pub fn is_of_files(&self) -> bool {
        self.0.split('/').nth(1).is_some_and(|file| file.starts_with(FILES))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns its path as rows have it.
    pub fn ledger_path(&self) -> LedgerPath {
        LedgerPath::new(self.as_str())
    }

    /// Returns its path.
    pub fn path(&self, state: &Path) -> PathBuf {
        directory(state).join(&self.0)
    }
}

impl fmt::Display for LedgerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Lists the ledgers of a state directory, in the order of their names and numbers; other files are left out.
///
/// # Errors
/// When a directory cannot be read. A missing one has no ledgers.
pub fn ledgers(state: &Path) -> io::Result<Vec<LedgerName>> {
    let mut found = Vec::new();
    for drop in names_in(&directory(state))? {
        for file in names_in(&directory(state).join(&drop))? {
            found.extend(LedgerName::parse(&format!("{drop}/{file}")));
        }
    }
    found.sort_by_cached_key(|name| (name.numbered(1), name.number()));
    Ok(found)
}

/// A name that is no UTF-8 belongs to no ledger.
fn names_in(directory: &Path) -> io::Result<Vec<String>> {
    let listed = match fs::read_dir(directory) {
        Ok(listed) => listed,
        Err(error) => {
            let is_none =
                matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory);
            return if is_none { Ok(Vec::new()) } else { Err(error) };
        }
    };
    let name = |entry: io::Result<fs::DirEntry>| Ok(entry?.file_name().into_string().ok());
    listed.filter_map(|entry| name(entry).transpose()).collect()
}

/// Escapes a name to a file name that no other name has.
pub fn escaped(name: &[u8]) -> String {
    let mut out = String::with_capacity(name.len());
    let mut cut = 0;
    for (at, byte) in name.iter().enumerate() {
        // Leaves room for `~` and a digest.
        if out.len() <= ESCAPED_MAX - 17 {
            cut = out.len();
        }
        match byte {
            b'.' if at == 0 => out.push_str("%2E"),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => out.push(char::from(*byte)),
            b'.' | b'_' | b'-' | b'+' | b'=' | b',' | b'@' => out.push(char::from(*byte)),
            _ => {
                out.push('%');
                out.push_str(&format!("{byte:02X}"));
            }
        }
    }
    if out.len() > ESCAPED_MAX {
        out.truncate(cut);
        out.push('~');
        out.push_str(&Hex(&Sha256::digest(name)[..8]).to_string());
    }
    out
}

/// Returns the original name; `None` for one that was cut, or is not escaped like this.
pub fn unescaped(name: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((byte, tail)) = rest.split_first() {
        rest = tail;
        match byte {
            b'~' => return None,
            b'%' => {
                let (digits, tail) = rest.split_at_checked(2)?;
                rest = tail;
                out.push(u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?);
            }
            _ => out.push(*byte),
        }
    }
    Some(out)
}

/// Returns the path where the torn tail of a ledger is kept.
pub fn torn_path(ledger: &Path, at: WallTime) -> PathBuf {
    let at = jiff::Timestamp::from_nanosecond(i128::from(at.0)).unwrap_or_default();
    let at =
        at.to_zoned_datetime(jiff::tz::TimeZone::UTC).strftime("%Y%m%dT%H%M%S.%9fZ").to_string();
    let mut name = ledger.file_name().unwrap_or(OsStr::from_bytes(b"ledger")).to_owned();
    name.push(".torn-");
    name.push(at);
    ledger.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(run: &[u8]) -> LedgerName {
        LedgerName::of_run("lab", &SourcePath::from_bytes(run))
    }

    #[test]
    fn no_two_names_have_one_ledger_and_none_leads_elsewhere() {
        let long = [b'x'; 255];
        let longer = [&[b'x'; 254][..], b"y"].concat();
        let names: [&[u8]; 22] = [
            b"run",
            b"RUN",
            b"group/run",
            b"group%2Frun",
            b"group~run",
            b"run~2",
            b"run~2.jsonl",
            b"..",
            b".",
            b".jsonl",
            b"%2E%2E",
            b"a b",
            b"a+b",
            b"a\xffb",
            b"a\nb",
            b"a\\xffb",
            b"~files-2026-11",
            b"files-2026-11",
            &long,
            &longer,
            &[0xff; 255],
            &[b'/'; 4000],
        ];
        let mut seen = std::collections::BTreeMap::new();
        for name in names {
            for number in [1, 2, 13] {
                let ledger = of(name).numbered(number);
                let file = ledger.as_str().strip_prefix("lab/").unwrap();
                assert!(file.len() <= 215 && !file.contains('/') && !file.starts_with('.'));
                assert_eq!(ledger.number(), number, "{ledger}");
                assert_eq!(LedgerName::parse(ledger.as_str()).as_ref(), Some(&ledger));
                let other = seen.insert(ledger.clone(), (name, number));
                assert_eq!(other, None, "{ledger} of {name:?}");
            }
        }
        assert_eq!(of(b"group/run 1").as_str(), "lab/group%2Frun%201.jsonl");
        assert_eq!(of(b"run").numbered(3).as_str(), "lab/run~3.jsonl");
        assert!(!seen.contains_key(&LedgerName::of_files("lab", WallTime(0))));
        assert_eq!(LedgerName::of_files("lab", WallTime(0)).as_str(), "lab/~files-1970-01.jsonl");
        assert!(LedgerName::of_files("..", WallTime(0)).as_str().starts_with("%2E./~files-"));
    }

    #[test]
    fn an_escaped_name_can_be_read_back_unless_it_was_cut() {
        for name in [&b"group/run"[..], b"~a%\xff\n ", b".hidden", b"%2E"] {
            assert_eq!(unescaped(&escaped(name)).as_deref(), Some(name));
        }
        assert_eq!(unescaped(&escaped(&[b'x'; 255])), None);
        let odd = [b"a", &[b' '; 254][..]].concat();
        assert_eq!(escaped(&odd).len(), 181 + 17, "no escape is cut in two");
    }

    #[test]
    fn ledgers_are_listed_and_nothing_else() {
        let state = tempfile::tempdir().unwrap();
        assert_eq!(ledgers(state.path()).unwrap(), []);
        for file in ["lab/b.jsonl", "lab/a~2.jsonl", "hand/~files-2026-11.jsonl"] {
            let path = directory(state.path()).join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "").unwrap();
        }
        let torn = torn_path(&directory(state.path()).join("lab/b.jsonl"), WallTime(1));
        assert!(torn.ends_with("lab/b.jsonl.torn-19700101T000000.000000001Z"), "{torn:?}");
        fs::write(&torn, "").unwrap();
        fs::write(directory(state.path()).join("stray.jsonl"), "").unwrap();
        let found = ledgers(state.path()).unwrap();
        let found: Vec<_> = found.iter().map(LedgerName::as_str).collect();
        assert_eq!(found, ["hand/~files-2026-11.jsonl", "lab/a~2.jsonl", "lab/b.jsonl"]);
    }
}
