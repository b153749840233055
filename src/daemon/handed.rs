//! Finds what an operator hands in: files, and all files below directories.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::engine::handed::HandedFile;
use crate::model::{DropName, Observation, Seen, SourcePath, Unit};
use crate::source::{self, Filter, Profile};

/// Files in one request. More of them are a drop directory's work.
const FILES_MAX: usize = 10_000;

/// The drop of files that operators hand in: the whole file system, of which nothing is left out.
pub(super) fn settings() -> source::Settings {
    source::Settings {
        name: DropName::handed_in(),
        directory: "/".into(),
        unit: Unit::File,
        include: Vec::new(),
        exclude: Vec::new(),
        order: Vec::new(),
        profile: Profile::plain(),
    }
}

/// What was found of what is handed in.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Files that can be admitted.
    pub(super) files: Vec<HandedFile>,
    /// What cannot, and why.
    pub(super) left_out: Vec<(SourcePath, String)>,
}

/// Looks at absolute paths.
///
/// # Errors
/// What is wrong with the request as a whole.
pub(super) fn find(paths: &[Vec<u8>]) -> Result<Found, String> {
    let filter = Filter::new(&settings()).map_err(|error| error.to_string())?;
    let mut found = Found::default();
    for path in paths {
        let path = Path::new(OsStr::from_bytes(path));
        let unusable = |why: String| format!("{} cannot be handed in: {why}", path.display());
        if !path.is_absolute() {
            return Err(unusable("it is not an absolute path".into()));
        }
        let real = path.canonicalize().map_err(|error| unusable(error.to_string()))?;
        found.take(&real, &filter).map_err(unusable)?;
    }
    Ok(found)
}

impl Found {
    fn take(&mut self, real: &Path, filter: &Filter) -> Result<(), String> {
        let (Some(parent), Some(name)) = (real.parent(), real.file_name()) else {
            return Err("it is the root of the file system".into());
        };
        let below = if real.is_dir() { real } else { parent };
        let mut too_many = false;
        let mut batch = |observations: Vec<Observation>| {
            for seen in observations {
                self.note(below, parent, seen);
            }
            too_many = self.files.len() > FILES_MAX;
            if too_many { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        if real.is_dir() {
            source::scan(real, (filter, &BTreeSet::new()), batch).map_err(|e| e.to_string())?;
        } else {
            let asked = vec![SourcePath::from_bytes(name.as_bytes())];
            let seen = source::look(parent, filter, asked).map_err(|error| error.to_string())?;
            // One file is never too many.
            let _flow = batch(seen);
        }
        if too_many {
            return Err(format!("it holds more than {FILES_MAX} files; make it a drop directory"));
        }
        Ok(())
    }

    fn note(&mut self, below: &Path, parent: &Path, seen: Observation) {
        let real: PathBuf = below.join(seen.path.as_path());
        let relative = |base: &Path| {
            let rest = real.strip_prefix(base).unwrap_or(&real);
            SourcePath::from_bytes(rest.as_os_str().as_bytes())
        };
        let (path, name) = (relative(Path::new("/")), relative(parent));
        match seen.seen {
            Seen::File(version) => self.files.push(HandedFile { path, name, version }),
            Seen::Unreadable(_, why) => self.left_out.push((path, why)),
            Seen::Ignored(reason) => self.left_out.push((path, reason.sentence().to_owned())),
            Seen::Gone => self.left_out.push((path, "it is not there any more".to_owned())),
        }
    }
}
