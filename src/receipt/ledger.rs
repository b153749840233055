//! The ledger: lines of JSON, each with the SHA-256 of itself and of the line before.
//!
//! *Owns* the chain: how a line is added to it, and how it is checked. *Promises*: finds a changed,
//! removed, inserted or moved line, and its position; a reader holds one line in memory. A chain does
//! not show that its end was cut off: for that its head, the number of lines and the last digest, must
//! be known from elsewhere. It does not write files (see `append.rs`), and never changes a line.
//!
//! A line's `sha256` is the SHA-256 of its text without the member `,"sha256":"…"`, which is the last one:
//! the bytes before that member, and `}`; the line feed is no part of it. `prev` is the `sha256` of the line
//! before, 64 zeros in the first. `seq` counts from 1.

use std::io::{self, BufRead, Read, Write};

use serde::Deserialize;
use serde::de::IgnoredAny;
use sha2::{Digest, Sha256};

use super::line::{LineBody, parse_sha256};
use super::rfc3339;
use crate::model::{Hex, WallTime, json_shown};

/// Begins the member with a line's own digest.
const DIGEST_MEMBER: &[u8] = b",\"sha256\":\"";
/// Length of the member and of the brace after it.
const DIGEST_LENGTH: usize = DIGEST_MEMBER.len() + 64 + 2;
/// Limit of a line's length: ten thousand parts, with the longest names and ETags, need less.
const LINE_MAX: u64 = 16 << 20;

pub use crate::model::LedgerHead;

impl LedgerHead {
    /// The head of a ledger without lines.
    pub const EMPTY: Self = Self { count: 0, sha256: [0; 32], length: 0 };

    /// Appends a line to `out` and advances the head to it. Returns its digest.
    pub fn append(
        &mut self,
        out: &mut Vec<u8>,
        stamp: &LineStamp<'_>,
        body: &LineBody,
    ) -> [u8; 32] {
        let start = out.len();
        let text = |text: &str| serde_json::Value::from(text).to_string();
        write!(
            out,
            "{{\"kind\":{},\"seq\":{},\"prev\":\"{}\",\"at\":\"{}\",\"host\":{},\"version\":\"{}\"",
            text(body.kind()),
            self.count + 1,
            Hex(&self.sha256),
            rfc3339(stamp.at),
            text(stamp.host),
            env!("CARGO_PKG_VERSION"),
        )
        .expect("memory takes what is written");
        body.write_members(out);
        escape(out, start);
        out.push(b'}');
        let sha256: [u8; 32] = Sha256::digest(&out[start..]).into();
        out.pop();
        out.extend_from_slice(DIGEST_MEMBER);
        writeln!(out, "{}\"}}", Hex(&sha256)).expect("memory takes what is written");
        let length = u64::try_from(out.len() - start).unwrap_or(u64::MAX);
        *self = Self { count: self.count + 1, sha256, length: self.length + length };
        sha256
    }
}

/// Escapes misleading characters, which are all beyond ASCII.
fn escape(out: &mut Vec<u8>, start: usize) {
    if out[start..].iter().all(|byte| *byte < 0x7f) {
        return;
    }
    // It was written as text.
    let text = String::from_utf8_lossy(&out[start..]).into_owned();
    out.truncate(start);
    out.extend_from_slice(json_shown(&text).as_bytes());
}

/// Writer and time of a line.
#[derive(Debug, Clone, Copy)]
pub struct LineStamp<'a> {
    pub at: WallTime,
    pub host: &'a str,
}

/// One valid line: its digest is correct, and it continues the line before.
#[derive(Debug, Clone)]
pub struct LedgerLine {
    /// Its text, without line feed.
    pub raw: Vec<u8>,
    /// Its offset in the file.
    pub offset: u64,
    pub seq: u64,
    pub prev: [u8; 32],
    pub sha256: [u8; 32],
    /// When it was written, RFC 3339 in UTC.
    pub at: String,
    /// Which host wrote it.
    pub host: String,
    pub version: String,
    pub kind: String,
}

impl LedgerLine {
    /// Describes how it differs from the known last line, if it is at that position.
    pub(super) fn departure(&self, known: LedgerHead) -> Option<String> {
        let is_another = self.seq == known.count && self.sha256 != known.sha256;
        is_another.then(|| format!("line {}: it is another than was written", self.seq))
    }

    /// Reads its content.
    ///
    /// # Errors
    /// When members that its kind has are missing or are of another type.
    pub fn body(&self) -> Result<LineBody, LedgerFault> {
        LineBody::parse(&self.kind, &self.raw).map_err(|error| self.unfit(&error))
    }

    /// Reads some of its members.
    ///
    /// # Errors
    /// As for [`Self::body`].
    pub fn members<'a, T: Deserialize<'a>>(&'a self) -> Result<T, LedgerFault> {
        serde_json::from_slice(&self.raw).map_err(|error| self.unfit(&error))
    }

