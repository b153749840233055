//! Real mistakes of users, and the message for each.

use super::rows::{MISTAKES, with};
use super::said_of_files;

/// The content of the token file, and its mode.
const TOKENS: [(&str, u32, &str); 8] = [
    ("a token that others may read", 0o644, "planted0123456789\n"),
    ("an empty token", 0o600, "\n"),
    ("a token behind a byte order mark", 0o600, "\u{feff}planted0123456789\n"),
    ("a token in quotes", 0o600, "\"planted0123456789\"\n"),
    ("a token behind Bearer", 0o600, "Bearer planted0123456789\n"),
    ("a token of two lines", 0o600, "planted0123456789\nplanted\n"),
    ("a token in UTF-16", 0o600, "p\0l\0a\0n\0t\0e\0d\0"),
    ("a token behind its header", 0o600, "X-SBG-Auth-Token: planted0123456789\n"),
];

#[test]
fn each_mistake_has_a_message_that_leads_to_its_cure() {
    let mut all = String::new();
    for (what, old, new) in MISTAKES {
        all += &said_of(what, &[("config.toml", 0o644, &with(old, new))]);
    }
    insta::assert_snapshot!("mistakes", all);
}

/// Returns the messages about files, one of which has a mistake. A secret in it is never part of them.
fn said_of(what: &str, files: &[(&str, u32, &str)]) -> String {
    let said = said_of_files(files).expect_err(what);
    assert!(!said.contains("planted"), "{said}");
    format!("--- {what}\n{said}\n\n")
}

#[test]
fn a_mistaken_token_and_several_mistakes_at_once_are_all_said() {
    let mut all = String::new();
    let other = with("t.token", "other.token");
    for (what, mode, token) in TOKENS {
        all +=
            &said_of(what, &[("config.toml", 0o644, &other), ("conf.d/other.token", mode, token)]);
    }
    let missing = with("conf.d/t.token", "conf.d/none.token");
    let second = missing.replace("[destinations.far]", "[destinations.other]");
    let (second, _) = second.split_once("[drops").expect("a drop");
    let keys = with("project = \"lab/novaseq\"", "bucket = \"b\"").replace("sevenbridges", "s3");
    let several = with("sevenbridges", "cavatika").replace("\"drop\"", "\"drp\"") + "prority = 1\n";
    for (what, text) in [
        ("one missing file for two", missing.clone() + second),
        ("a token where S3 wants two keys", keys),
        ("several at once", several + "[web]\nlisten = 1\n[transfr]\n"),
        ("several that are no TOML", with("\"drop\"", "drop").replace("\"s", "\u{201c}s")),
    ] {
        all += &said_of(what, &[("config.toml", 0o644, &text)]);
    }
    insta::assert_snapshot!("several", all);
}

#[test]
fn what_people_write_otherwise_and_mean_the_same_is_taken() {
    let of_vendor = "platform = \"sevenbridges\"\nbase_url = \"https://api.example/v2\"";
    for (old, new) in [
        ("[\"far\"]", "\"far\""),
        ("", "[web]\nlisten = \"localhost:8377\"\n"),
        ("", "[transfer]\nbandwidth = \"1.5 MB/s\"\n"),
        (of_vendor, "platform = \"cgc\""),
    ] {
        let text = with(old, new);
        said_of_files(&[("config.toml", 0o644, &text)]).unwrap_or_else(|said| panic!("{said}"));
    }
}
