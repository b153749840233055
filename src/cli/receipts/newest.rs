//! Finds the newest line of each file: a file that was replaced later counts once.

use std::collections::HashMap;

use super::entry::{Entry, SumFormat};
use crate::model::PathDigest;

/// The newest line of each file of one run: some tens of bytes per file, whatever its name.
///
/// A file is a path at a destination. For checksum lines it is a path, whatever its destination:
/// its newest version, and of that a line with the digest.
#[derive(Debug)]
pub(super) struct NewestLines {
    sums: Option<SumFormat>,
    lines: HashMap<PathDigest, NewestLine>,
    /// Some file has more than one line.
    has_older: bool,
}

#[derive(Debug, Clone, Copy)]
struct NewestLine {
    /// Its position among the lines of the run, which are fewer than four billion.
    position: u32,
    /// A digest of size and time, which only distinguishes versions of one path.
    version: u64,
    has_digest: bool,
}

impl NewestLines {
    pub(super) fn new(sums: Option<SumFormat>) -> Self {
        Self { sums, lines: HashMap::new(), has_older: false }
    }

    /// Adds a line of a file, in the order of the lines.
    pub(super) fn note(&mut self, position: u64, entry: &Entry<'_>) {
        let has_digest = self.sums.is_none_or(|format| entry.digest(format).is_some());
        let version = entry.size.rotate_left(32) ^ entry.mtime_ns.cast_unsigned();
        let line = NewestLine { position: short(position), version, has_digest };
        let known = self.lines.entry(self.key(entry)).or_insert(line);
        self.has_older |= known.position != line.position;
        if line.has_digest || !known.has_digest || known.version != line.version {
            *known = line;
        }
    }

    /// Returns whether the line at a position, one that was added, is the newest of its file.
    pub(super) fn is_newest(&self, position: u64, entry: &Entry<'_>) -> bool {
        !self.has_older
            || self.lines.get(&self.key(entry)).is_some_and(|line| line.position == short(position))
    }

    /// Returns the number of files.
    pub(super) fn count(&self) -> usize {
        self.lines.len()
    }

    fn key(&self, entry: &Entry<'_>) -> PathDigest {
        let destination = match self.sums {
            None => entry.destination.name.as_bytes(),
            Some(SumFormat::Md5 | SumFormat::Sha256) => b"",
        };
        // No name contains a zero byte.
        let file = [entry.drop.as_bytes(), b"\0", destination, b"\0", &entry.path()].concat();
        PathDigest::of(&file)
    }
}

fn short(position: u64) -> u32 {
    u32::try_from(position).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(destination: &str, size: u32, digest: &str) -> String {
        format!(
            r#"{{"kind":"upload","drop":"lab","path":"a","size":{size},
                "destination":{{"name":"{destination}"}},"whole_file_digests":{{{digest}}}}}"#
        )
    }

    #[test]
    fn a_file_counts_once_by_its_newest_version_and_by_a_line_that_has_its_digest() {
        let md5 = r#""md5":"ab""#;
        let lines =
            [line("far", 1, md5), line("near", 1, md5), line("far", 2, md5), line("near", 2, "")];
        let entries = lines.each_ref().map(|line| serde_json::from_str::<Entry<'_>>(line).unwrap());
        for (sums, expected) in [
            (None, [false, false, true, true]),
            (Some(SumFormat::Md5), [false, false, true, false]),
            (Some(SumFormat::Sha256), [false, false, false, true]),
        ] {
            let mut newest = NewestLines::new(sums);
            (0..).zip(&entries).for_each(|(at, entry)| newest.note(at, entry));
            let found = std::array::from_fn(|at| newest.is_newest(at as u64, &entries[at]));
            assert_eq!(found, expected, "{sums:?}");
        }
    }
}
