//! Our permissions at the storage: tested below the prefix, with the operations of uploads, leaving nothing.
//!
//! The check of a closed destination is one look-up below the prefix: a storage that answers "not
//! found" accepts our keys. `check-config --online` tests each permission that uploads need, on an
//! upload of its own that is never completed, under a unique name.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};
use reqwest::Method;

use super::address::{Resource, resource};
use super::answers::S3Call;
use super::objects::is_hidden;
use super::{Encryption, S3, S3Request};
use crate::model::{ByteCount, Description, Failure, FailureKind, PartSize, RemoteUpload, Target};
use crate::platform::contract::{BeginRequest, RightFound, RightState};

/// Prefix of the names of checks.
pub(super) const PROBE: &str = ".dropferry-check";
/// The content of a check's part.
const BYTES: &[u8] = b"dropferry asks whether it may put a part here\n";

/// Where and with what to check.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CheckSettings {
    /// The common part of all prefixes.
    pub prefix: String,
    /// Files get tags.
    pub tags: Vec<String>,
}

impl S3 {
    /// Looks up an object that does not exist. Without permission to list, or to read, that is
    /// forbidden: then a begin is tried.
    pub(super) async fn check(&self) -> Result<(), Failure> {
        let key = format!("{}{PROBE}", self.checks.prefix);
        match self.head(&key).await {
            Err(failure) if is_hidden(&failure) => {
                let begun = self.create_probe(&key, &[]).await?;
                // A lifecycle rule removes what remains, so a failure here stops nothing.
                self.abort_upload(&begun.id).await.or_else(|failure| match failure.status {
                    Some(_) => Ok(()),
                    None => Err(failure),
                })
            }
            other => other.map(drop),
        }
    }

    /// Tests each permission that uploads need.
    pub(super) async fn rights(&self) -> Result<Vec<RightFound>, Failure> {
        let at = self.link.time.now().wall.0;
        let key = format!("{}{PROBE}-{at:x}", self.checks.prefix);
        let tags = &self.checks.tags;
        let (begun, tag) = match self.create_probe(&key, tags).await {
            Err(failure) if !tags.is_empty() && failure.status.is_some() => {
                (self.create_probe(&key, &[]).await, Some(RightState::Refused(failure)))
            }
            begun => (begun, (!tags.is_empty()).then_some(RightState::Granted)),
        };
        let begun = match begun {
            Ok(begun) => begun,
            Err(failure) if failure.status.is_none() => return Err(failure),
            Err(failure) => return Ok(vec![put_right(RightState::Refused(failure))]),
        };
        let put = self.put_probe(&begun).await;
        let list = match resource(&begun.id)? {
            Resource::Upload(key, upload) => self.parts_of(key, upload).await,
            Resource::Single(..) => Ok(None),
        };
        let abort = self.abort_upload(&begun.id).await;
        let mut found = vec![
            put_right(state_of(put.map(drop))),
            RightFound {
                right: "list parts (s3:ListMultipartUploadParts)",
                state: state_of(list.map(drop)),
                is_needed: false,
                without: "parts whose answer is lost are sent again",
            },
            self.head_right(&key).await,
            RightFound {
                right: "abort (s3:AbortMultipartUpload)",
                state: state_of(abort),
                is_needed: false,
                without: "unfinished uploads stay, also this one: a lifecycle rule removes them",
            },
        ];
        found.extend(tag.map(|state| RightFound {
            right: "tag (s3:PutObjectTagging)",
            state,
            is_needed: false,
            without: "files get no tags",
        }));
        Ok(found)
    }

    async fn create_probe(&self, key: &str, tags: &[String]) -> Result<RemoteUpload, Failure> {
        let part_size = PartSize::new(super::TRAITS.limits.size_min.0)
            .ok_or_else(|| Failure::new(FailureKind::LocalFault, "parts of no length"))?;
        let request = BeginRequest {
            target: Target::new([""], PROBE),
            size: ByteCount(BYTES.len() as u64),
            part_size,
            overwrite: false,
            description: Description { tags: tags.to_vec(), ..Description::default() },
            token: String::new(),
            replaces: None,
        };
        self.create(key, &request).await
    }

    async fn put_probe(&self, begun: &RemoteUpload) -> Result<(), Failure> {
        let Resource::Upload(key, upload) = resource(&begun.id)? else { return Ok(()) };
        let mut headers = self.customer_key()?;
        headers.push(("content-md5".to_owned(), STANDARD.encode(Md5::digest(BYTES))));
        let ask = S3Request { body: Some(BYTES.into()), ..S3Request::object(key) };
        let ask = ask.query("partNumber", "1").query("uploadId", upload).headers(headers);
        self.call(S3Call::Upload, Method::PUT, ask).await.map(drop)
    }

    /// Looks up an object that does not exist. If that is forbidden, a list shows whether the
    /// look-up itself is: without permission to list, a missing object looks like a forbidden one.
    async fn head_right(&self, key: &str) -> RightFound {
        let state = match self.head(key).await {
            Err(failure) if is_hidden(&failure) => {
                let ask = S3Request::default();
                let ask = ask.query("list-type", "2").query("max-keys", "1").query("prefix", key);
                match self.call(S3Call::General, Method::GET, ask).await {
                    Ok(_) => RightState::Refused(failure),
                    Err(_) => RightState::Unknown(
                        "without s3:ListBucket, what is missing looks forbidden",
                    ),
                }
            }
            looked => state_of(looked.map(drop)),
        };
        RightFound {
            right: "head (s3:GetObject)",
            state,
            is_needed: matches!(self.encryption, Encryption::Kms(_) | Encryption::Customer(_)),
            without: "no file is compared, and none verified whose ETag is no digest",
        }
    }
}

fn put_right(state: RightState) -> RightFound {
    let without = "nothing can be uploaded";
    RightFound { right: "put (s3:PutObject)", state, is_needed: true, without }
}

fn state_of(answer: Result<(), Failure>) -> RightState {
    answer.map_or_else(RightState::Refused, |()| RightState::Granted)
}
