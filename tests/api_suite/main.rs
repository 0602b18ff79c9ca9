//! The API from outside: requests go through the whole router, over a directory and a store, with
//! no network. One binary, because linking costs more than running.

mod access;
mod audit;
mod bodies;
mod catch_up;
mod checks;
mod conditions;
mod deliveries;
mod erasures;
mod events;
mod idempotency;
mod keys;
mod lists;
mod openapi;
mod replays;
mod sdk_types;
mod shard;
mod stats;
mod stream;
mod support;
mod webhooks;
