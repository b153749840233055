//! What is wrong with a configuration, in words that lead to the cure.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The line, counted from 1, when it stands on one.
    pub line: Option<usize>,
    /// What was found, and what is allowed.
    pub message: String,
    /// How to mend it, when we know.
    pub hint: Option<String>,
}

/// Everything that is wrong with one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems {
    /// The file.
    pub path: PathBuf,
    /// What is wrong, in the order of lines.
    pub problems: Vec<Problem>,
}

impl Problems {
    /// The file cannot be read.
    pub(super) fn unreadable(path: &Path, error: &std::io::Error) -> Self {
        let hint = "name another with --config FILE or $DROPFERRY_CONFIG".to_owned();
        let problem = Problem {
            line: None,
            message: format!("the configuration cannot be read: {error}"),
            hint: Some(hint),
        };
        Self { path: path.to_owned(), problems: vec![problem] }
    }

    /// The file is no TOML, or has an unknown key or a wrong type.
    pub(super) fn syntax(path: &Path, text: &str, error: &toml::de::Error) -> Self {
        let said = error.message().trim().replace('\n', " ");
        let (message, hint) = match unknown_field(&said) {
            Some((key, allowed)) => unknown_key(key, &allowed, text, error.span()),
            None => (said, None),
        };
        let line = error.span().map(|span| line_of(text, span.start));
        Self { path: path.to_owned(), problems: vec![Problem { line, message, hint }] }
    }
}

/// Returns the line of a byte, counted from 1.
pub(super) fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count() + 1
}

fn unknown_field(said: &str) -> Option<(&str, Vec<&str>)> {
    let rest = said.strip_prefix("unknown field `")?;
    let (key, rest) = rest.split_once('`')?;
    let allowed = rest.split('`').skip(1).step_by(2).collect();
    Some((key, allowed))
}

fn unknown_key(
    key: &str,
    allowed: &[&str],
    text: &str,
    span: Option<Range<usize>>,
) -> (String, Option<String>) {
    let section = span.and_then(|span| {
        let before =
            text[..span.start.min(text.len())].rsplit_once('\n').map_or("", |(lines, _)| lines);
        before.lines().rev().find(|line| line.trim().starts_with('['))
    });
    let place = section.map_or(String::new(), |line| format!(" in {}", line.trim()));
    let hint = match nearest(key, allowed) {
        Some(near) => format!("did you mean {near:?}?"),
        None => format!("allowed are: {}", allowed.join(", ")),
    };
    (format!("unknown key {key:?}{place}"), Some(hint))
}

/// Returns the word that needs the fewest changes, when they are few.
pub(super) fn nearest<'a>(word: &str, among: &[&'a str]) -> Option<&'a str> {
    let best = among.iter().map(|other| (distance(word, other), *other)).min()?;
    (best.0 <= word.len().div_ceil(3).max(1)).then_some(best.1)
}

/// How many letters were changed, left out, put in, or swapped with their neighbour.
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
            write!(f, "{}:", self.path.display())?;
            if let Some(line) = problem.line {
                write!(f, "{line}:")?;
            }
            write!(f, " {}", problem.message)?;
            if let Some(hint) = &problem.hint {
                write!(f, "\nhint: {hint}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
