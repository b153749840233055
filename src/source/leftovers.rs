//! Files that systems, shares, editors and copying programs leave in directories: never uploaded,
//! whatever the profile, unless `include` requests them.
//!
//! A pattern of `include` requests what one of its components names: `**/@eaDir/**`, `*.part`. One
//! that would match such a file by chance, as `*.gz` matches `._reads.gz`, does not request it. A
//! listed directory is not entered, so an unreadable one (`lost+found`) stops nothing.
//!
//! Sees only names, at any depth; ASCII case is ignored. It is called for each file of each scan,
//! and allocates nothing then. Called by `filter`; `docs/profiles.md` has the list for people.

use globset::GlobSet;

use super::PatternError;
use super::patterns::{Candidates, Patterns, Rules};

/// Directories by name: snapshots, recycle bins and indexes of storages and systems, and
/// directories in which copying programs keep partial files.
const DIRECTORIES: [&str; 30] = [
    // Synology, QNAP.
    "@eaDir",
    "@tmp",
    "#recycle",
    "#snapshot",
    "@Recycle",
    "@Recently-Snapshot",
    // NetApp, ZFS, Btrfs and others.
    ".snapshot",
    ".snapshots",
    "~snapshot",
    ".zfs",
    "lost+found",
    // Windows.
    "$RECYCLE.BIN",
    "RECYCLER",
    "System Volume Information",
    // Desktops.
    ".Trash",
    ".Trashes",
    ".Spotlight-V100",
    ".fseventsd",
    ".TemporaryItems",
    ".DocumentRevisions-V100",
    ".AppleDouble",
    ".AppleDB",
    ".AppleDesktop",
    "Network Trash Folder",
    "Temporary Items",
    // rsync, Syncthing, Resilio.
    ".~tmp~",
    ".rsync-partial",
    ".stfolder",
    ".stversions",
    ".sync",
];
/// Prefixes of directory names: recycle bins of users.
const DIRECTORY_PREFIXES: [&str; 1] = [".Trash-"];

/// Files by name.
const FILES: [&str; 5] = [".DS_Store", "Thumbs.db", "ehthumbs.db", "desktop.ini", ".directory"];
/// Prefixes of file names: AppleDouble, open files of office programs, deleted files that are open
/// on a share, files that are being written.
const FILE_PREFIXES: [&str; 9] = [
    "._",
    ".~",
    "~$",
    ".nfs",
    ".smbdelete",
    ".fuse_hidden",
    ".syncthing.",
    "~syncthing~",
    ".goutputstream-",
];
/// Suffixes of file names: partial files of browsers, WinSCP, rclone and Aspera; backups of
/// editors; Windows' notes about a file's origin.
const FILE_SUFFIXES: [&str; 12] = [
    ".tmp",
    ".part",
    ".partial",
    ".filepart",
    ".crdownload",
    ".!sync",
    ".aspx",
    ".aspera-ckpt",
    ".swp",
    ".swx",
    "~",
    ":Zone.Identifier",
];
/// Letters and digits that rsync appends to the name of a file that is being written.
const RSYNC_LENGTH: usize = 6;

/// The parts of the list that `include` requests.
#[derive(Debug, Clone)]
pub(super) struct Leftovers {
    asked_for: Patterns,
    /// Components of these patterns.
    asked_names: GlobSet,
}

impl Leftovers {
    /// Compiles the requests in the patterns of `include`.
    pub(super) fn new(include: &[String]) -> Result<Self, PatternError> {
        let rules = Rules::loose("include");
        let named = |pattern: &&String| components(pattern).any(is_left_over);
        let asked: Vec<_> = include.iter().filter(named).cloned().collect();
        let names = asked.iter().flat_map(|pattern| components(pattern));
        let asked_names = rules.paths(names.filter(|name| is_left_over(name)))?;
        Ok(Self { asked_for: Patterns::new(rules, &asked)?, asked_names })
    }

    /// Returns whether the file at `path` is left out.
    pub(super) fn has_file(&self, path: &[u8]) -> bool {
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
        is_file(name) && !(self.asks() && self.asked_for.matches(&Candidates::of(path)))
    }

    /// Returns whether the directory at `path` is left out with everything below it.
    pub(super) fn has_directory(&self, path: &[u8]) -> bool {
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
        let is_asked_for =
            || self.asks() && self.asked_names.is_match_candidate(&Candidates::of(name).name);
        is_directory(name) && !is_asked_for()
    }

    fn asks(&self) -> bool {
        !self.asked_names.is_empty()
    }
}

