//! What operators ask of the running daemon: carried out by the loop, answered after the commit.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::handed::{self, Found, Protected};
use super::{Daemon, Landing};
use crate::config::Config;
use crate::control::{Asked, Change, Handed, Listener, RateOrder, Reply, Request, Target};
use crate::engine::orders::Order;
use crate::limiter::Rate;
use crate::model::{DestinationName, OrderRecord, Record, Scope, Verb};
use crate::telemetry;

/// Requests that wait for the loop.
const WAITING_MAX: usize = 16;
/// Requests whose files are looked at at once: a file system that hangs takes no more threads.
const SEARCHES_MAX: usize = 8;

/// A request, as far as it could be prepared aside.
#[derive(Debug)]
pub(super) struct Ready {
    wanted: Wanted,
    user: u32,
    answer: oneshot::Sender<Reply>,
}

#[derive(Debug)]
enum Wanted {
    Request(Request),
    Files(Result<Found, String>, DestinationName),
}

/// The socket's requests, as they come.
#[derive(Debug)]
pub(super) struct Control {
    asked: mpsc::Receiver<Asked>,
    /// What is never handed in.
    protected: Arc<Protected>,
    /// Searches for what is handed in.
    searches: JoinSet<Ready>,
    /// Ends with this.
    _server: JoinSet<()>,
}

impl Control {
    /// Listens where it is configured. Without a socket the daemon does its work all the same.
    pub(super) fn listen(config: &Config) -> Self {
        let (sender, asked) = mpsc::channel(WAITING_MAX);
        let mut server = JoinSet::new();
        server.spawn(Listener::open(&config.control_socket).serve(sender));
        let protected = Arc::new(Protected::of(config));
        Self { asked, protected, searches: JoinSet::new(), _server: server }
    }

    /// Takes another configuration.
    pub(super) fn configure(&mut self, config: &Config) {
        self.protected = Arc::new(Protected::of(config));
    }

    /// Waits for the next request that the loop can carry out.
    pub(super) async fn next(&mut self) -> Ready {
        loop {
            tokio::select! {
                Some(found) = self.searches.join_next() => match found {
                    Ok(ready) => return ready,
                    // Only an abort gets here: a panic ends the process.
                    Err(_) => continue,
                },
                Some(asked) = self.asked.recv() => {
                    if let Some(ready) = self.search(asked) {
                        return ready;
                    }
                },
                else => std::future::pending().await,
            }
        }
    }

    /// Files that are handed in are looked at aside, however long their disk takes.
    fn search(&mut self, asked: Asked) -> Option<Ready> {
        let Asked { request, descriptors, user, answer } = asked;
        let Request::Upload { paths, below, to } = request else {
            return Some(Ready { wanted: Wanted::Request(request), user, answer });
        };
        let to = DestinationName::new(to);
        if self.searches.len() >= SEARCHES_MAX {
            let busy = Err("too many files are being looked at; hand them in again".to_owned());
            return Some(Ready { wanted: Wanted::Files(busy, to), user, answer });
        }
        let protected = Arc::clone(&self.protected);
        self.searches.spawn_blocking(move || {
            let offered = handed::Offered { paths: &paths, below: below.as_deref() };
            let wanted = Wanted::Files(offered.find(&descriptors, &protected), to);
            Ready { wanted, user, answer }
        });
        None
    }
}

impl Daemon {
    /// Carries out a request. The answer waits for everything that was committed until then.
    pub(super) fn on_asked(&mut self, ready: Ready) {
        let Ready { wanted, user, answer } = ready;
        let reply = match wanted {
            Wanted::Request(request) => self.carry_out(request, user),
            Wanted::Files(Ok(found), to) => self.hand_in(found, &to, user),
            Wanted::Files(Err(why), _) => Reply::Refused(why),
        };
        self.commits.push_back(Box::pin(async move {
            let answer = Some((answer, reply));
            Landing {
                result: Ok(Vec::new()),
                then: Vec::new(),
                world: None,
                is_decided: false,
                answer,
            }
        }));
    }

    fn carry_out(&mut self, request: Request, user: u32) -> Reply {
        match request {
            Request::Pause { of } => self.order(Verb::Pause, of, user),
            Request::Resume { of } => self.order(Verb::Resume, of, user),
            Request::AcceptRoot { of } => self.order(Verb::AcceptRoot, of, user),
            Request::Retry { of } => self.order(Verb::Retry, of, user),
            Request::Abandon { of } => self.order(Verb::Abandon, of, user),
            Request::Resend { to } => self.resend(&DestinationName::new(to), user),
            Request::Bandwidth { set } => self.order_bandwidth(set, user),
            Request::LogLevel { set } => order_level(set.as_deref(), user),
            Request::Upload { .. } => Reply::Refused("its files were not looked for".into()),
        }
    }

    fn hand_in(&mut self, found: Found, to: &DestinationName, user: u32) -> Reply {
        let mut effects = Vec::new();
        let handed = self.engine.hand_in(self.clock.now(), (&found.files, to), &mut effects);
        self.take_effects(effects);
        let uploads = match handed {
            Ok(uploads) => uploads,
            Err(unknown) => return Reply::Refused(unknown.to_string()),
        };
        tracing::info!(destination = %to, "user {user} hands in {} files", found.files.len());
        let handed = found.files.iter().zip(uploads).map(|(file, upload)| Handed {
            path: format!("/{}", file.path),
            upload: upload.map(|id| id.0),
        });
        Reply::HandedIn { uploads: handed.collect(), left_out: found.left_out }
    }

    fn resend(&mut self, to: &DestinationName, user: u32) -> Reply {
        tracing::info!(destination = %to, "user {user} orders: send again what its former targets hold");
        let mut effects = Vec::new();
        let ordered = self.engine.resend(self.clock.now(), to, &mut effects);
        self.take_effects(effects);
        match ordered {
            Ok(()) => Reply::Resending,
            Err(unknown) => Reply::Refused(unknown.to_string()),
        }
    }

    fn order(&mut self, verb: Verb, of: Vec<Target>, user: u32) -> Reply {
        // What is named twice is ordered once.
        let scopes: BTreeSet<Scope> = of.into_iter().map(Into::into).collect();
        let scopes: Vec<Scope> = scopes.into_iter().collect();
        if verb == Verb::Retry {
            self.lift_pauses(&scopes);
        }
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

    /// Ends what platforms asked for, so that the first call that is retried does not wait for it.
    fn lift_pauses(&self, scopes: &[Scope]) {
        let is_meant = |name: &DestinationName| {
            scopes.iter().any(|scope| match scope {
                Scope::All => true,
                Scope::Destination(asked) => asked == name,
                Scope::Drop(_) | Scope::Unit(..) | Scope::Upload(_) => false,
            })
        };
        let meant = self.world.destinations.iter().filter(|(name, _)| is_meant(name));
        meant.for_each(|(_, destination)| destination.lift_pause());
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
