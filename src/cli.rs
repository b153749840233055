//! The surface: commands, their arguments, their exit codes.
//!
//! Standard output is data, standard error is messages. A broken pipe is success: the reader has
//! read enough. Errors are printed once, as a chain, with a hint on its own line when there is one.

mod as_user;
mod ask;
mod bandwidth;
mod bar;
mod check_config;
mod close;
mod demo;
mod doctor;
mod documents;
mod exports;
mod init;
mod layout;
mod log_level;
mod login;
mod notify;
mod orders;
mod plan;
mod prompt;
mod receipts;
mod render;
mod restore;
mod run;
mod sandbox;
mod secret_file;
mod shelf;
mod show;
mod status;
mod upload;
mod verify;
mod wait;
mod what;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::model::{Shown, Verb};
use crate::telemetry::{Format, Level};

/// How a command ended: the exit codes of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// All is well.
    Fine = 0,
    /// The requested action failed.
    Failed = 1,
    /// The arguments are wrong.
    Usage = 2,
    /// The configuration is wrong.
    Configuration = 3,
    /// The state cannot be used.
    State = 4,
    /// No daemon runs.
    NotRunning = 5,
    /// Something needs a person (`status --check`, `wait`, `doctor`).
    Attention = 6,
    /// The time-out of `wait` has passed.
    TimeUp = 7,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Uploads the settled files of drop directories by resumable multipart upload
