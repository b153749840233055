//! Gives the stored state to the machines: memory is built again from rows.

use super::dispatch::{Dispatch, ToIntake, ToTransfers};
use super::intake::StoredPart;
use super::transfers::Upload;
use crate::model::{DirectoryName, Disposal, StoredState, StoredUpload};

/// Messages with the stored state of drop directories. Disposals follow later: uploads come before them.
pub(super) fn directories(stored: StoredState) -> impl Iterator<Item = Dispatch> {
    let ignored = stored.ignored.into_iter().flat_map(|ignored| {
        let unreadable = ignored.unreadable.map(StoredPart::UnreadableDirectory);
        let parts = [Some(StoredPart::Ignored(ignored.path, ignored.reason)), unreadable];
        parts.into_iter().flatten().map(move |what| part(ignored.drop.clone(), what))
    });
    let runs = stored
        .runs
        .into_iter()
        .map(|run| part(run.row.drop.clone(), StoredPart::Run(Box::new(run))));
    ignored.chain(runs)
}

/// Messages with the disposals of drop directories.
pub(super) fn disposals(disposals: Vec<Disposal>) -> impl Iterator<Item = Dispatch> {
    let disposals = disposals.into_iter();
    disposals.map(|what| part(what.drop.clone(), StoredPart::Disposal(what)))
}

/// Messages with the uploads of destinations.
pub(super) fn uploads(uploads: Vec<StoredUpload>) -> impl Iterator<Item = Dispatch> {
    uploads.into_iter().map(|stored| {
        let destination = stored.admission.destination.clone();
        let load = ToTransfers::Load(Box::new(Upload::restored(stored)));
        Dispatch::Transfers(destination, load)
    })
}

fn part(drop: DirectoryName, part: StoredPart) -> Dispatch {
    Dispatch::Intake(drop, ToIntake::Load(part))
}
