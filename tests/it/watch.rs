//! The full-screen view and bars, as a person sees them: the real binary in a terminal.

use std::cell::RefCell;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use regex::Regex;

use super::stage::{Options, Stage, noise, until};
use super::terminal::Terminal;

const WIDE: &str = "run/試料-ゲノム-試料-ゲノム-試料-ゲノム-試料-ゲノム/L001_R1.fastq.gz";
const HOSTILE: &str = "run/\u{1b}[31mred\u{202e}gpj.exe";

/// The command line of a command, for a shell.
fn line(stage: &Stage, command: &str, more: &str) -> String {
    let config = stage.path("config.toml");
    format!("{} {command} --config {} {more}", env!("CARGO_BIN_EXE_dropferry"), config.display())
}

/// A stage with a file of each kind: arrived, parked, under way on a line that stalls.
fn stage() -> Stage {
    let mut stage = Stage::new(Options {
        transfer: "parts_in_flight = 2\npart_size = \"1 MiB\"",
        network: "inactivity_timeout = \"300s\"",
        switches: "{\"part_size\": 1048576}",
        // No scan is late on a busy machine.
        drop: "quiet_period = \"50ms\"\nscan_interval = \"30s\"",
        ..Options::default()
    });
    for name in [WIDE, HOSTILE, "run/unreadable"] {
        stage.write(name, b"small");
    }
    // Root reads everything.
    stage.give_away();
    let unreadable = fs::Permissions::from_mode(0o000);
    fs::set_permissions(stage.drop().join("run/unreadable"), unreadable).expect("set");
    stage.start();
    stage.until_count("completed", 2);
    stage.until_count("parked", 1);
    let stall = r#"[{"operation": "put", "nth": 3, "times": 0, "action": {"stall": 300000}}]"#;
    stage.tell("faults", stall);
    stage.write("run2/large", &noise(6 << 20, 3));
    until("its line stalls", || {
        let status = stage.status();
        let runs = status["runs"].as_array().cloned().unwrap_or_default();
        let stalls = |run: &serde_json::Value| run["destinations"][0]["stalled_since"].is_string();
        runs.iter().any(stalls).then_some(())
    });
    stage
}

/// A screen in which everything that differs from run to run is replaced.
pub(crate) fn filtered(screen: &str) -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let mut text = screen.replace(&host, "HOST");
    for (what, name) in [
        (r"[0-9]+ (s|min|h)(?-u:\b)( [0-9]+ (s|min|h)(?-u:\b))?", "TIME"),
        (r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9:.]+(Z| [A-Z+0-9-]+)", "DATE"),
        (r"pid [0-9]+", "pid PID"),
        (r"/[^ \n]*/drop", "DROP"),
        (r"(receipt line +[0-9]+ of )[^ \n]+", "${1}LEDGER"),
        (r"(?m)^( HOST: .*?)  +([0-9]+ of)", "$1   $2"),
        ("1 settling, ", ""),
        // Which of the parts come first is chance.
        (r"(?m)^    [#>.]{6}$", "    PARTS"),
        ("[0-9a-f]{64}", "ID"),
        (r"(?m) +$", ""),
        (r"\n\n+", "\n\n"),
    ] {
        text = Regex::new(what).expect("a pattern").replace_all(&text, name).into_owned();
    }
    text
}

/// The screens, in the order in which a person goes through them. Each has its name at the top.
fn screens(terminal: &Terminal) -> String {
    let steps: [(&[&str], &str, &str); 9] = [
        (&["g"], ": runs ", "1 of 2"),
        (&["j"], ": runs ", "2 of 2"),
        (&["Enter"], ": run lab/run ", "1 of 3"),
        (&["Enter"], ": upload ", "the source file may not be read"),
        (&["r"], ": runs ", "2 of 2"),
        (&["g", "Enter"], ": run lab/run2 ", "1 of 1"),
        (&["Enter"], ": upload ", "parts: 6"),
        (&["d"], ": destinations ", "1 of 2"),
        (&["m"], ": messages ", "dropferry retry"),
    ];
    let mut all = String::new();
    for (keys, title, what) in steps {
        terminal.press(keys);
        // A screen may be read while it is drawn: it must be the same twice.
        let before = RefCell::new(String::new());
        let screen = terminal.until(what, |screen| {
            let is_drawn = before.replace(screen.to_owned()) == screen;
            let first = screen.lines().next().unwrap_or_default();
            is_drawn && first.contains(title) && screen.contains(what)
        });
        let last = screen.lines().last().unwrap_or_default();
        assert!(last.contains("Enter open") && last.contains("q quit"), "{screen}");
        if let Some(map) =
            screen.lines().find(|line| line.trim_end().len() == 10 && line.contains('>'))
        {
            let count = |sign| map.matches(sign).count();
            assert_eq!((count('#'), count('>'), count('.')), (2, 2, 2), "{screen}");
        }
        all.push_str(&format!("== {}\n{}\n", keys.join(" "), filtered(&screen)));
    }
    all
}

