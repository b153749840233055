//! Problems of a configuration, in words that lead to the cure.

use std::fmt;
use std::fmt::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Its position, when it is on a line.
    pub place: Option<ProblemPlace>,
    pub message: String,
    /// How to correct it, where that is known.
    pub hint: Option<String>,
}

/// A line of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProblemPlace {
    pub path: PathBuf,
    /// Counted from 1.
    pub line: usize,
    excerpt: Option<Excerpt>,
}

/// A line as far as it cannot contain a secret, and the marked part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Excerpt {
    text: String,
    meant: Range<usize>,
}

/// All problems of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems {
    pub path: PathBuf,
    /// The problems, in the order of lines.
    pub problems: Vec<Problem>,
}

impl Problems {
    /// The file cannot be read.
    pub(super) fn unreadable(path: &Path, error: &std::io::Error) -> Self {
        let hint = if error.kind() == std::io::ErrorKind::PermissionDenied {
            "only the daemon's group may read it. Ask the administrator: adduser YOU dropferry, then log \
             in again; or open the status page, http://127.0.0.1:8377/"
        } else {
            "name another with --config FILE or $DROPFERRY_CONFIG"
        };
        Self::of_file(path, format!("the configuration cannot be read: {error}"), hint.to_owned())
    }

    /// The file as a whole cannot be used.
    pub(super) fn of_file(path: &Path, message: String, hint: String) -> Self {
        let problem = Problem { place: None, message, hint: Some(hint) };
        Self { path: path.to_owned(), problems: vec![problem] }
    }

    /// Formats all of them, each with its line.
    pub(crate) fn shown(&self) -> String {
        let shown = |problem: &Problem| problem.shown(&self.path);
        self.problems.iter().map(shown).collect::<Vec<_>>().join("\n")
    }
}

impl Problem {
    /// Invalid TOML, an unknown key or a wrong type. `more` are additional allowed keys.
    pub(super) fn syntax(
        path: &Path,
        text: &str,
        error: &toml::de::Error,
        span: Option<Range<usize>>,
        more: &[&str],
    ) -> Self {
        let said = error.message().trim().replace('\n', " ");
        let (message, hint) = match (unknown_field(&said), WrongType::of(&said)) {
            (Some((key, mut allowed)), _) => {
                allowed.extend(more);
                unknown_key(key, &allowed, text, span.clone())
            }
            (None, Some(wrong)) => wrong.told(text, span.as_ref()),
            (None, None) => plain(&said, text, span.as_ref()),
        };
        let place = span.map(|span| ProblemPlace::new(path, text, span));
        Self { place, message, hint }
    }

    /// Returns its line, when it is on one.
    pub fn line(&self) -> Option<usize> {
        self.place.as_ref().map(|place| place.line)
    }

    /// Returns its file, if that is not the named one, and its line.
    pub(crate) fn at(&self, named: &Path) -> String {
        match &self.place {
            Some(place) => format!("{}:{}", place.path.display(), place.line),
            None => named.display().to_string(),
        }
    }

    fn shown(&self, named: &Path) -> String {
        let mut shown = format!("{}: {}", self.at(named), self.message);
        let place = self.place.as_ref();
        if let Some((place, excerpt)) = place.and_then(|at| Some((at, at.excerpt.as_ref()?))) {
            let meant = AnnotationKind::Primary.span(excerpt.meant.clone());
            let snippet = Snippet::source(&*excerpt.text).line_start(place.line).annotation(meant);
            let group = Group::with_level(Level::ERROR).element(snippet);
            write!(shown, "\n{}", Renderer::plain().render(&[group])).ok();
        }
        if let Some(hint) = &self.hint {
            write!(shown, "\nhint: {hint}").ok();
        }
        shown
    }
}

impl ProblemPlace {
    pub(super) fn new(path: &Path, text: &str, span: Range<usize>) -> Self {
        let line = line_of(text, span.start);
        Self { path: path.to_owned(), line, excerpt: Excerpt::of(text, span) }
    }
}

