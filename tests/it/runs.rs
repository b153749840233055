//! Whole run folders, played by the generator, through the real binary.
//!
//! One line, [`PROFILE`], says which profile the drop directory has, and with it what must arrive.

use std::collections::BTreeMap;

use super::sequencer::{Expected, Instrument, Phase, Player, Run, expected};
use super::stage::{Options, Stage, until};
use super::witness::{objects, until_it_runs};

/// The profile of the drop directory.
const PROFILE: &str = "plain";

fn stage() -> Stage {
    let drop =
        format!("profile = \"{PROFILE}\"\nquiet_period = \"50ms\"\nscan_interval = \"500ms\"");
    Stage::new(Options {
        transfer: "parts_in_flight = 16",
        // What is uploaded while it grows is uploaded anew.
        destination: "when_name_taken = \"overwrite\"",
        drop: Box::leak(drop.into_boxed_str()),
        ..Options::default()
    })
}

/// What must stand at the far end: the plain profile knows nothing that may be left out.
fn wanted(expected: &Expected) -> &BTreeMap<String, Vec<u8>> {
    match PROFILE {
        "plain" => &expected.all,
        _ => &expected.arrive,
    }
}

#[test]
fn a_whole_run_arrives_as_it_stood_at_the_end() {
    let run = Run::new(Instrument::NextSeq2000, 11);
    let expected = expected(&run);
    let mut stage = stage();
    let drop = stage.drop();
    let mut player = Player::new(&run, &drop);
    player.until_phase(Phase::Running);
    stage.start();
    until_it_runs(&stage);
    player.finish();
    let wanted = wanted(&expected);
    until("all of it is there", || {
        (objects(&stage).into_iter().collect::<BTreeMap<_, _>>() == *wanted).then_some(())
    });
    assert_eq!(stage.ledger()["breaches"], serde_json::json!([]));
    assert_eq!(stage.count("parked"), 0);
}
