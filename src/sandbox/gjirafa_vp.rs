//! A stand-in for Gjirafa VP: uploads, and the storage behind their signed addresses.
//!
//! `world` holds what exists; `calls` turns requests into it, `uploads` and `complete` answer them as
//! the vendor does, `bucket` is the storage. Every breach of the rules is also in the ledger.

mod bucket;
mod calls;
mod complete;
mod uploads;
mod world;

use serde::{Deserialize, Serialize};

pub(super) use calls::routes;
pub(super) use world::World;

/// The project that exists.
pub(crate) const PROJECT: &str = "abcdefgh";

/// How it may differ from what its documents say, where they leave it open.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Switches {
    /// The header that carries the key.
    pub auth_header: String,
    /// What is before the key, its blank included.
    pub auth_prefix: String,
    /// `contentLength` of a multipart upload must be a text.
    pub strict_length: bool,
    /// Addresses from before a resume are refused.
    pub revoke_old_urls: bool,
    /// A listing ends after that many parts.
    pub list_cap: Option<usize>,
    /// Addresses and listed parts come in no order.
    pub shuffle: bool,
    /// A completed upload can still be listed.
    pub list_after_complete: bool,
    /// A resume signs missing parts alone.
    pub resume_urls_missing_only: bool,
    /// A resume changes the id in the storage, and loses the parts.
    pub resume_new_id: bool,
    /// Status of a complete after the first; 200 is a success.
    pub complete_twice: u16,
    /// How ETags are listed, and must be written at complete.
    pub etag_form: EtagForm,
    /// The parts must add up to `contentLength`.
    pub check_length: bool,
    /// Complete does nothing, and says so with status 200.
    pub soft_fail: bool,
    /// An abort after complete removes the file.
    pub abort_deletes: bool,
    /// `success` answers for multipart uploads too.
    pub success_after_multipart: bool,
    /// Of each upload this part is thrown away when it arrives first, and answered with 200.
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

/// How ETags are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EtagForm {
    /// Listed without quotes, taken either way.
    #[default]
    Any,
    /// With quotes only.
    Quoted,
    /// Without quotes only.
    Bare,
}

#[cfg(test)]
mod tests;
