//! Identifiers: newtypes without `Deref`, so that one cannot be used where another is meant. Texts
//! are shared, not copied: hundreds of thousands of uploads name the same destination.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Names one upload: one file version to one destination. Given out once, never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct UploadId(pub i64);

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
        )]
        #[serde(from = "String", into = "String")]
        pub struct $name(std::sync::Arc<str>);

        impl $name {
            pub fn new(text: impl Into<String>) -> Self {
                Self(text.into().into())
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text.into())
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.as_str().to_owned()
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}
pub(super) use text_id;

text_id! {
    /// Names a configured drop directory (`[drops.NAME]`).
    DirectoryName
}
impl DirectoryName {
    /// The name for handed-in files; no configured drop directory may have it.
    pub const HANDED_IN: &str = "handed-in";

    /// Returns the drop directory name of handed-in files.
    pub fn handed_in() -> Self {
        Self::new(Self::HANDED_IN)
    }
}

text_id! {
    /// Names a configured target (`[destinations.NAME]`).
    DestinationName
}
text_id! {
    /// The platform's identifier of an upload in progress. Opaque.
    RemoteUploadId
}
text_id! {
    /// The platform's identifier of an export job. Opaque.
    ExportId
}
text_id! {
    /// The platform's identifier of a file that exists. Opaque.
    RemoteFileId
}
text_id! {
    /// The storage's identifier of one version of an object. Opaque.
    VersionId
}
