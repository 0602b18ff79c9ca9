//! The addresses with a special purpose, as data.
//!
//! Source: the IANA registries of special-purpose IPv4 and IPv6 addresses (RFC 6890 and what
//! updates it), plus multicast, plus blocks that left the registries but still route in places
//! (site-local, 6bone, IPv4-compatible, SIIT).
//!
//! Every entry of the registries is here, also the few that they call globally reachable (the PCP
//! and TURN anycast addresses, AS112, AMT): each of those is a service of the network itself, never
//! a customer's web server.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::address::Class;

/// A block of addresses with one purpose, in host byte order.
#[derive(Clone, Copy, Debug)]
struct Block<Bits> {
    network: Bits,
    mask: Bits,
    class: Class,
    /// What it is and where that is written, for the operator.
    rule: &'static str,
}

const fn v4(network: [u8; 4], len: u32, class: Class, rule: &'static str) -> Block<u32> {
    let network = u32::from_be_bytes(network);
    let mask = u32::MAX << (32 - len);
    assert!(network & !mask == 0, "a block starts at its own network address");
    Block { network, mask, class, rule }
}

const fn v6(network: [u16; 8], len: u32, class: Class, rule: &'static str) -> Block<u128> {
    let [a, b, c, d, e, f, g, h] = network;
    let network = Ipv6Addr::new(a, b, c, d, e, f, g, h).to_bits();
    let mask = u128::MAX << (128 - len);
    assert!(network & !mask == 0, "a block starts at its own network address");
    Block { network, mask, class, rule }
}

/// The first match counts: narrow blocks stand before the wide ones that contain them.
static V4_BLOCKS: [Block<u32>; 18] = [
    v4([0, 0, 0, 0], 8, Class::ThisNetwork, "this network, RFC 791"),
    v4([10, 0, 0, 0], 8, Class::Private, "private use, RFC 1918"),
    v4([100, 64, 0, 0], 10, Class::Shared, "shared address space (CGNAT), RFC 6598"),
    v4([127, 0, 0, 0], 8, Class::Loopback, "loopback, RFC 1122"),
    v4([169, 254, 0, 0], 16, Class::LinkLocal, "link-local, RFC 3927"),
    v4([172, 16, 0, 0], 12, Class::Private, "private use, RFC 1918"),
    v4([192, 0, 0, 0], 24, Class::Protocol, "IETF protocol assignments, RFC 6890"),
    v4([192, 0, 2, 0], 24, Class::Documentation, "documentation TEST-NET-1, RFC 5737"),
    v4([192, 31, 196, 0], 24, Class::Protocol, "AS112 anycast, RFC 7535"),
    v4([192, 52, 193, 0], 24, Class::Protocol, "AMT anycast, RFC 7450"),
    v4([192, 88, 99, 0], 24, Class::Protocol, "6to4 relay anycast, deprecated, RFC 7526"),
    v4([192, 168, 0, 0], 16, Class::Private, "private use, RFC 1918"),
    v4([192, 175, 48, 0], 24, Class::Protocol, "AS112 direct delegation, RFC 7534"),
    v4([198, 18, 0, 0], 15, Class::Benchmarking, "benchmarking, RFC 2544"),
    v4([198, 51, 100, 0], 24, Class::Documentation, "documentation TEST-NET-2, RFC 5737"),
    v4([203, 0, 113, 0], 24, Class::Documentation, "documentation TEST-NET-3, RFC 5737"),
    v4([224, 0, 0, 0], 4, Class::Multicast, "multicast, RFC 5771"),
    v4([240, 0, 0, 0], 4, Class::Reserved, "reserved and limited broadcast, RFC 1112, RFC 919"),
];

