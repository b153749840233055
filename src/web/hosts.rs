//! The host names of this machine, so that no page of another site reads this one through a browser
//! of the lab (DNS rebinding).

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::Request;
use axum::http::header::HOST;

/// The names of this machine.
#[derive(Debug, Clone)]
pub(super) struct HostNames {
    /// The local address of the connection.
    pub(super) local: IpAddr,
    pub(super) hosts: Arc<[String]>,
}

impl HostNames {
    /// Returns whether a request names this machine and no other: in its one `Host`, and in an
    /// absolute target.
    pub(super) fn are_asked(&self, request: &Request) -> bool {
        let mut named = request.headers().get_all(HOST).iter();
        let (host, more) = (named.next(), named.next());
        let is_host_ours =
            host.and_then(|host| host.to_str().ok()).is_some_and(|host| self.include(host));
        let is_target_ours = request.uri().authority().is_none_or(|to| self.include(to.as_str()));
        is_host_ours && more.is_none() && is_target_ours
    }

    /// Compares exactly: a name below ours, or one that begins with ours, may belong to someone
    /// else. An address is ours if it is a loopback address, the connection's local address, or
    /// configured; the short forms of addresses (`127.1`) are names.
    pub(super) fn include(&self, host: &str) -> bool {
        let Some(name) = without_port(host) else { return false };
        if let Ok(address) = name.parse::<IpAddr>()
            && (address.is_loopback() || address == self.local)
        {
            return true;
        }
        let node = rustix::system::uname();
        let node = node.nodename().to_string_lossy();
        let configured = self.hosts.iter().map(String::as_str);
        let mut names = configured.chain(["localhost", node.as_ref()]);
        !name.is_empty() && names.any(|own| own.eq_ignore_ascii_case(name))
    }
}

/// Removes the port and the brackets of an IPv6 address from a `Host`. The port is not compared: a
/// tunnel may use another one.
fn without_port(host: &str) -> Option<&str> {
    let (name, rest) = match host.strip_prefix('[') {
        Some(bracketed) => {
            let (name, rest) = bracketed.split_once(']')?;
            name.parse::<std::net::Ipv6Addr>().ok()?;
            (name, rest)
        }
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    let is_port = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    (rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> HostNames {
        let hosts = ["seq-07.lab.example".to_owned(), "10.9.8.7".to_owned()];
        HostNames { local: IpAddr::from([10, 0, 0, 7]), hosts: hosts.into() }
    }

    #[test]
    fn only_exact_names_and_addresses_of_this_machine_are_ours() {
        let node = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let ours = [
            "127.0.0.1:8377",
            "127.0.0.1",
            "127.8.9.1:80",
            "[::1]:8377",
            "[::1]",
            "localhost",
            "LocalHost:9000",
            "10.0.0.7",
            "10.9.8.7:8377",
            "SEQ-07.lab.example:8377",
            &node,
            &format!("{node}:8377"),
        ];
        for host in ours {
            assert!(names().include(host), "{host}");
        }
    }

    #[test]
    fn names_and_addresses_of_others_are_refused() {
        let node = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let below = format!("{node}.evil.example");
        let with_port = format!("{below}:8377");
        let others = [
            "evil.example",
            "evil.example:8377",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "seq-07",
            "seq-07.lab.example.evil.example",
            "evil.seq-07.lab.example",
            "seq-07.lab.example.",
            &below,
            &with_port,
            "1.2.3.4",
            "10.0.0.8",
            "[fe80::1]",
            "[localhost]",
            "[::1",
            "::1",
            "127.1",
            "0x7f.1",
            "2130706433",
            "localhost:",
            "localhost:80:80",
            "localhost:80x",
            "user@localhost",
            "localhost,evil.example",
            "localhost/",
            "",
            ":80",
        ];
        for host in others {
            assert!(!names().include(host), "{host}");
        }
    }
}
