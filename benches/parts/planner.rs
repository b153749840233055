//! The engine alone: parts are accepted one by one, and each time the next one is chosen.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use dropferry::testing::engine::Engine;
use dropferry::testing::engine::event::{Act, ActId, Effect, Event, Outcome};
use dropferry::testing::engine::settings::{
    DestinationSettings, DirectorySettings, NoticeSettings, PartWish, PartsInFlight, RetrySettings,
    Settings,
};
use dropferry::testing::model::{
    ByteCount, Call, ChangePolicy, DestinationName, DirectoryName, ETag, Md5, Monotonic,
    NamePolicies, NamePolicy, Now, PartSize, PartState, Record, RemoteUpload, RemoteUploadId,
    Reply, SourcePath, Stage, StoredState, StoredUpload, UploadId, UploadState,
};

use crate::life::{life, now};

const PART_SIZE: u64 = 8 << 20;
/// Uploads, parts of each, parts that are accepted.
const SIZES: [(i64, u32, usize); 3] = [(1, 1_000, 900), (1, 100_000, 20_000), (10, 10_000, 20_000)];

pub(crate) fn measure() {
    println!("{:<36} {:>10} {:>10} {:>10}", "", "load ms", "us/part", "p99 us");
    for (uploads, parts, count) in SIZES {
        let started = Instant::now();
        let mut run = Run::load(uploads, parts);
        let loaded = started.elapsed();
        let mut times: Vec<_> = (0..count).map(|_| run.accept_one()).collect();
        let mean = times.iter().sum::<Duration>().as_secs_f64() / count as f64 * 1e6;
        times.sort();
        let p99 = times[count * 99 / 100].as_secs_f64() * 1e6;
        let name = format!("{uploads} of {parts} open parts");
        println!("{name:<36} {:>10.1} {mean:>10.2} {p99:>10.2}", loaded.as_secs_f64() * 1e3);
    }
}

struct Run {
    engine: Engine,
    parts: VecDeque<ActId>,
    effects: Vec<Effect>,
}

impl Run {
    fn load(uploads: i64, parts: u32) -> Self {
        let stored = StoredState {
            uploads: (1..=uploads).map(|id| upload(id, parts)).collect(),
            next_upload: Some(UploadId(uploads + 1)),
            ..StoredState::default()
        };
        let mut effects = Vec::new();
        let engine = Engine::load(settings(), stored, moment(), &mut effects);
        let mut run = Self { engine, parts: VecDeque::new(), effects };
        run.engine.handle(moment(), Event::Timer, &mut run.effects);
        while !run.effects.is_empty() {
            run.follow();
        }
        assert!(!run.parts.is_empty(), "parts are on their way");
        run
    }

    /// Does what the engine asked for, but for parts: those wait in line.
    fn follow(&mut self) {
        for effect in std::mem::take(&mut self.effects) {
            let acts = match effect {
                Effect::Answer(..) => Vec::new(),
                Effect::Start(id, act) => vec![(id, act)],
                Effect::Commit { then, .. } => {
                    self.engine.handle(moment(), Event::Committed, &mut self.effects);
                    then
                }
            };
            for (act, what) in acts {
                if matches!(what, Act::Put(_)) {
                    self.parts.push_back(act);
                } else if matches!(&what, Act::Call { call, .. } if matches!(**call, Call::ListParts(_)))
                {
                    let outcome = Ok(Outcome::Replied(Reply::PartsListed(Some(Vec::new()))));
                    let event = Event::Outcome { act, outcome };
                    self.engine.handle(moment(), event, &mut self.effects);
                }
            }
        }
    }

    /// Returns how long the engine took to decide.
    fn accept_one(&mut self) -> Duration {
        let act = self.parts.pop_front().expect("parts are on their way");
        let outcome = Ok(Outcome::Sent {
            reply: Reply::PartStored(ETag::from_header("09090909090909090909090909090909").into()),
            md5: Md5([9; 16]),
            sent: ByteCount(PART_SIZE),
        });
        let (now, started) = (moment(), Instant::now());
        self.engine.handle(now, Event::Outcome { act, outcome }, &mut self.effects);
        while !self.effects.is_empty() {
            self.follow();
        }
        started.elapsed()
    }
}

fn moment() -> Now {
    Now { monotonic: Monotonic(Duration::ZERO), wall: now() }
}

fn upload(id: i64, part_count: u32) -> StoredUpload {
    let Some(Record::Admit(mut admission)) = life(id, false).into_iter().next() else {
        unreachable!("a life begins with its admission");
    };
    admission.file.path = SourcePath::from_bytes(format!("unit/{id}").as_bytes());
    admission.file.fingerprint.size = ByteCount(PART_SIZE * u64::from(part_count));
    let remote = RemoteUpload {
        id: RemoteUploadId::new(format!("{id:032}")),
        part_size: PartSize::new(PART_SIZE).expect("not zero"),
        part_count,
        sequential: false,
    };
    StoredUpload {
        admission: *admission,
        state: UploadState { stage: Stage::Sending { remote }, ..UploadState::admitted(None) },
        parts: vec![PartState::Open; part_count as usize],
        waits_for: None,
    }
}

fn settings() -> Settings {
    let far = DestinationName::new("far");
    let drop =
        DirectorySettings::plain(DirectoryName::new("template"), "/drop".into(), vec![far.clone()]);
    let mut traits = dropferry::testing::platform::s3::TRAITS;
    traits.limits.count_max = 100_000;
    Settings {
        drops: vec![drop],
        destinations: vec![DestinationSettings {
            name: far,
            platform: "s3".into(),
            address: dropferry::testing::model::TargetAddress {
                platform: "s3".into(),
                base_url: "https://s3.example".into(),
                container: "lab".into(),
            },
            same_as: Vec::new(),
            traits,
            part_size: PartWish::Auto,
            folder: String::new(),
            policies: NamePolicies { taken: NamePolicy::Overwrite, changed: ChangePolicy::Replace },
            metadata: Vec::new(),
            tags: Vec::new(),
            export: None,
        }],
        parts_in_flight: PartsInFlight::Fixed(16),
        memory: ByteCount(1 << 30),
        memory_per_part: ByteCount(1 << 20),
        retry: RetrySettings {
            delay_min: Duration::from_secs(1),
            delay_max: Duration::from_mins(1),
        },
        channels: Vec::new(),
        notices: NoticeSettings::default(),
    }
}
