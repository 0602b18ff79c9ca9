//! Where the gateway listens: for links into it, and for the guard, which lets no webhook lead there.

use std::net::SocketAddr;

use crate::{config::Listen, server::Listener};

/// By which address the gateway is reached from its own machine.
pub(super) fn base_url(listen: &Listen, has_tls: bool) -> String {
    let scheme = if has_tls { "https" } else { "http" };
    match listen {
        Listen::Tcp(address) => format!("{scheme}://{address}"),
        Listen::Unix(_) => format!("{scheme}://localhost"),
    }
}

pub(super) fn own_addresses(listener: &Listener, ops: Option<SocketAddr>) -> Vec<SocketAddr> {
    own_addresses_of(listener.local_addr(), ops)
}

pub(super) fn own_addresses_of(api: &Listen, ops: Option<SocketAddr>) -> Vec<SocketAddr> {
    let api = match api {
        Listen::Tcp(address) => Some(*address),
        Listen::Unix(_) => None,
    };
    api.into_iter().chain(ops).collect()
}
