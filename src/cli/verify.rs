//! `verify`: checks whether sent files are still at their destinations, as they were sent.
//!
//! Checks the ledgers, and the line of each row by its digest, asks the platform for each file by
//! its id and compares the answer with the rows; reads the sources again on request. Changes
//! nothing.

mod content;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::Path;

use anyhow::bail;
use clap::Args;
use futures_util::StreamExt;
use futures_util::stream;
use indicatif::{ProgressBar, ProgressDrawTarget};
use serde_json::{Value, json};

use super::shelf::Shelf;
use super::what::{What, WhatError};
use super::{Common, Exit, render};
use crate::clock::Clock;
use crate::config::Config;
use crate::model::{
    Admission, ContentMark, DestinationName, ETagMode, Failure, PartSize, RemoteFile, RemoteFileId,
    RemoteStanding, SentFile, Shown, Stage, Target, UploadId,
};
use crate::platform::contract::SharedPlatform;
use crate::receipt::{self, LedgerVerdict};
use crate::store::snapshot::{Detail, Snapshot};

/// Files asked about at once.
const ASKED_MAX: usize = 8;

#[derive(Debug, Args)]
pub(super) struct VerifyArguments {
    /// An upload's id, a destination, a drop directory, DROP/RUN, the end of a path, or a glob
    #[arg(value_name = "WHAT")]
    which: OsString,
    /// Also read the local files again, and compare them with what was sent
    #[arg(long)]
    content: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FileVerdict {
    Same,
    Differs,
    NotThere,
    Unknown,
    /// The receipt that proves it is missing, or differs from the one that was written.
    Damaged,
}

impl FileVerdict {
    fn word(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Differs => "differs",
            Self::NotThere => "not there",
            Self::Unknown => "cannot be told",
            Self::Damaged => "receipt damaged",
        }
    }
}

type JudgedFile = (FileVerdict, String);

/// The inputs of the checks.
struct Verifier<'a> {
    config: &'a Config,
    snapshot: Snapshot,
    clients: Vec<(DestinationName, SharedPlatform)>,
    /// The drop directories, if local files are read again.
    roots: Option<content::Roots>,
}

pub(super) fn execute(common: &Common, arguments: &VerifyArguments) -> anyhow::Result<Exit> {
    let config = common.load()?;
    let snapshot = Snapshot::open(&config.state_directory)?;
    let word = arguments.which.to_string_lossy();
    let what = match What::read(&snapshot, std::slice::from_ref(&arguments.which)) {
        Err(error @ WhatError::Nothing { .. }) => {
            return Err(
                anyhow::Error::new(error).context(format!("nothing of {word:?} has arrived"))
            );
        }
        what => what?,
    };
    let ids = meant(&snapshot, &what, &word)?;
    let clients = crate::daemon::clients(&config, &Clock::real())?;
    let roots = arguments.content.then(|| content::roots(&config, &snapshot)).transpose()?;
    let verifier = Verifier { config: &config, snapshot, clients, roots };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let bar = progress_bar(ids.len());
    let damage = ledger_damage(&config.state_directory, &verifier.snapshot, &what)?;
    let mut all_same = damage.is_empty();
    let (mut listed, mut counts) = (Vec::new(), BTreeMap::<&str, u64>::new());
    runtime.block_on(async {
        let mut answers = stream::iter(ids).map(|id| verifier.verify(id)).buffered(ASKED_MAX);
        while let Some(answer) = answers.next().await {
            let (detail, (verdict, found)) = answer?;
            all_same &= verdict == FileVerdict::Same;
            *counts.entry(verdict.word()).or_default() += 1;
            bar.inc(1);
            match arguments.json {
                true => listed.push(to_json(&detail, verdict, &found)),
                false => bar.suspend(|| render::data(&line(&detail, verdict, &found)))?,
            }
        }
        anyhow::Ok(())
    })?;
    bar.finish_and_clear();
    damage.iter().for_each(|damage| render::talk(damage));
    if arguments.json {
        render::json(&json!({ "schema": 1, "files": listed }))?;
    } else {
        let counts = counts.iter().map(|(word, count)| format!("{count} {word}"));
        render::talk(&counts.collect::<Vec<_>>().join(", "));
    }
    Ok(if all_same { Exit::Fine } else { Exit::Failed })
}

