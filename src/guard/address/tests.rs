//! What needs the policy's own settings; the registries and their edges are in
//! `tests/guard_corpus.rs`, against a verdict written a second time.

use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn allowing(networks: &[&str]) -> Policy {
    Policy {
        allow_networks: networks.iter().map(|n| n.parse().expect("a network")).collect(),
        ..Policy::default()
    }
}

fn nat64(prefixes: &[&str]) -> Policy {
    Policy {
        nat64_prefixes: prefixes.iter().map(|p| p.parse().expect("a prefix")).collect(),
        ..Policy::default()
    }
}

#[track_caller]
fn check(policy: &Policy, address: &str, expected: Option<Class>) {
    let class = policy.judge_ip(ip(address)).err().map(|denied| denied.class);
    assert_eq!(class, expected, "{address}");
}

#[test]
fn an_allowed_network_is_let_through_to_its_edges_and_no_further() {
    let policy = allowing(&["127.0.0.0/8", "10.1.0.0/16", "fd12::/16"]);
    for inside in ["127.0.0.1", "127.255.255.255", "10.1.0.0", "10.1.255.255", "fd12::1"] {
        check(&policy, inside, None);
    }
    check(&policy, "::ffff:127.0.0.1", None);
    check(&policy, "10.0.255.255", Some(Class::Private));
    check(&policy, "10.2.0.0", Some(Class::Private));
    check(&policy, "fd13::", Some(Class::Private));
    check(&policy, "::1", Some(Class::Loopback));
    check(&policy, "1.1.1.1", None);
}

const METADATA: [&str; 10] = [
    "169.254.169.254",
    "169.254.170.2",
    "169.254.170.23",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "fd00:ec2::254",
    "fd20:ce::254",
    "fd00:c1::a9fe:a9fe",
    "fe80::a9fe:a9fe",
];

#[test]
fn metadata_is_denied_by_name_inside_any_wider_network() {
    let policies = [
        Policy::default(),
        allowing(&["0.0.0.0/0", "::/0"]),
        allowing(&["169.254.169.254/31", "168.63.129.0/24", "fd00:ec2::254/127", "fd00::/8"]),
    ];
    for policy in &policies {
        for address in METADATA {
            check(policy, address, Some(Class::Metadata));
        }
    }
}

#[test]
fn metadata_is_reached_only_where_listed_exactly() {
    for address in METADATA {
        let exact = allowing(&[&ipnet::IpNet::from(ip(address)).to_string()]);
        check(&exact, address, None);
        for other in METADATA.iter().filter(|other| **other != address) {
            check(&exact, other, Some(Class::Metadata));
        }
    }
    check(&allowing(&["169.254.169.254/32"]), "::ffff:169.254.169.254", None);
    // The translated address, listed as such, or the one inside beside a network that has it.
    check(&allowing(&["64:ff9b::a9fe:a9fe/128"]), "64:ff9b::a9fe:a9fe", None);
    check(&allowing(&["169.254.169.254/32", "64:ff9b::/96"]), "64:ff9b::a9fe:a9fe", None);
}

#[test]
fn metadata_hidden_in_a_translated_address_is_found_however_wide_the_network() {
    let wide = allowing(&["::/0", "0.0.0.0/0"]);
    for hidden in [
        "::ffff:a9fe:a9fe",
        "::a9fe:a9fe",
        "::ffff:0:a9fe:a9fe",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b::a83f:8110",
        "64:ff9b:1::a9fe:a9fe",
        "64:ff9b:1:a9fe:a9:fe00::",
        "64:ff9b:1:a9:fe:a9fe::",
        "64:ff9b:1:0:a9:fea9:fe00:0",
        "2002:a9fe:a9fe::1",
        "2001:0:a9fe:a9fe::1",
        "2001:0:4136:e378:8000:63bf:5601:5601",
        "2606:4700::5efe:a9fe:a9fe",
        "fe80::200:5efe:a9fe:a9fe",
    ] {
        check(&wide, hidden, Some(Class::Metadata));
    }
    check(&wide, "64:ff9b::7f00:1", None);
}

#[test]
fn a_public_address_that_ends_like_metadata_is_none() {
    let policy = Policy::default();
    for public in ["2606:4700::a9fe:a9fe", "2606:4700::ffff:0:a9fe:a9fe", "2606:4700:1::a9fe:a9fe"]
    {
        check(&policy, public, None);
    }
}

#[test]
fn a_declared_nat64_prefix_is_judged_by_the_ipv4_inside() {
    // The table of RFC 6052, section 2.4, with 192.0.2.33 swapped for addresses that differ in
    // their verdicts: 8.8.4.4 is public, 10.1.2.3 is private, 169.254.169.254 is metadata.
    for (prefix, public, private, metadata) in [
        ("2001:db8::/32", "2001:db8:808:404::", "2001:db8:a01:203::", "2001:db8:a9fe:a9fe::"),
        (
            "2001:db8:100::/40",
            "2001:db8:108:804:4::",
            "2001:db8:10a:102:3::",
            "2001:db8:1a9:fea9:fe::",
        ),
        (
            "2001:db8:122::/48",
            "2001:db8:122:808:4:400::",
            "2001:db8:122:a01:2:300::",
            "2001:db8:122:a9fe:a9:fe00::",
        ),
        (
            "2001:db8:122:300::/56",
            "2001:db8:122:308:8:404::",
            "2001:db8:122:30a:1:203::",
            "2001:db8:122:3a9:fe:a9fe::",
        ),
        (
            "2001:db8:122:344::/64",
            "2001:db8:122:344:8:804:400::",
            "2001:db8:122:344:a:102:300::",
            "2001:db8:122:344:a9:fea9:fe00::",
        ),
        (
            "2001:db8:122:344::/96",
            "2001:db8:122:344::8.8.4.4",
            "2001:db8:122:344::10.1.2.3",
            "2001:db8:122:344::169.254.169.254",
        ),
        ("64:ff9b::/96", "64:ff9b::8.8.4.4", "64:ff9b::10.1.2.3", "64:ff9b::169.254.169.254"),
    ] {
        let policy = nat64(&[prefix]);
        check(&policy, public, None);
        check(&policy, private, Some(Class::Private));
        check(&policy, metadata, Some(Class::Metadata));
        let and_ten = Policy { allow_networks: allowing(&["10.0.0.0/8"]).allow_networks, ..policy };
        check(&and_ten, private, None);
        assert!(Policy::default().judge_ip(ip(public)).is_err(), "{public} undeclared");
    }
}

