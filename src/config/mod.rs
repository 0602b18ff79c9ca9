//! What the operator wrote, and what it means.
//!
//! [`Config`] mirrors `config.toml` key by key, which documents every one of them. It is made only
//! by [`load`]: the layers are merged, every problem is collected, and either all of it is valid or
//! none of it is used. Values are refused, never adjusted.
//!
//! This module is the only one that reads configuration files and the environment. It does not
//! look at what the values point to (that the certificate is there, that the port is free): that is
//! for whoever uses them, and for the `check` command.

mod effective;
pub mod environment;
mod errors;
mod layers;
mod read;
mod rules;
pub mod units;
mod value;
mod written;

use std::{net::SocketAddr, num::NonZeroU32, path::PathBuf, time::Duration};

use ipnet::{IpNet, Ipv6Net};
use url::Url;

pub use self::{
    effective::Effective,
    errors::{ConfigErrors, Origin, Problem},
    layers::{DEFAULTS, FlagSetting, Sources},
};
use crate::{
    tenant::TenantId,
    webhook::{HeaderLimits, SuccessRule},
};

/// The whole configuration, or everything that is wrong with it.
pub fn load(sources: &Sources) -> Result<Config, ConfigErrors> {
    load_explained(sources).map(|(config, _)| config)
}

