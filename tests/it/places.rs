//! One place at a destination belongs to one source, and a destination is its target: two drop
//! directories with the same names, configurations that remove things and put them back, and a
//! destination that is pointed elsewhere.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::stage::{Options, Stage, noise, until};

const QUICK: &str = "quiet_period = \"50ms\"\nscan_interval = \"300ms\"";
const DELETES: &str = "quiet_period = \"50ms\"\nscan_interval = \"300ms\"\n\
    disposition = \"delete\"\ndisposition_grace = \"0s\"";
const DROPS: [&str; 2] = ["drop", "other"];

impl Stage {
    pub(crate) fn config(&self) -> String {
        fs::read_to_string(self.path("config.toml")).expect("read")
    }

    /// Adds a drop directory that is sent to the same place as the first one, under the same names.
    pub(crate) fn add_twin(&self, lines: &str) {
        fs::create_dir_all(self.path("other")).expect("made");
        let text = self.config();
        let to = text.lines().find(|line| line.starts_with("destinations = ")).expect("a line");
        let twin = format!("[drops.twin]\ndirectory = \"other\"\n{to}\n{lines}\n");
        fs::write(self.path("config.toml"), text.clone() + &twin).expect("written");
    }

    pub(crate) fn put(&self, directory: &str, name: &str, bytes: &[u8]) -> PathBuf {
        let place = self.path(directory).join(name);
        fs::create_dir_all(place.parent().expect("below")).expect("made");
        let beside = self.path("being-written");
        fs::write(&beside, bytes).expect("written");
        fs::rename(beside, &place).expect("renamed");
        place
    }

    fn reloads(&self) -> usize {
        self.log().matches("the configuration was read again").count()
    }

    /// Puts another configuration in force.
    fn reload(&self, text: &str) {
        let before = self.reloads();
        fs::write(self.path("config.toml"), text).expect("written");
        self.signal(Signal::HUP);
        until("the configuration is read again", || (self.reloads() > before).then_some(()));
    }

    pub(crate) fn until_at_rest(&self) {
        until("nothing moves any more", || {
            let counts = &self.status()["counts"];
            let moving = ["settling", "queued", "sending", "waiting"];
            moving.iter().all(|state| counts[state] == 0).then_some(())
        });
    }

    /// The reason of the one upload that is parked.
    pub(crate) fn parked_reason(&self) -> String {
        let status = self.status();
        let uploads = status["uploads"].as_array().expect("a list").iter();
        let parked: Vec<_> = uploads.filter(|upload| upload["state"] == "parked").collect();
        assert_eq!(parked.len(), 1, "{status}");
        parked[0]["reason"]["text"].as_str().expect("a text").to_owned()
    }
}

fn content_of(file: &Value) -> Vec<u8> {
    let parts = file["parts"].as_array().expect("a list").iter();
    parts.flat_map(|part| fs::read(part.as_str().expect("a path")).expect("read")).collect()
}

/// Of two files for one place, the one at the destination is finally gone here; the other stays here.
fn assert_one_of_two(stage: &Stage, sources: &[(PathBuf, Vec<u8>)]) {
    let files = stage.files();
    assert_eq!(files.len(), 1, "{files:?}");
    let there = content_of(&files[0]);
    let (sent, kept): (Vec<_>, Vec<_>) = sources.iter().partition(|(_, content)| *content == there);
    assert_eq!((sent.len(), kept.len()), (1, 1), "what is there is one of the two, whole");
    until("what was sent is disposed of", || (!sent[0].0.exists()).then_some(()));
    assert_eq!(fs::read(&kept[0].0).expect("it stays"), kept[0].1);
    let reason = stage.parked_reason();
    for (place, _) in sources {
        let directory = place.ancestors().nth(2).and_then(Path::file_name).expect("a name");
        let name = if directory == "drop" { "lab" } else { "twin" };
        let is_named = reason.contains(name) || reason.contains(&*directory.to_string_lossy());
        assert!(is_named, "{reason} names {}", place.display());
    }
}