/// Keys whose values never contain a secret, not even by mistake: they may be shown.
const OPEN_KEYS: [&str; 58] = [
    "acl",
    "allow_plain_http",
    "app_result",
    "backup_interval",
    "backups_kept",
    "bandwidth",
    "bucket",
    "calls_per_second",
    "check_interval",
    "copy_only",
    "days",
    "delay_max",
    "delay_min",
    "destinations",
    "directory",
    "disk_free_min",
    "dispose_unverified",
    "disposition",
    "disposition_free_space",
    "disposition_grace",
    "every",
    "exclude",
    "folder",
    "format",
    "from",
    "inactivity_timeout",
    "include",
    "keep_parts",
    "listen",
    "memory",
    "move_to",
    "on",
    "order",
    "overwrite",
    "part_size",
    "part_size_min",
    "parts_in_flight",
    "path_style",
    "platform",
    "prefix",
    "priority",
    "profile",
    "project",
    "quiet_period",
    "region",
    "report",
    "requester_pays",
    "scan_interval",
    "sentinel",
    "stale_after",
    "start",
    "storage_class",
    "stuck_after",
    "unit",
    "unreachable_after",
    "until",
    "volume",
    "whole_file_digest",
];

impl Excerpt {
    /// Returns the line of a position. A possible secret is left out; so is a line that is neither
    /// a key nor a table.
    fn of(text: &str, span: Range<usize>) -> Option<Self> {
        let start = text.get(..span.start)?.rfind('\n').map_or(0, |at| at + 1);
        let line = text.get(start..)?.lines().next()?.trim_end();
        let clip = |at: usize, end: usize| at.saturating_sub(start).min(end);
        let range = |end: usize| {
            let from = clip(span.start, end.saturating_sub(1));
            // A parser's position may be within a character.
            let from = line.floor_char_boundary(from);
            from..line.ceil_char_boundary(clip(span.end, end).max(from + 1))
        };
        if line.is_empty() {
            return None;
        }
        if line.trim_start().starts_with('[') {
            return Some(Self { text: line.to_owned(), meant: range(line.len()) });
        }
        let (key, value) = line.split_once('=')?;
        let word = key.trim().rsplit('.').next().unwrap_or_default();
        let is_word = |c: char| c.is_ascii_lowercase() || "_-".contains(c);
        if word.is_empty() || word.len() > 30 || !word.chars().all(is_word) {
            return None;
        }
        if OPEN_KEYS.contains(&word) && !value.contains('@') {
            return Some(Self { text: line.to_owned(), meant: range(line.len()) });
        }
        let shown = format!("{}= …", key);
        let is_key = span.start < start + key.len();
        let meant = if is_key { range(key.trim_end().len()) } else { key.len() + 2..shown.len() };
        Some(Self { text: shown, meant })
    }
}

/// Returns the line of a byte offset, counted from 1.
pub(super) fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count() + 1
}

/// Describes invalid TOML by what is there.
fn plain(said: &str, text: &str, span: Option<&Range<usize>>) -> (String, Option<String>) {
    let Some(span) = span else { return (said.to_owned(), None) };
    let start = text.get(..span.start).and_then(|before| before.rfind('\n')).map_or(0, |at| at + 1);
    let line = text.get(start..).and_then(|rest| rest.lines().next()).unwrap_or_default().trim();
    if said == "duplicate key" {
        let (word, _) = line.split_once('=').unwrap_or((line, ""));
        let word = word.trim();
        let is_key = !line.starts_with('[');
        let mut before: Vec<_> =
            text.get(..start).unwrap_or_default().lines().enumerate().collect();
        if is_key {
            // Within its own table.
            let begin = before.iter().rposition(|(_, line)| line.trim_start().starts_with('['));
            before.drain(..begin.map_or(0, |at| at + 1));
        }
        let is_same = |line: &str| line.split('=').next().unwrap_or_default().trim() == word;
        let first = before.iter().find(|(_, line)| is_same(line)).map(|(index, _)| index + 1);
        let at = first.map_or(String::new(), |line| format!(": line {line} has it already"));
        let word = if is_key { "this key" } else { word };
        return (format!("{word} appears twice{at}"), None);
    }
    if line.contains(['\u{201c}', '\u{201d}', '\u{201e}', '\u{2018}', '\u{2019}']) {
        let hint = "use \" in their place".to_owned();
        return ("these are typographic quotes".to_owned(), Some(hint));
    }
    if said.starts_with("string values must be quoted") {
        return ("a text has to be in quotes".to_owned(), Some("KEY = \"VALUE\"".to_owned()));
    }
    let (message, hint) = if said.starts_with("invalid basic string") {
        ("a text in quotes does not end on its line", "end it with \"")
    } else if said.starts_with("unclosed table") {
        ("the name of this table does not end", "end it with ]")
    } else {
        return (said.to_owned(), None);
    };
    (message.to_owned(), Some(hint.to_owned()))
}

