//! senderz-gateway: takes message events from the senderZ cluster and delivers each one, signed,
//! to the webhook URLs that the tenant registered.
//!
//! ```text
//! producer ─▶ ingest ─▶ store: event log ─(durable)─▶ 202
//!                            │ committed blocks, with the routes stored beside each event
//!                            ▼
//!              shard (one thread per core): engine.step(now, inputs) ─▶ effects
//!                            │ Send                         ▲ Finished
//!                            ▼                              │
//!              sender: sign ▶ guarded connect ▶ pooled connection ▶ customer
//!                            │
//!                            ▼
//!              store: attempt log (the record of the attempt is the acknowledgement)
//! ```
//!
//! What is accepted is durable; what is sent is recorded; only the store survives a crash,
//! everything else is rebuilt from it. ARCHITECTURE.md has the long form.
//!
//! Modules in reading order; imports point down this list only.

// Words: plain values; parsing is validation.
pub mod clock;
pub mod delivery;
pub mod event;
pub mod guard;
pub mod id;
pub mod idempotency;
pub mod media_type;
pub mod openapi;
pub mod problem;
pub mod request_id;
pub mod seal;
pub mod tenant;
pub mod trace;
pub mod webhook;
pub mod wheel;

// Meaning of what the operator wrote.
pub mod config;

// Policy: pure, synchronous, no I/O.
pub mod engine;

// Edges: they touch the outside and never each other.
pub mod metrics;
pub mod quota;
pub mod sender;
pub mod shutdown;
pub mod spans;
pub mod stats;
pub mod store;
pub mod trust;

// What the drivers share.
pub mod audit;
pub mod backups;
pub mod command;
pub mod directory;
pub mod erasures;
pub mod replays;
pub mod sessions;

// Drivers: they never touch each other.
pub mod api;
pub mod ingest;
pub mod ops;
pub mod portal;
pub mod server;
pub mod shard;

// Composition.
pub mod app;
pub mod cli;
