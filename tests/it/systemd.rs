//! The package and its service, on a machine whose first process is systemd.
//!
//! `DROPFERRY_PACKAGE` names the .deb under test, which `systemd/package` makes. Without one, or if
//! namespaces are not available, the tests are skipped; so they are if `tests/servers/machine
//! install` has not been run, unless `DROPFERRY_OTHERS=required`: then they fail.

mod machine;
mod readme;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::stage::{Options, Stage, TOKEN, noise, until};
use machine::{Machine, package};

/// The bytes of a part, as the sandbox wants it.
const PART: u64 = 65536;
const PARTS_IN_FLIGHT: u64 = 4;
/// So slow that a file of three mebibytes takes seconds.
const SLOW: &str = "bandwidth = \"500 KiB/s\"";
const FAST: &str = "bandwidth = \"unlimited\"";
/// What an operator writes for a token of the configuration.
const CREDENTIAL: &str =
    "[Service]\nLoadCredential=cavatica:/etc/dropferry/cavatica.token\nRestartSec=200ms\n";

struct Lab {
    stage: Stage,
    machine: Machine,
}

impl Lab {
    /// A machine with the package installed and everything configured as the documents say, and
    /// with nothing started.
    fn new() -> Option<Self> {
        let package = package()?;
        let stage =
            Stage::new(Options { switches: "{\"part_size\": 65536}", ..Options::default() });
        stage.write("run/large.fastq", &noise(3 << 20, 1));
        stage.write("run/small.fastq", &noise(3000, 2));
        // Nobody may enter it without an entry in its ACL.
        fs::set_permissions(stage.drop(), fs::Permissions::from_mode(0o700)).expect("set");
        let mut machine = Machine::new(stage.drop());
        fs::copy(package, machine.packages().join("dropferry.deb")).expect("copied");
        machine.boot();
        machine.said("apt-get install -qy /srv/dropferry.deb");
        let lab = Self { stage, machine };
        lab.write("/etc/dropferry/cavatica.token", TOKEN);
        lab.write("/etc/systemd/system/dropferry.service.d/local.conf", CREDENTIAL);
        lab.configure(SLOW);
        lab.said("setfacl -R -m u:dropferry:rX,d:u:dropferry:rX /data/drop");
        lab.said("systemctl daemon-reload");
        Some(lab)
    }

    fn said(&self, script: &str) -> String {
        self.machine.said(script)
    }

    /// Writes a file of the machine that only root may read; `/etc/dropferry` admits the daemon's
    /// group.
    fn write(&self, place: &str, text: &str) {
        let place_here = self.machine.packages().join("written");
        fs::write(&place_here, text).expect("written");
        self.said(&format!("mkdir -p $(dirname {place}); install -m 600 /srv/written {place}"));
    }

    fn configure(&self, transfer: &str) {
        self.configure_drop(transfer, "");
    }

    fn configure_drop(&self, transfer: &str, drop: &str) {
        let text = format!(
            "[state]\ndirectory = \"/var/lib/dropferry\"\n[transfer]\n\
             parts_in_flight = {PARTS_IN_FLIGHT}\n{transfer}\n\
             [web]\nlisten = \"off\"\n\
             [retry]\ndelay_min = \"50ms\"\ndelay_max = \"1s\"\n\
             [destinations.cavatica]\nplatform = \"sevenbridges\"\nbase_url = \"{}\"\n\
             project = \"lab/demo\"\nfolder = \"runs\"\ncredential = {{ systemd = \"cavatica\" }}\n\
             [drops.lab]\ndirectory = \"/data/drop\"\ndestinations = [\"cavatica\"]\n\
             quiet_period = \"50ms\"\nscan_interval = \"500ms\"\n{drop}\n",
            self.stage.url("/v2")
        );
        self.write("/etc/dropferry/config.toml", &text);
        self.said(
            "chgrp dropferry /etc/dropferry/config.toml; chmod 640 /etc/dropferry/config.toml",
        );
    }

    fn status(&self) -> Value {
        serde_json::from_str(&self.said("dropferry status --json --all")).expect("JSON")
    }

    /// A property of the unit, as systemd reports it.
    fn unit(&self, property: &str) -> String {
        self.said(&format!("systemctl show dropferry --property {property} --value"))
    }

    fn log(&self) -> String {
        self.said("journalctl --unit dropferry --output cat --no-pager")
    }

    /// Waits until the large file is being sent, and has several finished parts.
    fn until_mid_upload(&self) {
        let what = format!("parts are accepted; the log:\n{}", self.log());
        until(&what, || {
            let accepted = self.status()["bytes"]["accepted"].as_u64()?;
            (accepted >= 5 * PART).then_some(())
        });
        assert_ne!(self.status()["counts"]["completed"], 2, "it is not in mid-upload");
    }

