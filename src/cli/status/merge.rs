//! `status --merge`: the output of `status --json` of several machines, as one view.
//!
//! Each file is the answer of one machine; two machines with one name are distinguished. A machine with an
//! old answer is silent, whatever its clock says; an invalid file is named, and hides no other machine.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::{Value, json};

use super::Exit;
use super::progress::RunProgress;
use super::runs::{self, RunLine};
use crate::cli::layout::{self, Sheet, Tone};
use crate::cli::render;
use crate::clock::{Clock, wall_time};
use crate::model::{Code, DirectoryName, Shown, WallTime};
use crate::receipt::parse_rfc3339;

/// Age from which an answer shows nothing about the machine any more: answers are collected every
/// few minutes.
const SILENT_AFTER: Duration = Duration::from_mins(15);
const SCHEMA: u64 = 2;
const MATTERS_MAX: usize = 20;
const RUNS_MAX: usize = 40;
/// Lists of a status that are joined, with the machine added to each entry.
const LISTS: [&str; 6] = ["attention", "drops", "destinations", "runs", "uploads", "ignored"];

/// One machine's answer.
struct Machine {
    file: PathBuf,
    /// Its name; with that of its file, if another machine has the same one.
    host: String,
    /// When it answered: by its clock, but no later than its file was written.
    at: WallTime,
    /// How far its clock is ahead.
    ahead: Duration,
    status: Value,
}

/// All answers.
struct Fleet {
    machines: Vec<Machine>,
    /// Invalid files, and why.
    unread: Vec<(PathBuf, String)>,
    now: WallTime,
}

pub(super) fn execute(files: &[PathBuf], as_json: bool, checks: bool) -> anyhow::Result<Exit> {
    let now = Clock::real().now().wall;
    let mut fleet = Fleet { machines: Vec::new(), unread: Vec::new(), now };
    for file in files {
        match Machine::read(file) {
            Ok(machine) => fleet.add(machine),
            Err(error) => fleet.unread.push((file.clone(), format!("{error:#}"))),
        }
    }
    fleet.name();
    match as_json {
        true => render::json(&fleet.json())?,
        false => render::sheet(&fleet.sheet(layout::terminal_width()))?,
    }
    Ok(match (fleet.unread.is_empty(), checks) {
        (false, _) => Exit::Failed,
        (true, true) => fleet.judge(),
        (true, false) => Exit::Fine,
    })
}

impl Machine {
    fn read(file: &Path) -> anyhow::Result<Self> {
        let text = fs::read(file).context("it cannot be read")?;
        if text.trim_ascii().is_empty() {
            bail!("it is empty");
        }
        let status: Value = serde_json::from_slice(&text).context("it is not JSON")?;
        match status["schema"].as_u64() {
            Some(SCHEMA) => {}
            Some(other) => bail!("it has schema {other}; this program reads schema {SCHEMA}"),
            None => bail!("it has no `schema`"),
        }
        if status.get("hosts").is_some() {
            bail!("it is of several machines itself");
        }
        let host = status["host"].as_str().context("it has no `host`")?.to_owned();
        if !LISTS[..5].iter().all(|list| status[*list].is_array()) {
            bail!("it lacks one of its lists: {}", LISTS[..5].join(", "));
        }
        let written_at = wall_time(fs::metadata(file)?.modified()?);
        let at = match status["at"].as_str() {
            Some(text) => parse_rfc3339(text).context("its `at` is no time")?,
            None => written_at,
        };
        let ahead = written_at.until(at);
        Ok(Self { file: file.to_owned(), host, at: at.min(written_at), ahead, status })
    }

    /// Returns whether this and another answer are of one machine: of one state, or, if an answer
    /// does not name the state, of one daemon process.
    fn is_same(&self, other: &Self) -> bool {
        let of = |name: &str| (&self.status[name], &other.status[name]);
        self.status["host"] == other.status["host"]
            && match of("state_id") {
                (Value::String(one), Value::String(other)) => one == other,
                _ => self.status["daemon"]["started_at"] == other.status["daemon"]["started_at"],
            }
    }

    fn is_running(&self) -> bool {
        self.status["daemon"]["running"] == true
    }

    fn list(&self, name: &str) -> impl Iterator<Item = &Value> {
        self.status[name].as_array().into_iter().flatten()
    }
}

impl Fleet {
    /// Adds a machine. Of two answers of one machine the newer one counts.
    fn add(&mut self, machine: Machine) {
        let known = self.machines.iter_mut().find(|known| known.is_same(&machine));
        let Some(known) = known else { return self.machines.push(machine) };
        let older = match known.at < machine.at {
            true => std::mem::replace(known, machine),
            false => machine,
        };
        let file = older.file.display().to_string();
        render::talk(&format!("{} is left out: {} has a newer answer", Shown(&file), older.host));
    }

