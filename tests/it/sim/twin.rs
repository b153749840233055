//! A second engine beside that of a life, which receives what a recording would contain: it decides the same.

use dropferry::testing::daemon::recording::{EngineStart, RecordedLine};
use dropferry::testing::engine::Engine;
use dropferry::testing::engine::event::{Effect, Event};
use dropferry::testing::engine::settings::Settings;
use dropferry::testing::model::{Now, StoredState};

pub(super) struct Twin(Engine);

impl Twin {
    pub(super) fn load(settings: &Settings, stored: &StoredState, now: Now) -> (Self, Vec<Effect>) {
        let (settings, stored) = (settings.clone(), stored.clone());
        let start = EngineStart { version: String::new(), now, settings, stored };
        let line = RecordedLine::<_, Vec<Event>>::Start(Box::new(start));
        let RecordedLine::Start(start) = as_read(&line) else { panic!("another line is read") };
        let mut effects = Vec::new();
        let EngineStart { version: _, now, settings, stored } = *start;
        (Self(Engine::load(settings, stored, now, &mut effects)), effects)
    }

    pub(super) fn handle(&mut self, now: Now, event: &Event) -> Vec<Effect> {
        let line = RecordedLine::Turn { now, events: vec![event.clone()] };
        let RecordedLine::Turn { now, events } = as_read(&line) else {
            panic!("another line is read")
        };
        let mut effects = Vec::new();
        self.0.handle_all(now, events, &mut effects);
        effects
    }
}

/// Fails unless both decided the same, byte for byte.
pub(super) fn assert_equal(decided: &[Effect], again: &[Effect]) {
    assert_eq!(format!("{decided:?}"), format!("{again:?}"), "a replay decides something else");
}

/// Returns a line as it is read from a recording.
fn as_read(line: &RecordedLine) -> RecordedLine {
    let text = serde_json::to_string(line).expect("it can be written");
    let read = serde_json::from_str(&text).expect("it can be read");
    assert_eq!(*line, read);
    read
}
