//! The sender against scripted receivers on loopback: what each behaviour of a receiver becomes.

mod behaviours;
mod http2;
mod names;
mod request;
mod reuse;
mod rig;
mod tls;
