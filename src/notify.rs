//! The ways in which people are told: takes one notice, and says whether it arrived.
//!
//! *Owns* nothing: what is to be told, when, and how often is the engine's; rows are the store's. One
//! file for each channel, one variant of [`Sender`]. *Promises*: a notice that was answered with `Ok`
//! was taken; anything else is a failure with a reason, within a bounded time. *Never* retries.
//!
//! The kind of a failure says what the engine makes of it: `BadRequest` is of this notice alone, for its
//! receiver calls it wrong; `LocalFault` is a program's refusal; all others are of the way there, and
//! are never a reason to give up.
//!
//! Addresses of webhooks and passwords are read from their files at each use. HTTP is spoken by whoever
//! implements [`Carrier`].
//!
//! *At a crash* after a channel took a notice and before its row is marked, it is sent again: the same
//! content with the same id, by which the receiver can tell.

mod body;
pub(crate) mod command;
pub(crate) mod heartbeat;
pub(crate) mod mail;
mod secret;
pub(crate) mod webhook;
mod words;

pub use body::body;
pub(crate) use body::host;

use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use crate::model::{Failure, Notice, WallTime};

/// A channel with what it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sender {
    /// A program is run.
    Command(command::Settings),
    /// An address is posted to.
    Webhook(webhook::Settings),
    Mail(mail::Settings),
}

impl Sender {
    /// Returns the files that hold what it must not show.
    pub fn secret_files(&self) -> Vec<&Path> {
        match self {
            Self::Command(_) => Vec::new(),
            Self::Webhook(settings) => {
                let secret = settings.secret_file.as_deref();
                secret.into_iter().chain([settings.url_file.as_path()]).collect()
            }
            Self::Mail(settings) => settings.credential.as_deref().into_iter().collect(),
        }
    }
}

/// A call to an address of the operator's own.
#[derive(Debug)]
pub struct Parcel<'a> {
    pub address: &'a str,
    pub headers: Vec<(&'static str, String)>,
    /// What is posted; without it the address is merely asked for.
    pub body: Option<String>,
}

#[derive(Debug, Clone)]
pub struct ChannelAnswer {
    pub status: u16,
    /// How long to wait, when that is said.
    pub retry_after: Option<Duration>,
    pub text: String,
}

pub(crate) type Carried<'a> =
    Pin<Box<dyn Future<Output = Result<ChannelAnswer, Failure>> + Send + 'a>>;

/// Makes a call by the daemon's rules for the network: proxy, certificates, time-outs, no redirects.
pub trait Carrier: Send + Sync {
    /// Makes one call, once.
    fn carry<'a>(&'a self, parcel: Parcel<'a>) -> Carried<'a>;
}

/// What channels are handed for one try.
#[derive(Clone, Copy)]
pub struct Means<'a> {
    pub carrier: &'a dyn Carrier,
    pub at: WallTime,
    /// Is told every secret before it is used, so that no log shows it.
    pub keep: fn(&str),
}

impl Sender {
    /// Sends a notice, once, and returns what its receiver answered.
    pub async fn send(&self, notice: &Notice, means: Means<'_>) -> Result<String, Failure> {
        match self {
            Self::Command(settings) => command::send(settings, notice).await,
            Self::Webhook(settings) => webhook::send(settings, notice, means).await,
            Self::Mail(settings) => mail::send(settings, notice, means).await,
        }
    }

    /// Asks whether its receiver is there, and sends nothing; returns how it shows. A program is not run:
    /// that it can be is checked with the configuration.
    pub async fn probe(&self, means: Means<'_>) -> Result<String, Failure> {
        match self {
            Self::Command(_) => Ok("its program is there".to_owned()),
            Self::Webhook(settings) => webhook::probe(settings, means).await,
            Self::Mail(settings) => mail::probe(settings, means).await,
        }
    }
}
