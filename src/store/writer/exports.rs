//! The columns of a file's export.

use rusqlite::types::Value;

use crate::model::{ExportId, ExportPlace, WallTime};

pub(super) fn intended_columns(place: &ExportPlace, at: WallTime) -> [(&'static str, Value); 5] {
    [
        ("export_state", "intended".to_owned().into()),
        ("export_volume", place.volume.clone().into()),
        ("export_location", place.location.clone().into()),
        ("export_intended_at_ns", at.0.into()),
        ("export_job", Value::Null),
    ]
}

pub(super) fn started_columns(job: &ExportId, at: WallTime) -> [(&'static str, Value); 3] {
    [
        ("export_state", "started".to_owned().into()),
        ("export_job", job.as_str().to_owned().into()),
        ("export_started_at_ns", at.0.into()),
    ]
}

pub(super) fn exported_columns(job: &ExportId, at: WallTime) -> [(&'static str, Value); 4] {
    [
        ("export_state", "completed".to_owned().into()),
        ("export_job", job.as_str().to_owned().into()),
        ("exported_at_ns", at.0.into()),
        ("export_error", Value::Null),
    ]
}
