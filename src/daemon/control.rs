//! Requests of operators to the running daemon: carried out by the loop, answered after the commit. What is going on
//! is answered without the loop.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::Daemon;
use super::context::World;
use super::handed::{self, Found, Protected};
use crate::config::Config;
use crate::control::{
    Answerers, ControlRequest, Handed, Listener, RateOrder, ReceivedRequest, Reply, user_shown,
};
use crate::engine::event::Event;
use crate::engine::orders::{Order, OrderAnswer, OrderId};
use crate::limiter::Rate;
use crate::model::{DestinationName, OrderRecord, Record, Scope, Shown, Verb};
use crate::telemetry;

/// Limit of requests that wait for the loop.
const WAITING_MAX: usize = 16;
/// Limit of requests whose files are checked at once: a file system that hangs takes no more threads.
const SEARCHES_MAX: usize = 8;

/// A request after its preparation off the loop.
#[derive(Debug)]
pub(super) struct Ready {
    wanted: Wanted,
    user: u32,
    answer: oneshot::Sender<Reply>,
}

#[derive(Debug)]
enum Wanted {
    Request(ControlRequest),
    Files(Result<Found, String>, DestinationName),
}

/// An operator whose order the engine carries out.
#[derive(Debug)]
struct WaitingRequest {
    answer: oneshot::Sender<Reply>,
    /// Handed-in files that were refused beforehand, and why.
    left_out: Vec<(String, String)>,
}

/// The requests at the socket.
#[derive(Debug)]
pub(super) struct Control {
    asked: mpsc::Receiver<ReceivedRequest>,
    /// Files that may not be handed in.
    protected: Arc<Protected>,
    searches: JoinSet<Ready>,
    /// What is asked for what is going on: another one after each reload.
    world: Arc<Mutex<Arc<World>>>,
    /// Operators whose orders the engine has not answered.
    waiting: BTreeMap<OrderId, WaitingRequest>,
    next_order: u64,
    _server: JoinSet<()>,
}

impl Control {
    /// Listens where it is configured. Without a socket the daemon does its work all the same.
    pub(super) fn listen(config: &Config, world: &Arc<World>) -> Self {
        let (sender, asked) = mpsc::channel(WAITING_MAX);
        let world = Arc::new(Mutex::new(Arc::clone(world)));
        let shown = Arc::clone(&world);
        let live = move || super::live::read(&shown.lock().unwrap_or_else(PoisonError::into_inner));
        let answerers = Answerers { asked: sender, live: Arc::new(live) };
        let mut server = JoinSet::new();
        server.spawn(Listener::open(&config.control_socket).serve(answerers));
        let protected = Arc::new(Protected::of(config));
        Self {
            asked,
            protected,
            searches: JoinSet::new(),
            waiting: BTreeMap::new(),
            world,
            next_order: 0,
            _server: server,
        }
    }

    pub(super) fn configure(&mut self, config: &Config, world: &Arc<World>) {
        *self.world.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(world);
        self.protected = Arc::new(Protected::of(config));
    }

