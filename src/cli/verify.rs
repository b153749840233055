//! `verify`: is what has arrived still there, as it was sent?
//!
//! Asks the platform for each file by its id there and compares what it tells with the rows; reads the
//! sources again where that is wished. Reads rows alone, and changes nothing anywhere.

mod content;

use std::io::IsTerminal;

use anyhow::bail;
use clap::Args;
use futures_util::StreamExt;
use futures_util::stream;
use indicatif::{ProgressBar, ProgressDrawTarget};
use serde_json::{Value, json};

use super::{Common, Exit, render};
use crate::clock::Clock;
use crate::config::Config;
use crate::model::{
    ContentMark, DestinationName, ETagMode, Failure, RemoteFile, RemoteFileId, Shown, UploadId,
};
use crate::platform::contract::SharedPlatform;
use crate::store::snapshot::{Detail, Snapshot};

/// Files asked about at once.
const ASKED_MAX: usize = 8;

#[derive(Debug, Args)]
pub(super) struct VerifyArguments {
    /// An upload's id, a drop directory's name, or NAME/UNIT for one drop or file in it
    #[arg(value_name = "ID|DROP")]
    which: String,
    /// Also read the local files again, and compare them with what was sent
    #[arg(long)]
    content: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Same,
    Differs,
    NotThere,
    Unknown,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Differs => "differs",
            Self::NotThere => "not there",
            Self::Unknown => "cannot be told",
        }
    }
}

/// A verdict, and by what.
type Judged = (Verdict, String);

/// What is asked, and whom.
struct Verifier<'a> {
    config: &'a Config,
    snapshot: Snapshot,
    clients: Vec<(DestinationName, SharedPlatform)>,
    content: bool,
}

pub(super) fn execute(common: &Common, arguments: &VerifyArguments) -> anyhow::Result<Exit> {
    let config = common.load()?;
    let snapshot = Snapshot::open(&config.state_directory)?;
    let ids = meant(&snapshot, &arguments.which)?;
    let clients = crate::daemon::clients(&config, &Clock::real())?;
    let verifier = Verifier { config: &config, snapshot, clients, content: arguments.content };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let bar = progress_bar(ids.len());
    let mut all_same = true;
    let mut listed = Vec::new();
    runtime.block_on(async {
        let mut answers = stream::iter(ids).map(|id| verifier.verify(id)).buffered(ASKED_MAX);
        while let Some(answer) = answers.next().await {
            let (detail, (verdict, found)) = answer?;
            all_same &= verdict == Verdict::Same;
            bar.inc(1);
            match arguments.json {
                true => listed.push(to_json(&detail, verdict, &found)),
                false => bar.suspend(|| render::data(&line(&detail, verdict, &found)))?,
            }
        }
        anyhow::Ok(())
    })?;
    bar.finish_and_clear();
    if arguments.json {
        render::json(&json!({ "schema": 1, "files": listed }))?;
    }
    Ok(if all_same { Exit::Fine } else { Exit::Failed })
}

/// Finds the uploads that are meant: one by its id, or the newest of each path with its receipt.
fn meant(snapshot: &Snapshot, which: &str) -> anyhow::Result<Vec<UploadId>> {
    if let Ok(id) = which.parse().map(UploadId)
        && let Some(detail) = snapshot.detail(id)?
    {
        if detail.upload.remote_id.is_none() {
            bail!("upload {id} is not completed: it is {}", detail.upload.word());
        }
        return Ok(vec![id]);
    }
    let (drop, below) = which.split_once('/').unwrap_or((which, ""));
    let below = below.trim_end_matches('/').as_bytes();
    let mut ids = Vec::new();
    snapshot.receipted_files(Some(drop), &mut |file| {
        let rest = file.path.as_bytes().strip_prefix(below);
        let is_below =
            rest.is_some_and(|rest| below.is_empty() || rest.is_empty() || rest[0] == b'/');
        ids.extend(is_below.then_some(file.upload));
        Ok(())
    })?;
    if ids.is_empty() {
        bail!("nothing of {which:?} has arrived: there is no receipt of it");
    }
    Ok(ids)
}

