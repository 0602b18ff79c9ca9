//! The connections of one shard, by origin.
//!
//! Single-threaded: cells, no locks. An origin is a tenant, a scheme, a host and a port; nothing
//! is shared across tenants. Its idle HTTP/1.1 connections are a stack: the one used last is used
//! next, and the ones below grow old and are closed. Its HTTP/2 connections are shared, each up
//! to a number of open requests.
//!
//! A connection is handed out only if it is not too old or idle for too long, if its peer's
//! address is judged allowed now, and if it looks alive. One task sweeps once a second while
//! there is anything to sweep: it closes what is stale, forgets origins without connections, and
//! publishes what is counted here; so a connection costs no timer of its own and an attempt no
//! shared counter.
//!
//! The number of connections has one bound, [`Permit`]. When it is reached, the connection that
//! has been idle for longest makes room; when none is idle, opening fails as a fault of our own.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::{Rc, Weak},
    time::{Duration, Instant},
};

use tokio::{sync::Notify, task::spawn_local, time::sleep};

use super::{
    Settings,
    connection::{Http1, Http2, Link},
    target::OriginKey,
};
use crate::{clock, delivery::Protocol, guard::Policy, id::ByNumber, metrics};

const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// A connection idle for longer than this is checked with the kernel before it is used: the
/// runtime may not have noticed yet that the peer closed it. Servers close idle connections after
/// a second at the earliest, and a system call for each request under load would be wasted.
const QUIET_CHECK_AFTER: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, Debug)]
struct Limits {
    idle_timeout: Duration,
    max_age: Duration,
    max_idle_per_origin: usize,
    max_connections: usize,
    max_streams: usize,
}

/// The connections of one shard.
#[derive(Debug)]
pub(super) struct Pool {
    limits: Limits,
    origins: RefCell<HashMap<OriginKey, Rc<Origin>, ByNumber>>,
    open: Rc<Cell<usize>>,
    sweeping: Cell<bool>,
    reused: Cell<u64>,
    published: Published,
}

impl Pool {
    pub(super) fn new(settings: &Settings) -> Rc<Self> {
        Rc::new(Self {
            limits: Limits {
                idle_timeout: settings.pool_idle_timeout,
                max_age: settings.pool_max_age,
                max_idle_per_origin: settings.pool_max_idle_per_origin,
                max_connections: settings.pool_max_connections,
                max_streams: settings.http2_max_streams,
            },
            origins: RefCell::default(),
            open: Rc::default(),
            sweeping: Cell::new(false),
            reused: Cell::new(0),
            published: Published::new(),
        })
    }

    /// An open connection that may carry a request now.
    pub(super) fn checkout(
        &self,
        key: &OriginKey,
        policy: &Policy,
        now: Instant,
    ) -> Option<Connection> {
        let origin = Rc::clone(self.origins.borrow().get(key)?);
        let found = origin.checkout(&self.limits, policy, now);
        self.reused.set(self.reused.get() + u64::from(found.is_some()));
        found
    }

    /// Takes an HTTP/1.1 connection back after its response has been read to the end.
    pub(super) fn park(&self, key: &OriginKey, mut connection: Http1, now: Instant) {
        if !connection.is_ready() {
            connection.look();
        }
        if !connection.is_ready() {
            return;
        }
        let origin = self.origin(key);
        let mut idle = origin.idle.borrow_mut();
        if idle.len() < self.limits.max_idle_per_origin {
            idle.push(Idle { connection, since: now });
        }
    }

    /// Takes a new HTTP/2 connection in and opens its first stream.
    pub(super) fn share(&self, key: &OriginKey, connection: Http2) -> Stream {
        let connection = Rc::new(connection);
        let stream = Stream::open(&connection);
        self.origin(key).shared.borrow_mut().push(connection);
        stream
    }

    /// The right to open a connection; none where all are in use.
    pub(super) fn reserve(self: &Rc<Self>) -> Option<Permit> {
        if self.open.get() >= self.limits.max_connections && !self.evict_oldest_idle() {
            return None;
        }
        self.open.set(self.open.get() + 1);
        self.ensure_swept();
        Some(Permit(Rc::clone(&self.open)))
    }

    pub(super) fn origin(&self, key: &OriginKey) -> Rc<Origin> {
        if let Some(origin) = self.origins.borrow().get(key) {
            return Rc::clone(origin);
        }
        let origin = Rc::new(Origin::default());
        self.origins.borrow_mut().insert(key.clone(), Rc::clone(&origin));
        origin
    }

    pub(super) fn count_opened(&self, protocol: Protocol) {
        match protocol {
            Protocol::Http1 => self.published.opened_http1.increment(1),
            Protocol::Http2 => self.published.opened_http2.increment(1),
        }
    }

