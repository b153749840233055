//! The demonstration's files: one large, hundreds small, one empty; all FASTQ-like.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::Path;

use anyhow::Context;

use crate::model::{DirectoryName, Seen, SourcePath};
use crate::source::{DirectoryRoot, Filter, Profile, Settings, scan};

const LARGE: u64 = 640 * 1024 * 1024;
const SMALL_COUNT: u64 = 300;
/// A block of text that is repeated, each time shifted.
const BLOCK: usize = 1 << 20;

/// One file that must arrive.
#[derive(Debug, Clone)]
pub(super) struct Expected {
    pub(super) path: SourcePath,
    pub(super) size: u64,
}

/// Makes the files.
pub(super) fn fill(drop: &Path) -> io::Result<()> {
    let run = drop.join("240211_A00123_0042_BHXYZ");
    fs::create_dir_all(run.join("Fastq"))?;
    let block = block();
    write(&run.join("Fastq/S1_L001_R1_001.fastq"), LARGE, 1, &block)?;
    for number in 0..SMALL_COUNT {
        // From 1 kB to 2.4 MB, most of them small.
        let size = 1_000 + number * number * 27;
        let name = format!("Fastq/S{}_L00{}_R2_001.fastq", number + 2, number % 4 + 1);
        write(&run.join(name), size, number + 2, &block)?;
    }
    fs::write(
        run.join("RunInfo.xml"),
        "<RunInfo><Run Id=\"240211_A00123_0042_BHXYZ\"/></RunInfo>\n",
    )?;
    File::create(run.join("RTAComplete.txt"))?;
    Ok(())
}

/// FASTQ-like reads, with bases from a small generator.
fn block() -> Vec<u8> {
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut text = Vec::with_capacity(BLOCK + 512);
    while text.len() < BLOCK {
        text.extend_from_slice(
            format!("@A00123:42:HXYZ:1:1101:{}:1000 1:N:0\n", text.len()).as_bytes(),
        );
        let mut bases = [b'N'; 151];
        for base in &mut bases {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *base = b"ACGT"[(state >> 62) as usize];
        }
        bases[150] = b'\n';
        text.extend_from_slice(&bases);
        text.extend_from_slice(b"+\n");
        text.extend_from_slice(&[b'F'; 150]);
        text.push(b'\n');
    }
    text
}

/// Writes a file that differs from all others in every block.
fn write(path: &Path, size: u64, seed: u64, block: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    let mut left = size;
    let mut turn = seed;
    while left > 0 {
        let header = format!("@{turn}\n");
        let shift = usize::try_from(turn * 7919 % (block.len() as u64 / 2)).unwrap_or(0);
        for piece in [header.as_bytes(), &block[shift..]] {
            let length = usize::try_from(left).unwrap_or(usize::MAX).min(piece.len());
            file.write_all(&piece[..length])?;
            left -= length as u64;
        }
        turn += 1009;
    }
    Ok(())
}

/// Lists the files that must arrive.
pub(super) fn list(drop: &Path) -> anyhow::Result<Vec<Expected>> {
    let settings = Settings {
        unit: crate::model::Unit::Directory,
        name: DirectoryName::new("demo"),
        directory: drop.to_owned(),
        include: vec!["**".into()],
        exclude: Vec::new(),
        order: Vec::new(),
        profile: Profile::plain(),
        takes_all: false,
    };
    let filter = Filter::new(&settings)?;
    let mut files = Vec::new();
    scan(&DirectoryRoot::at(drop), &filter, &BTreeSet::new(), |observations| {
        for seen in observations {
            if let Seen::File(version) = seen.seen {
                files.push(Expected { path: seen.path, size: version.size.0 });
            }
        }
        ControlFlow::Continue(())
    })
    .context("the drop directory cannot be read")?;
    Ok(files)
}
