//! Any address and any NAT64 prefix: the verdict is total, and one address has one verdict however
//! it is written.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::Ipv6Net;
use senderz_gateway::guard::Policy;

pub(crate) fn check(data: &[u8]) {
    let Some((bytes, rest)) = data.split_first_chunk::<16>() else { return };
    let ip = Ipv6Addr::from(*bytes);
    let plain = Policy::default();
    let verdict = plain.judge_ip(IpAddr::V6(ip));
    if verdict.is_ok() && ip.to_ipv4_mapped().is_none() {
        assert_eq!(ip.segments()[0] >> 13, 1, "only 2000::/3");
    }

    let low = Ipv4Addr::from_bits(ip.to_bits() as u32);
    let mapped = plain.judge_ip(IpAddr::V6(low.to_ipv6_mapped()));
    assert_eq!(mapped, plain.judge_ip(IpAddr::V4(low)));

    // Behind a declared prefix the verdict is that of the IPv4 inside.
    let well_known = "64:ff9b::/96".parse().expect("a prefix");
    let declared = Policy { nat64_prefixes: vec![well_known], ..Policy::default() };
    let translated = Ipv6Addr::from_bits(0x0064_ff9b_u128 << 96 | u128::from(low.to_bits()));
    assert_eq!(declared.judge_ip(IpAddr::V6(translated)), plain.judge_ip(IpAddr::V4(low)));

    // Any other prefix changes the verdict of nothing outside it.
    if let Some((&len, _)) = rest.split_first()
        && let Ok(prefix) = Ipv6Net::new(Ipv6Addr::from_bits(!ip.to_bits()), len.min(128))
        && !prefix.contains(&ip)
    {
        let other = Policy { nat64_prefixes: vec![prefix], ..Policy::default() };
        assert_eq!(other.judge_ip(IpAddr::V6(ip)), verdict);
    }
}
