//! The generator itself: deterministic, in order, valid, and the same on disk as in memory.

use std::collections::BTreeSet;
use std::fs;

use quick_xml::events::Event;

use super::super::stage::walk;
use super::{Act, Expected, Instrument, Pace, Phase, Player, Run, Scale, expected, play};

fn every_run() -> impl Iterator<Item = (Instrument, Run, Expected)> {
    Instrument::ALL.into_iter().map(|instrument| {
        let run = Run::new(instrument, 7);
        let wanted = expected(&run);
        (instrument, run, wanted)
    })
}

/// The path that exists after a step, if the step makes or changes one.
fn path_of(act: &Act) -> Option<&str> {
    match act {
        Act::Write { path, .. } | Act::Append { path, .. } | Act::Rewrite { path, .. } => {
            Some(path)
        }
        Act::Rename { to, .. } => Some(to),
        Act::Mkdir { .. } | Act::Remove { .. } => None,
    }
}

#[test]
fn a_seed_makes_the_same_run_and_another_seed_another() {
    for (instrument, run, wanted) in every_run() {
        assert_eq!(run, Run::new(instrument, 7), "{instrument:?}");
        let other = Run::new(instrument, 8);
        assert_ne!(run, other, "{instrument:?}");
        assert_ne!(wanted.units[0].words, expected(&other).units[0].words, "{instrument:?}");
    }
}

#[test]
fn phases_come_in_order_and_sizes_are_modest() {
    for (instrument, run, wanted) in every_run() {
        assert!(run.steps.is_sorted_by_key(|step| step.phase), "{instrument:?}");
        let phases: BTreeSet<_> = run.steps.iter().map(|step| step.phase).collect();
        let has_late =
            matches!(instrument, Instrument::NovaSeqX | Instrument::MiSeq | Instrument::Revio);
        assert_eq!(phases.contains(&Phase::Late), has_late, "{instrument:?}");
        assert!((20..500).contains(&wanted.all.len()), "{instrument:?}: {}", wanted.all.len());
        let bytes: usize = wanted.all.values().map(Vec::len).sum();
        assert!(bytes < 2 << 20, "{instrument:?}: {bytes} bytes");
    }
}

#[test]
fn the_marker_is_last_and_follows_every_file_it_stands_for() {
    for (instrument, run, wanted) in every_run() {
        for unit in &wanted.units {
            let last_step =
                |path: &str| run.steps.iter().rposition(|s| path_of(&s.act) == Some(path));
            let Some(marker) = unit.markers.last() else {
                assert_eq!(instrument, Instrument::DnbSeq);
                continue;
            };
            let at = last_step(marker).expect("it is written");
            let below = format!("{}/", unit.name);
            let is_early = |path: &&String| {
                let step = last_step(path).expect("it is written");
                step <= at || (run.steps[step].phase == Phase::Late && unit.late_marker.is_some())
            };
            let of_unit = || wanted.all.keys().filter(|path| path.starts_with(&below));
            let (early, late): (Vec<_>, Vec<_>) = of_unit().partition(is_early);
            if instrument == Instrument::RsyncOrder {
                assert!(early.len() < 3 && late.len() > 50, "{early:?}");
            } else {
                assert_eq!(late, Vec::<&String>::new(), "{instrument:?}");
            }
            if let Some(late) = &unit.late_marker {
                assert_eq!(last_step(late), Some(run.steps.len() - 1), "{instrument:?}");
            }
        }
    }
}

#[test]
fn what_is_left_out_does_not_arrive_and_what_goes_first_does() {
    for (instrument, _, wanted) in every_run() {
        assert!(wanted.arrive.keys().all(|path| !wanted.left_out.contains(path)));
        assert!(wanted.first.iter().all(|path| wanted.arrive.contains_key(path)), "{instrument:?}");
        let markers =
            wanted.units.iter().flat_map(|unit| unit.markers.iter().chain(&unit.late_marker));
        for marker in markers {
            assert!(wanted.arrive.contains_key(marker), "{instrument:?}: {marker}");
        }
        let is_picture = |path: &&String| path.ends_with(".jpg") || path.ends_with("Thumbnail.png");
        assert_eq!(wanted.arrive.keys().find(is_picture), None, "{instrument:?}");
    }
}

#[test]
fn documents_can_be_read_and_name_the_run() {
    for (instrument, _, wanted) in every_run() {
        for (path, bytes) in wanted.all.iter().filter(|(path, _)| path.ends_with(".xml")) {
            let mut reader = quick_xml::Reader::from_reader(bytes.as_slice());
            let mut buffer = Vec::new();
            while !matches!(reader.read_event_into(&mut buffer).expect(path), Event::Eof) {}
        }
        for (path, bytes) in wanted.all.iter().filter(|(path, _)| path.ends_with(".json")) {
            serde_json::from_slice::<serde_json::Value>(bytes).expect(path);
        }
        let unit = &wanted.units[0];
        if let Some(info) = wanted.all.get(&format!("{}/RunInfo.xml", unit.name)) {
            let text = String::from_utf8_lossy(info);
            for word in [&unit.words.run_id, &unit.words.flowcell, &unit.words.instrument] {
                assert!(
                    text.contains(&format!("{word}<")) || text.contains(&format!("\"{word}\""))
                );
            }
            assert_eq!(unit.name, unit.words.run_id, "{instrument:?}");
        }
    }
}

