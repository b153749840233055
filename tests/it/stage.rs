//! A stage for the real binary: a sandbox in its own process, a drop directory, a configuration.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use dropferry::testing::receipt::ledger::LedgerReader;
use dropferry::testing::receipt::place::ledgers;
use serde_json::Value;

/// The longest any wait may take before it counts as a failure.
const PATIENCE: Duration = Duration::from_secs(90);
/// The token of every stage; no log, status, receipt or row may show it.
pub(crate) const TOKEN: &str = "5ec2e7f00dfeedfacecafe0123456789";

pub(crate) struct Stage {
    directory: tempfile::TempDir,
    sandbox: Option<Child>,
    daemon: Option<Child>,
    pub(crate) address: String,
    options: Options,
    /// Runs the daemon as another user, from a copy of the program that this user may run.
    owner: Option<u32>,
}

/// How a stage differs from the usual one.
#[derive(Clone)]
pub(crate) struct Options {
    /// Where the drop directory is sent.
    pub(crate) platforms: &'static [&'static str],
    /// A real S3 server instead of the sandbox's.
    pub(crate) outside: Option<Outside>,
    /// Lines of `[state]`.
    pub(crate) state: &'static str,
    /// Lines of `[network]`.
    pub(crate) network: &'static str,
    /// The network namespace that the sandbox runs in.
    pub(crate) far: Option<u32>,
    /// Where the sandbox listens.
    pub(crate) listen: &'static str,
    /// Where the status page is served.
    pub(crate) web: &'static str,
    /// Lines of `[transfer]`.
    pub(crate) transfer: &'static str,
    /// Lines of the destination.
    pub(crate) destination: &'static str,
    /// A BaseSpace project, in which each top-level directory has its AppResult.
    pub(crate) basespace_project: Option<&'static str>,
    /// Lines of the drop.
    pub(crate) drop: &'static str,
    /// The sandbox's switches.
    pub(crate) switches: &'static str,
    /// Calls that the sandbox allows in five minutes.
    pub(crate) rate_limit: &'static str,
    /// The smallest part that the daemon believes the sandbox accepts.
    pub(crate) part_size_min: &'static str,
    /// The smallest part that the sandbox accepts, in bytes.
    pub(crate) sandbox_part_size_min: &'static str,
    /// The number of open uploads without an owner that a platform without a list of uploads may be left with.
    pub(crate) orphans_allowed: usize,
    /// Level of the daemon's log.
    pub(crate) level: &'static str,
}

/// A real S3 server.
#[derive(Debug, Clone)]
pub(crate) struct Outside {
    pub(crate) base_url: String,
    pub(crate) access_key: String,
    pub(crate) secret: String,
    pub(crate) bucket: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            platforms: &["sevenbridges"],
            outside: None,
            state: "",
            network: "inactivity_timeout = \"2s\"",
            far: None,
            listen: "127.0.0.1:0",
            web: "off",
            transfer: "parts_in_flight = 4",
            destination: "",
            basespace_project: None,
            drop: "quiet_period = \"50ms\"\nscan_interval = \"500ms\"",
            switches: "{}",
            rate_limit: "100000000",
            part_size_min: "1 B",
            sandbox_part_size_min: "1",
            orphans_allowed: 0,
            level: "info",
        }
    }
}

