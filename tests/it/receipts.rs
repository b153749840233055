//! Ledgers as others see them: `receipts` with the real binary on ledgers without a database, and
//! the script of docs/receipts.md, which checks them without dropferry.

use std::fs;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use rusqlite::Connection;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::skipped::skipped;
use super::stage::{Options, Stage, noise, until};

/// A destination of a line, as its members.
const FAR: &str = r#""destination":{"name":"far","platform":"s3","base_url":"https://s3.example","bucket":"lab"}"#;

/// Lines, each with the digest of the one before, as docs/receipts.md says.
pub(crate) struct Chain {
    prev: String,
    count: u64,
}

impl Default for Chain {
    fn default() -> Self {
        Self { prev: "0".repeat(64), count: 0 }
    }
}

impl Chain {
    pub(crate) fn line(&mut self, kind: &str, members: &str) -> String {
        self.count += 1;
        let Self { prev, count } = self;
        let body = format!(
            r#"{{"kind":"{kind}","seq":{count},"prev":"{prev}","at":"2026-11-29T10:00:00Z","host":"seq-07","version":"0.1.0",{members}"#
        );
        self.prev = hex(&format!("{body}}}"));
        format!("{body},\"sha256\":\"{}\"}}\n", self.prev)
    }
}

/// Chains lines by their kinds and their members.
pub(crate) fn chained<'a>(bodies: impl IntoIterator<Item = (&'a str, String)>) -> Vec<String> {
    let mut chain = Chain::default();
    bodies.into_iter().map(|(kind, members)| chain.line(kind, &members)).collect()
}

fn hex(text: &str) -> String {
    dropferry::testing::model::Hex(&Sha256::digest(text.as_bytes())).to_string()
}

/// Returns the SHA-256 that a line ends in.
pub(crate) fn sha256_of(line: &str) -> &str {
    let line = line.trim_end();
    &line[line.len() - 66..line.len() - 2]
}

/// A file of `run` in `lab`, in one part of that MD5, as the members of its line.
pub(crate) fn file(id: u32, path: &str, md5: &str, more: &str) -> String {
    format!(
        r#""id":{id},"drop":"lab","run":"run1","path":"run1/{path}","size":5,"mtime_ns":1000000000,"ctime_ns":1000000000,"inode":{id},"root":"ext4 ab /data 7",{FAR},"target":1,"place":"runs/run1/{path}","remote_id":"runs/run1/{path}","remote_name":"{path}","etag_mode":"md5","part_size":1048576,"parts":[{{"number":1,"offset":0,"length":5,"md5":"{md5}","etag":"{md5}"}}],"content_digest":"{md5}-1",{more}"begun_at":"2026-11-29T09:59:00Z","completed_at":"2026-11-29T09:59:01Z","verified_at":"2026-11-29T09:59:02Z","bytes_sent":5,"bytes_sent_again":0,"attempt_count":0"#
    )
}

/// The MD5 of "hello".
const HELLO: &str = "5d41402abc4b2a76b9719d911017c592";

/// A run of three files.
fn good() -> Vec<String> {
    let completed = r#""drop":"lab","run":"run1","wave":1,"file_count":3,"bytes":15,"given_up_count":0,"opened_at":"2026-11-29T09:58:00Z","closed_at":"2026-11-29T09:59:30Z""#;
    let files = [(1, "a"), (2, "b"), (3, "c")];
    let files = files.map(|(id, path)| ("upload", file(id, path, HELLO, "")));
    chained(files.into_iter().chain([("run-completed", completed.to_owned())]))
}