/// Inside and outside 2000::/3: the ones outside are denied anyway and stand here for the reason.
static V6_BLOCKS: [Block<u128>; 26] = [
    v6([0, 0, 0, 0, 0, 0, 0, 0], 128, Class::Unspecified, "unspecified address, RFC 4291"),
    v6([0, 0, 0, 0, 0, 0, 0, 1], 128, Class::Loopback, "loopback, RFC 4291"),
    v6([0, 0, 0, 0, 0, 0, 0, 0], 96, Class::Translated, "IPv4-compatible, deprecated, RFC 4291"),
    v6([0, 0, 0, 0, 0xffff, 0, 0, 0], 96, Class::Translated, "IPv4-translated, RFC 2765"),
    v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96, Class::Nat64, "NAT64, RFC 6052"),
    v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48, Class::Nat64, "local-use NAT64, RFC 8215"),
    v6([0x100, 0, 0, 0, 0, 0, 0, 0], 64, Class::Discard, "discard-only, RFC 6666"),
    v6([0x100, 0, 0, 1, 0, 0, 0, 0], 64, Class::Discard, "dummy prefix, RFC 9780"),
    v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 32, Class::Tunnel, "Teredo, RFC 4380"),
    v6([0x2001, 2, 0, 0, 0, 0, 0, 0], 48, Class::Benchmarking, "benchmarking, RFC 5180"),
    v6([0x2001, 3, 0, 0, 0, 0, 0, 0], 32, Class::Protocol, "AMT, RFC 7450"),
    v6([0x2001, 4, 0x112, 0, 0, 0, 0, 0], 48, Class::Protocol, "AS112 anycast, RFC 7535"),
    v6([0x2001, 0x10, 0, 0, 0, 0, 0, 0], 28, Class::Identifier, "ORCHID, deprecated, RFC 4843"),
    v6([0x2001, 0x20, 0, 0, 0, 0, 0, 0], 28, Class::Identifier, "ORCHIDv2, RFC 7343"),
    v6([0x2001, 0x30, 0, 0, 0, 0, 0, 0], 28, Class::Identifier, "drone remote id, RFC 9374"),
    v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23, Class::Protocol, "IETF assignments, RFC 2928"),
    v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32, Class::Documentation, "documentation, RFC 3849"),
    v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16, Class::Tunnel, "6to4, RFC 3056"),
    v6([0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0], 48, Class::Protocol, "AS112 delegation, RFC 7534"),
    v6([0x3ffe, 0, 0, 0, 0, 0, 0, 0], 16, Class::Reserved, "6bone, returned, RFC 3701"),
    v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20, Class::Documentation, "documentation, RFC 9637"),
    v6([0x5f00, 0, 0, 0, 0, 0, 0, 0], 16, Class::Protocol, "segment routing, RFC 9602"),
    v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7, Class::Private, "unique local, RFC 4193"),
    v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10, Class::LinkLocal, "link-local, RFC 4291"),
    v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10, Class::Private, "site-local, deprecated, RFC 3879"),
    v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8, Class::Multicast, "multicast, RFC 4291"),
];

/// The only IPv6 space where public servers live.
static GLOBAL_UNICAST: Block<u128> = v6(
    [0x2000, 0, 0, 0, 0, 0, 0, 0],
    3,
    Class::NotGlobal,
    "outside global unicast 2000::/3, RFC 4291",
);

/// The block that denies an IPv4 address.
pub(super) fn v4_block(ip: Ipv4Addr) -> Option<(Class, &'static str)> {
    let bits = ip.to_bits();
    let block = V4_BLOCKS.iter().find(|block| bits & block.mask == block.network)?;
    Some((block.class, block.rule))
}

/// The block that denies an address which is not IPv4-mapped.
pub(super) fn v6_block(ip: Ipv6Addr) -> Option<(Class, &'static str)> {
    let bits = ip.to_bits();
    let inside = |block: &Block<u128>| bits & block.mask == block.network;
    if let Some(block) = V6_BLOCKS.iter().find(|block| inside(block)) {
        return Some((block.class, block.rule));
    }
    if !inside(&GLOBAL_UNICAST) {
        return Some((GLOBAL_UNICAST.class, GLOBAL_UNICAST.rule));
    }
    is_isatap(ip).then_some((Class::Tunnel, "ISATAP interface identifier, RFC 5214"))
}

/// Whether a cloud's metadata service, or a service with the same trust, answers here.
pub(super) fn metadata_rule(ip: IpAddr) -> Option<&'static str> {
    METADATA.iter().find(|(address, _)| *address == ip).map(|(_, rule)| *rule)
}

/// Every IPv4 address that an IPv6 address could stand for under a transition mechanism with a
/// fixed layout. (IPv4-mapped ones never come here; the operator's own NAT64 prefixes are
/// [`nat64_inner`]'s.)
pub(super) fn embedded_v4(ip: Ipv6Addr) -> impl Iterator<Item = Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = ip.segments();
    let pair = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    let low = pair(g, h);
    let translated = (a, b, c, d, f) == (0, 0, 0, 0, 0) && (e == 0 || e == 0xffff);
    let well_known = (a, b, c, d, e, f) == (0x64, 0xff9b, 0, 0, 0, 0);
    let local_use = (a, b, c) == (0x64, 0xff9b, 1);
    let teredo = (a, b) == (0x2001, 0);
    [
        (translated || well_known || is_isatap(ip)).then_some(low),
        (a == 0x2002).then_some(pair(b, c)),
        teredo.then_some(pair(c, d)),
        teredo.then_some(pair(!g, !h)),
        local_use.then(|| nat64_inner(48, ip)).flatten(),
        local_use.then(|| nat64_inner(56, ip)).flatten(),
        local_use.then(|| nat64_inner(64, ip)).flatten(),
        local_use.then_some(low),
    ]
    .into_iter()
    .flatten()
}

