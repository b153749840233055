//! Moves or deletes a source that is proved to be elsewhere.
//!
//! The only code that changes a drop directory. It promises to touch only regular files whose
//! fingerprint, taken just before, is the proved one; to touch nothing at all if any wanted file of
//! the run is not proved; never to follow a link, and never to replace a file at the target. A file
//! gets a private name first ([`aside`]), under which it is checked once more: a version that took
//! its name in between is renamed back. Files that were left out of the upload stay in place.
//! Directories that have become empty are removed, also those that an earlier act emptied.
//!
//! A crash in between leaves each file in one of its two places, or complete in both, and at most
//! one under its private name; repeating the act continues from there, and [`Disposition::Keep`]
//! restores that one. The shell calls it, on a blocking thread.

mod aside;
mod place;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fd::OwnedFd;
use rustix::fs::AtFlags;
use rustix::io::Errno;

use self::aside::Aside;
pub(super) use self::aside::is_private;
use self::place::MoveTarget;
use super::beneath::Root;
use super::scan::scan_below;
use super::{DirectoryRoot, Error, Filter};
use crate::model::{Disposition, FailureKind, Fingerprint, Observation, Seen, SourcePath};

#[derive(Debug, Clone, Copy)]
pub(crate) struct Disposable<'a> {
    pub root: &'a DirectoryRoot,
    pub run: &'a SourcePath,
    pub is_file: bool,
}

/// Versions of files that are proved to be elsewhere.
pub(crate) type Proved = BTreeMap<SourcePath, Fingerprint>;

/// Moves or deletes every file of the run, or none if one is not proved. [`Disposition::Keep`] only
/// restores what an interrupted act left under a private name; so does an error.
///
/// # Errors
/// `SourceChanged` names the first file that is not the proved version; others have the operating
/// system's error.
pub(crate) fn dispose(
    what: &Disposable<'_>,
    filter: &Filter,
    proved: &Proved,
    how: &Disposition,
) -> Result<(), Error> {
    let root = what.root.open()?;
    let act = DisposalAct { root: &root, what, proved };
    match how {
        Disposition::Keep => act.put_back(),
        Disposition::Delete | Disposition::Move(_) => act.run(filter, how).inspect_err(|_| {
            // The error that ended the act is the one to report.
            act.put_back().ok();
        }),
    }
}

struct DisposalAct<'a> {
    root: &'a Root,
    what: &'a Disposable<'a>,
    proved: &'a Proved,
}