/// The components of a pattern that contain more than wildcards.
fn components(pattern: &str) -> impl Iterator<Item = &str> {
    pattern.split('/').filter(|component| !matches!(*component, "" | "*" | "**"))
}

fn is_left_over(name: &str) -> bool {
    is_file(name.as_bytes()) || is_directory(name.as_bytes())
}

fn is_directory(name: &[u8]) -> bool {
    // All of them begin with one of these.
    let may_be = name.first().is_some_and(|first| b".@#~$lLrRsSnNtT".contains(first));
    may_be
        && (DIRECTORIES.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
            || DIRECTORY_PREFIXES.iter().any(|prefix| begins(name, prefix)))
}

fn is_file(name: &[u8]) -> bool {
    let may_begin = name.first().is_some_and(|first| b".~tTeEdD".contains(first));
    let begins = || {
        FILES.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
            || FILE_PREFIXES.iter().any(|prefix| begins(name, prefix))
            || is_of_rsync(name)
    };
    (may_begin && begins()) || FILE_SUFFIXES.iter().any(|suffix| ends(name, suffix))
}

/// `.NAME.aB12cD`: six random letters and digits, which hardly ever form a word.
fn is_of_rsync(name: &[u8]) -> bool {
    let Some((rest, random)) = name.split_last_chunk::<RSYNC_LENGTH>() else { return false };
    let is_random = random.iter().all(u8::is_ascii_alphanumeric)
        && random.iter().any(|sign| !sign.is_ascii_lowercase());
    is_random && rest.len() > 2 && rest.starts_with(b".") && rest.ends_with(b".")
}

fn begins(name: &[u8], prefix: &str) -> bool {
    name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
}

fn ends(name: &[u8], suffix: &str) -> bool {
    let start = name.len().checked_sub(suffix.len());
    start.is_some_and(|start| name[start..].eq_ignore_ascii_case(suffix.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leftovers(include: &[&str]) -> Leftovers {
        let include: Vec<_> = include.iter().map(|&pattern| pattern.to_owned()).collect();
        Leftovers::new(&include).expect("patterns")
    }

    #[test]
    fn what_is_left_behind_is_left_out_and_what_looks_like_it_is_not() {
        let none = leftovers(&[]);
        for path in [
            "run/._data.bam",
            "run/.DS_Store",
            "thumbs.DB",
            "run/.data.bam.aB12cD",
            "run/data.bam.part",
            "run/data.bam.aspera-ckpt",
            "run/~$sheet.xlsx",
            "run/sheet.csv~",
            "run/.~lock.sheet.csv#",
            "run/data.bam:Zone.Identifier",
        ] {
            assert!(none.has_file(path.as_bytes()), "{path}");
        }
        for path in [
            "run/data.bam",
            "run/.project.config",
            "run/data.aB12cD",
            "run/..aB12cD",
            "run/department",
            "run/tmp",
            "run/part",
            "desktop.ini.txt",
            "",
        ] {
            assert!(!none.has_file(path.as_bytes()), "{path}");
        }
        for path in ["lost+found", "a/@EADIR", ".Trash-1000", "$RECYCLE.BIN", "a/.~tmp~"] {
            assert!(none.has_directory(path.as_bytes()), "{path}");
        }
        for path in ["lost", "a/eaDir", "Trash", "snapshot", "lost+found/a"] {
            assert!(!none.has_directory(path.as_bytes()), "{path}");
        }
    }

    #[test]
    fn every_name_of_the_lists_passes_the_look_at_its_first_letter() {
        let none = leftovers(&[]);
        for name in DIRECTORIES.iter().chain(&DIRECTORY_PREFIXES) {
            assert!(none.has_directory(format!("a/{name}").as_bytes()), "{name}");
        }
        for name in FILES.iter().chain(&FILE_PREFIXES) {
            assert!(none.has_file(format!("a/{name}").as_bytes()), "{name}");
        }
    }

    #[test]
    fn include_brings_back_what_it_names_and_nothing_by_chance() {
        let by_chance = leftovers(&["*.gz", "**", "a*/**", ".*"]);
        assert!(by_chance.has_file(b"run/._reads.gz") && by_chance.has_file(b".DS_Store"));
        let named = leftovers(&["**", "*.part", "._*", "**/@eaDir/**"]);
        for path in ["run/a.part", "run/._reads.gz", "._a"] {
            assert!(!named.has_file(path.as_bytes()), "{path}");
        }
        assert!(named.has_file(b"run/a.crdownload"));
        assert!(!named.has_directory(b"run/@eaDir") && named.has_directory(b"lost+found"));
    }
}