/// As [`load`], with where each value came from.
pub fn load_explained(sources: &Sources) -> Result<(Config, Effective), ConfigErrors> {
    let (layers, problems) = layers::Layers::merge(sources);
    let mut reader = read::Reader::new(&layers, problems);
    let config = rules::config(&mut reader);
    match reader.into_problems() {
        problems if problems.is_empty() => Ok((config, Effective::of(&layers))),
        problems => Err(ConfigErrors(problems)),
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub data_dir: PathBuf,
    pub server: Server,
    pub ops: Ops,
    pub runtime: Runtime,
    pub ingest: Ingest,
    pub delivery: Delivery,
    pub retry: Retry,
    pub breaker: Breaker,
    pub pool: Pool,
    pub dns: Dns,
    pub tls: Tls,
    pub security: Security,
    pub store: Store,
    pub limits: Limits,
    pub replays: Replays,
    pub backup: Backup,
    pub stream: Stream,
    pub tracing: Tracing,
    pub portal: Portal,
    pub log: Log,
}

/// Where a listener binds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    pub listen: Listen,
    /// Certificate chain and key, both or neither.
    pub tls: Option<(PathBuf, PathBuf)>,
    pub max_connections: usize,
    pub header_timeout: Duration,
    pub body_timeout: Duration,
    pub idle_timeout: Duration,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Ops {
    pub listen: Option<SocketAddr>,
    /// The operator's own; none where nobody is told.
    pub tenant: Option<TenantId>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Runtime {
    /// At least 1; 0 in the file means the number of cores.
    pub shards: usize,
    pub payload_memory: usize,
    pub payload_in_flight: usize,
    pub max_queued: usize,
    pub max_retrying: usize,
    pub stats_memory: usize,
    pub drain_timeout: Duration,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Ingest {
    pub max_payload: usize,
    pub max_depth: usize,
    pub max_batch_lines: usize,
    pub max_batch: usize,
    pub max_batch_deliveries: usize,
    pub max_pending: usize,
    /// Events per second; none means no limit.
    pub tenant_rate: Option<u32>,
    pub retry_after: Duration,
    pub idempotency_window: Duration,
    pub idempotency_max_keys: usize,
    pub max_idempotency_key: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    pub success: SuccessRule,
    pub timeout: Duration,
    pub max_timeout: Duration,
    pub max_age: Duration,
    pub max_in_flight: u32,
    pub webhook_max_in_flight: u32,
    pub tenant_share: f64,
    pub max_response: usize,
    pub keep_response: usize,
    pub disable_on_gone: bool,
    /// None where nothing is disabled because it fails.
    pub disable_after: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Retry {
    pub schedule: Vec<Duration>,
    pub jitter: f64,
    pub max_retry_after: Duration,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Breaker {
    pub timeouts: u32,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    pub idle_timeout: Duration,
    pub max_age: Duration,
    pub max_idle_per_origin: usize,
    pub max_connections: usize,
    pub http2_max_streams: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Dns {
    pub servers: Vec<SocketAddr>,
    pub timeout: Duration,
    pub min_ttl: Duration,
    pub max_ttl: Duration,
    pub negative_ttl: Duration,
    pub cache_entries: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Tls {
    pub connect_timeout: Duration,
    pub handshake_timeout: Duration,
    pub ca_file: Option<PathBuf>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Security {
    pub allow_networks: Vec<IpNet>,
    pub require_https: bool,
    pub deny_ports: Vec<u16>,
    pub deny_hosts: Vec<String>,
    pub nat64_prefixes: Vec<Ipv6Net>,
    pub encryption_key_file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    Sled,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Store {
    pub backend: Backend,
    pub cache: u64,
    pub commit_max_events: usize,
    pub commit_max_bytes: usize,
    pub commit_max_wait: Duration,
    pub entries_max_wait: Duration,
    pub retention_age: Duration,
    pub retention_bytes: u64,
    pub disk_headroom: u64,
    pub max_scan_blocks: usize,
    pub max_indexed: usize,
    pub queue: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    pub tenants: usize,
    pub webhooks_per_tenant: usize,
    pub keys_per_tenant: usize,
    pub custom_headers: usize,
    pub custom_headers_size: usize,
    pub description: usize,
    pub url: usize,
    pub page: usize,
    /// Bytes of answers kept for requests with an `Idempotency-Key`, over the whole gateway.
    pub kept_answers: usize,
    /// … and of one tenant.
    pub tenant_kept_answers: usize,
    /// Webhooks tried at once before they are saved.
    pub webhook_checks: usize,
    /// Test events of one webhook in a minute.
    pub webhook_tests: NonZeroU32,
    /// Test events of one tenant in a minute.
    pub tenant_tests: NonZeroU32,
    /// Records of the audit log, over all tenants.
    pub audit_records: usize,
}

/// Copies of the running store.
#[derive(Clone, Debug, PartialEq)]
pub struct Backup {
    /// Each is a directory in it.
    pub dir: PathBuf,
    /// Bytes a second where the request does not say.
    pub rate: u64,
    /// How many of those named by their time stay; 0 means all.
    pub keep: usize,
}

/// Replays of many.
#[derive(Clone, Debug, PartialEq)]
pub struct Replays {
    /// Deliveries a second where the request does not say.
    pub rate: u32,
    pub max_rate: u32,
    /// Running or paused, of one tenant.
    pub per_tenant: usize,
    /// Running or paused, over all tenants.
    pub jobs: usize,
    /// Ended ones that a tenant can still look at.
    pub kept: usize,
}

impl Limits {
    /// Of one webhook's custom headers.
    pub fn headers(&self) -> HeaderLimits {
        HeaderLimits { max_count: self.custom_headers, max_bytes: self.custom_headers_size }
    }
}

/// `GET /v1/stream`.
#[derive(Clone, Debug, PartialEq)]
pub struct Stream {
    pub max_streams: usize,
    pub max_per_tenant: usize,
    pub max_lag: Duration,
    pub keep_alive: Duration,
}

/// What of an event's trace goes to its receivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forward {
    Off,
    Traceparent,
    /// `tracestate` too.
    All,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Tracing {
    pub forward: Forward,
    /// Where spans go; none means nowhere.
    pub endpoint: Option<Url>,
    pub headers_file: Option<PathBuf>,
    pub sample: f64,
    pub queue: usize,
    pub batch: usize,
    pub interval: Duration,
    pub timeout: Duration,
    pub flush_timeout: Duration,
}

/// `/portal/`.
#[derive(Clone, Debug, PartialEq)]
pub struct Portal {
    pub enabled: bool,
    /// Scheme and host by which users reach it, without a slash at the end; empty where they do by
    /// address.
    pub url: String,
    /// Host names that it answers to beside that one, `localhost` and addresses.
    pub hosts: Vec<String>,
    /// Origins whose pages may show it in a frame.
    pub frame_ancestors: Vec<String>,
    pub session_lifetime: Duration,
    pub max_sessions: usize,
    /// Of one tenant, or of the operator.
    pub max_per_tenant: usize,
    /// Of a one-time link that is asked for without saying how long.
    pub link_lifetime: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    pub level: String,
    pub format: LogFormat,
}