#[test]
fn a_nat64_address_with_a_set_u_octet_has_no_ipv4_inside() {
    check(&nat64(&["2001:db8:122::/48"]), "2001:db8:122:808:104:400::", Some(Class::Nat64));
    check(&nat64(&["2001:db8::/33"]), "2001:db8:808:404::", Some(Class::Nat64));
}

#[test]
fn a_target_is_judged_by_port_and_address() {
    let policy = Policy { deny_ports: vec![22, 6379], ..allowing(&["127.0.0.0/8"]) };
    let class = |target: &str| {
        policy.judge_target(target.parse().expect("a target")).err().map(|denied| denied.class)
    };
    assert_eq!(class("1.1.1.1:443"), None);
    assert_eq!(class("1.1.1.1:22"), Some(Class::Port));
    assert_eq!(class("127.0.0.1:6379"), Some(Class::Port));
    assert_eq!(class("127.0.0.1:0"), Some(Class::Port));
    assert_eq!(class("127.0.0.1:8443"), None);
    assert_eq!(class("10.0.0.1:443"), Some(Class::Private));
    assert_eq!(class("[::ffff:10.0.0.1]:443"), Some(Class::Private));
}

#[test]
fn a_lookup_is_judged_by_port_and_name() {
    let policy = Policy { deny_ports: vec![22], ..Policy::default() };
    let class = |name, port| policy.judge_lookup(name, port).err().map(|denied| denied.class);
    assert_eq!(class("example.com", 443), None);
    assert_eq!(class("example.com", 22), Some(Class::Port));
    assert!(class("metadata.google.internal", 443).is_some());
}

#[test]
fn our_own_listeners_are_not_a_target_whatever_is_allowed() {
    let wide = allowing(&["0.0.0.0/0", "::/0"]);
    let class = |own: &str, target: &str| {
        let own_addresses = vec![own.parse().expect("a listener")];
        let policy = Policy { own_addresses, ..wide.clone() };
        policy.judge_target(target.parse().expect("a target")).err().map(|denied| denied.class)
    };
    let own = Some(Class::OwnListener);
    assert_eq!(class("127.0.0.1:8080", "127.0.0.1:8080"), own);
    assert_eq!(class("127.0.0.1:8080", "[::ffff:127.0.0.1]:8080"), own);
    assert_eq!(class("127.0.0.1:8080", "0.0.0.0:8080"), own);
    assert_eq!(class("127.0.0.1:8080", "127.0.0.1:8081"), None);
    assert_eq!(class("127.0.0.1:8080", "10.0.0.1:8080"), None);
    assert_eq!(class("0.0.0.0:8080", "127.0.0.1:8080"), own);
    assert_eq!(class("0.0.0.0:8080", "127.9.9.9:8080"), own);
    assert_eq!(class("0.0.0.0:8080", "0.0.0.0:8080"), own);
    assert_eq!(class("[::]:8080", "127.0.0.1:8080"), own);
    assert_eq!(class("[::]:8080", "[::1]:8080"), own);
    assert_eq!(class("203.0.113.7:443", "203.0.113.7:443"), own);
    assert_eq!(class("203.0.113.7:443", "203.0.113.8:443"), None);
}

#[test]
fn a_connection_that_stays_on_this_machine_cannot_reach_a_wildcard_listener() {
    let own_addresses = vec!["0.0.0.0:8080".parse().expect("a listener")];
    let policy = Policy { own_addresses, ..allowing(&["10.0.0.0/8"]) };
    let class = |local: &str, peer: &str| {
        let [local, peer] = [local, peer].map(|end| end.parse().expect("an end"));
        policy.judge_connection(local, peer).err().map(|denied| denied.class)
    };
    assert_eq!(class("10.0.0.5:40000", "10.0.0.5:8080"), Some(Class::OwnListener));
    assert_eq!(class("[::ffff:10.0.0.5]:40000", "10.0.0.5:8080"), Some(Class::OwnListener));
    assert_eq!(class("10.0.0.5:40000", "10.0.0.5:8081"), None);
    assert_eq!(class("10.0.0.5:40000", "10.0.0.6:8080"), None);
    assert_eq!(class("10.0.0.5:40000", "192.168.0.1:443"), Some(Class::Private));
}

#[test]
fn tenants_are_told_the_same_for_every_reason() {
    let policy = Policy { deny_ports: vec![22], ..Policy::default() };
    let targets = ["127.0.0.1:443", "169.254.169.254:80", "[fe80::1]:443", "1.1.1.1:22"];
    for target in targets {
        let denied = policy.judge_target(target.parse().expect("a target")).expect_err("denied");
        assert_eq!(denied.to_string(), "webhooks may not reach this address");
        assert!(!denied.rule.is_empty());
    }
}