    /// Connections open now.
    pub(super) fn open(&self) -> usize {
        self.open.get()
    }

    /// Connections without a request now.
    pub(super) fn idle(&self) -> usize {
        self.origins.borrow().values().map(|origin| origin.idle_count()).sum()
    }

    /// Origins remembered now.
    pub(super) fn origins(&self) -> usize {
        self.origins.borrow().len()
    }

    /// Looks at every origin; that is bounded by the number of connections, each of which costs
    /// far more to open.
    fn evict_oldest_idle(&self) -> bool {
        let origins = self.origins.borrow();
        let oldest = origins
            .values()
            .filter_map(|origin| Some((origin.oldest_idle()?, origin)))
            .min_by_key(|(since, _)| *since);
        oldest.is_some_and(|(since, origin)| origin.evict(since))
    }

    fn ensure_swept(self: &Rc<Self>) {
        if self.sweeping.replace(true) {
            return;
        }
        let pool = Rc::downgrade(self);
        spawn_local(async move {
            loop {
                sleep(SWEEP_EVERY).await;
                let Some(pool) = Weak::upgrade(&pool) else { return };
                pool.sweep(clock::instant());
                if pool.origins() == 0 && pool.open() == 0 {
                    pool.sweeping.set(false);
                    return;
                }
            }
        });
    }

    fn sweep(&self, now: Instant) {
        let mut origins = self.origins.borrow_mut();
        origins.retain(|_, origin| {
            origin.sweep(&self.limits, now);
            // Someone who holds it is about to put a connection in.
            !origin.is_empty() || Rc::strong_count(origin) > 1
        });
        if origins.capacity() > 4 * origins.len() + 64 {
            origins.shrink_to_fit();
        }
        drop(origins);
        self.published.publish(self.idle(), self.open(), self.reused.replace(0));
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.published.publish(0, 0, self.reused.get());
    }
}

/// The right to have one connection open, given back on drop.
#[derive(Debug)]
pub(super) struct Permit(Rc<Cell<usize>>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// A connection handed out for one request.
#[derive(Debug)]
pub(super) enum Connection {
    Http1(Http1),
    Http2(Stream),
}

impl Connection {
    pub(super) fn link(&self) -> &Link {
        match self {
            Connection::Http1(connection) => &connection.link,
            Connection::Http2(stream) => &stream.connection.link,
        }
    }

    pub(super) fn protocol(&self) -> Protocol {
        match self {
            Connection::Http1(_) => Protocol::Http1,
            Connection::Http2(_) => Protocol::Http2,
        }
    }
}

/// The right to one stream of a shared connection.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) connection: Rc<Http2>,
}

impl Stream {
    fn open(connection: &Rc<Http2>) -> Self {
        connection.streams.set(connection.streams.get() + 1);
        Self { connection: Rc::clone(connection) }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let left = self.connection.streams.get() - 1;
        self.connection.streams.set(left);
        if left == 0 {
            self.connection.idle_since.set(clock::instant());
        }
    }
}

/// One place that connections go to.
#[derive(Debug, Default)]
pub(super) struct Origin {
    /// The one used last is on top.
    idle: RefCell<Vec<Idle>>,
    shared: RefCell<Vec<Rc<Http2>>>,
    opening: Cell<usize>,
    /// The last connection opened here was HTTP/1.1, or failed: waiting for someone else's is of
    /// no use.
    exclusive: Cell<bool>,
    settled: Notify,
}

#[derive(Debug)]
struct Idle {
    connection: Http1,
    since: Instant,
}

impl Origin {
    /// Whether a connection is being opened that may turn out to have room for others.
    pub(super) fn may_soon_share(&self) -> bool {
        self.opening.get() > 0 && !self.exclusive.get()
    }

    /// Waits until a connection that was being opened is open, or has failed.
    pub(super) async fn settled(&self) {
        self.settled.notified().await;
    }

    /// Announces that a connection is being opened, until the guard is dropped.
    pub(super) fn opening(self: &Rc<Self>) -> Opening {
        self.opening.set(self.opening.get() + 1);
        Opening { origin: Rc::clone(self), shareable: false }
    }

    fn checkout(&self, limits: &Limits, policy: &Policy, now: Instant) -> Option<Connection> {
        if let Some(stream) = self.checkout_shared(limits, policy, now) {
            return Some(Connection::Http2(stream));
        }
        let mut idle = self.idle.borrow_mut();
        while let Some(Idle { connection, since }) = idle.pop() {
            let rested = now.saturating_duration_since(since);
            if rested >= limits.idle_timeout {
                // Those below have rested for longer.
                idle.clear();
                return None;
            }
            if connection.is_ready()
                && is_usable(&connection.link, limits, policy, now)
                && (rested < QUIET_CHECK_AFTER || connection.link.is_quiet())
            {
                return Some(Connection::Http1(connection));
            }
        }
        None
    }

