//! The files of an AppResult: listed, cached, kept up to date.
//!
//! Owns a cache of paths, so that a run folder of a hundred thousand small files is not listed for
//! each of them: an AppResult is listed completely once in a while, then only from its newest file
//! back to what the last list must have shown; files that this client completes are added. A cached
//! file may have been removed since, so it is looked up before it counts.
//!
//! Paths are compared here, never by the platform, whose filters are not documented. A crash loses
//! the cache, which costs a list for each AppResult.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::answers::BaseSpaceCall;
use super::{BaseSpace, BaseSpaceRequest, wire};
use crate::model::{ByteCount, ETag, Failure, Monotonic, RemoteFile, RemoteFileId, WallTime};
use crate::platform::account::CLOCK_SLACK;
use crate::platform::answer::bad;

/// Limit of AppResults whose files are cached.
const LISTINGS_MAX: usize = 8;
/// How long a complete list is valid, with the newer files added to it.
const WHOLE_FOR: Duration = Duration::from_hours(1);
/// Minimum interval of asking for newer files.
const FRESH_FOR: Duration = Duration::from_mins(1);
/// How long lists may miss a file that this client completed.
const LAG_MAX: Duration = Duration::from_mins(10);
const PAGE_LIMIT: &str = "1000";
/// A million files: more than an AppResult ever has.
const PAGES_MAX: usize = 1000;

/// A digest of a path, which is shorter than the path.
type ListedPath = [u8; 16];

/// A file that was listed or created.
#[derive(Debug, Clone)]
pub(super) struct ListedFile {
    pub(super) id: String,
    pub(super) size: Option<ByteCount>,
    pub(super) etag: Option<ETag>,
    created_at: Option<WallTime>,
    /// When this client completed it, if it did.
    noted_at: Option<Monotonic>,
}

impl ListedFile {
    fn new(file: &wire::BaseSpaceFile, noted_at: Option<Monotonic>) -> Self {
        Self {
            id: file.id.clone(),
            size: file.size.map(ByteCount),
            etag: file.etag(),
            created_at: file.created_at(),
            noted_at,
        }
    }

    /// Returns it as a remote file.
    pub(super) fn remote(&self, name: &str) -> RemoteFile {
        let mark = self.size.zip(self.etag.as_ref());
        RemoteFile {
            id: RemoteFileId::new(&self.id),
            name: name.to_owned(),
            size: self.size,
            mark: mark.and_then(|(size, etag)| wire::mark_of(etag, size)),
            created_at: self.created_at,
            etag: None,
            version: None,
            maker: None,
        }
    }
}

/// A moment by both clocks: our monotonic one, and the platform's.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub(super) monotonic: Monotonic,
    pub(super) theirs: WallTime,
}

/// A file may exist that no earlier list has shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct ListingDoubt {
    /// Created at this time at the earliest, by the platform's clock.
    pub(super) from: WallTime,
    /// Created at this time at the latest; `None` while the request may still be in progress.
    pub(super) until: Option<Monotonic>,
}

/// The files of one AppResult.
#[derive(Debug, Default)]
struct FolderListing {
    files: HashMap<ListedPath, Vec<ListedFile>>,
    whole_at: Option<Moment>,
    /// When its newest files were last requested.
    fresh_at: Option<Moment>,
    used_at: Option<Monotonic>,
}

impl FolderListing {
    fn get(&self, path: &str) -> Vec<ListedFile> {
        self.files.get(&digest(path)).cloned().unwrap_or_default()
    }

    fn put(&mut self, path: &str, known: ListedFile) {
        let files = self.files.entry(digest(path)).or_default();
        match files.iter_mut().find(|file| file.id == known.id) {
            Some(file) => {
                *file = ListedFile { noted_at: file.noted_at.or(known.noted_at), ..known }
            }
            None => files.push(known),
        }
    }

    /// Drops everything except recently completed files.
    fn clear(&mut self, now: Monotonic) {
        let is_new = |file: &ListedFile| file.noted_at.is_some_and(|at| now.since(at) < LAG_MAX);
        self.files.retain(|_, files| {
            files.retain(is_new);
            !files.is_empty()
        });
    }
}

/// How far back a list must reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ListingReach {
    /// No list is needed.
    None,
    /// From the newest file back to this time.
    Since(WallTime),
    Whole,
}

/// The files of the AppResults in use.
#[derive(Debug, Default)]
pub(super) struct Listings {
    known: Mutex<HashMap<String, FolderListing>>,
    /// One upload at a time lists: the others use its result.
    listing: tokio::sync::Mutex<()>,
}

impl Listings {
    fn with<T>(
        &self,
        app_result: &str,
        now: Monotonic,
        act: impl FnOnce(&mut FolderListing) -> T,
    ) -> T {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= LISTINGS_MAX && !known.contains_key(app_result) {
            let oldest = known.iter().min_by_key(|(_, listing)| listing.used_at);
            if let Some(oldest) = oldest.map(|(id, _)| id.clone()) {
                known.remove(&oldest);
            }
        }
        let listing = known.entry(app_result.to_owned()).or_default();
        listing.used_at = Some(now);
        act(listing)
    }