fn stage_of(platform: &'static [&'static str], switches: &'static str) -> Stage {
    let stage = Stage::new(Options {
        platforms: platform,
        switches,
        drop: DELETES,
        transfer: "parts_in_flight = 2\npart_size = \"64 KiB\"",
        ..Options::default()
    });
    stage.add_twin(DELETES);
    stage
}

const KINDS: [(&[&str], &str); 3] = [
    (&["s3"], "{}"),
    (&["s3"], "{\"s3\": {\"ignores_conditions\": true}}"),
    (&["sevenbridges"], "{\"part_size\": 65536}"),
];

/// Lengths of the two: several parts, one request, and one of each.
const LENGTHS: [(usize, usize); 3] = [(100_000, 400_000), (300, 500), (400_000, 300)];

#[test]
fn of_two_drop_directories_with_one_name_at_once_one_is_sent_and_the_other_stays() {
    for (platform, switches) in KINDS {
        for (one, two) in LENGTHS {
            let mut stage = stage_of(platform, switches);
            let contents = [noise(one, 1), noise(two, 2)];
            let sources: Vec<_> = DROPS
                .iter()
                .zip(contents)
                .map(|(drop, content)| (stage.put(drop, "run/b.bin", &content), content))
                .collect();
            stage.start();
            stage.until_count("completed", 1);
            stage.until_count("parked", 1);
            assert_one_of_two(&stage, &sources);
        }
    }
}

#[test]
fn of_two_drop_directories_with_one_name_in_turn_the_second_stays() {
    for (platform, switches) in KINDS {
        for order in [[0, 1], [1, 0]] {
            let mut stage = stage_of(platform, switches);
            stage.start();
            let contents = [noise(100_000, 1), noise(400_000, 2)];
            let mut sources = Vec::new();
            for (turn, index) in order.into_iter().enumerate() {
                let content = contents[index].clone();
                sources.push((stage.put(DROPS[index], "run/b.bin", &content), content));
                stage.until_count("completed", 1);
                if turn == 0 {
                    until("it is disposed of", || (!sources[0].0.exists()).then_some(()));
                }
            }
            stage.until_count("parked", 1);
            assert_one_of_two(&stage, &sources);
        }
    }
}

#[test]
fn no_policy_replaces_what_another_source_of_ours_sent() {
    for policy in ["overwrite", "park"] {
        let destination = if policy == "park" {
            "when_name_taken = \"park\""
        } else {
            "when_name_taken = \"overwrite\""
        };
        let mut stage = Stage::new(Options {
            platforms: &["s3"],
            switches: "{\"s3\": {\"ignores_conditions\": true}}",
            destination,
            drop: DELETES,
            ..Options::default()
        });
        stage.add_twin(DELETES);
        let sources: Vec<_> = [(DROPS[0], 1), (DROPS[1], 2)]
            .into_iter()
            .map(|(drop, seed)| (stage.put(drop, "run/b.bin", &noise(300, seed)), noise(300, seed)))
            .collect();
        stage.start();
        stage.until_count("parked", 1);
        assert_one_of_two(&stage, &sources);
    }
}

#[test]
fn the_same_content_of_two_sources_is_complete_without_bytes() {
    let mut stage = stage_of(&["s3"], "{}");
    let places = DROPS.map(|drop| stage.put(drop, "run/b.bin", &noise(200_000, 1)));
    stage.start();
    until("both are disposed of", || places.iter().all(|place| !place.exists()).then_some(()));
    assert_eq!(stage.count("completed"), 2);
    assert_eq!(stage.ledger()["bytes_received"], 200_000);
}

