//! WHAT: the word that names the subject of a command.
//!
//! A word is an upload's id; a destination; a drop directory; `DROP/RUN`, or `DROP/` and the path of a
//! file or a directory; a run, a file or a directory alone, by its path or any end of it, if that is
//! unambiguous; a glob. A name may also be written as it is displayed, with its escapes (`a\n`, `\xff`).
//! A run may also be named by the present name of its directory. The first of these that matches counts,
//! except that an id, a name and the path of a run have equal rank. A word without a match is refused
//! with the nearest names, and an ambiguous one with the list of its matches. `NAME/` is a drop
//! directory, `NAME:` a destination and `ID:` an upload, if others have the name too.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use globset::GlobBuilder;

use crate::config::nearest_words;
use crate::model::{DirectoryName, RunFile, RunRow, Scope, Shown, SourcePath, UploadId};
use crate::store::Error;
use crate::store::snapshot::{FileUploads, KnownNames, NamedPath, Snapshot};

/// Limit of listed matches; the others are counted.
const LISTED_MAX: usize = 10;
/// Limit of similar names.
const NEAREST_MAX: usize = 3;

/// The objects that one or several words name.
#[derive(Debug, Default)]
pub(super) struct What {
    uploads: BTreeSet<UploadId>,
    others: BTreeSet<Scope>,
}

/// One file at one destination, which a word may name.
pub(super) struct MeantFile<'a> {
    pub(super) upload: UploadId,
    pub(super) drop: &'a str,
    pub(super) path: &'a [u8],
    pub(super) destination: &'a str,
}

/// Why a word names nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum WhatError {
    #[error("{} is no upload, destination, drop directory, run or file\nhint: {hint}", Shown(word))]
    Nothing { word: String, hint: String },
    #[error(
        "{} may be {list}\nhint: write DROP/RUN, more of the path, DROP/ for a drop directory, DESTINATION: for a destination, or ID: for an upload",
        Shown(word)
    )]
    Several { word: String, list: String },
    #[error(transparent)]
    Store(#[from] Error),
}

impl What {
    pub(super) fn read(snapshot: &Snapshot, words: &[OsString]) -> Result<Self, WhatError> {
        Self::resolve(WordResolver { snapshot: Some(snapshot), names: snapshot.names()? }, words)
    }

    /// Reads words that may also name objects that only the ledgers know; without a database only these.
    pub(super) fn read_with(
        snapshot: Option<&Snapshot>,
        known: KnownNames,
        words: &[OsString],
    ) -> Result<Self, WhatError> {
        let mut names = snapshot.map(Snapshot::names).transpose()?.unwrap_or_default();
        names.directories.extend(known.directories);
        names.directories.sort();
        names.directories.dedup();
        names.runs.extend(known.runs);
        names.runs.sort();
        names.runs.dedup();
        Self::resolve(WordResolver { snapshot, names }, words)
    }

    fn resolve(resolver: WordResolver<'_>, words: &[OsString]) -> Result<Self, WhatError> {
        let mut what = Self::default();
        for word in words {
            what.extend(resolver.resolve(word)?);
        }
        Ok(what)
    }

    fn extend(&mut self, scopes: impl IntoIterator<Item = Scope>) {
        for scope in scopes {
            match scope {
                Scope::Upload(id) => self.uploads.insert(id),
                Scope::All | Scope::Destination(_) | Scope::Drop(_) | Scope::Run(..) => {
                    self.others.insert(scope)
                }
            };
        }
    }

    /// Returns everything that was named.
    pub(super) fn scopes(&self) -> Vec<Scope> {
        let uploads = self.uploads.iter().map(|id| Scope::Upload(*id));
        self.others.iter().cloned().chain(uploads).collect()
    }

    /// Returns the named upload, if nothing else was named.
    pub(super) fn upload(&self) -> Option<UploadId> {
        let is_alone = self.others.is_empty() && self.uploads.len() == 1;
        self.uploads.first().copied().filter(|_| is_alone)
    }

