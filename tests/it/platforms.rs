//! The real binary against the stand-ins of S3, BaseSpace and Gjirafa VP.
//!
//! What every platform must withstand is written once and run at each, as a test of its own; what
//! only one of them can do is below its name.

mod damage;
mod faults;
mod headers;
mod life;
mod pauses;
mod projects;
mod refusals;
mod scope;
mod small_parts;
mod switches;
mod weather;

use serde_json::Value;

use super::stage::{Options, Stage};

/// Runs these scenarios at each platform, as tests of their own.
macro_rules! at_each_platform {
    ($($fact:ident)*) => {
        mod s3 {
            $(#[test] fn $fact() { super::$fact("s3"); })*
        }
        mod basespace {
            $(#[test] fn $fact() { super::$fact("basespace"); })*
        }
        mod gjirafa_vp {
            $(#[test] fn $fact() { super::$fact("gjirafa-vp"); })*
        }
    };
}
use at_each_platform;

/// A stage at one platform, where a file of 3 MiB has three parts.
fn stage_at(platform: &str, options: Options) -> Stage {
    let platforms: &[&str] = match platform {
        "s3" => &["s3"],
        "basespace" => &["basespace"],
        "gjirafa-vp" => &["gjirafa-vp"],
        "sevenbridges" => &["sevenbridges"],
        other => panic!("no such platform: {other}"),
    };
    Stage::new(Options { platforms, ..options })
}

const PARTS: &str = "parts_in_flight = 4\npart_size = \"1 MiB\"";
/// Slow enough for a test to act while a file is sent.
const SLOW: &str = "parts_in_flight = 2\nbandwidth = \"4 MB/s\"\npart_size = \"512 KiB\"";

fn calm() -> Options {
    Options { transfer: PARTS, ..Options::default() }
}

fn slow() -> Options {
    Options { transfer: SLOW, ..Options::default() }
}

/// The begun uploads that a platform without a list of uploads cannot show again once their answer was lost.
fn nameless_begins(platform: &str) -> usize {
    match platform {
        "basespace" => 1,
        // One in parts, one in a single request.
        "gjirafa-vp" => 2,
        _ => 0,
    }
}

/// The upload of a file, as `status` shows it.
fn upload_of(stage: &Stage, path: &str) -> Value {
    let status = stage.status();
    let uploads = status["uploads"].as_array().expect("a list");
    uploads.iter().find(|upload| upload["path"] == path).cloned().unwrap_or_default()
}
