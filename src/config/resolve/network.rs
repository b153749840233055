//! `[network]`: the proxy, and certificates.

use std::time::Duration;

use toml::Spanned;

use super::Resolver;
use crate::config::raw;
use crate::platform::http;

impl Resolver<'_> {
    pub(super) fn network(&mut self, raw: raw::NetworkKeys) -> http::Settings {
        let ca_file = raw.ca_file.map(|file| (file.span(), self.below(&file)));
        if let Some((span, file)) = ca_file.as_ref().filter(|(_, file)| !file.is_file()) {
            let message = format!("ca_file {} is not there", file.display());
            self.problem(Some(span.clone()), message, None);
        }
        let proxy_credential = raw.proxy_credential.and_then(|credential| {
            let span = credential.span();
            let file = self.login("[network] proxy_credential", credential)?;
            if raw.proxy.is_none() {
                let message =
                    "proxy_credential is for the proxy that is named beside it".to_owned();
                self.problem(Some(span), message, Some("proxy = \"http://proxy.lab:3128\"".into()));
            }
            Some(file)
        });
        if let Some(proxy) = &raw.proxy {
            self.check_proxy(proxy);
        }
        http::Settings {
            proxy: raw.proxy.map(Spanned::into_inner),
            proxy_credential,
            no_proxy: raw.no_proxy.map(|list| list.as_ref().list().join(",")),
            ca_file: ca_file.map(|(_, file)| file),
            inactivity_timeout: self.duration(
                "inactivity_timeout",
                raw.inactivity_timeout,
                Duration::from_mins(1),
                Duration::from_millis(100),
            ),
        }
    }

    /// Refuses an invalid or unsupported proxy. The address is not repeated: it may contain a password.
    fn check_proxy(&mut self, proxy: &Spanned<String>) {
        let address = proxy.as_ref().to_ascii_lowercase();
        let (scheme, rest) = address.split_once("://").unwrap_or(("http", &address));
        let message = if rest.ends_with(".pac") || rest.ends_with("/wpad.dat") {
            "proxy is the address of a script (PAC), which is not run here"
        } else if !["http", "https"].contains(&scheme) {
            "proxy takes an http:// or https:// address: SOCKS is not spoken"
        } else {
            return;
        };
        let hint = "the script names the proxy: proxy = \"http://proxy.lab:3128\"";
        let hint =
            if message.contains("script") { hint } else { "proxy = \"http://proxy.lab:3128\"" };
        self.problem(Some(proxy.span()), message.to_owned(), Some(hint.to_owned()));
    }
}