impl DisposalAct<'_> {
    fn run(&self, filter: &Filter, how: &Disposition) -> Result<(), Error> {
        let left = self.left_behind()?;
        for (path, version) in &left {
            if !self.proved.get(path).is_some_and(|proved| proved.same_version(version)) {
                return Err(unproved(path, "it changed while it was disposed of"));
            }
        }
        let mut files = match self.what.is_file {
            true => self.check_file()?,
            false => self.check_directory(filter)?,
        };
        // A rename by link and removal leaves one file under both names.
        files.retain(|path, version| left.get(path).is_none_or(|l| l.inode != version.inode));
        let mut place = match how {
            Disposition::Move(to) => {
                Some(MoveTarget::open(Path::new(to), self.root, self.what.run)?)
            }
            Disposition::Keep | Disposition::Delete => None,
        };
        let mut parents = Parents { root: self.root, last: None };
        for (path, version) in &left {
            let Some(parent) = parents.of(path)? else { continue };
            if let Some(place) = &mut place {
                place.sweep(path)?;
            }
            finish(&Aside::left(parent, path, *version), place.as_mut())?;
        }
        let mut touched = BTreeSet::new();
        for (path, version) in &files {
            let mut version = *version;
            // A further name of a file whose first name is removed: the removal moved its time of change.
            if !touched.insert(version.inode) {
                version.ctime_ns = None;
            }
            let Some(parent) = parents.of(path)? else { continue };
            self.dispose_of(parent, path, version, place.as_mut())?;
        }
        if let Some(place) = place {
            place.finish()?;
        }
        self.remove_empty(files.keys());
        Ok(())
    }

    fn dispose_of(
        &self,
        parent: &OwnedFd,
        path: &SourcePath,
        version: Fingerprint,
        mut place: Option<&mut MoveTarget<'_>>,
    ) -> Result<(), Error> {
        let stat = match aside::look(parent, name_of(path)) {
            Err(Errno::NOENT) => return Ok(()),
            stat => stat.map_err(|errno| Error::of_file("look at", path, errno))?,
        };
        if !stat.fingerprint.is_untouched(&version) || !stat.file_type.is_file() {
            return Err(unproved(path, "it changed just now"));
        }
        if let Some(place) = &mut place {
            place.check(path, &stat, self.root)?;
        }
        match Aside::set(parent, path, version)? {
            Some(aside) => finish(&aside, place),
            None => Ok(()),
        }
    }

    /// Returns the run's file, unless it is gone.
    fn check_file(&self) -> Result<Proved, Error> {
        let path = self.what.run;
        match self.root.stat(path) {
            Ok(stat) => {
                let version = self.check(path, stat.fingerprint)?;
                Ok(Proved::from([(path.clone(), version)]))
            }
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(Proved::new()),
            Err(errno) => Err(Error::of_file("look at", path, errno)),
        }
    }

    /// Returns every wanted file of the run, if all are proved.
    fn check_directory(&self, filter: &Filter) -> Result<Proved, Error> {
        let mut files = Proved::new();
        let mut refused = None;
        if let Err(Errno::NOENT) = self.root.stat(self.what.run) {
            return Ok(files);
        }
        let summary = scan_below(self.what.root, self.what.run, filter, |observations| {
            for Observation { path, seen, .. } in observations {
                let checked = match seen {
                    Seen::File(found) | Seen::Unreadable(found, _) => self.check(&path, found),
                    Seen::Ignored(_) | Seen::Gone => continue,
                };
                match checked {
                    Ok(version) => drop(files.insert(path, version)),
                    Err(error) => {
                        refused = Some(error);
                        return ControlFlow::Break(());
                    }
                }
            }
            ControlFlow::Continue(())
        })?;
        match refused {
            Some(error) => Err(error),
            None if !summary.saw_all() => {
                Err(unproved(self.what.run, "not all of it can be looked at"))
            }
            None => Ok(files),
        }
    }

    fn check(&self, path: &SourcePath, found: Fingerprint) -> Result<Fingerprint, Error> {
        match self.proved.get(path) {
            Some(version) if version.is_untouched(&found) => Ok(found),
            Some(_) => Err(unproved(path, "it is another version than the one that was uploaded")),
            None => Err(unproved(path, "it has no receipt at every destination")),
        }
    }

    /// Returns the files that interrupted acts left under private names, by their own paths.
    fn left_behind(&self) -> Result<Proved, Error> {
        let mut left = Proved::new();
        for directory in self.directories_of_files() {
            let opened = match self.root.open_directory(&directory) {
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                opened => opened.map_err(|errno| Error::of_file("open", &directory, errno))?,
            };
            let failed = |errno| Error::of_file("look at", &directory, errno);
            for path in self.left_in(&directory, &opened)? {
                let private = aside::private_name(&path);
                match aside::look(&opened, Path::new(&private)) {
                    Err(Errno::NOENT) => {}
                    stat => drop(left.insert(path, stat.map_err(failed)?.fingerprint)),
                }
            }
        }
        Ok(left)
    }

    /// Returns the paths of such files in one directory.
    fn left_in(&self, directory: &SourcePath, fd: &OwnedFd) -> Result<Vec<SourcePath>, Error> {
        if self.what.is_file {
            return Ok(vec![self.what.run.clone()]);
        }
        let found =
            aside::private_names(fd).map_err(|errno| Error::of_file("list", directory, errno))?;
        let of_digest = |private: &[u8]| {
            let is_it = |path: &&SourcePath| {
                directory_of(path) == *directory && aside::private_name(path).as_bytes() == private
            };
            self.proved.keys().find(is_it).cloned()
        };
        let path_of = |private: &Vec<u8>| match aside::own_name(private) {
            Some(name) => Some(directory.child(name)),
            None => of_digest(private),
        };
        Ok(found.iter().filter_map(path_of).collect())
    }

    /// Restores the own names of files under private names.
    fn put_back(&self) -> Result<(), Error> {
        let mut parents = Parents { root: self.root, last: None };
        for path in self.left_behind()?.keys() {
            let Some(parent) = parents.of(path)? else { continue };
            aside::put_back(parent, &aside::private_name(path), path)?;
        }
        Ok(())
    }

    fn directories_of_files(&self) -> BTreeSet<SourcePath> {
        let own = self.what.is_file.then_some(self.what.run);
        self.proved.keys().chain(own).map(directory_of).collect()
    }

    /// Removes the directories that have become empty, the deepest first; never the drop directory.
    fn remove_empty<'f>(&'f self, files: impl Iterator<Item = &'f SourcePath>) {
        let mut directories: BTreeSet<SourcePath> = BTreeSet::new();
        // Files that an interrupted act removed had directories as well.
        for file in files.chain(self.proved.keys()).chain([self.what.run]) {
            let mut directory = directory_of(file);
            while !directory.as_bytes().is_empty() && !directories.contains(&directory) {
                let above = directory_of(&directory);
                directories.insert(std::mem::replace(&mut directory, above));
            }
        }
        if !self.what.is_file {
            directories.insert(self.what.run.clone());
        }
        for directory in directories.iter().rev() {
            let Ok(parent) = self.root.open_directory(&directory_of(directory)) else { continue };
            // A directory that is not empty stays, which does no harm.
            let on_disk = self.root.renamed().on_disk(directory);
            rustix::fs::unlinkat(&parent, name_of(&on_disk), AtFlags::REMOVEDIR).ok();
        }
    }
}

