//! `[notify] mail`: recipients, server, and trust.

use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;

use super::{ChannelKeys, Resolver};
use crate::config::problem::example;
use crate::config::raw;
use crate::notify::{Sender, mail};
use crate::platform::http;

impl Resolver<'_> {
    pub(super) fn mail(
        &mut self,
        span: &Range<usize>,
        raw: raw::MailKeys,
        network: &http::Settings,
    ) -> (ChannelKeys, Option<Sender>) {
        self.check_addresses(span, &raw);
        let server = self.server(span, raw.smtp.as_ref(), raw.tls.as_ref());
        let credential = raw
            .credential
            .and_then(|credential| self.login("the credential of [notify] mail", credential));
        let common = ChannelKeys { name: raw.name, on: raw.on };
        let Some((host, port, tls)) = server else { return (common, None) };
        if tls == mail::Tls::None && credential.is_some() && !is_here(&host) {
            let message = format!("a password for {host} would be sent as it is");
            let hint = "leave out tls = \"none\", or the credential".to_owned();
            self.problem(Some(span.clone()), message, Some(hint));
        }
        let settings = mail::Settings {
            to: raw.to.into_iter().map(Spanned::into_inner).collect(),
            from: raw.from.map(Spanned::into_inner).unwrap_or_default(),
            host,
            port,
            tls,
            user: raw.user.map(Spanned::into_inner),
            credential,
            ca_file: network.ca_file.clone(),
        };
        (common, Some(Sender::Mail(settings)))
    }

    fn check_addresses(&mut self, span: &Range<usize>, raw: &raw::MailKeys) {
        for (key, is_missing) in [("to", raw.to.is_empty()), ("from", raw.from.is_none())] {
            if is_missing && !self.is_refused("notify.mail", key) {
                let message = format!("[notify] mail has no {key}");
                self.problem(Some(span.clone()), message, example("notify", key));
            }
        }
        for address in raw.to.iter().chain(&raw.from) {
            if !mail::is_address(address.as_ref()) {
                let message = format!("{:?} is no mail address", address.as_ref());
                let hint =
                    "such as \"seq@lab.example\" or \"The lab <seq@lab.example>\"".to_owned();
                self.problem(Some(address.span()), message, Some(hint));
            }
        }
    }

    fn server(
        &mut self,
        span: &Range<usize>,
        smtp: Option<&Spanned<String>>,
        tls: Option<&Spanned<String>>,
    ) -> Option<(String, u16, mail::Tls)> {
        let kinds = [
            ("starttls", mail::Tls::Starttls),
            ("tls", mail::Tls::Always),
            ("none", mail::Tls::None),
        ];
        let asked = self.choice("tls", tls, &kinds);
        let Some(smtp) = smtp else {
            if !self.is_refused("notify.mail", "smtp") {
                let message = "[notify] mail has no smtp".to_owned();
                self.problem(Some(span.clone()), message, example("notify", "smtp"));
            }
            return None;
        };
        let (host, port) = match smtp.as_ref().rsplit_once(':') {
            Some((host, port)) => (host, port.parse().ok()),
            None => (smtp.as_ref().as_str(), Some(usual_port(asked))),
        };
        let host = host.trim_matches(['[', ']']);
        let is_host = !host.is_empty() && !host.contains(['/', ' ', '@']);
        let Some(port) = port.filter(|_| is_host) else {
            // Not repeated: a password may have been written with it.
            let message = "smtp is no server".to_owned();
            let hint = "a name and a port, such as \"smtp.lab.example:587\"".to_owned();
            self.problem(Some(smtp.span()), message, Some(hint));
            return None;
        };
        let usual = if port == 465 { mail::Tls::Always } else { mail::Tls::Starttls };
        Some((host.to_owned(), port, asked.unwrap_or(usual)))
    }

    /// The location of a password: a file, or a credential of systemd.
    pub(in crate::config::resolve) fn login(
        &mut self,
        what: &str,
        raw: Spanned<raw::CredentialKeys>,
    ) -> Option<PathBuf> {
        let span = raw.span();
        let inner = raw.into_inner();
        let is_other = inner.profile.is_some() || inner.source.is_some();
        let file = match (inner.file, inner.systemd) {
            (Some(file), None) if !is_other => Some(self.below(&file)),
            (None, Some(name)) if !is_other => (self.environment)("CREDENTIALS_DIRECTORY")
                .map(|directory| Path::new(&directory).join(name.as_ref())),
            _ => None,
        };
        let Some(file) = file else {
            let message = format!("{what} is not there");
            let hint = "{ file = \"…\" }; or { systemd = \"…\" } in a service with LoadCredential=";
            self.problem(Some(span), message, Some(hint.into()));
            return None;
        };
        self.check_secret(&file, span);
        Some(file)
    }
}

fn usual_port(tls: Option<mail::Tls>) -> u16 {
    match tls {
        Some(mail::Tls::Always) => 465,
        Some(mail::Tls::None) => 25,
        Some(mail::Tls::Starttls) | None => 587,
    }
}

fn is_here(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
