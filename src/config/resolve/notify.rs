//! `[notify]`: how people are told, and of what.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use toml::Spanned;

use super::Resolver;
use crate::config::{Told, raw};
use crate::model::NoticeKind;
use crate::notify::{Sender, command};

impl Resolver<'_> {
    pub(super) fn notify(&mut self, raw: raw::Notify) -> Vec<Told> {
        self.refuse(raw.webhook.as_ref().map(Spanned::span), "[notify] webhook");
        self.refuse(raw.mail.as_ref().map(Spanned::span), "[notify] mail");
        self.refuse(raw.heartbeat.as_ref().map(Spanned::span), "[notify] heartbeat");
        raw.command.map(|command| self.command(command)).into_iter().collect()
    }

    fn command(&mut self, raw: Spanned<raw::Command>) -> Told {
        let (span, raw::Command { run, on }) = (raw.span(), raw.into_inner());
        match run.first() {
            Some(program) => self.check_program(program),
            None => {
                let hint = "run = [\"/usr/local/bin/PROGRAM\"]".to_owned();
                self.problem(Some(span), "[notify] command has no run".into(), Some(hint));
            }
        }
        let run = run.into_iter().map(Spanned::into_inner).collect();
        Told { sender: Sender::Command(command::Settings { run }), on: self.kinds(on) }
    }

    /// A program that cannot be run is found now, and not when there is something to say.
    fn check_program(&mut self, program: &Spanned<String>) {
        let path = Path::new(program.as_ref());
        let metadata = std::fs::metadata(path);
        let (wrong, hint) = if !path.is_absolute() {
            ("is not an absolute path", "it is run without a shell: write it from / on".to_owned())
        } else if !metadata.as_ref().is_ok_and(std::fs::Metadata::is_file) {
            ("is not there", "name a file that is there".to_owned())
        } else if metadata.is_ok_and(|found| found.permissions().mode() & 0o111 == 0) {
            ("is not executable", format!("chmod +x {}", path.display()))
        } else {
            return;
        };
        let message = format!("run = {:?} {wrong}", program.as_ref());
        self.problem(Some(program.span()), message, Some(hint));
    }

    fn kinds(&mut self, on: Option<Spanned<Vec<Spanned<String>>>>) -> BTreeSet<NoticeKind> {
        let Some(on) = on else { return NoticeKind::ALL.into() };
        let words = NoticeKind::ALL.map(NoticeKind::as_str);
        if on.as_ref().is_empty() {
            let hint = format!("allowed: {}", words.join(", "));
            self.problem(Some(on.span()), "on = [] tells nothing".into(), Some(hint));
        }
        let found = on.as_ref().iter().filter_map(|word| self.choice("on", Some(word), &words));
        found.map(|index| NoticeKind::ALL[index]).collect()
    }
}
