//! README's first five minutes, line by line as they are written there, on a Debian without any trace of dropferry.

use std::fs;

use super::super::stage::{Options, Stage, TOKEN, noise, until};
use super::machine::{Machine, package};

/// Returns the indented lines of a section of README.
fn lines(heading: &str) -> Vec<String> {
    let readme = include_str!("../../../README.md");
    let (_, section) = readme.split_once(&format!("\n## {heading}\n")).expect("the section");
    let section = section.split_once("\n## ").map_or(section, |(section, _)| section);
    let indented = section.lines().filter(|line| line.starts_with("    "));
    indented.map(|line| line.split(" #").next().unwrap_or(line).trim().to_owned()).collect()
}

#[test]
fn the_five_minutes_of_the_readme_end_with_a_service_that_is_up() {
    let Some(package) = package() else { return };
    let stage = Stage::new(Options::default());
    stage.write("run1/a.fastq.gz", &noise(3000, 2));
    let mut machine = Machine::new(stage.drop());
    let name = package.file_name().expect("a name");
    fs::copy(&package, machine.packages().join(name)).expect("copied");
    machine.boot();
    machine.said("echo 'APT::Get::Assume-Yes \"true\";' >/etc/apt/apt.conf.d/90yes");
    machine.said("mkdir /data/novaseq; mount --bind /data/drop /data/novaseq");

    let install = lines("Install");
    let install = install.iter().find(|line| line.starts_with("apt ")).expect("a line for Debian");
    machine.said(&format!("cd /srv && {install}"));
    let (commands, configuration): (Vec<_>, Vec<_>) =
        lines("Five minutes with a real token").into_iter().partition(|line| {
            ["dropferry ", "setfacl ", "systemctl "].iter().any(|word| line.starts_with(word))
        });
    let wanted =
        ["dropferry init", "setfacl ", "dropferry check-config", "systemctl ", "dropferry status"];
    assert_eq!(commands.len(), wanted.len(), "{commands:?}");
    for (command, wanted) in commands.iter().zip(wanted) {
        assert!(command.starts_with(wanted), "{commands:?}");
    }

    // The account belongs to the sandbox, and not to CAVATICA.
    let answers = format!(
        "sevenbridges\\nhttp://{}/v2\\nlab/demo\\n{TOKEN}\\n/data/novaseq\\nillumina\\n",
        stage.address
    );
    let said = machine.said(&format!("printf '{answers}' | {} 2>&1", commands[0]));
    assert!(said.contains("may write to lab/demo") && said.contains("next: "), "{said}");
    let written = machine.said("cat /etc/dropferry/config.toml");
    for line in configuration.iter().filter(|line| !line.is_empty()) {
        let line = line.replace("owner/project", "lab/demo").replace("cavatica", "sevenbridges");
        assert!(written.lines().any(|found| found == line), "{line} is not in {written}");
    }
    machine.said(&commands[1]);
    let said = machine.said(&format!("{} 2>&1", commands[2]));
    assert!(said.contains("checked as the daemon's user, dropferry"), "{said}");
    assert!(said.contains("the credential is accepted and may write to lab/demo"), "{said}");
    machine.said(&commands[3]);
    assert_eq!(machine.said("systemctl is-active dropferry"), "active");
    let status = until("the daemon has asked the platform and seen the run", || {
        let status = machine.said("dropferry status --json");
        let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
        let is_ready =
            status["destinations"][0]["state"] == "ok" && status["drops"][0]["watch"] == "events";
        (is_ready && status["counts"]["settling"] == 1).then_some(status)
    });
    assert_eq!(status["daemon"]["running"], true, "{status}");
    let shown = machine.said(&format!("{} 2>&1", commands[4]));
    assert!(shown.starts_with("all well"), "{shown}");
    assert!(!shown.contains("no daemon has run") && !shown.contains("not running"), "{shown}");
}
