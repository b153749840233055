//! The status page: whether its address is free, and which process uses it otherwise.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;

use super::lines::Checks;
use crate::config::Config;
use crate::control::user_shown;
use crate::store::snapshot::Status;

/// The state of a listening socket in `/proc/net/tcp`.
const LISTENING: &str = "0A";

pub(super) fn check(config: &Config, status: Option<&Status>) -> Checks {
    let mut checks = Checks::of("page");
    let Some(settings) = &config.web else { return checks };
    let address = settings.address;
    // A port that the system chooses is always available.
    if address.port() == 0 {
        return checks;
    }
    let name = address.to_string();
    let running = status.map(|status| &status.process).filter(|process| process.is_running);
    let running = running.and_then(|process| process.daemon.as_ref());
    match TcpListener::bind(address) {
        Ok(_) if running.is_some() => checks.warn(
            &name,
            "the daemon does not serve it",
            "systemctl reload dropferry; its log says why, if it is not served then",
        ),
        Ok(_) => checks.ok(&name, "it can be taken"),
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            let holder = holder(address);
            if running.is_some_and(|daemon| holder.is_process(daemon.pid)) {
                return with(checks, &name, "the daemon serves it");
            }
            let who = holder.shown();
            let cure = "end that program, or set [web] listen to another address, or to \"off\"";
            checks.fail(&name, format!("{who} has this address: there is no status page"), cure);
        }
        Err(error) => {
            let cure = "set [web] listen to an address of this machine, such as \"127.0.0.1:8377\"";
            checks.fail(&name, format!("it cannot be taken: {error}"), cure);
        }
    }
    checks
}

fn with(mut checks: Checks, name: &str, found: &str) -> Checks {
    checks.ok(name, found);
    checks
}

/// The listener on a port, as far as this user may see it.
#[derive(Debug, Default)]
struct Holder {
    /// The process, with the name of its program.
    process: Option<(u32, String)>,
    /// The owners of the sockets.
    users: BTreeSet<u32>,
}

impl Holder {
    /// Returns whether it may be this process: only its own user sees a process's files, or nobody.
    fn is_process(&self, pid: u32) -> bool {
        match &self.process {
            Some((holder, _)) => *holder == pid,
            None => user_of(pid).is_none_or(|user| self.users.contains(&user)),
        }
    }

    fn shown(&self) -> String {
        match (&self.process, self.users.first()) {
            (Some((pid, program)), _) if program == "dropferry" => {
                format!("another dropferry (process {pid})")
            }
            (Some((pid, program)), _) => format!("{program} (process {pid})"),
            (None, Some(user)) => format!("a program of user {}", user_shown(*user)),
            (None, None) => "another program".to_owned(),
        }
    }
}

/// Returns the user of a process.
fn user_of(pid: u32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let users = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    users.split_ascii_whitespace().nth(1)?.parse().ok()
}

fn holder(address: SocketAddr) -> Holder {
    let tables = ["tcp", "tcp6"].map(|name| std::fs::read_to_string(format!("/proc/net/{name}")));
    let tables = tables.map(Result::unwrap_or_default);
    let lines = tables.iter().flat_map(|table| table.lines());
    let sockets: Vec<_> = lines.filter_map(|line| listening(line, address.port())).collect();
    let users = sockets.iter().map(|(user, _)| *user).collect();
    let sockets: Vec<_> =
        sockets.iter().map(|(_, inode)| PathBuf::from(format!("socket:[{inode}]"))).collect();
    let holds = |pid: &u32| {
        let files = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten();
        files
            .filter_map(|file| std::fs::read_link(file.ok()?.path()).ok())
            .any(|to| sockets.contains(&to))
    };
    let entries = std::fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let process = pids.into_iter().find(holds).and_then(|pid: u32| {
        let program = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        Some((pid, program.trim().to_owned()))
    });
    Holder { process, users }
}

/// Returns user and inode of a socket that listens on a port, from a line of the kernel's table.
fn listening(line: &str, port: u16) -> Option<(u32, u64)> {
    let fields: Vec<_> = line.split_ascii_whitespace().collect();
    let (_, found) = fields.get(1)?.rsplit_once(':')?;
    let is_ours = u16::from_str_radix(found, 16) == Ok(port) && *fields.get(3)? == LISTENING;
    let inode = fields.get(9).filter(|_| is_ours)?.parse().ok()?;
    Some((fields.get(7)?.parse().ok()?, inode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_listens_is_found_by_its_socket() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let holder = holder(listener.local_addr().expect("an address"));
        let found = holder.process.as_ref().map(|(pid, _)| *pid);
        assert_eq!(found, Some(std::process::id()));
        assert!(holder.is_process(std::process::id()) && !holder.is_process(1));
        let other = Holder { process: Some((7, "nginx".into())), ..Holder::default() };
        assert_eq!(other.shown(), "nginx (process 7)");
        let hidden = Holder { process: None, users: holder.users };
        assert!(hidden.is_process(std::process::id()), "it may be");
        assert!(hidden.shown().starts_with("a program of user "), "{hidden:?}");
        let others = Holder { process: None, users: BTreeSet::from([12_345]) };
        assert!(!others.is_process(std::process::id()), "it is another user's");
    }
}
