//! Writes a credential's file: completely or not at all, and readable only by its owner.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use super::as_user;

/// A credential beside its final path, until it is kept.
#[derive(Debug)]
pub(super) struct DraftFile {
    path: PathBuf,
    place: PathBuf,
}

impl DraftFile {
    /// Writes it. Its owner is that of the file at the final path, else the daemon's user, as far
    /// as the caller may set that: as root.
    pub(super) fn write(place: &Path, content: &str, state: Option<&Path>) -> io::Result<Self> {
        let name = place.file_name().unwrap_or_default().to_string_lossy();
        let path = place.with_file_name(format!(".{name}.{}", std::process::id()));
        let draft = Self { path, place: place.to_owned() };
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft.path)?;
        if let Some((user, group)) = owner(place, state) {
            fchown(&file, Some(user), Some(group))?;
        }
        file.write_all(content.as_bytes())?;
        file.sync_all()?;
        Ok(draft)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Moves it to its final path.
    pub(super) fn keep(self) -> io::Result<()> {
        std::fs::rename(&self.path, &self.place)?;
        let directory = self.place.parent().filter(|directory| !directory.as_os_str().is_empty());
        File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
    }
}

impl Drop for DraftFile {
    fn drop(&mut self) {
        // After it was kept, nothing is here.
        std::fs::remove_file(&self.path).ok();
    }
}

fn owner(place: &Path, state: Option<&Path>) -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let found = std::fs::metadata(place).ok().map(|found| (found.uid(), found.gid()));
    found.or_else(|| as_user::service(state).map(|user| (user.uid, user.gid)))
}
