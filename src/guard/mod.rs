//! The guard: which URLs a webhook may have and which addresses a connection may go to.
//!
//! Pure. One parser makes a [`WebhookUrl`] at registration; everything later takes its typed parts
//! and never parses again. [`Policy::judge_ip`] is asked about the address of the very connection
//! that carries a request.

mod address;

pub use address::Denied;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};

/// What the operator allows and forbids beyond the built-in denials.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    pub allow_networks: Vec<IpNet>,
    pub require_https: bool,
    pub deny_ports: Vec<u16>,
    pub deny_hosts: Vec<String>,
    pub nat64_prefixes: Vec<Ipv6Net>,
    /// Our own listeners: a webhook that points at them would loop.
    pub own_addresses: Vec<std::net::SocketAddr>,
    /// Longest URL, bytes.
    pub max_url: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    Http,
    Https,
}

/// A URL's host, typed: what the connector dials.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// ASCII (punycode where needed), lower case, no trailing dot.
    Name(String),
    V4(Ipv4Addr),
    V6(Ipv6Addr),
}

/// A parsed, canonical webhook URL. Has no userinfo and no fragment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WebhookUrl {
    pub scheme: Scheme,
    pub host: Host,
    pub port: u16,
    /// Starts with `/`; the query included; only visible ASCII.
    pub path_and_query: String,
}

impl Host {
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Host::Name(_) => None,
            Host::V4(ip) => Some(IpAddr::V4(*ip)),
            Host::V6(ip) => Some(IpAddr::V6(*ip)),
        }
    }
}
