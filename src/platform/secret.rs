//! Files with a secret: small, and readable by no other user.

use std::io::{self, Read};
use std::path::Path;

/// A longer file contains no secret: a wrong path must not fill the memory.
const FILE_MAX: u64 = 64 * 1024;

/// Reads a small file as text; a private one must not be readable by other users. The error of a
/// file that is not text does not quote it.
pub(crate) fn read_secret(file: &Path, is_private: bool) -> io::Result<String> {
    let bytes = read_secret_bytes(file, is_private)?;
    String::from_utf8(bytes).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// Reads a small file with a secret. Only a regular file is accepted, without waiting.
///
/// # Errors
/// When it cannot be read, is no file, is too long, or is private and readable by others.
pub(crate) fn read_secret_bytes(file: &Path, is_private: bool) -> io::Result<Vec<u8>> {
    use rustix::fs::{FileType, Mode, OFlags};
    // Opening a pipe without a writer would wait.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(file, flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&opened)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(io::Error::other("it is no file"));
    }
    let mode = stat.st_mode & 0o777;
    if is_private && mode & 0o077 != 0 {
        let message = format!("it may be read by others (mode {mode:o}): chmod 600");
        return Err(io::Error::other(message));
    }
    let mut bytes = Vec::new();
    std::fs::File::from(opened).take(FILE_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(io::Error::other("it is far too long for a secret"));
    }
    Ok(bytes)
}
