//! The proof: every file is there once, byte for byte, and nothing else is.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use md5::{Digest, Md5};

use super::files::Expected;
use super::{PART_SIZE, PARTS_IN_FLIGHT};
use crate::cli::{Exit, render};
use crate::sandbox::{RemoteFile, Sandbox, Vendor};

/// Compares everything and says what was found.
pub(super) fn prove(
    sandbox: &Sandbox,
    expected: &[Expected],
    drop: &Path,
    state: &Path,
) -> anyhow::Result<Exit> {
    let remote = sandbox.files(Vendor::SevenBridges);
    let ledger = sandbox.ledger(Vendor::SevenBridges);
    let mut wrong = Vec::new();
    let mut by_place: BTreeMap<String, Vec<&RemoteFile>> = BTreeMap::new();
    for file in &remote {
        by_place.entry(format!("{}/{}", file.folder, file.name)).or_default().push(file);
    }
    for file in expected {
        if let Err(why) = compare(file, drop, &by_place) {
            wrong.push(format!("{}: {why}", file.path));
        }
    }
    let receipts = count_files(&state.join("receipts"));
    let bound = PART_SIZE * PARTS_IN_FLIGHT;
    let again = ledger.bytes_received_again;
    let rules = [
        (
            remote.len() == expected.len(),
            format!("{} files there, {} here", remote.len(), expected.len()),
        ),
        (receipts == expected.len(), format!("{receipts} receipts for {} files", expected.len())),
        (again <= bound, format!("{again} bytes were sent again, more than {bound}")),
        (
            ledger.breaches.is_empty(),
            format!("the platform's rules were broken: {:?}", ledger.breaches),
        ),
    ];
    wrong.extend(rules.into_iter().filter(|(holds, _)| !holds).map(|(_, why)| why));
    let total: u64 = expected.iter().map(|file| file.size).sum();
    render::data(&render::table(&[
        vec!["files".into(), expected.len().to_string()],
        vec!["bytes".into(), format!("{total} ({})", render::bytes(total))],
        vec!["kills".into(), "1".into()],
        vec!["bytes sent again".into(), format!("{again} (at most {bound} for one kill)")],
        vec!["receipts".into(), receipts.to_string()],
    ]))?;
    if wrong.is_empty() {
        render::data("every digest matched: each file is at the far end once, byte for byte")?;
        return Ok(Exit::Fine);
    }
    wrong.iter().take(20).for_each(|why| render::talk(why));
    Ok(Exit::Failed)
}

fn compare(
    file: &Expected,
    drop: &Path,
    by_place: &BTreeMap<String, Vec<&RemoteFile>>,
) -> Result<(), String> {
    let folders = file.path.directories().map(|part| String::from_utf8_lossy(part).into_owned());
    let place: Vec<_> = ["runs".to_owned(), "demo".to_owned()]
        .into_iter()
        .chain(folders)
        .chain([String::from_utf8_lossy(file.path.file_name()).into_owned()])
        .collect();
    let found = by_place.get(&place.join("/")).map_or(&[][..], Vec::as_slice);
    let [remote] = found else { return Err(format!("it is there {} times", found.len())) };
    let here = digest(&[drop.join(file.path.as_path())]).map_err(|error| error.to_string())?;
    let there = digest(&remote.parts).map_err(|error| error.to_string())?;
    if here == there { Ok(()) } else { Err("its content is another".into()) }
}

/// Digests files as if they were one.
fn digest(files: &[PathBuf]) -> io::Result<[u8; 16]> {
    let mut hasher = Md5::new();
    let mut buffer = vec![0; 1 << 18];
    for file in files {
        let mut file = File::open(file)?;
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                length => hasher.update(&buffer[..length]),
            }
        }
    }
    Ok(hasher.finalize().into())
}

fn count_files(directory: &Path) -> usize {
    let Ok(entries) = directory.read_dir() else { return 0 };
    let count = |entry: std::fs::DirEntry| {
        let path = entry.path();
        if path.is_dir() { count_files(&path) } else { 1 }
    };
    entries.filter_map(Result::ok).map(count).sum()
}
