//! Stored content: files of one request, damage, and the answers about bytes.

use md5::{Digest, Md5 as Hasher};

use super::{Fake, FakeFile, FakeState, Result, refuse};
use crate::model::remote::ContentMark;
use crate::model::{
    ByteCount, Description, ETag, FailureKind, Maker, Md5, PartNumber, PartSize, RemoteFile,
    RemoteFileId, RemotePart, RemoteUploadId, Stored,
};
use crate::platform::contract::{PartBody, Whole, WholeRequest};

/// Prefix of the id of an upload that was never begun, before its token.
const WHOLE: &str = "whole ";

pub(super) fn is_whole(id: &RemoteUploadId) -> bool {
    id.as_str().starts_with(WHOLE)
}

impl Fake {
    pub(super) async fn take_whole(&self, request: &WholeRequest, body: PartBody) -> Result<Whole> {
        let WholeRequest { begun, .. } = request;
        drop(self.enter("put whole")?);
        let bytes = self.arrive(body).await?;
        let mut state = self.state();
        let remote = begun.remote(RemoteUploadId::new(format!("{WHOLE}{}", begun.token)))?;
        let there = state.find(&begun.target);
        let standing = there.as_ref().and_then(|id| state.files.get(id));
        let is_ours = standing.is_some_and(|file| file.token.as_ref() == Some(&begun.token));
        state.arrived(bytes.len() as u64, is_ours);
        state.arrived_for(begun.token.clone(), begun.size, bytes.len() as u64);
        let bytes = state.damage(bytes);
        let stored = state.tell(&bytes);
        match there {
            Some(old) if state.is_at(&old, begun.replaces.as_ref()) => {
                state.files.remove(&old);
            }
            Some(id) if is_ours && !begun.overwrite => {
                let file = &state.files[&id];
                let stored = Stored { etag: file.etag.clone(), is_found: true, ..stored };
                return Ok(Whole { remote, stored, file: file.show(&id) });
            }
            Some(old) if begun.overwrite => {
                state.files.remove(&old);
            }
            Some(_) => return refuse(FailureKind::NameTaken, "a file of that name is there"),
            None => {}
        }
        let id = state.new_id("file");
        let mark = Md5::parse(stored.etag.as_str()).filter(|_| !stored.is_keyed);
        let mark = mark.map(|md5| ContentMark {
            part_size: remote.part_size,
            md5_of_parts: Md5(Hasher::digest(md5.0).into()),
        });
        let file = FakeFile {
            target: begun.target.clone(),
            bytes,
            description: Description { mark, ..begun.description.clone() },
            created_at: state.now.0,
            token: Some(begun.token.clone()),
            etag: stored.etag.clone(),
        };
        let shown = file.show(&id);
        state.files.insert(id, file);
        Ok(Whole { remote, stored, file: shown })
    }

    pub(super) fn give_name(&self, file: &RemoteFileId, name: &str) -> Result<bool> {
        let mut state = self.enter("rename")?;
        let Some(found) = state.files.get(file.as_str()) else { return Ok(false) };
        let target = found.target.with_name(name);
        if state.find(&target).is_some_and(|there| there != file.as_str()) {
            return refuse(FailureKind::NameTaken, "a file of that name is there");
        }
        state.files.entry(file.as_str().to_owned()).and_modify(|found| found.target = target);
        Ok(true)
    }

    pub(super) fn take_away(&self, file: &RemoteFileId) -> Result<()> {
        self.enter("remove")?.files.remove(file.as_str());
        Ok(())
    }

    /// Lists the only part of an upload that was never begun.
    pub(super) fn only_part(&self, upload: &RemoteUploadId) -> Result<Option<Vec<RemotePart>>> {
        let state = self.enter("list parts")?;
        let made = state.made_by(upload);
        let file = made.and_then(|made| state.files.get(made.id.as_str()));
        let number = PartNumber::from_index(0);
        let part = |file: &FakeFile| RemotePart { number, etag: file.etag.clone(), note: None };
        Ok((!state.faults.lists_no_parts).then(|| file.map(part).into_iter().collect()))
    }

    /// Returns a file with the digest of its bytes.
    pub(super) fn read(
        &self,
        file: &RemoteFileId,
        part_size: PartSize,
    ) -> Result<Option<RemoteFile>> {
        let state = self.enter("read back")?;
        let Some(found) = state.files.get(file.as_str()) else { return Ok(None) };
        let length = usize::try_from(part_size.get()).unwrap_or(usize::MAX);
        let mut digests = Hasher::new();
        match found.bytes.is_empty() {
            true => digests.update(Hasher::digest(b"")),
            false => found.bytes.chunks(length).for_each(|part| {
                digests.update(Hasher::digest(part));
            }),
        }
        let md5_of_parts = Md5(digests.finalize().into());
        let mark = Some(ContentMark { part_size, md5_of_parts });
        Ok(Some(RemoteFile { mark, ..found.show(file.as_str()) }))
    }
}

impl FakeFile {
    pub(super) fn maker(&self) -> Option<Maker> {
        let token = self.token.clone()?;
        Some(Maker { token, etag: self.etag.clone() })
    }
}

impl FakeState {
    pub(super) fn tell(&mut self, bytes: &[u8]) -> Stored {
        let md5 = Md5(Hasher::digest(bytes).into());
        let is_keyed = self.faults.is_opaque && !self.faults.is_silent;
        let text = match (self.faults.is_silent, self.faults.is_opaque, self.faults.is_unlike) {
            (true, _, _) => String::new(),
            (false, true, _) => Md5(md5.0.map(|byte| !byte)).to_string(),
            (false, false, true) => {
                self.counter += 1;
                Md5(Hasher::digest(self.counter.to_be_bytes()).into()).to_string()
            }
            (false, false, false) => md5.to_string(),
        };
        Stored { is_keyed, ..ETag::from_header(&text).into() }
    }

    /// Counts bytes that arrived for an upload of the sender.
    pub(super) fn arrived_for(&mut self, token: String, size: ByteCount, length: u64) {
        let (received, whole) = self.received.entry(token).or_default();
        (*received, *whole) = (*received + length, size.0);
    }

    /// Returns the bytes received beyond the length of each file, over all its remote uploads.
    pub fn bytes_beyond_files(&self) -> u64 {
        self.received.values().map(|(received, whole)| received.saturating_sub(*whole)).sum()
    }

    /// Changes a byte, each time another one, as often as planned.
    pub(super) fn damage(&mut self, mut bytes: Vec<u8>) -> Vec<u8> {
        if self.faults.damages > 0
            && let Some(byte) = bytes.first_mut()
        {
            *byte ^= u8::try_from(self.faults.damages % 255 + 1).unwrap_or(1);
            self.faults.damages -= 1;
        }
        bytes
    }

    /// Returns the file that the request of a one-part upload created.
    pub(super) fn made_by(&self, upload: &RemoteUploadId) -> Option<RemoteFile> {
        let token = upload.as_str().strip_prefix(WHOLE);
        let mut files = self.files.iter();
        let made = files.find(|(_, file)| token.is_some() && file.token.as_deref() == token);
        made.map(|(id, file)| file.show(id))
    }

    pub(super) fn is_at(&self, file: &str, replaces: Option<&ETag>) -> bool {
        replaces.is_some() && self.files.get(file).map(|file| &file.etag) == replaces
    }
}
