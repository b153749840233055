//! The files of a configuration: the named one, and those of `conf.d` beside it.
//!
//! Each text is kept after as many blanks as the files before it are long. So a parser's position
//! identifies the file too.

use std::ops::Range;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Problem, ProblemPlace, Problems, line_of};

/// Files beside a configuration that are read with it, in the order of their names.
const DIRECTORY: &str = "conf.d";

#[derive(Debug)]
struct ConfigFile {
    path: PathBuf,
    /// Offset of its own text.
    start: usize,
    padded: String,
}

impl ConfigFile {
    fn text(&self) -> &str {
        self.padded.get(self.start..).unwrap_or_default()
    }
}

/// Reads a file that nobody else may write, because a configuration may name commands. A pipe in its place would be
/// waited for.
fn read_file(file: &Path) -> Result<String, Problems> {
    let unreadable = |error: std::io::Error| Problems::unreadable(file, &error);
    let found = std::fs::metadata(file).map_err(unreadable)?;
    if !found.is_file() && !found.is_dir() {
        let hint = "remove it, or write the configuration into a file".to_owned();
        return Err(Problems::of_file(file, "this is no file".to_owned(), hint));
    }
    let text = std::fs::read_to_string(file).map_err(unreadable)?;
    let mode = found.permissions().mode() & 0o777;
    if mode & 0o022 != 0 {
        let message = format!("others may write this file (mode {mode:o})");
        let hint = format!("chmod go-w {}", file.display());
        return Err(Problems::of_file(file, message, hint));
    }
    Ok(text)
}

/// A configuration's files, the named one first.
#[derive(Debug)]
pub(super) struct Sources {
    files: Vec<ConfigFile>,
}

impl Sources {
    /// Builds a configuration from one text.
    pub(super) fn single(path: &Path, text: &str) -> Self {
        let mut sources = Self { files: Vec::new() };
        sources.push(path.to_owned(), text);
        sources
    }

    /// Reads the files of a configuration.
    pub(super) fn read(path: &Path) -> Result<Self, Problems> {
        let unreadable = |file: &Path, error: &std::io::Error| Problems::unreadable(file, error);
        let mut sources = Self::single(path, &read_file(path)?);
        let directory = path.parent().unwrap_or(Path::new(".")).join(DIRECTORY);
        for file in names(&directory).map_err(|error| unreadable(&directory, &error))? {
            let text = read_file(&file)?;
            sources.push(file, text.strip_prefix('\u{feff}').unwrap_or(&text));
        }
        Ok(sources)
    }

    fn push(&mut self, path: PathBuf, text: &str) {
        let start = self.files.last().map_or(0, |last| last.padded.len());
        self.files.push(ConfigFile { path, start, padded: " ".repeat(start) + text });
    }

    /// Returns the named file.
    pub(super) fn main(&self) -> &Path {
        self.files.first().map_or(Path::new(""), |file| &file.path)
    }

