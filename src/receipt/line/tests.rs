//! A line for tests.

use super::{
    LineCourse, LineDestination, LinePart, LineProof, LineSource, LineTarget, UploadLine,
    WholeFileDigests,
};
use crate::model::{ETagMode, Md5, UploadId};

impl UploadLine {
    /// Returns the line of a file of four bytes in the run `run`.
    pub(in crate::receipt) fn example(id: i64, path: &str) -> Self {
        Self {
            source: LineSource {
                id: UploadId(id),
                drop: "lab".into(),
                run: Some("run".into()),
                run_bytes: None,
                path: path.into(),
                path_bytes: None,
                size: 4,
                mtime_ns: 7,
                ctime_ns: None,
                inode: 12,
                root: None,
                sentinel: false,
            },
            target: LineTarget {
                destination: LineDestination {
                    name: "far".into(),
                    platform: "s3".into(),
                    base_url: "https://s3.example".into(),
                    bucket: Some("b".into()),
                    project: None,
                },
                target: 1,
                place: path.into(),
                remote_id: path.into(),
                remote_name: "a".into(),
                version_id: None,
                remote_etag: None,
            },
            proof: LineProof {
                etag_mode: Some(ETagMode::Md5),
                wave: None,
                supersedes: None,
                forced_by: None,
                part_size: 4,
                parts: vec![LinePart {
                    number: 1,
                    offset: 0,
                    length: 4,
                    md5: Md5([1; 16]),
                    etag: "e".into(),
                }],
                content_digest: None,
                remote_digest: None,
                remote_part_size: None,
                whole_file_digests: WholeFileDigests::default(),
            },
            course: LineCourse {
                begun_at: None,
                completed_at: None,
                verified_at: None,
                bytes_sent: 4,
                bytes_sent_again: 0,
                attempt_count: 0,
            },
        }
    }
}
