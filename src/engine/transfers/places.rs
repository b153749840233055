//! The places of a destination's uploads at its target: claimed, awaited, released
//! ([`crate::engine::claims`]).

use super::upload::Upload;
use super::{TransferTurn, Transfers};
use crate::engine::claims::{PlaceDigest, place_digest};
use crate::engine::dispatch::Dispatch;
use crate::engine::event::FindHolder;
use crate::model::{
    AdmittedFile, Fact, OpenCleanup, PlaceHolder, PlaceSource, Record, SourcePath, Stage, UploadId,
};

impl Transfers {
    /// Returns the digest of an upload's place; `None` where the platform has no places, or the
    /// destination is not configured.
    fn place_of(&self, upload: &Upload) -> Option<PlaceDigest> {
        let gate = self.gate.as_ref()?;
        let target = upload.admission().target_id;
        let targets = gate.targets();
        let target = if targets.has(target) { targets.canonical() } else { target };
        let has_places = gate.settings().traits.has_places;
        has_places.then(|| place_digest(target, &upload.admission().target))
    }

    /// Claims an upload's place, or makes it wait for the holder.
    pub(in crate::engine) fn claim(&mut self, id: UploadId, turn: &mut TransferTurn<'_>) {
        let Some(upload) = self.uploads.get(&id) else { return };
        if upload.stage().is_end() || upload.rests() {
            return;
        }
        let (awaited, has_begun) = (upload.awaited(), *upload.stage() != Stage::Queued);
        let Some(place) = self.place_of(upload) else { return self.await_place(id, None, turn) };
        let holder = turn.shared.claims.holder(place).filter(|holder| *holder != id);
        // At a start, the upload that it waits for may not be loaded yet.
        let is_early = turn.shared.loading.is_some() && awaited.is_some() && !has_begun;
        match holder {
            None if !is_early => {
                let claims = &mut turn.shared.claims;
                claims.hold(place, id);
                let is_filled = claims.is_filled(place);
                self.await_place(id, None, turn);
                // A file of ours may be at the place.
                if let Some(upload) = self.uploads.get_mut(&id).filter(|_| is_filled) {
                    upload.fill_place();
                }
            }
            holder => {
                turn.shared.claims.wait(place, id);
                self.await_place(id, holder.or(awaited), turn);
                holder.into_iter().for_each(|holder| self.end_if_moved(holder, turn));
            }
        }
    }

    pub(in crate::engine) fn await_place(
        &mut self,
        id: UploadId,
        holder: Option<UploadId>,
        turn: &mut TransferTurn<'_>,
    ) {
        let Some(upload) = self.uploads.get_mut(&id) else { return };
        if upload.await_place(holder) {
            turn.record(Record::PlaceAwaited { upload: id, holder });
        }
    }

    pub(super) fn unclaim(&mut self, id: UploadId, turn: &mut TransferTurn<'_>) {
        let place = self.uploads.get(&id).and_then(|upload| self.place_of(upload));
        if let Some(place) = place.filter(|place| turn.shared.claims.leave(*place, id)) {
            turn.say(Dispatch::PlaceFreed(place));
        }
    }

    /// If an upload's place turns out to belong to another one, it begins again when the place is free.
    pub(in crate::engine) fn restart_waiting(&mut self, id: UploadId, turn: &mut TransferTurn<'_>) {
        let Some(upload) = self.uploads.get(&id) else { return };
        let Some(remote) = upload.unfinished_remote().filter(|_| upload.awaited().is_some()) else {
            return;
        };
        let (destination, target) = (self.name.clone(), upload.admission().target_id);
        self.clean_up(OpenCleanup { destination, target, remote, after: None }, turn);
        self.record(id, Fact::RemoteGone, turn);
        if let Some(upload) = self.uploads.get_mut(&id) {
            upload.doubt_act();
        }
    }