    pub(super) fn covers_file(&self, file: &RunFile) -> bool {
        self.covers(&MeantFile {
            upload: file.upload,
            drop: &file.drop,
            path: file.path.as_bytes(),
            destination: &file.destination,
        })
    }

    pub(super) fn covers(&self, file: &MeantFile<'_>) -> bool {
        let is_meant = |scope: &Scope| match scope {
            Scope::All => true,
            Scope::Destination(name) => name.as_str() == file.destination,
            Scope::Drop(name) => name.as_str() == file.drop,
            Scope::Run(drop, run) => {
                drop.as_str() == file.drop && is_below(file.path, run.as_bytes())
            }
            Scope::Upload(id) => *id == file.upload,
        };
        self.uploads.contains(&file.upload) || self.others.iter().any(is_meant)
    }

    pub(super) fn covers_run(&self, run: &RunRow) -> bool {
        self.others.iter().any(|scope| scope.covers_run(run))
    }
}

pub(super) fn is_below(path: &[u8], directory: &[u8]) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

/// Returns whether a path ends with these components.
fn is_end(path: &[u8], end: &[u8]) -> bool {
    path.strip_suffix(end).is_some_and(|rest| rest.is_empty() || rest.ends_with(b"/"))
}

/// The matches of a word: each name with its scopes.
type Meanings = BTreeMap<String, Vec<Scope>>;

struct WordResolver<'a> {
    /// `None` if the database is lost: no upload and no single file is known by its name then.
    snapshot: Option<&'a Snapshot>,
    names: KnownNames,
}

