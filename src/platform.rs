//! Platforms: vendors' APIs behind one trait, and the operations of that trait as data.
//!
//! [`call()`] and [`put()`] perform an operation at a platform. [`Destination`] adds what is common to all
//! platforms: the limit of API calls in flight, the span with the destination's name, and the check for a
//! replaced credential. Deadlines are by inactivity, in [`http`]. A platform module has its sequence of
//! calls; its `wire` has the shapes of bodies and the pure functions from an answer to a result.
//!
//! *Promises*: every operation returns exactly one reply; a dropped call releases its permit.
//! *Never* retries: the engine does. Parts in flight need no permit, because the engine limits
//! them, and a report must never wait for a slow part.
//!
//! At a crash: see the three lines of every operation in [`contract`].

pub(crate) mod account;
mod answer;
mod api;
pub(crate) mod aws;
pub(crate) mod basespace;
#[cfg(test)]
mod bench;
mod bounded;
pub mod contract;
pub(crate) mod credential;
mod der;
#[cfg(feature = "testing")]
pub mod fake;
pub(crate) mod gjirafa_vp;
pub(crate) mod http;
mod mark;
pub(crate) mod probe;
pub(crate) mod s3;
pub(crate) mod secret;
pub(crate) mod sevenbridges;
pub(crate) mod shape;
mod signature;

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use account::Account;
use contract::{PartBody, Platform, RightFound, SharedPlatform};
use credential::{Credential, Version};
use tokio::sync::Semaphore;
use tracing::Instrument;

use crate::model::{
    Call, DestinationName, Failure, FailureKind, Learned, LivePause, Now, PutRequest, Reply,
    Traits, WallTime,
};

/// API calls in flight at one destination, besides those that join others: each may hold an answer of a
/// few MiB.
const CALLS_MAX: usize = 8;
/// A clock difference must change by more than this to be recorded again, in nanoseconds.
const CLOCK_NEWS_NS: u64 = 30_000_000_000;
/// A configured target. Copies share permits.
#[derive(Clone)]
pub(crate) struct Destination(Arc<Inner>);

struct Inner {
    name: DestinationName,
    platform: SharedPlatform,
    credential: Option<Arc<Credential>>,
    account: Option<Account>,
    /// The version of the credential that the daemon knows.
    seen: Mutex<Option<Version>>,
    /// The platform's clock difference when it was last reported.
    clock_reported: AtomicI64,
    permits: Semaphore,
}

/// Shared by the destinations of one account.
#[derive(Debug, Clone, Default)]
pub(crate) struct AccountAccess {
    /// The credential.
    pub credential: Option<Arc<Credential>>,
    pub account: Option<Account>,
}

impl std::fmt::Debug for Destination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Destination").field("name", &self.0.name).finish_non_exhaustive()
    }
}

impl Destination {
    /// Wraps a platform, with its share in the account.
    pub(crate) fn shared(
        name: DestinationName,
        platform: SharedPlatform,
        shared: AccountAccess,
    ) -> Self {
        let AccountAccess { credential, account } = shared;
        let seen = credential.as_ref().and_then(|credential| credential.version());
        Self(Arc::new(Inner {
            name,
            platform,
            credential,
            account,
            seen: Mutex::new(seen),
            clock_reported: AtomicI64::new(i64::MIN),
            permits: Semaphore::new(CALLS_MAX),
        }))
    }

    /// Ends a pause that the platform requested for the account.
    pub(crate) fn lift_pause(&self) {
        if let Some(account) = &self.0.account {
            account.lift_pause();
        }
    }

    /// Returns why calls wait for their turn, and until when.
    pub(crate) fn paced(&self, now: Now) -> Option<LivePause> {
        self.0.account.as_ref()?.paced(now)
    }

    /// Returns how far our clock is behind that of the platform, when that has changed since the
    /// last report.
    pub(crate) fn clock_news(&self) -> Option<i64> {
        let behind_ns = self.0.account.as_ref()?.clock_behind_ns();
        let reported = self.0.clock_reported.load(Ordering::Relaxed);
        let is_news = behind_ns.abs_diff(reported) >= CLOCK_NEWS_NS;
        is_news.then(|| {
            self.0.clock_reported.store(behind_ns, Ordering::Relaxed);
            behind_ns
        })
    }

    /// Returns its configured name.
    pub(crate) fn name(&self) -> &DestinationName {
        &self.0.name
    }

    /// Returns whether its credential was replaced since the last call of this function.
    pub(crate) fn credential_has_changed(&self) -> bool {
        let mut seen = self.0.seen.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.credential.as_ref().is_some_and(|credential| credential.changed_since(&mut seen))
    }

    /// Returns when its credential expires, where that is known.
    pub(crate) fn credential_expires_at(&self) -> Option<WallTime> {
        self.0.credential.as_ref().and_then(|credential| credential.expires_at())
    }

    /// See [`contract::Platform::traits`].
    pub(crate) fn traits(&self) -> Traits {
        self.0.platform.traits()
    }

    /// See [`contract::Platform::news`].
    pub(crate) fn news(&self) -> Vec<(Learned, String)> {
        self.0.platform.news()
    }

