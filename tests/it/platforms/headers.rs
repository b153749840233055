//! Names that no header can carry, as metadata and tags at S3, whose sandbox checks every signature.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::super::stage::{Options, Stage};

const NAMES: [&[u8]; 10] = [
    b"plain",
    "\u{fc}bung".as_bytes(),
    b"line\nbreak",
    b"return\r\nx-amz-acl: public-read",
    b" led and trailed ",
    b"two  spaces",
    b"tab\tand \x01\x7f",
    b"=?UTF-8?B?YQ==?=",
    b"no \xff UTF-8",
    "\u{202e}\u{1f9ec}\u{2028}".as_bytes(),
];

/// Decodes a header as a mail reader would.
fn decoded(header: &str) -> String {
    if !header.starts_with("=?UTF-8?B?") {
        return header.to_owned();
    }
    let words = header.split(' ').flat_map(|word| {
        let word = word.strip_prefix("=?UTF-8?B?").and_then(|word| word.strip_suffix("?="));
        STANDARD.decode(word.expect("framed")).expect("base64")
    });
    String::from_utf8(words.collect()).expect("UTF-8")
}

#[test]
fn any_directory_name_goes_as_metadata_and_holds_nothing_up() {
    let mut stage = Stage::new(Options {
        platforms: &["s3"],
        destination: "metadata = { run = \"{run}\", Source = \"\u{fc}ber\\n{drop}\" }\n\
            tags = [\"run={run}\", \"dropferry\"]",
        ..Options::default()
    });
    for name in NAMES {
        let directory = stage.drop().join(OsStr::from_bytes(name));
        fs::create_dir(&directory).expect("made");
        fs::write(directory.join("file"), name).expect("written");
    }
    stage.start();
    stage.until_count("completed", NAMES.len() as u64);
    let status = stage.status();
    assert_eq!(status["destinations"][0]["state"], "ok");
    let attempts = status["uploads"].as_array().expect("a list").iter();
    assert!(attempts.clone().all(|upload| upload["attempt_count"] == 0), "{status}");
    let runs: BTreeMap<String, ()> = stage
        .files_of("s3")
        .iter()
        .map(|file| {
            let of = |key: &str| decoded(file["metadata"][key].as_str().expect("a value"));
            assert_eq!(of("source"), "\u{fc}ber\nlab");
            (of("run"), ())
        })
        .collect();
    let expected = NAMES.iter().map(|name| match std::str::from_utf8(name) {
        Ok(name) => (name.to_owned(), ()),
        Err(_) => ("no %FF UTF-8".to_owned(), ()),
    });
    assert_eq!(runs, expected.collect());
}

#[test]
fn keys_that_no_header_can_carry_are_refused_before_anything_starts() {
    for (metadata, why) in [
        ("{ \"two words\" = \"a\" }", "two words"),
        ("{ \"\u{fc}ber\" = \"a\" }", "\u{fc}ber"),
        ("{ \"a:b\" = \"a\" }", "a:b"),
        ("{ \"\" = \"a\" }", "\"\""),
        ("{ Run = \"a\", run = \"b\" }", "run"),
        ("{ dropferry-upload = \"a\" }", "dropferry-upload"),
    ] {
        let stage = Stage::new(Options { platforms: &["s3"], ..Options::default() });
        let text = fs::read_to_string(stage.path("config.toml")).expect("read");
        let text = text.replace("prefix =", &format!("metadata = {metadata}\nprefix ="));
        fs::write(stage.path("config.toml"), text).expect("written");
        let output = stage.output("check-config", &[]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(3), "{metadata}: {said}");
        assert!(said.contains(why), "{metadata}: {said}");
    }
}