/// What was done to a ledger, the ledger, the head that is asked for, and whether it is still valid.
type Case = (&'static str, String, Option<String>, bool);

/// A ledger as it was written, and the changes that it may have suffered.
fn cases() -> Vec<Case> {
    let lines = good();
    let head = sha256_of(&lines[3]).to_owned();
    let earlier = sha256_of(&lines[1]).to_owned();
    let of = |order: &[usize]| order.iter().map(|index| &*lines[*index]).collect::<String>();
    let changed = |from: &str, to: &str| {
        let line = lines[1].replace(from, to);
        assert_ne!(line, lines[1]);
        [&lines[0], &line, &lines[2], &lines[3]].map(String::as_str).concat()
    };
    // By somebody who knows how the digest of a line is made.
    let forged = {
        let body = lines[1].replace("\"size\":5", "\"size\":6");
        let body = &body[..body.rfind(",\"sha256\"").expect("it has one")];
        let line = format!("{body},\"sha256\":\"{}\"}}\n", hex(&format!("{body}}}")));
        [&lines[0], &line, &lines[2], &lines[3]].map(String::as_str).concat()
    };
    let whole = chained((1..5).map(|id| ("upload", file(id, "x", HELLO, "")))).concat();
    vec![
        ("as it was written", of(&[0, 1, 2, 3]), None, true),
        ("as it was written", of(&[0, 1, 2, 3]), Some(head.clone()), true),
        ("lines were added", of(&[0, 1, 2, 3]), Some(earlier), true),
        ("a line is changed", changed("\"size\":5", "\"size\":6"), None, false),
        ("a space is added", changed("\"size\":5", "\"size\": 5"), None, false),
        ("a line is forged", forged, None, false),
        ("a line is removed", of(&[0, 2, 3]), None, false),
        ("the first line is removed", of(&[1, 2, 3]), None, false),
        ("a line is inserted", of(&[0, 1, 1, 2, 3]), None, false),
        ("lines are exchanged", of(&[0, 2, 1, 3]), None, false),
        (
            "the last line is torn",
            of(&[0, 1, 2, 3])[..of(&[0, 1, 2]).len() + 20].into(),
            None,
            false,
        ),
        ("the end is cut off, which only the head shows", of(&[0, 1, 2]), None, true),
        ("the end is cut off", of(&[0, 1, 2]), Some(head.clone()), false),
        ("all of it was written anew", whole.clone(), None, true),
        ("all of it was written anew, which the head shows", whole, Some(head), false),
    ]
}

/// Takes the script out of the document.
fn script() -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/receipts.md");
    let page = fs::read_to_string(page).expect("read");
    let (_, script) = page.split_once("```python\n").expect("it has a script");
    let (script, _) = script.split_once("```").expect("it ends");
    assert!(script.lines().count() <= 20, "it is to be read at a glance:\n{script}");
    script.to_owned()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

#[test]
fn the_script_of_the_document_checks_a_ledger_without_dropferry() {
    let directory = tempfile::tempdir().expect("a directory");
    let (program, ledger) = (directory.path().join("check.py"), directory.path().join("l.jsonl"));
    fs::write(&program, script()).expect("written");
    for (what, text, head, holds) in cases() {
        fs::write(&ledger, text).expect("written");
        let mut python = Command::new("python3");
        let Ok(output) = python.arg(&program).arg(&ledger).args(head).output() else {
            return skipped("python3 is not installed");
        };
        let said = said(&output);
        assert_eq!(output.status.success(), holds, "{what}: {said}");
        assert_eq!(said.contains("holds"), holds, "{what}: {said}");
        assert!(!said.contains("Traceback"), "{what}: {said}");
    }
}

/// A state directory with ledgers and no database.
struct Ledgers(tempfile::TempDir);

impl Ledgers {
    fn new(files: &[(&str, &str)]) -> Self {
        let ledgers = Self(tempfile::tempdir().expect("a directory"));
        let config = format!("[state]\ndirectory = \"{}\"\n", ledgers.path("state").display());
        fs::write(ledgers.path("config.toml"), config).expect("written");
        files.iter().for_each(|(name, text)| ledgers.write(name, text));
        ledgers
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let place = self.path("state/receipts").join(name);
        fs::create_dir_all(place.parent().expect("it has one")).expect("made");
        fs::write(place, text).expect("written");
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = super::stage::program();
        command.args(["receipts", "--config"]).arg(self.path("config.toml")).args(arguments);
        command
    }

    fn receipts(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let output = self.command(arguments).output().expect("it runs");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        (output.status.code(), text(output.stdout), text(output.stderr))
    }
}

#[test]
fn check_finds_what_the_script_finds_and_says_where() {
    let ledgers = Ledgers::new(&[]);
    for (what, text, head, holds) in cases() {
        ledgers.write("lab/run1.jsonl", &text);
        let mut arguments = vec!["lab/run1", "--check"];
        arguments.extend(head.iter().flat_map(|head| ["--head", head]));
        let (code, out, talk) = ledgers.receipts(&arguments);
        assert_eq!(code, Some(i32::from(!holds)), "{what}: {out}{talk}");
        assert_eq!(out.contains(": holds\n"), holds || head.is_some(), "{what}: {out}{talk}");
    }
    let lines = good();
    for (text, said) in [
        (
            lines.concat(),
            format!("lab/run1.jsonl: 4 lines, head {}: holds\n", sha256_of(&lines[3])),
        ),
        ([&*lines[0], &lines[2]].concat(), "does not hold: line 2: its seq is 3".into()),
        (
            lines.concat().replacen("\"id\":3", "\"id\":4", 1),
            "does not hold: line 3: its sha256 is".into(),
        ),
    ] {
        ledgers.write("lab/run1.jsonl", &text);
        let (_, out, _) = ledgers.receipts(&["--check"]);
        assert!(out.contains(&said), "{out}");
    }
    ledgers.write("lab/run1.jsonl", &lines.concat());
    let (last, earlier) = (sha256_of(&lines[3]), sha256_of(&lines[1]));
    let (_, out, _) = ledgers.receipts(&["run1", "--check", "--head", last]);
    assert!(out.contains("the head that is asked for is the last line\n"), "{out}");
    let (_, out, _) = ledgers.receipts(&["run1", "--check", "--head", earlier]);
    assert!(out.contains("the head that is asked for is line 2; 2 lines came after it\n"), "{out}");
    let (code, _, talk) = ledgers.receipts(&["run1", "--check", "--head", "f00"]);
    assert_eq!(code, Some(2), "{talk}");
    assert!(talk.contains("64 hexadecimal digits"), "{talk}");
}

#[test]
fn a_damaged_ledger_is_listed_up_to_the_damage() {
    let lines = good();
    let ledgers = Ledgers::new(&[("lab/run1.jsonl", &[&*lines[0], &lines[2]].concat())]);
    for format in ["table", "json", "csv", "md5sum", "html"] {
        let (code, out, talk) = ledgers.receipts(&["--format", format]);
        assert_eq!(code, Some(1), "{format}: {out}{talk}");
        assert!(
            talk.contains("the ledger lab/run1.jsonl does not hold: line 2: its seq is 3"),
            "{talk}"
        );
        assert!(out.contains("run1/a") && !out.contains("run1/c"), "{format}: {out}");
    }
    fs::remove_file(ledgers.path("state/receipts/lab/run1.jsonl")).expect("removed");
    let pipe = ledgers.path("state/receipts/lab/run1.jsonl");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("it runs").success());
    let (code, out, _) = ledgers.receipts(&["--check"]);
    assert_eq!(code, Some(1), "{out}");
    assert!(out.contains("it is no file"), "a pipe holds nobody up: {out}");
}

