//! Events coming in: the two routes, the listener and everything that can go wrong on the wire.
//!
//! The store is a scripted actor, so that every answer of a store can be had at will; the sockets
//! are real.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the answer")]

mod batches;
mod connections;
mod events;
mod fixture;
mod overload;
mod wire;
