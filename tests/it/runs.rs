//! Whole run folders of every instrument, written by the generator, through the real binary: each drop completes
//! by itself, files that identify it are sent first, markers last, and its receipt lists every file.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::sequencer::{Expected, Instrument, Phase, Player, Run, Unit, expected};
use super::stage::{Options, Stage, until};
use super::witness::{objects, until_it_runs};

/// Uploads that may be open at once.
const BESIDE: usize = 32;

fn profile(instrument: Instrument) -> &'static str {
    match instrument {
        Instrument::NovaSeq6000
        | Instrument::NovaSeqX
        | Instrument::NextSeq2000
        | Instrument::MiSeq
        | Instrument::RsyncOrder => "illumina",
        Instrument::PromethIon => "nanopore",
        Instrument::Revio => "pacbio",
        Instrument::Aviti | Instrument::AvitiFailed => "element",
        Instrument::DnbSeq => "mgi",
    }
}

fn stage(instrument: Instrument, more: &str) -> Stage {
    let profile = profile(instrument);
    let drop = format!(
        "profile = \"{profile}\"\nquiet_period = \"50ms\"\nscan_interval = \"300ms\"\n{more}"
    );
    Stage::new(Options {
        transfer: "parts_in_flight = 16",
        destination: "folder = \"runs/{run_id}-{flowcell}-{date}\"\n\
            metadata = { sample = \"{sample}\", instrument = \"{instrument}\" }",
        drop: Box::leak(drop.into_boxed_str()),
        ..Options::default()
    })
}

fn runs(stage: &Stage) -> Vec<Value> {
    stage.status()["runs"].as_array().cloned().unwrap_or_default()
}

fn until_completed(stage: &Stage, run: &Unit) -> Value {
    until(&format!("{} is completed; the log:\n{}", run.name, stage.log()), || {
        runs(stage).into_iter().find(|u| u["name"] == *run.name && u["state"] == "completed")
    })
}

/// Plays an instrument while the daemon runs.
fn play(instrument: Instrument, more: &str) -> (Stage, Expected) {
    let run = Run::new(instrument, 11);
    let expected = expected(&run);
    let mut stage = stage(instrument, more);
    let drop = stage.drop();
    let mut player = Player::new(&run, &drop);
    player.until_phase(Phase::Running);
    stage.start();
    until_it_runs(&stage);
    player.until_phase(Phase::Late);
    // Late files belong to a run that is already completed.
    for run in expected.units.iter().filter(|run| has_all_markers(&stage, run)) {
        until_completed(&stage, run);
    }
    player.finish();
    (stage, expected)
}

fn has_all_markers(stage: &Stage, run: &Unit) -> bool {
    run.markers.iter().all(|marker| stage.drop().join(marker).exists())
}

fn assert_arrived(stage: &Stage, expected: &Expected) {
    let wanted: BTreeSet<_> = expected.arrive.values().collect();
    until(&format!("all of it is there; the log:\n{}", stage.log()), || {
        let there: Vec<_> = objects(stage).into_iter().map(|(_, bytes)| bytes).collect();
        (there.len() == expected.arrive.len() && there.iter().collect::<BTreeSet<_>>() == wanted)
            .then_some(())
    });
    expected.units.iter().for_each(|run| drop(until_completed(stage, run)));
    assert_eq!(stage.ledger()["breaches"], serde_json::json!([]));
    assert_eq!(stage.count("parked"), 0);
}

/// The ledger has a line for every file that arrived, before the line that the run is complete.
fn assert_receipted(stage: &Stage, expected: &Expected, run: &Unit) {
    let shown = until_completed(stage, run);
    let generation = &shown["wave_count"];
    let lines = stage.lines();
    let is_of = |line: &&Value| line["run"] == *run.name;
    let is_it = |line: &Value| line["kind"] == "run-completed" && line["wave"] == *generation;
    let of_run: Vec<_> = lines.iter().filter(is_of).collect();
    let end = of_run.iter().position(|line| is_it(line)).expect("it is completed");
    let listed: BTreeSet<_> =
        of_run[..end].iter().filter_map(|line| line["path"].as_str().map(str::to_owned)).collect();
    let below = format!("{}/", run.name);
    let wanted: BTreeSet<_> =
        expected.arrive.keys().filter(|path| path.starts_with(&below)).cloned().collect();
    assert_eq!(listed, wanted, "the receipt of {}", run.name);
}

