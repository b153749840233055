//! A case: who takes part, and the rounds.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Settings;
use crate::files::{Shape, Work};
use crate::measure::{self, Sample, Sink};
use crate::ours::{self, Variant};
use crate::peers::{self, Only, Peer, Task};
use crate::reference::{Costs, Mode};
use crate::sink;

/// What is uploaded, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Case {
    /// One file of 2 GiB.
    One,
    /// 64 files of 64 MiB.
    Many,
    /// 20 000 files of 8 KiB.
    Small,
    /// A run folder.
    Run,
    /// The file of 2 GiB over TLS.
    Tls,
    /// The file of 2 GiB, from the disk.
    Cold,
    /// 20 000 files of 8 KiB, to a platform with calls of its own.
    Calls,
}

impl Case {
    /// All of them.
    pub(crate) const ALL: [Self; 7] =
        [Self::One, Self::Many, Self::Small, Self::Run, Self::Tls, Self::Cold, Self::Calls];

    /// As the command line names it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::One => "one",
            Self::Many => "many",
            Self::Small => "small",
            Self::Run => "run",
            Self::Tls => "tls",
            Self::Cold => "cold",
            Self::Calls => "calls",
        }
    }

    /// Tells whether files, not bytes, are what counts.
    pub(crate) fn counts_files(self) -> bool {
        matches!(self, Self::Small | Self::Calls)
    }

    fn shape(self) -> Shape {
        match self {
            Self::One | Self::Tls | Self::Cold => Shape::One,
            Self::Many => Shape::Many,
            Self::Small | Self::Calls => Shape::Small,
            Self::Run => Shape::Run,
        }
    }

    /// Who takes part, dropferry first.
    fn entrants(self, settings: &Settings) -> Vec<Entrant> {
        let transfer = settings.transfer.clone();
        let has_calls = self == Self::Calls;
        let mut all = vec![Entrant::Ours(OURS, Variant { transfer, state_in: None, has_calls })];
        let modes: &[Mode] = match self {
            Self::One => &[Mode::Floor, Mode::Bare, Mode::Scalar],
            Self::Many => &[Mode::Floor, Mode::Bare],
            Self::Small | Self::Run | Self::Tls => &[Mode::Bare],
            Self::Cold => &[Mode::ReadInOrder, Mode::ReadAtFour, Mode::Bare],
            Self::Calls => &[],
        };
        if self == Self::One {
            let memory = Path::new("/dev/shm");
            let state_in = memory.is_dir().then(|| memory.to_owned());
            let volatile = Variant { transfer: settings.transfer.clone(), state_in, has_calls };
            all.push(Entrant::Ours(VOLATILE, volatile));
            let transfer = "memory = \"16 MiB\"".to_owned();
            all.push(Entrant::Ours(NARROW, Variant { transfer, state_in: None, has_calls }));
        }
        all.extend(modes.iter().map(|mode| Entrant::Reference(*mode)));
        let is_small = matches!(self, Self::Small | Self::Run);
        let fits = |peer: &&Peer| match peer.only {
            None => true,
            Some(Only::Large) => !is_small,
            Some(Only::Small) => is_small,
        };
        if !matches!(self, Self::Cold | Self::Calls) {
            all.extend(peers::ALL.iter().filter(fits).map(|peer| Entrant::Peer(*peer)));
        }
        let is_wanted = |entrant: &Entrant| {
            settings.only.is_empty()
                || entrant.name() == OURS
                || settings.only.iter().any(|word| entrant.name().contains(word.as_str()))
        };
        all.retain(is_wanted);
        all
    }
}

/// dropferry as it comes.
pub(crate) const OURS: &str = "dropferry";
/// The same with a disk that costs nothing to make sure of.
pub(crate) const VOLATILE: &str = "dropferry, state in memory";
/// The same with little memory.
pub(crate) const NARROW: &str = "dropferry, memory = 16 MiB";

enum Entrant {
    Ours(&'static str, Variant),
    Reference(Mode),
    Peer(Peer),
}

impl Entrant {
    fn name(&self) -> &'static str {
        match self {
            Self::Ours(name, _) => name,
            Self::Reference(mode) => mode.name(),
            Self::Peer(peer) => peer.name,
        }
    }