fn unknown_field(said: &str) -> Option<(&str, Vec<&str>)> {
    let rest = said.strip_prefix("unknown field `")?;
    let (key, rest) = rest.split_once('`')?;
    let allowed = rest.split('`').skip(1).step_by(2).collect();
    Some((key, allowed))
}

/// A value with a wrong type. It is never repeated: it may be a secret in place of the name of its
/// file.
struct WrongType<'a> {
    found: &'static str,
    wanted: &'a str,
}

impl<'a> WrongType<'a> {
    fn of(said: &'a str) -> Option<Self> {
        let said = ["invalid type: ", "invalid value: ", "invalid length "]
            .into_iter()
            .find_map(|begin| said.strip_prefix(begin))?;
        let (value, wanted) = said.rsplit_once(", expected ")?;
        // The value is in quotes of some kind.
        let found = match value.split(['`', '"']).next().unwrap_or_default().trim() {
            "string" | "character" => "a text",
            "integer" | "floating point" => "a number",
            "boolean" => "true or false",
            "sequence" => "a list",
            "map" => "a table",
            _ => "something else",
        };
        Some(Self { found, wanted })
    }

    fn told(self, text: &str, span: Option<&Range<usize>>) -> (String, Option<String>) {
        let key = span.and_then(|span| key_at(text, span));
        let wanted = match self.wanted {
            "a string" => "a text in quotes",
            "a boolean" => "true or false",
            "a sequence" => "a list in brackets",
            "a map" => "a table",
            "i32" | "i64" | "u32" | "u64" => "a whole number",
            "f64" => "a number",
            wanted if wanted.starts_with("struct ") => "a table",
            wanted => wanted,
        };
        let hint = key.filter(|key| key.contains("credential")).map(|key| {
            format!("a secret is kept in a file of its own: {key} = {{ file = \"NAME\" }}")
        });
        let table = span.and_then(|span| section(text, span)).unwrap_or_default();
        let table = table.trim_matches(['[', ']', ' ']).split('.').next().unwrap_or_default();
        let hint = hint.or_else(|| example(table, key?));
        let key = key.map_or_else(|| "this key".to_owned(), str::to_owned);
        (format!("{key} takes {wanted}, and not {}", self.found), hint)
    }
}

/// Returns the key of the value at a position.
fn key_at<'a>(text: &'a str, span: &Range<usize>) -> Option<&'a str> {
    let before = text.get(..span.start)?;
    let line = before.rsplit_once('\n').map_or(before, |(_, line)| line);
    let (key, between) = line.rsplit_once('=')?;
    let key = key.trim_end().rsplit([' ', '\t', '{', ',', '.']).next()?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    let is_direct = between.chars().all(|c| c.is_whitespace() || c == '[');
    (is_direct && !key.is_empty() && key.chars().all(is_plain)).then_some(key)
}

/// Returns whether a position is in the table of a credential, where a secret may have been written.
fn is_in_credential(text: &str, span: &Range<usize>, section: Option<&str>) -> bool {
    let before = text.get(..span.start).unwrap_or_default();
    let line = before.rsplit_once('\n').map_or(before, |(_, line)| line);
    let is_inline = line.rsplit_once('{').is_some_and(|(key, _)| key.contains("credential"));
    is_inline || section.is_some_and(|section| section.contains("credential"))
}

/// Returns the line that begins the table at a position.
fn section<'a>(text: &'a str, span: &Range<usize>) -> Option<&'a str> {
    let before = text.get(..span.start)?.rsplit_once('\n').map_or("", |(lines, _)| lines);
    before.lines().rev().find(|line| line.trim().starts_with('['))
}

