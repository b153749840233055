//! `upload`: hands files to the running daemon once, from outside the drop directories.
//!
//! Every file is opened here and passed as an open descriptor, which proves to the daemon that the
//! caller may read it. The daemon opens it by its path, and accepts it if it is the same file.

use std::collections::BTreeSet;
use std::fs::File;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use serde_json::{Value, json};

use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::OFlags;

use super::status::json::upload_json;
use super::wait::{WaitProgress, open_count, said};
use super::{Common, Exit, ask, render};
use crate::control::{ControlRequest, FILES_MAX, Handed, Reply};
use crate::model::{Observation, Scope, Seen, Shown, SourcePath, UploadId};
use crate::source::{self, DirectoryRoot, Filter};
use crate::store::snapshot::{Detail, Snapshot};

/// Limit of files of one path. More of them need a drop directory.
const FILES_OF_PATH_MAX: usize = 10_000;

/// Interval of reading the progress.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

#[derive(Debug, Args)]
pub(super) struct UploadArguments {
    /// Files, and directories with all files below them
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
    /// The destination, by its name in the configuration
    #[arg(long, value_name = "DESTINATION")]
    to: String,
    /// Wait until all have arrived or are stuck; the exit code shows which
    #[arg(long)]
    wait: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn execute(common: &Common, arguments: &UploadArguments) -> anyhow::Result<Exit> {
    ask::check(common)?;
    let mut offered = Vec::new();
    for path in &arguments.paths {
        offered.push(OpenedFile::find(path)?);
    }
    let mut handed_in = HandedIn::default();
    for offered in offered {
        let so_far = handed_in.uploads.len();
        let handed = handed_in.take(common, offered, &arguments.to);
        handed.with_context(|| format!("{so_far} files are handed in, and no more"))?;
    }
    let HandedIn { uploads, left_out } = handed_in;
    if !arguments.json {
        tell(&uploads, &left_out)?;
    }
    let ids: Vec<_> = uploads.iter().filter_map(|handed| handed.upload).map(UploadId).collect();
    let ended = match arguments.wait {
        true => wait(common, &ids, !arguments.json)?,
        false => Some(Vec::new()),
    };
    let Some(ended) = ended else { return Ok(Exit::NotRunning) };
    if arguments.json {
        render::json(&to_json(&uploads, &left_out, &ended))?;
    }
    let is_there = |detail: &Detail| detail.upload.word() == "completed";
    for detail in ended.iter().filter(|detail| !is_there(detail)) {
        let upload = &detail.upload;
        let reason = upload.reason().map_or(String::new(), |reason| reason.text);
        let (id, word) = (upload.admission.id, upload.word());
        render::talk(&format!("upload {id} is {word}: {}", Shown(&reason)));
    }
    let is_fine = left_out.is_empty() && ended.iter().all(is_there);
    Ok(if is_fine { Exit::Fine } else { Exit::Failed })
}

/// The files of one path.
#[derive(Debug, Default)]
struct OpenedFile {
    /// The directory that names are relative to.
    below: PathBuf,
    files: Vec<PathBuf>,
    /// Entries that are no readable files, and why.
    left_out: Vec<(PathBuf, String)>,
}

impl OpenedFile {
    /// Finds a file, or all files below a directory.
    fn find(path: &Path) -> anyhow::Result<Self> {
        let unusable = || format!("{} cannot be handed in", path.display());
        let real = path.canonicalize().with_context(unusable)?;
        let (Some(parent), Some(name)) = (real.parent(), real.file_name()) else {
            bail!("{}: it is the root of the file system", unusable());
        };
        let filter = Filter::new(&source::handed::settings())?;
        let mut offered = Self { below: parent.to_owned(), ..Self::default() };
        if real.is_dir() {
            let batch = |seen: Vec<Observation>| {
                seen.into_iter().for_each(|seen| offered.note(&real, seen));
                match offered.files.len() > FILES_OF_PATH_MAX {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                }
            };
            source::scan(&DirectoryRoot::at(&real), &filter, &BTreeSet::new(), batch)
                .with_context(unusable)?;
        } else {
            let asked = vec![SourcePath::from_bytes(name.as_bytes())];
            let seen =
                source::look(&DirectoryRoot::at(parent), &filter, asked).with_context(unusable)?;
            seen.into_iter().for_each(|seen| offered.note(parent, seen));
        }
        if offered.files.len() > FILES_OF_PATH_MAX {
            let max = FILES_OF_PATH_MAX;
            bail!("{}: it holds more than {max} files; make it a drop directory", unusable());
        }
        Ok(offered)
    }