    /// Distinguishes machines with one name by their files, and sorts them.
    fn name(&mut self) {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        self.machines.iter().for_each(|m| *counts.entry(m.host.clone()).or_insert(0) += 1);
        for machine in self.machines.iter_mut().filter(|machine| counts[&machine.host] > 1) {
            machine.host = format!("{} ({})", machine.host, machine.file.display());
        }
        self.machines.sort_by(|one, other| one.host.cmp(&other.host));
    }

    fn silent_since(&self, machine: &Machine) -> Option<WallTime> {
        (machine.at.until(self.now) > SILENT_AFTER).then_some(machine.at)
    }

    /// Lists what needs a person: machines first, then their own matters.
    fn attention(&self) -> Vec<Value> {
        let own = |machine: &Machine, code: Code, text: String| {
            json!({
                "host": machine.host, "code": code.as_str(), "text": text, "cure": code.cure(),
                "count": 1, "what": null,
            })
        };
        let machines = self.machines.iter().filter_map(|machine| {
            match (self.silent_since(machine), machine.is_running()) {
                (Some(since), _) => {
                    let age = render::duration(since.until(self.now).as_secs());
                    let text = format!("{} for {age}", Code::HostSilent.text());
                    Some(own(machine, Code::HostSilent, text))
                }
                (None, false) => {
                    Some(own(machine, Code::NotRunning, Code::NotRunning.text().to_owned()))
                }
                (None, true) => None,
            }
        });
        machines.chain(self.joined("attention")).collect()
    }

    /// Joins the lists with this name of all machines.
    fn joined(&self, name: &str) -> impl Iterator<Item = Value> {
        self.machines.iter().flat_map(move |machine| {
            machine.list(name).map(|entry| {
                let mut entry = entry.clone();
                if let Value::Object(entry) = &mut entry {
                    entry.insert("host".to_owned(), json!(machine.host));
                }
                entry
            })
        })
    }

    /// Adds the numbers below this name of all machines. A number that one does not know is unknown in total.
    fn sums(&self, name: &str) -> BTreeMap<String, Option<u64>> {
        let mut sums: BTreeMap<String, Option<u64>> = BTreeMap::new();
        for (key, value) in
            self.machines.iter().filter_map(|m| m.status[name].as_object()).flatten()
        {
            let sum = sums.entry(key.clone()).or_insert(Some(0));
            *sum = sum.zip(value.as_u64()).map(|(sum, more)| sum.saturating_add(more));
        }
        sums
    }

    fn json(&self) -> Value {
        let hosts = self.machines.iter().map(|machine| {
            let status = &machine.status;
            json!({
                "host": machine.host, "file": machine.file.display().to_string(),
                "at": render::time(Some(machine.at)),
                "silent_since": render::time(self.silent_since(machine)),
                "daemon": status["daemon"], "counts": status["counts"], "bytes": status["bytes"],
                "attention_count": machine.list("attention").count(),
            })
        });
        let mut merged = json!({
            "schema": SCHEMA, "at": render::time(Some(self.now)),
            "hosts": hosts.collect::<Vec<_>>(), "counts": self.sums("counts"),
            "bytes": self.sums("bytes"), "attention": self.attention(),
            "unread": self.unread.iter().map(|(file, why)| {
                json!({ "file": file.display().to_string(), "why": why })
            }).collect::<Vec<_>>(),
        });
        // The total time left is that of the slowest, not a sum.
        let left =
            self.machines.iter().map(|machine| machine.status["bytes"]["seconds_left"].as_u64());
        let left: Option<Vec<_>> = left.collect();
        merged["bytes"]["seconds_left"] = json!(left.and_then(|left| left.into_iter().max()));
        for list in &LISTS[1..] {
            merged[*list] = self.joined(list).collect();
        }
        merged
    }

    fn judge(&self) -> Exit {
        let is_heard =
            |machine: &Machine| machine.is_running() && self.silent_since(machine).is_none();
        match (self.machines.iter().all(is_heard), self.attention().is_empty()) {
            (false, _) => Exit::NotRunning,
            (true, false) => Exit::Attention,
            (true, true) => Exit::Fine,
        }
    }

