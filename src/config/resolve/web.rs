//! The status page: its address, its names, its password.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use toml::Spanned;

use super::super::raw;
use super::Resolver;
use crate::platform::secret::read_secret;
use crate::web::{Password, Settings};

/// Default address of the status page: only for this machine.
const DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8377);
/// A shorter password can be guessed.
const PASSWORD_LENGTH_MIN: usize = 8;

impl Resolver<'_> {
    /// Reads the settings of the status page.
    pub(super) fn web(&mut self, raw: raw::WebKeys) -> Option<Settings> {
        let raw::WebKeys { listen, password_file, hosts } = raw;
        let hosts: Vec<_> = hosts.iter().filter_map(|host| self.host(host)).collect();
        let password = password_file.as_ref().and_then(|file| self.password(file));
        let address = self.address(listen, password_file.is_some())?;
        Some(Settings { address, hosts, password })
    }

    /// Reads the password, which is alone in its file.
    fn password(&mut self, file: &Spanned<String>) -> Option<Password> {
        let path = self.below(file);
        self.check_secret(&path, file.span());
        let text = read_secret(&path, true).ok()?;
        let password = text.trim_end_matches(['\r', '\n']);
        if password.contains('\n') || password.chars().count() < PASSWORD_LENGTH_MIN {
            let message = format!("[web] password_file {} holds no password", path.display());
            let hint = format!("one line of at least {PASSWORD_LENGTH_MIN} characters is expected");
            self.problem(Some(file.span()), message, Some(hint));
            return None;
        }
        Some(Password(password.to_owned()))
    }

    fn address(
        &mut self,
        listen: Option<Spanned<String>>,
        has_password: bool,
    ) -> Option<SocketAddr> {
        let Some(listen) = listen else { return Some(DEFAULT) };
        if listen.as_ref() == "off" {
            return None;
        }
        // As most people write them.
        let written = match listen.as_ref().split_once(':') {
            Some(("localhost", port)) => format!("127.0.0.1:{port}"),
            Some(("", port)) => format!("0.0.0.0:{port}"),
            Some(_) | None => listen.as_ref().clone(),
        };
        let address: Option<SocketAddr> = written.parse().ok();
        if !has_password && address.is_some_and(|address| !address.ip().is_loopback()) {
            let message = format!(
                "[web] listen = {:?}: other machines reach it, and there is no password_file",
                listen.as_ref()
            );
            let hint =
                "password_file = \"web.pass\": a file of mode 600 with a password on one line; \
                or listen = \"127.0.0.1:8377\""
                    .to_owned();
            self.problem(Some(listen.span()), message, Some(hint));
        }
        if address.is_none() {
            let message = format!("listen = {:?} is no address", listen.as_ref());
            let hint = "an address and a port, such as \"127.0.0.1:8377\"; or \"off\"".to_owned();
            self.problem(Some(listen.span()), message, Some(hint));
        }
        address
    }

    /// A host is compared literally, so wildcards are refused.
    fn host(&mut self, host: &Spanned<String>) -> Option<String> {
        let name = host.as_ref();
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let is_name = !name.is_empty() && name.bytes().all(allowed);
        if is_name || name.parse::<IpAddr>().is_ok() {
            return Some(name.clone());
        }
        let message = format!("[web] hosts: {name:?} is not a host name");
        let hint = "a name or an address, without scheme, port and wildcards".to_owned();
        self.problem(Some(host.span()), message, Some(hint));
        None
    }
}
