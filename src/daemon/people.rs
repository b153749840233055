//! What the shell does for people to be told: hands notices to channels, and looks at what only it
//! can see.

use std::sync::Arc;
use std::time::Duration;

use super::context::World;
use super::workers::{Reply, failed, off_the_loop};
use crate::engine::event::Outcome;
use crate::model::{Failure, FailureKind, Notice};
use crate::notify::{Answer, Carried, Carrier, Means, Parcel};
use crate::platform::http::Http;
use crate::source;
use crate::telemetry;

/// What of an answer is read: enough to tell whether it is one.
const ANSWER_MAX: usize = 1024;
/// A receiver that takes longer is held to be stuck, however it trickles.
const TIME_LIMIT: Duration = Duration::from_mins(2);

/// Makes the calls of channels by the rules for platforms.
#[derive(Debug, Clone)]
pub(crate) struct Courier(pub(crate) Http);

impl Carrier for Courier {
    fn carry<'a>(&'a self, parcel: Parcel<'a>) -> Carried<'a> {
        Box::pin(async move {
            let Parcel { address, headers, body } = parcel;
            let call = self.0.call_private(address, &headers, body);
            let late = |_| {
                let message =
                    format!("the receiver does not answer within {} s", TIME_LIMIT.as_secs());
                Failure::new(FailureKind::TimedOut, message)
            };
            let answer = tokio::time::timeout(TIME_LIMIT, call).await.map_err(late)??;
            let pause = answer.header("retry-after").and_then(|text| text.trim().parse().ok());
            let start = answer.body.get(..ANSWER_MAX).unwrap_or(&answer.body);
            Ok(Answer {
                status: answer.status,
                retry_after: pause.map(Duration::from_secs),
                text: String::from_utf8_lossy(start).into_owned(),
            })
        })
    }
}

impl World {
    /// Returns what channels are handed.
    pub(super) fn means(&self) -> Means<'_> {
        let at = self.clock.now().wall;
        Means { carrier: &self.courier, at, keep: telemetry::register_secret }
    }
}

/// Hands a notice to its channel.
pub(super) async fn tell(world: &World, notice: &Notice) -> Result<Outcome, Failure> {
    let channel = &notice.channel;
    let missing = || Failure::new(FailureKind::Unreachable, format!("{channel} is not configured"));
    let told = world.senders.get(channel).ok_or_else(missing)?.send(notice, world.means()).await;
    told.map_err(|failure| {
        let message = format!("{channel}: {}", failure.message);
        Failure { message, ..failure }
    })?;
    Ok(Outcome::Notified)
}

/// Looks at the room for the state, and at how long the credentials last.
pub(super) async fn survey(world: Arc<World>) -> Reply {
    let look = move || {
        let expiry = |(name, destination): (&_, &crate::platform::Destination)| {
            (crate::model::DestinationName::clone(name), destination.credential_expires_at())
        };
        Ok(Outcome::Surveyed {
            directory: world.state.display().to_string(),
            space: source::space(&world.state),
            expiries: world.destinations.iter().map(expiry).collect(),
        })
    };
    off_the_loop(look).await.or_else(|setback| failed(setback.failure))
}
