//! `[notify]`: who is notified, by which channels, and of what.

mod mail;

use std::collections::BTreeSet;
use std::ops::Range;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;

use super::Resolver;
use crate::config::many::Many;
use crate::config::units::parse_size;
use crate::config::{ChannelConfig, NotifyConfig, raw};
use crate::engine::settings::{ChannelSettings, DiskFloor, NoticeSettings};
use crate::model::{ByteCount, Channel, NoticeKind, ReportPeriod};
use crate::notify::{Sender, command, heartbeat, webhook};
use crate::platform::http;
use crate::platform::secret::read_secret_bytes;

/// Faster beats show nothing more.
const EVERY_MIN: Duration = Duration::from_secs(1);

struct ChannelKeys {
    name: Option<Spanned<String>>,
    on: raw::WordList,
}

fn tables<T>(many: Option<Spanned<Many<T>>>) -> Vec<(Range<usize>, T)> {
    let Some(many) = many else { return Vec::new() };
    let span = many.span();
    match many.into_inner() {
        Many::One(table) => vec![(span, table)],
        Many::All(tables) => {
            tables.into_iter().map(|table| (table.span(), table.into_inner())).collect()
        }
    }
}

impl Resolver<'_> {
    pub(super) fn notify(
        &mut self,
        raw: raw::NotifyKeys,
        network: &http::Settings,
    ) -> NotifyConfig {
        let mut channels: Vec<ChannelConfig> = Vec::new();
        for (span, raw) in tables(raw.command) {
            let (common, sender) = self.command(&span, raw);
            self.add_channel("command", common, sender, &mut channels);
        }
        for (span, raw) in tables(raw.webhook) {
            let (common, sender) = self.webhook(&span, raw);
            self.add_channel("webhook", common, sender, &mut channels);
        }
        for (span, raw) in tables(raw.mail) {
            let (common, sender) = self.mail(&span, raw, network);
            self.add_channel("mail", common, sender, &mut channels);
        }
        let heartbeats = tables(raw.heartbeat).into_iter();
        let heartbeats = heartbeats.filter_map(|(span, raw)| self.heartbeat(&span, raw)).collect();
        let report = self.report(raw.report.as_ref(), &channels);
        let usual = NoticeSettings::default();
        let min = Duration::from_millis(1);
        let mut after = |key, value, usual| self.duration(key, value, usual, min);
        let unreachable_after =
            after("unreachable_after", raw.unreachable_after, usual.unreachable_after);
        let stuck_after = after("stuck_after", raw.stuck_after, usual.stuck_after);
        let disk_floor = raw.disk_free_min.and_then(|text| self.disk_floor(&text));
        let disk_floor = disk_floor.unwrap_or(usual.disk_floor);
        let notices = NoticeSettings { unreachable_after, stuck_after, disk_floor, report };
        NotifyConfig { channels, notices, heartbeats }
    }

    /// How often a summary is sent. It is a mistake if no channel gets it.
    fn report(
        &mut self,
        report: Option<&Spanned<String>>,
        channels: &[ChannelConfig],
    ) -> Option<ReportPeriod> {
        let periods = [("daily", ReportPeriod::Day), ("weekly", ReportPeriod::Week)];
        let period = self.choice("report", report, &periods);
        let is_wanted = channels.iter().any(|one| one.settings.on.contains(&NoticeKind::Report));
        if let Some(report) = report.filter(|_| !is_wanted) {
            let message = "no channel gets the report".to_owned();
            let hint = "a [notify] mail gets it unless its on leaves it out; others with \
                \"report\" in on";
            self.problem(Some(report.span()), message, Some(hint.into()));
        }
        period
    }

    /// Names a channel: by its kind, and its own name or its position among several.
    fn add_channel(
        &mut self,
        kind: &'static str,
        common: ChannelKeys,
        sender: Option<Sender>,
        channels: &mut Vec<ChannelConfig>,
    ) {
        let Some(sender) = sender else { return };
        let is_taken =
            |name: &str| channels.iter().any(|one| one.settings.channel.as_str() == name);
        let name = match &common.name {
            Some(name) => {
                self.check_name(&format!("[notify] {kind}"), name.as_ref(), &name.span());
                format!("{kind}.{}", name.as_ref())
            }
            None if !is_taken(kind) => kind.to_owned(),
            None => {
                let numbered = (2..).map(|n| format!("{kind}-{n}")).find(|name| !is_taken(name));
                numbered.unwrap_or_default()
            }
        };
        if is_taken(&name) {
            let message = format!("there are two [notify] {name}");
            let span = common.name.as_ref().map(Spanned::span);
            self.problem(span, message, Some("give each a name of its own".into()));
        }
        let on = self.kinds(common.on, kind == "mail");
        let settings = ChannelSettings { channel: Channel::new(name), on };
        channels.push(ChannelConfig { settings, sender });
    }

    fn command(
        &mut self,
        span: &Range<usize>,
        raw: raw::CommandKeys,
    ) -> (ChannelKeys, Option<Sender>) {
        let raw::CommandKeys { name, run, on } = raw;
        match run.first() {
            Some(program) => self.check_program(program),
            None if self.is_refused("notify.command", "run") => {}
            None => {
                let hint = "run = [\"/usr/local/bin/PROGRAM\"]".to_owned();
                let message = "[notify] command has no run".to_owned();
                self.problem(Some(span.clone()), message, Some(hint));
            }
        }
        let run = run.into_iter().map(Spanned::into_inner).collect();
        let sender = Sender::Command(command::Settings { run });
        (ChannelKeys { name, on }, Some(sender))
    }

    fn webhook(
        &mut self,
        span: &Range<usize>,
        raw: raw::WebhookKeys,
    ) -> (ChannelKeys, Option<Sender>) {
        let raw::WebhookKeys { name, url_file, secret_file, format, on } = raw;
        let formats = [
            ("json", webhook::WebhookFormat::Json),
            ("slack", webhook::WebhookFormat::Slack),
            ("teams", webhook::WebhookFormat::Teams),
        ];
        let format = self.choice("format", format.as_ref(), &formats);
        let secret_file = secret_file.map(|file| self.secret_file(&file));
        let url_file = self.url_file("webhook", url_file, span);
        let settings = url_file.map(|url_file| webhook::Settings {
            url_file,
            secret_file,
            format: format.unwrap_or(webhook::WebhookFormat::Json),
        });
        (ChannelKeys { name, on }, settings.map(Sender::Webhook))
    }

    fn heartbeat(
        &mut self,
        span: &Range<usize>,
        raw: raw::HeartbeatKeys,
    ) -> Option<heartbeat::Settings> {
        let url_file = self.url_file("heartbeat", raw.url_file, span);
        let every = self.duration("every", raw.every, Duration::from_mins(5), EVERY_MIN);
        Some(heartbeat::Settings { url_file: url_file?, every })
    }

    /// An address that is a secret: it is in a file of its own, and must be acceptable.
    fn url_file(
        &mut self,
        of: &str,
        file: Option<Spanned<String>>,
        span: &Range<usize>,
    ) -> Option<PathBuf> {
        let Some(file) = file else {
            if self.is_refused(&format!("notify.{of}"), "url_file") {
                return None;
            }
            let hint = "url_file = \"hook.url\": a file that holds the address alone".to_owned();
            let message = format!("[notify] {of} has no url_file");
            self.problem(Some(span.clone()), message, Some(hint));
            return None;
        };
        let path = self.secret_file(&file);
        let address = read_secret_bytes(&path, false).unwrap_or_default();
        let address = String::from_utf8(address).unwrap_or_default();
        if !address.is_empty()
            && let Err(failure) = http::parse_url(address.trim())
        {
            let message = format!("url_file {}: {}", path.display(), failure.message);
            let hint = "an https:// address; http:// is accepted on this machine only".to_owned();
            self.problem(Some(file.span()), message, Some(hint));
        }
        Some(path)
    }

    fn secret_file(&mut self, file: &Spanned<String>) -> PathBuf {
        let path = self.below(file);
        self.check_secret(&path, file.span());
        path
    }

    fn disk_floor(&mut self, text: &Spanned<String>) -> Option<DiskFloor> {
        let share = text.as_ref().strip_suffix('%').map(|share| share.trim().parse());
        let found = match share {
            Some(Ok(share @ 0..=90)) => Some(DiskFloor::Percent(share)),
            Some(_) => None,
            None => parse_size(text.as_ref()).ok().map(|size| DiskFloor::Bytes(ByteCount(size))),
        };
        if found.is_none() {
            let message = format!("disk_free_min = {:?} is not possible", text.as_ref());
            let hint = "allowed: 0% to 90%, or a size such as \"50 GB\"".to_owned();
            self.problem(Some(text.span()), message, Some(hint));
        }
        found
    }

    /// A program that cannot be run is reported here, and not at the first notice.
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

    fn kinds(&mut self, on: raw::WordList, is_mail: bool) -> BTreeSet<NoticeKind> {
        let Some(on) = on else {
            let is_usual = |kind: &NoticeKind| is_mail || *kind != NoticeKind::Report;
            return NoticeKind::all_told().filter(is_usual).collect();
        };
        let words: Vec<_> = NoticeKind::all_told().map(|kind| (kind.as_str(), kind)).collect();
        if on.as_ref().is_empty() {
            let hint = format!(
                "allowed: {}",
                words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ")
            );
            self.problem(Some(on.span()), "on = [] notifies of nothing".into(), Some(hint));
        }
        on.as_ref().iter().filter_map(|word| self.choice("on", Some(word), &words)).collect()
    }
}