    /// Waits until the supervisor has started the daemon again by itself.
    fn until_restarted(&self) {
        until("the daemon was started again", || {
            let restarts: u32 = self.unit("NRestarts").parse().expect("a number");
            (restarts > 0 && self.unit("ActiveState") == "active").then_some(())
        });
    }

    fn until_completed(&self) {
        let what = || format!("all is completed; the log:\n{}", self.log());
        until(&what(), || (self.status()["counts"]["completed"] == 2).then_some(()));
    }

    /// Every byte is at the destination, and few were sent there twice.
    fn assert_there(&self, cuts: u64) {
        self.until_completed();
        let sent_again = self.status()["bytes"]["sent_again"].as_u64().expect("a count");
        let bound = cuts * PARTS_IN_FLIGHT * PART;
        assert!(sent_again <= bound, "{sent_again} bytes were sent again, of {bound} at most");
        self.said("cp -r /var/lib/dropferry /srv/state");
        let state = self.machine.packages().join("state");
        std::os::unix::fs::symlink(state, self.stage.path("state")).expect("linked");
        self.stage.assert_all_there();
    }
}

#[test]
fn a_first_installation_is_complete_and_starts_nothing() {
    let Some(lab) = Lab::new() else { return };
    assert_eq!(lab.machine.run("systemctl is-enabled dropferry").status.code(), Some(1));
    assert_eq!(lab.unit("ActiveState"), "inactive");
    let rights = |place: &str| lab.said(&format!("stat -c '%a %U:%G' {place}"));
    assert_eq!(rights("/etc/dropferry"), "750 root:dropferry");
    for place in [
        "/usr/share/man/man1/dropferry.1.gz",
        "/usr/share/man/man1/dropferry-status.1.gz",
        "/usr/share/bash-completion/completions/dropferry",
        "/usr/share/zsh/vendor-completions/_dropferry",
        "/usr/share/fish/vendor_completions.d/dropferry.fish",
    ] {
        lab.said(&format!("test -s {place}"));
    }
    // As shipped, it does nothing and reports so.
    lab.said(
        "dpkg-deb --fsys-tarfile /srv/dropferry.deb | tar xO ./etc/dropferry/config.toml >/tmp/c",
    );
    lab.said("cat /tmp/c >/etc/dropferry/config.toml; systemctl start dropferry");
    assert_eq!(rights("/var/lib/dropferry"), "750 dropferry:dropferry");
    assert_eq!(rights("/etc/dropferry/config.toml"), "640 root:dropferry");
    let shown = until("a status line", || {
        Some(lab.unit("StatusText")).filter(|text| text != "what is under way is loaded")
    });
    assert_eq!(shown, "no drop directory is configured in /etc/dropferry/config.toml");
    assert_eq!(lab.status()["daemon"]["running"], true, "commands find the service's state");
}

#[test]
fn a_service_with_a_credential_uploads() {
    let Some(lab) = Lab::new() else { return };
    lab.configure("bandwidth = \"150 KiB/s\"");
    // It returns when the daemon is READY.
    lab.said("systemctl start dropferry");
    assert_eq!(lab.unit("ActiveState"), "active");
    lab.until_mid_upload();
    until("a rate is told", || {
        let shown = lab.unit("StatusText");
        (shown.starts_with("1 to send; ") && shown.ends_with(" KiB/s")).then_some(())
    });
    lab.until_completed();
    assert_eq!(lab.unit("NRestarts"), "0");
    let uid = lab.said(
        "ps -o user= -p $(systemctl show -P MainPID dropferry) || stat -c %U \
         /proc/$(systemctl show -P MainPID dropferry)",
    );
    assert_eq!(uid, "dropferry");
    // A member of the group, with no other rights, may look and ask.
    let member = "setpriv --reuid nobody --regid dropferry --clear-groups dropferry";
    for command in ["status --check", "show 1", "receipts", "pause --all", "resume --all"] {
        lab.said(&format!("{member} {command}"));
    }
    let stranger = "setpriv --reuid nobody --regid nogroup --clear-groups dropferry status";
    assert!(!lab.machine.run(stranger).status.success());
    lab.assert_there(0);
}

#[test]
fn the_watchdog_starts_a_daemon_that_hangs_again() {
    let Some(lab) = Lab::new() else { return };
    lab.write(
        "/etc/systemd/system/dropferry.service.d/watchdog.conf",
        "[Service]\nWatchdogSec=2s\n",
    );
    lab.said("systemctl daemon-reload; systemctl start dropferry");
    lab.until_mid_upload();
    lab.said("systemctl kill --kill-whom main --signal STOP dropferry");
    lab.until_restarted();
    assert!(lab.log().contains("Watchdog timeout"), "{}", lab.log());
    lab.assert_there(1);
}