    fn unfit(&self, error: &serde_json::Error) -> LedgerFault {
        let (kind, why) = (self.kind.clone(), error.to_string());
        LedgerFault::Body { line: self.seq, kind, why }
    }
}

/// Describes how a ledger is shorter than known.
pub(super) fn shortfall(found: LedgerHead, known: LedgerHead) -> Option<String> {
    let (count, had) = (found.count, known.count);
    (count < had).then(|| format!("it ends with line {count}, and had {had}"))
}

/// Why a ledger is invalid, and where.
#[derive(Debug, thiserror::Error)]
pub enum LedgerFault {
    #[error("it cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    #[error("line {line}: it has no end; the bytes from {offset} on are no whole line")]
    Torn { line: u64, offset: u64 },
    #[error("line {line}, at byte {offset}: it is no line of a ledger: {why}")]
    NoLine { line: u64, offset: u64, why: String },
    #[error("line {line}: its sha256 is {said}, and that of its text is {found}")]
    Changed { line: u64, said: String, found: String },
    #[error("line {line}: its prev is {said}, and the sha256 of the line before it is {before}")]
    Unchained { line: u64, said: String, before: String },
    #[error("line {line}: its seq is {seq}")]
    OutOfOrder { line: u64, seq: u64 },
    #[error("line {line}: its members do not fit its kind {kind}: {why}")]
    Body { line: u64, kind: String, why: String },
}

impl LedgerFault {
    /// Returns whether the text is an incomplete line, as an interrupted append leaves.
    pub fn is_torn(&self) -> bool {
        match self {
            Self::Torn { .. } | Self::NoLine { .. } => true,
            Self::Unreadable(_)
            | Self::Changed { .. }
            | Self::Unchained { .. }
            | Self::OutOfOrder { .. }
            | Self::Body { .. } => false,
        }
    }
}

/// The members of every line.
#[derive(Deserialize)]
struct CommonMembers {
    kind: String,
    seq: u64,
    prev: String,
    at: String,
    host: String,
    version: String,
}

impl CommonMembers {
    /// Reads them without the members of the kind, which are most of the line: every line has these first.
    fn read(raw: &[u8]) -> serde_json::Result<Self> {
        // No text contains these characters: its quotes are escaped.
        const LAST: &[u8] = b",\"version\":\"";
        let last = raw.windows(LAST.len()).position(|signs| signs == LAST);
        let end = last.and_then(|at| {
            let value = &raw[at + LAST.len()..];
            Some(at + LAST.len() + value.iter().position(|sign| *sign == b'"')? + 1)
        });
        match end {
            Some(end) => serde_json::from_slice(&[&raw[..end], b"}"].concat()),
            None => serde_json::from_slice(raw),
        }
    }
}

/// Reads a ledger line by line, and checks each. It ends at the end, or after the first fault.
#[derive(Debug)]
pub struct LedgerReader<R> {
    input: R,
    head: LedgerHead,
    /// The predecessor of the first line is known: the start, or a given head.
    knows_before: bool,
    is_over: bool,
}

impl<R: BufRead> LedgerReader<R> {
    pub fn new(input: R) -> Self {
        Self::behind(input, LedgerHead::EMPTY)
    }

    /// Reads the lines after a head; the input is at that position.
    pub fn behind(input: R, head: LedgerHead) -> Self {
        Self { input, head, knows_before: true, is_over: false }
    }

    /// Reads from a line that begins at `offset`; its predecessor is taken from the line itself.
    pub fn at(input: R, seq: u64, offset: u64) -> Self {
        let count = seq.saturating_sub(1);
        let head = LedgerHead { count, sha256: [0; 32], length: offset };
        Self { input, head, knows_before: false, is_over: false }
    }

    /// Returns the head of the valid lines so far.
    pub fn head(&self) -> LedgerHead {
        self.head
    }

    fn read(&mut self) -> Result<Option<LedgerLine>, LedgerFault> {
        let mut raw = Vec::new();
        (&mut self.input).take(LINE_MAX + 1).read_until(b'\n', &mut raw)?;
        if raw.is_empty() {
            return Ok(None);
        }
        let LedgerHead { count, length: offset, .. } = self.head;
        let length = u64::try_from(raw.len()).unwrap_or(u64::MAX);
        if raw.pop() != Some(b'\n') {
            return Err(LedgerFault::Torn { line: count + 1, offset });
        }
        let line = self.check(raw)?;
        self.knows_before = true;
        self.head = LedgerHead { count: line.seq, sha256: line.sha256, length: offset + length };
        Ok(Some(line))
    }

