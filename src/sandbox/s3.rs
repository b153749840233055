//! A stand-in for S3: one bucket, multipart uploads, signatures checked.

use std::sync::Arc;

use axum::Router;
use serde::{Deserialize, Serialize};

use super::Shared;
use super::stand::{Holds, RemoteFile};

/// The region that signatures must name.
pub const REGION: &str = "us-east-1";
/// The bucket that exists.
pub const BUCKET: &str = "lab-demo";
/// The access key; its secret is the sandbox's token.
pub const ACCESS_KEY: &str = "SANDBOX";

/// How it may differ from what its documents say, where they leave it open.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Switches {}

/// Everything that exists.
#[derive(Debug, Default)]
pub(super) struct World {}

impl World {
    pub(super) fn new() -> Self {
        Self::default()
    }
}

impl Holds for World {
    fn files(&self) -> Vec<RemoteFile> {
        Vec::new()
    }

    fn open_uploads(&self) -> Vec<String> {
        Vec::new()
    }

    fn vanish(&mut self, _: Option<&str>) {}
}

pub(super) fn routes() -> Router<Arc<Shared>> {
    Router::new()
}