#[test]
fn without_a_database_ledgers_are_found_by_their_names() {
    let of = |run: &str, path: &str| {
        let line = file(1, "a", HELLO, "").replace("\"run1\"", &format!("\"{run}\""));
        chained([("upload", line.replace("run1/a", path))]).concat()
    };
    let cut = format!("{}~{}.jsonl", "x".repeat(170), &hex(&"x".repeat(255))[..16]);
    let alone = of("", "alone").replace("\"run\":\"\",", "");
    let alone = chained([(
        "upload",
        alone[alone.find("\"id\"").expect("there")..alone.find(",\"sha256\"").expect("there")]
            .to_owned(),
    )]);
    let ledgers = Ledgers::new(&[
        ("lab/run1.jsonl", &of("run1", "run1/a")),
        ("lab/run1~2.jsonl", &of("run1", "run1/b")),
        ("lab/group%2Frun2.jsonl", &of("group/run2", "group/run2/a")),
        (&format!("lab/{cut}"), &of(&"x".repeat(255), &format!("{}/a", "x".repeat(255)))),
        ("lab/~files-2026-11.jsonl", &alone.concat()),
        ("lab/run1.jsonl.torn-20261129T100000Z", "{\"kind\""),
    ]);
    let long = format!("lab/{}", "x".repeat(255));
    for (words, paths) in [
        (&[][..], &["alone", "group/run2/a", "run1/a", "run1/b", "x/a"][..]),
        (&["lab"], &["alone", "group/run2/a", "run1/a", "run1/b", "x/a"]),
        (&["lab/run1"], &["run1/a", "run1/b"]),
        (&["run1"], &["run1/a", "run1/b"]),
        (&["lab/group"], &["group/run2/a"]),
        (&["run2"], &["group/run2/a"]),
        (&["run?"], &["group/run2/a", "run1/a", "run1/b"]),
        (&[&long], &["x/a"]),
    ] {
        let (code, out, talk) = ledgers.receipts(&[words, &["--format", "json"]].concat());
        assert_eq!(code, Some(0), "{words:?}: {talk}");
        let listed: Value = serde_json::from_str(&out).expect("JSON");
        let path = |file: &Value| file["path"].as_str().expect("text").to_owned();
        let mut listed: Vec<_> = listed.as_array().expect("a list").iter().map(path).collect();
        listed.iter_mut().for_each(|path| *path = path.replace(&"x".repeat(255), "x"));
        listed.sort();
        assert_eq!(listed, paths, "{words:?}");
    }
    let (code, _, talk) = ledgers.receipts(&["rum1"]);
    assert_eq!(code, Some(1));
    assert!(talk.contains("did you mean run1"), "{talk}");
    let (_, out, _) = ledgers.receipts(&["lab/run1", "--check"]);
    assert_eq!(out.lines().count(), 2, "both files of it: {out}");
}