    fn check(&self, raw: Vec<u8>) -> Result<LedgerLine, LedgerFault> {
        let LedgerHead { count, sha256: before, length: offset } = self.head;
        let line = count + 1;
        let no_line = |why: &str| LedgerFault::NoLine { line, offset, why: why.to_owned() };
        let said = own_digest(&raw).ok_or_else(|| no_line("it does not end in its sha256"))?;
        let text = &raw[..raw.len() - DIGEST_LENGTH];
        let sha256: [u8; 32] =
            Sha256::new().chain_update(text).chain_update(b"}").finalize().into();
        if sha256 != said {
            // A text that is no JSON was never written as a line.
            serde_json::from_slice::<IgnoredAny>(&raw)
                .map_err(|error| no_line(&error.to_string()))?;
            let (said, found) = (Hex(&said).to_string(), Hex(&sha256).to_string());
            return Err(LedgerFault::Changed { line, said, found });
        }
        let common = CommonMembers::read(&raw).map_err(|error| no_line(&error.to_string()))?;
        let CommonMembers { kind, seq, prev, at, host, version } = common;
        if seq != line {
            return Err(LedgerFault::OutOfOrder { line, seq });
        }
        let before = match parse_sha256(&prev) {
            Some(named) if !self.knows_before => named,
            Some(_) | None => before,
        };
        if parse_sha256(&prev) != Some(before) {
            let before = Hex(&before).to_string();
            return Err(LedgerFault::Unchained { line, said: prev, before });
        }
        Ok(LedgerLine { raw, offset, seq, prev: before, sha256, at, host, version, kind })
    }
}

impl<R: BufRead> Iterator for LedgerReader<R> {
    type Item = Result<LedgerLine, LedgerFault>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let read = self.read().transpose();
        self.is_over = !matches!(read, Some(Ok(_)));
        read
    }
}