/// Returns the damages of the ledgers of a selection, and of the lines of its runs.
fn ledger_damage(state: &Path, snapshot: &Snapshot, what: &What) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    let shelf = Shelf::read(state, Some(snapshot))?;
    for name in shelf.chosen(Some(what), Some(snapshot))?.iter().flat_map(|run| &run.names) {
        let known = snapshot.known_ledger(name.as_str())?.head;
        match receipt::audit(state, &name.ledger_path(), known, || false) {
            Ok(LedgerVerdict::Holds(_) | LedgerVerdict::Halted) => {}
            Ok(LedgerVerdict::Damaged(why)) => {
                found.push(format!("the ledger {name} does not hold: {why}"));
            }
            Err(error) => found.push(format!("the ledger {name} cannot be read: {error}")),
        }
    }
    let runs = snapshot.receipted_runs()?;
    let runs = runs.iter().filter(|run| what.covers_run(run));
    found.extend(runs.filter_map(|run| receipt::run_damage(state, run)));
    Ok(found)
}

/// Finds the selected uploads: the named one, or the newest receipted one of each path.
fn meant(snapshot: &Snapshot, what: &What, word: &str) -> anyhow::Result<Vec<UploadId>> {
    if let Some(id) = what.upload()
        && let Some(detail) = snapshot.detail(id)?
    {
        if detail.upload.remote_id.is_none() {
            bail!("upload {id} is not completed: it is {}", detail.upload.word());
        }
        return Ok(vec![id]);
    }
    let mut ids = Vec::new();
    snapshot.receipted_files(|file| {
        ids.extend(what.covers_file(&file).then_some(file.upload));
    })?;
    if ids.is_empty() {
        bail!("nothing of {word:?} has arrived: there is no receipt of it");
    }
    Ok(ids)
}

fn progress_bar(count: usize) -> ProgressBar {
    // Only a person needs it.
    let target = match std::io::stderr().is_terminal() {
        true => ProgressDrawTarget::stderr(),
        false => ProgressDrawTarget::hidden(),
    };
    ProgressBar::with_draw_target(Some(count as u64), target)
}

impl Verifier<'_> {
    async fn verify(&self, id: UploadId) -> anyhow::Result<(Detail, JudgedFile)> {
        let Some(detail) = self.snapshot.detail(id)? else { bail!("there is no upload {id}") };
        if let Some(elsewhere) = self.elsewhere(&detail)? {
            return Ok((detail, (FileVerdict::Unknown, elsewhere)));
        }
        let there = self.ask(&detail).await;
        let judged = match there {
            Ok(there) => compare(&detail, there.as_ref()),
            Err(failure) => (FileVerdict::Unknown, failure.to_string()),
        };
        let judged = match self.damage(&detail) {
            None => judged,
            Some(damage) if judged.0 == FileVerdict::Same => (FileVerdict::Damaged, damage),
            Some(damage) => (judged.0, format!("{}; {damage}", judged.1)),
        };
        let Some(roots) = self.roots.as_ref().filter(|_| judged.0 == FileVerdict::Same) else {
            return Ok((detail, judged));
        };
        let (verdict, found) = content::compare(roots, &detail);
        let found = match verdict {
            FileVerdict::Same => format!("{}; {found}", judged.1),
            FileVerdict::Differs
            | FileVerdict::NotThere
            | FileVerdict::Unknown
            | FileVerdict::Damaged => found,
        };
        Ok((detail, (verdict, found)))
    }

    /// Returns the damage of an upload's receipt, if it has one.
    fn damage(&self, detail: &Detail) -> Option<String> {
        detail.times.receipted_at?;
        let state = &self.config.state_directory;
        let damage = receipt::check(state, detail.receipt.as_ref()).err()?;
        Some(format!("its receipt {damage}"))
    }

    /// Reports a file that was completed at a former target of its destination: ids of one target
    /// are invalid at another.
    fn elsewhere(&self, detail: &Detail) -> anyhow::Result<Option<String>> {
        let Admission { destination, target_id, .. } = &detail.upload.admission;
        let configured = self.config.destinations.iter().find(|to| to.name == *destination);
        let Some(configured) = configured else { return Ok(None) };
        if self.snapshot.target_ids(&configured.addresses())?.contains(target_id) {
            return Ok(None);
        }
        let former = self.snapshot.target_address(*target_id)?;
        let former =
            former.map_or_else(|| "another target".to_owned(), |address| address.to_string());
        let own = configured.address();
        Ok(Some(format!("not asked: it was completed at {former}, and {destination} is {own}")))
    }

    async fn ask(&self, detail: &Detail) -> Result<Option<RemoteFile>, Failure> {
        use crate::model::FailureKind::NotFound;
        let name = &detail.upload.admission.destination;
        let client = self.clients.iter().find(|(known, _)| known == name);
        let none = |message: &str| Failure::new(NotFound, message);
        let Some((_, client)) = client else {
            return Err(none("its destination is not in the configuration"));
        };
        let id = detail.upload.remote_id.as_ref().ok_or_else(|| none("it has no remote id"))?;
        let id = RemoteFileId::new(id);
        match (detail.upload.state.etag_mode, PartSize::new(detail.upload.part_size_bytes)) {
            // Nothing else shows the content there.
            (ETagMode::ReadBack, Some(part_size)) => client.read_back(&id, part_size).await,
            (ETagMode::ReadBack | ETagMode::Unknown | ETagMode::Md5 | ETagMode::Opaque, _) => {
                client.inspect(&id).await
            }
        }
    }
}

