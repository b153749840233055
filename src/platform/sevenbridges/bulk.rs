//! Questions about many files in one call: the vendor rations calls, not files.
//!
//! While a call is under way, the questions that come are collected; the next call takes all of them, up to
//! the vendor's bound. Nothing waits for a batch to fill. A lone question, and one that a bulk
//! call did not answer, is asked by the call for one file, whose refusals say what is wrong with that file.
//! Where bulk calls themselves are refused, none is made any more.
//!
//! *Promises*: every question has exactly one answer. A bulk call that fails for the moment fails its first
//! question; the others are asked alone. At a crash nothing is lost: each question may be repeated.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use reqwest::Method;
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, oneshot};

use super::SevenBridges;
use super::answers::SevenBridgesCall;
use super::wire::SevenBridgesFile;
use crate::model::{Failure, FailureKind, RemoteFile, RemoteFileId};
use crate::platform::contract::Answer;
use crate::platform::{CALLS_MAX, answer};

/// Files in one call: the vendor's bound.
const BATCH_MAX: usize = 100;

/// Files of which something is asked.
#[derive(Debug)]
pub(super) struct Batches {
    inspected: CallBatch<String, Option<RemoteFile>>,
    edited: CallBatch<FileEdit, ()>,
    are_refused: AtomicBool,
    /// For calls about one file.
    permits: Semaphore,
}

impl Default for Batches {
    fn default() -> Self {
        Self {
            inspected: CallBatch::default(),
            edited: CallBatch::default(),
            are_refused: AtomicBool::new(false),
            permits: Semaphore::new(CALLS_MAX),
        }
    }
}

/// Questions of one kind.
#[derive(Debug)]
struct CallBatch<Q, A> {
    waiting: Mutex<VecDeque<Question<Q, A>>>,
    /// Held by whose call is under way.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Question<Q, A> {
    what: Q,
    answer: oneshot::Sender<Batched<A>>,
}

/// What a bulk call says of one of its files.
type Batched<A> = Result<Option<A>, Failure>;

impl<Q, A> Default for CallBatch<Q, A> {
    fn default() -> Self {
        Self { waiting: Mutex::default(), turn: tokio::sync::Mutex::default() }
    }
}

impl<Q: Clone, A> CallBatch<Q, A> {
    fn waiting(&self) -> MutexGuard<'_, VecDeque<Question<Q, A>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks together with others, or in a call of its own where no other question waits; `None` when it is to
    /// be asked alone after all.
    async fn ask<'a>(
        &self,
        what: Q,
        many: impl Fn(Vec<Q>) -> Answer<'a, Vec<Option<A>>>,
        one: impl FnOnce(Q) -> Answer<'a, A>,
    ) -> Batched<A> {
        let (answer, mut answered) = oneshot::channel();
        self.waiting().push_back(Question { what: what.clone(), answer });
        let _turn = self.turn.lock().await;
        loop {
            match answered.try_recv() {
                Ok(answer) => return answer,
                Err(oneshot::error::TryRecvError::Closed) => return Ok(None),
                Err(oneshot::error::TryRecvError::Empty) => {}
            }
            let batch: Vec<_> = {
                let mut waiting = self.waiting();
                let count = waiting.len().min(BATCH_MAX);
                waiting.drain(..count).collect()
            };
            if batch.len() == 1 {
                return one(what).await.map(Some);
            }
            let asked = batch.iter().map(|question| question.what.clone()).collect();
            let mut answers = match many(asked).await {
                Ok(answers) => answers.into_iter().map(Ok).collect(),
                Err(failure) => VecDeque::from([Err(failure)]),
            };
            for question in batch {
                // Who asked may be gone.
                question.answer.send(answers.pop_front().unwrap_or(Ok(None))).unwrap_or(());
            }
        }
    }
}

/// What is set of a file: what it does not name stays as it is.
#[derive(Debug, Clone, Serialize)]
pub(super) struct FileEdit {
    pub(super) id: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) metadata: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) tags: Vec<String>,
}

#[derive(Serialize)]
struct FileIds {
    file_ids: Vec<String>,
}

#[derive(Serialize)]
struct FileEdits {
    items: Vec<FileEdit>,
}

#[derive(Deserialize)]
struct BulkFiles {
    items: Vec<BulkFile>,
}

#[derive(Deserialize)]
struct BulkFile {
    resource: Option<SevenBridgesFile>,
    error: Option<serde_json::Value>,
}

