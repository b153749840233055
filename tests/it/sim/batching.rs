//! The engine's decisions do not depend on how its input is divided into events.

use std::collections::BTreeMap;
use std::time::Duration;

use dropferry::testing::engine::Engine;
use dropferry::testing::engine::event::{Act, Effect, Event};
use dropferry::testing::model::{
    ByteCount, Catalogued, DirectoryName, Fingerprint, IgnoreReason, Monotonic, Now, Observation,
    Place, Record, Seen, SourcePath, StoredState, WallTime,
};
use proptest::prelude::*;

use super::acts::name_of;
use super::world::World;

const STEP: Duration = Duration::from_secs(4);

fn observation() -> impl Strategy<Value = Observation> {
    let version = |size: u64| Fingerprint {
        device: 1,
        inode: size,
        size: ByteCount(size),
        mtime_ns: 0,
        ctime_ns: None,
    };
    let seen = prop_oneof![
        8 => (1..3_u64).prop_map(move |size| Seen::File(version(size))),
        1 => Just(Seen::Gone),
        1 => Just(Seen::Ignored(IgnoreReason::Fifo)),
        1 => Just(Seen::Unreadable(version(1), "may not be read".into())),
    ];
    ("[abc]", seen).prop_map(|(path, seen)| {
        let path = SourcePath::from_bytes(path.as_bytes());
        Observation { place: Place::alone(&path), path, seen }
    })
}

/// An engine, and everything that it decided.
struct Told {
    engine: Engine,
    now: Now,
    records: Vec<Record>,
    acts: BTreeMap<&'static str, usize>,
    looks: Vec<Vec<SourcePath>>,
}

impl Told {
    fn new() -> Self {
        let now = Now { monotonic: Monotonic(Duration::ZERO), wall: WallTime(0) };
        let (settings, mut effects) = (World::new(0).settings, Vec::new());
        let engine = Engine::load(settings, StoredState::default(), now, &mut effects);
        let (records, acts, looks) = Default::default();
        let mut told = Self { engine, now, records, acts, looks };
        told.take(effects);
        told
    }

    fn tell(&mut self, event: Event) {
        let mut effects = Vec::new();
        self.engine.handle(self.now, event, &mut effects);
        self.take(effects);
    }

    fn take(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            let acts = match effect {
                Effect::Answer(..) => Vec::new(),
                Effect::Start(id, act) => vec![(id, act)],
                Effect::Commit { records, then } => {
                    self.records.extend(records);
                    then
                }
            };
            for (_, act) in acts {
                *self.acts.entry(name_of(&act)).or_default() += 1;
                if let Act::Look { paths, .. } = act {
                    self.looks.push(paths);
                }
            }
        }
    }

    fn wait(&mut self) {
        self.now.monotonic = self.now.monotonic.after(STEP);
        self.now.wall = self.now.wall.after(STEP);
        self.tell(Event::Timer);
    }
}

proptest! {
    #[test]
    fn one_event_with_many_observations_is_many_events_with_one(
        rounds in prop::collection::vec(prop::collection::vec(observation(), 1..6), 1..8),
    ) {
        let (mut whole, mut split) = (Told::new(), Told::new());
        let drop = DirectoryName::new("drop");
        for observations in rounds {
            let known = Catalogued::default;
            let all = observations.clone();
            whole.tell(Event::Observed { drop: drop.clone(), observations: all, known: known() });
            for observation in observations {
                let observations = vec![observation];
                split.tell(Event::Observed { drop: drop.clone(), observations, known: known() });
            }
            whole.wait();
            split.wait();
        }
        prop_assert_eq!(whole.records, split.records);
        prop_assert_eq!(whole.acts, split.acts);
        prop_assert_eq!(whole.looks, split.looks);
        prop_assert_eq!(whole.engine.next_deadline(), split.engine.next_deadline());
    }
}
