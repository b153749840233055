//! The program's own sandbox as a far side, and what is read of a text.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Starts the program's own sandbox on the token in `place`, and returns its address.
pub(crate) fn start_sandbox(mut program: Command, place: &Path) -> (Child, String) {
    let mut child = program
        .args(["sandbox", "--listen", "127.0.0.1:0", "--rate-limit", "1000000000", "--directory"])
        .arg(place.join("sandbox"))
        .arg("--token-file")
        .arg(place.join("token"))
        .args(["--part-size-min", "1"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the sandbox starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let line = lines.find_map(|line| line.ok().filter(|line| line.starts_with("base_url")));
    let line = line.expect("the sandbox says where it listens");
    let address = line.split('"').nth(1).expect("quoted").trim_end_matches("/v2");
    (child, address.to_owned())
}

/// Returns the number that follows a word; 0 when none does.
pub(crate) fn number_after(text: &str, word: &str) -> u64 {
    let rest = text.split_once(word).map_or("", |(_, rest)| rest);
    let digits = rest.trim_start_matches([':', ' ', '\t']).split(|c: char| !c.is_ascii_digit());
    digits.into_iter().next().and_then(|digits| digits.parse().ok()).unwrap_or(0)
}
