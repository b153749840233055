//! `completions` and `man`: for packages.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Command};

use super::{Exit, render};

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
    /// Write a page for the program and one for each command into this directory
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
}

pub(super) fn man(asked: &ManArguments, command: Command) -> anyhow::Result<Exit> {
    if let Some(directory) = &asked.directory {
        clap_mangen::generate_to(command, directory)
            .with_context(|| format!("manual pages in {}", directory.display()))?;
        return Ok(Exit::Fine);
    }
    let mut text = Vec::new();
    clap_mangen::Man::new(command).render(&mut text)?;
    render::document(&String::from_utf8_lossy(&text))?;
    Ok(Exit::Fine)
}
