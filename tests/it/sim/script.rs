//! A random run as a text: what its world is like, and what happens before which step. It is made from a
//! seed, can be run again, is shrunk when it fails, and is kept in `scripts/` if it found something.
//!
//! A line that begins with a number happens before that step; the others are about the world. The order
//! of everything else follows from the seed in the first line.

use std::fmt;
use std::path::PathBuf;

use dropferry::testing::engine::event::Event;
use dropferry::testing::engine::handed::HandedFile;
use dropferry::testing::engine::orders::{Order, OrderAnswer};
use dropferry::testing::engine::settings::{DirectorySettings, Settings};
use dropferry::testing::model::{
    Catalogued, DestinationName, DirectoryName, Disposition, NamePolicy, PartSize, Provenance,
    Scope, SourcePath, Traits, Verb,
};

use super::random::Random;
use super::receipts::PowerCut;
use super::story;
use super::world::{Life, World, traits};

/// Files below it are handed in, and are in no drop directory.
pub(super) const HANDED: &[u8] = b"home/";

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Script {
    pub(super) seed: u64,
    pub(super) steps: u32,
    /// What the world is like.
    pub(super) world: Vec<String>,
    /// What happens before a step.
    pub(super) events: Vec<(u32, String)>,
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}\nsteps {}", self.seed, self.steps)?;
        self.world.iter().try_for_each(|line| writeln!(f, "{line}"))?;
        self.events.iter().try_for_each(|(at, line)| writeln!(f, "{at} {line}"))
    }
}

pub(super) fn directory() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/sim/scripts"))
}

fn number<T: std::str::FromStr>(word: &str) -> T {
    word.parse().unwrap_or_else(|_| panic!("{word:?} is no number"))
}

impl Script {
    pub(super) fn parse(text: &str) -> Self {
        let mut script = Self { seed: 0, steps: 0, world: Vec::new(), events: Vec::new() };
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (first, rest) = line.split_once(' ').unwrap_or((line, ""));
            match first {
                "seed" => script.seed = number(rest),
                "steps" => script.steps = number(rest),
                at if at.starts_with(|c: char| c.is_ascii_digit()) => {
                    script.events.push((number(at), rest.to_owned()));
                }
                _ => script.world.push(line.to_owned()),
            }
        }
        script
    }

    /// Makes the world that it begins with.
    pub(super) fn make_world(&self) -> World {
        let has = |wanted: &str| self.world.iter().any(|line| line == wanted);
        let value = |key: &str| {
            let lines = self.world.iter().filter_map(|line| line.split_once(' '));
            lines.filter(|(first, _)| *first == key).map(|(_, value)| value).next()
        };
        let policy = match value("policy") {
            None | Some("skip") => NamePolicy::SkipIfSame,
            Some("overwrite") => NamePolicy::Overwrite,
            Some("rename") => NamePolicy::Rename,
            Some("park") => NamePolicy::Park,
            Some(other) => panic!("{other:?} is no policy"),
        };
        let traits = Traits { reports_parts: !has("reports-no-parts"), ..traits() };
        let mut world = World::with(self.seed, policy, traits);
        world.fault_rate = value("faults").map_or(0, number);
        world.delay_rate = value("delays").map_or(0, number);
        world.is_disk_slow = has("slow-disk");
        world.is_replayed = has("replayed");
        if has("second-destination") {
            world.add_destination();
        }
        if has("no-metadata") {
            world.settings.destinations.iter_mut().for_each(|far| far.metadata.clear());
        }
        if has("exports") {
            world.export();
        }
        if has("notices") {
            world.notify_by_mail();
        }
        if has("delete") {
            world.settings.drops[0].disposal.disposition = Disposition::Delete;
        }
        let far = vec![DestinationName::new("far")];
        world.settings.drops.push(DirectorySettings::handed_in(far));
        let mut state = world.fake.state();
        state.faults.lists_no_parts = has("lists-no-parts");
        state.faults.is_opaque = has("opaque");
        state.faults.is_silent = has("silent");
        state.faults.part_size = value("part-size").and_then(|size| PartSize::new(number(size)));
        drop(state);
        world
    }
}

