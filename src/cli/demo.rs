//! `demo`: the main job on this machine alone, with a kill in the middle, and a proof.
//!
//! Starts the sandbox in this process, fills a drop directory, runs the daemon as a child with
//! every platform as a destination, kills it with SIGKILL half way, starts it again, and compares
//! every byte at every destination. Succeeds only if all of this worked.

mod files;
mod proof;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;

use super::bar::Bar;
use super::{Exit, render};
use crate::clock::Clock;
use crate::model::Monotonic;
use crate::sandbox::{Sandbox, Settings, Vendor};
use crate::store::snapshot::{Snapshot, Status};

/// Part size of the demonstration: small, so that a kill visibly costs little.
const PART_SIZE: u64 = 8 * 1024 * 1024;
const PARTS_IN_FLIGHT: u64 = 8;
/// The daemon is killed after this share of the bytes.
const KILL_AT_PERCENT: u64 = 45;
/// Without a new byte for this long the demonstration fails.
const STALL_LIMIT: Duration = Duration::from_mins(1);
/// Interval of updates.
const TICK: Duration = Duration::from_millis(100);

#[derive(Debug, Args)]
pub(super) struct DemoArguments {
    /// Use these files instead of generated ones; they are never changed
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Which platform
    #[arg(long, value_name = "NAME", default_value = "all",
        value_parser = ["all", "sevenbridges", "basespace", "gjirafa-vp", "s3"])]
    platform: String,
    /// Keep the demonstration's directory
    #[arg(long)]
    keep: bool,
}

pub(super) fn execute(arguments: &DemoArguments) -> anyhow::Result<Exit> {
    let home = std::env::temp_dir().join(format!("dropferry-demo-{}", std::process::id()));
    fs::create_dir_all(&home).with_context(|| home.display().to_string())?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let outcome = runtime.block_on(demonstrate(arguments, &home));
    if arguments.keep || outcome.is_err() {
        render::talk(&format!("everything is kept in {}", home.display()));
    } else {
        fs::remove_dir_all(&home).ok();
    }
    outcome
}

async fn demonstrate(arguments: &DemoArguments, home: &Path) -> anyhow::Result<Exit> {
    let drop = match &arguments.directory {
        Some(directory) => {
            directory.canonicalize().with_context(|| directory.display().to_string())?
        }
        None => {
            render::data("filling a drop directory with about 1 GB of made-up reads …")?;
            let drop = home.join("drop");
            files::fill(&drop).context("the drop directory cannot be filled")?;
            drop
        }
    };
    let expected = files::list(&drop)?;
    let mut settings = Settings::new(home.join("sandbox"));
    settings.rate_limit = 1_000_000;
    let token = settings.token.clone();
    let sandbox = Sandbox::start(settings).await.context("the sandbox cannot start")?;
    let vendors = match Vendor::parse(&arguments.platform) {
        Some(vendor) => vec![vendor],
        None => Vendor::ALL.to_vec(),
    };
    let stage = DemoPlaces::set(home, &drop, &sandbox, &token, vendors)?;
    for vendor in &stage.vendors {
        let (title, url) = (vendor.title(), sandbox.base_url(*vendor));
        render::data(&format!("the sandbox stands in for {title} at {url}"))?;
    }
    let total: u64 = expected.iter().map(|file| file.size).sum();
    let times = stage.vendors.len() as u64;
    stage.perform(&sandbox, total * times, expected.len() as u64 * times).await?;
    proof::prove(&sandbox, &expected, &drop, &stage)
}

struct DemoPlaces {
    vendors: Vec<Vendor>,
    config: PathBuf,
    state: PathBuf,
    log: PathBuf,
    clock: Clock,
}

impl DemoPlaces {
    fn set(
        home: &Path,
        drop: &Path,
        sandbox: &Sandbox,
        token: &str,
        vendors: Vec<Vendor>,
    ) -> anyhow::Result<Self> {
        let keys = format!(
            "[default]\naws_access_key_id = {}\naws_secret_access_key = {token}\n",
            crate::sandbox::s3::ACCESS_KEY
        );
        for (name, content) in [("token", token), ("keys", keys.as_str())] {
            fs::write(home.join(name), content)?;
            fs::set_permissions(home.join(name), fs::Permissions::from_mode(0o600))?;
        }
        let state = home.join("state");
        let quote = |path: &Path| toml::Value::String(path.display().to_string()).to_string();
        let mut text = format!(
            "[state]\ndirectory = {}\n[web]\nlisten = \"off\"\n[transfer]\nparts_in_flight = {PARTS_IN_FLIGHT}\n\
             part_size = \"{PART_SIZE} B\"\n[retry]\ndelay_min = \"100ms\"\n",
            quote(&state)
        );
        for vendor in &vendors {
            let place = match vendor {
                Vendor::SevenBridges => "folder = \"runs/{drop}\"\n",
                Vendor::S3 => "prefix = \"runs/{drop}\"\n",
                Vendor::BaseSpace | Vendor::GjirafaVp => "",
            };
            let credential = if *vendor == Vendor::S3 { "keys" } else { "token" };
            text += &format!(
                "[destinations.{}]\n{}{place}credential = {{ file = {} }}\n",
                vendor.as_str(),
                sandbox.destination_lines(*vendor),
                quote(&home.join(credential))
            );
        }
        let names: Vec<_> =
            vendors.iter().map(|vendor| format!("\"{}\"", vendor.as_str())).collect();
        text += &format!(
            "[drops.demo]\ndirectory = {}\ndestinations = [{}]\nquiet_period = \"500ms\"\n\
             scan_interval = \"5s\"\n",
            quote(drop),
            names.join(", ")
        );
        let config = home.join("config.toml");
        fs::write(&config, text)?;
        Ok(Self { vendors, config, state, log: home.join("daemon.log"), clock: Clock::real() })
    }