#[test]
fn sums_are_accepted_by_the_programs_of_others_whatever_the_names() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    // As a name, and as it is written in a line.
    let names: [(&[u8], &str, &str); 5] = [
        (b"plain", "plain", ""),
        (b"a\nb", r"a\\nb", "cnVuMS9hCmI="),
        (b"back\\slash", r"back\\\\slash", "cnVuMS9iYWNrXHNsYXNo"),
        (b"\xff odd", r"\\xff odd", "cnVuMS//IG9kZA=="),
        (b"-c", "-c", ""),
    ];
    let drop = tempfile::tempdir().expect("a directory");
    let drop = drop.path().join("drop");
    fs::create_dir_all(drop.join("run1")).expect("made");
    let sha256 = format!("\"whole_file_digests\":{{\"sha256\":\"{}\"}},", hex("hello"));
    let mut bodies = Vec::new();
    // An earlier version, which is replaced by the first line after it.
    bodies.push((
        "upload",
        file(90, "plain", &"0".repeat(32), "").replace("\"size\":5", "\"size\":4"),
    ));
    for (id, (name, shown, base64)) in (1..).zip(names) {
        fs::write(drop.join("run1").join(OsStr::from_bytes(name)), "hello").expect("written");
        let bytes = match base64 {
            "" => String::new(),
            base64 => format!("\"path_bytes\":\"{base64}\","),
        };
        bodies.push(("upload", file(id, shown, HELLO, &format!("{sha256}{bytes}"))));
    }
    // The same file at another destination counts as one file.
    let elsewhere = file(91, "plain", HELLO, &sha256).replace("\"far\"", "\"near\"");
    bodies.push(("found-again", elsewhere));
    let ledgers = Ledgers::new(&[("lab/run1.jsonl", &chained(bodies.clone()).concat())]);
    for (format, program) in [("md5sum", "md5sum"), ("sha256sum", "sha256sum")] {
        let output = ledgers.command(&["run1", "--format", format]).output().expect("it runs");
        assert!(output.status.success(), "{}", said(&output));
        let list = drop.with_extension("sums");
        fs::write(&list, &output.stdout).expect("written");
        let check = Command::new(program).arg("-c").arg(&list).current_dir(&drop).output();
        let check = check.expect("it runs");
        assert!(check.status.success(), "{}{}", said(&check), said(&output));
        assert_eq!(output.stdout.iter().filter(|byte| **byte == b'\n').count(), names.len());
    }
    let parts = file(92, "large", HELLO, "").replace("\"parts\":[", "\"parts\":[{\"number\":0,\"offset\":0,\"length\":0,\"md5\":\"5d41402abc4b2a76b9719d911017c592\",\"etag\":\"x\"},");
    bodies.push(("upload", parts));
    ledgers.write("lab/run1.jsonl", &chained(bodies).concat());
    let (code, _, talk) = ledgers.receipts(&["run1", "--format", "md5sum", "--destination", "far"]);
    assert_eq!(code, Some(1));
    assert!(
        talk.contains("1 file has no such digest") && talk.contains("whole_file_digest"),
        "{talk}"
    );
}