/// The directory of the last file, open: files come in the order of their paths.
struct Parents<'a> {
    root: &'a Root,
    last: Option<(SourcePath, OwnedFd)>,
}

impl Parents<'_> {
    /// Returns the directory of a file; `None` when it is gone.
    fn of(&mut self, path: &SourcePath) -> Result<Option<&OwnedFd>, Error> {
        let wanted = directory_of(path);
        if self.last.as_ref().is_none_or(|(last, _)| *last != wanted) {
            self.last = match self.root.open_directory(&wanted) {
                Err(Errno::NOENT | Errno::NOTDIR) => None,
                opened => {
                    let opened = opened.map_err(|errno| Error::of_file("look at", path, errno))?;
                    Some((wanted, opened))
                }
            };
        }
        Ok(self.last.as_ref().map(|(_, directory)| directory))
    }
}

fn finish(aside: &Aside<'_>, place: Option<&mut MoveTarget<'_>>) -> Result<(), Error> {
    match place {
        Some(place) => place.take(aside),
        None => aside.remove(),
    }
}

fn unproved(path: &SourcePath, why: &str) -> Error {
    Error {
        doing: "dispose of",
        path: path.to_string(),
        kind: FailureKind::SourceChanged,
        source: io::Error::other(why.to_owned()),
    }
}

fn directory_of(path: &SourcePath) -> SourcePath {
    let length = path.as_bytes().len().saturating_sub(path.file_name().len() + 1);
    SourcePath::from_bytes(&path.as_bytes()[..length])
}