#[test]
fn documents_have_the_dialect_of_their_family() {
    let text = |instrument, name: &str| {
        let wanted = expected(&Run::new(instrument, 3));
        let path = format!("{}/{name}", wanted.units[0].name);
        wanted.all.get(&path).map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    };
    let has = |instrument, name, what: &str| {
        let found = text(instrument, name).unwrap_or_else(|| panic!("{instrument:?} has {name}"));
        assert!(found.contains(what), "{instrument:?} {name}: {found}");
    };
    has(Instrument::MiSeq, "RunInfo.xml", "<Date>260301</Date>");
    has(Instrument::NovaSeq6000, "RunInfo.xml", "<Date>3/1/2026 5:26:34 PM</Date>");
    has(Instrument::NovaSeqX, "RunInfo.xml", "<Date>2026-03-01T17:26:34Z</Date>");
    has(Instrument::MiSeq, "runParameters.xml", "MiSeq");
    assert_eq!(text(Instrument::MiSeq, "RunParameters.xml"), None);
    has(Instrument::NovaSeqX, "RunCompletionStatus.xml", "<RunStatus>RunCompleted<");
    has(Instrument::NextSeq2000, "RunCompletionStatus.xml", "CompletedAsPlanned");
    has(Instrument::NovaSeqX, "SampleSheet.csv", "FileFormatVersion,2");
    has(Instrument::AvitiFailed, "RunUploaded.json", "OutcomeFailed");
    for instrument in [Instrument::MiSeq, Instrument::NovaSeq6000, Instrument::NovaSeqX] {
        assert_eq!(text(instrument, "RTAComplete.txt").as_deref(), Some(""));
    }
}

#[test]
fn a_manifest_lists_every_file_with_its_digest() {
    use md5::{Digest, Md5};
    let wanted = expected(&Run::new(Instrument::NovaSeqX, 5));
    for folder in ["", "Analysis/1/"] {
        let below = format!("{}/{folder}", wanted.units[0].name);
        let manifest = String::from_utf8_lossy(&wanted.all[&format!("{below}Manifest.tsv")]);
        assert!(manifest.lines().count() > 10);
        for line in manifest.lines() {
            let (path, sum) = line.split_once('\t').expect("two columns");
            let bytes = &wanted.all[&format!("{below}{path}")];
            assert_eq!(super::script::hex(&Md5::digest(bytes)), sum, "{path}");
        }
    }
}

#[test]
fn a_transfer_list_names_the_files_of_its_cell_by_their_tail() {
    let wanted = expected(&Run::new(Instrument::Revio, 5));
    assert_eq!(wanted.units.len(), 2);
    for unit in &wanted.units {
        let list = String::from_utf8_lossy(&wanted.all[&unit.markers[0]]);
        let paths: Vec<_> = list.lines().filter(|line| line.starts_with('/')).collect();
        assert_eq!(list.lines().next(), Some(paths.len().to_string().as_str()));
        assert!(paths.len() > 5);
        for path in paths {
            let tail = path.strip_prefix("/data/pa/").expect("the instrument's own place");
            assert!(wanted.all.contains_key(tail) && tail.starts_with(&unit.name), "{tail}");
        }
    }
}

#[test]
fn a_player_writes_the_folder_that_the_run_says_at_each_gate() {
    for (instrument, run, wanted) in every_run() {
        let root = tempfile::tempdir().expect("a directory");
        let on_disk = || {
            let read = |place: std::path::PathBuf| {
                let path = place.strip_prefix(root.path()).expect("below").display().to_string();
                (path, fs::read(&place).expect("read"))
            };
            walk(root.path()).into_iter().map(read).collect()
        };
        let mut player = Player::new(&run, root.path());
        for phase in [Phase::Running, Phase::Closing, Phase::Late] {
            player.until_phase(phase);
            assert_eq!(run.folder_after(player.done()), on_disk(), "{instrument:?} {phase:?}");
        }
        player.finish();
        assert_eq!(wanted.all, on_disk(), "{instrument:?}");
    }
}

#[test]
fn a_scale_makes_more_and_larger_files_and_a_pace_makes_the_same_ones() {
    let small = expected(&Run::new(Instrument::DnbSeq, 1));
    let run = Run::scaled(Instrument::DnbSeq, 1, Scale { count: 3, bytes: 4 });
    let large = expected(&run);
    let bytes = |wanted: &Expected| wanted.all.values().map(Vec::len).sum::<usize>();
    assert!(large.all.len() > 2 * small.all.len() && bytes(&large) > 8 * bytes(&small));
    let root = tempfile::tempdir().expect("a directory");
    play(&run, &root.path().join("fast"), Pace::AsFastAsPossible);
    play(&run, &root.path().join("paced"), Pace::StepsPerSecond(1e6));
    let count = |name: &str| walk(&root.path().join(name)).len();
    assert_eq!((count("fast"), count("paced")), (large.all.len(), large.all.len()));
}
