//! Messages to the supervisor: ready, status, reloading, stopping, alive.
//!
//! Owns the notification socket of systemd's `Type=notify`. Without `NOTIFY_SOCKET` every function
//! does nothing and succeeds, so that the daemon runs the same in a terminal. It promises never to
//! block for long (one datagram each) and never to change the environment: child processes are
//! started with an environment of their own.
//!
//! Only the daemon's loop may feed the watchdog, after a turn: a timer would call a hanging loop
//! alive. Errors are for the caller to log; no work depends on these messages.
//!
//! At a crash the supervisor sees the process end. Called by the daemon's loop.

use std::io;
use std::time::Duration;

use sd_notify::NotifyState;

/// Reports that recovery has loaded its rows and the loop runs.
///
/// # Errors
/// When there is a socket and it does not accept the message; so for all functions here.
pub(crate) fn ready(status: &str) -> io::Result<()> {
    sd_notify::notify(&[NotifyState::Ready, NotifyState::Status(&one_line(status))])
}

/// Reports the present activity in one line, which `systemctl status` shows.
pub(crate) fn status(text: &str) -> io::Result<()> {
    sd_notify::notify(&[NotifyState::Status(&one_line(text))])
}

/// Reports that the configuration is being read again; [`ready`] ends it.
///
/// # Errors
/// See [`ready`]; also when the monotonic clock cannot be read.
pub(crate) fn reloading() -> io::Result<()> {
    sd_notify::notify(&[NotifyState::Reloading, NotifyState::monotonic_usec_now()?])
}

/// Reports that the daemon drains and will exit.
pub(crate) fn stopping(status: &str) -> io::Result<()> {
    sd_notify::notify(&[NotifyState::Stopping, NotifyState::Status(&one_line(status))])
}

/// Reports that the loop has turned.
pub(crate) fn watchdog() -> io::Result<()> {
    sd_notify::notify(&[NotifyState::Watchdog])
}

/// Returns how often [`watchdog`] should be called: half of what the supervisor allows; `None` when
/// it does not watch this process.
pub(crate) fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|allowed| allowed / 2)
}

/// A line break would begin another assignment of the protocol.
fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;
    use std::process::Command;

    use super::*;

    /// Sends every message once; the test below runs it in a child process, because this one's
    /// environment is shared.
    #[test]
    fn says_everything() {
        ready("up\nMAINPID=1").unwrap();
        status("3 uploads").unwrap();
        reloading().unwrap();
        watchdog().unwrap();
        stopping("draining").unwrap();
        if std::env::var_os("WATCHDOG_USEC").is_some() {
            assert_eq!(watchdog_interval(), Some(Duration::from_secs(15)));
        }
    }

    #[test]
    fn supervisor_hears_it() {
        let directory = tempfile::tempdir().unwrap();
        let address = directory.path().join("notify");
        let socket = UnixDatagram::bind(&address).unwrap();
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "sdnotify::tests::says_everything"])
            .env("NOTIFY_SOCKET", &address)
            .env("WATCHDOG_USEC", "30000000")
            .env_remove("WATCHDOG_PID")
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        socket.set_nonblocking(true).unwrap();
        let mut heard = Vec::new();
        let mut buffer = [0; 512];
        while let Ok(length) = socket.recv(&mut buffer) {
            heard.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
        }
        assert_eq!(heard.len(), 5, "{heard:?}");
        assert_eq!(heard[0], "READY=1\nSTATUS=up MAINPID=1\n");
        assert_eq!(heard[1], "STATUS=3 uploads\n");
        assert!(heard[2].starts_with("RELOADING=1\nMONOTONIC_USEC="), "{heard:?}");
        assert_eq!(heard[3], "WATCHDOG=1\n");
        assert_eq!(heard[4], "STOPPING=1\nSTATUS=draining\n");
    }
}