#[test]
fn csv_is_quoted_and_lines_are_printed_as_they_are() {
    let text = chained([
        ("upload", file(1, r#"a,\"b\""#, HELLO, "")),
        ("upload", file(2, "=1+1", HELLO, "").replace("run1/=1+1\",\"size\"", "=1+1\",\"size\"")),
        ("upload", file(3, "c", HELLO, "")),
        ("exported", r#""id":3,"volume":"lab/archive","location":"c","job":"j1","exported_at":"2026-11-29T10:00:00Z""#.into()),
    ]);
    let ledgers = Ledgers::new(&[("lab/run1.jsonl", &text.concat())]);
    let (code, out, _) = ledgers.receipts(&["--format", "csv"]);
    assert_eq!(code, Some(0));
    let rows: Vec<_> = out.lines().collect();
    assert!(rows[0].starts_with("drop,path,size_bytes,mtime,destination"), "{out}");
    assert!(rows[1].starts_with(r#"lab,"run1/a,""b""",5,1970-01-01T00:00:01Z,far,"#), "{out}");
    assert!(rows[2].starts_with("lab,'=1+1,5,"), "{out}");
    assert_eq!(rows.len(), 4);
    let (_, out, _) = ledgers.receipts(&["lab/run1", "--print"]);
    assert_eq!(out, text.concat());
}

#[test]
fn a_page_of_a_run_says_all_of_it_and_nothing_in_it_is_obeyed() {
    let odd = r#"<script>alert(1)<\/script>&\"'\u202egnp.exe"#;
    let retried = file(3, "c", HELLO, "").replace(
        "\"bytes_sent\":5,\"bytes_sent_again\":0,\"attempt_count\":0",
        "\"bytes_sent\":9,\"bytes_sent_again\":4,\"attempt_count\":2",
    );
    let older = file(9, "c", &"1".repeat(32), "").replace("\"size\":5", "\"size\":4");
    let completed = r#""drop":"lab","run":"run1","wave":1,"file_count":2,"bytes":10,"opened_at":"2026-11-29T09:58:00Z","outcome":"RunCompleted""#;
    let lines = chained([
        ("upload", older),
        ("upload", file(1, odd, HELLO, "")),
        ("upload", retried),
        ("exported", r#""id":3,"volume":"lab/archive","location":"c","job":"j1","exported_at":"2026-11-29T10:00:00Z""#.into()),
        ("closed-by-hand", r#""drop":"lab","run":"run1","by":"root","missing":["RTAComplete.txt"]"#.into()),
        ("run-completed", completed.into()),
    ]);
    let ledgers = Ledgers::new(&[("lab/run1.jsonl", &lines.concat())]);
    let (code, page, talk) = ledgers.receipts(&["run1", "--format", "html"]);
    assert_eq!(code, Some(0), "{talk}");
    for said in [
        "<h1>Receipt of run1</h1>",
        "ext4 ab /data 7",
        "seq-07",
        "lab at https://s3.example",
        "far: runs/run1/c",
        "2026-11-29T10:00:00Z, wave 1: 2 files, 10 B",
        "RunCompleted",
        "failed attempts: 2, of 1 uploads; 4 B of 19 B sent again",
        "Versions that were replaced later",
        &"1".repeat(32),
        "lab/archive",
        "closed by hand (root) without RTAComplete.txt",
        "MD5 5d41402abc4b2a76b9719d911017c592",
        sha256_of(&lines[5]),
        "dropferry receipts lab/run1 --check --head",
        "&lt;script&gt;alert(1)&lt;/script&gt;&amp;&quot;&#39;\\u{202e}gnp.exe",
        "size: A4",
    ] {
        assert!(page.contains(said), "{said:?} is not in:\n{page}");
    }
    for never in ["<script", "\u{202e}", "src=", "href=", "http-equiv=\"refresh"] {
        assert!(!page.contains(never), "{never:?} is in:\n{page}");
    }
    assert!(page.ends_with("</html>\n") && page.starts_with("<!doctype html>"), "{page}");
    let rows = page.matches("<tr><td>").count();
    assert_eq!(
        rows,
        1 + 1 + 2 + 1 + 1,
        "a destination, a ledger, files, a replaced one, an export"
    );
}

/// The peak memory of a process so far.
fn memory_of(process: &Child) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", process.id())).expect("it runs");
    let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux says it");
    let kib = most.trim().strip_suffix(" kB").and_then(|kib| kib.parse::<u64>().ok());
    kib.expect("a number") << 10
}

#[test]
fn sums_of_a_run_of_many_files_need_little_memory() {
    const COUNT: u32 = 100_000;
    let ledgers = Ledgers::new(&[("lab/run1.jsonl", "")]);
    let ledger = fs::File::create(ledgers.path("state/receipts/lab/run1.jsonl")).expect("created");
    let (mut ledger, mut chain) = (BufWriter::new(ledger), Chain::default());
    for id in 0..COUNT {
        let file = file(id, &format!("Data/Intensities/{id:08}.cbcl"), HELLO, "");
        ledger.write_all(chain.line("upload", &file).as_bytes()).expect("written");
    }
    ledger.flush().expect("written");
    let mut sums = ledgers.command(&["run1", "--format", "md5sum"]);
    let mut sums = sums.stdout(Stdio::piped()).spawn().expect("it runs");
    let mut lines = BufReader::new(sums.stdout.take().expect("piped")).lines();
    // It cannot end before the rest is read, which is more than a pipe holds.
    let read = lines.by_ref().take(COUNT as usize - 10_000).count();
    let most = memory_of(&sums);
    assert_eq!(read + lines.count(), COUNT as usize);
    assert!(sums.wait().expect("it ends").success());
    // For three times as many lines, 64 MiB are allowed.
    assert!(most <= 40 << 20, "{most} bytes");
}

/// Has each notice appended to a file.
fn keep_notices(stage: &Stage) {
    let notices = stage.path("notices").display().to_string();
    let on = "on = [\"run-completed\", \"receipts-damaged\"]";
    let command = format!(
        "[notify.command]\nrun = [\"/bin/sh\", \"-c\", \"cat >> {notices}; echo >> {notices}\"]\n{on}\n"
    );
    let config = fs::OpenOptions::new().append(true).open(stage.path("config.toml"));
    config.and_then(|mut config| config.write_all(command.as_bytes())).expect("written");
}

/// A daemon whose run has arrived, and that checks its ledgers all the time.
fn stage() -> Stage {
    let mut stage =
        Stage::new(Options { state: "check_interval = \"100ms\"", ..Options::default() });
    keep_notices(&stage);
    stage.write("run1/a", b"hello");
    stage.write("run1/b\nb", b"hello, world");
    stage.start();
    stage.until_count("completed", 2);
    stage
}

fn notices(stage: &Stage, kind: &str) -> Vec<Value> {
    let text = fs::read_to_string(stage.path("notices")).unwrap_or_default();
    let values = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    values.filter(|notice| notice["kind"] == kind).collect()
}

#[test]
fn the_head_in_the_notice_of_a_completed_run_is_found_in_its_ledger() {
    let stage = stage();
    let notice = until("it is told", || notices(&stage, "run-completed").pop());
    let (name, head) = (&notice["ledger"]["name"], notice["ledger"]["sha256"].as_str());
    assert_eq!(name, "lab/run1.jsonl", "{notice}");
    let head = head.expect("a digest");
    let check = |arguments: &[&str]| {
        let output = stage.output("receipts", arguments);
        (output.status.code(), said(&output))
    };
    let (code, said) = check(&["lab/run1", "--check", "--head", head]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(": holds\nthe head that is asked for is "), "{said}");
    assert!(notice["text"].as_str().expect("text").contains(head), "{notice}");
    let page = stage.output("receipts", &["run1", "--format", "html"]);
    assert!(String::from_utf8_lossy(&page.stdout).contains(head));
    let program = stage.path("check.py");
    fs::write(&program, script()).expect("written");
    let ledger = stage.path("state/receipts/lab/run1.jsonl");
    let python = Command::new("python3").arg(&program).arg(&ledger).arg(head).output();
    let Ok(python) = python else { return skipped("python3 is not installed") };
    assert!(python.status.success(), "{}", self::said(&python));
    // Its end is cut off: the database knows that, and without a database the head shows it.
    let text = fs::read_to_string(&ledger).expect("read");
    fs::write(&ledger, &text[..text.trim_end().rfind('\n').expect("lines") + 1]).expect("written");
    let (code, said) = check(&["lab/run1", "--check"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("does not hold: the database knows"), "{said}");
    fs::remove_file(&ledger).expect("removed");
    let (code, said) = check(&["lab/run1", "--check"]);
    assert_eq!(code, Some(1), "{said}");
}

#[test]
fn damage_that_the_check_finds_is_told_shown_and_over_when_it_is_restored() {
    let stage = stage();
    let ledger = stage.path("state/receipts/lab/run1.jsonl");
    // Its line is durable before the notice is sent.
    until("the run is completed", || notices(&stage, "run-completed").pop());
    let whole = fs::read_to_string(&ledger).expect("read");
    assert!(stage.output("doctor", &["--offline"]).status.success());
    // The order in which the files were verified is not reported.
    let at = whole.lines().position(|line| line.contains("\"size\":5,")).expect("a line") + 1;
    fs::write(&ledger, whole.replacen("\"size\":5,", "\"size\":6,", 1)).expect("written");
    let check = || stage.output("status", &["--check"]).status.code();
    until("it is found", || (check() == Some(6)).then_some(()));
    let status = stage.status();
    let attention = &status["attention"][0];
    assert_eq!(attention["code"], "receipts-damaged", "{status}");
    assert_eq!(attention["what"], "lab/run1.jsonl");
    assert!(
        attention["cure"].as_str().expect("text").contains("Restore the ledger"),
        "{attention}"
    );
    let text = String::from_utf8_lossy(&stage.output("status", &[]).stdout).into_owned();
    assert!(text.contains("! lab/run1.jsonl: "), "{text}");
    assert!(text.contains(&format!(": line {at}: ")), "{text}");
    let doctor = stage.output("doctor", &["--offline"]);
    assert_eq!(doctor.status.code(), Some(6), "{}", said(&doctor));
    assert!(said(&doctor).contains("fail  receipts all: "), "{}", said(&doctor));
    let verify = stage.output("verify", &["lab/run1"]);
    assert_eq!(verify.status.code(), Some(1), "{}", said(&verify));
    let unsound = format!("the ledger lab/run1.jsonl does not hold: line {at}: ");
    assert!(said(&verify).contains(&unsound), "{}", said(&verify));
    let told = until("it is told", || notices(&stage, "receipts-damaged").pop());
    assert_eq!((&told["name"], &told["state"]), (&"lab/run1.jsonl".into(), &"stays".into()));
    fs::write(&ledger, whole).expect("restored");
    until("that it is whole is noted", || (check() == Some(0)).then_some(()));
    let told = until("it is told", || notices(&stage, "receipts-damaged").into_iter().nth(1));
    assert_eq!(told["state"], "ok", "{told}");
    assert_eq!(told["text"], "the ledger lab/run1.jsonl is whole again");
    assert!(stage.output("doctor", &["--offline"]).status.success());
}

/// Lines of all ledgers that are about a file, by its path.
fn line_of(stage: &Stage, path: &str) -> Value {
    let lines = stage.lines_of("upload");
    lines.into_iter().find(|line| line["path"] == path).expect("it has a line")
}

fn ledger(stage: &Stage, name: &str) -> String {
    fs::read_to_string(stage.path("state/receipts/lab").join(name)).unwrap_or_default()
}

/// Waits until a file has its line in a ledger, and its run is completed there behind it.
fn until_completed_in(stage: &Stage, name: &str, path: &str) {
    let file = format!("\"path\":\"{path}\"");
    until("the run is completed", || {
        let text = ledger(stage, name);
        let (_, behind) = text.split_once(&file)?;
        behind.contains("\"kind\":\"run-completed\"").then_some(())
    });
}

#[test]
fn a_run_that_comes_again_has_a_ledger_of_its_own_also_when_the_database_was_lost() {
    let mut stage = Stage::new(Options {
        platforms: &["s3"],
        transfer: "parts_in_flight = 4\npart_size = \"256 KiB\"",
        switches: "{\"s3\": {\"keeps_versions\": true}}",
        ..Options::default()
    });
    stage.write("run1/small", b"hello");
    stage.write("run1/large", &noise(700 << 10, 1));
    stage.start();
    stage.until_count("completed", 2);
    until_completed_in(&stage, "run1.jsonl", "run1/large");
    let (small, large) = (line_of(&stage, "run1/small"), line_of(&stage, "run1/large"));
    for line in [&small, &large] {
        assert_eq!(line["version_id"].as_str().map(str::len), Some(32), "{line}");
        assert_eq!(line["wave"], 0, "{line}");
    }
    assert_ne!(small["version_id"], large["version_id"]);
    stage.write("run1/late", b"late");
    stage.until_count("completed", 3);
    until_completed_in(&stage, "run1.jsonl", "run1/late");
    assert_eq!(line_of(&stage, "run1/late")["wave"], 1);
    let first = ledger(&stage, "run1.jsonl");

    fs::remove_dir_all(stage.drop().join("run1")).expect("removed");
    let sql = "SELECT first_ledger FROM runs";
    let number = |stage: &Stage| {
        let database = Connection::open(stage.path("state/dropferry.db")).expect("opens");
        database.query_row(sql, [], |row| row.get::<_, u32>(0)).expect("a run")
    };
    until("it is seen to be gone", || (number(&stage) == 2).then_some(()));
    stage.write("run1/again", b"another run");
    stage.until_count("completed", 4);
    stage.kill();
    stage.start();
    until_completed_in(&stage, "run1~2.jsonl", "run1/again");
    assert_eq!(ledger(&stage, "run1.jsonl"), first, "the run of before is as it was");
    let check = stage.output("receipts", &["run1", "--check"]);
    assert_eq!(said(&check).matches(": holds").count(), 2, "{}", said(&check));

    stage.kill();
    for name in ["dropferry.db", "dropferry.db-wal", "dropferry.db-shm"] {
        fs::remove_file(stage.path("state").join(name)).unwrap_or(());
    }
    let restored = stage.output("restore", &["--receipts"]);
    assert!(restored.status.success(), "{}", said(&restored));
    stage.write("run1/later", b"of the other run");
    stage.start();
    until_completed_in(&stage, "run1~2.jsonl", "run1/later");
    assert_eq!(ledger(&stage, "run1.jsonl"), first, "the run of before is as it was");
    assert_eq!(ledger(&stage, "run1~3.jsonl"), "");
}

#[test]
fn a_sentinel_that_was_sent_is_removed_here() {
    let mut stage = Stage::new(Options {
        // Old parts, and other leftovers, are looked for each second.
        state: "keep_parts = \"10s\"",
        drop: "quiet_period = \"50ms\"\nscan_interval = \"500ms\"\nsentinel = \"DONE.json\"",
        ..Options::default()
    });
    stage.write("run1/a", b"hello");
    stage.start();
    until("it is there", || {
        let files = stage.files();
        files.iter().any(|file| file["name"] == "DONE.json").then_some(())
    });
    let sentinels = stage.path("state/sentinels/lab");
    let kept = || fs::read_dir(&sentinels).map_or(0, Iterator::count);
    // It is removed once nothing remains to be sent.
    until("it is removed here", || (kept() == 0).then_some(()));
    assert_eq!(stage.lines_of("upload").iter().filter(|line| line["sentinel"] == true).count(), 1);
}

#[test]
fn disposal_that_meets_a_damaged_line_says_so_at_once() {
    let mut stage = Stage::new(Options {
        platforms: &["s3"],
        drop: "quiet_period = \"50ms\"\nscan_interval = \"500ms\"\ndisposition = \"delete\"\n\
            disposition_grace = \"10s\"",
        ..Options::default()
    });
    stage.write("run1/a", b"hello");
    stage.start();
    until_completed_in(&stage, "run1.jsonl", "run1/a");
    let path = stage.path("state/receipts/lab/run1.jsonl");
    let changed = ledger(&stage, "run1.jsonl").replacen("\"size\":5,", "\"size\":6,", 1);
    fs::write(&path, &changed).expect("written");
    let check = || stage.output("status", &["--check"]).status.code();
    let attention = until("it is noted", || {
        let first = stage.status()["attention"][0].clone();
        (first["code"] == "receipts-damaged").then_some(first)
    });
    assert_eq!(attention["what"], "lab/run1.jsonl", "{attention}");
    assert_eq!(check(), Some(6));
    assert!(stage.drop().join("run1/a").exists(), "its source stays");
    stage.write("run1/late", b"late");
    until_completed_in(&stage, "run1~2.jsonl", "run1/late");
    assert_eq!(ledger(&stage, "run1.jsonl"), changed, "nothing is written over");
}

#[test]
fn a_run_stays_while_a_ledger_of_it_is_damaged_and_a_start_finds_that_and_its_cure() {
    let mut stage = Stage::new(Options {
        platforms: &["s3"],
        drop: "quiet_period = \"50ms\"\nscan_interval = \"500ms\"\ndisposition = \"delete\"\n\
            disposition_grace = \"6s\"",
        ..Options::default()
    });
    keep_notices(&stage);
    stage.write("run1/a", b"hello");
    stage.start();
    until_completed_in(&stage, "run1.jsonl", "run1/a");
    until("it is completed", || notices(&stage, "run-completed").pop());
    stage.kill();
    let path = stage.path("state/receipts/lab/run1.jsonl");
    let whole = ledger(&stage, "run1.jsonl");
    let cut = whole.split_inclusive('\n').next().expect("the line of the file");
    fs::write(&path, cut).expect("written");
    stage.start();
    let told = until("a start finds it", || notices(&stage, "receipts-damaged").pop());
    assert_eq!((&told["name"], &told["state"]), (&"lab/run1.jsonl".into(), &"stays".into()));
    stage.write("run1/late", b"late");
    until_completed_in(&stage, "run1~2.jsonl", "run1/late");
    let failure = until("it is to be disposed of", || {
        let status = stage.status();
        status["runs"][0]["disposal"]["failure"].as_str().map(str::to_owned)
    });
    assert!(failure.contains("run1.jsonl is damaged"), "{failure}");
    assert!(stage.drop().join("run1/a").exists() && stage.drop().join("run1/late").exists());
    stage.kill();
    // Half a line behind it is no damage: it is set aside.
    fs::write(&path, whole + "{\"kind\"").expect("written");
    stage.start();
    until("a start finds it whole", || {
        let mut told = notices(&stage, "receipts-damaged").into_iter();
        told.find(|told| told["name"] == "lab/run1.jsonl" && told["state"] == "ok")
    });
    until("its source is disposed of", || (!stage.drop().join("run1").exists()).then_some(()));
    stage.kill();
    stage.start();
    until("the tail is set aside", || {
        stage.output("receipts", &["--check"]).status.success().then_some(())
    });
    let attention = stage.status()["attention"].to_string();
    assert!(!attention.contains("receipts-damaged"), "{attention}");
}
