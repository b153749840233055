//! `init`: asks for the settings, writes a configuration and its credential, and tests them.
//!
//! A script gives the answers on standard input, one line for each question.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;

use super::login::{self, BASESPACE, platform_word, quoted};
use super::prompt::Prompt;
use super::secret_file::DraftFile;
use super::{Common, Exit, render};
use crate::config::{Config, PLATFORM_WORDS, PlatformWord, locate, nearest_words};
use crate::source::profile::NAMES;

#[derive(Debug, Args)]
pub(super) struct InitArguments {
    /// Make no network requests
    #[arg(long)]
    offline: bool,
}

/// The answers.
struct InitAnswers {
    platform: PlatformWord,
    /// The lines of the destination's target.
    target: String,
    /// The content of the credential's file.
    secret: String,
    directory: PathBuf,
    profile: &'static str,
}

pub(super) fn execute(common: &Common, asked: &InitArguments) -> anyhow::Result<Exit> {
    let environment = |name: &str| std::env::var(name).ok();
    let path = locate(common.config.as_deref(), &environment);
    let path = std::path::absolute(&path)?;
    let before = before(&path)?;
    let answers = ask(&Prompt::new())?;
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
    }
    let token = path.with_file_name(format!("{}.token", answers.platform.word));
    let text = format!("{before}{}", lines(&answers, &token));
    let state = common.state_directory().ok();
    let draft = DraftFile::write(&token, &answers.secret, state.as_deref())
        .with_context(|| token.display().to_string())?;
    // Checked with the draft credential, before that is in its place.
    let name = |file: &Path| file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let drafted = text.replace(&quoted(&name(&token)), &quoted(&name(draft.path())));
    let config = Config::parse(&path, &drafted, &environment)?;
    let failed = match asked.offline {
        true => false,
        false => login::online(&config, true, None)?,
    };
    draft.keep().with_context(|| token.display().to_string())?;
    write(&path, &text).with_context(|| path.display().to_string())?;
    render::talk(&format!("{} and {} (mode 600) are written", path.display(), token.display()));
    let next = match path.starts_with("/etc") {
        true => "systemctl enable --now dropferry".to_owned(),
        false => format!("dropferry run --config {}", path.display()),
    };
    render::talk(&format!("next: {next}"));
    Ok(if failed { Exit::Failed } else { Exit::Fine })
}

/// Returns the existing text, if it configures nothing yet.
fn before(path: &Path) -> anyhow::Result<String> {
    if !path.exists() {
        return Ok(String::new());
    }
    if !Config::is_blank(path)? {
        bail!(
            "{} has drop directories or destinations already: edit it, or name another by --config FILE",
            path.display()
        );
    }
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    Ok(format!("{}\n\n", text.trim_end()))
}

fn ask(prompt: &Prompt) -> anyhow::Result<InitAnswers> {
    let words = PLATFORM_WORDS.map(|known| known.word);
    let question = format!("Platform ({})", words.join(", "));
    let platform = prompt.ask(&question, Some("cavatica"), |word| {
        platform_word(word).ok_or_else(|| unknown(word, &words))
    })?;
    let target = target(prompt, platform)?;
    let secret = match platform.platform {
        "s3" => login::keys(prompt)?,
        _ => prompt.secret("Token")?,
    };
    let directory = prompt.ask("Drop directory", None, |path| {
        let path = std::path::absolute(path).map_err(|error| error.to_string())?;
        match path.is_dir() {
            true => Ok(path),
            false => Err(format!("{} is no directory: make it first", path.display())),
        }
    })?;
    let question = format!("Instrument or other profile ({})", NAMES.join(", "));
    let profile = prompt.ask(&question, Some(NAMES[0]), |word| {
        NAMES.into_iter().find(|name| *name == word).ok_or_else(|| unknown(word, &NAMES))
    })?;
    Ok(InitAnswers { platform, target, secret, directory, profile })
}

fn unknown(word: &str, known: &[&str]) -> String {
    match nearest_words(word, known, 1).first() {
        Some(near) => format!("there is no {word:?}; did you mean {near:?}?"),
        None => format!("there is no {word:?}"),
    }
}

/// Asks for the lines of a target.
fn target(prompt: &Prompt, word: PlatformWord) -> anyhow::Result<String> {
    let text = |answer: &str| Ok(answer.to_owned());
    let mut lines = String::new();
    let mut add = |key: &str, value: &str| lines += &format!("{key} = {}\n", quoted(value));
    add("platform", word.word);
    let region = match word.platform {
        "s3" => Some(prompt.ask("Region", Some("us-east-1"), text)?),
        _ => None,
    };
    let usual = match word.platform {
        "sevenbridges" => Some("https://api.sbgenomics.com/v2".to_owned()),
        "basespace" => Some(BASESPACE.to_owned()),
        "s3" => region.as_ref().map(|region| format!("https://s3.{region}.amazonaws.com")),
        _ => None,
    };
    if word.base_url.is_none() {
        add("base_url", &prompt.ask("Address of the API", usual.as_deref(), text)?);
    }
    region.iter().for_each(|region| add("region", region));
    let (question, key) = match word.platform {
        "sevenbridges" => ("Project (owner/name)", "project"),
        "basespace" => ("Project (id or name)", "project"),
        "s3" => ("Bucket", "bucket"),
        _ => ("Project", "project"),
    };
    add(key, &prompt.ask(question, None, text)?);
    match word.platform {
        "sevenbridges" => add("folder", "{drop}"),
        "s3" => add("prefix", "{drop}/"),
        _ => {}
    }
    Ok(lines)
}

/// Returns the tables of a destination and a drop directory.
fn lines(answers: &InitAnswers, token: &Path) -> String {
    let InitAnswers { platform, target, directory, profile, .. } = answers;
    let word = platform.word;
    let file = token.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let name = directory.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_".contains(c) { c } else { '-' };
    let name: String = name.chars().map(plain).collect();
    let name = if name.is_empty() { "data".to_owned() } else { name };
    format!(
        "[destinations.{word}]\n{target}credential = {{ file = {} }}\n\n[drops.{name}]\ndirectory = {}\n\
         destinations = [\"{word}\"]\nprofile = \"{profile}\"\n",
        quoted(&file),
        quoted(&directory.display().to_string()),
    )
}

fn write(path: &Path, text: &str) -> std::io::Result<()> {
    // An existing file keeps its owner and mode.
    let mut file = std::fs::File::create(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