/// Returns the digest in which a line ends.
fn own_digest(raw: &[u8]) -> Option<[u8; 32]> {
    let at = raw.len().checked_sub(DIGEST_LENGTH)?;
    let digits = raw[at..].strip_prefix(DIGEST_MEMBER)?.strip_suffix(b"\"}")?;
    // Upper case means the same, but is never written.
    let is_as_written = !digits.iter().any(u8::is_ascii_uppercase);
    parse_sha256(str::from_utf8(digits).ok()?).filter(|_| is_as_written)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{SourcePath, UploadId};
    use crate::receipt::line::{ExportedLine, UploadLine, path_texts};

    const STAMP: LineStamp<'_> = LineStamp { at: WallTime(1_000_000_000), host: "seq-07" };

    fn upload(id: i64) -> LineBody {
        let mut line = UploadLine::example(id, "in/run/a");
        (line.source.path, line.source.path_bytes) =
            path_texts(&SourcePath::from_bytes(b"run/a\xff\xe2\x80\xae"));
        line.target.remote_name = "a\u{202e}".into();
        line.target.remote_etag = Some("e-2".into());
        line.proof.content_digest = Some("01010101010101010101010101010101-1".into());
        line.proof.whole_file_digests.sha256 = Some([9; 32]);
        line.course.begun_at = Some(WallTime(1));
        line.course.verified_at = Some(WallTime(1_500_000_000));
        line.course.attempt_count = 2;
        LineBody::Upload(Box::new(line))
    }

    fn other(kind: &str) -> LineBody {
        let members = [("what".to_owned(), 3.into())].into_iter().collect();
        LineBody::Other { kind: kind.into(), members }
    }

    fn bodies() -> Vec<LineBody> {
        let exported = LineBody::Exported(ExportedLine {
            id: UploadId(1),
            volume: "v".into(),
            location: "l".into(),
            job: "j".into(),
            exported_at: Some(WallTime(1)),
        });
        vec![upload(1), exported, other("handover"), other("of-a-later-version"), upload(2)]
    }

    fn ledger() -> (Vec<u8>, LedgerHead) {
        let (mut out, mut head) = (Vec::new(), LedgerHead::EMPTY);
        for body in bodies() {
            head.append(&mut out, &STAMP, &body);
        }
        (out, head)
    }

    fn read(bytes: &[u8]) -> (Vec<LineBody>, LedgerHead, Option<LedgerFault>) {
        let (mut reader, mut found) = (LedgerReader::new(bytes), Vec::new());
        let mut fault = None;
        for line in &mut reader {
            match line.and_then(|line| line.body()) {
                Ok(body) => found.push(body),
                Err(error) => fault = Some(error),
            }
        }
        (found, reader.head(), fault)
    }

    fn fault_of(lines: &[&[u8]]) -> String {
        let (_, _, fault) = read(&lines.concat());
        fault.expect("it does not hold").to_string()
    }

    #[test]
    fn what_was_written_is_read() {
        let (bytes, head) = ledger();
        let (found, read_head, fault) = read(&bytes);
        assert!(fault.is_none(), "{fault:?}");
        assert_eq!(found, bodies());
        assert_eq!(read_head, head);
        assert_eq!(head.length, bytes.len() as u64);
        let text = String::from_utf8(bytes).unwrap();
        let first = text.lines().next().unwrap();
        assert!(first.starts_with(
            "{\"kind\":\"upload\",\"seq\":1,\"prev\":\"0000000000000000000000000000000000000000\
             000000000000000000000000\",\"at\":\"1970-01-01T00:00:01Z\",\"host\":\"seq-07\",\
             \"version\":"
        ));
        assert!(!first.contains('\u{202e}') && !first.contains("null"), "{first}");
        let (told, digest) = first.rsplit_once(",\"sha256\":\"").unwrap();
        let own = Hex(&Sha256::digest(format!("{told}}}"))).to_string();
        assert_eq!(digest, format!("{own}\"}}"));
    }

    #[test]
    fn a_path_that_is_no_text_is_there_to_the_letter() {
        let (bytes, _) = ledger();
        let line = LedgerReader::new(&bytes[..]).next().unwrap().unwrap().body().unwrap();
        let source = &line.upload().unwrap().source;
        assert_eq!(source.path().unwrap().as_bytes(), b"run/a\xff\xe2\x80\xae");
        assert_eq!(source.run().unwrap().as_bytes(), b"run");
        assert_eq!(line.upload().unwrap().target.folder_and_name(), ("in/run", "a"));
    }

    #[test]
    fn every_way_to_change_a_ledger_is_found_where_it_is() {
        let (bytes, _) = ledger();
        let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
        let [a, b, c, d, e] = lines[..] else { panic!("five lines") };
        let changed = String::from_utf8(b.to_vec()).unwrap().replace("\"v\"", "\"w\"");
        let own = |text: &str| {
            let told = text.rsplit_once(",\"sha256\":\"").unwrap().0;
            let digest = Hex(&Sha256::digest(format!("{told}}}"))).to_string();
            format!("{told},\"sha256\":\"{digest}\"}}\n")
        };
        let resealed = own(&changed);
        let out_of_order = own(&String::from_utf8(c.to_vec()).unwrap().replace(":3,", ":4,"));
        let table = [
            (fault_of(&[a, changed.as_bytes(), c, d, e]), "line 2: its sha256 is "),
            (fault_of(&[a, resealed.as_bytes(), c, d, e]), "line 3: its prev is "),
            (fault_of(&[a, c, d, e]), "line 2: its seq is 3"),
            (fault_of(&[b, c, d, e]), "line 1: its seq is 2"),
            (fault_of(&[a, b, b, c, d, e]), "line 3: its seq is 2"),
            (fault_of(&[a, c, b, d, e]), "line 2: its seq is 3"),
            (fault_of(&[a, b, out_of_order.as_bytes(), d, e]), "line 3: its seq is 4"),
            (fault_of(&[a, b"\n", b]), "line 2, at byte "),
            (fault_of(&[a, b"{}\n", b]), "line 2, at byte "),
            (fault_of(&[a, &[0; 4096]]), "line 2: it has no end"),
            (fault_of(&[a, &b[..b.len() - 1]]), "line 2: it has no end"),
        ];
        for (fault, begins) in table {
            assert!(fault.starts_with(begins), "{fault}, not {begins}");
        }
        // A chain does not show a cut end; the head does.
        let (_, head, fault) = read(&[a, b].concat());
        assert!(fault.is_none() && head != ledger().1);
    }

    #[test]
    fn a_torn_tail_is_found_at_its_byte_and_what_is_before_it_holds() {
        let (bytes, head) = ledger();
        let whole = bytes.split_inclusive(|byte| *byte == b'\n').next().unwrap().len();
        for end in [whole + 1, whole + 40, bytes.len() - 1] {
            let (found, held, fault) = read(&bytes[..end]);
            let fault = fault.unwrap();
            assert!(fault.is_torn(), "{fault}");
            assert!(fault.to_string().contains(&held.length.to_string()), "{fault}");
            // Lines after a head are valid as a whole.
            let at = usize::try_from(held.length).unwrap();
            let mut rest = LedgerReader::behind(&bytes[at..], held);
            assert_eq!(found.len() + (&mut rest).filter(Result::is_ok).count(), 5);
            assert_eq!(rest.head(), head);
        }
    }

    #[test]
    fn a_line_longer_than_any_is_none() {
        let endless = io::repeat(b'x').take(LINE_MAX * 2);
        let fault = LedgerReader::new(io::BufReader::new(endless)).next().unwrap().unwrap_err();
        assert!(fault.is_torn(), "{fault}");
    }
}