    /// Returns every file.
    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|file| file.path.as_path())
    }

    fn file_at(&self, position: usize) -> Option<&ConfigFile> {
        self.files.iter().rev().find(|file| file.start <= position)
    }

    /// Returns the directory that paths at a position are relative to.
    pub(super) fn directory_at(&self, position: usize) -> &Path {
        let file = self.file_at(position).and_then(|file| file.path.parent());
        file.unwrap_or(Path::new("."))
    }

    /// Returns the text at a position.
    pub(super) fn written(&self, span: &Range<usize>) -> Option<&str> {
        self.file_at(span.start)?.padded.get(span.clone())
    }

    /// Returns the first position of a text, from a position on.
    pub(super) fn found(&self, text: &str, from: usize) -> Option<Range<usize>> {
        let at = from + self.file_at(from)?.padded.get(from..)?.find(text)?;
        Some(at..at + text.len())
    }

    /// Returns the file and line of a position, for people.
    pub(super) fn place(&self, span: &Range<usize>) -> Option<ProblemPlace> {
        let file = self.file_at(span.start)?;
        let local = |at: usize| at.saturating_sub(file.start);
        Some(ProblemPlace::new(&file.path, file.text(), local(span.start)..local(span.end)))
    }

    /// Describes invalid TOML, an unknown key or a wrong type, in one of the files.
    pub(super) fn syntax(&self, error: &toml::de::Error, more: &[&str]) -> Problem {
        let file = error.span().and_then(|span| self.file_at(span.start));
        let Some(file) = file.or(self.files.first()) else {
            return Problem { place: None, message: error.message().to_owned(), hint: None };
        };
        let local = |span: Range<usize>| {
            span.start.saturating_sub(file.start)..span.end.saturating_sub(file.start)
        };
        let span = error.span().map(local);
        Problem::syntax(&file.path, file.text(), error, span, more)
    }

    /// Parses all files, and merges them.
    pub(super) fn parse(&self) -> Result<DeTable<'_>, Problems> {
        let mut whole = DeTable::new();
        let mut problems = Vec::new();
        for file in &self.files {
            let (table, errors) = DeTable::parse_recoverable(&file.padded);
            let mut wrong: Vec<_> = errors.iter().map(|error| self.syntax(error, &[])).collect();
            // Further errors on a line follow from the first one.
            wrong.dedup_by_key(|problem| problem.line());
            // A table that appears twice is reported with its line, so its keys are not.
            let is_key = |problem: &Problem| problem.message == "this key appears twice";
            if !wrong.iter().all(is_key) {
                wrong.retain(|problem| !is_key(problem));
            }
            problems.append(&mut wrong);
            self.join(&mut whole, table.into_inner(), &mut problems);
        }
        lists_of_one(&mut whole);
        match problems.is_empty() {
            true => Ok(whole),
            false => Err(Problems { path: self.main().to_owned(), problems }),
        }
    }

    /// Adds the keys of a later file: tables are merged, arrays of tables are appended; no other
    /// key may occur twice.
    fn join<'a>(&self, whole: &mut DeTable<'a>, more: DeTable<'a>, problems: &mut Vec<Problem>) {
        for (key, value) in more {
            let Some((first, mut found)) = whole.remove_entry(key.get_ref().as_ref()) else {
                whole.insert(key, value);
                continue;
            };
            let span = key.span();
            match (found.get_mut(), value.into_inner()) {
                (DeValue::Table(table), DeValue::Table(more)) => self.join(table, more, problems),
                (DeValue::Array(list), DeValue::Array(more))
                    if is_of_tables(list) && is_of_tables(&more) =>
                {
                    more.into_iter().for_each(|item| list.push(item));
                }
                _ => problems.push(self.twice(key.get_ref(), &first.span(), &span)),
            }
            whole.insert(first, found);
        }
    }

    fn twice(&self, key: &str, first: &Range<usize>, second: &Range<usize>) -> Problem {
        let at = self.file_at(first.start).map_or(String::new(), |file| {
            let line = line_of(file.text(), first.start.saturating_sub(file.start));
            format!(": it is in {}:{line} too", file.path.display())
        });
        let message = format!("{key} appears twice{at}");
        let hint = "remove one of the two; only tables and lists of tables are joined".to_owned();
        Problem { place: self.place(second), message, hint: Some(hint) }
    }
}

/// Keys whose values are lists of words: a single word means a list of one.
const LISTS: [&str; 10] =
    ["days", "destinations", "exclude", "hosts", "include", "on", "order", "run", "tags", "to"];

fn lists_of_one(table: &mut DeTable<'_>) {
    for (key, value) in table.iter_mut() {
        let span = value.span();
        let is_list = LISTS.contains(&key.get_ref().as_ref());
        match value.get_mut() {
            // Its keys are the user's own words.
            DeValue::Table(_) if key.get_ref() == "metadata" => {}
            DeValue::Table(table) => lists_of_one(table),
            DeValue::Array(list) => {
                for item in list.iter_mut() {
                    if let DeValue::Table(table) = item.get_mut() {
                        lists_of_one(table);
                    }
                }
            }
            word @ DeValue::String(_) if is_list => {
                let one = std::mem::replace(word, DeValue::Boolean(false));
                *word = DeValue::Array([Spanned::new(span, one)].into_iter().collect());
            }
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => {}
        }
    }
}

fn is_of_tables(list: &[Spanned<DeValue<'_>>]) -> bool {
    list.iter().all(|item| item.get_ref().as_table().is_some())
}

/// Returns the files of a directory that may not exist, sorted by name.
fn names(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let is_hidden =
            path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if path.extension().is_some_and(|end| end == "toml") && !is_hidden {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