impl Stage {
    pub(crate) fn new(options: Options) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let mut stage = Self {
            directory,
            sandbox: None,
            daemon: None,
            address: String::new(),
            options,
            owner: None,
        };
        fs::create_dir(stage.drop()).expect("made");
        stage.write_token(TOKEN);
        fs::write(stage.path("switches.json"), stage.options.switches).expect("written");
        let listen = stage.options.listen;
        stage.start_sandbox(listen);
        stage.configure();
        stage
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn drop(&self) -> PathBuf {
        self.path("drop")
    }

    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.path("daemon.log")).unwrap_or_default()).into_owned()
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        let place = self.drop().join(name);
        fs::create_dir_all(place.parent().expect("below the drop")).expect("made");
        // Written under another name and renamed into place, so that it is complete from the first look on.
        let beside = self.path("being-written");
        fs::write(&beside, bytes).expect("written");
        fs::rename(beside, place).expect("renamed");
    }

    /// Replaces the token file as an operator's tool would: by renaming.
    pub(crate) fn write_token(&self, token: &str) {
        let beside = self.path("new.token");
        fs::write(&beside, format!("{token}\n")).expect("written");
        fs::set_permissions(&beside, fs::Permissions::from_mode(0o600)).expect("set");
        fs::rename(beside, self.path("sandbox.token")).expect("renamed");
        let (access_key, secret) = match &self.options.outside {
            Some(outside) => (outside.access_key.as_str(), outside.secret.as_str()),
            None => ("SANDBOX", token),
        };
        let keys = format!(
            "[default]\naws_access_key_id = {access_key}\naws_secret_access_key = {secret}\n"
        );
        let beside = self.path("new.s3");
        fs::write(&beside, keys).expect("written");
        fs::set_permissions(&beside, fs::Permissions::from_mode(0o600)).expect("set");
        fs::rename(beside, self.path("sandbox.s3")).expect("renamed");
    }

    pub(crate) fn configure(&self) {
        let Options { state, transfer, destination, drop, platforms, network, web, .. } =
            &self.options;
        let mut text = format!(
            "[state]\ndirectory = \"state\"\n{state}\n[web]\nlisten = \"{web}\"\n[transfer]\n{transfer}\n[retry]\ndelay_min = \"50ms\"\n\
             delay_max = \"1s\"\n[network]\n{network}\n"
        );
        for platform in *platforms {
            text += &format!(
                "[destinations.to-{platform}]\nplatform = \"{platform}\"\n{}\n{destination}\n",
                self.target(platform)
            );
        }
        let names: Vec<_> = platforms.iter().map(|name| format!("\"to-{name}\"")).collect();
        text += &format!(
            "[drops.lab]\ndirectory = \"drop\"\ndestinations = [{}]\n{drop}\n",
            names.join(", ")
        );
        fs::write(self.path("config.toml"), text).expect("written");
    }

    /// Address, credential and place at one of the sandbox's stand-ins.
    fn target(&self, platform: &str) -> String {
        if let Some(outside) = &self.options.outside {
            return format!(
                "base_url = \"{}\"\ncredential = {{ file = \"sandbox.s3\" }}\nbucket = \"{}\"\n\
                 prefix = \"runs/\"",
                outside.base_url, outside.bucket
            );
        }
        let basespace = match self.options.basespace_project {
            Some(project) => format!("project = \"{project}\""),
            None => "app_result = \"710000001\"\nfolder = \"runs\"".to_owned(),
        };
        let (path, credential, place) = match platform {
            "sevenbridges" if self.options.destination.contains("folder = ") => {
                ("/v2", "sandbox.token", "project = \"lab/demo\"")
            }
            "sevenbridges" => ("/v2", "sandbox.token", "project = \"lab/demo\"\nfolder = \"runs\""),
            "basespace" => ("/basespace/v1pre3", "sandbox.token", &*basespace),
            "gjirafa-vp" => ("/gjirafa", "sandbox.token", "project = \"abcdefgh\""),
            "s3" => ("", "sandbox.s3", "bucket = \"lab-demo\"\nprefix = \"runs/\""),
            other => panic!("no such platform: {other}"),
        };
        format!(
            "base_url = \"http://{}{path}\"\ncredential = {{ file = \"{credential}\" }}\n\
             part_size_min = \"{}\"\n{place}",
            self.address, self.options.part_size_min
        )
    }

    fn start_sandbox(&mut self, listen: &str) {
        fs::write(self.path("token-of-sandbox"), TOKEN).expect("written");
        let mut sandbox = match self.options.far {
            Some(pid) => {
                let mut nsenter = Command::new("nsenter");
                nsenter.args(["-n", "-t", &pid.to_string(), env!("CARGO_BIN_EXE_dropferry")]);
                nsenter
            }
            None => program(),
        };
        let mut child = sandbox
            .args(["sandbox", "--listen", listen, "--rate-limit", self.options.rate_limit])
            .arg("--directory")
            .arg(self.path("sandbox"))
            .arg("--switches")
            .arg(self.path("switches.json"))
            .arg("--token-file")
            .arg(self.path("token-of-sandbox"))
            .args(["--part-size-min", self.options.sandbox_part_size_min])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the sandbox starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let line = lines
            .find_map(|line| line.ok().filter(|line| line.starts_with("base_url")))
            .expect("the sandbox says where it listens");
        let address = line.split('"').nth(1).expect("quoted");
        self.address = address.trim_start_matches("http://").trim_end_matches("/v2").to_owned();
        self.sandbox = Some(child);
    }

    /// Restarts the sandbox at its address, with other switches.
    pub(crate) fn revive(&mut self, switches: &str) {
        fs::write(self.path("switches.json"), switches).expect("written");
        if let Some(mut child) = self.sandbox.take() {
            child.kill().expect("killed");
            child.wait().expect("reaped");
        }
        let address = self.address.clone();
        self.start_sandbox(&address);
    }

    /// Gives the stage to a user who is not root, if it belongs to root.
    pub(crate) fn give_away(&mut self) {
        const NOBODY: u32 = 65534;
        if !rustix::process::geteuid().is_root() {
            return;
        }
        fs::copy(env!("CARGO_BIN_EXE_dropferry"), self.path("dropferry")).expect("copied");
        let is_ours = |place: &&Path| place.starts_with(self.directory.path());
        for file in walk(self.directory.path()).into_iter().chain([self.path("drop")]) {
            for place in file.ancestors().take_while(is_ours) {
                std::os::unix::fs::chown(place, Some(NOBODY), Some(NOBODY)).expect("given away");
            }
        }
        self.owner = Some(NOBODY);
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.daemon.as_mut().expect("it was started").try_wait().expect("asked").is_none()
    }

    pub(crate) fn command(&self, command: &str) -> Command {
        let mut program = program();
        if let Some(owner) = self.owner {
            program = Command::new(self.path("dropferry"));
            std::os::unix::process::CommandExt::uid(&mut program, owner);
        }
        program.arg(command).arg("--config").arg(self.path("config.toml"));
        program
    }

    pub(crate) fn output(&self, command: &str, arguments: &[&str]) -> Output {
        self.command(command).args(arguments).output().expect("it runs")
    }

    pub(crate) fn start(&mut self) {
        let run = self.command("run");
        self.start_as(run);
    }

    /// Starts the daemon with a command that ends by executing the daemon.
    pub(crate) fn start_as(&mut self, mut run: Command) {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.path("daemon.log"));
        run.args(["--log-level", self.options.level]).stderr(log.expect("opened"));
        // A process that another test starts may still hold a program open that was just copied.
        let child = until("the program can be run", || match run.spawn() {
            Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => None,
            child => Some(child.expect("the daemon starts")),
        });
        self.daemon = Some(child);
    }

    pub(crate) fn pid(&self) -> u32 {
        self.daemon.as_ref().expect("it runs").id()
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process(pid.expect("a process"), signal).expect("sent");
    }

    pub(crate) fn kill(&mut self) {
        let mut child = self.daemon.take().expect("it runs");
        child.kill().expect("killed");
        child.wait().expect("reaped");
    }

    pub(crate) fn wait_for_end(&mut self) -> ExitStatus {
        let mut child = self.daemon.take().expect("it runs");
        until("the daemon ends", || child.try_wait().expect("asked"))
    }

    /// Reads `status --json`.
    pub(crate) fn status(&self) -> Value {
        let output = self.output("status", &["--json", "--all"]);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
            panic!("status is no JSON ({error}): {}", String::from_utf8_lossy(&output.stderr))
        })
    }

    pub(crate) fn count(&self, state: &str) -> u64 {
        self.status()["counts"][state].as_u64().expect("a count")
    }

    /// Waits until this many uploads are in a state; it keeps waiting for as long as their number grows.
    pub(crate) fn until_count(&self, state: &str, count: u64) {
        let mut now = self.count(state);
        while now != count {
            now = until(&format!("more than {now} are {state}; the log:\n{}", self.log()), || {
                // Each question is a process and a query: it must not slow down what it waits for.
                std::thread::sleep(Duration::from_millis(count / 20));
                Some(self.count(state)).filter(|next| *next != now)
            });
        }
    }

    /// What the stand-in of the first platform received.
    pub(crate) fn ledger(&self) -> Value {
        self.ledger_of(self.options.platforms[0])
    }

    pub(crate) fn ledger_of(&self, platform: &str) -> Value {
        self.get(&format!("/_sandbox/{platform}/ledger"))
    }

    /// What the stand-in of the first platform holds.
    pub(crate) fn files(&self) -> Vec<Value> {
        self.files_of(self.options.platforms[0])
    }

    pub(crate) fn files_of(&self, platform: &str) -> Vec<Value> {
        self.get(&format!("/_sandbox/{platform}/files")).as_array().expect("a list").clone()
    }

    /// Tells the stand-in of the first platform how to misbehave: `faults`, `switches`, `vanish`.
    pub(crate) fn tell(&self, what: &str, body: &str) {
        self.post(&format!("/_sandbox/{}/{what}", self.options.platforms[0]), body);
    }

    /// An address at the sandbox.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn get(&self, path: &str) -> Value {
        self.request("GET", path, "")
    }

    pub(crate) fn post(&self, path: &str, body: &str) {
        self.request("POST", path, body);
    }

    pub(crate) fn request(&self, method: &str, path: &str, body: &str) -> Value {
        let mut stream = TcpStream::connect(&self.address).expect("the sandbox listens");
        let head = format!(
            "{method} {path} HTTP/1.0\r\nHost: sandbox\r\nConnection: close\r\nx-access-token: {TOKEN}\r\n\
             X-SBG-Auth-Token: {TOKEN}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(head.as_bytes()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("answered");
        let (_, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        serde_json::from_str(body).unwrap_or(Value::Null)
    }

    /// Every file of the drop directory is at every destination once, byte for byte; nothing else
    /// is there; the rules were kept; each file has a receipt for each destination.
    pub(crate) fn assert_all_there(&self) {
        let here = walk(&self.drop());
        for platform in self.options.platforms {
            self.assert_all_at(platform, &here);
            let ledger = self.ledger_of(platform);
            assert_eq!(ledger["breaches"], serde_json::json!([]), "{platform}: rules were broken");
            self.assert_few_orphans(platform, &ledger);
        }
        let receipts = self.receipts();
        assert_eq!(receipts.len(), here.len() * self.options.platforms.len(), "receipts");
        let ids: BTreeSet<_> = receipts.iter().map(|line| line["id"].as_i64()).collect();
        assert_eq!(ids.len(), receipts.len(), "one line for each upload");
    }

    /// Every line of every ledger. Each chain is valid; a line at its end may be incomplete.
    pub(crate) fn lines(&self) -> Vec<Value> {
        let mut lines = Vec::new();
        for ledger in ledgers(&self.path("state")).expect("listed") {
            let file = File::open(ledger.path(&self.path("state"))).expect("it opens");
            for line in LedgerReader::new(BufReader::new(file)) {
                match line {
                    Ok(line) => {
                        line.body().expect("it fits its kind");
                        lines.push(serde_json::from_slice(&line.raw).expect("JSON"));
                    }
                    Err(fault) => assert!(fault.is_torn(), "{ledger}: {fault}"),
                }
            }
        }
        lines
    }

    /// The lines of one kind.
    pub(crate) fn lines_of(&self, kind: &str) -> Vec<Value> {
        self.lines().into_iter().filter(|line| line["kind"] == kind).collect()
    }

    /// The lines that prove files, without those about runs.
    pub(crate) fn receipts(&self) -> Vec<Value> {
        let is_file = |line: &Value| {
            (line["kind"] == "upload" || line["kind"] == "found-again") && line["sentinel"] != true
        };
        self.lines().into_iter().filter(is_file).collect()
    }

    /// Where uploads cannot be listed, one whose begin was not answered stays behind, and at Gjirafa VP
    /// one of a single request, whose address cannot be obtained again. No byte was ever sent to it.
    fn assert_few_orphans(&self, platform: &str, ledger: &Value) {
        let orphans = ledger["open_uploads"].as_array().expect("a list");
        let allowed = match platform {
            "gjirafa-vp" | "basespace" => self.options.orphans_allowed,
            _ => 0,
        };
        assert!(orphans.len() <= allowed, "{platform}: uploads without an owner: {orphans:?}");
        for orphan in orphans {
            let id = orphan.as_str().expect("an id");
            let parts = ledger["parts"].get(id).and_then(Value::as_object);
            let is_sent_to =
                parts.is_some_and(|parts| parts.values().any(|part| part["bytes"] != 0));
            assert!(!is_sent_to, "{platform}: {id} was begun, sent to, and left behind: {parts:?}");
        }
    }

    fn assert_all_at(&self, platform: &str, here: &[PathBuf]) {
        let there = self.files_of(platform);
        let content = |file: &Value| -> Vec<u8> {
            let parts = file["parts"].as_array().expect("a list").iter();
            parts.flat_map(|part| fs::read(part.as_str().expect("a path")).expect("read")).collect()
        };
        assert_eq!(there.len(), here.len(), "files at {platform}");
        for place in here {
            let relative = place.strip_prefix(self.drop()).expect("below");
            let wanted = match platform {
                // It knows no folders.
                "gjirafa-vp" => format!("/{}", relative.file_name().expect("named").display()),
                "basespace" if self.options.basespace_project.is_some() => {
                    relative.display().to_string()
                }
                _ => format!("runs/{}", relative.display()),
            };
            let is_named = |file: &&Value| {
                let text = |key: &str| file[key].as_str().unwrap_or("");
                let mut there = format!("{}/{}", text("folder"), text("name"));
                if platform == "basespace" && self.options.basespace_project.is_some() {
                    there = format!("{}/{}", text("project"), there.trim_start_matches('/'));
                }
                there == wanted
            };
            let bytes = fs::read(place).expect("read");
            let found = there.iter().filter(is_named).filter(|file| content(file) == bytes).count();
            assert_eq!(found, 1, "{wanted} is at {platform} {found} times with its content");
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for child in [&mut self.daemon, &mut self.sandbox].into_iter().flatten() {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

pub(crate) fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_dropferry"))
}

/// Asks again and again until there is an answer.
#[expect(
    clippy::disallowed_methods,
    reason = "a test's own patience is measured by the real clock"
)]
pub(crate) fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(started.elapsed() < PATIENCE, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn walk(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = directory.read_dir() else { return Vec::new() };
    let mut files = Vec::new();
    for entry in entries.filter_map(Result::ok) {
        if entry.path().is_dir() {
            files.extend(walk(&entry.path()));
        } else {
            files.push(entry.path());
        }
    }
    files
}

/// Bytes that do not repeat.
pub(crate) fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
