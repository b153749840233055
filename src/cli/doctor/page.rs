//! The status page: may its address be taken, and who has it if not?

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;

use super::lines::Checks;
use crate::config::Config;
use crate::store::snapshot::Status;

/// The state of a listening socket in the kernel's tables.
const LISTENING: &str = "0A";

pub(super) fn check(config: &Config, status: Option<&Status>) -> Checks {
    let mut checks = Checks::of("page");
    let Some(settings) = &config.web else { return checks };
    let address = settings.address;
    // A port of the system's choice is always there.
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
            if running.is_some_and(|daemon| holder.as_ref().is_none_or(|h| h.pid == daemon.pid)) {
                return with(checks, &name, "the daemon serves it");
            }
            let who = holder.map_or("another program".to_owned(), |holder| holder.shown());
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

/// A process that listens.
#[derive(Debug)]
struct Holder {
    pid: u32,
    /// The name of its program.
    program: String,
}

impl Holder {
    fn shown(&self) -> String {
        match self.program.as_str() {
            "dropferry" => format!("another dropferry (process {})", self.pid),
            program => format!("{program} (process {})", self.pid),
        }
    }
}

/// Returns who listens on a port, where this user may see it.
fn holder(address: SocketAddr) -> Option<Holder> {
    let tables = ["tcp", "tcp6"].map(|name| std::fs::read_to_string(format!("/proc/net/{name}")));
    let tables = tables.map(Result::unwrap_or_default);
    let sockets: Vec<_> = tables
        .iter()
        .flat_map(|table| table.lines())
        .filter_map(|line| listening(line, address.port()))
        .map(|inode| PathBuf::from(format!("socket:[{inode}]")))
        .collect();
    let holds = |pid: u32| {
        let files = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten();
        files
            .filter_map(|file| std::fs::read_link(file.ok()?.path()).ok())
            .any(|to| sockets.contains(&to))
    };
    let entries = std::fs::read_dir("/proc").ok()?.filter_map(Result::ok);
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let pid = pids.into_iter().find(|pid| holds(*pid))?;
    let program = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(Holder { pid, program: program.trim().to_owned() })
}

/// Returns the inode of a socket that listens on a port, of a line of the kernel's table.
fn listening(line: &str, port: u16) -> Option<u64> {
    let fields: Vec<_> = line.split_ascii_whitespace().collect();
    let (_, found) = fields.get(1)?.rsplit_once(':')?;
    let is_ours = u16::from_str_radix(found, 16) == Ok(port) && *fields.get(3)? == LISTENING;
    fields.get(9).filter(|_| is_ours)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_listens_is_found_by_its_socket() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let holder =
            holder(listener.local_addr().expect("an address")).expect("it is this process");
        assert_eq!(holder.pid, std::process::id());
        let other = Holder { pid: 7, program: "nginx".into() };
        assert_eq!(other.shown(), "nginx (process 7)");
    }
}
