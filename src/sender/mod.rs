//! The sender: one attempt outwards.
//!
//! sign ▶ resolve ▶ judge ▶ connect ▶ (TLS) ▶ request ▶ read a bounded response ▶ [`Attempted`].
//! It decides nothing about what follows: the engine does.
//!
//! A [`Sender`] belongs to one shard: one thread, a current-thread runtime and a `LocalSet`, its
//! own pool, resolver and TLS configuration. It is not `Send` and has no lock. Everything that an
//! attempt can meet is data in [`Attempted`]; only a sender that cannot be made is an error.
//!
//! What it deliberately does not do: follow redirects, use a proxy of the environment, decompress,
//! keep cookies, resume TLS sessions, and retry anything that may have reached the receiver.

mod attempt;
mod connect;
mod connection;
mod deadline;
mod dns;
mod failure;
mod io;
mod outcome;
mod pool;
mod response;
pub mod sign;
pub mod target;
mod tls;

use std::{
    fmt,
    net::SocketAddr,
    path::PathBuf,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;

use connect::Connector;
use deadline::Deadlines;
use pool::{Connection, Pool};

use crate::{
    clock::Clock,
    delivery::{Attempt, Outcome},
    engine::Blame,
    event::EventType,
    guard::Policy,
    id::{DeliveryId, EventId},
    trace::TraceContext,
    trust::TrustError,
    webhook::SuccessRule,
};

/// The sender's numbers, for one shard.
#[derive(Clone, Debug)]
pub struct Settings {
    /// From DNS to the last byte read, where a webhook sets none of its own.
    pub timeout: Duration,
    pub connect_timeout: Duration,
    pub tls_timeout: Duration,
    pub dns_timeout: Duration,
    /// A response body is read up to here; what comes after closes the connection.
    pub max_response: usize,
    /// The first bytes of it that are kept.
    pub keep_response: usize,
    pub pool_idle_timeout: Duration,
    pub pool_max_age: Duration,
    pub pool_max_idle_per_origin: usize,
    pub pool_max_connections: usize,
    pub http2_max_streams: usize,
    /// Name servers; the system's where empty.
    pub dns_servers: Vec<SocketAddr>,
    pub dns_cache_entries: usize,
    pub dns_min_ttl: Duration,
    pub dns_max_ttl: Duration,
    pub dns_negative_ttl: Duration,
    /// Added to the system's roots.
    pub ca_file: Option<PathBuf>,
    pub policy: Arc<Policy>,
    /// The most that a `Retry-After` may ask for.
    pub max_retry_after: Duration,
    pub success: SuccessRule,
    /// The engine's clock: `Outcome::Retry::not_before` is in its time.
    pub clock: Clock,
}

/// Why there can be no sender.
#[derive(Debug, thiserror::Error)]
pub enum SenderError {
    #[error("the system's name servers cannot be read: {0}")]
    Dns(String),
    #[error(transparent)]
    Trust(#[from] TrustError),
}

/// Makes attempts, for one shard. Its methods must run inside a `LocalSet`.
pub struct Sender {
    pool: Rc<Pool>,
    connector: Connector,
    deadlines: Rc<Deadlines>,
    clock: Clock,
    max_response: usize,
    keep_response: usize,
    max_retry_after: Duration,
}

impl Sender {
    pub fn new(settings: Settings) -> Result<Self, SenderError> {
        Ok(Self {
            pool: Pool::new(&settings),
            connector: Connector::new(&settings)?,
            deadlines: Deadlines::new(settings.clock),
            clock: settings.clock,
            max_response: settings.max_response,
            keep_response: settings.keep_response,
            max_retry_after: settings.max_retry_after,
        })
    }

    /// From now on, addresses are judged by `policy`, those of open connections too.
    pub fn set_policy(&self, policy: Arc<Policy>) {
        self.connector.set_policy(policy);
    }

    /// Takes a connection at rest out of the pool and puts it back, as an attempt does before and
    /// after its request; false where none rests there. The pool is nobody's business but the
    /// sender's, so this is all that the benchmarks see of it.
    #[doc(hidden)]
    pub fn take_and_return(&self, target: &target::Target, now: Instant) -> bool {
        match self.pool.checkout(&target.origin, &self.connector.policy(), now) {
            Some(Connection::Http1(connection)) => {
                self.pool.park(&target.origin, connection, now);
                true
            }
            Some(Connection::Http2(_)) => true,
            None => false,
        }
    }

    /// What is open now.
    pub fn connections(&self) -> Connections {
        Connections { open: self.pool.open(), idle: self.pool.idle(), origins: self.pool.origins() }
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("connections", &self.connections()).finish_non_exhaustive()
    }
}

/// A sender's connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connections {
    /// With and without a request; those being opened included.
    pub open: usize,
    pub idle: usize,
    /// Origins (tenant, scheme, host, port) that are remembered.
    pub origins: usize,
}

/// An attempt to make.
#[derive(Clone, Debug)]
pub struct Outgoing {
    pub target: Arc<target::Target>,
    pub event: EventId,
    pub event_type: EventType,
    pub delivery: DeliveryId,
    pub number: u16,
    /// Sent as it is: byte for byte what the producer sent.
    pub payload: Bytes,
    /// How long the delivery waited between due and now, microseconds (goes into the phases).
    pub queued: u32,
    /// What the receiver is told of the trace: this attempt's own span.
    pub trace: Option<Box<TraceContext>>,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Attempted {
    pub attempt: Attempt,
    pub outcome: Outcome,
    pub blame: Blame,
    /// The receiver answered 410.
    pub gone: bool,
}
