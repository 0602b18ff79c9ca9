//! A second verdict on addresses, from first principles: written from the RFCs in terms of octets
//! and groups, without the guard's tables.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Whether an IPv4 address is one that a public web server may have.
pub(crate) fn v4_is_public(ip: Ipv4Addr) -> bool {
    let [a, b, c, d] = ip.octets();
    let special = match a {
        0 | 10 | 127 => true,
        100 => (64..128).contains(&b),
        168 => (b, c, d) == (63, 129, 16),
        169 => b == 254,
        172 => (16..32).contains(&b),
        192 => {
            b == 168
                || [(0, 0), (0, 2), (31, 196), (52, 193), (88, 99), (175, 48)].contains(&(b, c))
        }
        198 => b == 18 || b == 19 || (b, c) == (51, 100),
        203 => (b, c) == (0, 113),
        224.. => true,
        _ => false,
    };
    !special
}

/// The same for IPv6.
pub(crate) fn v6_is_public(ip: Ipv6Addr) -> bool {
    let [a, b, c, _, e, f, g, h] = ip.segments();
    if ip.segments()[..6] == [0, 0, 0, 0, 0, 0xffff] {
        let [g1, g2] = g.to_be_bytes();
        let [h1, h2] = h.to_be_bytes();
        return v4_is_public(Ipv4Addr::new(g1, g2, h1, h2));
    }
    if !(0x2000..0x4000).contains(&a) {
        return false;
    }
    let isatap = (e == 0 || e == 0x0200) && f == 0x5efe;
    let special = match a {
        0x2001 => b < 0x0200 || b == 0x0db8,
        0x2002 | 0x3ffe => true,
        0x2620 => b == 0x004f && c == 0x8000,
        0x3fff => b < 0x1000,
        _ => false,
    };
    !special && !isatap
}

/// The blocks of IANA's registry of special-purpose IPv4 addresses, and multicast.
pub(crate) const V4_REGISTRY: [&str; 28] = [
    "0.0.0.0/8",
    "0.0.0.0/32",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.0.0/29",
    "192.0.0.8/32",
    "192.0.0.9/32",
    "192.0.0.10/32",
    "192.0.0.170/32",
    "192.0.0.171/32",
    "192.0.2.0/24",
    "192.31.196.0/24",
    "192.52.193.0/24",
    "192.88.99.0/24",
    "192.88.99.2/32",
    "192.168.0.0/16",
    "192.175.48.0/24",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "255.255.255.255/32",
    "168.63.129.16/32",
];

/// The blocks of IANA's registry of special-purpose IPv6 addresses, multicast, and the blocks that
/// left it.
pub(crate) const V6_REGISTRY: [&str; 34] = [
    "::/128",
    "::1/128",
    "::/96",
    "::/8",
    "::ffff:0:0:0/96",
    "64:ff9b::/96",
    "64:ff9b:1::/48",
    "100::/64",
    "100:0:0:1::/64",
    "200::/7",
    "400::/6",
    "1000::/4",
    "2001::/23",
    "2001::/32",
    "2001:1::1/128",
    "2001:1::2/128",
    "2001:1::3/128",
    "2001:2::/48",
    "2001:3::/32",
    "2001:4:112::/48",
    "2001:10::/28",
    "2001:20::/28",
    "2001:30::/28",
    "2001:db8::/32",
    "2002::/16",
    "2620:4f:8000::/48",
    "3ffe::/16",
    "3fff::/20",
    "4000::/2",
    "5f00::/16",
    "fc00::/7",
    "fe80::/10",
    "fec0::/10",
    "ff00::/8",
];

/// Where clouds answer with credentials, or with the same trust.
pub(crate) const METADATA: [&str; 16] = [
    "169.254.169.254",
    "169.254.169.253",
    "169.254.170.2",
    "169.254.170.23",
    "169.254.0.23",
    "169.254.42.42",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "fd00:ec2::254",
    "fd00:ec2::253",
    "fd00:ec2::23",
    "fd20:ce::254",
    "fd00:c1::a9fe:a9fe",
    "fd00:42::42",
    "fe80::a9fe:a9fe",
];
