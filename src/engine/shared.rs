//! State that the machines share: borrowed by the one that performs a step.

use super::claims::Claims;
use super::flights::Flights;
use super::loading::Loading;
use super::permits::Permits;
use super::roots::RootRegistry;
use super::targets::TargetRegistry;
use crate::model::{StoredState, UploadId};

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) flights: Flights,
    pub(super) permits: Permits,
    pub(super) claims: Claims,
    pub(super) targets: TargetRegistry,
    pub(super) roots: RootRegistry,
    /// Rows are still being read.
    pub(super) loading: Option<Loading>,
    pub(super) next_upload: UploadId,
}

impl Shared {
    pub(super) fn new(stored: &mut StoredState) -> Self {
        let next_upload = stored.next_upload.unwrap_or(UploadId(1));
        Self {
            flights: Flights::new(),
            permits: Permits::new(next_upload),
            claims: Claims::default(),
            targets: TargetRegistry::load(&mut stored.targets),
            roots: RootRegistry::new(stored),
            loading: Some(Loading::new()),
            next_upload,
        }
    }

    /// Returns the id of the next upload.
    pub(super) fn next_id(&mut self) -> UploadId {
        let id = self.next_upload;
        self.next_upload = UploadId(id.0 + 1);
        id
    }
}
