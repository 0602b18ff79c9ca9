//! Stand-in: the guard is built elsewhere; this is just enough for the sender's tests.

use std::net::{IpAddr, SocketAddr};

use super::Policy;

/// The guard's refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Denied;

impl Policy {
    pub fn judge_ip(&self, ip: IpAddr) -> Result<(), Denied> {
        if self.allow_networks.iter().any(|net| net.contains(&ip)) {
            return Ok(());
        }
        let denied = match ip {
            IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
            IpAddr::V6(ip) => ip.segments()[0] & 0xe000 != 0x2000,
        };
        if denied { Err(Denied) } else { Ok(()) }
    }

    pub fn judge_target(&self, addr: SocketAddr) -> Result<(), Denied> {
        if self.deny_ports.contains(&addr.port()) || self.own_addresses.contains(&addr) {
            return Err(Denied);
        }
        self.judge_ip(addr.ip())
    }
}
