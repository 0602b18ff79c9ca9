//! The guard: which URLs a webhook may have and which addresses a connection may go to.
//!
//! Pure. One parser makes a [`WebhookUrl`] at registration; everything later takes its typed parts
//! and never parses again. [`Policy::judge_ip`] is asked about the address of the very connection
//! that carries a request.

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

/// Stand-in until the guard is merged: knows just enough for the API's tests.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{1}")]
pub struct UrlError(&'static str, String);

impl UrlError {
    pub fn code(&self) -> &'static str {
        self.0
    }
}

impl WebhookUrl {
    pub fn parse(text: &str, policy: &Policy) -> Result<Self, UrlError> {
        let url = url::Url::parse(text).map_err(|e| UrlError("malformed", e.to_string()))?;
        let scheme = match url.scheme() {
            "http" if policy.require_https => {
                return Err(UrlError("https_required", "use https".to_owned()));
            }
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return Err(UrlError("scheme", "use https".to_owned())),
        };
        let host = match url.host() {
            Some(url::Host::Domain(name)) => Host::Name(name.to_owned()),
            Some(url::Host::Ipv4(ip)) => Host::V4(ip),
            Some(url::Host::Ipv6(ip)) => Host::V6(ip),
            None => return Err(UrlError("host", "no host".to_owned())),
        };
        if host.ip().is_some_and(|ip| ip.is_loopback()) {
            return Err(UrlError("blocked_address", "the address is not public".to_owned()));
        }
        let query = url.query().map(|q| format!("?{q}")).unwrap_or_default();
        Ok(Self {
            scheme,
            host,
            port: url.port_or_known_default().unwrap_or(443),
            path_and_query: format!("{}{query}", url.path()),
        })
    }
}

impl std::fmt::Display for WebhookUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (scheme, default) = match self.scheme {
            Scheme::Http => ("http", 80),
            Scheme::Https => ("https", 443),
        };
        write!(f, "{scheme}://")?;
        match &self.host {
            Host::Name(name) => f.write_str(name)?,
            Host::V4(ip) => write!(f, "{ip}")?,
            Host::V6(ip) => write!(f, "[{ip}]")?,
        }
        if self.port != default {
            write!(f, ":{}", self.port)?;
        }
        f.write_str(&self.path_and_query)
    }
}