/// Carries out a line of a script; `whole` are the settings that the script began with.
pub(super) fn happen(line: &str, world: &mut World, mut life: Life, whole: &Settings) -> Life {
    story::line(&world.now, || format!("** {line}"));
    let words: Vec<&str> = line.split(' ').collect();
    match words[..] {
        ["crash"] | ["power-cut"] => {
            let cut = PowerCut::ALL[usize::try_from(world.crash_count % 4).expect("small")];
            let power_cut = (words[0] == "power-cut").then_some(cut);
            *world = world.crashed(&life, power_cut);
            return world.start();
        }
        ["stop"] => return stop(world, life),
        ["write", path, length] => write(world, path, number(length)),
        ["remove", path] => drop(world.files.remove(&SourcePath::from_bytes(path.as_bytes()))),
        ["down"] | ["up"] => world.fake.state().faults.is_down = words[0] == "down",
        ["revoke"] | ["renew"] => world.fake.state().faults.is_revoked = words[0] == "revoke",
        ["lose-upload"] => lose_upload(world),
        ["clock", seconds] => world.now.wall.0 += 1_000_000_000 * number::<i64>(seconds),
        ["pass", minutes] => {
            world.pass(std::time::Duration::from_mins(number(minutes)));
            world.tell(&mut life, Event::Timer);
        }
        ["scan"] if !world.settings.drops.is_empty() => {
            world.tell(&mut life, Event::ScanNow { drop: DirectoryName::new("drop") });
        }
        ["scan"] => {}
        ["hint", path] => {
            let paths = vec![SourcePath::from_bytes(path.as_bytes())];
            world.tell(&mut life, Event::Hint { drop: DirectoryName::new("drop"), paths });
        }
        ["hand-in", path, length] => {
            write(world, path, number(length));
            hand_in(world, &mut life, path);
        }
        ["take-out", what] => {
            world.reconfigure(&mut life, without(whole, what), None);
        }
        ["put-back"] => world.reconfigure(&mut life, whole.clone(), None),
        [verb, scope] => {
            let before = life.bytes_in_vain();
            world.order(&mut life, verb_of(verb), scope_of(scope));
            world.allowance += life.bytes_in_vain() - before;
        }
        _ => panic!("{line:?} is no line of a script"),
    }
    life
}

/// Ends a life as a stop of the daemon does: nothing more begins, and everything in flight lands.
fn stop(world: &mut World, mut life: Life) -> Life {
    world.tell(&mut life, Event::Drain);
    while !life.is_still() {
        world.step(&mut life);
    }
    let crash_count = world.crash_count;
    *world = world.crashed(&life, None);
    // Nothing was interrupted, so nothing may be sent again because of it.
    world.crash_count = crash_count;
    world.start()
}

fn write(world: &mut World, path: &str, length: usize) {
    let mut dice = Random(world.random.0 ^ length as u64);
    world.write(path, &dice.content(length));
}

/// The platform forgets the oldest open upload: all of it has to be sent again, and what is under
/// way is lost.
fn lose_upload(world: &mut World) {
    let lost = world.fake.state().uploads.pop_first();
    if lost.is_some() {
        let longest = world.versions.values().map(Vec::len).max().unwrap_or(0);
        world.allowance += longest as u64 + world.in_flight_max();
    }
}

fn hand_in(world: &World, life: &mut Life, path: &str) {
    let path = SourcePath::from_bytes(path.as_bytes());
    let version = world.files[&path].0;
    let provenance = Provenance::new(0, [0; 3]);
    let mut known = Catalogued::default();
    let sent = world.rows().known_versions(&DirectoryName::handed_in(), &path);
    known.sent.extend(sent.expect("it can be read"));
    let files = vec![HandedFile { name: path.clone(), path, version, provenance }];
    let order = Order::HandIn { files, known, to: DestinationName::new("far") };
    let answer = world.give(life, order);
    assert!(matches!(answer, OrderAnswer::HandedIn(_)), "{answer:?}");
    life.commit_all();
}

/// The settings without something.
fn without(whole: &Settings, what: &str) -> Settings {
    let mut settings = whole.clone();
    match what {
        "drop" => drop(settings.drops.remove(0)),
        "destination" if settings.destinations.len() > 1 => {
            settings.destinations.pop();
            settings.drops[0].destinations.pop();
        }
        "destination" => {}
        "directory" => settings.drops[0].directory = "/other".into(),
        other => panic!("{other:?} cannot be taken out"),
    }
    settings
}

fn verb_of(word: &str) -> Verb {
    match word {
        "pause" => Verb::Pause,
        "resume" => Verb::Resume,
        "retry" => Verb::Retry,
        "abandon" => Verb::Abandon,
        other => panic!("{other:?} is no order"),
    }
}

fn scope_of(word: &str) -> Scope {
    match word {
        "all" => Scope::All,
        "far" | "second" => Scope::Destination(DestinationName::new(word)),
        "drop" => Scope::Drop(DirectoryName::new(word)),
        run => Scope::Run(DirectoryName::new("drop"), SourcePath::from_bytes(run.as_bytes())),
    }
}