impl SevenBridges {
    /// Returns a file, asked for together with others; `None` when there is none of that id.
    pub(super) async fn inspect_file(
        &self,
        file: &RemoteFileId,
    ) -> Result<Option<RemoteFile>, Failure> {
        if !self.bulk.are_refused.load(Ordering::Relaxed) {
            let many = |ids| -> Answer<'_, _> { Box::pin(self.inspect_many(ids)) };
            let one = |_| -> Answer<'_, _> { Box::pin(self.inspect_alone(file)) };
            let answer = self.bulk.inspected.ask(file.as_str().to_owned(), many, one).await?;
            if let Some(found) = answer {
                return Ok(found);
            }
        }
        let _permit = self.bulk.permits.acquire().await.ok();
        self.inspect_alone(file).await
    }

    /// Sets metadata and tags of a file, together with those of others.
    pub(super) async fn edit_file(&self, edit: FileEdit) -> Result<(), Failure> {
        if !self.bulk.are_refused.load(Ordering::Relaxed) {
            let many = |edits| -> Answer<'_, _> { Box::pin(self.edit_many(edits)) };
            let one = |edit| -> Answer<'_, _> { Box::pin(self.edit_alone(edit)) };
            if self.bulk.edited.ask(edit.clone(), many, one).await?.is_some() {
                return Ok(());
            }
        }
        let _permit = self.bulk.permits.acquire().await.ok();
        self.edit_alone(edit).await
    }

    async fn inspect_many(
        &self,
        file_ids: Vec<String>,
    ) -> Result<Vec<Option<Option<RemoteFile>>>, Failure> {
        let body = FileIds { file_ids };
        let mut files = self.ask_about_many("bulk/files/get", &body).await?;
        Ok(body.file_ids.iter().map(|id| files.remove(id).map(Some)).collect())
    }

    async fn edit_many(&self, items: Vec<FileEdit>) -> Result<Vec<Option<()>>, Failure> {
        let body = FileEdits { items };
        let files = self.ask_about_many("bulk/files/edit", &body).await?;
        Ok(body.items.iter().map(|edit| files.get(&edit.id).map(drop)).collect())
    }

    /// Makes a bulk call, and returns the files that it was done for: none where it was refused.
    async fn ask_about_many(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<BTreeMap<String, RemoteFile>, Failure> {
        use FailureKind::{BadAnswer, BadRequest, Forbidden, NotFound};
        if self.bulk.are_refused.load(Ordering::Relaxed) {
            return Ok(BTreeMap::new());
        }
        match self.post_bulk(path, body).await {
            Err(failure) if failure.kind == BadAnswer => Ok(BTreeMap::new()),
            Err(failure) if matches!(failure.kind, BadRequest | Forbidden | NotFound) => {
                self.bulk.are_refused.store(true, Ordering::Relaxed);
                let why = failure.message;
                tracing::info!("bulk calls are refused, each file has calls of its own: {why}");
                Ok(BTreeMap::new())
            }
            other => other,
        }
    }

    async fn post_bulk(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<BTreeMap<String, RemoteFile>, Failure> {
        let url = self.url(path, &[("fields", "_all")])?;
        let response = self.call_json(SevenBridgesCall::Bulk, Method::POST, url, body).await?;
        let answered: BulkFiles = answer::parse(&response)?;
        let done = answered.items.into_iter().filter(|item| item.error.is_none());
        let files = done.filter_map(|item| item.resource?.remote().ok());
        // A file whose size is not shown is not shown whole.
        let files = files.filter(|file| file.size.is_some());
        Ok(files.map(|file| (file.id.as_str().to_owned(), file)).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use futures_util::FutureExt;

    use super::*;

    fn each(ids: Vec<u32>) -> Answer<'static, Vec<Option<u32>>> {
        Box::pin(ready(Ok(ids.into_iter().map(Some).collect())))
    }

    fn never<T: 'static>(_: T) -> Answer<'static, u32> {
        Box::pin(pending())
    }

    #[tokio::test]
    async fn a_question_that_is_dropped_costs_others_nothing() {
        let batch = CallBatch::<u32, u32>::default();
        let mut first = Box::pin(batch.ask(1, each, never));
        assert!(first.as_mut().now_or_never().is_none(), "alone, and not answered");
        let mut second = Box::pin(batch.ask(2, |_| Box::pin(pending()), never));
        let mut third = Box::pin(batch.ask(3, each, never));
        assert!(second.as_mut().now_or_never().is_none());
        assert!(third.as_mut().now_or_never().is_none());
        drop(first);
        assert!(second.as_mut().now_or_never().is_none(), "it asks for the third one too");
        drop(second);
        assert_eq!(third.await, Ok(None), "it is to be asked alone");
        let others = [4, 5, 6].map(|id| batch.ask(id, each, |id| Box::pin(ready(Ok(id)))));
        let found = futures_util::future::join_all(others).await;
        assert_eq!(found, [Ok(Some(4)), Ok(Some(5)), Ok(Some(6))]);
    }
}
