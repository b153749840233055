//! Runs whose directory was renamed while they are being sent.
//!
//! A run continues under the name that it was first seen with: that is its name in the rows, in its
//! ledger and at the destinations. *Owns* the present name of its directory, and translates paths
//! between the two. Everything below a drop directory is opened, listed and observed by the first
//! name; only [`beneath`](super::beneath) and the walk know the other.
//!
//! A directory counts as a renamed run only if the run's own directory is gone and a directory
//! beside it, or elsewhere in the drop directory and not much deeper, has one of the run's files:
//! with the inode, size and time of modification of the upload. An inode alone proves nothing,
//! because file systems reuse them. Or, on another file system, if it has files of the same names
//! and sizes and its own files give the same run id. *At a crash* nothing is lost: a row keeps the
//! name, and before it is written the next scan finds the same.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use rustix::fs::{Dir, FileType};
use rustix::io::Errno;

use super::beneath::Root;
use super::dispose::is_private;
use super::run::read_run;
use super::{DirectoryRoot, Error, Filter};
use crate::model::{Fingerprint, RunTrace, SourcePath};

/// Limit of directories that are listed to find one run.
const LISTED_MAX: usize = 1_000;
/// Files of a run that are searched for in a directory that is not beside its own.
const FAR_FILES: usize = 2;

/// The directories of renamed runs, by the first name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RenamedRuns(BTreeMap<SourcePath, SourcePath>);

/// The meaning of a directory at a listed path.
pub(super) enum ListedAs {
    /// It is what its path says.
    Itself,
    /// A run with this first name.
    Run(SourcePath),
    /// A different directory at the first name of a renamed run.
    InTheWay,
}

impl RenamedRuns {
    /// Sets the present name of a run; its first name removes the entry.
    pub(crate) fn note(&mut self, run: SourcePath, now: Option<SourcePath>) {
        match now {
            Some(now) => drop(self.0.insert(run, now)),
            None => drop(self.0.remove(&run)),
        }
    }

    /// Returns the path on disk of a path by first names.
    pub(crate) fn on_disk<'a>(&self, path: &'a SourcePath) -> Cow<'a, SourcePath> {
        replaced(path, self.0.iter())
    }

    /// Returns the path by first names of a path on disk.
    pub(crate) fn by_first_name<'a>(&self, path: &'a SourcePath) -> Cow<'a, SourcePath> {
        replaced(path, self.0.iter().map(|(first, now)| (now, first)))
    }

    pub(super) fn listed(&self, path: &SourcePath) -> ListedAs {
        if let Some((first, _)) = self.0.iter().find(|(_, now)| *now == path) {
            return ListedAs::Run(first.clone());
        }
        if self.0.contains_key(path) { ListedAs::InTheWay } else { ListedAs::Itself }
    }

    fn is_name_now(&self, path: &SourcePath) -> bool {
        self.0.values().any(|now| now == path)
    }
}

/// Replaces the directory that contains a path; runs are never nested.
fn replaced<'a, 'r>(
    path: &'a SourcePath,
    mut names: impl Iterator<Item = (&'r SourcePath, &'r SourcePath)>,
) -> Cow<'a, SourcePath> {
    match names.find(|(from, _)| path.is_within(from)) {
        Some((from, to)) => {
            let rest = &path.as_bytes()[from.as_bytes().len()..];
            Cow::Owned(SourcePath::from_bytes(&[to.as_bytes(), rest].concat()))
        }
        None => Cow::Borrowed(path),
    }
}

/// Finds the directories of runs that are not at their names, except in pruned ones. `trace` returns
/// what identifies the run of a name; a directory with admitted files is a run of its own. Returns the
/// runs whose directory's name has changed; `None` where it has its first one again, or is gone.
///
/// # Errors
/// When the drop directory cannot be opened, or cannot be listed.
pub(crate) fn find_renamed<E>(
    root: &DirectoryRoot,
    filter: &Filter,
    runs: &[SourcePath],
    trace: impl Fn(&SourcePath) -> Result<RunTrace, E>,
) -> Result<Vec<(SourcePath, Option<SourcePath>)>, Error> {
    let known = root.renamed();
    let opened = root.open_anew()?;
    let mut found = Vec::new();
    for run in runs {
        match opened.stat(run) {
            Err(Errno::NOENT) => {}
            Ok(_) | Err(_) => continue,
        }
        let Ok(of_run) = trace(run) else { continue };
        let is_free = |beside: &SourcePath| {
            let has_none = || trace(beside).is_ok_and(|trace| trace.files.is_empty());
            let is_left_out = filter.is_pruned_away(beside) || filter.prunes(beside);
            beside == run || (!is_left_out && !known.is_name_now(beside) && has_none())
        };
        let is_same_run = |found: &SourcePath| {
            let read = of_run.run_id.as_ref().and_then(|_| read_run(root, found, filter).ok());
            read.is_some_and(|read| {
                read.is_identified
                    && filter.profile.is_identified_by_files()
                    && read.words.get("run_id") == of_run.run_id.as_ref()
            })
        };
        let beside = find_directory(&opened, run, &of_run.files, is_free, is_same_run)
            .map_err(|errno| Error::of_file("look for", run, errno))?
            .filter(|beside| beside != run);
        let was = known.on_disk(run);
        if beside.is_some() || *was != *run {
            found.push((run.clone(), beside));
        }
    }
    if !found.is_empty() {
        let mut renamed = RenamedRuns::clone(&known);
        found.iter().for_each(|(run, now)| renamed.note(run.clone(), now.clone()));
        root.set_renamed(Arc::new(renamed));
    }
    Ok(found)
}

