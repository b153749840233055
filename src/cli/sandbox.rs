//! `sandbox`: local stand-ins of the platforms.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use super::{Exit, render};
use crate::sandbox::{Sandbox, Settings};
use crate::signals::{Signal, Signals};

#[derive(Debug, Args)]
pub(super) struct SandboxArguments {
    /// Address to listen on; port 0 takes any
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8378")]
    listen: SocketAddr,
    /// Directory for the objects
    #[arg(long, value_name = "DIR")]
    directory: PathBuf,
    /// Keep no bytes: they are counted and digested, and no object can be read back
    #[arg(long)]
    discard: bool,
    /// Faults to inject: a JSON list of rules
    #[arg(long, value_name = "FILE")]
    faults: Option<PathBuf>,
    /// Behaviour where the documentation leaves it open: a JSON object
    #[arg(long, value_name = "FILE")]
    switches: Option<PathBuf>,
    /// The accepted token
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// An existing project; may be given several times
    #[arg(long, value_name = "OWNER/NAME", default_value = "lab/demo")]
    project: Vec<String>,
    /// Limit of calls in five minutes
    #[arg(long, value_name = "COUNT", default_value_t = 1000)]
    rate_limit: u64,
    /// Smallest part in bytes, except the last
    #[arg(long, value_name = "BYTES", default_value_t = 5 * 1024 * 1024)]
    part_size_min: u64,
}

pub(super) fn execute(arguments: SandboxArguments) -> anyhow::Result<Exit> {
    let mut settings = Settings::new(arguments.directory);
    settings.listen = arguments.listen;
    settings.discards = arguments.discard;
    settings.projects = arguments.project;
    settings.rate_limit = arguments.rate_limit;
    settings.part_size_min = arguments.part_size_min;
    if let Some(file) = arguments.faults {
        settings.rules = read_json(&file)?;
    }
    if let Some(file) = arguments.switches {
        settings.switches = read_json(&file)?;
    }
    if let Some(file) = arguments.token_file {
        let token = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        token.trim().clone_into(&mut settings.token);
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let token = settings.token.clone();
        let sandbox = Sandbox::start(settings).await.context("the sandbox cannot listen")?;
        let file = sandbox.write_configuration().context("the configuration cannot be written")?;
        render::data(&format!(
            "# token: {token}\n# This configuration is {0}, its credentials are beside it. Try it:\n\
             #   dropferry run --config {0}\n# and copy files into {1}\n{2}",
            file.display(),
            file.with_file_name("drop").display(),
            sandbox.ready_configuration()
        ))?;
        let mut signals = Signals::listen()?;
        while matches!(signals.next().await, Signal::Reload | Signal::Dump) {}
        Ok(Exit::Fine)
    })
}

fn read_json<T: serde::de::DeserializeOwned>(file: &std::path::Path) -> anyhow::Result<T> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    serde_json::from_str(&text).with_context(|| file.display().to_string())
}
