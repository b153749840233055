//! A stand-in for Gjirafa VP: uploads, and the storage behind their signed addresses.
//!
//! `world` holds the state; `calls` parses requests, `uploads` and `complete` answer them in the
//! vendor's form, `bucket` is the storage. Every breach of the rules is also in the ledger.

mod bucket;
mod calls;
mod complete;
mod uploads;
mod world;

use serde::{Deserialize, Serialize};

pub(super) use calls::routes;
pub(super) use world::World;

/// The existing project.
pub(crate) const PROJECT: &str = "abcdefgh";

/// Deviations where the vendor's documentation leaves the behaviour open.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Switches {
    /// The header with the key.
    pub auth_header: String,
    /// The text before the key, including its blank.
    pub auth_prefix: String,
    /// `contentLength` of a multipart upload must be a string.
    pub strict_length: bool,
    /// Addresses from before a resume are refused.
    pub revoke_old_urls: bool,
    /// A listing ends after that many parts.
    pub list_cap: Option<usize>,
    /// Addresses and listed parts are unordered.
    pub shuffle: bool,
    /// A completed upload can still be listed.
    pub list_after_complete: bool,
    /// A resume signs only missing parts.
    pub resume_urls_missing_only: bool,
    /// A resume changes the id in the storage, and loses the parts.
    pub resume_new_id: bool,
    /// Status of a complete after the first; 200 is a success.
    pub complete_twice: u16,
    /// How ETags are listed, and must be sent at complete.
    pub etag_form: EtagForm,
    /// The lengths of the parts must add up to `contentLength`.
    pub check_length: bool,
    /// Complete does nothing, and reports that with status 200.
    pub soft_fail: bool,
    /// An abort after complete removes the file.
    pub abort_deletes: bool,
    /// `success` answers for multipart uploads too.
    pub success_after_multipart: bool,
    /// This part of each upload is dropped when it first arrives, and answered with 200.
    pub lose_part: Option<u32>,
    /// There are no single uploads.
    pub single_refused: bool,
}

impl Default for Switches {
    fn default() -> Self {
        Self {
            auth_header: "authorization".into(),
            auth_prefix: String::new(),
            strict_length: false,
            revoke_old_urls: false,
            list_cap: None,
            shuffle: false,
            list_after_complete: false,
            resume_urls_missing_only: false,
            resume_new_id: false,
            complete_twice: 200,
            etag_form: EtagForm::Any,
            check_length: false,
            soft_fail: false,
            abort_deletes: false,
            success_after_multipart: true,
            lose_part: None,
            single_refused: false,
        }
    }
}

/// The form of ETags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EtagForm {
    /// Listed without quotes, accepted either way.
    #[default]
    Any,
    /// With quotes only.
    Quoted,
    /// Without quotes only.
    Bare,
}

#[cfg(test)]
mod tests;
