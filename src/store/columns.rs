//! The positions of the columns of `uploads`.
//!
//! A row has so many columns that finding each by name takes longer than reading it. So readers
//! select all of them, `at!` resolves their positions here at compile time, and a test compares
//! this list with the table. A new column goes to the end.

/// The columns of `uploads`, in the order of the table.
const COLUMNS: &[&str] = &[
    "id",
    "drop_name",
    "path",
    "destination",
    "device",
    "inode",
    "size_bytes",
    "mtime_ns",
    "target_folder",
    "target_name",
    "wished_part_size_bytes",
    "rank",
    "stage",
    "hold",
    "retry_at_ns",
    "park_reason",
    "park_detail",
    "last_error",
    "remote_upload_id",
    "part_size_bytes",
    "part_count",
    "sequential",
    "etag_mode",
    "accepted_count",
    "accepted_bytes",
    "reported_count",
    "restart_count",
    "attempt_count",
    "described",
    "bytes_sent",
    "remote_file_id",
    "remote_name",
    "remote_size_bytes",
    "remote_created_at_ns",
    "remote_mark_part_size_bytes",
    "remote_mark_md5",
    "mark_part_size_bytes",
    "mark_md5",
    "receipt_sha256",
    "admitted_at_ns",
    "begin_intended_at_ns",
    "begun_at_ns",
    "complete_intended_at_ns",
    "completed_at_ns",
    "verified_at_ns",
    "receipted_at_ns",
    "ended_at_ns",
    "state",
    "export_volume",
    "export_location",
    "export_state",
    "export_job",
    "export_error",
    "export_intended_at_ns",
    "export_started_at_ns",
    "exported_at_ns",
    "run",
    "sentinel",
    "digested",
    "whole_md5",
    "whole_sha256",
    "ctime_ns",
    "pruned_at_ns",
    "source_owner",
    "source_file_system",
    "bytes_in_flight",
    "root",
    "target_id",
    "waits_for",
    "remote_etag",
    "ledger_id",
    "ledger_seq",
    "ledger_offset",
    "remote_version_id",
    "supersedes",
    "superseded_file_id",
    "superseded_etag",
    "superseding_step",
    "source_was_absent",
    "failing_since_ns",
    "name_decision",
    "last_error_kind",
];

/// Their number: the position of the first column that a query adds.
pub(super) const COLUMN_COUNT: usize = COLUMNS.len();

/// Returns a column's position; an unknown name does not compile.
pub(super) const fn position(name: &str) -> usize {
    let mut index = 0;
    while index < COLUMNS.len() {
        if is_same(COLUMNS[index].as_bytes(), name.as_bytes()) {
            return index;
        }
        index += 1;
    }
    panic!("no such column")
}

const fn is_same(one: &[u8], other: &[u8]) -> bool {
    let mut index = 0;
    while index < one.len() && index < other.len() && one[index] == other[index] {
        index += 1;
    }
    index == one.len() && index == other.len()
}

/// The position of a column of `uploads` in a row that begins with all of them.
macro_rules! at {
    ($column:literal) => {
        const { $crate::store::columns::position($column) }
    };
}
pub(super) use at;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_begins_with_the_columns_in_their_order() {
        let directory = tempfile::tempdir().unwrap();
        let connection = crate::store::schema::open_for_writing(directory.path()).unwrap();
        let statement = connection.prepare("SELECT * FROM uploads").unwrap();
        assert!(statement.column_names().starts_with(COLUMNS), "{:?}", statement.column_names());
    }
}