/// Compares the platform's answer about a file with what was sent.
fn compare(detail: &Detail, there: Option<&RemoteFile>) -> JudgedFile {
    use RemoteStanding::{
        AsVerified, NoSize, NotThere, OtherDigest, OtherKind, OtherParts, OtherSize, Replaced,
        Same, SameSize,
    };
    let upload = &detail.upload;
    let sent = SentFile {
        size: upload.admission.file.fingerprint.size,
        mark: sent_mark(detail),
        told: told_file(detail).and_then(|file| file.mark),
        etag: told_file(detail).and_then(|file| file.etag.clone()),
        etag_mode: upload.state.etag_mode,
    };
    let found = RemoteStanding::of(&sent, there);
    let verdict = match found {
        Same | SameSize | OtherParts | AsVerified => FileVerdict::Same,
        OtherSize { .. } | OtherDigest { .. } | Replaced => FileVerdict::Differs,
        OtherKind | NoSize => FileVerdict::Unknown,
        NotThere => {
            let id = upload.remote_id.clone().unwrap_or_default();
            return (FileVerdict::NotThere, format!("the destination has no file {id}"));
        }
    };
    let found = match (found, sent.etag_mode) {
        (Same, ETagMode::ReadBack) => "size and content, read back".to_owned(),
        (SameSize, mode) => without_digest(mode).to_owned(),
        (found, _) => found.to_string(),
    };
    (verdict, found)
}

/// Describes what an equal size proves.
fn without_digest(mode: ETagMode) -> &'static str {
    match mode {
        ETagMode::Unknown | ETagMode::ReadBack => "size; no digest to compare",
        ETagMode::Md5 => "size; no digest to compare: each part was proved when it was sent",
        ETagMode::Opaque => "size; no digest to compare: the storage says that its ETags are none",
    }
}

/// Returns the file as the platform described it when it was verified.
fn told_file(detail: &Detail) -> Option<&RemoteFile> {
    match &detail.upload.state.stage {
        Stage::Completed { file, .. }
        | Stage::Verified { file, .. }
        | Stage::Receipted { file } => Some(file),
        Stage::Queued
        | Stage::Beginning { .. }
        | Stage::Sending { .. }
        | Stage::Completing { .. }
        | Stage::Ended(_) => None,
    }
}

/// Returns the digest over the sent parts.
fn sent_mark(detail: &Detail) -> Option<ContentMark> {
    use md5::Digest;
    if detail.digests.mark.is_some() {
        return detail.digests.mark;
    }
    let is_whole = detail.parts.len() == detail.upload.part_count as usize;
    let part_size = crate::model::PartSize::new(detail.upload.part_size_bytes)?;
    let mut hasher = md5::Md5::new();
    detail.parts.iter().for_each(|part| hasher.update(part.md5.0));
    let md5_of_parts = crate::model::Md5(hasher.finalize().into());
    is_whole.then_some(ContentMark { part_size, md5_of_parts })
}

fn line(detail: &Detail, verdict: FileVerdict, found: &str) -> String {
    let admission = &detail.upload.admission;
    format!(
        "{:<14}  {:>7}  {}: {}  {}:{}  ({})",
        verdict.word(),
        admission.id.to_string(),
        admission.file.drop,
        admission.file.path,
        admission.destination,
        Shown(sent_to(detail).path()),
        Shown(found)
    )
}

/// Returns where it was sent; the platform may have given it another name.
fn sent_to(detail: &Detail) -> Target {
    let target = &detail.upload.admission.target;
    detail.remote.name.as_ref().map_or_else(|| target.clone(), |name| target.with_name(name))
}

fn to_json(detail: &Detail, verdict: FileVerdict, found: &str) -> Value {
    let (admission, sent_to) = (&detail.upload.admission, sent_to(detail));
    json!({
        "remote_folder": sent_to.folder(), "remote_name": sent_to.name(),
        "upload_id": admission.id.0, "drop": admission.file.drop.as_str(),
        "path": admission.file.path.to_string(), "destination": admission.destination.as_str(),
        "remote_id": detail.upload.remote_id, "state": verdict.word(), "found": found,
    })
}