    fn checkout_shared(&self, limits: &Limits, policy: &Policy, now: Instant) -> Option<Stream> {
        let mut shared = self.shared.borrow_mut();
        if shared.is_empty() {
            return None;
        }
        // Streams that are open go on; the connection closes with the last of them.
        shared.retain(|connection| {
            connection.is_open() && is_usable(&connection.link, limits, policy, now)
        });
        shared.iter().find(|c| c.has_room(limits.max_streams)).map(Stream::open)
    }

    fn sweep(&self, limits: &Limits, now: Instant) {
        let expired = |since: Instant| now.saturating_duration_since(since) >= limits.idle_timeout;
        let aged = |link: &Link| now.saturating_duration_since(link.opened) >= limits.max_age;
        self.idle.borrow_mut().retain_mut(|idle| {
            idle.connection.look();
            idle.connection.is_ready() && !expired(idle.since) && !aged(&idle.connection.link)
        });
        self.shared.borrow_mut().retain(|shared| {
            let rests = shared.streams.get() == 0 && expired(shared.idle_since.get());
            shared.is_open() && !rests && !aged(&shared.link)
        });
    }

    fn oldest_idle(&self) -> Option<Instant> {
        let exclusive = self.idle.borrow().first().map(|idle| idle.since);
        let shared = self.shared.borrow();
        let resting = shared.iter().filter(|c| c.streams.get() == 0).map(|c| c.idle_since.get());
        exclusive.into_iter().chain(resting).min()
    }

    /// Closes the idle connection that rests since `since`.
    fn evict(&self, since: Instant) -> bool {
        let mut idle = self.idle.borrow_mut();
        if idle.first().is_some_and(|idle| idle.since == since) {
            idle.remove(0);
            return true;
        }
        let mut shared = self.shared.borrow_mut();
        let resting =
            shared.iter().position(|c| c.streams.get() == 0 && c.idle_since.get() == since);
        resting.map(|at| shared.swap_remove(at)).is_some()
    }

    fn idle_count(&self) -> usize {
        let resting = self.shared.borrow().iter().filter(|c| c.streams.get() == 0).count();
        self.idle.borrow().len() + resting
    }

    fn is_empty(&self) -> bool {
        self.idle.borrow().is_empty() && self.shared.borrow().is_empty() && self.opening.get() == 0
    }
}

/// A connection being opened. On drop, those who wait look again.
#[derive(Debug)]
pub(super) struct Opening {
    origin: Rc<Origin>,
    shareable: bool,
}

impl Opening {
    pub(super) fn succeeded(&mut self, protocol: Protocol) {
        self.shareable = protocol == Protocol::Http2;
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        self.origin.opening.set(self.origin.opening.get() - 1);
        self.origin.exclusive.set(!self.shareable);
        self.origin.settled.notify_waiters();
    }
}

/// What the metrics have been told. Gauges add up over the shards, so changes are sent.
struct Published {
    idle: Cell<usize>,
    active: Cell<usize>,
    idle_gauge: ::metrics::Gauge,
    active_gauge: ::metrics::Gauge,
    opened_http1: ::metrics::Counter,
    opened_http2: ::metrics::Counter,
    reused: ::metrics::Counter,
}

impl Published {
    fn new() -> Self {
        Self {
            idle: Cell::new(0),
            active: Cell::new(0),
            idle_gauge: ::metrics::gauge!(metrics::CONNECTIONS, "state" => "idle"),
            active_gauge: ::metrics::gauge!(metrics::CONNECTIONS, "state" => "active"),
            opened_http1: opened("http1"),
            opened_http2: opened("http2"),
            reused: ::metrics::counter!(metrics::CONNECTIONS_REUSED),
        }
    }

    fn publish(&self, idle: usize, open: usize, reused: u64) {
        // A connection evicted between two counts may be in one and not in the other.
        let active = open.saturating_sub(idle);
        self.idle_gauge.increment(idle as f64 - self.idle.replace(idle) as f64);
        self.active_gauge.increment(active as f64 - self.active.replace(active) as f64);
        self.reused.increment(reused);
    }
}

impl std::fmt::Debug for Published {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Published")
            .field("idle", &self.idle)
            .field("active", &self.active)
            .finish_non_exhaustive()
    }
}

fn opened(protocol: &'static str) -> ::metrics::Counter {
    ::metrics::counter!(metrics::CONNECTIONS_OPENED, "protocol" => protocol)
}

fn is_usable(link: &Link, limits: &Limits, policy: &Policy, now: Instant) -> bool {
    now.saturating_duration_since(link.opened) < limits.max_age
        && policy.judge_target(link.peer).is_ok()
}
