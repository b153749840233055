//! The status page in a real browser: what it says, how it looks, what it costs.
//!
//! The page's own server serves JSON to test its appearance; for what the daemon itself shows, the real binary is
//! run, here and in `scenes`. Pictures are kept below `target/page`.

pub(crate) mod browser;
mod scenes;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use dropferry::testing::clock::Clock;
use dropferry::testing::web::{PageResource, PageView, Password, Settings, listen, serve};
use serde_json::{Value, json};

use self::browser::Browser;
use super::stage::{Options, Stage, noise, until};

/// The most that the page may weigh, all its files together.
const BYTES_MAX: usize = 100_000;

/// The page's own server, with a status that a test sets.
struct Served {
    address: SocketAddr,
    status: Arc<Mutex<Value>>,
    _runtime: tokio::runtime::Runtime,
}

impl Served {
    fn new() -> Self {
        Self::behind(None)
    }

    /// Starts one that asks for a password.
    fn behind(password: Option<Password>) -> Self {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(2).enable_all().build().expect("a runtime");
        let status = Arc::new(Mutex::new(Value::Null));
        let (pulse, _) = tokio::sync::mpsc::channel(1);
        let shown = Arc::clone(&status);
        let read = move |resource: &PageResource| {
            Ok(Some(match resource {
                PageResource::Upload(_) => scenes::upload_with_map().to_string(),
                PageResource::History => scenes::history().to_string(),
                PageResource::Run { .. } => {
                    let mut status = shown.lock().expect("whole").clone();
                    let run = status["runs"][0].take();
                    status["runs"] = json!([run]);
                    status.to_string()
                }
                PageResource::Status
                | PageResource::Overview
                | PageResource::Files(_)
                | PageResource::Metrics
                | PageResource::Trouble => shown.lock().expect("whole").to_string(),
            }))
        };
        let view = PageView { read: Arc::new(read), pulse, now: || Clock::real().now().wall };
        let address = "127.0.0.1:0".parse().expect("an address");
        let listener = runtime.block_on(listen(address)).expect("it listens");
        let at = listener.local_addr().expect("bound");
        let settings = Settings { address, hosts: Vec::new(), password };
        runtime.spawn(serve(listener, view, settings));
        Self { address: at, status, _runtime: runtime }
    }