    /// Updates the place of an upload for a fact, before it is applied.
    pub(super) fn leave_place(&mut self, id: UploadId, fact: &Fact, turn: &mut TransferTurn<'_>) {
        let is_queued = self.upload(id).is_some_and(|upload| *upload.stage() == Stage::Queued);
        let rests = is_queued && matches!(fact, Fact::Parked { .. });
        let ends = matches!(
            fact,
            Fact::ReceiptWritten { .. } | Fact::SourceChanged { .. } | Fact::Abandoned { .. }
        );
        let moves = matches!(fact, Fact::Renamed { .. } | Fact::Retargeted { .. });
        if rests || ends || moves {
            self.unclaim(id, turn);
        }
    }

    /// Updates the place of an upload for a fact, after it is applied.
    pub(super) fn take_place(&mut self, id: UploadId, fact: &Fact, turn: &mut TransferTurn<'_>) {
        if matches!(fact, Fact::Renamed { .. } | Fact::Retargeted { .. } | Fact::Released) {
            self.claim(id, turn);
        }
        // One that replaces by renaming holds its place once it has the name.
        let is_beside =
            self.upload(id).is_some_and(|upload| upload.state().rename_step().is_some());
        let is_made = matches!(fact, Fact::Completed { .. }) && !is_beside;
        let has_name = matches!(fact, Fact::Superseding { name: Some(_), .. });
        if is_made || has_name || matches!(fact, Fact::FoundPresent { .. }) {
            self.fill_place(id, is_made || has_name, turn);
        }
    }

    fn fill_place(&mut self, id: UploadId, is_made: bool, turn: &mut TransferTurn<'_>) {
        let Some(upload) = self.uploads.get(&id) else { return };
        let Some(source) = place_source(upload, turn) else { return };
        // It may have been completed although its destination is not configured any more.
        if self.gate.as_ref().is_none_or(|gate| gate.settings().traits.has_places) {
            let place = self.place_of(upload);
            turn.record(Record::PlaceHeld {
                target: upload.admission().target_id,
                place: upload.admission().target.clone(),
                holder: PlaceHolder { upload: id, source },
                is_made,
            });
            if let Some(place) = place {
                turn.shared.claims.fill(place);
            }
        }
    }

    pub(super) fn find_holder(
        &self,
        upload: &Upload,
        turn: &TransferTurn<'_>,
    ) -> Option<FindHolder> {
        Some(FindHolder {
            upload: upload.id(),
            targets: self.gate.as_ref()?.targets().all().to_vec(),
            place: upload.admission().target.clone(),
            source: place_source(upload, turn)?,
        })
    }
}

/// Separates the name of a run from the number of its receipt.
const RECEIPT_SUFFIX: &[u8] = b".drop-";

/// Returns the path that identifies a sentinel's run, whatever the number of its receipt.
fn sentinel_run(sentinel: &SourcePath) -> SourcePath {
    let path = sentinel.as_bytes();
    let end = path.windows(RECEIPT_SUFFIX.len()).rposition(|part| part == RECEIPT_SUFFIX);
    SourcePath::from_bytes(&path[..end.unwrap_or(path.len())])
}

/// Returns the source of an upload, as the owner of a place: the file's own path, so that it is one
/// source whatever its drop directory is called, and if it was handed in.
fn place_source(upload: &Upload, turn: &TransferTurn<'_>) -> Option<PlaceSource> {
    let AdmittedFile { drop, path, is_sentinel, .. } = &upload.admission().file;
    if *is_sentinel {
        let (directory, path) = (format!("receipts of {drop}"), sentinel_run(path));
        return Some(PlaceSource { directory, path });
    }
    let directory = match turn.shared.roots.directory_of(drop, upload.id()) {
        Some(directory) => directory,
        None => turn.intake(drop)?.settings().directory.as_str(),
    };
    let above = directory.trim_matches('/');
    let path = match above.is_empty() {
        true => path.clone(),
        false => SourcePath::from_bytes(above.as_bytes()).child(path.as_bytes()),
    };
    Some(PlaceSource { directory: "/".to_owned(), path })
}
