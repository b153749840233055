//! Secrets of channels: one line in a file that no other user may read.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::Means;
use crate::model::{Failure, FailureKind};

/// A longer file means a wrong path.
const FILE_MAX: u64 = 64 * 1024;

/// Reads a secret in its present state.
///
/// # Errors
/// `Unauthorized`, with the file and the reason: it may be corrected at any time.
pub(super) fn read(file: &Path, means: Means<'_>) -> Result<String, Failure> {
    let secret = read_line(file)?;
    (means.keep)(&secret);
    Ok(secret)
}

fn read_line(file: &Path) -> Result<String, Failure> {
    let unusable = |why: &str| {
        let message = format!("{} cannot be used: {why}", file.display());
        Failure::new(FailureKind::Unauthorized, message)
    };
    let broken = |error: std::io::Error| unusable(&error.to_string());
    // Opening a pipe without a writer would wait.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let opened =
        rustix::fs::open(file, flags, Mode::empty()).map_err(|error| broken(error.into()))?;
    let opened = std::fs::File::from(opened);
    let found = opened.metadata().map_err(broken)?;
    if !found.is_file() {
        return Err(unusable("it is no file"));
    }
    let mode = found.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(unusable(&format!("it may be read by others (mode {mode:o}): chmod 600")));
    }
    let mut bytes = Vec::new();
    opened.take(FILE_MAX + 1).read_to_end(&mut bytes).map_err(broken)?;
    let text = String::from_utf8(bytes).map_err(|_| unusable("it is not text"))?;
    let secret = text.trim();
    if secret.is_empty() || secret.chars().any(char::is_control) {
        return Err(unusable("it does not hold one line"));
    }
    Ok(secret.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_file_is_not_waited_for() {
        let directory = tempfile::tempdir().expect("a directory");
        let pipe = directory.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, Mode::RUSR).expect("a pipe");
        for place in [pipe.as_path(), Path::new("/dev/zero"), directory.path()] {
            let failure = read_line(place).expect_err("no file");
            assert!(failure.message.ends_with("it is no file"), "{failure}");
        }
    }
}
