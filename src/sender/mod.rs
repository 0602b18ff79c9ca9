//! The sender: one attempt outwards.
//!
//! sign ▶ resolve ▶ judge ▶ connect ▶ (TLS) ▶ request ▶ read a bounded response ▶ [`Attempted`].
//! It decides nothing about what follows: the engine does.

pub mod target;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;

use crate::{
    delivery::{Attempt, Outcome},
    engine::Blame,
    event::EventType,
    guard::Policy,
    id::{DeliveryId, EventId},
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
