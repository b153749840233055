//! The channels that notify people: each sends one notice, and returns whether it was accepted.
//!
//! *Owns* nothing: the engine decides what to send, when, and how often; the store has the rows.
//! One file for each channel, one variant of [`Sender`]. *Promises*: a notice answered with `Ok`
//! was accepted; anything else is a failure with a reason, within a bounded time. *Never* retries.
//!
//! The kind of a failure decides what the engine does: `BadRequest` concerns this notice alone,
//! because its receiver rejects it; `LocalFault` is a program's refusal; all others concern the
//! connection, and are never a reason to give up.
//!
//! Webhook addresses and passwords are read from their files at each use. An implementation of
//! [`Carrier`] performs HTTP.
//!
//! *After a crash* between a channel's acceptance and the row, the notice is sent again: the same
//! content with the same id, by which the receiver can recognise it.

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

/// A channel with its settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sender {
    /// Runs a program.
    Command(command::Settings),
    /// Posts to an address.
    Webhook(webhook::Settings),
    Mail(mail::Settings),
}

impl Sender {
    /// Returns the files with secrets that must not be shown.
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

/// A request to an address of the operator's own.
#[derive(Debug)]
pub struct Parcel<'a> {
    pub address: &'a str,
    pub headers: Vec<(&'static str, String)>,
    /// The body to post; without it the request is a GET.
    pub body: Option<String>,
}

#[derive(Debug, Clone)]
pub struct ChannelAnswer {
    pub status: u16,
    /// How long to wait, when the answer gives it.
    pub retry_after: Option<Duration>,
    pub text: String,
}

pub(crate) type Carried<'a> =
    Pin<Box<dyn Future<Output = Result<ChannelAnswer, Failure>> + Send + 'a>>;

/// Sends requests by the daemon's network settings: proxy, certificates, time-outs, no redirects.
pub trait Carrier: Send + Sync {
    /// Sends one request, once.
    fn carry<'a>(&'a self, parcel: Parcel<'a>) -> Carried<'a>;
}

/// What a channel needs for one attempt.
#[derive(Clone, Copy)]
pub struct Means<'a> {
    pub carrier: &'a dyn Carrier,
    pub at: WallTime,
    /// Receives every secret before it is used, so that no log shows it.
    pub keep: fn(&str),
}

impl Sender {
    /// Sends a notice once, and returns its receiver's answer.
    pub async fn send(&self, notice: &Notice, means: Means<'_>) -> Result<String, Failure> {
        match self {
            Self::Command(settings) => command::send(settings, notice).await,
            Self::Webhook(settings) => webhook::send(settings, notice, means).await,
            Self::Mail(settings) => mail::send(settings, notice, means).await,
        }
    }

    /// Checks that its receiver is there, without sending a notice; returns the evidence. A program
    /// is not run: that it can be run is checked with the configuration.
    pub async fn probe(&self, means: Means<'_>) -> Result<String, Failure> {
        match self {
            Self::Command(_) => Ok("its program is there".to_owned()),
            Self::Webhook(settings) => webhook::probe(settings, means).await,
            Self::Mail(settings) => mail::probe(settings, means).await,
        }
    }
}
