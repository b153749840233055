//! `completions` and `man`, for packages; and the examples in help and manual pages.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Command};
use clap_mangen::Man;

use super::{EXIT_CODES, Exit, render};

/// Examples of each command: command lines, and what they do.
const EXAMPLES: [(&str, &[(&str, &str)]); 21] = [
    ("run", &[("dropferry run", "the daemon, in the foreground")]),
    (
        "init",
        &[("dropferry init", "asks, writes a configuration and a token file, and tries them")],
    ),
    ("login", &[("dropferry login cavatica", "replaces the token of the destination cavatica")]),
    (
        "status",
        &[
            ("dropferry status", "whether all is well, and what needs someone"),
            ("dropferry status run1", "one run"),
            ("dropferry status --check", "for a monitor: 0, 5 or 6"),
            ("dropferry status --json --all", "for a script"),
        ],
    ),
    (
        "show",
        &[
            ("dropferry show run1", "a run: how far, what is missing, what is stuck"),
            ("dropferry show 1", "an upload: its parts, attempts and last failure"),
        ],
    ),
    ("wait", &[("dropferry wait run1 --timeout 2d", "0 there, 6 needs a person, 7 time is up")]),
    ("exports", &[("dropferry exports --all", "also those that were done long ago")]),
    ("plan", &[("dropferry plan", "each file: where to, in how many parts, or why not")]),
    (
        "receipts",
        &[
            ("dropferry receipts run1", "the files that have arrived"),
            ("dropferry receipts run1 --format md5sum", "lines for md5sum -c"),
            ("dropferry receipts --check", "whether every chain holds"),
        ],
    ),
    ("upload", &[("dropferry upload /data/elsewhere/report.pdf --to cavatica --wait", "one file")]),
    ("pause", &[("dropferry pause cavatica", "nothing more is started there")]),
    ("resume", &[("dropferry resume --all", "takes every pause back")]),
    (
        "retry",
        &[
            ("dropferry retry cavatica", "tries a destination at once"),
            ("dropferry retry --all", "and what is parked, too"),
        ],
    ),
    ("abandon", &[("dropferry abandon run1/b.fastq.gz", "gives one file up")]),
    ("close", &[("dropferry close novaseq/run1", "although its marker is missing")]),
    (
        "bandwidth",
        &[
            ("dropferry bandwidth \"10 MB/s\"", "until it is taken back"),
            ("dropferry bandwidth configured", "as the configuration has it"),
        ],
    ),
    ("log-level", &[("dropferry log-level info", "of the running daemon")]),
    ("notify", &[("dropferry notify --test", "a message by each channel")]),
    ("verify", &[("dropferry verify run1", "asks the platform about each file")]),
    ("doctor", &[("dropferry doctor", "what may be wrong, and its cure")]),
    (
        "check-config",
        &[("dropferry check-config --online", "all that run checks, and each destination")],
    ),
];

const FILES: [(&str, &str); 6] = [
    ("/etc/dropferry/config.toml", "The configuration: see dropferry.toml(5)."),
    ("/etc/dropferry/conf.d/*.toml", "Files that are joined with it, in the order of their names."),
    ("/var/lib/dropferry/dropferry.db", "The state of every file, in SQLite."),
    ("/var/lib/dropferry/receipts/", "The ledgers: what arrived, with its digests."),
    ("/var/lib/dropferry/backups/", "Copies of the database."),
    ("/run/dropferry/control.sock", "Where commands reach the daemon."),
];

/// Adds the examples to the help of each command.
pub(super) fn with_examples(command: Command) -> Command {
    EXAMPLES.iter().fold(command, |command, (name, lines)| {
        let line = |(line, what): &(&str, &str)| format!("\n  {line:<50} # {what}");
        let text = format!("Examples:{}", lines.iter().map(line).collect::<String>());
        command.mut_subcommand(name, |sub| sub.after_help(text))
    })
}

#[derive(Debug, Args)]
pub(super) struct CompletionsArguments {
    /// The shell
    shell: clap_complete::Shell,
}

pub(super) fn completions(
    asked: &CompletionsArguments,
    command: &mut Command,
) -> anyhow::Result<Exit> {
    let mut text = Vec::new();
    clap_complete::generate(asked.shell, command, "dropferry", &mut text);
    render::document(&String::from_utf8_lossy(&text))?;
    Ok(Exit::Fine)
}

#[derive(Debug, Args)]
pub(super) struct ManArguments {
    /// Write a page for the program, one for each command and one for the configuration into this directory
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
}

pub(super) fn man(asked: &ManArguments, command: Command) -> anyhow::Result<Exit> {
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let Some(directory) = &asked.directory else {
        render::document(&String::from_utf8_lossy(&page(&command)?))?;
        return Ok(Exit::Fine);
    };
    write_pages(&command, directory)
        .with_context(|| format!("manual pages in {}", directory.display()))?;
    Ok(Exit::Fine)
}

fn write_pages(command: &Command, directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let commands = command.get_subcommands().filter(|sub| !sub.is_hide_set());
    for command in commands.chain([command]) {
        let name = Man::new(command.clone()).get_filename();
        fs::write(directory.join(name), page(command)?)?;
    }
    fs::write(directory.join("dropferry.toml.5"), configuration_page())
}

/// Writes the manual page of the program or of a command.
fn page(command: &Command) -> io::Result<Vec<u8>> {
    let man = Man::new(command.clone()).manual("dropferry");
    let mut out = Vec::new();
    man.render_title(&mut out)?;
    man.render_name_section(&mut out)?;
    man.render_synopsis_section(&mut out)?;
    man.render_description_section(&mut out)?;
    man.render_options_section(&mut out)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut out)?;
    }
    let examples = EXAMPLES.iter().filter(|(name, _)| {
        *name == command.get_name() || (command.has_subcommands() && FIRST.contains(name))
    });
    let examples: Vec<_> = examples.flat_map(|(_, lines)| *lines).collect();
    if !examples.is_empty() {
        writeln!(out, ".SH EXAMPLES")?;
    }
    for (line, what) in examples {
        writeln!(out, ".TP\n.B {}\n{}", escaped(line), escaped(what))?;
    }
    writeln!(out, ".SH FILES")?;
    for (file, what) in FILES {
        writeln!(out, ".TP\n.I {}\n{}", escaped(file), escaped(what))?;
    }
    writeln!(out, ".SH EXIT STATUS")?;
    for (code, what) in EXIT_CODES.iter().enumerate() {
        writeln!(out, ".TP\n.B {code}\n{}", escaped(what))?;
    }
    writeln!(
        out,
        ".SH SEE ALSO\n.BR dropferry (1),\n.BR dropferry.toml (5),\n/usr/share/doc/dropferry/"
    )?;
    Ok(out)
}

/// Commands whose examples are on the program's page.
const FIRST: [&str; 4] = ["init", "check-config", "status", "doctor"];

fn configuration_page() -> String {
    let lines = crate::config::DEFAULT.lines().map(|line| escaped(line) + "\n").collect::<String>();
    format!(
        ".TH dropferry.toml 5 \"\" dropferry dropferry\n.SH NAME\ndropferry.toml \\- configuration of \
         dropferry\n.SH DESCRIPTION\nEvery key with its default. A line that begins with # KEY = may be \
         uncommented.\n.PP\n.nf\n{lines}.fi\n.SH SEE ALSO\n.BR dropferry (1)\n"
    )
}

/// Escapes a line for roff.
fn escaped(line: &str) -> String {
    let line = line.replace('\\', "\\e").replace('-', "\\-");
    if line.starts_with(['.', '\'']) { format!("\\&{line}") } else { line }
}
