//! Records that could not be stored for their values: what waited for them does not begin.

use super::build::stored_upload;
use crate::engine::event::{Act, Event, Outcome, Setback, Unstored};
use crate::model::{ByteCount, Failure, FailureKind};
use crate::store::LoadedUpload;
use crate::store::writer::{Instead, Refused};

/// Tells whether an act follows from a record that was not stored: one of its upload, or, for acts that
/// are no upload's, any record that is no upload's.
pub fn waits_in_vain(act: &Act, refused: &[Refused]) -> bool {
    !refused.is_empty() && refused.iter().any(|refused| refused.upload == act.upload())
}

/// The outcome of an act that was not begun.
pub fn cancelled() -> Result<Outcome, Setback> {
    let failure = Failure::new(FailureKind::Cancelled, "what it follows from cannot be stored");
    Err(Setback { failure, sent: ByteCount(0) })
}

/// Says which uploads the engine's memory is ahead of, if of any.
pub fn event(refused: &[Refused]) -> Option<Event> {
    let unstored: Vec<_> = refused.iter().filter_map(unstored).collect();
    (!unstored.is_empty()).then_some(Event::Unstored(unstored))
}

fn unstored(refused: &Refused) -> Option<Unstored> {
    let stored = match &refused.instead {
        Instead::Parked(row) => Some(Box::new(stored_upload(LoadedUpload::clone(row)))),
        Instead::Nothing => None,
        Instead::LeftOut => return None,
    };
    Some(Unstored { upload: refused.upload?, stored, why: refused.why.clone() })
}
