//! The object store: each part's bytes in a file of their own, an object as a list of parts.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, Ordering};

use axum::body::Body;
use http_body_util::BodyExt;
use md5::{Digest, Md5};
use sha2::Sha256;

use super::digits::hex;

/// Bytes written at a time.
const WRITE_MIN: usize = 256 * 1024;

/// The location for an arriving part.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) path: PathBuf,
    /// Its bytes are written there.
    pub(super) is_kept: bool,
}

/// A part that arrived completely.
#[derive(Debug, Clone)]
pub(crate) struct StoredPart {
    /// The file with its bytes.
    pub path: PathBuf,
    pub length: u64,
    /// Their MD5, in hexadecimal.
    pub md5: String,
    /// The MD5 of the bytes as they arrived, which differs if the store damages them.
    pub(super) sent_md5: String,
}

tokio::task_local! {
    /// Parts that arrive in this task are stored with a wrong byte.
    pub(super) static CORRUPTS: bool;
}

/// Makes each damage different.
static DAMAGE_COUNT: AtomicU8 = AtomicU8::new(0);

/// Returns 32 digits that look like an MD5 and are not it, the same for the same bytes.
pub(super) fn salted(md5: &str) -> String {
    hex(&Sha256::digest(md5)[..16])
}

/// A part that did not arrive completely.
#[derive(Debug)]
pub(super) struct Torn {
    /// Bytes that arrived.
    pub(super) length: u64,
}

/// Counts the bytes of a request whose sender disconnects, when the server drops the unfinished work.
struct Count<F: FnMut(u64)> {
    length: u64,
    is_over: bool,
    when_dropped: F,
}

impl<F: FnMut(u64)> Drop for Count<F> {
    fn drop(&mut self) {
        if !self.is_over {
            (self.when_dropped)(self.length);
        }
    }
}

/// Receives a part into a file. When the sender disconnects meanwhile, `when_dropped` gets the
/// number of bytes that had arrived.
pub(super) async fn receive(
    place: &Place,
    body: Body,
    when_dropped: impl FnMut(u64) + Send,
) -> Result<StoredPart, Torn> {
    let mut count = Count { length: 0, is_over: false, when_dropped };
    let received = take(place, body, &mut count.length).await;
    count.is_over = true;
    match received {
        Ok(stored) if CORRUPTS.try_with(|corrupts| *corrupts).unwrap_or(false) => damage(stored),
        received => received,
    }
}

/// Changes one stored byte.
fn damage(stored: StoredPart) -> Result<StoredPart, Torn> {
    let torn = |_: io::Error| Torn { length: stored.length };
    let mut bytes = std::fs::read(&stored.path).map_err(torn)?;
    let change = DAMAGE_COUNT.fetch_add(1, Ordering::Relaxed) | 1 << 7;
    if let Some(byte) = bytes.first_mut() {
        *byte ^= change;
    }
    std::fs::write(&stored.path, &bytes).map_err(torn)?;
    Ok(StoredPart { md5: hex(&Md5::digest(&bytes)), ..stored })
}

async fn take(place: &Place, body: Body, length: &mut u64) -> Result<StoredPart, Torn> {
    let torn = |length| move |_: io::Error| Torn { length };
    let file = place.is_kept.then(|| File::create(&place.path)).transpose();
    let mut file = file.map_err(torn(0))?;
    let (mut hasher, mut buffer) = (Md5::new(), Vec::new());
    let mut body = body;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return Err(Torn { length: *length }) };
        let Ok(data) = frame.into_data() else { continue };
        *length += data.len() as u64;
        hasher.update(&data);
        let Some(file) = &mut file else { continue };
        buffer.extend_from_slice(&data);
        if buffer.len() >= WRITE_MIN {
            file.write_all(&buffer).map_err(torn(*length))?;
            buffer.clear();
        }
    }
    if let Some(file) = &mut file {
        file.write_all(&buffer).map_err(torn(*length))?;
    }
    let md5 = hex(&hasher.finalize());
    Ok(StoredPart { path: place.path.clone(), length: *length, sent_md5: md5.clone(), md5 })
}

/// Reads the bytes of an object, part after part.
pub(crate) fn read(parts: &[StoredPart]) -> io::Result<impl Read> {
    let mut all: Box<dyn Read + Send> = Box::new(io::empty());
    for part in parts {
        all = Box::new(all.chain(File::open(&part.path)?));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_discarded_is_digested_and_leaves_no_file() {
        let directory = tempfile::tempdir().expect("a directory");
        for is_kept in [true, false] {
            let place = Place { path: directory.path().join(is_kept.to_string()), is_kept };
            let stored = receive(&place, Body::from("abc"), |_| ()).await.expect("it arrived");
            let digest = (stored.md5.as_str(), stored.length);
            assert_eq!(digest, ("900150983cd24fb0d6963f7d28e17f72", 3));
            assert_eq!(place.path.exists(), is_kept);
        }
    }
}
