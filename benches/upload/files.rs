//! What is uploaded: the files of each case, made once and used by every client in the same order.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, fadvise};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
/// What is read and written at once.
const BLOCK: usize = 1024 * 1024;
/// A NovaSeq 6000 S1 run: two lanes of two surfaces, 322 cycles.
const LANES: u64 = 2;
const SURFACES: u64 = 2;
const CYCLES: u64 = 322;
const FILTERS: u64 = 624;
/// What the base calls of one lane, cycle and surface take.
const CALLS_SIZE: u64 = 75_000_000;
const FILTER_SIZE: u64 = 3_000_000;
/// With these a run has the 5 500 files that were counted in one.
const THUMBNAILS: u64 = 3_570;

/// What a case is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// One file of 2 GiB.
    One,
    /// 64 files of 64 MiB.
    Many,
    /// 20 000 files of 8 KiB.
    Small,
    /// A run folder: 5 500 files, the large ones a 32nd of their size.
    Run,
}

/// The files of a case.
#[derive(Debug, Clone)]
pub(crate) struct Work {
    /// Everything below it is uploaded, in the order of the paths.
    pub(crate) directory: PathBuf,
    /// Relative to the directory.
    pub(crate) files: Vec<(PathBuf, u64)>,
}

impl Work {
    /// Makes the files below a directory. All sizes are multiplied by the scale; where there are
    /// thousands of files, their count is.
    pub(crate) fn make(shape: Shape, root: &Path, scale: f64) -> io::Result<Self> {
        let directory = root.join(format!("{shape:?}").to_lowercase());
        let times = |count: u64| {
            let scaled = count as f64 * scale;
            #[expect(clippy::cast_possible_truncation, reason = "sizes that a disk can hold")]
            let scaled = (scaled as i64).unsigned_abs();
            scaled.max(1)
        };
        let files = match shape {
            Shape::One => vec![("file.bin".to_owned(), times(2048 * MIB))],
            Shape::Many => {
                (0..64).map(|at| (format!("file{at:02}.bin"), times(64 * MIB))).collect()
            }
            Shape::Small => {
                let name = |at: u64| format!("batch{:03}/file{:05}.txt", at / 1000, at);
                (0..times(20_000)).map(|at| (name(at), 8 * KIB)).collect()
            }
            Shape::Run => run(scale / 32.0),
        };
        let mut noise = Noise::new();
        for (name, size) in &files {
            noise.write(&directory.join(name), *size)?;
        }
        rustix::fs::sync();
        let mut files: Vec<_> =
            files.into_iter().map(|(name, size)| (PathBuf::from(name), size)).collect();
        files.sort();
        Ok(Self { directory, files })
    }

    /// Finds the files of a directory, in the order of their paths.
    pub(crate) fn of(directory: &Path) -> io::Result<Self> {
        let mut files = Vec::new();
        let mut open = vec![directory.to_owned()];
        while let Some(next) = open.pop() {
            for entry in fs::read_dir(next)? {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    open.push(entry.path());
                    continue;
                }
                let path = entry.path();
                let name = path.strip_prefix(directory).map_err(io::Error::other)?;
                files.push((name.to_owned(), entry.metadata()?.len()));
            }
        }
        files.sort();
        Ok(Self { directory: directory.to_owned(), files })
    }

    /// Bytes of all files.
    pub(crate) fn bytes(&self) -> u64 {
        self.files.iter().map(|(_, size)| size).sum()
    }

    /// Reads everything, so that it lies in the page cache.
    pub(crate) fn warm(&self) -> io::Result<()> {
        let mut buffer = vec![0; BLOCK];
        for (name, _) in &self.files {
            let mut file = File::open(self.directory.join(name))?;
            while file.read(&mut buffer)? > 0 {}
        }
        Ok(())
    }

    /// Drops everything from the page cache.
    pub(crate) fn cool(&self) -> io::Result<()> {
        for (name, _) in &self.files {
            let file = File::open(self.directory.join(name))?;
            file.sync_all()?;
            fadvise(&file, 0, None, Advice::DontNeed)?;
        }
        Ok(())
    }
}

/// The names and sizes of a run folder.
fn run(scale: f64) -> Vec<(String, u64)> {
    #[expect(clippy::cast_possible_truncation, reason = "sizes that a disk can hold")]
    let times = |size: u64| ((size as f64 * scale) as i64).unsigned_abs();
    let calls = "Data/Intensities/BaseCalls";
    let mut files = Vec::new();
    for lane in 1..=LANES {
        for cycle in 1..=CYCLES {
            for surface in 1..=SURFACES {
                let name = format!("{calls}/L00{lane}/C{cycle}.1/L00{lane}_{surface}.cbcl");
                files.push((name, times(CALLS_SIZE)));
            }
        }
        for tile in 0..FILTERS / LANES {
            let name = format!("{calls}/L00{lane}/s_{lane}_{}.filter", 1101 + tile);
            files.push((name, times(FILTER_SIZE)));
        }
    }
    for at in 0..THUMBNAILS {
        let (cycle, tile) = (at / 12 + 1, 1101 + at % 12);
        let name = format!("Thumbnail_Images/L001/C{cycle}.1/s_1_{tile}.jpg");
        // From 1 to 100 kB, as they are met.
        files.push((name, 1_000 + at * 7_919 % 99_000));
    }
    let others =
        ["RunInfo.xml", "RunParameters.xml", "SampleSheet.csv", "InterOp/TileMetricsOut.bin"];
    files.extend(others.map(|name| (name.to_owned(), 40_000)));
    files.extend(["RTAComplete.txt", "CopyComplete.txt"].map(|name| (name.to_owned(), 0)));
    let inside = |(name, size)| (format!("260301_A00001_0001_AHXKX00001/{name}"), size);
    files.into_iter().map(inside).collect()
}

/// Bytes that do not repeat within any file of a case.
struct Noise {
    state: u64,
    block: Vec<u8>,
}

impl Noise {
    fn new() -> Self {
        Self { state: 0x9e37_79b9_7f4a_7c15, block: vec![0; BLOCK] }
    }

    fn write(&mut self, path: &Path, size: u64) -> io::Result<()> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let mut file = File::create(path)?;
        let mut left = size;
        while left > 0 {
            let count = usize::try_from(left).unwrap_or(BLOCK).min(BLOCK);
            for word in self.block[..count].chunks_mut(8) {
                self.state ^= self.state << 13;
                self.state ^= self.state >> 7;
                self.state ^= self.state << 17;
                word.copy_from_slice(&self.state.to_le_bytes()[..word.len()]);
            }
            file.write_all(&self.block[..count])?;
            left -= count as u64;
        }
        Ok(())
    }
}