#[test]
fn a_killed_daemon_goes_on_by_itself() {
    let Some(lab) = Lab::new() else { return };
    lab.said("systemctl start dropferry");
    lab.until_mid_upload();
    lab.said("systemctl kill --signal KILL dropferry");
    lab.until_restarted();
    lab.assert_there(1);
}

#[test]
fn after_a_power_cut_it_goes_on_by_itself() {
    let Some(mut lab) = Lab::new() else { return };
    lab.said("systemctl enable --now dropferry");
    lab.until_mid_upload();
    // In practice, what an operator wrote has reached the disk long before.
    lab.said("sync");
    lab.machine.cut_power();
    lab.machine.boot();
    lab.assert_there(1);
}

#[test]
fn a_cause_that_passes_is_waited_for() {
    let Some(lab) = Lab::new() else { return };
    lab.said("mv /etc/dropferry/config.toml /etc/dropferry/later; echo '[drop]' >/etc/dropferry/config.toml");
    lab.said("systemctl start dropferry || true");
    // More often than any usual limit on starts allows.
    until("it was tried again and again", || {
        let restarts: u32 = lab.unit("NRestarts").parse().expect("a number");
        (restarts > 6).then_some(())
    });
    lab.said("mv /etc/dropferry/later /etc/dropferry/config.toml");
    lab.assert_there(0);
}

#[test]
fn a_good_configuration_is_taken_and_a_bad_one_refused() {
    let Some(lab) = Lab::new() else { return };
    lab.said("systemctl start dropferry");
    let pid = lab.unit("MainPID");
    lab.until_mid_upload();

    lab.configure("bandwidth = \"quick\"");
    let refused = lab.machine.run("systemctl reload dropferry");
    assert!(!refused.status.success(), "a bad configuration is not taken in silence");
    assert!(lab.log().contains("/etc/dropferry/config.toml:5: "), "{}", lab.log());
    // A reload needs no privileges of a person.
    lab.said("systemctl kill --kill-whom main --signal HUP dropferry");
    until("the daemon refuses it itself", || {
        lab.log().contains("the configuration is refused, the old one stays").then_some(())
    });
    let before = lab.status()["bytes"]["accepted"].as_u64();
    until("it uploads on", || (lab.status()["bytes"]["accepted"].as_u64() > before).then_some(()));

    lab.configure(FAST);
    lab.said("systemctl reload dropferry");
    until("the daemon takes it", || {
        lab.log().contains("the configuration was read again").then_some(())
    });
    lab.until_completed();
    assert_eq!((lab.unit("MainPID"), &*lab.unit("NRestarts")), (pid, "0"));
    lab.assert_there(0);
}

/// Makes the same package with a later version.
fn later(machine: &Machine) {
    let (here, tree) = (machine.packages(), machine.packages().join("tree"));
    let run = |program: &str, arguments: &[&Path]| {
        let status = Command::new(program).args(arguments).status().expect("it runs");
        assert!(status.success(), "{program}");
    };
    run("dpkg-deb", &[Path::new("--raw-extract"), &here.join("dropferry.deb"), &tree]);
    let control = tree.join("DEBIAN/control");
    let text = fs::read_to_string(&control).expect("read");
    let line = |line: &str| match line.strip_prefix("Version: ") {
        Some(_) => "Version: 99.0-1\n".to_owned(),
        None => format!("{line}\n"),
    };
    fs::write(&control, text.lines().map(line).collect::<String>()).expect("written");
    run("dpkg-deb", &[Path::new("-Zgzip"), Path::new("--build"), &tree, &here.join("later.deb")]);
}

#[test]
fn an_upgrade_goes_on_and_a_removal_keeps_what_a_purge_removes() {
    let Some(lab) = Lab::new() else { return };
    later(&lab.machine);
    lab.said("systemctl enable --now dropferry");
    let pid = lab.unit("MainPID");
    lab.until_mid_upload();
    lab.said("apt-get install -qy /srv/later.deb");
    assert_eq!(lab.said("dpkg-query -f '${Version}' -W dropferry"), "99.0-1");
    assert_ne!(lab.unit("MainPID"), pid, "the later program runs");
    assert_eq!(lab.unit("ActiveState"), "active");
    lab.said("systemctl is-enabled dropferry; grep -q lab/demo /etc/dropferry/config.toml");
    lab.assert_there(0);

    lab.said("apt-get remove -qy dropferry");
    lab.said("test -s /var/lib/dropferry/dropferry.db; test -d /var/lib/dropferry/receipts/lab");
    lab.said("! systemctl is-active dropferry; ! test -e /usr/bin/dropferry");
    lab.said("apt-get install -qy /srv/later.deb; systemctl start dropferry");
    assert_eq!(lab.status()["counts"]["completed"], 2, "the state is the old one");

    lab.said("apt-get purge -qy dropferry");
    lab.said("! test -e /var/lib/dropferry; ! test -e /etc/dropferry/config.toml");
    lab.said("! systemctl is-active dropferry; ! systemctl is-enabled dropferry");
    lab.said("test -s /etc/dropferry/cavatica.token");
}

