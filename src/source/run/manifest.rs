//! Files in a run's lists that are missing.

use super::files::RunFolder;
use super::sheet::cells;
use crate::model::SourcePath;
use crate::source::profile::{Column, ManifestRule};
use crate::source::{Error, Filter};

/// Limit of a list's bytes: 150 000 lines of the longest kind.
const LIST_MAX: u64 = 32 << 20;
/// Limit of files that are looked for: the longest known lists name some 12 000.
const LOOKED_MAX: usize = 50_000;
/// Limit of reported files: more would not help an operator.
const TOLD_MAX: usize = 5;

/// Returns the first few missing files that lists of the run name and that would be sent.
pub(super) fn missing(
    folder: &mut RunFolder<'_>,
    rules: &[ManifestRule],
    filter: &Filter,
) -> Result<Vec<String>, Error> {
    let mut missing = Vec::new();
    for rule in rules {
        for path in folder.find(&rule.file)? {
            if let Some(text) = folder.read(&path, LIST_MAX)? {
                let listed = FileList { path: &path, text: &text, rule };
                look(folder, listed, filter, &mut missing)?;
            }
        }
    }
    Ok(missing)
}

/// A list of files.
#[derive(Debug, Clone, Copy)]
struct FileList<'a> {
    path: &'a SourcePath,
    text: &'a str,
    rule: &'a ManifestRule,
}

fn look(
    folder: &mut RunFolder<'_>,
    list: FileList<'_>,
    filter: &Filter,
    missing: &mut Vec<String>,
) -> Result<(), Error> {
    let run = folder.run().clone();
    let would_be_sent = |file: &str| {
        let path = run.child(file.as_bytes());
        filter.admits(&path) && !filter.is_pruned_away(&path)
    };
    for (number, file) in listed(list, run.file_name()).enumerate() {
        if missing.len() >= TOLD_MAX {
            break;
        }
        if number >= LOOKED_MAX {
            let name = String::from_utf8_lossy(list.path.file_name()).into_owned();
            folder.note(format!("only the first {LOOKED_MAX} files of {name} were looked for"));
            break;
        }
        if !folder.has(file.as_bytes())? && would_be_sent(&file) && !missing.contains(&file) {
            missing.push(file);
        }
    }
    Ok(())
}

/// Returns the files of a list, by their paths below the run.
fn listed<'a>(list: FileList<'a>, run: &'a [u8]) -> impl Iterator<Item = String> + 'a {
    let FileList { text, rule, .. } = list;
    let split = |line: &str| match rule.separator {
        Some(separator) => cells(line, separator),
        None => vec![line.trim().to_owned()],
    };
    let head = split(text.lines().next().unwrap_or_default());
    let (column, has_heading) = match &rule.column {
        Column::Number(number) => {
            (Some(*number), head.get(*number).is_some_and(|cell| is_heading(cell)))
        }
        Column::Name(name) => (head.iter().position(|cell| cell.eq_ignore_ascii_case(name)), true),
    };
    let cell = move |line: &str| split(line).into_iter().nth(column?);
    text.lines()
        .skip(usize::from(has_heading))
        .filter_map(cell)
        .filter_map(move |cell| within_run(&cell, run, rule.is_absolute))
}

/// Returns whether the first cell of a column is its heading: words, one of which names files. A
/// file name has other characters, or none of these words.
fn is_heading(cell: &str) -> bool {
    let is_words = cell.chars().all(|c| c.is_ascii_alphabetic() || " _-#".contains(c));
    let lower = cell.to_ascii_lowercase();
    is_words && ["file", "path", "name"].iter().any(|word| lower.contains(word))
}

/// Returns a listed path as one below the run; `None` when it is not.
///
/// The instrument's own directories are ignored: the path after the run's name counts.
fn within_run(cell: &str, run: &[u8], is_absolute: bool) -> Option<String> {
    let path = cell.replace('\\', "/");
    let begins_at_root = path.starts_with('/') || path.as_bytes().get(1..3) == Some(b":/");
    if begins_at_root {
        let tail = String::from_utf8_lossy(run);
        let (_, below) = path.rsplit_once(&format!("/{tail}/"))?;
        return usable(below);
    }
    if is_absolute {
        return None;
    }
    let path = path.trim_start_matches("./");
    let below = path.strip_prefix(&*String::from_utf8_lossy(run));
    usable(below.and_then(|below| below.strip_prefix('/')).unwrap_or(path))
}

fn usable(path: &str) -> Option<String> {
    let is_below = path.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    is_below.then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listed_paths_are_mapped_below_the_run() {
        let table = [
            ("Data/x.cbcl", false, Some("Data/x.cbcl")),
            ("./Data/x.cbcl", false, Some("Data/x.cbcl")),
            ("Data\\x.cbcl", false, Some("Data/x.cbcl")),
            ("/data/pacbio/r84/1_A01/hifi/m.bam", true, Some("hifi/m.bam")),
            ("/data/1_A01/r84/1_A01/m.bam", true, Some("m.bam")),
            ("D:\\out\\1_A01\\m.bam", false, Some("m.bam")),
            ("/elsewhere/m.bam", true, None),
            ("1_A01/hifi/m.bam", false, Some("hifi/m.bam")),
            ("1_A012/m.bam", false, Some("1_A012/m.bam")),
            ("12", true, None),
            ("../x", false, None),
            ("", false, None),
            ("Data/", false, None),
        ];
        for (cell, is_absolute, expected) in table {
            assert_eq!(within_run(cell, b"1_A01", is_absolute).as_deref(), expected, "{cell}");
        }
    }
}
