//! A stand-in for Illumina BaseSpace v1pre3: projects, AppResults, AppSessions, files.
//!
//! `wire` parses requests and builds answers, `world` holds the state, `calls` and `files` do the work. Where
//! the vendor's rules leave something open, the harder interpretation is the default, or a switch decides.
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

/// The existing project.
pub(crate) const PROJECT: &str = "410000001";
/// The existing AppResult, running, in that project.
pub(crate) const APP_RESULT: &str = "710000001";

/// Deviations where the vendor's documentation leaves the behaviour open.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Switches {
    /// The parts of a pending file can be listed; otherwise the route does not exist.
    pub parts_listed: bool,
    /// A gap between parts is refused at complete, not joined silently.
    pub gap_refused: bool,
    /// A single upload without bytes is refused.
    pub zero_byte_refused: bool,
    /// A second complete file of one path in one AppResult is refused.
    pub duplicate_path_refused: bool,
    /// This many reads of a file return the state before its last change.
    pub replica_lag_reads: u64,
    /// Successful answers carry a notification of planned downtime.
    pub notification: bool,
    /// The ETag of a file of many parts.
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

/// The ETag of a file of many parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MultipartEtag {
    /// The MD5 of the MD5s, a dash, and the number of parts.
    #[default]
    Joined,
    /// Missing.
    None,
}
