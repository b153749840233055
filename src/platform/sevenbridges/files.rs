//! Files at Seven Bridges: looked up, inspected, described; and our write permission.
//!
//! Owns the calls about existing objects. Files are compared with the request, because a list that
//! ignores a filter would return another file. Metadata is merged, never replaced: people and other
//! tools keep theirs.

use std::collections::BTreeMap;

use reqwest::Method;

use super::answers::SevenBridgesCall;
use super::bulk::FileEdit;
use super::folders::FolderPath;
use super::{SevenBridges, wire};
use crate::model::{Description, Failure, FailureKind, RemoteFile, RemoteFileId, Target};
use crate::platform::answer;

/// Names have at most this many characters.
const NAME_MAX: usize = 255;
/// Most metadata pairs of a file.
const METADATA_COUNT_MAX: usize = 1000;
/// Longest key of metadata, in bytes.
const METADATA_KEY_MAX: usize = 100;
/// Longest value of metadata, in bytes.
const METADATA_VALUE_MAX: usize = 300;

impl SevenBridges {
    /// Returns the file or folder with that name directly in a folder, or in the project's top.
    pub(super) async fn find_file(
        &self,
        folder: Option<&str>,
        name: &str,
    ) -> Result<Option<wire::SevenBridgesFile>, Failure> {
        let query = [self.place(folder).query(), ("name", name), ("fields", "_all")];
        let response = self.get(SevenBridgesCall::General, "files", &query).await?;
        let mut page: wire::SevenBridgesPage<wire::SevenBridgesFile> = answer::parse(&response)?;
        page.items.retain(|file| file.name.as_deref() == Some(name));
        match page.items.len() {
            0 | 1 => Ok(page.items.pop()),
            count => {
                let message =
                    format!("the platform shows {count} files named {name:?} in one folder");
                Err(Failure::new(FailureKind::BadAnswer, message))
            }
        }
    }

    pub(super) async fn locate_file(&self, target: &Target) -> Result<Option<RemoteFile>, Failure> {
        check_names(target)?;
        let FolderPath::Folder(folder) = self.find_folders(target.folder()).await? else {
            return Ok(None);
        };
        match self.find_file(folder.as_deref(), target.name()).await {
            // A cached folder that does not exist any more contains no file.
            Err(failure)
                if failure.kind == FailureKind::NotFound
                    && self.folders.forget(target.folder()) =>
            {
                Ok(None)
            }
            found => found?.map(wire::SevenBridgesFile::remote).transpose(),
        }
    }

    pub(super) async fn inspect_alone(
        &self,
        file: &RemoteFileId,
    ) -> Result<Option<RemoteFile>, Failure> {
        let path = format!("files/{file}");
        let told = self.get(SevenBridgesCall::General, &path, &[("fields", "_all")]).await;
        let told = answer::unless(&[FailureKind::NotFound], told)?;
        told.map(|told| answer::parse::<wire::SevenBridgesFile>(&told)?.remote()).transpose()
    }

    pub(super) async fn describe_file(
        &self,
        file: &RemoteFileId,
        description: &Description,
    ) -> Result<(), Failure> {
        let (metadata, tags) = (pairs_of(description)?, description.tags.clone());
        if metadata.is_empty() && tags.is_empty() {
            return Ok(());
        }
        self.edit_file(FileEdit { id: file.as_str().to_owned(), metadata, tags }).await
    }

    pub(super) async fn edit_alone(&self, edit: FileEdit) -> Result<(), Failure> {
        let FileEdit { id, metadata, tags } = edit;
        if !metadata.is_empty() {
            let url = self.url(&format!("files/{id}/metadata"), &[])?;
            self.call_json(SevenBridgesCall::General, Method::PATCH, url, &metadata).await?;
        }
        if !tags.is_empty() {
            let url = self.url(&format!("files/{id}/tags"), &[])?;
            self.call_json(SevenBridgesCall::General, Method::PUT, url, &tags).await?;
        }
        Ok(())
    }

    /// The id keeps metadata and tags, because the body has none. A file that has the name already
    /// may be refused as taken: by itself.
    pub(super) async fn rename_file(
        &self,
        file: &RemoteFileId,
        name: &str,
    ) -> Result<bool, Failure> {
        let url = self.url(&format!("files/{file}"), &[])?;
        let body = wire::RenameBody { name };
        let renamed = self.call_json(SevenBridgesCall::General, Method::PATCH, url, &body).await;
        let failure = match renamed {
            Ok(response) => {
                let told = answer::parse::<wire::SevenBridgesFile>(&response)?.remote()?;
                if told.name == name {
                    return Ok(true);
                }
                let message =
                    format!("file {file} was to be named {name:?} and is named {:?}", told.name);
                return Err(Failure::new(FailureKind::BadAnswer, message));
            }
            Err(failure) if failure.kind == FailureKind::NotFound => return Ok(false),
            Err(failure) => failure,
        };
        if failure.kind == FailureKind::NameTaken
            && self.inspect_alone(file).await?.is_some_and(|found| found.name == name)
        {
            return Ok(true);
        }
        Err(failure)
    }

    pub(super) async fn remove_file(&self, file: &RemoteFileId) -> Result<(), Failure> {
        let url = self.url(&format!("files/{file}"), &[])?;
        let removed = self.call(SevenBridgesCall::General, Method::DELETE, url, None).await;
        answer::unless(&[FailureKind::NotFound], removed).map(|_| ())
    }

