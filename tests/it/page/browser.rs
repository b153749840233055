//! A browser controlled over WebDriver: Debian's Chromium with its chromedriver.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::others::root;
use crate::skipped::skipped;

const CHROMIUM: &str = "/usr/bin/chromium";
const CHROMEDRIVER: &str = "/usr/bin/chromedriver";
const SWITCHES: [&str; 10] = [
    "--headless",
    "--hide-scrollbars",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
];

/// It ends with the test.
pub(crate) struct Browser {
    driver: Child,
    address: String,
    session: String,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Starts one, or reports that the test is skipped.
    #[track_caller]
    pub(crate) fn start() -> Option<Self> {
        if !Path::new(CHROMIUM).exists() || !Path::new(CHROMEDRIVER).exists() {
            skipped("chromium and chromium-driver are not installed");
            return None;
        }
        let mut driver = Command::new(CHROMEDRIVER)
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver starts");
        let lines = BufReader::new(driver.stdout.take().expect("piped")).lines();
        let port = lines.map_while(Result::ok).find_map(|line| {
            line.strip_prefix("ChromeDriver was started successfully on port ").map(str::to_owned)
        });
        let port = port.expect("chromedriver says its port");
        let address = format!("127.0.0.1:{}", port.trim_end_matches('.'));
        let profile = tempfile::tempdir().expect("a directory");
        let mut switches: Vec<_> = SWITCHES.map(str::to_owned).into();
        switches.push(format!("--user-data-dir={}", profile.path().display()));
        let options = json!({ "binary": CHROMIUM, "args": switches });
        let wanted =
            json!({ "capabilities": { "alwaysMatch": { "goog:chromeOptions": options } } });
        let mut browser = Self { driver, address, session: String::new(), _profile: profile };
        let made = browser.send("POST", "/session", Some(&wanted));
        browser.session = made["sessionId"].as_str().expect("a session").to_owned();
        // On a busy machine the audit of the page takes long.
        browser.ask("timeouts", &json!({ "script": 90_000 }));
        browser.size(1400, 900);
        Some(browser)
    }

    fn send(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let body = body.map_or(String::new(), Value::to_string);
        let mut stream = TcpStream::connect(&self.address).expect("chromedriver listens");
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            self.address,
            body.len()
        )
        .expect("sent");
        let mut reader = BufReader::new(stream);
        let mut length = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).expect("a head");
            if line.trim().is_empty() {
                break;
            }
            if let Some((_, value)) =
                line.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            {
                length = value.trim().parse().expect("a length");
            }
        }
        let mut answer = vec![0; length];
        reader.read_exact(&mut answer).expect("a body");
        let mut answer: Value = serde_json::from_slice(&answer).expect("JSON");
        let value = answer["value"].take();
        assert!(value.get("error").is_none(), "{method} {path}: {value:#}");
        value
    }

    fn ask(&self, what: &str, body: &Value) -> Value {
        self.send("POST", &format!("/session/{}/{what}", self.session), Some(body))
    }

    fn devtools(&self, command: &str, parameters: &Value) -> Value {
        self.ask("goog/cdp/execute", &json!({ "cmd": command, "params": parameters }))
    }

    pub(crate) fn open(&self, url: &str) {
        self.ask("url", &json!({ "url": url }));
    }

    /// Sets the size of the window, in pixels of the page.
    pub(crate) fn size(&self, width: u32, height: u32) {
        let size =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.devtools("Emulation.setDeviceMetricsOverride", &size);
    }

    pub(crate) fn prefer(&self, scheme: &str) {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.devtools("Emulation.setEmulatedMedia", &json!({ "features": features }));
    }

    /// Runs a script in the page, and returns what it returns.
    pub(crate) fn run(&self, script: &str) -> Value {
        self.ask("execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Types into the element that has the focus.
    pub(crate) fn press(&self, keys: &str) {
        let keys = keys.chars().flat_map(|key| {
            [json!({ "type": "keyDown", "value": key }), json!({ "type": "keyUp", "value": key })]
        });
        let keys: Vec<_> = keys.collect();
        self.ask("actions", &json!({ "actions": [{ "type": "key", "id": "k", "actions": keys }] }));
    }

    /// Keeps a picture of the whole page below `target/page`.
    pub(crate) fn picture(&self, name: &str) {
        let whole = json!({ "captureBeyondViewport": true });
        let picture = self.devtools("Page.captureScreenshot", &whole);
        let picture = BASE64_STANDARD.decode(picture["data"].as_str().expect("a picture"));
        let directory = root().join("target/page");
        std::fs::create_dir_all(&directory).expect("made");
        let file = directory.join(format!("{name}.png"));
        std::fs::write(file, picture.expect("base64")).expect("written");
    }

    /// The faults that axe-core finds on the page; `None` if it is not installed.
    #[track_caller]
    pub(crate) fn violations(&self) -> Option<Vec<String>> {
        let axe: PathBuf = root().join("target/servers/axe/node_modules/axe-core/axe.min.js");
        let Ok(axe) = std::fs::read_to_string(axe) else {
            skipped("axe-core is not installed: run tests/servers/install");
            return None;
        };
        self.run(&axe);
        let script = "const done = arguments[arguments.length - 1]; axe.run({ resultTypes: ['violations'] }).then((found) => \
            done(found.violations.map((one) => `${one.impact} ${one.id}: ${one.nodes[0].html}`)), \
            (error) => done([String(error)]));";
        let found = self.ask("execute/async", &json!({ "script": script, "args": [] }));
        let found = found.as_array().expect("a list").iter();
        Some(found.map(|one| one.as_str().expect("a text").to_owned()).collect())
    }

    /// The CPU time of the page's main thread since it started, in seconds.
    pub(crate) fn task_seconds(&self) -> f64 {
        self.devtools("Performance.enable", &json!({ "timeDomain": "threadTicks" }));
        let metrics = self.devtools("Performance.getMetrics", &json!({}));
        let metrics = metrics["metrics"].as_array().expect("a list");
        let of = |metric: &&Value| metric["name"] == "TaskDuration";
        metrics.iter().find(of).and_then(|metric| metric["value"].as_f64()).expect("a number")
    }
}

impl Drop for Browser {
    /// Ends the browser by its driver, whatever the outcome of the test.
    fn drop(&mut self) {
        if let Ok(mut stream) = TcpStream::connect(&self.address) {
            let (session, host) = (&self.session, &self.address);
            let end = format!("DELETE /session/{session} HTTP/1.1\r\nHost: {host}\r\n\r\n");
            stream.write_all(end.as_bytes()).ok();
            stream.read_exact(&mut [0; 12]).ok();
        }
        self.driver.kill().ok();
        self.driver.wait().ok();
    }
}
