//! A stand-in for Gjirafa VP: uploads, and the storage behind their signed addresses.

use std::sync::Arc;

use axum::Router;
use serde::{Deserialize, Serialize};

use super::Shared;
use super::stand::{Holds, RemoteFile};

/// The project that exists.
pub const PROJECT: &str = "abcdefgh";

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