fn progress_bar(count: usize) -> ProgressBar {
    // Only a person has use for it.
    let target = match std::io::stderr().is_terminal() {
        true => ProgressDrawTarget::stderr(),
        false => ProgressDrawTarget::hidden(),
    };
    ProgressBar::with_draw_target(Some(count as u64), target)
}

impl Verifier<'_> {
    async fn verify(&self, id: UploadId) -> anyhow::Result<(Detail, Judged)> {
        let Some(detail) = self.snapshot.detail(id)? else { bail!("there is no upload {id}") };
        let there = self.ask(&detail).await;
        let judged = match there {
            Ok(there) => compare(&detail, there.as_ref()),
            Err(failure) => (Verdict::Unknown, failure.to_string()),
        };
        if !self.content || judged.0 != Verdict::Same {
            return Ok((detail, judged));
        }
        let (verdict, found) = content::compare(self.config, &detail);
        let found = match verdict {
            Verdict::Same => format!("{}; {found}", judged.1),
            Verdict::Differs | Verdict::NotThere | Verdict::Unknown => found,
        };
        Ok((detail, (verdict, found)))
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
        client.inspect(&RemoteFileId::new(id)).await
    }
}

/// Compares what the platform tells of a file with what was sent.
fn compare(detail: &Detail, there: Option<&RemoteFile>) -> Judged {
    let Some(there) = there else {
        let id = detail.upload.remote_id.clone().unwrap_or_default();
        return (Verdict::NotThere, format!("the destination has no file {id}"));
    };
    let sent = detail.upload.admission.fingerprint.size;
    match there.size {
        Some(size) if size != sent => {
            return (Verdict::Differs, format!("size: {} bytes there, {} sent", size.0, sent.0));
        }
        Some(_) => {}
        None => return (Verdict::Unknown, "the platform does not tell its size".into()),
    }
    let Some((ours, theirs)) = sent_mark(detail).zip(there.mark) else {
        return (Verdict::Same, "size; no digest to compare".into());
    };
    let one_part = |mark: &ContentMark| mark.part_size.count_for(sent) == Some(1);
    let is_comparable =
        ours.part_size == theirs.part_size || (one_part(&ours) && one_part(&theirs));
    let is_equal = ours.md5_of_parts == theirs.md5_of_parts;
    match (is_comparable, is_equal, detail.upload.state.etag_mode) {
        (false, _, _) => (Verdict::Same, "size; its digest is over other parts".into()),
        (true, true, _) => (Verdict::Same, "size and digest".into()),
        (true, false, ETagMode::Md5) => {
            let (ours, theirs) = (ours.md5_of_parts, theirs.md5_of_parts);
            (Verdict::Differs, format!("digest: {theirs} there, {ours} sent"))
        }
        (true, false, ETagMode::Unknown | ETagMode::Opaque) => {
            (Verdict::Unknown, "the size is the same, and its digest is of another kind".into())
        }
    }
}

/// The digest over the parts that were sent.
fn sent_mark(detail: &Detail) -> Option<ContentMark> {
    use md5::Digest;
    if detail.mark.is_some() {
        return detail.mark;
    }
    let is_whole = detail.parts.len() == detail.upload.part_count as usize;
    let part_size = crate::model::PartSize::new(detail.upload.part_size_bytes)?;
    let mut hasher = md5::Md5::new();
    detail.parts.iter().for_each(|part| hasher.update(part.md5.0));
    let md5_of_parts = crate::model::Md5(hasher.finalize().into());
    is_whole.then_some(ContentMark { part_size, md5_of_parts })
}

fn line(detail: &Detail, verdict: Verdict, found: &str) -> String {
    let admission = &detail.upload.admission;
    format!(
        "{:<14}  {:>7}  {}: {}  {}  ({})",
        verdict.word(),
        admission.id.to_string(),
        admission.drop,
        admission.path,
        admission.destination,
        Shown(found)
    )
}

fn to_json(detail: &Detail, verdict: Verdict, found: &str) -> Value {
    let admission = &detail.upload.admission;
    json!({
        "upload_id": admission.id.0, "drop": admission.drop.as_str(),
        "path": admission.path.to_string(), "destination": admission.destination.as_str(),
        "remote_id": detail.upload.remote_id, "state": verdict.word(), "found": found,
    })
}