/// Returns the key that was most likely meant by an unknown one.
pub(super) fn meant_key(error: &toml::de::Error, more: &[&str]) -> Option<String> {
    let said = error.message().trim().replace('\n', " ");
    let (key, mut allowed) = unknown_field(&said)?;
    allowed.extend(more);
    let meant = match key {
        _ if SECRET_WORDS.contains(&key) => Some("credential"),
        "url" => Some("url_file"),
        _ => nearest(key, &allowed),
    };
    meant.map(str::to_owned)
}

/// Keys under which people write a secret.
const SECRET_WORDS: [&str; 5] = ["token", "api_key", "key", "password", "secret"];

/// Returns the line of the default configuration with a key of a table.
pub(super) fn example(table: &str, key: &str) -> Option<String> {
    // Its default is no size.
    if key == "part_size" {
        return Some("part_size = \"64 MiB\"".to_owned());
    }
    let mut inside = "";
    for line in super::DEFAULT.lines() {
        let line = line.trim_start_matches(['#', ' ']);
        if let Some(name) = line.strip_prefix('[') {
            inside = name.trim_matches(['[', ']']).split('.').next()?;
        }
        let value = line.strip_prefix(key).and_then(|rest| rest.strip_prefix(" = "));
        if inside == table && value.is_some_and(|value| value != "\"\"") {
            return Some(line.to_owned());
        }
    }
    None
}

fn unknown_key(
    key: &str,
    allowed: &[&str],
    text: &str,
    span: Option<Range<usize>>,
) -> (String, Option<String>) {
    let section = span.as_ref().and_then(|span| section(text, span));
    let place = section.map_or(String::new(), |line| format!(" in {}", line.trim()));
    if let Some(at) = span.as_ref().and_then(|span| text.get(..span.start))
        && at.rsplit('\n').next().is_some_and(|line| line.trim_start().starts_with('['))
    {
        let hint = match nearest(key, allowed) {
            Some(near) => format!("did you mean [{near}]?"),
            None => format!("allowed are: {}", allowed.join(", ")),
        };
        return (format!("unknown table [{key}]"), Some(hint));
    }
    let near = nearest(key, allowed);
    let hint = match near {
        _ if SECRET_WORDS.contains(&key) && allowed.contains(&"credential") => {
            "a secret is kept in a file of its own: credential = { file = \"NAME\" }".to_owned()
        }
        _ if key == "url" && allowed.contains(&"url_file") => {
            "an address is a secret: url_file = \"NAME\", a file that holds it alone".to_owned()
        }
        Some(near) => format!("did you mean {near:?}?"),
        None => format!("allowed are: {}", allowed.join(", ")),
    };
    let may_be_secret = span.is_some_and(|span| is_in_credential(text, &span, section));
    match may_be_secret && near.is_none() {
        true => (format!("unknown key{place}"), Some(hint)),
        false => (format!("unknown key {key:?}{place}"), Some(hint)),
    }
}

/// Returns the word that needs the fewest changes, if they are few.
pub(super) fn nearest<'a>(word: &str, among: &[&'a str]) -> Option<&'a str> {
    nearest_words(word, among, 1).first().copied()
}

/// Returns the words that need few changes, the nearest first.
pub(crate) fn nearest_words<'a>(word: &str, among: &[&'a str], max: usize) -> Vec<&'a str> {
    let limit = word.len().div_ceil(3).max(1);
    let mut near: Vec<_> = among.iter().map(|other| (distance(word, other), *other)).collect();
    near.retain(|(changes, _)| *changes <= limit);
    near.sort_unstable();
    near.dedup();
    near.into_iter().take(max).map(|(_, other)| other).collect()
}

/// The number of changed, missing, added and swapped letters.
fn distance(one: &str, other: &str) -> usize {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=other.len()).collect()];
    for i in 1..=one.len() {
        let mut row = vec![i];
        for j in 1..=other.len() {
            let changed = rows[i - 1][j - 1] + usize::from(one[i - 1] != other[j - 1]);
            let mut best = changed.min(row[j - 1] + 1).min(rows[i - 1][j] + 1);
            if i > 1 && j > 1 && one[i - 1] == other[j - 2] && one[i - 2] == other[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[one.len()][other.len()]
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}: {}", problem.at(&self.path), problem.message)?;
            if let Some(hint) = &problem.hint {
                write!(f, "\nhint: {hint}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
