//! Everything that is printed passes here: data to standard output, talk to standard error.

use std::io::{self, Write};

use crate::model::{ByteCount, WallTime};
use crate::receipt::rfc3339;

/// Prints data.
///
/// # Errors
/// When standard output is closed or full.
pub(super) fn data(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    if !text.ends_with('\n') {
        out.write_all(b"\n")?;
    }
    out.flush()
}

/// Prints a value as JSON.
///
/// # Errors
/// As [`data`].
pub(super) fn json(value: &serde_json::Value) -> io::Result<()> {
    data(&format!("{value:#}"))
}

/// Prints talk; there is nobody to tell when that fails.
pub(super) fn talk(text: &str) {
    writeln!(io::stderr().lock(), "{text}").ok();
}

/// Tells whether an error only means that the reader has read enough.
pub(super) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let of = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
    };
    error.chain().any(of)
}

/// A moment for JSON: RFC 3339 in UTC, or null.
pub(super) fn time(at: Option<WallTime>) -> serde_json::Value {
    at.map_or(serde_json::Value::Null, |at| rfc3339(at).into())
}

/// A share for people, in whole percent.
pub(super) fn percent(part: u64, whole: u64) -> String {
    match whole {
        0 => "100 %".into(),
        _ => format!("{} %", u128::from(part) * 100 / u128::from(whole)),
    }
}

/// A duration for people, in its two largest units.
pub(super) fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86400, seconds % 86400 / 3600),
    }
}

/// A count of bytes for people.
pub(super) fn bytes(count: u64) -> String {
    ByteCount(count).to_string()
}

/// Rows as a table: every column as wide as its widest cell, the last as long as it is.
pub(super) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<_> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:width$}  "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
