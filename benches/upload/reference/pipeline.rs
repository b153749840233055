//! Upload without anything around it: read, digest, send.
//!
//! Files are cut into parts of 8 MiB; a smaller one is an object in one request. A worker takes eight
//! parts, reads them into page-aligned memory in steps of 64 KiB for each while it digests them side
//! by side, sends one after the other over its connection and compares every ETag.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use dropferry::testing::digest::{Hasher, VectorWidth, advance, digest_many};
use dropferry::testing::model::Md5;

use super::aligned;
use super::connection::Connection;
use crate::files::Work;

const PART: u64 = 8 * 1024 * 1024;
/// Parts that a worker digests side by side.
const GROUP: usize = 8;
/// Bytes of each part that are read before they are digested.
const STEP: usize = 64 * 1024;
/// From this mean size of a part, two workers do; below, the far side's answers are waited for.
const LARGE: u64 = 1024 * 1024;

/// What is done about digests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hashing {
    /// Nothing, and bytes are not looked at.
    None,
    /// Several at once.
    SideBySide,
    /// One after the other.
    OneByOne,
}

/// One request's worth of a file.
struct Part {
    /// Which file.
    file: usize,
    /// 1-based, with the upload's id; `None` for a whole object.
    number: Option<(u64, String)>,
    at: u64,
    length: u64,
}

/// ETags by file and number.
type ETags = Mutex<BTreeMap<(usize, u64), String>>;

struct Plan<'a> {
    work: &'a Work,
    keys: Vec<String>,
    parts: Vec<Part>,
    next: AtomicUsize,
    etags: ETags,
    hashing: Hashing,
}

/// Uploads everything.
pub(super) fn upload(
    work: &Work,
    address: &str,
    certificate: Option<&Path>,
    hashing: Hashing,
) -> io::Result<()> {
    let mut control = Connection::open(address, certificate)?;
    let plan = Plan::make(work, &mut control, hashing)?;
    let mean = work.bytes() / (plan.parts.len().max(1) as u64);
    let workers = match hashing {
        Hashing::None => 4,
        Hashing::SideBySide | Hashing::OneByOne if mean >= LARGE => 2,
        Hashing::SideBySide | Hashing::OneByOne => 8,
    };
    std::thread::scope(|scope| {
        let worker = || plan.work_through(&mut Connection::open(address, certificate)?);
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("no panic"))
    })?;
    plan.complete(&mut control)
}

impl<'a> Plan<'a> {
    fn make(work: &'a Work, control: &mut Connection, hashing: Hashing) -> io::Result<Self> {
        let key = |(name, _): &(std::path::PathBuf, u64)| format!("/bench/{}", name.display());
        let keys: Vec<_> = work.files.iter().map(key).collect();
        let mut parts = Vec::new();
        for (file, (_, size)) in work.files.iter().enumerate() {
            if *size <= PART {
                parts.push(Part { file, number: None, at: 0, length: *size });
                continue;
            }
            let created = control.send(&format!("POST {}?uploads", keys[file]), b"", "")?;
            let id = created.body.split(['<', '>']).skip_while(|word| *word != "UploadId").nth(1);
            let id = id.ok_or_else(|| io::Error::other("no upload"))?;
            for index in 0..size.div_ceil(PART) {
                let at = index * PART;
                let number = Some((index + 1, id.to_owned()));
                parts.push(Part { file, number, at, length: PART.min(size - at) });
            }
        }
        let (next, etags) = (AtomicUsize::new(0), ETags::default());
        Ok(Self { work, keys, parts, next, etags, hashing })
    }

    /// Takes parts until there are none.
    fn work_through(&self, connection: &mut Connection) -> io::Result<()> {
        let longest = self.parts.iter().map(|part| part.length).max().unwrap_or(0);
        let longest = usize::try_from(longest).map_err(io::Error::other)?;
        let count = if self.hashing == Hashing::None { 0 } else { GROUP };
        let mut rooms: Vec<_> = (0..count).map(|_| aligned(longest)).collect();
        loop {
            let step = count.max(1);
            let from = self.next.fetch_add(step, Ordering::Relaxed).min(self.parts.len());
            let group = &self.parts[from..(from + step).min(self.parts.len())];
            if group.is_empty() {
                return Ok(());
            }
            if self.hashing == Hashing::None {
                self.send_from_file(connection, &group[0])?;
                continue;
            }
            let mut rooms: Vec<_> = rooms
                .iter_mut()
                .zip(group)
                .map(|((room, from), part)| &mut room[*from..*from + length(part)])
                .collect();
            let digests = self.read(group, &mut rooms)?;
            for ((part, room), digest) in group.iter().zip(&rooms).zip(digests) {
                self.send(connection, part, room, &digest)?;
            }
        }
    }