    /// Applies what earlier answers have shown.
    pub(crate) fn know(&self, what: impl IntoIterator<Item = Learned>) {
        what.into_iter().for_each(|what| self.0.platform.know(what));
    }

    /// See [`contract::Platform::known`].
    pub(crate) fn known(&self) -> Vec<Learned> {
        self.0.platform.known()
    }

    /// See [`contract::Platform::check_rights`].
    pub(crate) async fn check_rights(&self) -> Result<Vec<RightFound>, Failure> {
        self.0.platform.check_rights().instrument(self.span()).await
    }

    /// Performs a call. Reading a file back may take as long as sending it did, so it needs no
    /// permit; nor does a question that joins those about other files.
    pub(crate) async fn call(&self, call: &Call) -> Result<Reply, Failure> {
        let _permit = match call {
            Call::ReadBack { .. } => None,
            Call::Inspect(_) | Call::Describe { .. } if self.0.platform.joins_calls() => None,
            Call::CheckAccess
            | Call::Locate(_)
            | Call::Begin(_)
            | Call::FindBegun { .. }
            | Call::ListParts(_)
            | Call::ReportParts { .. }
            | Call::Complete(_)
            | Call::FindCompleted(_)
            | Call::Inspect(_)
            | Call::Describe { .. }
            | Call::Rename { .. }
            | Call::Remove(_)
            | Call::FindExports(_)
            | Call::StartExports { .. }
            | Call::PollExports(_)
            | Call::FinishRun(_)
            | Call::Abort(_) => self.0.permits.acquire().await.ok(),
        };
        self::call(&*self.0.platform, call).instrument(self.span()).await
    }

    /// Sends bytes of a file. Needs no permit.
    pub(crate) async fn put(&self, request: &PutRequest, body: PartBody) -> Result<Reply, Failure> {
        self::put(&*self.0.platform, request, body).instrument(self.span()).await
    }

    fn span(&self) -> tracing::Span {
        tracing::debug_span!("platform call", destination = %self.0.name)
    }
}

/// Performs a call at a platform.
pub async fn call(platform: &dyn Platform, call: &Call) -> Result<Reply, Failure> {
    let exports = || {
        let none = || Failure::new(FailureKind::BadRequest, "the platform has no exports");
        platform.exports().ok_or_else(none)
    };
    Ok(match call {
        Call::CheckAccess => {
            platform.check_access().await?;
            Reply::AccessChecked
        }
        Call::Locate(target) => Reply::Located(platform.locate(target).await?),
        Call::Begin(request) => Reply::Begun(platform.begin(request).await?),
        Call::FindBegun { request, since } => {
            Reply::BegunFound(platform.find_begun(request, *since).await?)
        }
        Call::ListParts(remote) => Reply::PartsListed(platform.list_parts(remote).await?),
        Call::ReportParts { remote, parts } => {
            platform.report_parts(remote, parts).await?;
            Reply::PartsReported
        }
        Call::Complete(request) => Reply::Completed(platform.complete(request).await?),
        Call::FindCompleted(request) => {
            Reply::CompletionFound(platform.find_completed(request).await?)
        }
        Call::Inspect(file) => Reply::Inspected(platform.inspect(file).await?),
        Call::ReadBack { file, part_size } => {
            Reply::Inspected(platform.read_back(file, *part_size).await?)
        }
        Call::Describe { file, description } => {
            platform.describe(file, description).await?;
            Reply::Described
        }
        Call::Rename { file, name } => Reply::Renamed(platform.rename(file, name).await?),
        Call::Remove(file) => {
            platform.remove(file).await?;
            Reply::Removed
        }
        Call::FindExports(items) => Reply::ExportsFound(exports()?.find(items).await?),
        Call::StartExports { items, mode } => {
            Reply::ExportsStarted(exports()?.start(items, *mode).await?)
        }
        Call::PollExports(jobs) => Reply::ExportsPolled(exports()?.poll(jobs).await?),
        Call::FinishRun(name) => {
            platform.finish_run(name).await?;
            Reply::RunFinished
        }
        Call::Abort(remote) => {
            platform.abort(remote).await?;
            Reply::Aborted
        }
    })
}

