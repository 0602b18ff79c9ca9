//! The guard: which URLs a webhook may have and which addresses a connection may go to.
//!
//! Pure: no DNS, no sockets, no clock. There are two gates, and both must be passed:
//!
//! 1. At registration one parser makes a [`WebhookUrl`] ([`url`]). It refuses whatever two parsers
//!    could read differently, and everything later takes the typed parts and never parses again.
//! 2. At every attempt [`Policy::judge_target`] is asked about the address of the very connection
//!    that carries the request ([`address`]). A name says nothing about where it leads, so the
//!    first gate alone would be no protection.
//!
//! Deny by default: an IPv6 address has to lie inside 2000::/3 and outside every special-purpose
//! block, an IPv4 address outside every special-purpose block, and an IPv4 address inside an IPv6
//! one is judged as itself. Only the operator's configuration can let more through; nothing that a
//! tenant sends can.
//!
//! What tenants are told never says which rule matched: a refusal must not be a map of the network
//! behind the gateway. Operators get the [`Class`] and the rule.

pub mod address;
mod name;
mod networks;
mod special;
pub mod url;

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use ipnet::{IpNet, Ipv6Net};

pub use self::{
    address::{Class, Denied},
    networks::NetworkError,
    url::UrlError,
};

/// What the operator allows and forbids beyond the built-in denials.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Let through although denied by default; cloud metadata only where listed exactly.
    pub allow_networks: Vec<IpNet>,
    /// Refuse `http://` except to literals inside `allow_networks` (and to `localhost` where
    /// 127.0.0.1 is inside).
    pub require_https: bool,
    pub deny_ports: Vec<u16>,
    /// Names that webhooks may not use, and all names below them.
    pub deny_hosts: Vec<String>,
    /// The NAT64 prefixes of this network: the IPv4 inside is judged.
    pub nat64_prefixes: Vec<Ipv6Net>,
    /// Our own listeners: a webhook that points at them would loop.
    pub own_addresses: Vec<SocketAddr>,
    /// Longest URL, bytes; as written and in canonical form.
    pub max_url: usize,
}

/// The strictest reading: https only, nothing let through. The denied ports and hosts are the
/// operator's lists and come from the configuration.
impl Default for Policy {
    fn default() -> Self {
        Self {
            allow_networks: Vec::new(),
            require_https: true,
            deny_ports: Vec::new(),
            deny_hosts: Vec::new(),
            nat64_prefixes: Vec::new(),
            own_addresses: Vec::new(),
            max_url: 2048,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    Http,
    Https,
}

impl Scheme {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    pub const fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// A URL's host, typed: what the connector dials.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// ASCII (punycode where needed), lower case, no trailing dot, at least two labels (or
    /// `localhost`).
    Name(String),
    V4(Ipv4Addr),
    /// Never an IPv4-mapped address: those are [`Host::V4`].
    V6(Ipv6Addr),
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

/// As in a URL: an IPv6 address in brackets.
impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Name(name) => f.write_str(name),
            Host::V4(ip) => ip.fmt(f),
            Host::V6(ip) => write!(f, "[{ip}]"),
        }
    }
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

impl WebhookUrl {
    /// What stands in `Host` and `:authority`: the port is left out where it is the scheme's.
    pub fn authority(&self) -> String {
        if self.port == self.scheme.default_port() {
            self.host.to_string()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// The name for TLS server name indication; none for an IP address (RFC 6066, section 3).
    pub fn sni(&self) -> Option<&str> {
        match &self.host {
            Host::Name(name) => Some(name),
            Host::V4(_) | Host::V6(_) => None,
        }
    }

    /// What two URLs must share before they may share a connection.
    pub fn origin(&self) -> (Scheme, &Host, u16) {
        (self.scheme, &self.host, self.port)
    }
}

/// The canonical text; [`WebhookUrl::parse`] reads it back to the same value.
impl fmt::Display for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme.as_str(), self.authority(), self.path_and_query)
    }
}
