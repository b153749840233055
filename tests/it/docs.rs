//! The command lines of the documents, run exactly as they are written there.
//!
//! A line of a shell block that begins with `dropferry` is run against a daemon with the names that the documents use,
//! and must succeed. Of commands that do not end, or that need a waiting run, only the help is called. The shell parses
//! the commands of other programs without running them; what they do to a service is tested where there is one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::stage::{Options, Stage, noise, until};

/// Commands that run until they are stopped, commands that ask a person, and one that needs a waiting run.
const ONLY_HELP: [&str; 8] =
    ["run", "sandbox", "demo", "--watch", "close", "init", "login", "notify"];

struct Line {
    place: String,
    text: String,
}

fn lines(page: &Path) -> Vec<Line> {
    let text = fs::read_to_string(page).expect("read");
    let name = page.file_name().expect("named").to_string_lossy().into_owned();
    let (mut is_shell, mut found) = (false, Vec::new());
    for (index, line) in text.lines().enumerate() {
        if line.starts_with("```") {
            is_shell = line == "```sh";
            continue;
        }
        let indented = line.strip_prefix("    ").filter(|line| line.starts_with("dropferry "));
        let Some(command) = is_shell.then_some(line).or(indented) else { continue };
        let command = command.split(" #").next().unwrap_or(command).trim();
        if !command.is_empty() && !command.starts_with('#') {
            found.push(Line { place: format!("{name}:{}", index + 1), text: command.to_owned() });
        }
    }
    found
}

/// The examples that the help of the commands shows.
fn examples(stage: &Stage) -> Vec<Line> {
    let (_, help) = shell(stage, "dropferry --help");
    let commands =
        help.split_once("Commands:\n").expect("commands").1.split_once("\n\n").expect("an end").0;
    let names = commands.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    let lines = |name: &str| {
        let (_, help) = shell(stage, &format!("dropferry {name} --help"));
        let examples =
            help.split_once("Examples:\n").map_or("", |(_, examples)| examples).to_owned();
        let commands = examples.lines().map(|line| line.split(" #").next().unwrap_or(line).trim());
        let line = |text: &str| Line { place: format!("help of {name}"), text: text.to_owned() };
        commands.filter(|line| !line.is_empty()).map(line).collect::<Vec<_>>()
    };
    names.filter(|name| !name.is_empty()).flat_map(lines).collect()
}

fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = super::stage::walk(&root.join("docs"));
    pages.retain(|page| page.extension().is_some_and(|end| end == "md"));
    pages.push(root.join("README.md"));
    pages.sort();
    pages
}

/// A daemon with the names that the documents use, and with a run that has arrived.
fn stage() -> Stage {
    let mut stage = Stage::new(Options { web: "127.0.0.1:0", ..Options::default() });
    let config = fs::read_to_string(stage.path("config.toml")).expect("read");
    let config =
        config.replace("to-sevenbridges", "cavatica").replace("[drops.lab]", "[drops.novaseq]");
    fs::write(stage.path("config.toml"), config).expect("written");
    stage.write("run1/a.fastq.gz", &noise(1000, 3));
    stage.start();
    stage.until_count("completed", 1);
    fs::create_dir(stage.path("status")).expect("made");
    fs::write(stage.path("status/seq-07.json"), stage.status().to_string()).expect("written");
    stage
}

fn shell(stage: &Stage, line: &str) -> (bool, String) {
    let program = Path::new(env!("CARGO_BIN_EXE_dropferry")).parent().expect("a directory");
    let path = std::env::var("PATH").expect("it is set");
    let output = Command::new("sh")
        .args(["-c", line])
        .current_dir(stage.path("."))
        .env("PATH", format!("{}:{path}", program.display()))
        .env("DROPFERRY_CONFIG", stage.path("config.toml"))
        .output()
        .expect("it runs");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn every_command_of_ours_runs_as_it_is_written() {
    let stage = stage();
    let address = until("the page is served", || {
        let log = stage.log();
        let (_, rest) = log.split_once("the status page is at http://")?;
        rest.split_once('/').map(|(address, _)| address.to_owned())
    });
    let elsewhere = stage.path("report.pdf");
    fs::write(&elsewhere, b"hand me in").expect("written");
    let mut count = 0;
    let documented: Vec<_> = pages().iter().flat_map(|page| lines(page)).collect();
    let mut examples = examples(&stage);
    examples.retain(|line| documented.iter().all(|other| other.text != line.text));
    assert!(examples.len() > 5, "the help has examples of its own");
    for line in documented.into_iter().chain(examples) {
        let is_help = line.text.split(' ').any(|word| ONLY_HELP.contains(&word));
        let text = line
            .text
            .replace("/data/elsewhere/report.pdf", &elsewhere.display().to_string())
            .replace("/data/novaseq", &stage.drop().display().to_string())
            .replace("127.0.0.1:8377", &address);
        let text = match text.strip_prefix("dropferry ") {
            Some(_) if is_help => format!("{text} --help"),
            Some(_) => text,
            None if text.starts_with("curl ") => text,
            None => continue,
        };
        if text.starts_with("dropferry abandon") {
            // Only an upload that is under way can be given up.
            shell(&stage, "dropferry pause cavatica");
            stage.write("run1/b.fastq.gz", &noise(1000, 5));
            until("it is admitted", || (stage.count("waiting") == 1).then_some(()));
        }
        let (is_fine, said) = shell(&stage, &text);
        assert!(is_fine, "{}: {text}\n{said}", line.place);
        if text.starts_with("dropferry abandon") {
            shell(&stage, "dropferry resume --all");
        }
        count += 1;
    }
    println!("{count} command lines of the documents were run");
    assert!(count > 25, "only {count} command lines were found");
}

#[test]
fn every_shell_block_is_one_that_a_shell_understands() {
    let mut count = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).expect("read");
        for block in text.split("```sh\n").skip(1) {
            let (block, _) = block.split_once("```").expect("it ends");
            let output = Command::new("sh").args(["-n", "-c", block]).output().expect("it runs");
            assert!(output.status.success(), "{}: {block}", page.display());
            count += 1;
        }
    }
    assert!(count > 10, "only {count} blocks were found");
}

#[test]
fn every_page_is_named_by_the_readme_and_every_named_page_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(root.join("README.md")).expect("read");
    for page in super::stage::walk(&root.join("docs")) {
        let name = page.strip_prefix(root).expect("it is below").display().to_string();
        assert!(readme.contains(&name), "the README does not name {name}");
    }
    for word in readme.split('`').filter(|word| word.starts_with("docs/")) {
        assert!(root.join(word).is_file(), "{word} is not there");
    }
}
