//! Where the status page is served, and under which names.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use toml::Spanned;

use super::super::raw;
use super::Resolver;
use crate::web::Settings;

/// Where the status page is served by default: for this machine alone.
const DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8377);

impl Resolver<'_> {
    /// Reads where the status page is served.
    pub(super) fn web(&mut self, raw: raw::WebKeys) -> Option<Settings> {
        let hosts: Vec<_> = raw.hosts.iter().filter_map(|host| self.host(host)).collect();
        self.address(raw.listen).map(|address| Settings { address, hosts })
    }

    fn address(&mut self, listen: Option<Spanned<String>>) -> Option<SocketAddr> {
        let Some(listen) = listen else { return Some(DEFAULT) };
        if listen.as_ref() == "off" {
            return None;
        }
        let address: Option<SocketAddr> = listen.as_ref().parse().ok();
        if address.is_some_and(|address| !address.ip().is_loopback()) {
            let message = format!(
                "[web] listen = {:?}: whoever reaches it may read names and states of files",
                listen.as_ref()
            );
            self.warn(listen.span(), message);
        }
        if address.is_none() {
            let message = format!("listen = {:?} is no address", listen.as_ref());
            let hint = "an address and a port, such as \"127.0.0.1:8377\"; or \"off\"".to_owned();
            self.problem(Some(listen.span()), message, Some(hint));
        }
        address
    }

    /// A host is compared as it stands, so nothing that stands for several may be in it.
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
