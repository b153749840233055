//! All output passes here: data to standard output, messages to standard error.
//!
//! No text from a file name, a platform or an order controls the terminal, and no registered secret
//! is printed: whole output is escaped and scrubbed, whatever its source. A value within a line is
//! escaped with its line breaks where the line is made: by [`table`], or by [`Shown`].

use std::io::{self, IsTerminal, Write};

use super::layout::{self, Sheet};
use crate::clock::Clock;
use crate::model::{ByteCount, Shown, WallTime, json_shown, lasted, lines_shown};
pub(super) use crate::notify::host;
use crate::receipt::rfc3339;
use crate::telemetry::{scrub, scrub_secrets};

/// Prints data.
pub(super) fn data(text: &str) -> io::Result<()> {
    document(&lines_shown(&scrub_secrets(text)))
}

/// Prints the program's own text, unchanged.
pub(super) fn document(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    if !text.ends_with('\n') {
        out.write_all(b"\n")?;
    }
    out.flush()
}

/// Prints a value as JSON.
pub(super) fn json(value: &serde_json::Value) -> io::Result<()> {
    data(&json_shown(&format!("{value:#}")))
}

/// Prints lines, which are escaped, in colour where standard output accepts it.
pub(super) fn sheet(sheet: &Sheet) -> io::Result<()> {
    let text = if layout::has_colour() { sheet.coloured() } else { sheet.plain() };
    document(&scrub_secrets(&text))
}

/// Prints a message; failures are ignored.
pub(super) fn talk(text: &str) {
    writeln!(io::stderr().lock(), "{}", lines_shown(&scrub(text))).ok();
}

/// The format of a listing's lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// As [`data`].
    Text,
    /// As [`json`].
    Json,
    /// For a program, byte by byte; on a terminal as text.
    Bytes,
}

/// Prints the lines of a listing one by one, without collecting them.
#[derive(Debug)]
pub(super) struct Lines<W: Write> {
    out: io::BufWriter<W>,
    form: Form,
    line: Vec<u8>,
}

impl Lines<io::StdoutLock<'static>> {
    /// Prints to standard output.
    pub(super) fn new(form: Form) -> Self {
        let out = io::stdout().lock();
        let form = if form == Form::Bytes && out.is_terminal() { Form::Text } else { form };
        Self { out: io::BufWriter::new(out), form, line: Vec::new() }
    }
}

impl<W: Write> Lines<W> {
    fn write_line(&mut self) -> io::Result<()> {
        if self.form == Form::Bytes {
            self.out.write_all(&self.line)?;
        } else {
            let text = String::from_utf8_lossy(&self.line);
            let text = scrub_secrets(&text);
            let shown =
                if self.form == Form::Json { json_shown(&text) } else { lines_shown(&text) };
            self.out.write_all(shown.as_bytes())?;
        }
        self.line.clear();
        Ok(())
    }
}

impl<W: Write> Write for Lines<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                self.write_line()?;
            }
        }
        Ok(bytes.len())
    }

    /// Also prints a line without an end.
    fn flush(&mut self) -> io::Result<()> {
        self.write_line()?;
        self.out.flush()
    }
}

/// Returns whether an error only means that the reader has read enough.
pub(super) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let of = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
    };
    error.chain().any(of)
}

/// Formats a time for JSON: RFC 3339 in UTC, or null.
pub(super) fn time(at: Option<WallTime>) -> serde_json::Value {
    at.map_or(serde_json::Value::Null, |at| rfc3339(at).into())
}

/// Formats a time for people: local, to the second.
pub(super) fn moment(at: Option<WallTime>) -> String {
    at.map_or_else(|| "-".to_owned(), |at| Clock::real().local_text(at))
}

/// Formats a rate for people: in the unit that gives a round number.
pub(super) fn rate(bytes: u64) -> String {
    let units = [(1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    let is_round = |(unit, _): &&(u64, &str)| bytes >= *unit && (bytes * 10).is_multiple_of(*unit);
    match units.iter().find(is_round).filter(|_| !bytes.is_multiple_of(1 << 20)) {
        Some((unit, name)) => {
            let tenths = bytes * 10 / unit;
            let part =
                if tenths.is_multiple_of(10) { String::new() } else { format!(".{}", tenths % 10) };
            format!("{}{part} {name}/s", tenths / 10)
        }
        None => format!("{}/s", self::bytes(bytes)),
    }
}

/// Formats a share for people, in whole percent.
pub(super) fn percent(part: u64, whole: u64) -> String {
    match whole {
        0 => "100 %".into(),
        _ => format!("{} %", u128::from(part) * 100 / u128::from(whole)),
    }
}

/// Formats a duration for people, in its two largest units.
pub(super) fn duration(seconds: u64) -> String {
    lasted(seconds)
}

/// Formats a count of bytes for people.
pub(super) fn bytes(count: u64) -> String {
    ByteCount(count).to_string()
}

/// Formats rows as a table: every column as wide as its widest cell, except the last. Cells are
/// escaped.
pub(super) fn table(rows: &[Vec<String>]) -> String {
    let shown = |row: &Vec<String>| row.iter().map(|cell| Shown(cell).to_string()).collect();
    let rows: Vec<Vec<String>> = rows.iter().map(shown).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| layout::width(cell))
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<_> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{}  ", layout::padded(cell, *width)));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
