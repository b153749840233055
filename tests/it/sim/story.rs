//! One line for each step of a simulated run: `t=12.3s  u7 put part 2 -> done`.
//!
//! They are printed if `DROPFERRY_SIM_TRACE` is set, and in the last run of a script that was shrunk.

use std::cell::Cell;
use std::sync::LazyLock;

use dropferry::testing::engine::event::Act;
use dropferry::testing::model::{Now, PartNumber, PutRequest};

use super::acts::{Reply, name_of};

thread_local! {
    static IS_PRINTED: Cell<bool> = const { Cell::new(false) };
}

static IS_TRACED: LazyLock<bool> =
    LazyLock::new(|| std::env::var_os("DROPFERRY_SIM_TRACE").is_some());

/// Runs something with a line printed for each of its steps.
pub(super) fn printed<T>(run: impl FnOnce() -> T) -> T {
    struct Silent;
    impl Drop for Silent {
        fn drop(&mut self) {
            IS_PRINTED.set(false);
        }
    }
    IS_PRINTED.set(true);
    let _silent_again = Silent;
    run()
}

pub(super) fn is_printed() -> bool {
    *IS_TRACED || IS_PRINTED.get()
}

#[expect(clippy::print_stdout, reason = "captured unless the test fails")]
pub(super) fn line(now: &Now, what: impl FnOnce() -> String) {
    if is_printed() {
        println!("t={:.1}s  {}", now.monotonic.0.as_secs_f64(), what());
    }
}

/// Returns which upload an act is for, the name of the act, and which part.
pub(super) fn label(act: &Act) -> String {
    let upload = act.upload().map_or(String::new(), |id| format!("u{} ", id.0));
    let part = part_of(act).map_or(String::new(), |part| format!(" {part}"));
    format!("{upload}{}{part}", name_of(act))
}

#[expect(clippy::wildcard_enum_match_arm, reason = "two acts are about a part")]
fn part_of(act: &Act) -> Option<PartNumber> {
    match act {
        Act::HashPart { part, .. } => Some(*part),
        Act::Put(sending) => match &sending.request {
            PutRequest::Part(request) => Some(request.part),
            PutRequest::Whole(_) => None,
        },
        _ => None,
    }
}

/// Returns how an act ended.
pub(super) fn result(reply: &Reply) -> String {
    match reply {
        Ok(_) => "done".to_owned(),
        Err(setback) => format!("{}: {}", setback.failure.kind.as_str(), setback.failure.message),
    }
}
