//! The ways in which people are told: takes one notice, and says whether it arrived.
//!
//! *Owns* nothing: what is to be told, when, and how often is the engine's; rows are the store's. One
//! file for each channel, one variant of [`Sender`]. *Promises*: a notice that was answered with `Ok`
//! was taken; anything else is a failure with a reason, within a bounded time. *Never* retries.
//!
//! *At a crash* after a channel took a notice and before its row is marked, it is sent again: the same
//! bytes with the same id, by which the receiver can tell.

pub mod command;

use crate::model::{Channel, Failure, Notice};

/// A channel with what it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sender {
    /// A program is run.
    Command(command::Settings),
}

impl Sender {
    /// Returns which channel it is.
    pub fn channel(&self) -> Channel {
        match self {
            Self::Command(_) => Channel::Command,
        }
    }

    /// Sends a notice, once.
    ///
    /// # Errors
    /// Why it was not taken, for people.
    pub async fn send(&self, notice: &Notice) -> Result<(), Failure> {
        match self {
            Self::Command(settings) => command::send(settings, notice).await,
        }
    }
}
