//! Checks what an operator hands in: files, each with a descriptor that proves that the operator
//! may read it. The daemon's own files are never accepted, whatever is proved.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fd::BorrowedFd;

use crate::config::Config;
use crate::control::Descriptors;
use crate::engine::handed::HandedFile;
use crate::model::{Catalogued, DirectoryName, SourcePath};
use crate::source;
use crate::store::{self, snapshot::Snapshot};

/// Trees with the kernel's, the processes' and the devices' data.
const UNREAL: [&str; 3] = ["/proc", "/sys", "/dev"];

#[derive(Debug, Default)]
pub(super) struct Found {
    /// Files to admit.
    pub(super) files: Vec<HandedFile>,
    /// What the rows know of them.
    pub(super) known: Catalogued,
    /// Refused files, and why.
    pub(super) left_out: Vec<(String, String)>,
}

/// Files that may not be handed in: the state, the configuration, the credentials.
#[derive(Debug)]
pub(super) struct Protected {
    paths: Vec<PathBuf>,
    state: PathBuf,
}

/// Files and directories by inode, whatever their names.
struct Inodes(BTreeSet<(u64, u64)>);

impl Protected {
    fn known(&self, files: &[HandedFile]) -> Result<Catalogued, store::Error> {
        let (snapshot, drop) = (Snapshot::open(&self.state)?, DirectoryName::handed_in());
        let mut known = Catalogued::default();
        for file in files {
            known.sent.extend(snapshot.known_versions(&drop, &file.path)?);
        }
        Ok(known)
    }

    /// Returns the protected files of a configuration.
    pub(super) fn of(config: &Config) -> Self {
        let secrets = config.secret_files().into_iter().map(Path::to_owned);
        let more = config.path.with_file_name("conf.d");
        let own = [config.state_directory.clone(), config.path.clone(), more];
        let unreal = UNREAL.map(PathBuf::from);
        let paths = secrets.chain(own).chain(unreal).collect();
        Self { paths, state: config.state_directory.clone() }
    }

    /// Returns their present inodes, because files are replaced.
    fn inodes(&self) -> Inodes {
        // Files of the state may have further names elsewhere, by hard links.
        let backups = self.state.join("backups");
        let listed = [&self.state, &backups].into_iter().filter_map(|at| at.read_dir().ok());
        let files = listed.flatten().filter_map(|entry| entry.ok().map(|entry| entry.path()));
        let all = self.paths.iter().cloned().chain(files);
        Inodes(all.filter_map(|path| inode(&path)).collect())
    }
}

impl Inodes {
    /// Returns whether a path leads to a protected file, or through a protected directory.
    fn cover(&self, path: &Path) -> bool {
        path.ancestors().filter_map(inode).any(|inode| self.0.contains(&inode))
    }
}

fn inode(path: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Offered<'a> {
    pub(super) paths: &'a [Vec<u8>],
    /// The directory that their names are relative to.
    pub(super) below: Option<&'a [u8]>,
}

impl Offered<'_> {
    /// Checks each file and its descriptor.
    pub(super) fn find(
        self,
        descriptors: &Descriptors,
        protected: &Protected,
    ) -> Result<Found, String> {
        if descriptors.iter().len() != self.paths.len() {
            return Err(format!(
                "{} files were named and {} opened: each file is handed in with a descriptor \
                 that was opened for reading",
                self.paths.len(),
                descriptors.iter().len()
            ));
        }
        let inodes = protected.inodes();
        let mut found = Found::default();
        for (path, shown) in self.paths.iter().zip(descriptors.iter()) {
            let path = Path::new(OsStr::from_bytes(path));
            match self.judge(path, shown, &inodes) {
                Ok(file) => found.files.push(file),
                Err(why) => {
                    let path = SourcePath::from_bytes(path.as_os_str().as_bytes());
                    found.left_out.push((path.to_string(), why));
                }
            }
        }
        let known = protected.known(&found.files);
        found.known = known.map_err(|error| error.to_string())?;
        Ok(found)
    }

    fn judge(
        self,
        path: &Path,
        shown: BorrowedFd<'_>,
        protected: &Inodes,
    ) -> Result<HandedFile, String> {
        if !path.is_absolute() {
            return Err("it is not an absolute path".into());
        }
        let real =
            path.canonicalize().map_err(|error| format!("the daemon cannot find it: {error}"))?;
        let proof = source::prove(&real, shown).map_err(|unproved| unproved.to_string())?;
        let own = (proof.fingerprint.device, proof.fingerprint.inode);
        if protected.0.contains(&own) || protected.cover(&real) {
            return Err("it belongs to the daemon or to the system, and is never handed in".into());
        }
        let below = self.below.map(|below| Path::new(OsStr::from_bytes(below)));
        let name = below.and_then(|below| path.strip_prefix(below).ok());
        let name = name.map(Path::as_os_str).or(path.file_name()).unwrap_or_default();
        let relative = real.strip_prefix("/").unwrap_or(&real);
        Ok(HandedFile {
            path: SourcePath::from_bytes(relative.as_os_str().as_bytes()),
            name: SourcePath::from_bytes(name.as_bytes()),
            version: proof.fingerprint,
            provenance: proof.provenance,
        })
    }
}
