//! `plan`: shows for every file what would be uploaded, to where, when, in how many parts; what was
//! uploaded already; what is left out, and why.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use clap::Args;
use serde_json::{Value, json};

use super::{Common, Exit, render};
use crate::clock::Clock;
use crate::config::Drop;
use crate::daemon;
use crate::engine::settings::DestinationSettings;
use crate::engine::{Preview, Words};
use crate::model::{
    Admission, Fingerprint, Observation, Role, RunReading, Seen, Shown, SourcePath, Start,
    WallTime, json_shown,
};
use crate::source::{DirectoryRoot, Filter, read_run, scan};
use crate::store::snapshot::{Snapshot, UploadShown};

#[derive(Debug, Args)]
pub(super) struct PlanArguments {
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
    /// Only this drop directory
    #[arg(value_name = "DROP")]
    drop: Option<String>,
}

pub(super) fn execute(common: &Common, arguments: &PlanArguments) -> anyhow::Result<Exit> {
    let config = common.load()?;
    let targets = daemon::destination_settings(&config);
    // Without a database nothing is known to be uploaded.
    let snapshot = Snapshot::open(&config.state_directory).ok();
    let is_meant = |drop: &&Drop| {
        arguments.drop.as_ref().is_none_or(|name| name == drop.settings.name.as_str())
    };
    let drops: Vec<_> = config.drops.iter().filter(is_meant).collect();
    if let (true, Some(name)) = (drops.is_empty(), &arguments.drop) {
        anyhow::bail!("there is no drop directory {name:?} in the configuration");
    }
    let mut sum = PlanSum::default();
    for drop in drops {
        let filter = Filter::new(&drop.source)?;
        let root = DirectoryRoot::at(&drop.source.directory);
        if let Some(rows) = &snapshot {
            daemon::read_by_first_names(rows, &drop.settings.name, &root, &filter)?;
        }
        let planner = Planner::new(drop, &filter, &targets, snapshot.as_ref());
        walk(planner, &root, arguments.json, &mut sum)?;
    }
    if !arguments.json {
        render::talk(&sum.text());
    }
    Ok(Exit::Fine)
}

/// What was planned, in numbers.
#[derive(Default)]
struct PlanSum {
    file_count: u64,
    bytes: u64,
    left_out_count: u64,
    /// Uploads to make, and those that are there.
    upload_count: u64,
    known_count: u64,
}

impl PlanSum {
    /// Counts the fates of one file.
    fn add(&mut self, lines: &[Value]) {
        let count =
            |is_meant: fn(&Value) -> bool| lines.iter().filter(|line| is_meant(line)).count();
        self.upload_count += count(|line| line["fate"] == "upload") as u64;
        self.known_count += count(|line| line["upload_id"].is_number()) as u64;
        match lines.first() {
            Some(line) if line["fate"] == "ignored" => self.left_out_count += 1,
            Some(line) => {
                self.file_count += 1;
                self.bytes += line["size_bytes"].as_u64().unwrap_or(0);
            }
            None => {}
        }
    }

    fn text(&self) -> String {
        let Self { file_count, bytes, left_out_count, upload_count, known_count } = self;
        let files = if *file_count == 1 { "file" } else { "files" };
        let uploads = if *upload_count == 1 { "upload" } else { "uploads" };
        format!(
            "{file_count} {files}, {}: {upload_count} {uploads} to make, {known_count} made; \
             {left_out_count} left out",
            render::bytes(*bytes)
        )
    }
}

