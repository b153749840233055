//! Mistakes at the command line, and what each of them reads. Those in a configuration are tried beside it.

use std::net::TcpListener;
use std::process::{Command, Output};

use super::skipped::skipped_by_machine;
use super::stage::{Options, Stage};

/// Commands that are mistaken before the first start of a daemon.
const COMMANDS: [(&str, &[&str]); 13] = [
    ("a wrong command", &["statsu"]),
    ("a wrong option", &["status", "--jsn"]),
    ("show before the first start", &["show", "1"]),
    ("retry before the first start", &["retry", "--all"]),
    ("pause before the first start", &["pause", "lab"]),
    ("receipts before the first start", &["receipts"]),
    ("verify before the first start", &["verify", "1"]),
    ("wait before the first start", &["wait", "run1"]),
    ("exports before the first start", &["exports"]),
    ("a run in status before the first start", &["status", "run1"]),
    ("words for a time", &["wait", "run1", "--timeout", "2 days"]),
    ("a rate in bits", &["bandwidth", "50 Mbit/s"]),
    ("a channel that is not there", &["notify", "--test", "mail"]),
];

struct Said(String);

impl Said {
    fn add(&mut self, what: &str, stage: &Stage, output: &Output) {
        let code = output.status.code().expect("it ended by itself");
        let text = String::from_utf8_lossy(&output.stderr);
        let directory = stage.path("x").parent().expect("a parent").display().to_string();
        let text = text.replace(&directory, "DIR").replace(&stage.address, "SANDBOX");
        self.0 += &format!("--- {what} (exit code {code})\n{}\n\n", text.trim_end());
    }
}

#[test]
fn each_mistake_at_the_command_line_leads_to_its_cure() {
    let stage = Stage::new(Options::default());
    let mut said = Said(String::new());
    for (what, words) in COMMANDS {
        said.add(what, &stage, &stage.output(words[0], &words[1..]));
    }
    let mut nowhere = Command::new(env!("CARGO_BIN_EXE_dropferry"));
    nowhere.args(["status", "--config", "/nowhere/config.toml"]);
    said.add("no configuration", &stage, &nowhere.output().expect("it runs"));
    let period = "bandwidth = \"unlimited\"\n[[transfer.timetable]]\nfrom = \"07:00\"\n\
        until = \"19:00\"\nbandwidth = \"10 MB/s\"";
    let timed = Stage::new(Options { transfer: period, ..Options::default() });
    let checked =
        |zone: &str| timed.command("check-config").env("TZ", zone).output().expect("it runs");
    said.add("a time zone that is not known", &timed, &checked("Europe/Praguee"));
    let fine = checked("Europe/Prague");
    let text = String::from_utf8_lossy(&fine.stderr).into_owned();
    assert!(fine.status.success() && text.contains(" Europe/Prague"), "{text}");
    insta::assert_snapshot!(said.0);
}

#[test]
fn doctor_names_who_has_the_port_of_the_page_and_the_zone_that_is_not_known() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let stage = Stage::new(Options { web: address.clone().leak(), ..Options::default() });
    let ask = || {
        let output = stage.command("doctor").arg("--offline").env("TZ", "Europe/Praguee").output();
        String::from_utf8_lossy(&output.expect("it runs").stdout).into_owned()
    };
    let found = ask();
    let program = std::fs::read_to_string("/proc/self/comm").expect("a name");
    let who = format!("{} (process {})", program.trim(), std::process::id());
    let line = format!("fail  page {address}: {who} has this address: there is no status page\n");
    assert!(found.contains(&line), "{found}");
    let zone = "warn  clock zone: TZ = \"Europe/Praguee\" is no time zone that is known here: it is \
        taken for UTC\n      cure: set TZ to a name that timedatectl list-timezones shows";
    assert!(found.contains(zone), "{found}");
    drop(taken);
    let found = ask();
    assert!(found.contains(&format!("ok    page {address}: it can be taken\n")), "{found}");
}

/// What another user's program holds open is not to be seen; whose it is, is.
#[test]
fn doctor_says_that_another_user_has_the_port_of_the_page_while_the_daemon_runs() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let mut stage = Stage::new(Options { web: address.clone().leak(), ..Options::default() });
    if !rustix::process::geteuid().is_root() {
        skipped_by_machine("only root can give a daemon to another user");
        return;
    }
    stage.write("run/a", b"small");
    stage.give_away();
    stage.start();
    stage.until_count("completed", 1);
    let output = stage.output("doctor", &["--offline"]);
    let found = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = format!(
        "fail  page {address}: a program of user root (0) has this address: there is no status page\n"
    );
    assert!(found.contains(&line), "{found}");
}

#[test]
fn manual_pages_go_to_a_directory_that_is_made_for_them() {
    let stage = Stage::new(Options::default());
    let place = stage.path("share/man");
    let output = stage.output("man", &["--directory", place.to_str().expect("text")]);
    assert!(output.status.success(), "{output:?}");
    let page = |name: &str| std::fs::read_to_string(place.join(name)).expect(name);
    let status = page("dropferry-status.1");
    for section in ["EXAMPLES", "FILES", "EXIT STATUS", "SEE ALSO"] {
        assert!(status.contains(&format!("\n.SH {section}\n")), "{section}: {status}");
        assert!(page("dropferry.1").contains(&format!("\n.SH {section}\n")), "{section}");
    }
    assert!(status.contains("dropferry status \\-\\-check"), "{status}");
    assert!(page("dropferry.toml.5").contains("[transfer]"));
    let help = String::from_utf8(stage.output("wait", &["--help"]).stdout).expect("text");
    assert!(help.contains("Examples:\n  dropferry wait run1 --timeout 2d"), "{help}");
}
