//! Server-sent events: the overview, each time that it changes.
//!
//! *Promises*: it is read once for all listeners, at most once an interval, and never without one;
//! listeners are few, and one that does not read costs no more than its connection.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use tokio::sync::{Semaphore, watch};

use super::{PageResource, Read, Site, off_the_loop};

/// Interval of reading the overview. Reading takes milliseconds: more often would cost a noticeable
/// share of a core.
const INTERVAL: Duration = Duration::from_secs(2);
/// Limit of listeners: half of all connections, so that the others are answered.
const LISTENERS_MAX: usize = 32;
/// Interval of empty lines, so that a vanished peer is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Delay before a browser connects again.
const RETRY: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Events {
    /// The last overview; empty at first.
    latest: watch::Sender<Arc<str>>,
    room: Arc<Semaphore>,
}

impl Default for Events {
    fn default() -> Self {
        Self {
            latest: watch::Sender::new("".into()),
            room: Arc::new(Semaphore::new(LISTENERS_MAX)),
        }
    }
}

impl Events {
    /// Reads the overview for as long as there are listeners.
    pub(super) async fn follow(self: Arc<Self>, read: Read) {
        loop {
            tokio::time::sleep(INTERVAL).await;
            if self.latest.receiver_count() == 0 {
                continue;
            }
            if let Ok(text) = off_the_loop(Arc::clone(&read), PageResource::Overview).await {
                self.latest.send_if_modified(|latest| {
                    let is_other = **latest != *text;
                    if is_other {
                        *latest = text.into();
                    }
                    is_other
                });
            }
        }
    }
}

/// Answers with the overview, and again each time that it has changed.
pub(super) async fn listen(State(site): State<Site>) -> Response {
    let Ok(place) = Arc::clone(&site.events.room).try_acquire_owned() else {
        let why = "too many listeners: ask /api/page\n";
        return (StatusCode::SERVICE_UNAVAILABLE, why).into_response();
    };
    let changes = site.events.latest.subscribe();
    let first = match off_the_loop(Arc::clone(&site.view.read), PageResource::Overview).await {
        Ok(text) => text,
        Err(refused) => return refused,
    };
    let start = (Some(first), changes, place);
    let stream = futures_util::stream::unfold(start, async |(first, mut changes, place)| {
        let text = match first {
            Some(text) => text,
            None => {
                changes.changed().await.ok()?;
                changes.borrow_and_update().to_string()
            }
        };
        let event = Event::default().retry(RETRY).data(text);
        Some((Ok::<_, Infallible>(event), (None, changes, place)))
    });
    Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
}