    /// Waits for the next request that the loop can carry out.
    pub(super) async fn next(&mut self) -> Ready {
        loop {
            tokio::select! {
                Some(found) = self.searches.join_next() => match found {
                    Ok(ready) => return ready,
                    // Only a cancelled task gets here: a panic ends the process.
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

    /// Turns the engine's answer to an order into the reply to the operator who gave it.
    pub(super) fn answered(
        &mut self,
        id: OrderId,
        answered: OrderAnswer,
    ) -> Option<(oneshot::Sender<Reply>, Reply)> {
        let WaitingRequest { answer, left_out } = self.waiting.remove(&id)?;
        Some((answer, reply_of(answered, left_out)))
    }

    /// Handed-in files are checked off the loop, however long their disk takes.
    fn search(&mut self, asked: ReceivedRequest) -> Option<Ready> {
        let ReceivedRequest { request, descriptors, user, answer } = asked;
        let ControlRequest::Upload { paths, below, to } = request else {
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
    /// Carries out a request.
    pub(super) fn on_asked(&mut self, ready: Ready) {
        let Ready { wanted, user, answer } = ready;
        let request = match wanted {
            Wanted::Files(Ok(Found { files, known, left_out }), to) => {
                let destination = Shown(to.as_str());
                tracing::info!(%destination, "user {user} hands in {} files", files.len());
                return self.order(
                    Order::HandIn { files, known, to },
                    WaitingRequest { answer, left_out },
                );
            }
            Wanted::Files(Err(why), _) => return self.reply(answer, Reply::Refused(why)),
            Wanted::Request(request) => request,
        };
        let who = user_shown(user);
        let (verb, of) = match request {
            ControlRequest::Order { verb, of } => (verb, of),
            ControlRequest::Close { drop, run } => {
                tracing::info!("user {who} orders: close {drop}/{run}");
                let order = Order::Close { drop, run, by: format!("uid {user}") };
                return self.order(order, WaitingRequest { answer, left_out: Vec::new() });
            }
            ControlRequest::Resend { to } => {
                let to = DestinationName::new(to);
                let destination = Shown(to.as_str());
                tracing::info!(%destination, "user {who} orders: send again what its former targets hold");
                let waiting = WaitingRequest { answer, left_out: Vec::new() };
                return self.order(Order::Resend { to }, waiting);
            }
            ControlRequest::Bandwidth { set } => {
                let reply = self.order_bandwidth(set, user);
                return self.reply(answer, reply);
            }
            ControlRequest::Live => {
                // It is of this moment, and of nothing that has to be durable.
                return answer.send(Reply::Live(super::live::read(&self.world))).unwrap_or(());
            }
            ControlRequest::LogLevel { set } => {
                return self.reply(answer, order_level(set.as_deref(), user));
            }
            ControlRequest::Upload { .. } => {
                return self.reply(answer, Reply::Refused("its files were not looked for".into()));
            }
        };
        // A scope that is named twice is ordered once.
        let scopes: BTreeSet<Scope> = of.into_iter().collect();
        let scopes: Vec<Scope> = scopes.into_iter().collect();
        scopes.iter().for_each(|scope| tracing::info!("user {who} orders: {verb:?} {scope}"));
        if verb == Verb::Retry {
            self.lift_pauses(&scopes);
        }
        self.order(Order::Set { verb, scopes }, WaitingRequest { answer, left_out: Vec::new() });
    }

    fn order(&mut self, order: Order, waiting: WaitingRequest) {
        let id = OrderId(self.inputs.control.next_order);
        self.inputs.control.next_order += 1;
        self.inputs.control.waiting.insert(id, waiting);
        self.tell(Event::Ordered { id, order });
    }

    /// Answers once everything that was submitted so far is durable.
    fn reply(&mut self, answer: oneshot::Sender<Reply>, reply: Reply) {
        if let Some(task) = self.desk.answer((answer, reply)) {
            self.carry_out(task);
        }
    }

    /// Ends pauses that platforms requested, so that the first retried call does not wait for them.
    fn lift_pauses(&self, scopes: &[Scope]) {
        let is_meant = |name: &DestinationName| {
            scopes.iter().any(|scope| match scope {
                Scope::All => true,
                Scope::Destination(asked) => asked == name,
                Scope::Drop(_) | Scope::Run(..) | Scope::Upload(_) => false,
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
            let who = user_shown(user);
            tracing::info!("user {who} orders: bandwidth {set:?}");
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

fn reply_of(answered: OrderAnswer, left_out: Vec<(String, String)>) -> Reply {
    match answered {
        OrderAnswer::Changed(changes) => Reply::Changed(changes),
        OrderAnswer::Resending => Reply::Resending,
        OrderAnswer::Closed(Ok(closed)) => Reply::Closed(closed),
        OrderAnswer::Closed(Err(why)) => Reply::Refused(format!("it {why}")),
        OrderAnswer::HandedIn(files) => {
            let handed = files.into_iter().map(|(path, upload)| Handed {
                path: format!("/{path}"),
                upload: upload.map(|id| id.0),
            });
            Reply::HandedIn { uploads: handed.collect(), left_out }
        }
        OrderAnswer::UnknownDestination(name) => {
            Reply::Refused(format!("no destination is named {name}"))
        }
    }
}

fn order_level(set: Option<&str>, user: u32) -> Reply {
    match set.map(str::parse::<telemetry::Level>) {
        Some(Err(unknown)) => Reply::Refused(unknown.to_string()),
        Some(Ok(level)) => {
            let (who, word) = (user_shown(user), level.as_str());
            tracing::info!("user {who} orders: log level {word}");
            match telemetry::set_level(level) {
                Ok(()) => Reply::LogLevel(level.as_str().into()),
                Err(error) => Reply::Refused(error.to_string()),
            }
        }
        None => Reply::LogLevel(telemetry::level().as_str().into()),
    }
}
