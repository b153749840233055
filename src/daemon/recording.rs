//! Records all events to a file that can be replayed: `run --record FILE`.
//!
//! *Owns* the daemon's engine: all its input passes [`RecordedEngine::handle_all`]. Each start is a line with the
//! settings and the stored state. Each call is a line with the time and the events, written before the engine
//! receives them, and a line with the digest of the effects: equal events at equal times give equal effects, so a
//! replay can compare them. *Promises*: no line contains a secret, because no event, setting or row does;
//! addresses and tokens stay in `platform`. A line that cannot be written ends the recording and nothing else.
//! *After a crash* the last line may be incomplete, and the effects of the last call may be missing.

use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::ops::Deref;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::engine::Engine;
use crate::engine::event::{Effect, Event};
use crate::engine::settings::Settings;
use crate::model::{Hex, Now, StoredState};

/// Paths and names are private.
const MODE: u32 = 0o600;
/// The beginning of every recording.
const BEGINNING: &[u8] = br#"{"start":"#;

/// One line of a recording. Written by reference, and read as values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordedLine<Start = Box<EngineStart>, Events = Vec<Event>> {
    Start(Start),
    /// One call of [`Engine::handle_all`].
    Turn {
        now: Now,
        events: Events,
    },
    /// The result of the line before: the SHA-256 of its `Debug` text.
    Effects {
        count: usize,
        sha256: String,
    },
}

/// The inputs for loading an engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineStart {
    /// The program's version: another one may decide differently.
    pub version: String,
    pub now: Now,
    pub settings: Settings,
    pub stored: StoredState,
}

impl<Start, Events> RecordedLine<Start, Events> {
    pub fn effects(effects: &[Effect]) -> Self {
        let digest = Sha256::digest(format!("{effects:?}"));
        Self::Effects { count: effects.len(), sha256: Hex(&digest).to_string() }
    }
}

/// The file, open until a write fails.
#[derive(Debug)]
pub(super) struct Recording {
    path: PathBuf,
    file: File,
}

impl Recording {
    /// Opens a recording for appending; creates it if there is none.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDWR | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC;
        let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let mut file = File::from(rustix::fs::open(path, flags, Mode::from_raw_mode(MODE))?);
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        if let Some(last_at) = metadata.len().checked_sub(1) {
            let (mut first, mut last) = ([0; BEGINNING.len()], [0]);
            file.read_exact_at(&mut last, last_at)?;
            if file.read_exact_at(&mut first, 0).is_err() || first != BEGINNING {
                return Err(io::Error::other("a file is there that is not a recording"));
            }
            if last != *b"\n" {
                file.write_all(b"\n")?;
            }
        }
        file.set_permissions(Permissions::from_mode(MODE))?;
        Ok(Self { path: path.to_owned(), file })
    }
}

/// The engine, with the recording if one is made. See the module documentation.
#[derive(Debug)]
pub(super) struct RecordedEngine {
    engine: Engine,
    recording: Option<Recording>,
}

impl RecordedEngine {
    /// Loads the engine, as [`Engine::load`].
    pub(super) fn load(
        mut recording: Option<Recording>,
        start: EngineStart,
    ) -> (Self, Vec<Effect>) {
        write(&mut recording, || RecordedLine::Start(&start));
        let mut effects = Vec::new();
        let EngineStart { version: _, now, settings, stored } = start;
        let engine = Engine::load(settings, stored, now, &mut effects);
        write(&mut recording, || RecordedLine::effects(&effects));
        (Self { engine, recording }, effects)
    }

    /// Passes events to the engine, as [`Engine::handle_all`].
    pub(super) fn handle_all(&mut self, now: Now, events: Vec<Event>) -> Vec<Effect> {
        write(&mut self.recording, || RecordedLine::Turn { now, events: &events });
        let mut effects = Vec::new();
        self.engine.handle_all(now, events, &mut effects);
        write(&mut self.recording, || RecordedLine::effects(&effects));
        effects
    }
}

impl Deref for RecordedEngine {
    type Target = Engine;

    fn deref(&self) -> &Engine {
        &self.engine
    }
}

/// Writes a line at once; the first failure ends the recording.
fn write<'a>(
    recording: &mut Option<Recording>,
    line: impl FnOnce() -> RecordedLine<&'a EngineStart, &'a [Event]>,
) {
    let Some(Recording { path, file }) = recording else { return };
    let text = serde_json::to_string(&line()).map_err(io::Error::from);
    if let Err(error) = text.and_then(|text| file.write_all((text + "\n").as_bytes())) {
        tracing::warn!("the recording ends: {} cannot be written: {error}", path.display());
        *recording = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Monotonic, WallTime};

    fn now() -> Now {
        Now { monotonic: Monotonic(std::time::Duration::ZERO), wall: WallTime(0) }
    }

    #[test]
    fn a_line_that_cannot_be_written_ends_the_recording_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("recording");
        std::fs::write(&path, "").expect("written");
        let mut recording = Some(Recording { file: File::open(&path).expect("opened"), path });
        write(&mut recording, || RecordedLine::Turn { now: now(), events: &[Event::Timer] });
        assert!(recording.is_none());
        write(&mut recording, || unreachable!("no line is made for nothing"));
    }

    #[test]
    fn a_line_that_was_cut_stays_a_line() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("recording");
        std::fs::write(&path, br#"{"start":{"ver"#).expect("written");
        let mut recording = Some(Recording::open(&path).expect("opened"));
        write(&mut recording, || RecordedLine::Turn { now: now(), events: &[Event::Timer] });
        let text = std::fs::read_to_string(&path).expect("read");
        let lines: Vec<_> = text.lines().collect();
        assert_eq!((lines.len(), lines[0]), (2, r#"{"start":{"ver"#));
        assert!(lines[1].starts_with(r#"{"turn":"#) && text.ends_with('\n'), "{text}");
    }
}