    fn reach(&self, app_result: &str, now: Monotonic, doubt: Option<ListingDoubt>) -> ListingReach {
        self.with(app_result, now, |listing| {
            let (Some(whole), Some(fresh)) = (listing.whole_at, listing.fresh_at) else {
                return ListingReach::Whole;
            };
            let is_sure =
                doubt.is_none_or(|doubt| doubt.until.is_some_and(|until| until < fresh.monotonic));
            if now.since(whole.monotonic) >= WHOLE_FOR {
                ListingReach::Whole
            } else if is_sure && now.since(fresh.monotonic) < FRESH_FOR {
                ListingReach::None
            } else {
                let from = doubt.map_or(fresh.theirs, |doubt| doubt.from.min(fresh.theirs));
                ListingReach::Since(before(from))
            }
        })
    }
}

/// Subtracts the tolerance for clock differences.
pub(super) fn before(at: WallTime) -> WallTime {
    let slack = i64::try_from(CLOCK_SLACK.as_nanos()).unwrap_or(i64::MAX);
    WallTime(at.0.saturating_sub(slack))
}

fn digest(path: &str) -> ListedPath {
    use md5::{Digest, Md5};
    Md5::digest(path).into()
}

impl BaseSpace {
    pub(super) fn moment(&self) -> Moment {
        Moment {
            monotonic: self.api.link.time.now().monotonic,
            theirs: self.api.link.account.platform_time(),
        }
    }

    /// Returns the complete files with that path in the cache.
    pub(super) fn remembered(&self, app_result: &str, path: &str) -> Vec<ListedFile> {
        self.listings.with(app_result, self.moment().monotonic, |listing| listing.get(path))
    }

    /// Returns the complete files with that path, from a list that covers the doubt.
    pub(super) async fn look_up(
        &self,
        app_result: &str,
        path: &str,
        doubt: Option<ListingDoubt>,
    ) -> Result<Vec<ListedFile>, Failure> {
        let reach = || self.listings.reach(app_result, self.moment().monotonic, doubt);
        if reach() == ListingReach::None {
            return Ok(self.remembered(app_result, path));
        }
        let _alone = self.listings.listing.lock().await;
        let since = match reach() {
            ListingReach::None => return Ok(self.remembered(app_result, path)),
            ListingReach::Since(since) => Some(since),
            ListingReach::Whole => None,
        };
        let at = self.moment();
        let files = self.list_files(app_result, since).await?;
        self.listings.with(app_result, at.monotonic, |listing| {
            listing.fresh_at = Some(at);
            if since.is_none() {
                listing.whole_at = Some(at);
                listing.clear(at.monotonic);
            }
            let complete =
                files.iter().filter(|file| file.status() == wire::UploadStatus::Complete);
            complete.for_each(|file| listing.put(file.path(), ListedFile::new(file, None)));
        });
        Ok(self.remembered(app_result, path))
    }

    /// Lists the files of an AppResult: all, or from the newest back to a time.
    pub(super) async fn list_files(
        &self,
        app_result: &str,
        since: Option<WallTime>,
    ) -> Result<Vec<wire::BaseSpaceFile>, Failure> {
        // Files that are added while all are listed come at the end.
        let direction = if since.is_some() { "Desc" } else { "Asc" };
        let is_older = |file: &wire::BaseSpaceFile| {
            since.zip(file.created_at()).is_some_and(|(since, created)| created < since)
        };
        let mut found: Vec<wire::BaseSpaceFile> = Vec::new();
        for _ in 0..PAGES_MAX {
            let offset = found.len().to_string();
            let ask = BaseSpaceRequest::get(
                BaseSpaceCall::Look,
                format!("appresults/{app_result}/files"),
            )
            .query("SortBy", "DateCreated")
            .query("SortDir", direction)
            .query("Offset", &offset)
            .query("Limit", PAGE_LIMIT);
            let page: wire::BaseSpacePage<wire::BaseSpaceFile> = self.ask(ask).await?;
            let is_empty = page.items.is_empty();
            let reaches = page.items.iter().any(is_older);
            found.extend(page.items);
            let is_last = page.total_count.is_some_and(|total| found.len() >= total);
            if is_empty || reaches || is_last {
                return Ok(found);
            }
        }
        Err(bad("a list of files without end"))
    }

    /// Adds a file that this client completed.
    pub(super) fn note(&self, app_result: &str, path: &str, file: &wire::BaseSpaceFile) {
        let now = self.moment().monotonic;
        let known = ListedFile::new(file, Some(now));
        self.listings.with(app_result, now, |listing| listing.put(path, known));
    }

    /// Removes a file that does not exist any more.
    pub(super) fn forget_file(&self, app_result: &str, path: &str, id: &str) {
        self.listings.with(app_result, self.moment().monotonic, |listing| {
            if let Some(files) = listing.files.get_mut(&digest(path)) {
                files.retain(|file| file.id != id);
            }
        });
    }
}