/// Sends bytes of a file to a platform.
pub async fn put(
    platform: &dyn Platform,
    request: &PutRequest,
    body: PartBody,
) -> Result<Reply, Failure> {
    match request {
        PutRequest::Part(part) => platform.put_part(part, body).await.map(Reply::PartStored),
        PutRequest::Whole(whole) => platform.put_whole(whole, body).await.map(Reply::WholeStored),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use futures_util::{FutureExt, StreamExt, stream};

    use super::*;
    use crate::model::{
        BeginRequest, ByteCount, CompleteRequest, Completion, Describes, ETag, ETagLaw, PartLimits,
        PartNumber, PartRequest, PartSize, RemoteFile, RemoteFileId, RemotePart, RemoteUpload,
        RemoteUploadId, Replaces, Stored,
    };
    use crate::platform::contract::Answer;
    use crate::platform::credential::CredentialSource;

    /// Answers slowly, and counts the calls in flight.
    #[derive(Default)]
    struct Slow {
        under_way: AtomicUsize,
        most: AtomicUsize,
    }

    impl Slow {
        fn answer<'a, T: Send + 'a>(&'a self, answer: Result<T, Failure>) -> Answer<'a, T> {
            Box::pin(async move {
                let under_way = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
                self.most.fetch_max(under_way, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(5)).await;
                self.under_way.fetch_sub(1, Ordering::SeqCst);
                answer
            })
        }

        fn refuse<'a, T: Send + 'a>(&'a self) -> Answer<'a, T> {
            self.answer(Err(Failure::new(FailureKind::Forbidden, "no")))
        }
    }

    impl Platform for Slow {
        fn traits(&self) -> Traits {
            let all = ByteCount(u64::MAX);
            let (size_min, size_max, file_max, path_max) = (all, all, all, all);
            let limits = PartLimits { size_min, size_max, count_max: 1, file_max, path_max };
            let describes = Describes::Never;
            let (reports_parts, finishes_runs) = (false, false);
            let (wants_md5_first, sends_whole, can_inspect) = (false, false, true);
            Traits {
                limits,
                reports_parts,
                report_max: 1,
                describes,
                finishes_runs,
                has_places: true,
                wants_md5_first,
                sends_whole,
                can_inspect,
                replaces: Replaces::Never,
                parts_need_account: true,
                etags: ETagLaw::Mostly { reads_back: false },
            }
        }
        fn check_access(&self) -> Answer<'_, ()> {
            self.answer(Ok(()))
        }
        fn begin<'a>(&'a self, _: &'a BeginRequest) -> Answer<'a, RemoteUpload> {
            self.refuse()
        }
        fn put_part<'a>(&'a self, _: &'a PartRequest, _: PartBody) -> Answer<'a, Stored> {
            self.answer(Ok(ETag::from_header("e").into()))
        }
        fn list_parts<'a>(&'a self, _: &'a RemoteUpload) -> Answer<'a, Option<Vec<RemotePart>>> {
            self.refuse()
        }
        fn complete<'a>(&'a self, _: &'a CompleteRequest) -> Answer<'a, RemoteFile> {
            self.refuse()
        }
        fn find_completed<'a>(&'a self, _: &'a CompleteRequest) -> Answer<'a, Completion> {
            self.refuse()
        }
        fn inspect<'a>(&'a self, _: &'a RemoteFileId) -> Answer<'a, Option<RemoteFile>> {
            self.answer(Ok(None))
        }
        fn abort<'a>(&'a self, _: &'a RemoteUploadId) -> Answer<'a, ()> {
            self.answer(Ok(()))
        }
    }

    fn destination(credential: Option<Arc<Credential>>) -> (Destination, Arc<Slow>) {
        let slow = Arc::new(Slow::default());
        let name = DestinationName::new("there");
        let shared = AccountAccess { credential, account: None };
        (Destination::shared(name, Arc::clone(&slow) as SharedPlatform, shared), slow)
    }

    fn remote() -> RemoteUpload {
        let part_size = PartSize::new(1).expect("not zero");
        let id = RemoteUploadId::new("u");
        RemoteUpload { id, part_size, part_count: 1, sequential: false }
    }

    #[tokio::test]
    async fn calls_under_way_are_bounded_and_parts_are_not_among_them() {
        let (destination, slow) = destination(None);
        let inspect = Call::Inspect(RemoteFileId::new("f"));
        let calls = (0..50).map(|_| destination.call(&inspect));
        futures_util::future::join_all(calls).await;
        assert_eq!(slow.most.load(Ordering::SeqCst), CALLS_MAX);
        let part = PartNumber::new(1).expect("not zero");
        let request = PutRequest::Part(PartRequest { remote: remote(), part, begun: None });
        let body = || PartBody { length: ByteCount(0), md5: None, chunks: stream::empty().boxed() };
        let parts = (0..20).map(|_| destination.put(&request, body()));
        futures_util::future::join_all(parts).await;
        assert_eq!(slow.most.load(Ordering::SeqCst), 20);
    }

    #[tokio::test]
    async fn a_dropped_call_gives_its_permit_back() {
        let (destination, _) = destination(None);
        for _ in 0..CALLS_MAX * 2 {
            let begun = destination.call(&Call::CheckAccess).now_or_never();
            assert_eq!(begun, None, "begun, and dropped");
        }
        assert_eq!(destination.call(&Call::CheckAccess).await, Ok(Reply::AccessChecked));
    }

    #[test]
    fn each_destination_learns_of_a_replaced_credential_once() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("token");
        std::fs::write(&file, "first").expect("written");
        let credential = Arc::new(Credential::new(CredentialSource::File(file.clone())));
        let (one, _) = destination(Some(Arc::clone(&credential)));
        let (other, _) = destination(Some(credential));
        assert!(!one.credential_has_changed());
        std::fs::write(&file, "the second").expect("written");
        assert!(one.credential_has_changed() && !one.credential_has_changed());
        assert!(other.credential_has_changed());
        assert!(!destination(None).0.credential_has_changed());
    }
}
