//! House rules that can be checked in the sources. Each failure names file, line, rule and cure.

use std::fs;
use std::path::{Path, PathBuf};

mod shape;

/// Modules by layer, low to high.
const LAYERS: [(&str, u8); 19] = [
    ("model", 0),
    ("engine", 1),
    ("digest", 1),
    ("store", 2),
    ("platform", 2),
    ("source", 2),
    ("receipt", 2),
    ("notify", 2),
    ("control", 2),
    ("web", 2),
    ("limiter", 2),
    ("signals", 2),
    ("sdnotify", 2),
    ("clock", 2),
    ("telemetry", 2),
    ("sandbox", 2),
    ("config", 3),
    ("daemon", 4),
    ("cli", 5),
];
/// Imports within layer 2 that are known and intended; the crate header says why.
const EXCEPTIONS: [(&str, &str); 3] =
    [("platform", "limiter"), ("platform", "clock"), ("platform", "telemetry")];
/// Lines before the tests of a file.
const FILE_MAX: usize = 500;

struct Source {
    path: PathBuf,
    module: String,
    text: String,
}

impl Source {
    /// Lines before the file's own tests, numbered from 1.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        // Test files, and files that only serve them, are declared below `#[cfg(test)]` elsewhere.
        let is_test = ["tests.rs", "stub.rs"].iter().any(|name| self.path.ends_with(name));
        let code =
            self.text.lines().take_while(move |line| !is_test && !line.starts_with("#[cfg(test)]"));
        code.enumerate().map(|(index, line)| (index + 1, line))
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> Vec<Source> {
    let files = super::stage::walk(&root().join("src"));
    let read = |path: PathBuf| {
        let relative = path.strip_prefix(root().join("src")).expect("below src").to_owned();
        let first = relative.components().next().expect("a name").as_os_str().to_string_lossy();
        let module = first.trim_end_matches(".rs").to_owned();
        let text = fs::read_to_string(&path).expect("read");
        Source { path: relative, module, text }
    };
    files.into_iter().map(read).collect()
}

fn layer(module: &str) -> Option<u8> {
    LAYERS.iter().find(|(name, _)| *name == module).map(|(_, layer)| *layer)
}

fn assert_none(found: &[String], cure: &str) {
    assert!(found.is_empty(), "{}\ncure: {cure}", found.join("\n"));
}

/// Modules that a line imports or names by their path.
fn imported(line: &str) -> Vec<&str> {
    let code = line.split("//").next().unwrap_or(line);
    code.match_indices("crate::")
        .map(|(at, found)| &code[at + found.len()..])
        .map(|rest| rest.split(|c: char| !c.is_ascii_lowercase() && c != '_').next().unwrap_or(""))
        .collect()
}

#[test]
fn imports_go_downwards() {
    let mut found = Vec::new();
    for source in sources() {
        let Some(own) = layer(&source.module) else { continue };
        for (number, line) in source.lines() {
            for other in imported(line) {
                let Some(theirs) = layer(other) else { continue };
                let is_sideways = theirs == own && other != source.module && own == 2;
                let is_known = EXCEPTIONS.contains(&(source.module.as_str(), other));
                if theirs > own || (is_sideways && !is_known) {
                    found.push(format!(
                        "{}:{number}: {} imports {other}",
                        source.path.display(),
                        source.module
                    ));
                }
            }
        }
    }
    assert_none(&found, "import from a lower layer, or move what is shared to model");
}

/// Lines with a word, outside the places where it may stand.
fn outside(words: &[&str], allowed: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources() {
        let path = source.path.to_string_lossy().into_owned();
        if allowed.iter().any(|place| path.starts_with(place)) {
            continue;
        }
        for (number, line) in source.lines() {
            let code = line.split("//").next().unwrap_or(line);
            found.extend(
                words
                    .iter()
                    .filter(|word| code.contains(**word))
                    .map(|word| format!("{path}:{number}: {word}")),
            );
        }
    }
    found
}

#[test]
fn each_outside_thing_has_one_place() {
    assert_none(&outside(&["reqwest::"], &["platform/"]), "speak HTTP through platform/http.rs");
    assert_none(
        &outside(&["reqwest::Client"], &["platform/http.rs"]),
        "build clients in platform/http.rs",
    );
    assert_none(&outside(&["rusqlite"], &["store"]), "keep SQL in store/");
    assert_none(
        &outside(&["Instant::now", "SystemTime::now"], &["clock.rs", "sandbox.rs"]),
        "take the time from clock::Clock",
    );
    assert_none(
        &outside(
            &["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"],
            &["digest/kernel/x86.rs"],
        ),
        "only vector registers need it: see digest/kernel/x86.rs",
    );
    assert_none(
        &outside(&["unsafe_code"], &["digest/kernel.rs"]),
        "one module may, and kernel.rs lets it",
    );
    assert_none(&outside(&["unwrap()"], &[]), "expect(\"why it cannot happen\"), or handle it");
    let above: Vec<_> = LAYERS
        .iter()
        .filter(|(_, layer)| *layer > 1)
        .map(|(name, _)| *name)
        .chain(["main"])
        .collect();
    assert_none(
        &outside(&["async fn", "std::fs", "tracing::info", "tracing::warn"], &above),
        "the engine and the model decide, and do nothing",
    );
}

/// How a line of the log begins in the sources.
const MARKERS: [&str; 5] = [
    "tracing::error!(",
    "tracing::warn!(",
    "tracing::info!(",
    "tracing::debug!(",
    "tracing::trace!(",
];

/// Names of the fields in the `tracing` macros of a text.
fn fields(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for macro_call in MARKERS.iter().flat_map(|marker| code.split(marker).skip(1)) {
        let before_message = macro_call.split('"').next().unwrap_or("");
        for argument in before_message.split(',') {
            let name = argument.split('=').next().unwrap_or("").trim();
            let name = name.trim_start_matches(['%', '?']);
            if !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') {
                found.push(name.to_owned());
            }
        }
    }
    found
}