    fn start_daemon(&self) -> anyhow::Result<Child> {
        let log = fs::OpenOptions::new().create(true).append(true).open(&self.log)?;
        let program = std::env::current_exe().context("the program cannot find itself")?;
        let mut command = Command::new(program);
        command.arg("run").arg("--config").arg(&self.config);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        command.spawn().context("the daemon cannot start")
    }

    /// Runs the daemon until everything has arrived, with a kill in between.
    async fn perform(&self, sandbox: &Sandbox, total: u64, count: u64) -> anyhow::Result<()> {
        let mut bar = Bar::new();
        let mut child = self.start_daemon()?;
        let outcome = self
            .watch(&mut child, sandbox, DemoGoal { bytes: total, uploads: count }, &mut bar)
            .await;
        bar.end();
        if outcome.is_err() {
            child.kill().ok();
        } else {
            stop(&child);
        }
        child.wait()?;
        outcome
    }

    async fn watch(
        &self,
        child: &mut Child,
        sandbox: &Sandbox,
        goal: DemoGoal,
        bar: &mut Bar,
    ) -> anyhow::Result<()> {
        let mut killed = false;
        let mut last = Movement { sum: 0, at: self.clock.now().monotonic };
        loop {
            tokio::time::sleep(TICK).await;
            let ledgers = self.vendors.iter().map(|vendor| sandbox.ledger(*vendor));
            let arrived =
                ledgers.map(|ledger| ledger.bytes_received - ledger.bytes_received_again).sum();
            let status = self.status();
            let there = count_there(&status);
            let said = format!("{there} of {} uploads, {}", goal.uploads, bar.pace());
            bar.show(arrived, goal.bytes, &said);
            if !killed && arrived * 100 >= goal.bytes * KILL_AT_PERCENT {
                killed = true;
                child.kill()?;
                child.wait()?;
                bar.say("killed the daemon (SIGKILL); starting it again");
                *child = self.start_daemon()?;
            }
            let seen = Movement { sum: arrived + there, at: self.clock.now().monotonic };
            self.check_movement(child, seen, &mut last)?;
            if killed && there >= goal.uploads && is_settled(&status) {
                return Ok(());
            }
        }
    }

    fn check_movement(
        &self,
        child: &mut Child,
        seen: Movement,
        last: &mut Movement,
    ) -> anyhow::Result<()> {
        if let Some(status) = child.try_wait()? {
            bail!("the daemon ended by itself ({status}); its log is {}", self.log.display());
        }
        if seen.sum != last.sum {
            *last = seen;
        }
        if seen.at.since(last.at) > STALL_LIMIT {
            bail!("nothing moved for a minute; the daemon's log is {}", self.log.display());
        }
        Ok(())
    }

    fn status(&self) -> Status {
        let now = self.clock.now().wall;
        let read = Snapshot::open(&self.state).and_then(|snapshot| snapshot.status(false, now));
        read.unwrap_or_default()
    }
}

/// The expected result.
struct DemoGoal {
    bytes: u64,
    uploads: u64,
}

/// The total progress at a time.
#[derive(Clone, Copy)]
struct Movement {
    /// Bytes that arrived plus completed uploads.
    sum: u64,
    at: Monotonic,
}

fn count_there(status: &Status) -> u64 {
    status.counts.tallies.iter().filter(|t| t.state == "completed").map(|t| t.upload_count).sum()
}

fn is_settled(status: &Status) -> bool {
    let open = ["queued", "sending", "waiting"];
    let tallies = status.counts.tallies.iter().filter(|tally| open.contains(&tally.state.as_str()));
    tallies.map(|tally| tally.upload_count).sum::<u64>() == 0
}

fn stop(child: &Child) {
    let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid {
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).ok();
    }
}
