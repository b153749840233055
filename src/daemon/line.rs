//! Requests that are served together: requests during a service wait, and the next service handles
//! all that wait.

use std::sync::{Mutex, PoisonError};

use tokio::sync::oneshot;

use crate::model::{Failure, FailureKind};

/// A queue, with whether it is being served.
#[derive(Debug)]
pub(crate) struct ServedQueue<T>(Mutex<Waiters<T>>);

#[derive(Debug)]
struct Waiters<T> {
    waiting: Vec<T>,
    is_served: bool,
}

impl<T> Default for ServedQueue<T> {
    fn default() -> Self {
        Self(Mutex::new(Waiters { waiting: Vec::new(), is_served: false }))
    }
}

impl<T> ServedQueue<T> {
    /// Adds a request; returns whether the caller must serve the queue.
    pub(super) fn join(&self, request: T) -> bool {
        let mut queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        queue.waiting.push(request);
        !std::mem::replace(&mut queue.is_served, true)
    }

    /// Removes the oldest requests, up to this number. An empty queue ends the service.
    pub(super) fn take(&self, most: usize) -> Vec<T> {
        let mut queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = queue.waiting.len().min(most);
        queue.is_served = count > 0;
        queue.waiting.drain(..count).collect()
    }
}

/// Waits for the answer to a request; none comes when the daemon stops.
pub(super) async fn served<T>(
    answered: oneshot::Receiver<Result<T, Failure>>,
) -> Result<T, Failure> {
    let cut = |_| Err(Failure::new(FailureKind::Cancelled, "the daemon stops"));
    answered.await.unwrap_or_else(cut)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_serves_and_takes_whoever_came_meanwhile() {
        let line = ServedQueue::default();
        assert_eq!([1, 2, 3].map(|request| line.join(request)), [true, false, false]);
        assert_eq!(line.take(2), [1, 2]);
        assert!(!line.join(4), "it is being served");
        assert_eq!((line.take(2), line.take(2)), (vec![3, 4], vec![]));
        assert!(line.join(5), "the service has ended");
        assert!(!line.join(6), "it is being served again");
        assert_eq!((line.take(1), line.take(2), line.take(2)), (vec![5], vec![6], vec![]));
    }
}