#[test]
fn log_fields_are_of_the_vocabulary() {
    let known = dropferry::testing::telemetry::field::ALL;
    let mut found = Vec::new();
    for source in sources() {
        let code: String = source.lines().map(|(_, line)| line).collect();
        let strange = fields(&code).into_iter().filter(|field| !known.contains(&field.as_str()));
        found.extend(strange.map(|field| format!("{}: {field}", source.path.display())));
    }
    assert_none(&found, "use a field of telemetry.rs, or say it in the message");
    assert_eq!(fields("tracing::info!(a_b, %c, d = ?e, \"f\")"), ["a_b", "c", "d"]);
}

#[test]
fn files_are_small() {
    let long = sources().into_iter().filter_map(|source| {
        let count = source.lines().count();
        (count > FILE_MAX).then(|| format!("{}: {count} lines", source.path.display()))
    });
    assert_none(&long.collect::<Vec<_>>(), "split the file at a noun");
}

#[test]
fn nothing_is_left_open() {
    let marks = ["TO".to_owned() + "DO", "FIX".to_owned() + "ME", "todo".to_owned() + "!("];
    let mut found = Vec::new();
    for path in super::stage::walk(&root().join("src"))
        .into_iter()
        .chain(super::stage::walk(&root().join("tests")))
    {
        let text = fs::read_to_string(&path).unwrap_or_default();
        for (number, line) in text.lines().enumerate() {
            if marks.iter().any(|mark| line.contains(mark)) || line.trim() == "#[ignore]" {
                found.push(format!("{}:{}: {line}", path.display(), number + 1));
            }
        }
    }
    assert_none(&found, "finish it, or give it an issue's number");
}

#[test]
fn there_is_one_migration_until_the_first_release() {
    let files = super::stage::walk(&root().join("migrations"));
    let names: Vec<_> = files.iter().filter_map(|path| path.file_name()).collect();
    assert_eq!(names, ["0001_initial.sql"], "edit it: no database of a release exists");
    let text = fs::read_to_string(root().join("migrations/0001_initial.sql")).expect("read");
    assert!(!text.contains("writable_schema"), "SQLite's own tables are not edited");
}