    fn show(&self, status: Value) {
        *self.status.lock().expect("whole") = status;
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

/// The first visible text, line by line.
pub(crate) fn top(browser: &Browser, lines: usize) -> String {
    let text = browser.run("return document.getElementById('top').innerText");
    let text = text.as_str().expect("a text").to_owned();
    let told: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).take(lines).collect();
    told.join("\n")
}

/// Elements that are cut off, that make the page wider than the window, or whose words break letter by letter.
pub(crate) fn crooked(browser: &Browser) -> Value {
    browser.run(
        "const wide = document.documentElement.scrollWidth > innerWidth ? ['the page scrolls sideways'] : [];
        const narrow = [...document.querySelectorAll('main *, header *')].filter((one) => {
            const box = one.getBoundingClientRect();
            const own = [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim().length > 5);
            return own && box.width && (box.width < 24 || box.right > innerWidth + 1) && !one.closest('.unseen, .skip');
        });
        return wide.concat(narrow.map((one) => one.outerHTML.slice(0, 200)));",
    )
}

pub(crate) fn assert_fair(browser: &Browser, what: &str) {
    assert_eq!(crooked(browser), json!([]), "{what}");
    if let Some(violations) = browser.violations() {
        assert_eq!(violations, [""; 0], "{what}");
    }
}

#[test]
fn a_run_and_an_upload_have_pages_light_dark_wide_and_on_a_phone() {
    let Some(browser) = Browser::start() else { return };
    let served = Served::new();
    served.show(scenes::parked());
    let pages = [
        ("overview", "/"),
        ("run", "/runs/novaseq/251128_A00123_0042_AHXXXXDSX7"),
        ("upload", "/uploads/17"),
    ];
    for (name, path) in pages {
        for scheme in ["light", "dark"] {
            for (form, width, height) in [("wide", 1400, 900), ("phone", 390, 844)] {
                browser.prefer(scheme);
                browser.size(width, height);
                browser.open(&served.url(path));
                assert_fair(&browser, &format!("{name} {scheme} {form}"));
                browser.picture(&format!("{name}-{scheme}-{form}"));
            }
        }
    }
    let map = "return document.querySelector('.map').getAttribute('aria-label')";
    assert_eq!(
        browser.run(map),
        "135 parts: 71 waiting, 4 in flight, 18 accepted, 42 reported, 3 sent again"
    );
    assert_eq!(browser.run("return document.querySelectorAll('.map i').length"), 135);
}

#[test]
fn what_has_the_focus_keeps_it_and_the_keyboard_reaches_a_run() {
    let Some(browser) = Browser::start() else { return };
    let served = Served::new();
    served.show(scenes::sending());
    browser.open(&served.url("/"));
    let focus = "const one = document.activeElement; return one.id || one.textContent";
    let mut reached = Vec::new();
    for _ in 0..4 {
        browser.press("\u{e004}");
        reached.push(browser.run(focus));
    }
    let run = "251128_A00123_0042_AHXXXXDSX7";
    assert_eq!(reached, ["Skip to the state", "dropferry", "q", run]);
    served.show(scenes::parked());
    until("the page says what has changed", || {
        top(&browser, 1).contains("1 thing needs someone").then_some(())
    });
    assert_eq!(browser.run(focus), run, "the link is the one that it was");
    browser.press("\u{e007}");
    until("its page is shown", || {
        (browser.run("return document.querySelector('h1').textContent") == run).then_some(())
    });
}

#[test]
fn a_browser_that_knows_the_password_is_asked_once() {
    let Some(browser) = Browser::start() else { return };
    let served = Served::behind(Some(Password("correct horse".into())));
    served.show(scenes::well());
    let said = |text: &str| {
        until(text, || {
            let body = browser.run("return document.body.innerText");
            body.as_str().is_some_and(|body| body.contains(text)).then_some(())
        });
    };
    browser.open(&served.url("/"));
    said("Password of this page");
    assert_fair(&browser, "the login form");
    browser.picture("login");
    browser.press("wrong horse\u{e007}");
    said("That is not the password.");
    browser.press("correct horse\u{e007}");
    said("All well");
    browser.open(&served.url("/runs/novaseq/251128_A00123_0042_AHXXXXDSX7"));
    said("At its destinations");
}

#[test]
fn the_page_is_small_and_asks_nobody_else() {
    let files = ["page.html", "elements.js", "script.js", "style.css", "login.html"];
    let read = |name: &str| {
        let path = super::others::root().join("src/web").join(name);
        std::fs::read_to_string(path).expect("read")
    };
    let bytes: usize = files.iter().map(|name| read(name).len()).sum();
    assert!(bytes <= BYTES_MAX, "{bytes} bytes");
    for name in files {
        let text = read(name).replace("http://www.w3.org/2000/svg", "");
        assert!(!text.contains("://"), "{name} names another host");
        assert!(!text.contains("innerHTML") && !text.contains("style=\""), "{name}");
    }
}

/// A daemon with a page, and the page's address.
fn stage() -> (Stage, String) {
    let mut stage = Stage::new(Options { web: "127.0.0.1:0", ..Options::default() });
    stage.start();
    let address = address(&stage);
    (stage, address)
}

/// The address of the page of a daemon.
pub(crate) fn address(stage: &Stage) -> String {
    let address = until("the page is served", || {
        let log = stage.log();
        let (_, rest) = log.rsplit_once("the status page is at ")?;
        rest.split_once("/\n").or(rest.split_once("/ ")).map(|(address, _)| address.to_owned())
    });
    address.trim_end_matches('/').to_owned()
}

#[test]
fn the_page_follows_the_daemon_and_names_of_files_are_text() {
    let Some(browser) = Browser::start() else { return };
    let (mut stage, address) = stage();
    browser.open(&address);
    assert_eq!(browser.run("return document.querySelector('h1').innerText"), "✓ All well");
    let hostile = [
        "run1/<img src=x onerror=\"window.hurt=1\">",
        "run1/<script>window.hurt=1<\u{2215}script>",
        "run1/\u{202e}gpj.exe",
        "run1/</script><script>window.hurt=1",
    ];
    for name in hostile {
        // A file name cannot contain a slash.
        stage.write(&name.replace("</script>", "<-script>"), &noise(1000, 3));
    }
    stage.until_count("completed", 4);
    until("the page shows the run, without being asked again", || {
        let text = browser.run("return document.getElementById('view').innerText");
        text.as_str().is_some_and(|text| text.contains("4 of 4 files")).then_some(())
    });
    browser.run("document.querySelector('.card h3 a').click()");
    until("the run's page lists its files", || {
        let names = browser
            .run("return [...document.querySelectorAll('.rows a')].map((one) => one.textContent)");
        let names = names.as_array().expect("a list").clone();
        (names.len() == 4 && names.iter().any(|name| name == hostile[0])).then_some(())
    });
    browser.run("document.querySelector('.rows a').click()");
    until("the file's page has its parts", || {
        let label =
            browser.run("return document.querySelector('.map')?.getAttribute('aria-label') ?? ''");
        label.as_str().is_some_and(|label| label.starts_with("1 part: 1 ")).then_some(())
    });
    assert_eq!(browser.run("return window.hurt ?? null"), Value::Null);
    assert_fair(&browser, "the daemon's own page");
    stage.kill();
    until("the page says that nobody answers", || {
        let title = browser.run("return document.title");
        title.as_str().is_some_and(|title| title.starts_with("no answer")).then_some(())
    });
    assert_eq!(browser.run("return document.body.className"), "stale");
}
