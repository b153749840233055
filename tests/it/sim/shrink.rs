//! Shrinks a script that fails to the lines that it needs to fail, prints it step by step, and
//! writes it to a file if that is asked for.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use super::check;
use super::script::{Script, directory};
use super::story;
use super::world::World;

thread_local! {
    static IS_QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Runs of a script while it is shrunk: each takes some ten milliseconds.
const RUNS_MAX: u32 = 500;

/// Runs a script in the world that it makes, which is left in the second argument.
pub(super) type Run = fn(&Script, &mut Option<World>);

/// Runs a script; if it fails, reports the shortest form that fails.
#[expect(clippy::print_stdout, reason = "captured unless the test fails")]
pub(super) fn holds(script: &Script, run: Run) {
    if failure(script, run).is_none() {
        return;
    }
    let small = shrunk(script, |script| failure(script, run).is_some());
    let mut world = None;
    let caught = catch_unwind(AssertUnwindSafe(|| story::printed(|| run(&small, &mut world))));
    if let Some(world) = &world {
        println!("{}", table(world));
    }
    println!("the script that is left of seed {}:\n{small}", script.seed);
    if let Some(name) = std::env::var_os("DROPFERRY_SIM_SAVE") {
        let file = directory().join(name).with_extension("txt");
        std::fs::write(&file, small.to_string()).expect("the script is written");
        println!("it is in {}", file.display());
    }
    println!("again: .ci/run sim {}; DROPFERRY_SIM_SAVE=NAME keeps the script", script.seed);
    if let Err(why) = caught {
        std::panic::resume_unwind(why);
    }
    panic!("seed {} failed, and then did not", script.seed);
}

/// Returns why a script fails, if it does.
fn failure(script: &Script, run: Run) -> Option<String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !IS_QUIET.get() {
                loud(info);
            }
        }));
    });
    IS_QUIET.set(true);
    let mut world = None;
    let caught = catch_unwind(AssertUnwindSafe(|| run(script, &mut world)));
    IS_QUIET.set(false);
    let why = caught.err()?;
    let text = why.downcast_ref::<String>().cloned();
    Some(
        text.or_else(|| why.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_default(),
    )
}

/// Drops one line at a time, from the end, for as long as the rest still fails.
pub(super) fn shrunk(script: &Script, fails: impl Fn(&Script) -> bool) -> Script {
    let (mut small, mut runs) = (script.clone(), 0);
    loop {
        let before = small.clone();
        for index in (0..small.events.len() + small.world.len()).rev() {
            let mut less = small.clone();
            match index.checked_sub(less.world.len()) {
                Some(event) => drop(less.events.remove(event)),
                None => drop(less.world.remove(index)),
            }
            runs += 1;
            if runs > RUNS_MAX {
                return small;
            }
            if fails(&less) {
                small = less;
            }
        }
        if small == before {
            return small;
        }
    }
}

/// The state of every upload.
fn table(world: &World) -> String {
    let mut lines = vec![format!("{:>4}  {:<8}  {:<12}  state", "id", "to", "path")];
    for upload in check::status(world).uploads {
        let admission = &upload.admission;
        let (id, to, path) =
            (admission.id.0, &admission.destination, admission.file.path.to_string());
        let state = &upload.state;
        lines.push(format!("{id:>4}  {to:<8}  {path:<12}  {} {:?}", upload.word(), state.hold));
    }
    lines.join("\n")
}
