//! `verify` with the real binary: what is there as it was sent, what is not, and what cannot be decided.

use std::fs;
use std::process::Output;
use std::time::Duration;

use reqwest::Url;
use rustix::process::Signal;
use rusty_s3::{Bucket, Credentials, S3Action, UrlStyle};
use serde_json::Value;

use super::stage::{Options, Stage, TOKEN, noise};

const PLATFORMS: &[&str] = &["sevenbridges", "basespace", "gjirafa-vp", "s3"];

/// Three files that have arrived, of several parts, one, and none.
fn stage(platforms: &'static [&'static str]) -> Stage {
    let mut stage = Stage::new(Options {
        platforms,
        transfer: "parts_in_flight = 4\npart_size = \"1 MiB\"",
        ..Options::default()
    });
    stage.write("run1/large", &noise(3 << 20, 1));
    stage.write("run1/small", b"hello");
    stage.write("run2/empty", b"");
    stage.start();
    stage.until_count("completed", 3 * platforms.len() as u64);
    stage
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Verdict and finding for each path, and whether it ended well.
fn verify(stage: &Stage, arguments: &[&str]) -> (Vec<(String, String, String)>, bool) {
    let output = stage.output("verify", &[arguments, &["--json"]].concat());
    let shown: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("verify says no JSON ({error}): {}", String::from_utf8_lossy(&output.stderr))
    });
    let text = |file: &Value, key: &str| file[key].as_str().expect("a text").to_owned();
    let files = shown["files"].as_array().expect("a list").iter();
    let files = files.map(|file| (text(file, "path"), text(file, "state"), text(file, "found")));
    (files.collect(), output.status.success())
}

/// Makes a call to the stand-in of S3 about an object.
fn call<'a, A: S3Action<'a>>(stage: &Stage, action: &A, (method, body): (&str, &str)) {
    let url = action.sign(Duration::from_secs(600));
    stage.request(method, &format!("{}?{}", url.path(), url.query().unwrap_or_default()), body);
}

fn bucket() -> (Bucket, Credentials) {
    let endpoint = Url::parse("http://sandbox").expect("a URL");
    let bucket = Bucket::new(endpoint, UrlStyle::Path, "lab-demo", "us-east-1").expect("a bucket");
    (bucket, Credentials::new("SANDBOX", TOKEN))
}

#[test]
fn what_has_arrived_at_four_platforms_is_the_same_there_and_here() {
    let mut stage = stage(PLATFORMS);
    stage.signal(Signal::TERM);
    assert!(stage.wait_for_end().success(), "it needs no daemon");
    let rows = fs::read(stage.path("state/dropferry.db")).expect("read");
    for arguments in [&["lab"][..], &["lab", "--content"]] {
        let (files, is_well) = verify(&stage, arguments);
        assert_eq!(files.len(), 12, "{files:?}");
        assert!(is_well && files.iter().all(|(_, state, _)| state == "same"), "{files:?}");
    }
    let (files, _) = verify(&stage, &["lab/run1", "--content"]);
    assert_eq!(files.len(), 8, "{files:?}");
    let large = files.iter().filter(|(path, _, _)| path == "run1/large");
    assert!(
        large.clone().all(|(_, _, found)| found.contains("3 parts of the source")),
        "{files:?}"
    );
    let by_digest = large.filter(|(_, _, found)| found.starts_with("size and digest")).count();
    assert!(by_digest >= 2, "Seven Bridges and S3 tell a digest: {files:?}");
    assert_eq!(verify(&stage, &["lab/run2/empty"]).0.len(), 4);
    assert_eq!(fs::read(stage.path("state/dropferry.db")).expect("read"), rows);
    let line = said(&stage.output("verify", &["1"]));
    assert!(line.starts_with("same  ") && line.contains("  (size"), "{line}");
}

#[test]
fn what_was_changed_or_taken_away_at_the_destination_is_told() {
    let stage = stage(&["s3"]);
    let (bucket, keys) = bucket();
    call(&stage, &bucket.put_object(Some(&keys), "runs/run1/small"), ("PUT", "HELLO"));
    call(&stage, &bucket.put_object(Some(&keys), "runs/run1/large"), ("PUT", "short"));
    call(&stage, &bucket.delete_object(Some(&keys), "runs/run2/empty"), ("DELETE", ""));
    let (files, is_well) = verify(&stage, &["lab"]);
    assert!(!is_well);
    let states: Vec<_> = files.iter().map(|(path, state, _)| (path.as_str(), &**state)).collect();
    let expected =
        [("run1/large", "differs"), ("run1/small", "differs"), ("run2/empty", "not there")];
    assert_eq!(states, expected, "{files:?}");
    assert_eq!(files[0].2, "size: 5 bytes there, 3145728 sent");
    assert!(files[1].2.starts_with("digest: "), "{files:?}");
    assert_eq!(files[2].2, "the destination has no file runs/run2/empty");
}

#[test]
fn a_source_that_was_changed_or_removed_is_told_by_its_content() {
    let mut stage = stage(&["sevenbridges"]);
    stage.kill();
    let place = stage.drop().join("run1/large");
    let mut bytes = fs::read(&place).expect("read");
    bytes[2 << 20] ^= 1;
    fs::write(&place, bytes).expect("written");
    fs::write(stage.drop().join("run1/small"), b"hello, world").expect("written");
    fs::remove_file(stage.drop().join("run2/empty")).expect("removed");
    assert!(verify(&stage, &["lab"]).1, "what is there is what was sent");
    let (files, is_well) = verify(&stage, &["lab", "--content"]);
    assert!(!is_well);
    let states: Vec<_> = files.iter().map(|(_, state, found)| (&**state, &**found)).collect();
    let expected = [
        ("differs", "part 3 of the source is not what was sent"),
        ("differs", "the source has 12 bytes, 5 were sent"),
        ("cannot be told", "the source is not there any more"),
    ];
    assert_eq!(states, expected);
}

#[test]
fn what_cannot_be_asked_is_not_the_same() {
    let mut stage = stage(&["sevenbridges"]);
    stage.kill();
    stage.tell("switches", "{\"token_revoked\": true}");
    let (files, is_well) = verify(&stage, &["lab/run2"]);
    assert!(!is_well && files.len() == 1, "{files:?}");
    assert_eq!(files[0].1, "cannot be told", "{files:?}");
    assert!(files[0].2.contains("unauthorized"), "{files:?}");
    for (which, why) in [("lab/run", "nothing of \"lab/run\" has arrived"), ("99", "nothing of")] {
        let output = stage.output("verify", &[which]);
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(why), "{said}");
    }
}
