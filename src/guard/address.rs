//! The verdict on an address: may a connection go there?
//!
//! The order of the questions is the policy: cloud metadata first, because no wide
//! `allow_networks` entry may open it; then what the operator lets through; then the built-in
//! denials. An IPv4-mapped address is its IPv4 address from the first line on, and an address
//! behind a NAT64 prefix that the operator declared is judged as the IPv4 address inside.
//!
//! It does no DNS and keeps no state. Whoever resolves a name judges every address of the answer,
//! and judges again the address that was in fact dialled.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Policy, special};

/// Why an address, a name or a port is refused, for operators. A closed list, fit for a log field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// 0.0.0.0/8.
    ThisNetwork,
    Unspecified,
    Loopback,
    /// RFC 1918, unique local, site-local.
    Private,
    /// Carrier-grade NAT.
    Shared,
    LinkLocal,
    /// Cloud metadata and platform services.
    Metadata,
    Multicast,
    Reserved,
    Documentation,
    Benchmarking,
    /// Addresses of the network's own services.
    Protocol,
    Discard,
    /// ORCHID and other identifiers that are not locations.
    Identifier,
    /// IPv4-compatible and IPv4-translated.
    Translated,
    Nat64,
    /// 6to4, Teredo, ISATAP: the packet would come out at an IPv4 address nobody judged.
    Tunnel,
    /// IPv6 outside 2000::/3.
    NotGlobal,
    Port,
    OwnListener,
    /// A name of this machine or this network.
    LocalName,
    MetadataName,
    SingleLabel,
    /// A name in `deny_hosts`.
    DeniedHost,
}

impl Class {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ThisNetwork => "this_network",
            Self::Unspecified => "unspecified",
            Self::Loopback => "loopback",
            Self::Private => "private",
            Self::Shared => "shared",
            Self::LinkLocal => "link_local",
            Self::Metadata => "metadata",
            Self::Multicast => "multicast",
            Self::Reserved => "reserved",
            Self::Documentation => "documentation",
            Self::Benchmarking => "benchmarking",
            Self::Protocol => "protocol",
            Self::Discard => "discard",
            Self::Identifier => "identifier",
            Self::Translated => "translated",
            Self::Nat64 => "nat64",
            Self::Tunnel => "tunnel",
            Self::NotGlobal => "not_global",
            Self::Port => "port",
            Self::OwnListener => "own_listener",
            Self::LocalName => "local_name",
            Self::MetadataName => "metadata_name",
            Self::SingleLabel => "single_label",
            Self::DeniedHost => "denied_host",
        }
    }
}

/// A refusal. `Display` is what tenants may read and is the same for every reason; `class` and
/// `rule` are for the operator's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("webhooks may not reach this address")]
pub struct Denied {
    pub class: Class,
    /// What matched, and where that is written.
    pub rule: &'static str,
}

impl Denied {
    pub(super) const fn new(class: Class, rule: &'static str) -> Self {
        Self { class, rule }
    }
}

impl Policy {
    /// Whether a connection may go to this address. Ports and our own listeners are
    /// [`judge_target`](Self::judge_target)'s.
    pub fn judge_ip(&self, ip: IpAddr) -> Result<(), Denied> {
        let ip = ip.to_canonical();
        self.judge_metadata(ip)?;
        if self.allows(ip) {
            return Ok(());
        }
        match ip {
            IpAddr::V4(ip) => judge_v4(ip),
            IpAddr::V6(ip) => self.judge_v6(ip),
        }
    }

    /// Whether a request may be sent to this address and port.
    pub fn judge_target(&self, target: SocketAddr) -> Result<(), Denied> {
        self.judge_port(target.port())?;
        self.judge_own(target)?;
        self.judge_ip(target.ip())
    }

    /// Whether a name may be looked up for a request to this port. What it leads to is
    /// [`judge_target`](Self::judge_target)'s.
    pub fn judge_lookup(&self, name: &str, port: u16) -> Result<(), Denied> {
        self.judge_port(port)?;
        self.judge_name(name)
    }

    /// Whether the target is one of our own listeners, as far as that shows before connecting.
    pub(super) fn judge_own(&self, target: SocketAddr) -> Result<(), Denied> {
        let ip = target.ip().to_canonical();
        let reaches = |own: &SocketAddr| {
            own.port() == target.port() && listens_on(own.ip().to_canonical(), ip)
        };
        if self.own_addresses.iter().any(reaches) {
            return Err(Denied::new(Class::OwnListener, "an address this gateway listens on"));
        }
        Ok(())
    }

