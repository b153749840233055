//! Questions to a person, or to a script that answers on standard input, one line for each.

use std::io::{self, BufRead, IsTerminal, Read};

use anyhow::{Context, bail};
use console::Term;

use super::render;
use crate::platform::shape::{text_of, token_of};

/// Limit of an answer's length.
const ANSWER_MAX: u64 = 64 * 1024;
/// Attempts for a question whose answer is unusable.
const TRIES: usize = 3;

pub(super) struct Prompt {
    terminal: Option<Term>,
}

impl Prompt {
    pub(super) fn new() -> Self {
        Self { terminal: io::stdin().is_terminal().then(Term::stderr) }
    }

    fn tries(&self) -> usize {
        if self.terminal.is_some() { TRIES } else { 1 }
    }

    /// Asks until the answer is usable. An empty answer means the default.
    pub(super) fn ask<T>(
        &self,
        question: &str,
        default: Option<&str>,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> anyhow::Result<T> {
        let shown = default.map_or(String::new(), |default| format!(" [{default}]"));
        let mut wrong = String::new();
        for _ in 0..self.tries() {
            render::talk(&format!("{question}{shown}:"));
            let line = read_line().with_context(|| question.to_owned())?;
            let answer = Some(line.trim()).filter(|line| !line.is_empty()).or(default);
            match answer.map_or_else(|| Err("an answer is needed".to_owned()), &read) {
                Ok(answer) => return Ok(answer),
                Err(why) => wrong = why,
            }
            render::talk(&wrong);
        }
        bail!("{question}: {wrong}")
    }

    /// Prompts for a secret, without echo.
    pub(super) fn secret(&self, question: &str) -> anyhow::Result<String> {
        self.secret_from(question, || read_line().map(String::into_bytes))
    }

    /// As [`Self::secret`]; a script's whole input is the answer.
    pub(super) fn only_secret(&self, question: &str) -> anyhow::Result<String> {
        self.secret_from(question, || {
            let mut all = Vec::new();
            io::stdin().lock().take(ANSWER_MAX).read_to_end(&mut all)?;
            Ok(all)
        })
    }

    fn secret_from(
        &self,
        question: &str,
        read: impl Fn() -> anyhow::Result<Vec<u8>>,
    ) -> anyhow::Result<String> {
        let mut wrong = "";
        for _ in 0..self.tries() {
            let answer = match &self.terminal {
                Some(terminal) => {
                    terminal.write_str(&format!("{question} (it does not appear): "))?;
                    terminal.read_secure_line()?.into_bytes()
                }
                None => read()?,
            };
            match text_of(&answer).and_then(token_of) {
                Ok(secret) => {
                    crate::telemetry::register_secret(secret);
                    return Ok(secret.to_owned());
                }
                Err(why) => wrong = why,
            }
            if self.terminal.is_some() {
                render::talk(wrong);
            }
        }
        bail!("{question}: {wrong}")
    }
}

fn read_line() -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    io::stdin().lock().take(ANSWER_MAX).read_until(b'\n', &mut bytes)?;
    if bytes.is_empty() {
        bail!("standard input ends before the answer");
    }
    text_of(&bytes).map(str::to_owned).map_err(|why| anyhow::anyhow!("{why}"))
}