/// In the order in which uploads were begun: files that identify the run first, its markers last.
fn assert_order(stage: &Stage, expected: &Expected, run: &Unit) {
    let ended = stage.output("receipts", &["--format", "json", &run.name]).stdout;
    let ended: Value = serde_json::from_slice(&ended).expect("JSON");
    let below = format!("{}/", run.name);
    let completed: BTreeMap<_, _> = ended
        .as_array()
        .expect("a list")
        .iter()
        .map(|file| {
            let text = |key: &str| file[key].as_str().expect("a text").to_owned();
            (text("path"), text("completed_at"))
        })
        .collect();
    let of = |path: &String| completed.get(path).cloned().expect("it has a receipt");
    let markers: Vec<_> = run.markers.iter().map(of).collect();
    let is_other = |path: &&String| {
        path.starts_with(&below) && !run.markers.contains(path) && run.late_marker.is_none()
    };
    let last_other = expected.arrive.keys().filter(is_other).map(of).max();
    for marker in &markers {
        assert!(last_other.as_ref() <= Some(marker), "a marker of {} went before others", run.name);
    }
}

/// Files that identify the run were begun before all others, except the few that may be under way at the same time.
fn assert_first(stage: &Stage, expected: &Expected) {
    let begun = stage.receipts().into_iter().map(|line| {
        let text = |key: &str| line[key].as_str().expect("a text").to_owned();
        (text("begun_at"), text("path"))
    });
    let mut begun: Vec<_> = begun.collect();
    begun.sort();
    assert!(begun.len() > 2 * BESIDE, "too few files to tell");
    for first in &expected.first {
        let position = begun.iter().position(|(_, path)| path == first);
        assert!(position.is_some_and(|at| at < BESIDE), "{first} was begun as {position:?}");
    }
}

fn assert_words(stage: &Stage, run: &Unit) {
    let shown = until_completed(stage, run);
    let said = |word: &str| shown["words"][word].as_str().unwrap_or_default().to_owned();
    assert_eq!(said("run_id"), run.words.run_id, "{}", run.name);
    assert_eq!(said("flowcell"), run.words.flowcell, "{}", run.name);
    // A word is known from the first file on: the position, which is part of the folder's name.
    let is_nanopore = run.words.instrument == "P24S01234";
    let instrument = if is_nanopore { "1A" } else { &*run.words.instrument };
    assert_eq!(said("instrument"), instrument, "{}", run.name);
    assert_eq!(said("date"), run.words.date, "{}", run.name);
}

fn tell_whole_story(instrument: Instrument, more: &str) -> (Stage, Expected) {
    let (stage, expected) = play(instrument, more);
    assert_arrived(&stage, &expected);
    for run in &expected.units {
        assert_receipted(&stage, &expected, run);
        assert_order(&stage, &expected, run);
        assert_words(&stage, run);
    }
    (stage, expected)
}

#[test]
fn a_novaseq_6000_run_completes_by_itself() {
    tell_whole_story(Instrument::NovaSeq6000, "");
}

#[test]
fn a_novaseq_x_run_completes_and_again_with_its_analysis() {
    let (stage, expected) = tell_whole_story(Instrument::NovaSeqX, "");
    let run = &expected.units[0];
    assert_eq!(until_completed(&stage, run)["wave_count"], 2, "what came late is one wave");
    let completed_at = |line: &Value| line["completed_at"].as_str().map(str::to_owned);
    let files = stage.receipts();
    let last = files.iter().max_by_key(|line| completed_at(line)).expect("it has files");
    assert_eq!(last["path"].as_str(), run.late_marker.as_deref(), "the wave's marker goes last");
}

#[test]
fn a_nextseq_2000_run_completes_by_itself_also_when_nothing_goes_before_its_marker() {
    tell_whole_story(Instrument::NextSeq2000, "");
    let (stage, expected) =
        tell_whole_story(Instrument::NextSeq2000, "start = \"when-run-closed\"");
    assert_first(&stage, &expected);
}

