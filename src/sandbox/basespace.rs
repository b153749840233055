//! A stand-in for Illumina BaseSpace v1pre3: projects, AppResults, AppSessions, files.

use std::sync::Arc;

use axum::Router;
use serde::{Deserialize, Serialize};

use super::Shared;
use super::stand::{Holds, RemoteFile};

/// The project that exists.
pub const PROJECT: &str = "410000001";
/// The AppResult that exists, running, in that project.
pub const APP_RESULT: &str = "710000001";

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
