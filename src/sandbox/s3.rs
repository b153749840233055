//! A stand-in for S3: one bucket, path style, signatures checked, multipart uploads.
//!
//! `calls` handles requests, `complete` puts parts together, `lists` lists, `signature` checks the
//! caller, `world` holds the state. Written from the rules of AWS; where compatible storages differ
//! there is a switch.

mod calls;
mod complete;
mod lists;
mod signature;
mod world;
mod xml;

pub(super) use calls::routes;
use serde::{Deserialize, Serialize};
pub(super) use world::World;

/// The region that signatures must name.
pub(crate) const REGION: &str = "us-east-1";
/// The existing bucket.
pub(crate) const BUCKET: &str = "lab-demo";
/// The access key; its secret is the sandbox's token.
pub(crate) const ACCESS_KEY: &str = "SANDBOX";

/// Deviations from AWS, as in other storages.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Switches {
    /// `If-None-Match` is ignored.
    pub ignores_conditions: bool,
    /// A repeated complete finds no upload.
    pub complete_twice_is_gone: bool,
    /// The ETag of an object of many parts is not the MD5 of MD5s.
    pub strange_object_etag: bool,
    /// The same, and another one in each answer.
    pub changing_object_etag: bool,
    /// Parts are listed without ETags.
    pub lists_no_etags: bool,
    /// Uploads cannot be listed.
    pub lists_no_uploads: bool,
    /// Each object has a version, which answers name.
    pub keeps_versions: bool,
    /// Items on one page.
    pub page: usize,
    /// XML roots and names are those of other servers.
    pub other_roots: bool,
}

impl Default for Switches {
    fn default() -> Self {
        Self {
            ignores_conditions: false,
            complete_twice_is_gone: false,
            strange_object_etag: false,
            changing_object_etag: false,
            lists_no_etags: false,
            lists_no_uploads: false,
            keeps_versions: false,
            page: 1000,
            other_roots: false,
        }
    }
}