#[test]
fn a_miseq_run_completes_and_again_with_its_analysis() {
    tell_whole_story(Instrument::MiSeq, "");
}

#[test]
fn a_promethion_run_completes_by_itself() {
    tell_whole_story(Instrument::PromethIon, "");
}

#[test]
fn each_cell_of_a_revio_run_completes_by_itself() {
    tell_whole_story(Instrument::Revio, "");
}

#[test]
fn an_aviti_run_completes_by_itself_and_says_when_it_failed() {
    tell_whole_story(Instrument::Aviti, "");
    let (stage, expected) = play(Instrument::AvitiFailed, "");
    let shown = until_completed(&stage, &expected.units[0]);
    assert_eq!(
        (&shown["outcome"], &shown["outcome_is_success"]),
        (&"OutcomeFailed".into(), &false.into())
    );
}

#[test]
fn a_dnbseq_run_closes_for_want_of_change() {
    tell_whole_story(Instrument::DnbSeq, "");
}

#[test]
fn a_folder_whose_marker_was_copied_first_is_not_believed_before_it_is_still() {
    tell_whole_story(Instrument::RsyncOrder, "");
}

/// Two flow cells that are written at once; a file of the second is corrected once that is complete.
#[test]
fn two_flow_cells_side_by_side_complete_each_by_itself_also_when_one_is_corrected() {
    for instrument in [Instrument::NovaSeqX, Instrument::PromethIon] {
        let both = [11, 12].map(|seed| Run::new(instrument, seed));
        let mut expected = both.each_ref().map(expected);
        assert!(expected[0].units[0].name != expected[1].units[0].name);
        let mut stage = stage(instrument, "");
        let drop = stage.drop();
        let mut players = both.each_ref().map(|run| Player::new(run, &drop));
        stage.start();
        until_it_runs(&stage);
        let mut is_on = true;
        while is_on {
            is_on = players.each_mut().map(|player| player.step()).contains(&true);
        }
        for one in &expected {
            one.units.iter().for_each(|run| std::mem::drop(until_completed(&stage, run)));
        }
        let [first, second] = &mut expected;
        let corrected = second.arrive.keys().find(|path| path.ends_with(".csv")).cloned();
        if let Some(path) = corrected {
            let bytes = b"corrected\n".to_vec();
            stage.write(&path, &bytes);
            second.arrive.insert(path, bytes);
        }
        first.arrive.extend(std::mem::take(&mut second.arrive));
        first.units.append(&mut second.units);
        assert_arrived(&stage, first);
        for run in &first.units {
            assert_words(&stage, run);
        }
    }
}

const PLATFORMS: [&str; 4] = ["sevenbridges", "s3", "basespace", "gjirafa-vp"];

/// A stage that sends to every platform.
fn stage_everywhere(instrument: Instrument) -> Stage {
    let drop = format!(
        "profile = \"{}\"\nquiet_period = \"50ms\"\nscan_interval = \"300ms\"",
        profile(instrument)
    );
    Stage::new(Options {
        platforms: &PLATFORMS,
        transfer: "parts_in_flight = 16",
        drop: Box::leak(drop.into_boxed_str()),
        ..Options::default()
    })
}

/// Waits until a platform holds exactly this, each once.
fn until_there(stage: &Stage, platform: &str, wanted: impl Iterator<Item = Vec<u8>>) {
    let mut wanted: Vec<_> = wanted.collect();
    wanted.sort();
    until(&format!("all of it is at {platform}; the log:\n{}", stage.log()), || {
        let content = |file: &Value| -> Vec<u8> {
            let parts = file["parts"].as_array().expect("a list").iter();
            let bytes = parts.map(|part| std::fs::read(part.as_str().expect("a path")));
            bytes.flat_map(|bytes| bytes.unwrap_or_default()).collect()
        };
        let mut there: Vec<_> = stage.files_of(platform).iter().map(content).collect();
        there.sort();
        (there == wanted).then_some(())
    });
    assert_eq!(stage.ledger_of(platform)["breaches"], json!([]), "{platform}");
}