    /// Returns the user name of the token's owner.
    pub(super) async fn owner(&self) -> Result<Option<String>, Failure> {
        let user = self.get(SevenBridgesCall::General, "user", &[]).await?;
        let user: wire::TokenOwner = answer::parse(&user)?;
        Ok(user.username.as_deref().map(answer::clip))
    }

    pub(super) async fn check(&self) -> Result<(), Failure> {
        let user = self.owner().await?;
        if self.project_details().await?.forbids_writing() {
            let who = user.as_deref().unwrap_or("the owner of this credential");
            let message = format!("{who} may not write to project {}", self.project);
            return Err(Failure::new(FailureKind::Forbidden, message));
        }
        Ok(())
    }

    /// Returns the id of the project's top folder, where given.
    pub(super) async fn root_folder(&self) -> Result<Option<String>, Failure> {
        Ok(self.project_details().await?.root_folder)
    }

    async fn project_details(&self) -> Result<wire::SevenBridgesProject, Failure> {
        let path = format!("projects/{}", self.project);
        match self.get(SevenBridgesCall::General, &path, &[]).await {
            Ok(response) => answer::parse(&response),
            Err(failure) if failure.kind == FailureKind::NotFound => {
                let message = format!(
                    "project {} is not there, or not for this credential: {}",
                    self.project, failure.message
                );
                Err(Failure { message, ..failure })
            }
            Err(failure) => Err(failure),
        }
    }
}

/// Returns the metadata to send, including our mark.
///
/// # Errors
/// `BadRequest` when the vendor would refuse it.
fn pairs_of(description: &Description) -> Result<BTreeMap<String, String>, Failure> {
    let mark = description.mark.map(|mark| (wire::MARK_KEY.to_owned(), wire::render_mark(mark)));
    let pairs: BTreeMap<_, _> = description.metadata.iter().cloned().chain(mark).collect();
    let bad = |message| Err(Failure::new(FailureKind::BadRequest, message));
    if pairs.len() > METADATA_COUNT_MAX {
        return bad(format!("{} metadata pairs are more than {METADATA_COUNT_MAX}", pairs.len()));
    }
    for (key, value) in &pairs {
        if key.is_empty() || key.len() > METADATA_KEY_MAX {
            return bad(format!(
                "metadata key {key:?} has {} bytes: 1 to {METADATA_KEY_MAX} are allowed",
                key.len()
            ));
        }
        if value.len() > METADATA_VALUE_MAX {
            return bad(format!(
                "the value of metadata {key:?} has {} bytes: at most {METADATA_VALUE_MAX} are allowed",
                value.len()
            ));
        }
    }
    Ok(pairs)
}

/// Checks names that the vendor would refuse with a less readable message.
///
/// # Errors
/// `BadRequest`, naming the name.
pub(super) fn check_names(target: &Target) -> Result<(), Failure> {
    let bad = |message| Err(Failure::new(FailureKind::BadRequest, message));
    for name in target.names() {
        let length = name.chars().count();
        if length == 0 {
            return bad("a file or folder without a name cannot be uploaded".to_owned());
        }
        if name.contains('/') {
            return bad(format!("the name {name:?} holds a slash, which the platform refuses"));
        }
        if length > NAME_MAX {
            return bad(format!(
                "the name {name:?} has {length} characters: the platform takes {NAME_MAX}"
            ));
        }
    }
    match target.folders().find(|name| name.starts_with("__")) {
        Some(name) => bad(format!(
            "the folder name {name:?} starts with two underscores, which the platform refuses"
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ContentMark, Md5, PartSize};

    #[test]
    fn names_are_checked_before_the_platform_is_asked() {
        let (most, more) = ("\u{e9}".repeat(255), "\u{e9}".repeat(256));
        for (folders, name, is_good) in [
            (&[][..], "a.gz", true),
            (&["run 1", "x"], "\u{e9} b.gz", true),
            (&[], "__a", true),
            (&[], &most, true),
            (&[], &more, false),
            (&[], "", false),
            (&[], "a/b", false),
            (&["__a"], "b", false),
        ] {
            let checked = check_names(&Target::new(folders, name));
            assert_eq!(checked.is_ok(), is_good, "{folders:?} {name:?}");
        }
    }

    #[test]
    fn metadata_is_bounded_and_carries_the_mark() {
        let part_size = PartSize::new(64).expect("not zero");
        let mark = Some(ContentMark { part_size, md5_of_parts: Md5([9; 16]) });
        let said = |key: &str, value: &str| Description {
            metadata: vec![(key.to_owned(), value.to_owned())],
            tags: Vec::new(),
            mark,
        };
        let pairs = pairs_of(&said(&"k".repeat(100), &"v".repeat(300))).expect("within bounds");
        assert_eq!(pairs.len(), 2);
        assert_eq!(pairs[wire::MARK_KEY], "64:09090909090909090909090909090909");
        for (key, value) in [
            (&*"k".repeat(101), "v"),
            ("", "v"),
            ("k", &*"v".repeat(301)),
            ("k", &"\u{e9}".repeat(151)),
        ] {
            let failure = pairs_of(&said(key, value)).expect_err("out of bounds");
            assert_eq!(failure.kind, FailureKind::BadRequest);
        }
        let many = (0..1000).map(|n| (n.to_string(), String::new())).collect();
        let many = Description { metadata: many, tags: Vec::new(), mark };
        assert!(pairs_of(&many).is_err(), "a thousand and the mark");
    }
}
