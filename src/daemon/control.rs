//! What operators ask of the running daemon: carried out by the loop, answered after the commit.

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::{Daemon, Landing};
use crate::control::{Asked, Change, Listener, RateOrder, Reply, Request, Target};
use crate::engine::orders::Order;
use crate::limiter::Rate;
use crate::model::{OrderRecord, Record, Verb};
use crate::telemetry;

/// Requests that wait for the loop.
const WAITING_MAX: usize = 16;

/// The socket's requests, as they come.
#[derive(Debug)]
pub(super) struct Control {
    asked: mpsc::Receiver<Asked>,
    /// Ends with this.
    _server: JoinSet<()>,
}

impl Control {
    /// Listens at a path. Without a socket the daemon does its work all the same, and says so.
    pub(super) fn listen(path: &std::path::Path) -> Self {
        let (sender, asked) = mpsc::channel(WAITING_MAX);
        let mut server = JoinSet::new();
        match Listener::open(path) {
            Ok(listener) => {
                server.spawn(listener.serve(sender));
            }
            Err(error) => {
                let why = std::error::Error::source(&error).map(ToString::to_string);
                let hint = error.hint().map_or(String::new(), |hint| format!("; {hint}"));
                let why = why.unwrap_or_default();
                tracing::error!("nothing can be asked of this daemon: {error}: {why}{hint}");
            }
        }
        Self { asked, _server: server }
    }

    /// Waits for the next request; never returns when there is no socket.
    pub(super) async fn next(&mut self) -> Asked {
        match self.asked.recv().await {
            Some(asked) => asked,
            None => std::future::pending().await,
        }
    }
}

impl Daemon {
    /// Carries out a request. The answer waits for everything that was committed until then.
    pub(super) fn on_asked(&mut self, asked: Asked) {
        let Asked { request, user, answer } = asked;
        let reply = match request {
            Request::Pause { of } => self.order(Verb::Pause, of, user),
            Request::Resume { of } => self.order(Verb::Resume, of, user),
            Request::Retry { of } => self.order(Verb::Retry, of, user),
            Request::Abandon { of } => self.order(Verb::Abandon, of, user),
            Request::Bandwidth { set } => self.order_bandwidth(set, user),
            Request::LogLevel { set } => order_level(set.as_deref(), user),
        };
        self.commits.push_back(Box::pin(async move {
            Landing { result: Ok(()), then: Vec::new(), answer: Some((answer, reply)) }
        }));
    }

    fn order(&mut self, verb: Verb, of: Vec<Target>, user: u32) -> Reply {
        let scopes = of.into_iter().map(Into::into).collect();
        let mut effects = Vec::new();
        let changes = self.engine.order(self.clock.now(), Order { verb, scopes }, &mut effects);
        self.take_effects(effects);
        let change = |change: crate::engine::orders::Change| {
            tracing::info!("user {user} orders: {verb:?} {}", change.scope);
            let upload_count = change.upload_count as u64;
            Change { of: (&change.scope).into(), is_known: change.is_known, upload_count }
        };
        Reply::Changed(changes.into_iter().map(change).collect())
    }

    fn order_bandwidth(&mut self, set: Option<RateOrder>, user: u32) -> Reply {
        if let Some(set) = set {
            let ordered: Option<Rate> = match set {
                RateOrder::Configured => None,
                RateOrder::Unlimited => Some(None),
                RateOrder::BytesPerSecond(rate) => Some(Some(rate)),
            };
            tracing::info!("user {user} orders: bandwidth {set:?}");
            let at = self.clock.now().wall;
            let record = OrderRecord::Bandwidth { rate: ordered, at };
            self.submit(vec![Record::Order(record)]);
            self.rates.order(ordered);
            self.follow_rates();
        }
        let (bytes_per_second, is_ordered) = self.rates.in_force();
        Reply::Bandwidth { bytes_per_second, is_ordered }
    }
}

fn order_level(set: Option<&str>, user: u32) -> Reply {
    match set.map(str::parse::<telemetry::Level>) {
        Some(Err(unknown)) => Reply::Refused(unknown.to_string()),
        Some(Ok(level)) => {
            tracing::info!("user {user} orders: log level {}", level.as_str());
            match telemetry::set_level(level) {
                Ok(()) => Reply::LogLevel(level.as_str().into()),
                Err(error) => Reply::Refused(error.to_string()),
            }
        }
        None => Reply::LogLevel(telemetry::level().as_str().into()),
    }
}