#[test]
fn flow_cells_side_by_side_with_waves_a_rename_and_a_correction_are_there_once_on_every_platform() {
    let instruments = [Instrument::NovaSeqX, Instrument::Aviti, Instrument::PromethIon];
    instruments.into_iter().for_each(play_two);
}

/// These have no marker of late files, another order, several cells in a run, or no marker at all.
#[test]
fn flow_cells_of_other_instruments_side_by_side_are_there_once_on_every_platform() {
    let instruments = [
        Instrument::MiSeq,
        Instrument::NextSeq2000,
        Instrument::NovaSeq6000,
        Instrument::DnbSeq,
        Instrument::Revio,
    ];
    instruments.into_iter().for_each(play_two);
}

/// Two flow cells at once, of which one is renamed while it is sent; what comes late; a sheet that is corrected.
fn play_two(instrument: Instrument) {
    let both = [11, 12].map(|seed| Run::new(instrument, seed));
    let expected = both.each_ref().map(expected);
    let mut stage = stage_everywhere(instrument);
    let drop = stage.drop();
    let mut players = both.each_ref().map(|run| Player::new(run, &drop));
    stage.start();
    until_it_runs(&stage);
    for phase in [Phase::Running, Phase::Closing, Phase::Late] {
        players.iter_mut().for_each(|player| player.until_phase(phase));
    }
    until("some of it is there", || (stage.count("completed") > 20).then_some(()));
    let [first, second] = expected.each_ref().map(|one| one.units[0].name.clone());
    let (above, _) = first.rsplit_once('/').unwrap_or((".", ""));
    let renamed = drop.join(above).join("renamed");
    std::fs::rename(drop.join(&first), &renamed).expect("renamed");
    for one in &expected {
        until_completed(&stage, &one.units[0]);
    }
    // What comes late comes under the name that the directory has.
    std::fs::rename(&renamed, drop.join(&first)).expect("renamed");
    players.iter_mut().for_each(Player::finish);
    let cells = expected[0].units.len();
    // What comes late of a run of several cells is the next of them.
    let has_wave = cells == 1 && both[0].steps.iter().any(|step| step.phase == Phase::Late);
    let waves = if has_wave { 2 } else { 1 };
    let is_done = |run: &Value| run["state"] == "completed" && run["wave_count"] == waves;
    until(&format!("all are there, with what came late: {instrument:?}"), || {
        let runs = runs(&stage);
        (runs.len() == 2 * cells && runs.iter().all(is_done)).then_some(())
    });
    let is_sheet = |path: &str| path.ends_with(".csv") || path.ends_with(".ccs_report.json");
    let sheets = expected[1].arrive.keys().filter(|path| path.starts_with(&second));
    let sheet = sheets.filter(|path| is_sheet(path)).min().expect("a sheet");
    let corrected = b"corrected\n".to_vec();
    stage.write(sheet, &corrected);
    let files = || expected.iter().flat_map(|one| &one.arrive);
    for platform in PLATFORMS {
        let replaces = ["sevenbridges", "s3"].contains(&platform);
        let kept = files().filter(|(path, _)| !replaces || *path != sheet);
        let wanted = kept.map(|(_, bytes)| bytes.clone()).chain([corrected.clone()]);
        until_there(&stage, platform, wanted);
    }
    until("the correction is a wave", || {
        let runs = runs(&stage);
        let one = runs.iter().find(|run| run["name"] == *second)?;
        (one["state"] == "completed" && one["wave_count"] == waves + 1).then_some(())
    });
    assert_eq!((stage.count("parked"), runs(&stage).len()), (0, 2 * cells), "{instrument:?}");
    let ends = stage.lines_of("run-completed");
    assert_eq!(ends.len(), 2 * cells * waves + 1, "{instrument:?}: {ends:#?}");
}

