//! Applies the steps of a run to a directory.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use super::{Act, Phase, Run};

/// How fast steps follow each other.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Pace {
    StepsPerSecond(f64),
    AsFastAsPossible,
}

/// A run that is being played.
#[derive(Debug)]
pub(crate) struct Player<'a> {
    run: &'a Run,
    root: &'a Path,
    done: usize,
}

impl<'a> Player<'a> {
    pub(crate) fn new(run: &'a Run, root: &'a Path) -> Self {
        Self { run, root, done: 0 }
    }

    /// How many steps were done.
    pub(crate) fn done(&self) -> usize {
        self.done
    }

    /// Does the next step; false when there is none.
    pub(crate) fn step(&mut self) -> bool {
        let Some(step) = self.run.steps.get(self.done) else { return false };
        perform(self.root, &step.act);
        self.done += 1;
        true
    }

    /// Does every step before the first one of a phase.
    pub(crate) fn until_phase(&mut self, phase: Phase) {
        while self.run.steps.get(self.done).is_some_and(|step| step.phase < phase) {
            self.step();
        }
    }

    /// Begins at the first step of a phase: those before it count as done.
    pub(crate) fn skip_to(&mut self, phase: Phase) {
        let is_before = |step: &super::Step| step.phase < phase;
        self.done = self.run.steps.iter().take_while(|step| is_before(step)).count();
    }

    /// Does every step that is left.
    pub(crate) fn finish(&mut self) {
        while self.step() {}
    }
}

/// Plays a whole run.
pub(crate) fn play(run: &Run, root: &Path, pace: Pace) {
    let mut player = Player::new(run, root);
    while player.step() {
        if let Pace::StepsPerSecond(rate) = pace {
            std::thread::sleep(Duration::from_secs_f64(1.0 / rate));
        }
    }
}

fn perform(root: &Path, act: &Act) {
    let above = |path: &Path| fs::create_dir_all(path.parent().expect("below the root"));
    match act {
        Act::Write { path, bytes } => {
            let place = root.join(path);
            above(&place).expect("made");
            let file = fs::OpenOptions::new().write(true).create_new(true).open(place);
            file.and_then(|mut file| file.write_all(bytes)).expect("written");
        }
        Act::Append { path, bytes } => {
            let file = fs::OpenOptions::new().append(true).open(root.join(path));
            file.and_then(|mut file| file.write_all(bytes)).expect("appended");
        }
        Act::Rewrite { path, bytes } => {
            let file = fs::OpenOptions::new().write(true).truncate(true).open(root.join(path));
            file.and_then(|mut file| file.write_all(bytes)).expect("rewritten");
        }
        Act::Rename { from, to } => {
            above(&root.join(to)).expect("made");
            fs::rename(root.join(from), root.join(to)).expect("renamed");
        }
        Act::Mkdir { path } => fs::create_dir_all(root.join(path)).expect("made"),
        Act::Remove { path } => fs::remove_file(root.join(path)).expect("removed"),
    }
}
