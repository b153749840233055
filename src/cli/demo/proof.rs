//! The proof: every file arrived exactly once, byte for byte, and nothing else did.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use md5::{Digest, Md5};

use super::files::Expected;
use super::{DemoPlaces, PART_SIZE, PARTS_IN_FLIGHT};
use crate::cli::{Exit, render};
use crate::receipt;
use crate::receipt::ledger::LedgerReader;
use crate::sandbox::{RemoteFile, Sandbox, Vendor};

struct ProofFound {
    row: Vec<String>,
    wrong: Vec<String>,
    again: u64,
}

/// Compares everything and prints the result.
pub(super) fn prove(
    sandbox: &Sandbox,
    expected: &[Expected],
    drop: &Path,
    stage: &DemoPlaces,
) -> anyhow::Result<Exit> {
    let here = digests(expected, drop)?;
    let found: Vec<_> =
        stage.vendors.iter().map(|vendor| compare(sandbox, *vendor, expected, &here)).collect();
    let receipts = count_receipts(&stage.state)?;
    let wanted = expected.len() * stage.vendors.len();
    // The parts in flight, and as many that had arrived without a checkpoint.
    let bound = 2 * PART_SIZE * PARTS_IN_FLIGHT;
    let again: u64 = found.iter().map(|found| found.again).sum();
    let mut wrong: Vec<_> = found.iter().flat_map(|found| found.wrong.clone()).collect();
    let rules = [
        (receipts == wanted, format!("{receipts} receipts for {wanted} uploads")),
        (again <= bound, format!("{again} bytes were sent again, more than {bound}")),
    ];
    wrong.extend(rules.into_iter().filter(|(holds, _)| !holds).map(|(_, why)| why));
    let head = ["platform", "files", "bytes", "sent again"].map(str::to_owned).to_vec();
    let rows: Vec<_> = std::iter::once(head).chain(found.into_iter().map(|f| f.row)).collect();
    render::data(&render::table(&rows))?;
    render::data(&format!(
        "one kill: {again} bytes were sent again (at most {bound}); {receipts} receipts"
    ))?;
    if wrong.is_empty() {
        render::data("every digest matched: each file is at every far end once, byte for byte")?;
        return Ok(Exit::Fine);
    }
    wrong.iter().take(20).for_each(|why| render::talk(why));
    Ok(Exit::Failed)
}

type Digest16 = [u8; 16];

fn digests(expected: &[Expected], drop: &Path) -> anyhow::Result<Vec<Digest16>> {
    let digests = expected.iter().map(|file| digest(&[drop.join(file.path.as_path())]));
    Ok(digests.collect::<io::Result<_>>()?)
}

fn compare(
    sandbox: &Sandbox,
    vendor: Vendor,
    expected: &[Expected],
    here: &[Digest16],
) -> ProofFound {
    let (remote, ledger) = (sandbox.files(vendor), sandbox.ledger(vendor));
    let mut by_place: BTreeMap<String, Vec<&RemoteFile>> = BTreeMap::new();
    for file in &remote {
        by_place.entry(place_of(vendor, file)).or_default().push(file);
    }
    let mut wrong = Vec::new();
    for (file, digest_here) in expected.iter().zip(here) {
        let there = by_place.get(&place_for(vendor, file)).map_or(&[][..], Vec::as_slice);
        let equal = there.iter().filter(|f| digest(&f.parts).is_ok_and(|d| d == *digest_here));
        match equal.count() {
            0 => wrong.push(format!("{}: {} has no such content", vendor.title(), file.path)),
            count if count < there.len() && vendor != Vendor::GjirafaVp => {
                wrong.push(format!("{}: {} is there twice", vendor.title(), file.path));
            }
            _ => {}
        }
    }
    if remote.len() != expected.len() {
        wrong.push(format!("{}: {} files, {} here", vendor.title(), remote.len(), expected.len()));
    }
    if !ledger.breaches.is_empty() {
        wrong.push(format!("{}: rules were broken: {:?}", vendor.title(), ledger.breaches));
    }
    let total: u64 = remote.iter().map(|file| file.size).sum();
    let again = ledger.bytes_received_again;
    let row = vec![
        vendor.title().to_owned(),
        remote.len().to_string(),
        format!("{total} ({})", render::bytes(total)),
        again.to_string(),
    ];
    ProofFound { row, wrong, again }
}

/// Returns the location of a remote file, as one text.
fn place_of(vendor: Vendor, file: &RemoteFile) -> String {
    match vendor {
        Vendor::SevenBridges | Vendor::S3 => format!("{}/{}", file.folder, file.name),
        Vendor::BaseSpace => format!("{}/{}/{}", file.project, file.folder, file.name),
        Vendor::GjirafaVp => file.name.clone(),
    }
}

/// Returns the expected location of a file of the drop directory.
fn place_for(vendor: Vendor, file: &Expected) -> String {
    let text = |part: &[u8]| String::from_utf8_lossy(part).into_owned();
    let name = text(file.path.file_name());
    let mut folders: Vec<_> = file.path.directories().map(text).collect();
    match vendor {
        Vendor::SevenBridges | Vendor::S3 => {
            folders.splice(0..0, ["runs".to_owned(), "demo".to_owned()]);
            format!("{}/{name}", folders.join("/"))
        }
        // An AppResult for each run; a file at the top is a run of its own.
        Vendor::BaseSpace if folders.is_empty() => format!("{name}//{name}"),
        Vendor::BaseSpace => format!("{}/{}/{name}", folders[0], folders[1..].join("/")),
        Vendor::GjirafaVp => name,
    }
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

/// Counts the receipts of uploads, in valid ledgers.
fn count_receipts(state: &Path) -> anyhow::Result<usize> {
    let mut count = 0;
    for ledger in receipt::place::ledgers(state)? {
        for line in LedgerReader::new(BufReader::new(File::open(ledger.path(state))?)) {
            count += usize::from(line?.body()?.upload().is_some());
        }
    }
    Ok(count)
}