fn assert_screens(columns: u16, rows: u16, name: &str) {
    let stage = stage();
    let watch = line(&stage, "status", "--watch");
    let Some(terminal) = Terminal::start(columns, rows, &watch) else { return };
    let screen = terminal.until_shown("1 thing needs someone");
    assert_eq!(screen.lines().count(), usize::from(rows), "keys are at the bottom");
    insta::assert_snapshot!(name, screens(&terminal));
    terminal.press(&["q"]);
    terminal.assert_restored("ended with 0");
}

#[test]
fn every_screen_fits_80_columns_and_24_rows() {
    assert_screens(80, 24, "watch_80x24");
}

#[test]
fn every_screen_uses_200_columns_and_50_rows() {
    assert_screens(200, 50, "watch_200x50");
}

#[test]
fn names_are_escaped_and_aligned_searched_for_and_a_resize_is_followed() {
    let stage = stage();
    let watch = line(&stage, "status", "lab/run --watch");
    let Some(terminal) = Terminal::start(80, 24, &watch) else { return };
    let screen = terminal.until_shown("lab/run to to-sevenbridges");
    assert!(!screen.contains("run2"), "run2 is not asked for: {screen}");
    assert!(terminal.coloured().contains("38;5;1m"), "what needs someone is red");
    terminal.press(&["Enter"]);
    let screen = terminal.until_shown("gpj.exe");
    assert!(!screen.contains('\u{202e}') && !terminal.coloured().contains("\u{1b}[31mred"));
    let wide = |screen: &str| -> String {
        let line = screen.lines().find(|line| line.contains("試"));
        line.unwrap_or_else(|| panic!("no wide name: {screen}")).to_owned()
    };
    let line = wide(&screen);
    assert!(line.contains('…') && line.ends_with(" to to-sevenbridges"), "{line}");
    terminal.resize(120, 30);
    let screen = terminal.until("all of it fits", |screen| screen.contains("-ゲノム/L001_R1"));
    assert!(wide(&screen).ends_with("ゲノム/L001_R1.fastq.gz to to-sevenbridges"), "{screen}");
    assert!(screen.contains(r"run/\u{1b}[31mred\u{202e}gpj.exe to to-sevenbridges"), "{screen}");
    assert_eq!(screen.lines().count(), 30);
    terminal.press(&["/", "G", "P", "J"]);
    let screen = terminal.until_shown("search: GPJ");
    assert!(screen.contains("1 of 1") && !screen.contains('試'), "{screen}");
    terminal.press(&["Enter"]);
    terminal.until_shown("only what contains: GPJ");
    terminal.press(&["Escape"]);
    terminal.until_shown("1 of 3");
    terminal.press(&["?"]);
    terminal.until_shown("what is marked");
    terminal.resize(12, 3);
    terminal.press(&["q"]);
    terminal.resize(80, 24);
    terminal.assert_restored("ended with 0");
}

#[test]
fn the_terminal_is_restored_however_the_view_ends() {
    let mut stage = Stage::new(Options::default());
    stage.write("run/a", b"a");
    stage.start();
    stage.until_count("completed", 1);
    let own = stage.path("pid-of-view");
    let watch = format!("env NO_COLOR=1 RUST_BACKTRACE=0 {}", line(&stage, "status", "--watch"));
    let watch = format!("sh -c 'echo $$ >{}; exec {watch}'", own.display());
    let signal = || {
        let pid = fs::read_to_string(&own).expect("written");
        let pid = pid.trim().parse().ok().and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process(pid.expect("a process"), rustix::process::Signal::TERM)
            .expect("sent");
    };
    for (key, ended) in [("C-c", 0), ("F12", 101), ("signal", 0), ("gone", 0)] {
        let Some(terminal) = Terminal::start(80, 24, &watch) else { return };
        terminal.until_shown("all well");
        assert!(!terminal.coloured().contains("38;5;"), "NO_COLOR holds");
        match key {
            "signal" => signal(),
            "gone" => {
                stage.kill();
                terminal.until_shown("dropferry is not running: nothing is sent");
                terminal.press(&["q"]);
            }
            key => terminal.press(&[key]),
        }
        let screen = terminal.assert_restored(&format!("ended with {ended}"));
        assert_eq!(screen.contains("panicked at"), key == "F12", "{screen}");
    }
}