    fn digests(&self) -> &'static str {
        match self {
            Self::Ours(..) | Self::Reference(Mode::Bare | Mode::Scalar) => "MD5",
            Self::Reference(_) => "none",
            Self::Peer(peer) => peer.digests,
        }
    }
}

/// How somebody did.
pub(crate) struct Standing {
    /// Who.
    pub(crate) name: &'static str,
    /// What they digest.
    pub(crate) digests: &'static str,
    /// One for each round.
    pub(crate) samples: Vec<Sample>,
    /// What kept them from it.
    pub(crate) trouble: Option<String>,
    /// They are not on this machine.
    pub(crate) is_absent: bool,
}

impl Standing {
    /// Returns the median of something; `None` when nothing was measured.
    pub(crate) fn median(&self, what: impl Fn(&Sample) -> f64) -> Option<f64> {
        let mut values: Vec<_> = self.samples.iter().map(what).collect();
        values.sort_by(f64::total_cmp);
        let (low, high) =
            (values.get(values.len().checked_sub(1)? / 2)?, values.get(values.len() / 2)?);
        Some(f64::midpoint(*low, *high))
    }
}

/// A case and how everybody did.
pub(crate) struct Contest {
    /// Which.
    pub(crate) case: Case,
    /// What was uploaded.
    pub(crate) work: Work,
    /// dropferry first.
    pub(crate) standings: Vec<Standing>,
    /// What the steps cost by themselves; medians.
    pub(crate) costs: Option<Costs>,
}

impl Contest {
    /// Makes the files and runs everybody, round by round.
    pub(crate) fn hold(case: Case, settings: &Settings, place: &Path) -> io::Result<Self> {
        let work = Work::make(case.shape(), place, settings.scale)?;
        let entrants = case.entrants(settings);
        let standing = |entrant: &Entrant| Standing {
            name: entrant.name(),
            digests: entrant.digests(),
            samples: Vec::new(),
            trouble: None,
            is_absent: matches!(entrant, Entrant::Peer(peer) if peer.find().is_none()),
        };
        let standings = entrants.iter().map(standing).collect();
        let mut contest = Self { case, work, standings, costs: None };
        let mut costs = Vec::new();
        for round in 1..=settings.rounds {
            // Each round another one begins, for whoever does finds the caches as the last one left them.
            for turn in 0..entrants.len() {
                let at = (turn + round - 1) % entrants.len();
                let entrant = &entrants[at];
                if contest.is_to_run(at, settings) {
                    let rounds = settings.rounds;
                    progress(&format!("{} {round}/{rounds} {}", case.word(), entrant.name()))?;
                    contest.run(at, entrant, settings, place);
                }
            }
            if case == Case::One {
                costs.push(contest.step_costs(place)?);
            }
        }
        progress("")?;
        contest.costs = median_costs(&costs);
        Ok(contest)
    }

    /// Tells whether nothing broke.
    pub(crate) fn is_well(&self) -> bool {
        self.standings.iter().all(|standing| standing.trouble.is_none())
    }

    /// Returns how somebody did.
    pub(crate) fn of(&self, name: &str) -> Option<&Standing> {
        self.standings.iter().find(|standing| standing.name == name)
    }

    fn is_to_run(&self, at: usize, settings: &Settings) -> bool {
        let standing = &self.standings[at];
        let is_slow = |sample: &Sample| sample.wall > settings.patience.as_secs_f64();
        !standing.is_absent
            && standing.trouble.is_none()
            && !standing.samples.last().is_some_and(is_slow)
    }

    fn run(&mut self, at: usize, entrant: &Entrant, settings: &Settings, place: &Path) {
        match self.sample(entrant, settings, place) {
            Ok(sample) => self.standings[at].samples.push(sample),
            Err(trouble) => self.standings[at].trouble = Some(trouble),
        }
    }

