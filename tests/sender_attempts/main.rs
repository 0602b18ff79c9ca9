//! The sender against scripted receivers on loopback: what each behaviour of a receiver becomes.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod answers;
mod behaviours;
mod chains;
mod eviction;
mod frames;
mod handshake;
mod http2;
mod judged;
mod name_server;
mod names;
mod rebinding;
mod request;
mod reuse;
mod rig;
mod tls;