#[test]
fn where_standard_output_is_no_terminal_it_is_printed_each_second() {
    let mut stage = Stage::new(Options::default());
    stage.write("run/a", b"a");
    stage.start();
    stage.until_count("completed", 1);
    let mut watch = stage.command("status");
    watch.arg("--watch").stdout(Stdio::piped());
    let mut watch = watch.spawn().expect("it runs");
    let lines = BufReader::new(watch.stdout.take().expect("piped")).lines();
    let mut verdicts = lines.map_while(Result::ok).filter(|line| line.starts_with("all well"));
    assert!(verdicts.next().is_some() && verdicts.next().is_some(), "twice");
    watch.kill().expect("killed");
    watch.wait().expect("reaped");
}

/// A stage whose line is slow, with one file under way.
fn slow_stage() -> Stage {
    let mut stage = Stage::new(Options {
        transfer: "parts_in_flight = 2\nbandwidth = \"400 kB/s\"",
        switches: "{\"part_size\": 262144}",
        ..Options::default()
    });
    stage.start();
    stage.write("run/large", &noise(4 << 20, 3));
    until("it is sent", || (stage.count("sending") == 1).then_some(()));
    stage
}

#[test]
fn what_is_waited_for_has_a_bar_by_bytes_on_a_terminal_and_lines_elsewhere() {
    let stage = slow_stage();
    let Some(terminal) = Terminal::start(80, 24, &line(&stage, "wait", "run")) else { return };
    terminal.until("it shows a bar", |screen| {
        screen.contains("###") && screen.contains(" % of 4 MiB, ") && screen.contains("/s, about ")
    });
    fs::write(stage.path("elsewhere"), noise(1 << 20, 5)).expect("written");
    let elsewhere = format!("--wait --to to-sevenbridges {}", stage.path("elsewhere").display());
    let upload = Terminal::start(80, 24, &line(&stage, "upload", &elsewhere)).expect("it is there");
    upload.until("it shows a bar", |screen| screen.contains("% of 1 MiB, "));
    let mut plain = stage.command("wait");
    let plain = plain.arg("lab/run").stderr(Stdio::piped()).stdout(Stdio::piped());
    let plain = plain.spawn().expect("it runs");
    assert!(stage.output("bandwidth", &["unlimited"]).status.success());
    let screen = terminal.assert_restored("ended with 0");
    assert!(screen.contains("1 of 1 files, 4 MiB of 4 MiB are there"), "{screen}");
    assert!(!screen.contains("###"), "the bar is gone: {screen}");
    let screen = upload.assert_restored("ended with 0");
    assert!(screen.contains("1 of 1 files, 1 MiB of 1 MiB are there"), "{screen}");
    let plain = plain.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&plain.stderr).into_owned();
    assert!(said.contains(" % of 4 MiB, ") && !said.contains(['\u{1b}', '\r', '#']), "{said}");
    assert_eq!(String::from_utf8_lossy(&plain.stdout), "1 of 1 files, 4 MiB of 4 MiB are there\n");
}

#[test]
fn what_is_handed_in_says_behind_what_it_waits() {
    let mut stage = Stage::new(Options {
        transfer: "parts_in_flight = 1",
        network: "inactivity_timeout = \"300s\"",
        ..Options::default()
    });
    let stall = r#"[{"operation": "put", "times": 0, "action": {"stall": 300000}}]"#;
    stage.tell("faults", stall);
    stage.start();
    stage.write("run/first", &noise(4 << 20, 3));
    until("it is sent", || (stage.count("sending") == 1).then_some(()));
    fs::write(stage.path("elsewhere"), noise(1 << 20, 5)).expect("written");
    let elsewhere = format!("--wait --to to-sevenbridges {}", stage.path("elsewhere").display());
    let Some(terminal) = Terminal::start(100, 24, &line(&stage, "upload", &elsewhere)) else {
        return;
    };
    terminal.until_shown("0 % of 1 MiB, waits behind 1 upload, time left unknown");
    // It ends with the daemon.
    stage.kill();
    terminal.assert_restored("ended with 5");
}

#[test]
fn the_demonstration_shows_a_bar_and_how_long_it_takes() {
    let files = tempfile::tempdir().expect("a directory");
    for number in 0..8 {
        fs::write(files.path().join(number.to_string()), noise(8 << 20, number)).expect("written");
    }
    let demo = "demo --platform s3 --directory";
    let demo = format!("{} {demo} {}", env!("CARGO_BIN_EXE_dropferry"), files.path().display());
    let Some(terminal) = Terminal::start(100, 30, &demo) else { return };
    let screen = terminal.until("it shows a bar", |screen| {
        let is_over = screen.contains("ended with");
        is_over || (screen.contains(" % of 64 MiB, ") && screen.contains(" of 8 uploads, "))
    });
    assert!(screen.contains(" of 8 uploads, "), "{screen}");
    terminal.assert_restored("ended with 0");
}
