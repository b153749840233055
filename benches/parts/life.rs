//! What the writer is told of uploads.

use dropferry::testing::model::{
    Admission, AdmittedFile, ByteCount, DestinationName, DirectoryName, ETag, Fact, Fingerprint,
    Md5, PartNumber, PartSize, Record, RemoteFile, RemoteFileId, RemoteUpload, RemoteUploadId,
    SourcePath, Target, TargetId, UploadId, WallTime,
};

#[path = "written.rs"]
mod written;

use written::written;

/// Now, by the wall clock.
pub(crate) fn now() -> WallTime {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("after 1970");
    WallTime(i64::try_from(since.as_nanos()).expect("before 2262"))
}

/// What the writer is told of one upload: all of its life, or its beginning.
pub(crate) fn life(id: i64, is_whole: bool) -> Vec<Record> {
    let at = now();
    let (part_size, file_size) = (PartSize::new(8 << 20).expect("not zero"), ByteCount(8));
    let admission = Admission {
        id: UploadId(id),
        target_id: TargetId(1),
        destination: DestinationName::new("far"),
        target: Target::new(["unit"], "file"),
        part_size,
        rank: 0,
        at,
        parked: None,
        decision: None,
        file: AdmittedFile {
            drop: DirectoryName::new("template"),
            path: SourcePath::from_bytes(b"unit/file"),
            run: SourcePath::from_bytes(b"unit"),
            provenance: None,
            is_sentinel: false,
            fingerprint: Fingerprint {
                device: 1,
                inode: 1,
                size: file_size,
                mtime_ns: 1,
                ctime_ns: Some(1),
            },
            root: None,
        },
    };
    let mut records = vec![Record::Admit(Box::new(admission))];
    if !is_whole {
        return records;
    }
    let remote = RemoteUpload {
        id: RemoteUploadId::new("0123456789abcdef0123456789abcdef"),
        part_size,
        part_count: 1,
        sequential: false,
    };
    let file = RemoteFile {
        id: RemoteFileId::new("unit/file"),
        name: "file".into(),
        size: Some(file_size),
        mark: None,
        created_at: Some(at),
        etag: None,
        version: None,
        maker: None,
    };
    let facts = [
        Fact::BeginIntended { part_size: None, at },
        Fact::Begun { remote, at },
        Fact::PartAccepted {
            part: PartNumber::new(1).expect("from 1"),
            md5: Md5([9; 16]),
            etag: ETag::from_header("09090909090909090909090909090909"),
            note: None,
            sent: file_size,
            at,
        },
        Fact::CompleteIntended { at },
        Fact::Completed { file, at },
        Fact::Verified { mark: None, there: None, etag: None, at },
        Fact::ReceiptWritten { written: written(id), at },
    ];
    records.extend(facts.map(|fact| Record::Upload(UploadId(id), fact)));
    records
}

/// A large file that was begun.
pub(crate) fn begun(id: i64, part_count: u32) -> Vec<Record> {
    let mut records = life(id, false);
    let part_size = PartSize::new(8 << 20).expect("not zero");
    if let Some(Record::Admit(admission)) = records.first_mut() {
        admission.file.fingerprint.size = ByteCount(part_size.get() * u64::from(part_count));
    }
    let remote = RemoteUpload {
        id: RemoteUploadId::new(format!("{id:032}")),
        part_size,
        part_count,
        sequential: false,
    };
    let at = now();
    let facts = [Fact::BeginIntended { part_size: None, at }, Fact::Begun { remote, at }];
    records.extend(facts.map(|fact| Record::Upload(UploadId(id), fact)));
    records
}

/// Its next part, which the storage took.
pub(crate) fn part(id: i64, number: u32) -> Record {
    let fact = Fact::PartAccepted {
        part: PartNumber::new(number).expect("from 1"),
        md5: Md5([9; 16]),
        etag: ETag::from_header("09090909090909090909090909090909"),
        note: None,
        sent: ByteCount(8 << 20),
        at: now(),
    };
    Record::Upload(UploadId(id), fact)
}