    fn sample(
        &self,
        entrant: &Entrant,
        settings: &Settings,
        place: &Path,
    ) -> Result<Sample, String> {
        let said = |error: io::Error| error.to_string();
        if self.case == Case::Cold { self.work.cool() } else { self.work.warm() }.map_err(said)?;
        // What others have written is not written back while this one is measured.
        rustix::fs::sync();
        let mode = sink::Mode { hashes: settings.hashes, tls: self.case == Case::Tls };
        let sink = Sink::start(mode, place).map_err(said)?;
        let (machine, own) = (measure::machine_cpu(), measure::own_cpu());
        let started = std::time::Instant::now();
        let done = self.act(entrant, &sink.address, settings, place);
        let span = started.elapsed().as_secs_f64();
        let (machine, own) = (measure::machine_cpu() - machine, measure::own_cpu() - own);
        let (counts, sink_cpu) = sink.finish().map_err(said)?;
        let mut sample = done?;
        (sample.counts, sample.sink_cpu) = (counts, sink_cpu);
        let known = sample.cpu() + sink_cpu + own;
        sample.others = ((machine - known) / (span * measure::cores())).max(0.0);
        if !matches!(entrant, Entrant::Reference(mode) if !mode.sends()) {
            self.check(&sample)?;
        }
        Ok(sample)
    }

    /// Everything must have come.
    fn check(&self, sample: &Sample) -> Result<(), String> {
        let wanted = (self.work.files.len() as u64, self.work.bytes());
        let came = (sample.counts.objects, sample.counts.object_bytes);
        // Who sends no directories may leave empty files out, but none does.
        if came == wanted {
            return Ok(());
        }
        Err(format!("{} of {} files came, {} of {} bytes", came.0, wanted.0, came.1, wanted.1))
    }

    fn act(
        &self,
        entrant: &Entrant,
        address: &str,
        settings: &Settings,
        place: &Path,
    ) -> Result<Sample, String> {
        let said = |error: io::Error| error.to_string();
        let certificate =
            (self.case == Case::Tls).then(|| crate::tls::Files::of(place).certificate);
        let certificate = certificate.as_deref();
        // Time enough for the slowest that is known, and an end for what hangs.
        let limit = settings.patience * 10;
        match entrant {
            Entrant::Ours(_, variant) => {
                let scheme = if certificate.is_some() { "https" } else { "http" };
                let base_url = format!("{scheme}://{address}");
                ours::run(&self.work, &base_url, certificate, variant)
            }
            Entrant::Reference(mode) => {
                let mut command = myself(&["reference", &mode.word(), address]).map_err(said)?;
                command.arg(&self.work.directory).args(certificate);
                measure::run(command, limit)
            }
            Entrant::Peer(peer) => {
                let home = tempfile::tempdir_in(place).map_err(said)?;
                let program = peer.find().ok_or("it is gone")?;
                let work = &self.work;
                let task = Task { work, address, certificate, home: home.path() };
                measure::run(peer.command(&program, &task).map_err(said)?, limit)
            }
        }
    }

    fn step_costs(&self, place: &Path) -> io::Result<Costs> {
        self.work.warm()?;
        let sink = Sink::start(sink::Mode::default(), place)?;
        let output = myself(&["costs", &sink.address])?.arg(&self.work.directory).output()?;
        sink.finish()?;
        serde_json::from_slice(&output.stdout).map_err(io::Error::other)
    }
}

/// Says on a terminal what is under way.
fn progress(text: &str) -> io::Result<()> {
    let mut terminal = io::stderr();
    if terminal.is_terminal() {
        write!(terminal, "\r\x1b[K{text}")?;
        terminal.flush()?;
    }
    Ok(())
}

fn myself(arguments: &[&str]) -> io::Result<Command> {
    let program: PathBuf = std::env::current_exe()?;
    let mut command = Command::new(program);
    command.args(arguments);
    Ok(command)
}

fn median_costs(all: &[Costs]) -> Option<Costs> {
    let median = |what: fn(&Costs) -> f64| {
        let mut values: Vec<_> = all.iter().map(what).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    };
    Some(Costs {
        copy: median(|costs| costs.copy)?,
        read: median(|costs| costs.read)?,
        digest: median(|costs| costs.digest)?,
        write: median(|costs| costs.write)?,
    })
}
