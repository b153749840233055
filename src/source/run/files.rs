//! The small files of one run: found by pattern, read completely, within limits.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::rc::Rc;

use rustix::fs::{Dir, FileType};
use rustix::io::Errno;

use super::spot;
use super::text::decoded;
use crate::model::SourcePath;
use crate::source::beneath::{LinkEnd, Root, is_exhausted, stat_fd};
use crate::source::profile::{FilePattern, Spot};
use crate::source::{DirectoryRoot, Error};

/// Limit of the bytes of a file that is read for its words. The largest known is a
/// `RunParameters.xml` of some hundred kB.
pub(super) const READ_MAX: u64 = 4 << 20;
/// Limit of files of one pattern: the first few give what many files give.
const FOUND_MAX: usize = 16;
/// Limit of names of one directory that are compared with a pattern.
const NAMES_MAX: usize = 50_000;

pub(super) struct RunFolder<'a> {
    root: Root,
    run: &'a SourcePath,
    is_directory: bool,
    found: BTreeMap<String, Rc<[SourcePath]>>,
    /// The last read file and its limit: several words are in one file.
    last: Option<(SourcePath, u64, Option<Rc<str>>)>,
    notes: BTreeSet<String>,
}

impl<'a> RunFolder<'a> {
    pub(super) fn open(root: &DirectoryRoot, run: &'a SourcePath) -> Result<Self, Error> {
        let root = root.open()?;
        let stat = root.stat(run).map_err(|errno| Error::of_file("read run", run, errno))?;
        Ok(Self {
            root,
            run,
            is_directory: stat.file_type == FileType::Directory,
            found: BTreeMap::new(),
            last: None,
            notes: BTreeSet::new(),
        })
    }

    pub(super) fn is_directory(&self) -> bool {
        self.is_directory
    }

    pub(super) fn run(&self) -> &SourcePath {
        self.run
    }

    pub(super) fn notes(self) -> Vec<String> {
        self.notes.into_iter().collect()
    }

    /// Reads a value from the files of a pattern, the first by name first.
    pub(super) fn ask(
        &mut self,
        file: &FilePattern,
        spot: &Spot,
        word: &str,
    ) -> Result<Option<String>, Error> {
        for path in self.find(file)?.iter() {
            let found = match spot {
                Spot::Name(regex) => spot::group(regex, word, path.file_name()),
                Spot::Xml(_) | Spot::Json(_) | Spot::Key(_) => {
                    self.read(path, READ_MAX)?.and_then(|text| spot::read(spot, &text))
                }
            };
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Returns the paths of the matching files, sorted by name; below the drop directory.
    pub(super) fn find(&mut self, file: &FilePattern) -> Result<Vec<SourcePath>, Error> {
        if let Some(found) = self.found.get(&file.text) {
            return Ok(found.to_vec());
        }
        let mut level = vec![self.run.clone()];
        for part in &file.parts {
            let mut next = Vec::new();
            for directory in &level {
                let names = self.names(directory, part);
                let names = names.or_else(|errno| self.excuse(directory, errno))?;
                next.extend(names.iter().map(|name| directory.child(name)));
            }
            next.sort();
            next.truncate(FOUND_MAX);
            level = next;
        }
        self.found.insert(file.text.clone(), level.clone().into());
        Ok(level)
    }

    fn names(
        &self,
        directory: &SourcePath,
        part: &globset::GlobMatcher,
    ) -> Result<Vec<Vec<u8>>, Errno> {
        let mut listing = Dir::new(self.root.open_directory(directory)?)?;
        let mut names = Vec::new();
        for _ in 0..NAMES_MAX {
            let Some(entry) = listing.read() else { break };
            let name = entry?.file_name().to_bytes().to_vec();
            let is_real = name != b"." && name != b"..";
            if is_real && part.is_match_candidate(&globset::Candidate::from_bytes(&name)) {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// Treats an unreadable file as missing, unless it is this process's own fault.
    fn excuse<T: Default>(&self, path: &SourcePath, errno: Errno) -> Result<T, Error> {
        if is_exhausted(errno) {
            return Err(Error::of_file("read", path, errno));
        }
        Ok(T::default())
    }

    /// Reads a file as text; `None` when it is missing, not regular, or too long.
    pub(super) fn read(&mut self, path: &SourcePath, max: u64) -> Result<Option<Rc<str>>, Error> {
        if let Some((last, last_max, text)) = &self.last
            && (last, *last_max) == (path, max)
        {
            return Ok(text.clone());
        }
        let bytes = self.bytes(path, max);
        let bytes = bytes.or_else(|errno| self.excuse(path, errno))?;
        let is_too_long = bytes.as_ref().is_some_and(|bytes| bytes.len() as u64 > max);
        if is_too_long {
            let name = String::from_utf8_lossy(path.file_name()).into_owned();
            self.notes.insert(format!("{name} is longer than {} MiB and was not read", max >> 20));
        }
        let text = bytes.filter(|_| !is_too_long).map(|bytes| Rc::from(decoded(&bytes)));
        self.last = Some((path.clone(), max, text.clone()));
        Ok(text)
    }

    /// Reads a file up to one byte beyond `max`.
    fn bytes(&self, path: &SourcePath, max: u64) -> Result<Option<Vec<u8>>, Errno> {
        let Some(path) = self.regular(path)? else { return Ok(None) };
        let file = self.root.open_file(&path)?;
        if stat_fd(&file)?.file_type != FileType::RegularFile {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        let read = File::from(file).take(max + 1).read_to_end(&mut bytes);
        read.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        Ok(Some(bytes))
    }

    /// Returns the real path of a regular file: a link is followed within the drop directory.
    fn regular(&self, path: &SourcePath) -> Result<Option<SourcePath>, Errno> {
        let file_type = self.root.stat(path)?.file_type;
        if file_type == FileType::Symlink {
            return Ok(match self.root.resolve(path) {
                LinkEnd::Inside(target) => Some(target),
                LinkEnd::Outside | LinkEnd::Broken => None,
                LinkEnd::Failing(errno) => return Err(errno),
            });
        }
        Ok((file_type == FileType::RegularFile).then(|| path.clone()))
    }

    /// Returns whether there is a directory at a path below the drop directory.
    pub(super) fn is_directory_at(&self, path: &SourcePath) -> Result<bool, Error> {
        let file_type = self.root.stat(path).map(|stat| stat.file_type == FileType::Directory);
        file_type.or_else(|errno| self.excuse(path, errno))
    }

    /// Returns whether anything is at a path below the run.
    pub(super) fn has(&self, path: &[u8]) -> Result<bool, Error> {
        let path = self.run.child(path);
        match self.root.stat(&path) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(false),
            // A path that may not be looked at is not known to be missing.
            Err(errno) => self.excuse::<bool>(&path, errno).map(|_| true),
        }
    }

    pub(super) fn note(&mut self, note: String) {
        self.notes.insert(note);
    }
}