fn walk(
    mut planner: Planner<'_>,
    root: &DirectoryRoot,
    json: bool,
    sum: &mut PlanSum,
) -> anyhow::Result<()> {
    let filter = planner.filter;
    let mut printed = Ok(());
    scan(root, filter, &BTreeSet::new(), |observations| {
        let mut lines = String::new();
        for seen in &observations {
            let planned = planner.lines_of(root, seen);
            sum.add(&planned);
            for line in planned {
                lines.push_str(&if json { json_line(&line) } else { sentence(&line) });
                lines.push('\n');
            }
        }
        printed = if lines.is_empty() { Ok(()) } else { render::data(&lines) };
        if printed.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    printed?;
    Ok(())
}

/// Shows the plan of one drop directory's files.
struct Planner<'a> {
    drop: &'a Drop,
    filter: &'a Filter,
    targets: Vec<&'a DestinationSettings>,
    snapshot: Option<&'a Snapshot>,
    readings: BTreeMap<SourcePath, RunReading>,
    at: WallTime,
}

impl<'a> Planner<'a> {
    fn new(
        drop: &'a Drop,
        filter: &'a Filter,
        targets: &'a [DestinationSettings],
        snapshot: Option<&'a Snapshot>,
    ) -> Self {
        let is_asked = |to: &&DestinationSettings| drop.settings.destinations.contains(&to.name);
        Self {
            drop,
            filter,
            targets: targets.iter().filter(is_asked).collect(),
            snapshot,
            readings: BTreeMap::new(),
            at: Clock::real().now().wall,
        }
    }

    fn lines_of(&mut self, root: &DirectoryRoot, seen: &Observation) -> Vec<Value> {
        let name = self.drop.settings.name.as_str();
        let path = seen.path.to_string();
        let version = match &seen.seen {
            Seen::File(version) | Seen::Unreadable(version, _) => *version,
            Seen::Ignored(reason) => {
                let reason = reason.sentence();
                return vec![
                    json!({"drop": name, "path": path, "fate": "ignored", "reason": reason}),
                ];
            }
            Seen::Gone => return Vec::new(),
        };
        self.read(root, seen);
        self.targets.iter().map(|target| self.line(seen, version, target)).collect()
    }

    /// Reads the files of an observation's run, once.
    fn read(&mut self, root: &DirectoryRoot, seen: &Observation) {
        let run = seen.place.run(&seen.path);
        if !self.drop.settings.runs.closing.reads_runs || self.readings.contains_key(&run) {
            return;
        }
        let reading = read_run(root, &run, self.filter).unwrap_or_default();
        self.readings.insert(run, reading);
    }

    fn line(&self, seen: &Observation, version: Fingerprint, to: &DestinationSettings) -> Value {
        let name = self.drop.settings.name.as_str();
        let run = seen.place.run(&seen.path);
        let common = json!({
            "drop": name, "path": seen.path.to_string(), "destination": to.name.as_str(),
            "run": (run != seen.path).then(|| run.to_string()), "size_bytes": version.size.0,
        });
        let reading = self.readings.get(&run);
        let (drop, path) = (&self.drop.settings, &seen.path);
        let words = Words { drop, path, run: &run, reading, at: self.at };
        let planned = Preview::of(to, words, version.size);
        let skipped = reading.and_then(|reading| reading.skip.reason());
        let fate = match (self.before(seen, version, to), planned) {
            (Some(upload), _) => {
                let Admission { id, target, .. } = &upload.admission;
                json!({
                    "fate": upload.word(), "reason": format!("upload {id}"), "upload_id": id.0,
                    "remote_folder": target.folder(), "remote_name": target.name(),
                })
            }
            (None, _) if skipped.is_some() => {
                let why = skipped.unwrap_or_default();
                json!({"fate": "ignored", "reason": format!("its run is skipped: {why}")})
            }
            (None, Ok(preview)) => json!({
                "fate": "upload", "when": self.when(seen), "part_count": preview.part_count,
                "part_size_bytes": preview.part_size.get(),
                "remote_folder": preview.target.folder(),
                "remote_name": preview.target.name(), "rank": seen.place.rank,
            }),
            (None, Err(reason)) => json!({"fate": "parked", "reason": reason.sentence()}),
        };
        merged(common, fate)
    }

    /// Returns the existing upload of this very version.
    fn before(
        &self,
        seen: &Observation,
        version: Fingerprint,
        to: &DestinationSettings,
    ) -> Option<UploadShown> {
        let newest = self.snapshot?.newest(&self.drop.settings.name, &seen.path, &to.name);
        let upload = newest.ok().flatten()?;
        let is_it = upload.admission.file.fingerprint.same_version(&version);
        is_it.then_some(upload)
    }

    fn when(&self, seen: &Observation) -> &'static str {
        let is_alone = seen.place.is_alone(&seen.path);
        match (seen.place.role, self.drop.settings.runs.start) {
            (Role::Marker(_), _) if !is_alone => "when all else of its drop is there",
            (Role::Held, _) | (_, Start::WhenRunClosed) if !is_alone => "when its run is closed",
            (Role::Plain | Role::Held | Role::Marker(_), _) => "when it has settled",
        }
    }
}

fn merged(mut one: Value, other: Value) -> Value {
    if let (Some(one), Value::Object(other)) = (one.as_object_mut(), other) {
        one.extend(other);
    }
    one
}

fn json_line(line: &Value) -> String {
    json_shown(&line.to_string()).into_owned()
}

fn sentence(line: &Value) -> String {
    let text = |key: &str| Shown(line[key].as_str().unwrap_or_default()).to_string();
    let (drop, path) = (text("drop"), text("path"));
    let place = [text("remote_folder"), text("remote_name")].join("/");
    let to = format!("{}:{}", text("destination"), place.trim_start_matches('/'));
    match line["fate"].as_str() {
        Some("upload") => {
            let size = render::bytes(line["size_bytes"].as_u64().unwrap_or(0));
            let parts = match line["part_count"].as_u64() {
                Some(1) => "1 part".to_owned(),
                count => format!("{} parts", count.unwrap_or(0)),
            };
            format!("{drop}: {path} → {to} ({size}, {parts}), {}", text("when"))
        }
        Some("ignored") => format!("{drop}: {path} is left out: {}", text("reason")),
        Some("parked") if line["upload_id"].is_null() => {
            format!("{drop}: {path} cannot go to {}: {}", text("destination"), text("reason"))
        }
        Some(state) => {
            format!("{drop}: {path} is {state} at {to}: {}", text("reason"))
        }
        None => String::new(),
    }
}
