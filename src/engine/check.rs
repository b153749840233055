//! The linter of stored state: reports every broken invariant of the rows as a named finding.
//!
//! The simulation uses it after every step, and so does `doctor`. It only reads.

use crate::model::{Hold, PartState, Stage, StoredUpload};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub upload: crate::model::UploadId,
    pub invariant: &'static str,
}

/// Returns every broken invariant of one upload.
pub fn check(upload: &StoredUpload) -> Vec<Finding> {
    let state = &upload.state;
    let accepted = upload.parts.iter().filter(|part| part.checkpoint().is_some()).count();
    let is_reported = |part: &&PartState| matches!(part, PartState::Reported { .. });
    let reported = upload.parts.iter().filter(is_reported).count();
    let part_count = state.stage.remote().map_or(0, |remote| remote.part_count as usize);
    let covers = state.stage.remote().is_none_or(|remote| {
        remote.part_size.count_for(upload.admission.file.fingerprint.size)
            == Some(remote.part_count)
    });
    let all_accepted =
        matches!(state.stage, Stage::Queued | Stage::Beginning { .. } | Stage::Sending { .. })
            || state.stage.remote().is_none()
            || accepted == part_count;
    let ended_holds = state.stage.is_end() && state.hold != Hold::None;
    let rules = [
        (accepted == state.accepted_count as usize, "accepted parts are counted"),
        (reported == state.reported_count as usize, "reported parts are counted"),
        (upload.parts.len() == part_count, "there is one state for each part of the layout"),
        (covers, "the layout covers the file exactly"),
        (all_accepted, "an upload past sending has every part accepted"),
        (
            !(matches!(state.stage, Stage::Receipted { .. }) && state.is_exporting()),
            "a receipt is written after the export",
        ),
        (!ended_holds, "an ended upload neither waits nor is parked"),
    ];
    let broken = rules.into_iter().filter(|(holds, _)| !holds);
    broken.map(|(_, invariant)| Finding { upload: upload.admission.id, invariant }).collect()
}