fn find_directory(
    root: &Root,
    run: &SourcePath,
    files: &[(SourcePath, Fingerprint)],
    is_free: impl Fn(&SourcePath) -> bool,
    is_same_run: impl Fn(&SourcePath) -> bool,
) -> Result<Option<SourcePath>, Errno> {
    if files.is_empty() {
        return Ok(None);
    }
    let above = run.as_bytes().len().saturating_sub(run.file_name().len() + 1);
    let above = SourcePath::from_bytes(&run.as_bytes()[..above]);
    let depth = run.directories().count();
    let mut waiting = VecDeque::from([above.clone(), SourcePath::from_bytes(b"")]);
    let mut listed = BTreeSet::new();
    while let Some(directory) = waiting.pop_front() {
        if listed.len() >= LISTED_MAX || !listed.insert(directory.clone()) {
            continue;
        }
        let is_beside = directory == above;
        let wanted = if is_beside { files.len() } else { files.len().min(FAR_FILES) };
        let directories = match directories_in(root, &directory) {
            Err(errno) if is_beside && errno != Errno::NOENT => return Err(errno),
            Err(_) => continue,
            Ok(directories) => directories,
        };
        for found in directories {
            let there = files[..wanted].iter().map(|(path, sent)| {
                let rest = &path.as_bytes()[run.as_bytes().len()..];
                let there = SourcePath::from_bytes(&[found.as_bytes(), rest].concat());
                root.stat(&there).ok().map(|there| (there.fingerprint, *sent))
            });
            let there: Vec<_> = there.collect();
            let has_inode = there.iter().flatten().any(|(found, sent)| is_same(found, sent));
            let same_sizes = there.iter().flatten().filter(|(found, sent)| found.size == sent.size);
            let has_sizes = same_sizes.count() * 2 >= wanted;
            if (has_inode || has_sizes && is_same_run(&found)) && is_free(&found) {
                return Ok(Some(found));
            }
            if found.directories().count() <= depth {
                waiting.push_back(found);
            }
        }
    }
    Ok(None)
}

fn directories_in(root: &Root, directory: &SourcePath) -> Result<Vec<SourcePath>, Errno> {
    let mut directories = Vec::new();
    for entry in Dir::new(root.open_directory(directory)?)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        let may_be_directory = matches!(entry.file_type(), FileType::Directory | FileType::Unknown);
        if may_be_directory && ![&b"."[..], b".."].contains(&name) && !is_private(name) {
            directories.push(directory.child(name));
        }
    }
    Ok(directories)
}

fn is_same(found: &Fingerprint, sent: &Fingerprint) -> bool {
    let of = |version: &Fingerprint| (version.inode, version.size, version.mtime_ns);
    of(found) == of(sent)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::tests::{filter, path};
    use super::*;

    #[test]
    fn a_run_is_found_beside_its_name_by_a_file_and_by_nothing_less() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        for run in ["x/run", "x/other"] {
            fs::create_dir_all(at(run)).unwrap();
            fs::write(at(run).join("a"), run).unwrap();
        }
        let root = DirectoryRoot::at(place.path());
        let filter = filter(&["**"], &["left-out/**"], &[]);
        let version = root.open().unwrap().stat(&path("x/run/a")).unwrap().fingerprint;
        let find = |version, taken: &str| {
            let files = |run: &SourcePath| {
                let is_known = [path("x/run"), path(taken)].contains(run);
                let files = is_known.then(|| (path("x/run/a"), version)).into_iter().collect();
                Ok::<_, ()>(RunTrace { files, run_id: None })
            };
            find_renamed(&root, &filter, &[path("x/run")], files).unwrap()
        };
        assert_eq!(find(version, ""), [], "it is there");
        fs::rename(at("x/run"), at("x/moved")).unwrap();
        for other in [
            Fingerprint { inode: version.inode + 1, ..version },
            Fingerprint { mtime_ns: version.mtime_ns + 1, ..version },
        ] {
            assert_eq!(find(other, ""), [], "{other:?}");
        }
        assert_eq!(find(version, "x/moved"), [], "another run has that name");
        assert_eq!(find(version, ""), [(path("x/run"), Some(path("x/moved")))]);
        assert_eq!(find(version, ""), [], "that is known");
        let opened = root.open().unwrap();
        assert!(opened.open_file(&path("x/run/a")).is_ok(), "it is read by its first name");
        assert_eq!(*root.renamed().by_first_name(&path("x/moved/b/c")), path("x/run/b/c"));
        assert_eq!(*root.renamed().by_first_name(&path("x/moved2/b")), path("x/moved2/b"));
        fs::rename(at("x/moved"), at("x/again")).unwrap();
        assert_eq!(find(version, ""), [(path("x/run"), Some(path("x/again")))]);
        fs::rename(at("x/again"), at("x/run")).unwrap();
        assert_eq!(find(version, ""), [(path("x/run"), None)], "it has its name again");
        assert!(root.open().unwrap().open_file(&path("x/run/a")).is_ok());
        assert_eq!(find(version, ""), []);
        for far in ["left-out", "done/2026/deeper", "done/2026"] {
            fs::create_dir_all(at(far)).unwrap();
            fs::rename(at("x/run"), at(far).join("run")).unwrap();
            let is_found = far == "done/2026";
            let found = is_found.then(|| (path("x/run"), Some(path("done/2026/run"))));
            assert_eq!(find(version, ""), Vec::from_iter(found), "{far}");
            fs::rename(at(far).join("run"), at("x/run")).unwrap();
        }
    }
}