    fn sheet(&self, width: Option<usize>) -> Sheet {
        let mut sheet = Sheet::new(width);
        let attention = self.attention();
        let machines = self.machines.len();
        let machines =
            if machines == 1 { "1 machine".into() } else { format!("{machines} machines") };
        let (tone, verdict) = match attention.len() + self.unread.len() {
            0 => (Tone::Good, "all well".to_owned()),
            1 => (Tone::Bad, "1 thing needs someone".to_owned()),
            count => (Tone::Bad, format!("{count} things need someone")),
        };
        sheet.say(tone, 0, &format!("{verdict}: {machines}"));
        for (file, why) in &self.unread {
            let text =
                format!("! {} is no answer of `dropferry status --json`: {why}", file.display());
            sheet.say(Tone::Bad, 2, &text);
        }
        for matter in attention.iter().take(MATTERS_MAX) {
            let text = |key: &str| matter[key].as_str();
            let what = text("what").map_or(String::new(), |what| format!("{what}: "));
            let (host, why) = (text("host").unwrap_or("?"), text("text").unwrap_or("?"));
            sheet.say(Tone::Bad, 2, &format!("! {host}: {what}{why}"));
            let cure = text("cure").map(|cure| format!("cure, on {host}: {cure}"));
            cure.iter().for_each(|cure| sheet.say(Tone::Plain, 4, cure));
        }
        if attention.len() > MATTERS_MAX {
            sheet.say(Tone::Bad, 2, &format!("and {} more", attention.len() - MATTERS_MAX));
        }
        self.say_machines(&mut sheet);
        self.say_runs(&mut sheet);
        sheet
    }

    fn say_machines(&self, sheet: &mut Sheet) {
        sheet.line(Tone::Plain, String::new());
        sheet.say(Tone::Title, 0, "machines");
        let widest = self.machines.iter().map(|machine| layout::width(&machine.host)).max();
        for machine in &self.machines {
            let age = render::duration(machine.at.until(self.now).as_secs());
            let (tone, state) = match (self.silent_since(machine), machine.is_running()) {
                (Some(_), _) => (Tone::Bad, format!("silent for {age}")),
                (None, false) => (Tone::Bad, format!("not running, {age} ago")),
                (None, true) => (Tone::Plain, format!("running, {age} ago")),
            };
            let bytes = |key: &str| machine.status["bytes"][key].as_u64().unwrap_or(0);
            let rate = match bytes("rate_per_second") {
                _ if tone == Tone::Bad => String::new(),
                0 => String::new(),
                rate => format!(", {}/s", render::bytes(rate)),
            };
            let there = render::percent(bytes("accepted"), bytes("total"));
            let total = render::bytes(bytes("total"));
            let host = layout::padded(&Shown(&machine.host).to_string(), widest.unwrap_or(0));
            let ahead = match machine.ahead > SILENT_AFTER {
                true => {
                    format!("; its clock is {} ahead", render::duration(machine.ahead.as_secs()))
                }
                false => String::new(),
            };
            sheet.say(tone, 2, &format!("{host}  {state}; {there} of {total} there{rate}{ahead}"));
        }
    }

    fn say_runs(&self, sheet: &mut Sheet) {
        let mut lines: Vec<_> = self.joined("runs").flat_map(|run| run_lines(&run)).collect();
        if lines.is_empty() {
            return;
        }
        runs::sort(&mut lines);
        sheet.line(Tone::Plain, String::new());
        sheet.say(Tone::Title, 0, "runs");
        let more = lines.len().saturating_sub(RUNS_MAX);
        lines.iter().take(RUNS_MAX).for_each(|line| runs::say(sheet, line));
        if more > 0 {
            sheet.say(Tone::Faint, 2, &format!("and {more} more"));
        }
    }
}

/// Reads the progress of a run at each of its destinations.
fn run_lines(run: &Value) -> Vec<RunLine> {
    let text = |of: &Value, key: &str| of[key].as_str().unwrap_or("?").to_owned();
    let drop = text(run, "drop");
    let name = format!("{}: {drop}/{}", text(run, "host"), text(run, "name"));
    let state = text(run, "state");
    let reason = run["reason"]["text"].as_str().map_or(String::new(), |why| format!(": {why}"));
    let line = |to: &Value| {
        let count = |key: &str| to[key].as_u64();
        let parked_count = count("parked_count").unwrap_or(0);
        let (tone, said) = match (parked_count, state.as_str()) {
            (0, "completed") => (Tone::Good, "all there".to_owned()),
            (0, _) => (Tone::Plain, format!("{state}{reason}")),
            (parked, _) => (Tone::Bad, format!("{parked} parked")),
        };
        let bytes = count("bytes").unwrap_or(0);
        RunLine {
            drop: DirectoryName::new(drop.as_str()),
            run: None,
            name: name.clone(),
            to: text(to, "name"),
            said,
            tone,
            progress: RunProgress {
                file_count: count("file_count").unwrap_or(0),
                bytes,
                accepted_bytes: count("accepted_bytes").unwrap_or(0).min(bytes),
                in_flight_bytes: count("in_flight_bytes").unwrap_or(0),
                rate: count("rate_per_second"),
                seconds_left: count("seconds_left"),
                stalled_since: None,
            },
            is_open: state == "open",
            completed_count: count("completed_count").unwrap_or(0),
        }
    };
    run["destinations"].as_array().into_iter().flatten().map(line).collect()
}