#[test]
fn a_share_that_is_mounted_after_the_start_is_seen() {
    let Some(lab) = Lab::new() else { return };
    lab.configure(FAST);
    lab.said("mkdir /mnt/share; sed -i s,/data/drop,/mnt/share, /etc/dropferry/config.toml");
    lab.said("systemctl start dropferry");
    lab.said("mount --bind /data/drop /mnt/share");
    lab.assert_there(0);
}

#[test]
fn sources_are_deleted_where_a_drop_in_allows_it() {
    let Some(lab) = Lab::new() else { return };
    lab.configure_drop(FAST, "disposition = \"delete\"\ndisposition_grace = \"0s\"");
    lab.said("systemctl start dropferry");
    lab.until_completed();
    until("the refusal is told", || lab.log().contains("is not disposed of").then_some(()));
    assert!(lab.stage.drop().join("run/large.fastq").exists(), "it is read-only without it");

    lab.write(
        "/etc/systemd/system/dropferry.service.d/dispose.conf",
        "[Service]\nReadWritePaths=/data/drop\n",
    );
    lab.said("setfacl -R -m u:dropferry:rwX,d:u:dropferry:rwX /data/drop");
    lab.said("systemctl daemon-reload; systemctl restart dropferry");
    until("the sources are gone", || (!lab.stage.drop().join("run").exists()).then_some(()));
}

/// The shell blocks of a document, in order.
fn blocks(page: &str) -> Vec<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(page);
    let text = fs::read_to_string(page).expect("read");
    let blocks = text.split("```sh\n").skip(1);
    blocks.map(|block| block.split("```").next().expect("it ends").to_owned()).collect()
}

#[test]
fn what_the_documents_say_of_restoring_and_moving_is_done_as_it_is_written() {
    let Some(lab) = Lab::new() else { return };
    lab.configure(FAST);
    lab.said("sed -i 's/^directory = .*dropferry\"$/&\\nbackup_interval = \"1s\"/' /etc/dropferry/config.toml");
    // A token that a shell can check as well; those of systemd are available to the service only.
    lab.said(
        "sed -i 's/{ systemd = .* }/{ file = \"cavatica.token\" }/' /etc/dropferry/config.toml",
    );
    lab.said("chown dropferry /etc/dropferry/cavatica.token");
    lab.said("systemctl start dropferry");
    lab.until_completed();
    let copied = || lab.status()["database"]["backup_at"].as_str().map(str::to_owned);
    let before = copied();
    until("a copy is made of all that", || copied().filter(|_| copied() != before));
    let received = lab.stage.ledger()["bytes_received"].clone();

    let [restore, rebuild, pack, unpack] = &blocks("backup.md")[..] else { panic!("four blocks") };
    for (lost, again) in [("true", restore), ("rm /var/lib/dropferry/dropferry.db", rebuild)] {
        lab.said(&format!("set -e\nsystemctl stop dropferry\n{lost}\n{again}"));
        assert_eq!(lab.unit("ActiveState"), "active");
        lab.until_completed();
        assert_eq!(lab.stage.ledger()["bytes_received"], received, "nothing was sent twice");
    }

    lab.said(&format!("set -e\ncd /root\n{pack}"));
    lab.said("rm -rf /var/lib/dropferry /etc/dropferry");
    lab.said(&format!("set -e\ncd /root\n{unpack}"));
    lab.until_completed();
    assert_eq!(lab.stage.ledger()["bytes_received"], received, "nothing was sent twice");

    let troubleshooting = blocks("troubleshooting.md").concat();
    lab.said(&format!("set -e\n{troubleshooting}"));
    // The journal has the details of a line as fields of their own.
    let entries = lab.said("journalctl --unit dropferry --output json --no-pager");
    let is_verified = |entry: &Value| {
        entry["MESSAGE"].as_str().is_some_and(|line| line.contains(" is at cavatica: "))
            && entry["DROPFERRY_UPLOAD_ID"] == "1"
            && entry["SYSLOG_IDENTIFIER"] == "dropferry"
            && entry["PRIORITY"] == "6"
    };
    let entries = entries.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    assert!(entries.filter(is_verified).count() > 0, "{}", lab.log());
    lab.assert_there(0);
}