fn name_of(path: &SourcePath) -> &Path {
    Path::new(std::ffi::OsStr::from_bytes(path.file_name()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::super::tests::{filter, path};
    use super::*;

    struct Place {
        outer: tempfile::TempDir,
    }

    impl Place {
        fn new(files: &[(&str, &str)]) -> Self {
            let outer = tempfile::tempdir().unwrap();
            for (name, content) in files {
                let file = outer.path().join("drop").join(name);
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                fs::write(file, content).unwrap();
            }
            Self { outer }
        }

        fn root(&self) -> PathBuf {
            self.outer.path().join("drop")
        }

        fn proved(&self, names: &[&str]) -> Proved {
            let root = Root::open(&self.root()).unwrap();
            let proved = |name: &&str| (path(name), root.stat(&path(name)).unwrap().fingerprint);
            names.iter().map(proved).collect()
        }

        fn dispose(&self, run: &str, proved: &Proved, how: &Disposition) -> Result<(), Error> {
            let is_file = self.root().join(run).is_file();
            let (root, run) = (DirectoryRoot::at(self.root()), path(run));
            let what = Disposable { root: &root, run: &run, is_file };
            dispose(&what, &filter(&[], &["*.jpg"], &[]), proved, how)
        }

        fn away(&self) -> Disposition {
            Disposition::Move(self.outer.path().join("away").display().to_string())
        }

        fn has(&self, name: &str) -> bool {
            self.outer.path().join(name).exists()
        }
    }

    #[test]
    fn a_whole_run_is_deleted_with_its_directories_and_no_other() {
        let place = Place::new(&[("run/a", "1"), ("run/deep/b", "2"), ("run2/c", "3")]);
        let proved = place.proved(&["run/a", "run/deep/b"]);
        place.dispose("run", &proved, &Disposition::Delete).unwrap();
        assert!(!place.has("drop/run") && place.has("drop/run2/c"));
        place.dispose("run", &proved, &Disposition::Delete).expect("what is not there is done");
    }

    #[test]
    fn one_file_that_is_not_proved_keeps_all_of_the_run() {
        let place = Place::new(&[("run/a", "1"), ("run/deep/b", "2")]);
        let error = place.dispose("run", &place.proved(&["run/a"]), &Disposition::Delete);
        assert_eq!(error.unwrap_err().kind, FailureKind::SourceChanged);
        assert!(place.has("drop/run/a") && place.has("drop/run/deep/b"));
        let proved = place.proved(&["run/a", "run/deep/b"]);
        fs::write(place.root().join("run/deep/b"), "other").unwrap();
        place.dispose("run", &proved, &place.away()).unwrap_err();
        assert!(place.has("drop/run/a") && !place.has("away"));
    }

    #[test]
    fn what_was_left_out_stays() {
        let place = Place::new(&[("run/a", "1"), ("run/t/x.jpg", "2")]);
        place.dispose("run", &place.proved(&["run/a"]), &Disposition::Delete).unwrap();
        assert!(!place.has("drop/run/a") && place.has("drop/run/t/x.jpg"));
    }

    #[test]
    fn a_run_is_moved_and_an_interrupted_move_goes_on() {
        let place = Place::new(&[("run/a", "1"), ("run/deep/b", "2")]);
        let proved = place.proved(&["run/a", "run/deep/b"]);
        fs::create_dir_all(place.outer.path().join("away/run")).unwrap();
        fs::rename(place.root().join("run/a"), place.outer.path().join("away/run/a")).unwrap();
        place.dispose("run", &proved, &place.away()).unwrap();
        assert!(!place.has("drop/run") && place.has("away/run/a") && place.has("away/run/deep/b"));
    }

    #[test]
    fn a_file_in_the_way_is_never_replaced() {
        let place = Place::new(&[("a", "mine")]);
        fs::create_dir_all(place.outer.path().join("away")).unwrap();
        fs::write(place.outer.path().join("away/a"), "other").unwrap();
        let proved = place.proved(&["a"]);
        let error = place.dispose("a", &proved, &place.away()).unwrap_err();
        assert!(error.source.to_string().contains("another file"), "{error}");
        assert!(place.has("drop/a"));
        fs::write(place.outer.path().join("away/a"), "mine").unwrap();
        place.dispose("a", &proved, &place.away()).unwrap();
        assert!(!place.has("drop/a"), "the same file is there whole: a copy that was interrupted");
    }

    #[test]
    fn another_file_system_gets_a_whole_copy_with_its_time() {
        let shared = Path::new("/dev/shm");
        let Ok(other) = tempfile::tempdir_in(shared) else { return };
        let place = Place::new(&[("run/a", "content")]);
        let proved = place.proved(&["run/a"]);
        let modified = fs::metadata(place.root().join("run/a")).unwrap().modified().unwrap();
        let how = Disposition::Move(other.path().display().to_string());
        place.dispose("run", &proved, &how).unwrap();
        let moved = other.path().join("run/a");
        assert_eq!(fs::read(&moved).unwrap(), b"content");
        assert_eq!(fs::metadata(moved).unwrap().modified().unwrap(), modified);
        assert!(!place.has("drop/run"));
    }

    fn open(directory: &Path) -> OwnedFd {
        fs::File::open(directory).unwrap().into()
    }

    #[test]
    fn another_version_under_the_name_is_put_back_and_never_over_something() {
        let place = Place::new(&[("run/a", "sent")]);
        let sent = place.proved(&["run/a"])[&path("run/a")];
        let run = place.root().join("run");
        fs::write(run.join("new"), "not sent").unwrap();
        fs::rename(run.join("new"), run.join("a")).unwrap();
        let (parent, name) = (open(&run), path("run/a"));
        let error = Aside::set(&parent, &name, sent).unwrap_err();
        assert_eq!(error.kind, FailureKind::SourceChanged);
        assert_eq!(fs::read_to_string(run.join("a")).unwrap(), "not sent");

        let private = aside::private_name(&name);
        fs::rename(run.join("a"), run.join(&private)).unwrap();
        fs::write(run.join("a"), "newest").unwrap();
        let error = aside::put_back(&parent, &private, &name).unwrap_err();
        assert!(error.source.to_string().contains("a.kept-1"), "{}", error.source);
        assert_eq!(fs::read_to_string(run.join("a")).unwrap(), "newest");
        assert_eq!(fs::read_to_string(run.join("a.kept-1")).unwrap(), "not sent");
        assert!(!run.join(private).exists());
    }

    #[test]
    fn what_stands_under_the_private_name_is_not_replaced() {
        let place = Place::new(&[("run/a", "sent")]);
        let proved = place.proved(&["run/a"]);
        let squatter = place.root().join("run").join(aside::private_name(&path("run/a")));
        fs::create_dir(&squatter).unwrap();
        place.dispose("run", &proved, &Disposition::Delete).unwrap_err();
        assert!(place.has("drop/run/a"));
    }

    /// For some seconds a thread renames other versions over files that are being deleted. The last
    /// version of each must be in its directory, or be the sent one.
    #[test]
    fn a_version_that_takes_the_name_of_a_file_that_goes_is_never_lost() {
        use std::sync::atomic::{AtomicBool, Ordering};
        let clock = crate::clock::Clock::real();
        let (mut rounds, mut refused) = (0, 0);
        while clock.now().monotonic.0 < std::time::Duration::from_secs(4) {
            let place = Place::new(&[("run/a", "sent"), ("run/b", "sent"), ("stage", "")]);
            let proved = place.proved(&["run/a", "run/b"]);
            let (run, ends) = (place.root().join("run"), AtomicBool::new(false));
            let last = std::thread::scope(|scope| {
                let swaps = scope.spawn(|| {
                    let (mut last, stage) = (None, place.root().join("stage"));
                    for number in rounds % 7.. {
                        if ends.load(Ordering::SeqCst) {
                            return last;
                        }
                        let content = format!("not sent {number}");
                        fs::write(&stage, &content).unwrap();
                        // The directory may be gone by then, and a rename does not create it.
                        if fs::rename(&stage, run.join("b")).is_ok() {
                            last = Some(content);
                        }
                        (0..rounds % 50).for_each(|_| std::thread::yield_now());
                    }
                    last
                });
                refused += u32::from(place.dispose("run", &proved, &Disposition::Delete).is_err());
                ends.store(true, Ordering::SeqCst);
                swaps.join().unwrap()
            });
            if let Some(last) = last {
                let left = fs::read_dir(&run).unwrap().map(|entry| entry.unwrap().path());
                let left: Vec<_> = left.map(|path| fs::read_to_string(path).unwrap()).collect();
                assert!(left.contains(&last), "{last} is lost: {left:?}");
            }
            rounds += 1;
        }
        println!("{rounds} rounds, {refused} refused");
        assert!(rounds > 20 && refused > 0);
    }

    /// Repeats the act after a kill behind each step.
    #[test]
    fn an_act_that_was_cut_at_any_step_is_completed_by_the_next() {
        let shared = tempfile::tempdir_in("/dev/shm").ok();
        let elsewhere = shared.as_ref().map(|other| other.path().to_owned());
        let ways = [None, Some(None), elsewhere.map(Some)];
        for (way, cut) in ways.iter().flat_map(|way| (0..6).map(move |cut| (way, cut))) {
            let Some(way) = way else { continue };
            let place = Place::new(&[("run/x/a", "one"), ("run/y/b", "two")]);
            let proved = place.proved(&["run/x/a", "run/y/b"]);
            let away = match way {
                Some(other) => other.join(format!("away{cut}")),
                None => place.outer.path().join("away"),
            };
            fs::create_dir_all(away.join("run/x")).unwrap();
            let own = place.root().join("run/x/a");
            let private = own.with_file_name(aside::private_name(&path("run/x/a")));
            if cut >= 1 {
                fs::rename(&own, &private).unwrap();
            }
            if cut == 2 {
                let run = path("run").digest();
                fs::write(away.join(format!("run/x/.dropferry-{run}-1.partial")), "on").unwrap();
            }
            if cut == 3 {
                fs::copy(&private, away.join("run/x/a")).unwrap();
            }
            let went = |from: &Path, to: &str| {
                fs::create_dir_all(away.join(to).parent().unwrap()).unwrap();
                fs::copy(from, away.join(to)).unwrap();
                fs::remove_file(from).unwrap();
            };
            if cut >= 4 {
                went(&private, "run/x/a");
            }
            if cut >= 5 {
                went(&place.root().join("run/y/b"), "run/y/b");
            }
            let how = Disposition::Move(away.display().to_string());
            place.dispose("run", &proved, &how).unwrap_or_else(|error| {
                panic!("cut {cut}: {error}: {}", error.source);
            });
            assert!(!place.has("drop/run"), "cut {cut}: emptied directories go, too");
            assert_eq!(fs::read_to_string(away.join("run/x/a")).unwrap(), "one");
            assert_eq!(fs::read_to_string(away.join("run/y/b")).unwrap(), "two");
            assert_eq!(fs::read_dir(away.join("run/x")).unwrap().count(), 1, "cut {cut}");
        }
    }

    #[test]
    fn what_a_cut_act_left_aside_goes_or_is_put_back() {
        let place = Place::new(&[("run/a", "one"), ("run/b", "two")]);
        let proved = place.proved(&["run/a", "run/b"]);
        let run = place.root().join("run");
        let aside = || {
            let private = run.join(aside::private_name(&path("run/a")));
            fs::rename(run.join("a"), private).unwrap();
        };
        aside();
        place.dispose("run", &proved, &Disposition::Keep).unwrap();
        assert!(place.has("drop/run/a") && place.has("drop/run/b"));

        aside();
        fs::write(run.join("b"), "another").unwrap();
        place.dispose("run", &proved, &Disposition::Delete).unwrap_err();
        assert!(place.has("drop/run/a"), "nothing of the run goes");

        let proved = place.proved(&["run/a", "run/b"]);
        aside();
        place.dispose("run", &proved, &Disposition::Delete).unwrap();
        assert!(!place.has("drop/run"));
    }

    #[test]
    fn names_that_disposal_gives_are_not_observed() {
        let long = "x".repeat(255);
        let place = Place::new(&[("run/a", "one"), (&format!("run/{long}"), "two")]);
        let run = place.root().join("run");
        let private = aside::private_name(&path("run/a"));
        fs::rename(run.join("a"), run.join(&private)).unwrap();
        let other = aside::private_name(&path(format!("run/{long}")));
        fs::rename(run.join(long), run.join(other)).unwrap();
        let mut seen = Vec::new();
        let patterns = filter(&[], &[], &[]);
        let scanned = super::super::scan(
            &DirectoryRoot::at(place.root()),
            &patterns,
            &BTreeSet::new(),
            |batch| {
                seen.extend(batch);
                ControlFlow::Continue(())
            },
        );
        assert!(scanned.unwrap().saw_all() && seen.is_empty(), "{seen:?}");
        let asked = vec![path("run").child(private.as_bytes())];
        let looked =
            super::super::look(&DirectoryRoot::at(place.root()), &patterns, asked).unwrap();
        assert_eq!(looked[0].seen, Seen::Gone);
    }

    #[test]
    fn a_move_follows_no_link_that_was_planted_at_its_place() {
        use std::os::unix::fs::symlink;
        let place = Place::new(&[("run/a", "mine"), ("b", "alone"), ("c", "third")]);
        let away = place.outer.path().join("away");
        fs::create_dir(&away).unwrap();
        fs::create_dir(place.outer.path().join("elsewhere")).unwrap();
        let refused = |run: &str, file: &str| {
            let proved = place.proved(&[file]);
            let error = place.dispose(run, &proved, &place.away()).unwrap_err();
            assert_eq!(error.kind, FailureKind::SourceChanged, "{error}");
            assert!(place.root().join(file).exists(), "{file} stays: {}", error.source);
        };
        symlink(place.outer.path().join("elsewhere"), away.join("run")).unwrap();
        refused("run", "run/a");
        symlink(place.root().join("b"), away.join("b")).unwrap();
        refused("b", "b");
        symlink("nothing", away.join("c")).unwrap();
        refused("c", "c");
        fs::remove_file(away.join("c")).unwrap();
        fs::hard_link(place.root().join("c"), away.join("c")).unwrap();
        refused("c", "c");
        assert_eq!(fs::read_dir(place.outer.path().join("elsewhere")).unwrap().count(), 0);
    }

    #[test]
    fn a_copy_to_another_file_system_writes_to_no_file_that_was_there() {
        use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
        let Ok(other) = tempfile::tempdir_in("/dev/shm") else { return };
        let place = Place::new(&[("report.csv", "content")]);
        let victim = place.outer.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        fs::set_permissions(place.root().join("report.csv"), fs::Permissions::from_mode(0o600))
            .unwrap();
        for name in [".06ec0711225174bb.partial", ".dropferry.partial"] {
            symlink(&victim, other.path().join(name)).unwrap();
        }
        let how = Disposition::Move(other.path().display().to_string());
        place.dispose("report.csv", &place.proved(&["report.csv"]), &how).unwrap();
        assert_eq!(fs::read_to_string(victim).unwrap(), "precious");
        let moved = fs::symlink_metadata(other.path().join("report.csv")).unwrap();
        assert!(moved.is_file() && moved.len() == 7);
        assert_eq!(moved.mode() & 0o777, 0o600, "nobody may read more than before");
    }
}