impl WordResolver<'_> {
    /// Resolves a word as it is; without a match, as a displayed name.
    fn resolve(&self, word: &OsStr) -> Result<Vec<Scope>, WhatError> {
        let shown = word.to_str().filter(|text| text.contains('\\'));
        match (self.resolve_plain(word), shown.and_then(SourcePath::from_shown)) {
            (Err(nothing @ WhatError::Nothing { .. }), Some(path)) => {
                self.resolve_plain(OsStr::from_bytes(path.as_bytes())).map_err(|_| nothing)
            }
            (found, _) => found,
        }
    }

    fn resolve_plain(&self, word: &OsStr) -> Result<Vec<Scope>, WhatError> {
        let bytes = word.as_bytes();
        let path = SourcePath::from_bytes(bytes.strip_suffix(b"/").unwrap_or(bytes));
        let mut found = self.upload(word)?;
        found.extend(self.named(bytes));
        if !found.is_empty() && !bytes.ends_with(b"/") {
            found.extend(self.exactly(&path, None)?);
        }
        if found.is_empty() {
            found = self.in_directory(bytes)?;
        }
        if found.is_empty() {
            found = self.at(&path, None)?;
        }
        if found.is_empty() {
            let is_meant = |_: &str, other: &[u8]| is_end(other, path.as_bytes());
            found = candidates(self.files(|snapshot| snapshot.files_where(is_meant))?);
            self.add_runs(&mut found, |place| is_end(place.1.as_bytes(), path.as_bytes()));
        }
        if found.is_empty() && bytes.iter().any(|byte| b"*?[{".contains(byte)) {
            // A glob may match several objects.
            return match self.matching(word)? {
                scopes if scopes.is_empty() => Err(self.nothing(word)),
                scopes => Ok(scopes),
            };
        }
        match found.len() {
            0 => Err(self.nothing(word)),
            1 => Ok(found.into_values().flatten().collect()),
            count => {
                let mut list: Vec<_> = found.into_keys().take(LISTED_MAX).collect();
                if count > LISTED_MAX {
                    list.push(format!("{} more", count - LISTED_MAX));
                }
                let word = word.to_string_lossy().into_owned();
                Err(WhatError::Several { word, list: list.join(" or ") })
            }
        }
    }

    fn upload(&self, word: &OsStr) -> Result<Meanings, Error> {
        let id = word.to_str().and_then(|text| text.strip_suffix(':').unwrap_or(text).parse().ok());
        let id = id.map(UploadId);
        let scope = id.map(Scope::Upload);
        let is_there = match (&scope, self.snapshot) {
            (Some(scope), Some(snapshot)) => !snapshot.uploads_of(scope, 1)?.is_empty(),
            (Some(_), None) | (None, _) => false,
        };
        let found = scope.filter(|_| is_there).map(|scope| (scope.to_string(), vec![scope]));
        Ok(found.into_iter().collect())
    }

    fn files(
        &self,
        read: impl FnOnce(&Snapshot) -> Result<FileUploads, Error>,
    ) -> Result<FileUploads, Error> {
        self.snapshot.map_or_else(|| Ok(FileUploads::new()), read)
    }

    fn named(&self, word: &[u8]) -> Meanings {
        let directory = word.strip_suffix(b"/").unwrap_or(word);
        let is_drop = |name: &&DirectoryName| name.as_str().as_bytes() == directory;
        let drops = self.names.directories.iter().filter(is_drop).cloned().map(Scope::Drop);
        let destination = word.strip_suffix(b":").unwrap_or(word);
        let destinations = self.names.destinations.iter().cloned();
        let destinations = destinations.filter(|name| name.as_str().as_bytes() == destination);
        let scopes = drops.chain(destinations.map(Scope::Destination));
        scopes.map(|scope| (scope.to_string(), vec![scope])).collect()
    }

    /// Resolves `DROP/PATH`.
    fn in_directory(&self, word: &[u8]) -> Result<Meanings, Error> {
        for drop in &self.names.directories {
            let rest = word.strip_prefix(drop.as_str().as_bytes());
            if let Some(path) = rest.and_then(|rest| rest.strip_prefix(b"/")) {
                let path = path.strip_suffix(b"/").unwrap_or(path);
                let found = self.at(&SourcePath::from_bytes(path), Some(drop))?;
                if !found.is_empty() {
                    return Ok(found);
                }
            }
        }
        Ok(Meanings::new())
    }

    /// Returns the matches of exactly this path, including the present name of its run's directory.
    fn at(&self, path: &SourcePath, drop: Option<&DirectoryName>) -> Result<Meanings, Error> {
        let found = self.at_first_name(path, drop)?;
        let renamed = self.names.renamed.iter().find(|((name, now), _)| {
            found.is_empty() && drop.is_none_or(|drop| drop == name) && path.is_within(now)
        });
        let Some(((name, now), run)) = renamed else { return Ok(found) };
        let rest = &path.as_bytes()[now.as_bytes().len()..];
        let path = SourcePath::from_bytes(&[run.as_bytes(), rest].concat());
        self.at_first_name(&path, Some(name))
    }

    /// Returns the matches of exactly this path: files, else runs, else directories of runs or of files.
    fn at_first_name(
        &self,
        path: &SourcePath,
        drop: Option<&DirectoryName>,
    ) -> Result<Meanings, Error> {
        let is_here = |name: &DirectoryName| drop.is_none_or(|drop| drop == name);
        let mut found = self.exactly(path, drop)?;
        if found.is_empty() {
            let mut below: BTreeMap<&DirectoryName, Vec<Scope>> = BTreeMap::new();
            for (name, run) in &self.names.runs {
                if is_here(name) && is_below(run.as_bytes(), path.as_bytes()) {
                    below.entry(name).or_default().push(Scope::Run(name.clone(), run.clone()));
                }
            }
            let files = self.files(|snapshot| snapshot.files_below(path))?;
            for ((name, _), ids) in files.iter().filter(|((name, _), _)| is_here(name)) {
                let scopes = below.entry(name).or_default();
                if !scopes.iter().any(|scope| matches!(scope, Scope::Run(..))) {
                    scopes.extend(ids.iter().map(|id| Scope::Upload(*id)));
                }
            }
            let named = |(name, scopes)| {
                (Scope::Run(DirectoryName::clone(name), path.clone()).to_string(), scopes)
            };
            found = below.into_iter().map(named).collect();
        }
        Ok(found)
    }

    /// Returns the files and the runs with exactly this path.
    fn exactly(&self, path: &SourcePath, drop: Option<&DirectoryName>) -> Result<Meanings, Error> {
        let is_here = |name: &DirectoryName| drop.is_none_or(|drop| drop == name);
        let mut files = self.files(|snapshot| snapshot.files_at(path))?;
        files.retain(|(name, _), _| is_here(name));
        let mut found = candidates(files);
        self.add_runs(&mut found, |(name, run)| is_here(name) && run == path);
        Ok(found)
    }

    /// Returns the runs by each present or former name of their directories.
    fn runs(&self) -> impl Iterator<Item = (&NamedPath, &SourcePath)> {
        let own = self.names.runs.iter().map(|place| (place, &place.1));
        own.chain(self.names.renamed.iter().map(|(place, run)| (place, run)))
    }

    /// Adds runs. A run that is a file is there as a file already.
    fn add_runs(&self, found: &mut Meanings, is_meant: impl Fn(&NamedPath) -> bool) {
        for ((drop, _), run) in self.runs().filter(|(place, _)| is_meant(place)) {
            let scope = Scope::Run(drop.clone(), run.clone());
            found.entry(scope.to_string()).or_insert_with(|| vec![scope]);
        }
    }

    /// Returns the matches of a glob: names, else runs, else files.
    fn matching(&self, word: &OsStr) -> Result<Vec<Scope>, Error> {
        let text = word.to_string_lossy();
        let Ok(glob) = GlobBuilder::new(&text).literal_separator(true).build() else {
            return Ok(Vec::new());
        };
        let glob = glob.compile_matcher();
        let is_match = |bytes: &[u8]| glob.is_match(OsStr::from_bytes(bytes));
        let is_meant = |drop: &str, path: &[u8]| {
            let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
            is_match(path)
                || is_match(&[drop.as_bytes(), b"/", path].concat())
                || (!text.contains('/') && is_match(name))
        };
        let names = &self.names;
        let drops = names.directories.iter().cloned();
        let drops = drops.filter(|name| is_match(name.as_str().as_bytes())).map(Scope::Drop);
        let to = names.destinations.iter().cloned();
        let to = to.filter(|name| is_match(name.as_str().as_bytes())).map(Scope::Destination);
        let mut found: Vec<_> = drops.chain(to).collect();
        if found.is_empty() {
            let runs = self.runs();
            let runs = runs.filter(|((drop, at), _)| is_meant(drop.as_str(), at.as_bytes()));
            found = runs.map(|((drop, _), run)| Scope::Run(drop.clone(), run.clone())).collect();
        }
        if found.is_empty() {
            let files = self.files(|snapshot| snapshot.files_where(is_meant))?;
            found = files.into_values().flatten().map(Scope::Upload).collect();
        }
        Ok(found)
    }

    fn nothing(&self, word: &OsStr) -> WhatError {
        let word = word.to_string_lossy().into_owned();
        let names = &self.names;
        let mut known: Vec<String> = names.directories.iter().map(ToString::to_string).collect();
        known.extend(names.destinations.iter().map(ToString::to_string));
        for (drop, run) in &names.runs {
            let run = run.to_string();
            known.push(if word.contains('/') { format!("{drop}/{run}") } else { run });
        }
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        let near: Vec<_> = nearest_words(&word, &known, NEAREST_MAX)
            .into_iter()
            .map(|name| Shown(name).to_string())
            .collect();
        let hint = match near.is_empty() {
            true => "dropferry status lists them".to_owned(),
            false => format!("did you mean {}?", near.join(" or ")),
        };
        WhatError::Nothing { word, hint }
    }
}

/// Files by their names, each with all of its uploads.
fn candidates(files: FileUploads) -> Meanings {
    let named = |((drop, path), ids): (NamedPath, Vec<UploadId>)| {
        let name = Scope::Run(drop, path).to_string();
        (name, ids.into_iter().map(Scope::Upload).collect())
    };
    files.into_iter().map(named).collect()
}