/// Neither is a copy of another by its name: they are runs of their own, whatever their files say.
#[test]
fn directories_that_say_the_same_run_id_have_a_place_each() {
    let mut stage = Stage::new(Options {
        destination: "folder = \"runs/{run_id}\"",
        drop: "profile = \"illumina\"\nquiet_period = \"50ms\"\nscan_interval = \"300ms\"",
        ..Options::default()
    });
    let names = ["one", "two", "three"];
    let info = "<RunInfo><Run Id=\"RID\"><Instrument>D01</Instrument></Run></RunInfo>";
    for name in names {
        stage.write(&format!("{name}/RunInfo.xml"), info.as_bytes());
        stage.write(&format!("{name}/Data/1.bin"), name.as_bytes());
        stage.write(&format!("{name}/RTAComplete.txt"), b"");
    }
    stage.start();
    let until_all = |stage: &Stage, waves: u64| {
        until("all are completed", || {
            let is_done = |run: &Value| {
                run["state"] == "completed" && run["wave_count"].as_u64() == Some(waves)
            };
            let runs = runs(stage);
            (runs.len() == 3 && runs.iter().all(is_done)).then_some(())
        });
    };
    until_all(&stage, 1);
    let places = |stage: &Stage, file: &str| -> BTreeMap<String, String> {
        let lines = stage.lines_of("upload");
        let lines =
            lines.iter().filter(|line| line["path"].as_str().is_some_and(|p| p.ends_with(file)));
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        lines.map(|line| (text(&line["run"]), text(&line["place"]))).collect()
    };
    let first = places(&stage, "/Data/1.bin");
    let all: BTreeSet<_> = first.values().map(String::as_str).collect();
    assert_eq!(
        all,
        BTreeSet::from(["runs/RID/Data/1.bin", "runs/RID~2/Data/1.bin", "runs/RID~3/Data/1.bin"])
    );
    stage.kill();
    names.iter().for_each(|name| stage.write(&format!("{name}/Data/2.bin"), b"late"));
    stage.start();
    until_all(&stage, 2);
    for (run, place) in places(&stage, "/Data/2.bin") {
        assert_eq!(place, first[&run].replace("1.bin", "2.bin"), "what was named stays");
    }
    assert_eq!((stage.count("parked"), stage.files().len()), (0, 12));
}

/// Copied while it is sent, with other inodes and times, and removed where it was, file by file.
#[test]
fn a_run_that_is_moved_to_another_file_system_goes_on_under_its_first_name_on_every_platform() {
    for instrument in [Instrument::NovaSeq6000, Instrument::Aviti] {
        let run = Run::new(instrument, 11);
        let expected = expected(&run);
        let mut stage = stage_everywhere(instrument);
        let drop = stage.drop();
        Player::new(&run, &drop).until_phase(Phase::Closing);
        stage.start();
        until("some of it is there", || (stage.count("completed") > 20).then_some(()));
        assert!(stage.output("pause", &["lab"]).status.success());
        let mut player = Player::new(&run, &drop);
        player.skip_to(Phase::Closing);
        player.finish();
        let name = &expected.units[0].name;
        let moved = format!("{name}_projectX");
        let (from, to) = (drop.join(name), drop.join(&moved));
        let copied = std::process::Command::new("cp").arg("-r").args([&from, &to]).status();
        assert!(copied.expect("it runs").success());
        let named = |stage: &Stage, name: &str| runs(stage).into_iter().find(|r| r["name"] == name);
        let reason = until("the copy is known", || {
            let copies = runs(&stage).into_iter().filter(|run| run["name"] != *name);
            let mut reasons = copies.map(|run| run["reason"].clone());
            reasons.find(|reason| reason["code"] == "copy-of")
        });
        assert!(reason["text"].as_str().is_some_and(|text| text.contains(&**name)), "{reason}");
        std::fs::remove_dir_all(&from).expect("removed");
        until("its directory is known", || {
            named(&stage, name).filter(|run| run["name_now"] == *moved)
        });
        assert!(stage.output("resume", &["lab"]).status.success());
        until_completed(&stage, &expected.units[0]);
        for platform in PLATFORMS {
            until_there(&stage, platform, expected.arrive.values().cloned());
        }
        let is_gone = |run: &Value| run["name"] == *name || run["state"] == "gone";
        assert!(runs(&stage).iter().all(is_gone), "{:#?}", runs(&stage));
        assert_eq!(stage.count("parked"), 0);
        assert_eq!(
            (stage.lines_of("run-completed").len(), stage.lines_of("renamed").len()),
            (1, 1)
        );
    }
}

