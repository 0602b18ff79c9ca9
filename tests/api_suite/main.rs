//! The API from outside: requests go through the whole router, over a directory and a store, with
//! no network. One binary, because linking costs more than running.

mod access;
mod bodies;
mod catch_up;
mod deliveries;
mod events;
mod keys;
mod lists;
mod openapi;
mod sdk_types;
mod shard;
mod stream;
mod support;
mod webhooks;