#[test]
fn drop_directories_that_nothing_tells_apart_are_warned_of() {
    let stage = stage_of(&["s3"], "{}");
    let warned = |stage: &Stage| {
        let output = stage.output("check-config", &[]);
        assert!(output.status.success());
        String::from_utf8_lossy(&output.stderr).contains("lab and twin have the same names")
    };
    assert!(warned(&stage));
    let text = stage.config().replace("prefix = \"runs/\"", "prefix = \"runs/{drop}\"");
    fs::write(stage.path("config.toml"), text).expect("written");
    assert!(!warned(&stage), "the word {{drop}} tells them apart");
}

#[test]
fn one_bucket_at_two_addresses_is_warned_of() {
    let stage = stage_of(&["s3"], "{}");
    let whole = stage.config();
    let (from, to) =
        (whole.find("[destinations.to-s3]").expect("it"), whole.find("[drops.").expect("one"));
    let other = whole[from..to].replace("to-s3", "to-other").replace("127.0.0.1", "localhost");
    let drops = whole[to..].replacen("\"to-s3\"", "\"to-other\"", 1);
    let said = |text: &str| {
        fs::write(stage.path("config.toml"), text).expect("written");
        let output = stage.output("check-config", &[]);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let told = said(&format!("{}{other}{drops}", &whole[..to]));
    assert!(told.contains("at two addresses: if it is one, say so by same_as"), "{told}");
}

#[test]
fn what_a_reload_takes_out_and_another_puts_back_is_not_sent_again() {
    let mut stage =
        Stage::new(Options { platforms: &["gjirafa-vp", "s3"], drop: QUICK, ..Options::default() });
    fs::create_dir(stage.path("spare")).expect("made");
    for number in 0..3 {
        stage.write(&format!("run/{number}"), &noise(50_000, number));
    }
    stage.start();
    stage.until_count("completed", 6);
    stage.until_at_rest();
    let whole = stage.config();
    let (before, drops) = whole.split_at(whole.find("[drops.lab]").expect("a drop directory"));
    let spare = "[drops.spare]\ndirectory = \"spare\"\ndestinations = [\"to-s3\"]\n";
    let outs = [
        format!("{before}{spare}"),
        whole.replace("[\"to-gjirafa-vp\", \"to-s3\"]", "[\"to-s3\"]"),
        format!("{before}{}", drops.replace("\"drop\"", "\"spare\"")),
    ];
    let received = |stage: &Stage| {
        ["gjirafa-vp", "s3"].map(|to| stage.ledger_of(to)["bytes_received"].clone())
    };
    let sent = received(&stage);
    for out in outs {
        assert_ne!(out, whole);
        stage.reload(&out);
        stage.reload(&whole);
        let scanned = stage.status()["drops"].clone();
        until("a scan after it", || (stage.status()["drops"] != scanned).then_some(()));
        stage.until_at_rest();
        assert_eq!(received(&stage), sent, "{out}");
        assert_eq!(stage.count("completed"), 6, "{out}");
    }
}

#[test]
fn what_was_completed_at_a_former_target_is_not_disposed_of_and_is_sent_by_order() {
    let mut stage = Stage::new(Options {
        platforms: &["s3"],
        drop: "quiet_period = \"50ms\"\nscan_interval = \"300ms\"\n\
            disposition = \"delete\"\ndisposition_grace = \"3s\"",
        ..Options::default()
    });
    let place = stage.put("drop", "only-copy", b"precious");
    stage.start();
    stage.until_count("completed", 1);
    let old = stage.config();
    let new = old.replace("127.0.0.1", "localhost");
    assert_ne!(new, old);
    stage.reload(&new);
    until("it is said why it stays", || {
        stage.log().contains("a former target of their destination").then_some(())
    });
    assert!(place.exists(), "what proves nothing here is not disposed of");
    let former = &stage.status()["destinations"][0]["former_targets"];
    assert_eq!(former[0]["completed_count"], 1, "{former}");
    let verified = stage.output("verify", &["lab"]);
    let said = String::from_utf8_lossy(&verified.stdout).into_owned();
    assert!(said.contains("not asked: it was completed at"), "{said}");
    let checked = stage.output("check-config", &[]);
    let said = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(said.contains("1 upload was completed at its former target"), "{said}");
    // The alias of the old one: what was proved there still holds.
    let url = new.lines().find(|line| line.starts_with("base_url")).expect("an address");
    let alias = url.replace("base_url", "same_as").replace("localhost", "127.0.0.1");
    let text = new.replace(url, &format!("{url}\n{alias}"));
    stage.reload(&text);
    stage.kill();
    stage.start();
    until("it is disposed of", || (!place.exists()).then_some(()));
}

#[test]
fn a_changed_target_gets_what_the_old_one_has_when_that_is_ordered() {
    let mut stage =
        Stage::new(Options { platforms: &["gjirafa-vp"], drop: QUICK, ..Options::default() });
    stage.write("run/a", &noise(1000, 1));
    stage.start();
    stage.until_count("completed", 1);
    let text = stage.config().replace("127.0.0.1", "localhost");
    stage.reload(&text);
    stage.write("run/b", &noise(2000, 2));
    stage.until_count("completed", 2);
    stage.until_at_rest();
    let received = |stage: &Stage| stage.ledger()["bytes_received"].clone();
    assert_eq!(received(&stage), json!(3000), "nothing is sent again by itself");
    let output = stage.output("retry", &["to-gjirafa-vp", "--resend"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    stage.until_count("completed", 3);
    stage.until_at_rest();
    assert_eq!(received(&stage), json!(4000));
    stage.kill();
    stage.start();
    stage.until_at_rest();
    assert_eq!(received(&stage), json!(4000), "the order is carried out once");
}

/// It is a run of the directory where it lies: what is at its place already counts, and nothing of it is lost.
#[test]
fn a_run_that_moves_to_another_drop_directory_is_at_the_far_side_once() {
    const TO: [&str; 2] = ["sevenbridges", "s3"];
    let mut stage = Stage::new(Options {
        platforms: &TO,
        transfer: "parts_in_flight = 4\nbandwidth = \"1 MB/s\"",
        drop: QUICK,
        ..Options::default()
    });
    stage.add_twin(QUICK);
    let names = ["run1/a", "run1/deep/b", "run1/c"];
    (1..).zip(names).for_each(|(seed, name)| stage.write(name, &noise(3_000, seed)));
    stage.start();
    stage.until_count("completed", 6);
    stage.write("run1/large", &noise(3_000_000, 9));
    until("it is under way to both", || {
        let uploads = stage.status()["uploads"].as_array().cloned().unwrap_or_default();
        let goes = uploads.iter().filter(|upload| upload["in_flight_bytes"].as_u64() > Some(0));
        (goes.count() == 2).then_some(())
    });
    let run = |drop: &str, state: &str| {
        let runs = stage.status()["runs"].as_array().cloned().unwrap_or_default();
        runs.into_iter().find(|run| run["drop"] == *drop && run["state"] == *state)
    };
    let go = |from: &str, to: &str| {
        fs::rename(stage.path(from).join("run1"), stage.path(to).join("run1")).expect("moved");
    };
    go("drop", "other");
    assert!(stage.output("bandwidth", &["unlimited"]).status.success());
    until("it is complete where it lies", || run("twin", "completed"));
    until("it is gone where it was", || run("lab", "gone"));
    stage.until_at_rest();
    let received = || TO.map(|platform| stage.ledger_of(platform)["bytes_received"].clone());
    let before = received();
    go("other", "drop");
    until("it is back, and complete", || {
        run("lab", "completed").filter(|run| run["file_count"] == 4)
    });
    stage.until_at_rest();
    assert_eq!(received(), before, "nothing of it is sent twice");
    for platform in TO {
        let mut names: Vec<_> =
            stage.files_of(platform).iter().map(|file| file["name"].clone()).collect();
        names.sort_by_key(ToString::to_string);
        assert_eq!(names.len(), 4, "{platform}: {names:?}");
    }
    assert_eq!(stage.count("parked"), 0);
}
