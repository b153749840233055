//! The program as the benches start it.

use std::process::Command;

/// The program with the environment that the service gives it; another build, where `variable` says so.
pub(crate) fn program(variable: &str) -> Command {
    let built = || env!("CARGO_BIN_EXE_dropferry").into();
    let mut program = Command::new(std::env::var_os(variable).unwrap_or_else(built));
    let service = include_str!("../systemd/dropferry.service").lines();
    let variables = service.filter_map(|line| line.strip_prefix("Environment=")?.split_once('='));
    program.envs(variables);
    program
}
