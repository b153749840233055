//! `completions` and `man`: for packages.

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
    render::data(&String::from_utf8_lossy(&text))?;
    Ok(Exit::Fine)
}

pub(super) fn man(command: Command) -> anyhow::Result<Exit> {
    let mut text = Vec::new();
    clap_mangen::Man::new(command).render(&mut text)?;
    render::data(&String::from_utf8_lossy(&text))?;
    Ok(Exit::Fine)
}
