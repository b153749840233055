//! Rows of parts, and of small files, through the one writer: each transaction is synced.

use dropferry::testing::model::{ETagMode, Fact, Record, SourcePath, UploadId};
use dropferry::testing::store::{Settings, writer::Writer};

use crate::Table;
use crate::life::{begun, life, part};

const PARTS: u32 = 10_000;

pub(crate) fn measure() {
    let directories: Vec<_> =
        (0..5).map(|_| tempfile::tempdir().expect("a temporary directory")).collect();
    let mut table = Table::of("part");
    for (directory, together) in directories.iter().zip([1, 8, 64]) {
        let mut parts = Parts::new(open(directory));
        table.case(format!("parts, {together} in a transaction"), move || parts.write(together));
    }
    table.print();
    let (mut writer, mut next) = (open(&directories[3]), 0);
    let mut table = Table::of("file");
    table.case("whole lives, 64 in a transaction", move || {
        let lives: Vec<_> = (next + 1..=next + 64).map(|id| life(id, true)).collect();
        next += 64;
        assert!(writer.apply(&lives).expect("written").is_whole(), "all is written");
        lives.len()
    });
    let (mut writer, mut next) = (open(&directories[4]), 0);
    table.case("small files, 64 in each of 3 transactions", move || {
        let lives: Vec<_> = (next + 1..=next + 64).map(small).collect();
        next += 64;
        for step in 0..3 {
            let batches: Vec<_> = lives.iter().map(|steps| steps[step].clone()).collect();
            assert!(writer.apply(&batches).expect("written").is_whole(), "all is written");
        }
        lives.len()
    });
    table.print();
}

pub(crate) fn open(directory: &tempfile::TempDir) -> Writer {
    Writer::open(&Settings { directory: directory.path().to_owned(), is_new: false })
        .expect("opens")
        .0
}

/// Large uploads, one after another.
struct Parts {
    writer: Writer,
    upload: i64,
    last: u32,
}

impl Parts {
    fn new(writer: Writer) -> Self {
        Self { writer, upload: 0, last: PARTS }
    }

    fn write(&mut self, together: u32) -> usize {
        if self.last + together > PARTS {
            self.begin();
        }
        let batches: Vec<_> = (self.last + 1..=self.last + together)
            .map(|number| vec![part(self.upload, number)])
            .collect();
        self.last += together;
        assert!(self.writer.apply(&batches).expect("written").is_whole(), "all is written");
        batches.len()
    }

    fn begin(&mut self) {
        (self.upload, self.last) = (self.upload + 1, 0);
        let records = begun(self.upload, PARTS);
        assert!(self.writer.apply(&[records]).expect("written").is_whole(), "all is written");
    }
}

/// What the writer is told of a file that one request sends, transaction by transaction: it is admitted,
/// it arrived and was proved, its receipt is durable.
pub(crate) fn small(id: i64) -> [Vec<Record>; 3] {
    let mut admitted = life(id, true);
    if let Some(Record::Admit(admission)) = admitted.first_mut() {
        let path = format!("unit/sample-{:02}/file-{id:06}", id % 37);
        admission.file.path = SourcePath::from_bytes(path.as_bytes());
        admission.file.fingerprint.inode = id.cast_unsigned().wrapping_mul(7);
        admission.target = admission.target.with_name(&format!("file-{id:06}"));
    }
    let mut sent = admitted.split_off(1);
    let learned = Fact::ETagModeLearned { mode: ETagMode::Md5 };
    sent.insert(2, Record::Upload(UploadId(id), learned));
    let receipted = sent.split_off(sent.len() - 1);
    [admitted, sent, receipted]
}