    /// Judges an open connection by both its ends, before anything is written to it. It says what
    /// [`judge_target`](Self::judge_target) says, and finds one thing more: a connection whose two
    /// ends have the same address has not left this machine, so a listener of ours on a wildcard
    /// address is at its other end whatever the address is.
    pub fn judge_connection(&self, local: SocketAddr, peer: SocketAddr) -> Result<(), Denied> {
        self.judge_target(peer)?;
        let same_machine = local.ip().to_canonical() == peer.ip().to_canonical();
        let wildcard = |own: &SocketAddr| own.port() == peer.port() && own.ip().is_unspecified();
        if same_machine && self.own_addresses.iter().any(wildcard) {
            return Err(Denied::new(Class::OwnListener, "this machine, on a port of ours"));
        }
        Ok(())
    }

    pub(super) fn judge_port(&self, port: u16) -> Result<(), Denied> {
        if port == 0 || self.deny_ports.contains(&port) {
            return Err(Denied::new(Class::Port, "security.deny_ports"));
        }
        Ok(())
    }

    /// Whether the operator lets this address through. Takes canonical addresses.
    pub(super) fn allows(&self, ip: IpAddr) -> bool {
        self.allow_networks.iter().any(|network| network.contains(&ip))
    }

    /// Metadata addresses are denied wherever they appear, also inside an IPv6 address that stands
    /// for an IPv4 one: an operator who allows ::/0 did not mean 64:ff9b::169.254.169.254.
    fn judge_metadata(&self, ip: IpAddr) -> Result<(), Denied> {
        let check = |candidate: IpAddr| match special::metadata_rule(candidate) {
            Some(rule) if !self.lists(candidate) && !self.lists(ip) => {
                Err(Denied::new(Class::Metadata, rule))
            }
            _ => Ok(()),
        };
        check(ip)?;
        let IpAddr::V6(v6) = ip else { return Ok(()) };
        special::embedded_v4(v6).map(IpAddr::V4).try_for_each(check)?;
        self.declared_nat64(v6).flatten().map(IpAddr::V4).try_for_each(check)
    }

    /// Whether `allow_networks` has exactly this address, as a /32 or /128.
    fn lists(&self, ip: IpAddr) -> bool {
        self.allow_networks.iter().any(|network| *network == ip.into())
    }

    fn judge_v6(&self, ip: Ipv6Addr) -> Result<(), Denied> {
        let mut declared = false;
        for inner in self.declared_nat64(ip) {
            let Some(inner) = inner else {
                return Err(Denied::new(Class::Nat64, "no IPv4 inside, RFC 6052"));
            };
            if !self.allows(inner.into()) {
                judge_v4(inner)?;
            }
            declared = true;
        }
        if declared {
            return Ok(());
        }
        special::v6_block(ip).map_or(Ok(()), |(class, rule)| Err(Denied::new(class, rule)))
    }

    /// For each declared NAT64 prefix around the address, the IPv4 address inside, if it is one.
    fn declared_nat64(&self, ip: Ipv6Addr) -> impl Iterator<Item = Option<Ipv4Addr>> {
        self.nat64_prefixes
            .iter()
            .filter(move |prefix| prefix.contains(&ip))
            .map(move |prefix| special::nat64_inner(prefix.prefix_len(), ip))
    }
}

fn judge_v4(ip: Ipv4Addr) -> Result<(), Denied> {
    special::v4_block(ip).map_or(Ok(()), |(class, rule)| Err(Denied::new(class, rule)))
}

/// Whether a listener bound to `own` is what one reaches at `target` for certain. A wildcard
/// listener is on every address of this machine; which those are beyond loopback is not known
/// here, see [`Policy::judge_connection`]. Connecting to the unspecified address means loopback.
fn listens_on(own: IpAddr, target: IpAddr) -> bool {
    let here = |ip: IpAddr| ip.is_loopback() || ip.is_unspecified();
    own == target
        || (here(own) && target.is_unspecified())
        || (own.is_unspecified() && here(target))
}

#[cfg(test)]
mod tests;