/// The marker of another rule is there before the run's own, even if its request fails for a while;
/// nothing of the run comes after its own marker.
#[test]
fn the_runs_own_marker_waits_for_a_marker_of_another_rule() {
    for instrument in [Instrument::NovaSeqX, Instrument::NextSeq2000, Instrument::NovaSeq6000] {
        let run = Run::new(instrument, 11);
        let expected = expected(&run);
        let mut stage = Stage::new(Options {
            platforms: &["s3"],
            transfer: "parts_in_flight = 16",
            drop: "profile = \"illumina\"\nquiet_period = \"50ms\"\nscan_interval = \"300ms\"",
            ..Options::default()
        });
        let refusal = json!({"answer": {"status": 500}});
        let rule = json!([{
            "operation": "put-object", "key": "/RTAComplete.txt", "times": 0, "action": refusal,
        }]);
        stage.tell("faults", &rule.to_string());
        let drop = stage.drop();
        let mut player = Player::new(&run, &drop);
        player.until_phase(Phase::Late);
        stage.start();
        let names = |stage: &Stage| -> BTreeSet<String> {
            let files = stage.files();
            files.iter().map(|file| file["name"].as_str().expect("a text").to_owned()).collect()
        };
        let early = expected.arrive.keys().filter(|path| stage.drop().join(path).exists());
        let early: BTreeSet<_> =
            early.map(|path| path.rsplit('/').next().expect("a name").to_owned()).collect();
        let without = |names: &[&str]| -> BTreeSet<String> {
            early.iter().filter(|name| !names.contains(&name.as_str())).cloned().collect()
        };
        until(&format!("{instrument:?}: all but the markers; the log:\n{}", stage.log()), || {
            (names(&stage) == without(&["RTAComplete.txt", "CopyComplete.txt"])).then_some(())
        });
        until("its request has failed for a while", || {
            (stage.log().matches("put whole").count() >= 3).then_some(())
        });
        assert!(!names(&stage).contains("CopyComplete.txt"), "{instrument:?}");
        // It is refused until here; a kill does not change the order either.
        stage.kill();
        stage.start();
        until_it_runs(&stage);
        stage.tell("faults", "[]");
        until_completed(&stage, &expected.units[0]);
        assert_eq!(names(&stage), early, "{instrument:?}");
        assert_order(&stage, &expected, &expected.units[0]);
    }
}

#[test]
fn plan_says_the_fate_of_every_file_and_why() {
    let run = Run::new(Instrument::NovaSeq6000, 11);
    let expected = expected(&run);
    let mut stage = stage(Instrument::NovaSeq6000, "");
    Player::new(&run, &stage.drop()).finish();
    let lines = |stage: &Stage| -> Vec<Value> {
        let said = stage.output("plan", &["--json"]).stdout;
        let lines = String::from_utf8(said).expect("text");
        lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    };
    let planned = lines(&stage);
    let fate = |path: &str| -> &Value {
        planned.iter().find(|line| line["path"] == *path).expect("every file has a fate")
    };
    let run = &expected.units[0];
    for path in expected.arrive.keys() {
        assert_eq!(fate(path)["fate"], "upload", "{path}");
        assert_eq!(fate(path)["run"], *run.name, "{path}");
        let folder = fate(path)["remote_folder"].as_str().expect("a text");
        assert!(folder.starts_with(&format!("runs/{}-", run.words.run_id)), "{folder}");
    }
    let marker = run.markers.last().expect("it has one");
    assert_eq!(fate(marker)["when"], "when all else of its drop is there");
    let kept = expected.arrive.keys().find(|path| path.contains("InterOp")).expect("it has them");
    assert_eq!(fate(kept)["when"], "when its run is closed");
    let left_out: Vec<_> = planned.iter().filter(|line| line["fate"] == "ignored").collect();
    assert!(!left_out.is_empty());
    assert!(
        left_out.iter().all(|line| line["reason"] == "left out by the profile"),
        "{left_out:?}"
    );
    stage.start();
    until_completed(&stage, run);
    let done = lines(&stage).iter().filter(|line| line["fate"] == "completed").count();
    assert_eq!(done, expected.arrive.len(), "what has arrived is said to have");
}
