//! What each step of an upload costs by itself, in CPU seconds for each GB.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use dropferry::testing::digest::{Hasher, VectorWidth, advance};
use serde::{Deserialize, Serialize};

use super::aligned;
use super::connection::Connection;
use crate::files::Work;
use crate::measure::own_cpu;

/// What is read and written at once.
const STEP: usize = 256 * 1024;
/// Memory that is copied and digested: more than caches hold.
const ROOM: usize = 64 * 1024 * 1024;

/// CPU seconds for each GB.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Costs {
    /// Copying memory.
    pub(crate) copy: f64,
    /// Reading what lies in the page cache.
    pub(crate) read: f64,
    /// Digesting eight messages side by side.
    pub(crate) digest: f64,
    /// Writing to a socket.
    pub(crate) write: f64,
}

/// Measures them once, in this process.
pub(crate) fn measured(work: &Work, address: &str) -> io::Result<Costs> {
    let (mut room, from) = aligned(ROOM);
    Ok(Costs {
        copy: copy(&mut room[from..]),
        read: read(work, &mut room[from..from + STEP])?,
        digest: digest(&room[from..from + ROOM]),
        write: write(address, &room[from..from + STEP], work.bytes())?,
    })
}

fn per_gb(bytes: u64, act: impl FnOnce() -> io::Result<()>) -> io::Result<f64> {
    let before = own_cpu();
    act()?;
    Ok((own_cpu() - before) * 1e9 / bytes as f64)
}

fn copy(room: &mut [u8]) -> f64 {
    let (from, to) = room.split_at_mut(ROOM / 2);
    let (count, from) = (to.len().min(from.len()), &*from);
    // Touched first, so that no page is made meanwhile.
    to[..count].copy_from_slice(&from[..count]);
    let times = 16;
    let act = || {
        for _ in 0..times {
            to[..count].copy_from_slice(std::hint::black_box(&from[..count]));
            std::hint::black_box(&mut to[..count]);
        }
        Ok(())
    };
    per_gb(times * count as u64, act).unwrap_or_default()
}

fn read(work: &Work, room: &mut [u8]) -> io::Result<f64> {
    per_gb(work.bytes(), || {
        for (name, size) in &work.files {
            let file = File::open(work.directory.join(name))?;
            for at in (0..*size).step_by(STEP) {
                file.read_at(room, at)?;
            }
        }
        Ok(())
    })
}

fn digest(room: &[u8]) -> f64 {
    let mut hashers = vec![Hasher::new(); 8];
    let act = || {
        let lanes: Vec<_> = room.chunks(room.len() / 8).collect();
        for at in (0..lanes[0].len()).step_by(STEP / 4) {
            let bytes = |lane: &&'_ [u8]| at..(at + STEP / 4).min(lane.len());
            let mut jobs: Vec<_> = hashers
                .iter_mut()
                .zip(&lanes)
                .map(|(hasher, lane)| (hasher, &lane[bytes(lane)]))
                .collect();
            advance(VectorWidth::best(), &mut jobs);
        }
        Ok(())
    };
    let cost = per_gb(room.len() as u64, act).unwrap_or_default();
    std::hint::black_box(hashers);
    cost
}

fn write(address: &str, room: &[u8], bytes: u64) -> io::Result<f64> {
    let mut connection = Connection::open(address, None)?;
    let times = bytes / room.len() as u64 + 1;
    per_gb(times * room.len() as u64, || {
        connection.head("PUT /bench/raw", times * room.len() as u64, "")?;
        (0..times).try_for_each(|_| connection.write(room))?;
        connection.answered().map(drop)
    })
}
