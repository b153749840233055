//! Secrets of channels: one line in a file that nobody else may read.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::Means;
use crate::model::{Failure, FailureKind};

/// A longer file is a wrong path.
const FILE_MAX: u64 = 64 * 1024;

/// Reads a secret, as it is at this moment.
///
/// # Errors
/// `Unauthorized`, with the file and the reason: it may be mended at any time.
pub(super) fn read(file: &Path, means: Means<'_>) -> Result<String, Failure> {
    let unusable = |why: &str| {
        let message = format!("{} cannot be used: {why}", file.display());
        Failure::new(FailureKind::Unauthorized, message)
    };
    let broken = |error: std::io::Error| unusable(&error.to_string());
    let opened = std::fs::File::open(file).map_err(broken)?;
    let mode = opened.metadata().map_err(broken)?.permissions().mode() & 0o777;
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
    (means.keep)(secret);
    Ok(secret.to_owned())
}
