//! How what a start reads reaches the machines: memory is built again from rows.

use super::dispatch::{Dispatch, ToIntake, ToTransfers};
use super::intake::StoredPart;
use super::transfers::Upload;
use crate::model::{DirectoryName, Disposal, StoredState, StoredUpload};

/// Says to the drop directories what is stored of them. Disposals are left: uploads come before them.
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

/// Says to the drop directories what they have to dispose of.
pub(super) fn disposals(disposals: Vec<Disposal>) -> impl Iterator<Item = Dispatch> {
    let disposals = disposals.into_iter();
    disposals.map(|what| part(what.drop.clone(), StoredPart::Disposal(what)))
}

/// Says to the destinations which uploads they have.
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
