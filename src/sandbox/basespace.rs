//! A stand-in for Illumina BaseSpace v1pre3: projects, AppResults, AppSessions, files.
//!
//! `wire` takes requests apart and puts answers together, `world` holds what exists, `calls` and
//! `files` do the work. Where the vendor's rules leave something open, the nastier reading is the
//! default, or a switch decides.

mod calls;
mod files;
mod list;
mod wire;
mod world;

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub(super) use calls::routes;
pub(super) use world::World;

/// The project that exists.
pub(crate) const PROJECT: &str = "410000001";
/// The AppResult that exists, running, in that project.
pub(crate) const APP_RESULT: &str = "710000001";

/// How it may differ from what its documents say, where they leave it open.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Switches {
    /// The parts of a pending file can be listed; else that is no route.
    pub parts_listed: bool,
    /// A gap between parts is refused at complete, not joined silently.
    pub gap_refused: bool,
    /// A single upload without bytes is refused.
    pub zero_byte_refused: bool,
    /// A second complete file of one path in one AppResult is refused.
    pub duplicate_path_refused: bool,
    /// That many looks at a file see the state before its last change.
    pub replica_lag_reads: u64,
    /// Success comes with a notification of a planned downtime.
    pub notification: bool,
    /// What the ETag of a file of many parts is.
    pub multipart_etag: MultipartEtag,
}

impl Default for Switches {
    fn default() -> Self {
        Self {
            parts_listed: true,
            gap_refused: false,
            zero_byte_refused: false,
            duplicate_path_refused: false,
            replica_lag_reads: 0,
            notification: false,
            multipart_etag: MultipartEtag::Joined,
        }
    }
}

/// What the ETag of a file of many parts is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MultipartEtag {
    /// The MD5 of the MD5s, a dash, and the count of parts.
    #[default]
    Joined,
    /// Not there.
    None,
}
