//! A machine whose first process is systemd: a small Debian in namespaces of its own, with the
//! network of the test, so that the destination outlives it.

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use super::super::skipped::{skipped, skipped_by_machine};
use super::super::stage::until;

pub(super) struct Machine {
    home: tempfile::TempDir,
    name: String,
    drop: PathBuf,
    nspawn: Option<Child>,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn script() -> PathBuf {
    root().join("tests/servers/machine")
}

/// Returns the package under test, unless the test is skipped.
pub(super) fn package() -> Option<PathBuf> {
    let Some(package) = std::env::var_os("DROPFERRY_PACKAGE") else {
        skipped_by_machine("DROPFERRY_PACKAGE names no .deb; systemd/package makes one");
        return None;
    };
    let package = root().join(package);
    assert!(package.is_file(), "{} is not there", package.display());
    if !root().join("target/servers/machine/etc/dropferry-machine").exists() {
        skipped("there is no machine; tests/servers/machine install makes it");
        return None;
    }
    let nspawn = Command::new("systemd-nspawn").arg("--version").output();
    if nspawn.is_err() {
        skipped("systemd-nspawn is not installed");
        return None;
    }
    let probe = apart().args(["sweep", "dropferry-probe"]).output().expect("unshare runs");
    if !probe.status.success() {
        let why = String::from_utf8_lossy(&probe.stderr).into_owned();
        skipped_by_machine(&format!("namespaces are not to be had: {why}"));
        return None;
    }
    Some(package)
}

/// The script, in a mount namespace of its own.
fn apart() -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private"]).arg(script());
    command
}

impl Machine {
    /// Makes a machine that has never run, with its own place for what it writes.
    pub(super) fn new(drop: PathBuf) -> Self {
        let home = tempfile::Builder::new().prefix("machine-").tempdir_in(root().join("target"));
        let home = home.expect("a directory");
        let place = home.path().file_name().expect("named").to_string_lossy().into_owned();
        // The characters that a host name may have.
        let name = place.chars().filter(|c| c.is_ascii_alphanumeric()).collect();
        fs::create_dir(home.path().join("packages")).expect("made");
        Self { home, name, drop, nspawn: None }
    }

    /// Where the machine finds packages, as `/srv`.
    pub(super) fn packages(&self) -> PathBuf {
        self.home.path().join("packages")
    }

    pub(super) fn boot(&mut self) {
        let console = fs::File::create(self.home.path().join("console")).expect("made");
        let nspawn = apart()
            .arg("boot")
            .arg(self.home.path())
            .arg(&self.name)
            .arg(&self.drop)
            .stdin(Stdio::null())
            .stdout(console.try_clone().expect("opened"))
            .stderr(console)
            .spawn()
            .expect("unshare runs");
        self.nspawn = Some(nspawn);
        let console = self.home.path().join("console");
        until("the machine is up", || {
            let ended = self.nspawn.as_mut().expect("spawned").try_wait().expect("asked");
            let said = || fs::read_to_string(&console).unwrap_or_default();
            assert!(ended.is_none(), "it does not boot: {}", said());
            let output = self.try_run("systemctl is-system-running")?;
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            ["running", "degraded"].contains(&said.trim()).then_some(())
        });
    }

    fn pid(&self) -> u32 {
        self.nspawn.as_ref().expect("it was booted").id()
    }

    /// The first process of the machine, once it is systemd.
    fn init(&self) -> Option<u32> {
        let pid = self.pid();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
        let init = children.split_whitespace().next()?.parse().ok()?;
        let name = fs::read_to_string(format!("/proc/{init}/comm")).ok()?;
        (name.trim() == "systemd").then_some(init)
    }

    fn try_run(&self, script: &str) -> Option<Output> {
        let init = self.init()?.to_string();
        let mut command = Command::new("nsenter");
        command.args(["-a", "-t", &init, "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"]);
        command.args(["DEBIAN_FRONTEND=noninteractive", "HOME=/root", "LC_ALL=C.UTF-8"]);
        command.args(["sh", "-c", script]).stdin(Stdio::null()).output().ok()
    }

    /// Runs a script in the machine, as root.
    pub(super) fn run(&self, script: &str) -> Output {
        self.try_run(script).expect("the machine is up")
    }

    /// Runs a script that succeeds, and returns what it printed.
    pub(super) fn said(&self, script: &str) -> String {
        let output = self.run(script);
        let (out, talk) = (
            String::from_utf8_lossy(&output.stdout).into_owned(),
            String::from_utf8_lossy(&output.stderr),
        );
        let journal = || {
            let last = self.run("journalctl --boot --no-pager --lines 20").stdout;
            String::from_utf8_lossy(&last).into_owned()
        };
        assert!(output.status.success(), "{script}: {out}{talk}\n{}", journal());
        out.trim().to_owned()
    }

    /// Ends every process of the machine at one moment.
    pub(super) fn cut_power(&mut self) {
        let Some(mut nspawn) = self.nspawn.take() else { return };
        let group = format!("/proc/{}/root/sys/fs/cgroup/{}", nspawn.id(), self.name);
        let events = fs::File::open(format!("{group}/cgroup.events"));
        // A machine that did not come as far as to have a group has no other process.
        if fs::write(format!("{group}/cgroup.kill"), "1").is_err() {
            nspawn.kill().ok();
        }
        nspawn.wait().expect("reaped");
        let Ok(mut events) = events else { return };
        until("the last process is gone", || {
            let mut text = String::new();
            events.seek(SeekFrom::Start(0)).ok()?;
            events.read_to_string(&mut text).ok()?;
            text.contains("populated 0").then_some(())
        });
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.cut_power();
        apart().args(["sweep", &self.name]).status().ok();
    }
}