    fn note(&mut self, directory: &Path, seen: Observation) {
        let path = directory.join(seen.path.as_path());
        match seen.seen {
            Seen::File(_) => self.files.push(path),
            Seen::Unreadable(_, why) => self.left_out.push((path, why)),
            Seen::Ignored(reason) => self.left_out.push((path, reason.sentence().to_owned())),
            Seen::Gone => self.left_out.push((path, "it is not there any more".to_owned())),
        }
    }
}

/// The results for all paths.
#[derive(Debug, Default)]
struct HandedIn {
    uploads: Vec<Handed>,
    left_out: Vec<(String, String)>,
}

impl HandedIn {
    /// Hands in the files of one path, some at a time.
    fn take(&mut self, common: &Common, offered: OpenedFile, to: &str) -> anyhow::Result<()> {
        offered.left_out.into_iter().for_each(|(path, why)| self.leave_out(&path, why));
        for paths in offered.files.chunks(FILES_MAX) {
            let opened: Vec<_> = paths.iter().filter_map(|path| self.open(path)).collect();
            let request = ControlRequest::Upload {
                paths: opened.iter().map(|(path, _)| bytes(path)).collect(),
                below: Some(bytes(&offered.below)),
                to: to.to_owned(),
            };
            let files: Vec<BorrowedFd<'_>> = opened.iter().map(|(_, file)| file.as_fd()).collect();
            let reply = ask::hand_in(common, &request, &files)?;
            let Reply::HandedIn { uploads, left_out } = reply else {
                return ask::odd(&reply);
            };
            self.uploads.extend(uploads);
            self.left_out.extend(left_out);
        }
        Ok(())
    }

    /// Opens a file, or records why it is left out. A link is left out, because it would be sent
    /// under its target's name.
    fn open<'a>(&mut self, path: &'a Path) -> Option<(&'a Path, File)> {
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let flags = i32::try_from(flags.bits()).unwrap_or_default();
        match File::options().read(true).custom_flags(flags).open(path) {
            Ok(file) => return Some((path, file)),
            Err(_) if path.is_symlink() => {
                self.leave_out(path, "a symbolic link; hand in what it leads to".to_owned());
            }
            Err(error) => self.leave_out(path, error.to_string()),
        }
        None
    }

    fn leave_out(&mut self, path: &Path, why: String) {
        self.left_out.push((SourcePath::from_bytes(&bytes(path)).to_string(), why));
    }
}

fn bytes(path: &Path) -> Vec<u8> {
    path.as_os_str().as_bytes().to_vec()
}

fn tell(uploads: &[Handed], left_out: &[(String, String)]) -> std::io::Result<()> {
    let line = |handed: &Handed| match handed.upload {
        Some(id) => vec![format!("upload {id}"), handed.path.clone()],
        None => vec!["handed in before".to_owned(), handed.path.clone()],
    };
    if !uploads.is_empty() {
        render::data(render::table(&uploads.iter().map(line).collect::<Vec<_>>()).trim_end())?;
    }
    for (path, why) in left_out {
        render::talk(&format!("left out: {}: {}", Shown(path), Shown(why)));
    }
    Ok(())
}

fn to_json(uploads: &[Handed], left_out: &[(String, String)], ended: &[Detail]) -> Value {
    let left_out: Vec<_> =
        left_out.iter().map(|(path, reason)| json!({ "path": path, "reason": reason })).collect();
    let ended: Vec<_> = ended.iter().map(|detail| upload_json(&detail.upload)).collect();
    json!({ "schema": 1, "uploads": uploads, "left_out": left_out, "ended": ended })
}

/// Waits until every upload has ended or is parked; `None` if no daemon runs any more.
fn wait(common: &Common, ids: &[UploadId], says_end: bool) -> anyhow::Result<Option<Vec<Detail>>> {
    if ids.is_empty() {
        return Ok(Some(Vec::new()));
    }
    let mut waiting = WaitProgress::new(common, ids.iter().copied().map(Scope::Upload).collect())?;
    let status = loop {
        let status = waiting.look()?;
        if open_count(&status) == 0 {
            break status;
        }
        if waiting.is_in_vain() {
            return Ok(None);
        }
        std::thread::sleep(LOOK_INTERVAL);
    };
    waiting.end();
    if says_end {
        render::data(&said(&status))?;
    }
    let snapshot = Snapshot::open(&common.state_directory()?)?;
    let mut details = Vec::new();
    for id in ids {
        details.extend(snapshot.detail(*id)?);
    }
    Ok(Some(details))
}