/// The prefix lengths that RFC 6052 defines for NAT64.
pub(super) const NAT64_LENGTHS: [u8; 6] = [32, 40, 48, 56, 64, 96];

/// The IPv4 address behind a NAT64 prefix of this length (RFC 6052, section 2.2). None where the
/// length is not one of the six or where bits 64 to 71 are not zero: then it is no such address.
pub(super) fn nat64_inner(prefix_len: u8, ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let octets = ip.octets();
    let places = match prefix_len {
        32 => [4, 5, 6, 7],
        40 => [5, 6, 7, 9],
        48 => [6, 7, 9, 10],
        56 => [7, 9, 10, 11],
        64 => [9, 10, 11, 12],
        96 => [12, 13, 14, 15],
        _ => return None,
    };
    (prefix_len == 96 || octets[8] == 0).then(|| Ipv4Addr::from(places.map(|at| octets[at])))
}

/// ISATAP puts 0:5efe or 200:5efe before an IPv4 address, under any prefix.
fn is_isatap(ip: Ipv6Addr) -> bool {
    let [.., e, f, _, _] = ip.segments();
    e & !0x0200 == 0 && f == 0x5efe
}

const fn ip6(s: [u16; 8]) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7]))
}

const fn ip4(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}

/// Denied even inside a wider `allow_networks` entry: whoever reads from these gets the machine's
/// credentials, and one of them (168.63.129.16) looks like any public address.
static METADATA: [(IpAddr, &str); 16] = [
    (ip4(169, 254, 169, 254), "instance metadata (most clouds)"),
    (ip4(169, 254, 169, 253), "AWS resolver"),
    (ip4(169, 254, 170, 2), "AWS container credentials"),
    (ip4(169, 254, 170, 23), "AWS pod identity"),
    (ip4(169, 254, 0, 23), "Tencent Cloud metadata"),
    (ip4(169, 254, 42, 42), "Scaleway metadata"),
    (ip4(100, 100, 100, 200), "Alibaba Cloud metadata"),
    (ip4(168, 63, 129, 16), "Azure platform"),
    (ip4(192, 0, 0, 192), "Oracle Cloud metadata, classic"),
    (ip6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254]), "AWS metadata"),
    (ip6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x253]), "AWS resolver"),
    (ip6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23]), "AWS pod identity"),
    (ip6([0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254]), "Google Cloud metadata"),
    (ip6([0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe]), "Oracle Cloud metadata"),
    (ip6([0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42]), "Scaleway metadata"),
    (ip6([0xfe80, 0, 0, 0, 0, 0, 0xa9fe, 0xa9fe]), "OpenStack metadata"),
];

#[cfg(test)]
mod tests {
    use ipnet::IpNet;

    use super::*;

    /// The networks in a policy's text, comments apart.
    fn listed(text: &str) -> Vec<IpNet> {
        let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
        let words = lines.flat_map(|line| line.split([' ', '\t', ',']));
        let all = words.filter_map(|word| word.parse::<IpNet>().ok());
        all.filter(|net| !["0.0.0.0/0", "2000::/3"].contains(&net.to_string().as_str())).collect()
    }

    fn denied(ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(ip) => v4_block(ip).is_some(),
            IpAddr::V6(ip) => v6_block(ip).is_some(),
        }
    }

    #[test]
    fn the_policies_of_deploy_refuse_what_the_guard_refuses_and_no_more() {
        let global = GLOBAL_UNICAST.network;
        let v4 = V4_BLOCKS
            .iter()
            .map(|block| (Ipv4Addr::from_bits(block.network).into(), block.mask.count_ones()));
        let v6 = V6_BLOCKS.iter().filter(|block| block.network & GLOBAL_UNICAST.mask == global);
        let v6 =
            v6.map(|block| (Ipv6Addr::from_bits(block.network).into(), block.mask.count_ones()));
        let blocks: Vec<IpNet> = v4
            .chain(v6)
            .map(|(ip, len): (IpAddr, u32)| IpNet::new(ip, len as u8).unwrap())
            .collect();
        for file in ["deploy/nftables/egress.nft", "deploy/kubernetes/networkpolicy.yaml"] {
            let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
            let listed = listed(&std::fs::read_to_string(path).unwrap());
            for block in &blocks {
                assert!(listed.iter().any(|net| net.contains(block)), "{file} lets {block} pass");
            }
            for net in listed {
                let edges = [net.network(), net.broadcast()];
                assert!(edges.into_iter().all(denied), "{file} refuses {net}, the guard does not");
            }
        }
    }
}