    fn open(&self, part: &Part) -> io::Result<File> {
        File::open(self.work.directory.join(&self.work.files[part.file].0))
    }

    fn read(&self, group: &[Part], rooms: &mut [&mut [u8]]) -> io::Result<Vec<Md5>> {
        let files = group.iter().map(|part| self.open(part)).collect::<io::Result<Vec<_>>>()?;
        let longest = rooms.iter().map(|room| room.len()).max().unwrap_or(0);
        let width = match self.hashing {
            Hashing::SideBySide => VectorWidth::best(),
            Hashing::None | Hashing::OneByOne => VectorWidth::Scalar,
        };
        if longest <= STEP {
            for ((file, part), room) in files.iter().zip(group).zip(rooms.iter_mut()) {
                file.read_exact_at(room, part.at)?;
            }
            let messages: Vec<&[u8]> = rooms.iter().map(|room| &**room).collect();
            return Ok(digest_many(width, &messages));
        }
        let mut hashers = vec![Hasher::new(); group.len()];
        for at in (0..longest).step_by(STEP) {
            let mut jobs = Vec::with_capacity(group.len());
            let each = files.iter().zip(group).zip(rooms.iter_mut()).zip(&mut hashers);
            for (((file, part), room), hasher) in each {
                let range = at.min(room.len())..(at + STEP).min(room.len());
                let room = &mut room[range];
                file.read_exact_at(room, part.at + at as u64)?;
                jobs.push((hasher, &*room));
            }
            advance(width, &mut jobs);
        }
        Ok(hashers.into_iter().map(Hasher::finish).collect())
    }

    fn line(&self, part: &Part) -> String {
        let key = &self.keys[part.file];
        match &part.number {
            None => format!("PUT {key}"),
            Some((number, id)) => format!("PUT {key}?partNumber={number}&uploadId={id}"),
        }
    }

    fn send(
        &self,
        connection: &mut Connection,
        part: &Part,
        bytes: &[u8],
        digest: &Md5,
    ) -> io::Result<()> {
        let announced = format!("Content-MD5: {}\r\n", STANDARD.encode(digest.0));
        let answer = connection.send(&self.line(part), bytes, &announced)?;
        let hex: String = digest.0.iter().map(|byte| format!("{byte:02x}")).collect();
        if answer.etag != hex {
            return Err(io::Error::other(format!("{} came as {}", hex, answer.etag)));
        }
        self.note(part, answer.etag);
        Ok(())
    }

    fn send_from_file(&self, connection: &mut Connection, part: &Part) -> io::Result<()> {
        let file = self.open(part)?;
        let answer = connection.send_file(&self.line(part), &file, (part.at, part.length))?;
        self.note(part, answer.etag);
        Ok(())
    }

    fn note(&self, part: &Part, etag: String) {
        let number = part.number.as_ref().map_or(0, |(number, _)| *number);
        self.etags.lock().expect("no panic").insert((part.file, number), etag);
    }

    fn complete(&self, control: &mut Connection) -> io::Result<()> {
        let etags = self.etags.lock().expect("no panic");
        let last = self.parts.iter().filter_map(|part| {
            let (number, id) = part.number.as_ref()?;
            (part.at + part.length == self.work.files[part.file].1)
                .then_some((part.file, *number, id))
        });
        for (file, count, id) in last {
            let part = |number| {
                let etag = etags.get(&(file, number)).map_or("", String::as_str);
                format!("<Part><PartNumber>{number}</PartNumber><ETag>\"{etag}\"</ETag></Part>")
            };
            let list: String = (1..=count).map(part).collect();
            let body = format!("<CompleteMultipartUpload>{list}</CompleteMultipartUpload>");
            let line = format!("POST {}?uploadId={id}", self.keys[file]);
            control.send(&line, body.as_bytes(), "")?;
        }
        Ok(())
    }
}

fn length(part: &Part) -> usize {
    usize::try_from(part.length).unwrap_or(usize::MAX)
}
