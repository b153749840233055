//! `login`: reads a credential, checks it, and stores it.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use clap::Args;

use super::prompt::Prompt;
use super::secret_file::DraftFile;
use super::{Common, Exit, render};
use crate::clock::Clock;
use crate::config::{
    Config, CredentialPlace, PLATFORM_WORDS, PlatformWord, Problems, locate, nearest_words,
};
use crate::daemon;
use crate::model::{Failure, FailureKind, Shown, WallTime};
use crate::platform::credential::end_of_web_token;
use crate::receipt::rfc3339;

/// The address of most BaseSpace accounts.
pub(super) const BASESPACE: &str = "https://api.basespace.illumina.com/v1pre3";

#[derive(Debug, Args)]
pub(super) struct LoginArguments {
    /// A destination of the configuration; or cavatica, cgc, bdc, sevenbridges, basespace, gjirafa-vp or s3
    #[arg(value_name = "DESTINATION|PLATFORM")]
    name: String,
    /// Write the credential into FILE
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Finds the platform of a word.
pub(super) fn platform_word(word: &str) -> Option<PlatformWord> {
    PLATFORM_WORDS.into_iter().find(|known| known.word == word)
}

pub(super) fn execute(common: &Common, asked: &LoginArguments) -> anyhow::Result<Exit> {
    let environment = |name: &str| std::env::var(name).ok();
    let path = locate(common.config.as_deref(), &environment);
    let configured = match Config::load_credential_place(&path, &asked.name, &environment) {
        Ok(found) => found,
        // A platform's word needs no configuration.
        Err(_) if platform_word(&asked.name).is_some() && std::fs::File::open(&path).is_err() => {
            None
        }
        Err(problems) => return Err(problems.into()),
    };
    let word = configured.as_ref().map_or(&asked.name, |place| &place.platform);
    let word = platform_word(word).ok_or_else(|| unknown(&asked.name, configured.as_ref()))?;
    let file = place(&path, asked, configured.as_ref())?;
    let secret = ask(&Prompt::new(), word.platform)?;
    let end = end_of_web_token(&secret);
    if let Some(end) = end.filter(|end| *end <= Clock::real().now().wall) {
        bail!("this token ended at {}: fetch another", rfc3339(end));
    }
    let state = common.state_directory().ok();
    let draft = DraftFile::write(&file, &secret, state.as_deref())
        .with_context(|| file.display().to_string())?;
    let config = match configured.is_some() {
        true => Some(Config::load_destination(&path, &asked.name, draft.path(), &environment)),
        false => alone(&path, word, draft.path()),
    };
    let failed = match config {
        Some(Ok(config)) => online(&config, configured.is_some(), end)?,
        Some(Err(problems)) => {
            render::talk(&format!("{} is not asked: {problems}", asked.name));
            true
        }
        None => {
            render::talk(&format!("{} is not asked whose it is", asked.name));
            false
        }
    };
    draft.keep().with_context(|| file.display().to_string())?;
    render::talk(&format!("stored in {} (mode 600)", file.display()));
    if configured.is_none() || asked.output.is_some() {
        render::data(&format!("credential = {{ file = {} }}", quoted(&absolute(&file))))?;
    }
    Ok(if failed { Exit::Failed } else { Exit::Fine })
}

fn unknown(name: &str, configured: Option<&CredentialPlace>) -> anyhow::Error {
    if let Some(place) = configured {
        return anyhow!("destination {name} has no platform that exists: {:?}", place.platform);
    }
    let words = PLATFORM_WORDS.map(|known| known.word);
    let near = nearest_words(name, &words, 1);
    let near = near.first().map_or(String::new(), |near| format!("; did you mean {near:?}?"));
    anyhow!(
        "{name} is no destination of the configuration and no platform ({}){near}",
        words.join(", ")
    )
}

/// Returns the file to write.
fn place(
    config: &Path,
    asked: &LoginArguments,
    configured: Option<&CredentialPlace>,
) -> anyhow::Result<PathBuf> {
    if let Some(file) = &asked.output {
        return Ok(file.clone());
    }
    if let Some(place) = configured {
        let why = "is not kept in a file of its own: write it with --output FILE";
        return place.file.clone().ok_or_else(|| anyhow!("the credential of {} {why}", asked.name));
    }
    let beside = config.with_file_name(format!("{}.token", asked.name));
    let is_there = beside.parent().is_some_and(Path::is_dir);
    Ok(if is_there { beside } else { format!("{}.token", asked.name).into() })
}

/// Prompts for a credential, and returns the content of its file.
fn ask(prompt: &Prompt, platform: &str) -> anyhow::Result<String> {
    if platform == "s3" { keys(prompt) } else { prompt.only_secret("Token") }
}

/// Prompts for a pair of keys, and returns it in the format of AWS's tools.
pub(super) fn keys(prompt: &Prompt) -> anyhow::Result<String> {
    let key = prompt.secret("Access key ID")?;
    let secret = prompt.secret("Secret access key")?;
    Ok(format!("[default]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n"))
}

/// Builds a configuration with one platform, and the network of the existing one; `None` where its
/// address is unknown, or it cannot be asked for the account of a credential.
fn alone(path: &Path, word: PlatformWord, credential: &Path) -> Option<Result<Config, Problems>> {
    let base_url = match word.word {
        "basespace" => Some(BASESPACE),
        _ => word.base_url,
    }?;
    let table: Option<toml::Table> =
        std::fs::read_to_string(path).ok().and_then(|text| text.parse().ok());
    let network = table.and_then(|mut table| table.remove("network"));
    let network = network.map(|network| toml::Table::from_iter([("network".into(), network)]));
    let text = format!(
        "{}[state]\ndirectory = \"/nowhere\"\n[destinations.{word}]\nplatform = \"{word}\"\n\
         base_url = \"{base_url}\"\nproject = \"any/any\"\ncredential = {{ file = {} }}\n",
        network.map_or(String::new(), |network| network.to_string()),
        quoted(&absolute(credential)),
        word = word.word,
    );
    Some(Config::parse(path, &text, &|name| std::env::var(name).ok()))
}

fn absolute(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}

/// Quotes a text for TOML.
pub(super) fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// Asks the one destination of a configuration for the account of the credential and, if its
/// project is a real one, whether it permits writing. Returns whether any of that failed.
///
/// # Errors
/// When the platform refuses the credential.
pub(super) fn online(
    config: &Config,
    is_placed: bool,
    end: Option<WallTime>,
) -> anyhow::Result<bool> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let clients = daemon::clients(config, &Clock::real())?;
    let Some((target, (name, client))) = config.destinations.first().zip(clients.first()) else {
        return Ok(false);
    };
    let found = runtime.block_on(async {
        let account = client.account().await?;
        if is_placed {
            client.check_access().await?;
        }
        Ok(account)
    });
    // A DNS look-up that hangs must not delay the end of the process.
    runtime.shutdown_background();
    let account: Option<String> = match found {
        Ok(account) => account,
        Err(Failure { kind: FailureKind::Unauthorized, message, .. }) => {
            bail!("{name} does not take this credential: {}", Shown(&message))
        }
        Err(failure) => {
            render::talk(&format!("{name}: {}", Shown(&failure.to_string())));
            return Ok(true);
        }
    };
    let account = account.map(|account| format!("as {}", Shown(&account)));
    let about: Vec<_> =
        account.into_iter().chain(end.map(|end| format!("until {}", rfc3339(end)))).collect();
    let about = if about.is_empty() { String::new() } else { format!(" ({})", about.join(", ")) };
    let container = target.address().container;
    let place = if is_placed { format!(" and may write to {container}") } else { String::new() };
    render::talk(&format!("{name}: the credential is accepted{place}{about}"));
    Ok(false)
}