#[derive(Debug, Parser)]
#[command(name = "dropferry", version, max_term_width = 100, after_help = exit_codes())]
struct Arguments {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

/// The meaning of each exit code, by its number.
const EXIT_CODES: [&str; 8] = [
    "fine",
    "the asked-for thing failed",
    "usage",
    "configuration",
    "state unusable",
    "daemon not running",
    "something needs a person (status --check, wait, doctor)",
    "time is up (wait)",
];

fn exit_codes() -> String {
    let codes = EXIT_CODES.iter().enumerate().map(|(code, what)| format!("{code} {what}"));
    format!("Exit codes: {}.", codes.collect::<Vec<_>>().join(", "))
}

/// Arguments of every command.
#[derive(Debug, Clone, Args)]
struct Common {
    /// The configuration file [default: $DROPFERRY_CONFIG, else /etc/dropferry/config.toml]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Format of log lines: auto is the journal's where standard error is connected to it, else text
    #[arg(long, global = true, value_enum, default_value = "auto")]
    log_format: LogFormat,
    /// Level of log lines: error, warn, info, debug or trace
    #[arg(long, global = true, default_value = "info", value_parser = parse_level)]
    log_level: Level,
}

fn parse_level(word: &str) -> Result<Level, String> {
    word.parse().map_err(|error: crate::telemetry::UnknownLevel| error.to_string())
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum LogFormat {
    Auto,
    Text,
    Json,
    Journal,
}

impl From<LogFormat> for Format {
    fn from(asked: LogFormat) -> Self {
        match asked {
            LogFormat::Auto => Self::Auto,
            LogFormat::Text => Self::Text,
            LogFormat::Json => Self::Json,
            LogFormat::Journal => Self::Journal,
        }
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Ask for the settings, write a configuration and its credential file, and test them
    Init(init::InitArguments),
    /// Read a credential without echo, check it, and store it
    Login(login::LoginArguments),
    /// Run the daemon in the foreground
    Run(run::RunArguments),
    /// Demonstrate uploads on a local sandbox, with a kill in the middle
    Demo(demo::DemoArguments),
    /// Run local stand-ins of the platforms
    Sandbox(sandbox::SandboxArguments),
    /// Show what is going on
    Status(status::StatusArguments),
    /// Show everything about a run, an upload or a destination
    Show(show::ShowArguments),
    /// Wait until a run is at all of its destinations
    Wait(wait::WaitArguments),
    /// List exports to attached volumes
    Exports(exports::ExportsArguments),
    /// Show what would be uploaded, to where and in how many parts, and what would not, and why
    Plan(plan::PlanArguments),
    /// List, print or export receipts
    Receipts(receipts::ReceiptsArguments),
    /// Restore the database from a copy, or rebuild a lost one from the receipts
    Restore(restore::RestoreArguments),
    /// Hand files to the running daemon, from outside the drop directories
    Upload(upload::UploadArguments),
    /// Pause an upload, a run, a drop directory, a destination, or everything
    Pause(orders::OrderArguments),
    /// End a pause, or accept another directory at the path of a drop directory
    Resume(orders::ResumeArguments),
    /// Retry waiting uploads at once, and parked ones again
    Retry(orders::RetryArguments),
    /// Give up uploads: local files stay, their unfinished remote uploads are removed
    Abandon(orders::OrderArguments),
    /// Close a run although its markers or listed files are missing; its receipt says so
    Close(close::CloseArguments),
    /// Show or change the bandwidth limit
    Bandwidth(bandwidth::BandwidthArguments),
    /// Show or change the log level of the running daemon
    LogLevel(log_level::LogLevelArguments),
    /// Send a test message through all channels, or one, and show the answers
    Notify(notify::NotifyArguments),
    /// Ask the platform about sent files again, and compare
    Verify(verify::VerifyArguments),
    /// Check everything that may be wrong, and show the cures
    Doctor(doctor::DoctorArguments),
    /// Ask a directory whether it answers
    #[command(hide = true)]
    Answers(doctor::AnswersArguments),
    /// Check the configuration
    CheckConfig(check_config::CheckArguments),
    /// Print completions for a shell
    Completions(documents::CompletionsArguments),
    /// Print the manual page, or write one for each command
    Man(documents::ManArguments),
}

/// Parses the arguments, runs the command, prints errors.
pub fn run() -> ExitCode {
    let command = documents::with_examples(Arguments::command());
    let matches = command.try_get_matches();
    let arguments = match matches.and_then(|matches| Arguments::from_arg_matches(&matches)) {
        Ok(arguments) => arguments,
        Err(error) => {
            // clap prints help to standard output, errors to standard error.
            error.print().ok();
            let code = if error.use_stderr() { Exit::Usage } else { Exit::Fine };
            return code.into();
        }
    };
    match execute(arguments) {
        Ok(exit) => exit.into(),
        Err(error) => report(&error).into(),
    }
}

fn execute(arguments: Arguments) -> anyhow::Result<Exit> {
    let common = &arguments.common;
    let begin_log = || crate::telemetry::init(common.log_format.into(), common.log_level);
    match arguments.command {
        Command::Run(arguments) => {
            begin_log()?;
            run::execute(common, &arguments)
        }
        Command::Init(asked) => init::execute(common, &asked),
        Command::Login(asked) => login::execute(common, &asked),
        Command::Notify(asked) => notify::execute(common, &asked),
        Command::Demo(demo) => demo::execute(&demo),
        Command::Sandbox(sandbox) => {
            begin_log()?;
            sandbox::execute(sandbox)
        }
        Command::Status(status) => status::execute(common, &status),
        Command::Show(show) => show::execute(common, &show),
        Command::Wait(asked) => wait::execute(common, &asked),
        Command::Exports(asked) => exports::execute(common, &asked),
        Command::Plan(plan) => plan::execute(common, &plan),
        Command::Receipts(asked) => receipts::execute(common, &asked),
        Command::Restore(asked) => restore::execute(common, &asked),
        Command::Upload(asked) => upload::execute(common, &asked),
        Command::Pause(asked) => orders::execute(common, Verb::Pause, &asked),
        Command::Resume(asked) => orders::resume(common, &asked),
        Command::Retry(asked) => orders::retry(common, &asked),
        Command::Abandon(asked) => orders::execute(common, Verb::Abandon, &asked),
        Command::Close(asked) => close::execute(common, &asked),
        Command::Bandwidth(asked) => bandwidth::execute(common, &asked),
        Command::LogLevel(asked) => log_level::execute(common, &asked),
        Command::Verify(asked) => verify::execute(common, &asked),
        Command::Doctor(asked) => doctor::execute(common, &asked),
        Command::Answers(asked) => Ok(doctor::answer(&asked)),
        Command::CheckConfig(check) => check_config::execute(common, &check),
        Command::Completions(asked) => documents::completions(&asked, &mut Arguments::command()),
        Command::Man(asked) => documents::man(&asked, Arguments::command()),
    }
}

/// Prints an error, its causes and its hint, once; returns the exit code.
fn report(error: &anyhow::Error) -> Exit {
    if render::is_broken_pipe(error) {
        return Exit::Fine;
    }
    let (exit, hint) = judge(error);
    let mut said = String::new();
    // A configuration has one line per problem; in anything else a line break belongs to a name.
    for cause in error.chain() {
        let text = match cause.downcast_ref::<crate::config::Problems>() {
            Some(problems) => problems.shown(),
            None => on_lines(&cause.to_string()),
        };
        if !said.ends_with(&text) {
            let joint = if said.is_empty() { "" } else { ": " };
            said = format!("{said}{joint}{text}");
        }
    }
    let hint = hint.map_or(String::new(), |hint| format!("\nhint: {hint}"));
    render::talk(&format!("dropferry: {said}{hint}"));
    exit
}

/// Escapes a text including its line breaks, except the one before a hint.
fn on_lines(text: &str) -> String {
    let pieces = text.split("\nhint: ").map(|piece| Shown(piece).to_string());
    pieces.collect::<Vec<_>>().join("\nhint: ")
}

fn judge(error: &anyhow::Error) -> (Exit, Option<String>) {
    use crate::daemon::Error as Daemon;
    if error.is::<crate::config::Problems>() {
        return (Exit::Configuration, None);
    }
    if let Some(error) = error.downcast_ref::<crate::control::Error>() {
        let is_running = !matches!(error, crate::control::Error::NotRunning { .. });
        return (if is_running { Exit::Failed } else { Exit::NotRunning }, error.hint());
    }
    let store = match error.downcast_ref::<Daemon>() {
        Some(Daemon::Store(store)) => Some(store),
        Some(Daemon::Configured(_)) => return (Exit::Configuration, None),
        Some(Daemon::Signals(_)) => return (Exit::Failed, None),
        None => error.downcast_ref::<crate::store::Error>(),
    };
    match store {
        Some(store) => (Exit::State, store.hint()),
        None => (Exit::Failed, None),
    }
}

impl Common {
    /// Reads the configuration.
    fn load(&self) -> Result<crate::config::Config, crate::config::Problems> {
        let environment = |name: &str| std::env::var(name).ok();
        let path = crate::config::locate(self.config.as_deref(), &environment);
        crate::config::Config::load(&path, &environment)
    }

    /// Reads only the path of the state from the configuration.
    fn state_directory(&self) -> Result<PathBuf, crate::config::Problems> {
        self.places().map(|places| places.state_directory)
    }

    /// Reads only the paths of the state and the control socket from the configuration.
    fn places(&self) -> Result<crate::config::Places, crate::config::Problems> {
        let environment = |name: &str| std::env::var(name).ok();
        let path = crate::config::locate(self.config.as_deref(), &environment);
        crate::config::Config::load_places(&path, &environment)
    }
}
