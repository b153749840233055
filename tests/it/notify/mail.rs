//! Mail, through a real server that wants STARTTLS and a login, with kills in between.

use std::collections::BTreeSet;
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;
use serde_json::Value;

use super::super::others::{program, root};
use super::super::stage::{Options, Stage, until, walk};
use super::{DROP, add, until_told, write_secret};

const PASSWORD: &str = "planted-mail-password";

struct Server {
    child: Child,
    directory: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Server {
    /// Starts a server that gives these replies to messages, and then 250.
    fn start(replies: &str) -> Option<Self> {
        program("aiosmtpd")?;
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("replies"), replies).expect("written");
        let child = Command::new(program("python3")?)
            .arg(root().join("tests/servers/smtp.py"))
            .arg(directory.path())
            .args(["lab", PASSWORD])
            .stderr(Stdio::inherit())
            .spawn()
            .expect("python runs");
        let server = Self { child, directory };
        until("the server listens", || server.directory.path().join("port").exists().then_some(()));
        Some(server)
    }

    fn stage(&self, more: &str) -> Stage {
        let network = "inactivity_timeout = \"2s\"\nca_file = \"ca.pem\"";
        let stage =
            Stage::new(Options { drop: DROP, level: "trace", network, ..Options::default() });
        let (from, to) = (self.directory.path().join("ca.pem"), stage.path("ca.pem"));
        std::fs::copy(from, to).expect("copied");
        write_secret(&stage, "smtp.pass", &format!("lab:{PASSWORD}"));
        let port = std::fs::read_to_string(self.directory.path().join("port")).expect("read");
        let lines = format!(
            "[notify.mail]\nto = [\"seq@lab.example\", \"The Chief <chief@lab.example>\"]\n\
             from = \"dropferry <dropferry@lab.example>\"\nsmtp = \"127.0.0.1:{port}\"\n\
             credential = {{ file = \"smtp.pass\" }}\non = [\"run-completed\"]\n{more}\n"
        );
        add(&stage, &lines);
        stage
    }

    /// Every message that came, in order.
    fn tries(&self) -> Vec<Value> {
        let mut files = walk(self.directory.path());
        files.retain(|path| path.to_string_lossy().contains("/try."));
        files.sort();
        let read = |path| serde_json::from_slice(&std::fs::read(path).expect("read"));
        files.into_iter().map(|path| read(path).expect("JSON")).collect()
    }
}

fn header<'a>(mail: &'a Value, name: &str) -> &'a str {
    let content = mail["content"].as_str().expect("text");
    let start = format!("{name}: ");
    content.lines().find_map(|line| line.strip_prefix(&start)).unwrap_or("")
}

/// The name of this machine, which tells a reader which of forty machines a message is from.
fn node() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[test]
fn a_mail_goes_encrypted_and_logged_in_and_each_fact_has_one_message_id_after_kills() {
    let Some(server) = Server::start("451 4.3.0 later\nhang\n250 OK\n250 OK\n") else { return };
    let mut stage = server.stage("");
    write_secret(&stage, "smtp.pass", "lab:another");
    stage.write("run1/a.txt", b"hello");
    stage.start();
    let refused = until("the login is refused", || {
        stage.status()["notices"]["failure"].as_str().map(str::to_owned)
    });
    assert!(refused.contains("535") && refused.contains("unauthorized"), "{refused}");
    assert!(server.tries().is_empty());

    write_secret(&stage, "smtp.pass", &format!("lab:{PASSWORD}"));
    until("it was taken and not answered", || (server.tries().len() == 2).then_some(()));
    stage.signal(Signal::KILL);
    stage.wait_for_end();
    stage.start();
    until_told(&stage);
    stage.write("run2/b.txt", b"world");
    until("the other is there", || (server.tries().len() == 4).then_some(()));
    until_told(&stage);

    let tries = server.tries();
    let replies: Vec<_> = tries.iter().filter_map(|mail| mail["reply"].as_str()).collect();
    assert_eq!(replies, ["451 4.3.0 later", "hang", "250 OK", "250 OK"]);
    assert!(tries[..3].iter().all(|mail| mail["content"] == tries[0]["content"]), "{tries:?}");
    for mail in &tries {
        assert_eq!((&mail["encrypted"], &mail["login"]), (&true.into(), &true.into()));
        assert_eq!(mail["to"], serde_json::json!(["seq@lab.example", "chief@lab.example"]));
    }
    let ids: BTreeSet<_> = tries.iter().map(|mail| header(mail, "Message-ID")).collect();
    assert_eq!(ids.len(), 2, "one for each fact: {ids:?}");
    assert!(ids.iter().all(|id| id.ends_with(".dropferry@lab.example>")), "{ids:?}");
    assert_eq!(header(&tries[0], "Subject"), format!("[dropferry {}] run1 is complete", node()));
    assert_eq!(header(&tries[0], "Auto-Submitted"), "auto-generated");
    let content = tries[3]["content"].as_str().expect("text");
    for line in ["run2 of lab is all at to-sevenbridges: 1 file, 5 B", "Size:             5 B"] {
        assert!(content.contains(line), "{content}");
    }
    assert!(!stage.log().contains("planted"), "the log shows the password");
}

#[test]
fn a_server_that_is_not_trusted_is_told_nothing() {
    let Some(server) = Server::start("") else { return };
    let mut stage = server.stage("");
    let config = std::fs::read_to_string(stage.path("config.toml")).expect("read");
    let config = config.replace("ca_file = \"ca.pem\"\n", "");
    std::fs::write(stage.path("config.toml"), config).expect("written");
    stage.write("run1/a.txt", b"hello");
    stage.start();
    let failure =
        until("it says why", || stage.status()["notices"]["failure"].as_str().map(str::to_owned));
    assert!(failure.contains("certificate"), "{failure}");
    assert!(server.tries().is_empty());
}

#[test]
fn a_report_is_sent_once_for_its_period_also_by_the_next_start() {
    let Some(server) = Server::start("") else { return };
    let mut stage = server.stage("");
    let config = std::fs::read_to_string(stage.path("config.toml")).expect("read");
    let config = config.replace("on = [\"run-completed\"]", "on = [\"report\"]");
    let config = format!("{config}\n[notify]\nreport = \"weekly\"\n");
    std::fs::write(stage.path("config.toml"), config).expect("written");
    stage.start();
    until("the last week is reported", || server.tries().pop());
    until_told(&stage);
    stage.signal(Signal::KILL);
    stage.wait_for_end();
    stage.start();
    stage.write("run1/a.txt", b"hello");
    super::super::run_states::until_run(&stage, "run1", "completed");
    until_told(&stage);
    let tries = server.tries();
    assert_eq!(tries.len(), 1, "once for its period: {tries:?}");
    let subject = header(&tries[0], "Subject");
    let told = "report: 0 runs are complete: 0 files, 0 B";
    assert_eq!(subject, format!("[dropferry {}] {told}", node()));
}