/// The words before `=` in a TOML text, also in lines that are commented out.
fn keys(text: &str) -> Vec<String> {
    let line = |line: &str| {
        let line = line.trim_start_matches("# ");
        let (key, _) = line.split_once(" = ")?;
        key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_').then(|| key.to_owned())
    };
    text.lines().filter_map(line).collect()
}

/// Names of the fields that `serde` reads.
fn raw_fields(file: &str) -> Vec<String> {
    let raw = fs::read_to_string(root().join(file)).expect("read");
    let field =
        |line: &str| Some(line.trim().strip_prefix("pub(super) ")?.split_once(": ")?.0.to_owned());
    raw.lines().filter_map(field).filter(|name| !name.contains(' ')).collect()
}

#[test]
fn every_key_of_a_profile_is_documented_and_every_documented_key_exists() {
    let fields = raw_fields("src/source/profile/raw.rs");
    let page = fs::read_to_string(root().join("docs/profiles.md")).expect("read");
    let (_, listed) = page.split_once("```toml\n").expect("the list of keys");
    let (listed, _) = listed.split_once("\n```").expect("its end");
    let mut documented = keys(listed);
    // Keys within braces, and tables.
    let inner = ["file", "xml", "json", "key", "name", "path"];
    documented.extend(inner.map(str::to_owned).into_iter().filter(|key| {
        listed.contains(&format!("{{ {key} = ")) || listed.contains(&format!(", {key} = "))
    }));
    let table =
        |line: &str| Some(line.trim_matches(['[', ']']).to_owned()).filter(|name| *name != line);
    documented.extend(listed.lines().filter(|line| line.starts_with('[')).filter_map(table));
    for field in &fields {
        assert!(documented.contains(field), "{field} is not in docs/profiles.md");
    }
    for key in &documented {
        assert!(fields.contains(key), "docs/profiles.md has {key}, which nothing reads");
    }
    let parsed = dropferry::testing::source::Profile::parse("documented", listed);
    parsed.expect("what is documented is accepted");
}

#[test]
fn every_key_is_documented_and_every_documented_key_exists() {
    let fields = raw_fields("src/config/raw.rs");
    let documented = keys(dropferry::testing::config::DEFAULT);
    let sections = [
        "state",
        "control",
        "web",
        "transfer",
        "timetable",
        "retry",
        "network",
        "destinations",
        "drops",
        "notify",
        "command",
        "webhook",
        "mail",
        "heartbeat",
        "export",
    ];
    // Named inside a credential's braces.
    let inner = ["file", "systemd", "profile", "source"];
    for field in &fields {
        let is_known = documented.iter().any(|key| key == field);
        assert!(
            is_known || sections.contains(&field.as_str()) || inner.contains(&field.as_str()),
            "{field} is not in config/default.toml"
        );
    }
    for key in &documented {
        assert!(fields.contains(key), "config/default.toml has {key}, which nothing reads");
    }
}

#[test]
fn the_default_and_the_examples_are_accepted() {
    let parse = |text: &str| {
        let environment = |name: &str| (name == "HOME").then(|| "/home/lab".to_owned());
        dropferry::testing::config::Config::parse(
            Path::new("/etc/dropferry/config.toml"),
            text,
            &environment,
        )
    };
    parse(dropferry::testing::config::DEFAULT).expect("the default is accepted");
    for example in super::stage::walk(&root().join("config/examples")) {
        let text = fs::read_to_string(&example).expect("read");
        let problems = parse(&text).expect_err("its directory and token are not here").problems;
        let missing = ["is not there", "cannot be read", "no usable destination"];
        for problem in problems {
            let is_about_this_machine = missing.iter().any(|word| problem.message.contains(word));
            assert!(is_about_this_machine, "{}: {problem:?}", example.display());
        }
    }
}
