//! The guard against everything we know that gets past guards: a corpus of hostile and good URLs,
//! the edges of every special-purpose block, and a verdict on addresses written a second time.
//!
//! The corpus lies beside this file as text, so that a line can be added without Rust. The second
//! verdict ([`second`]) shares no code and no table with the guard: it speaks of octets and groups
//! where the guard speaks of masks.

#[path = "guard_corpus/second.rs"]
mod second;

use std::{
    collections::HashSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use senderz_gateway::guard::{Policy, UrlError, WebhookUrl};

/// The shipped defaults, and a denied host to test with.
fn shipped() -> Policy {
    let written: toml::Table =
        include_str!("../config.toml").parse().expect("config.toml is valid TOML");
    let security = written["security"].as_table().expect("a table");
    let ports = security["deny_ports"].as_array().expect("a list");
    assert_eq!(security["allow_networks"].as_array().map(Vec::len), Some(0));
    Policy {
        require_https: security["require_https"].as_bool().expect("a bool"),
        deny_ports: ports
            .iter()
            .map(|port| port.as_integer().and_then(|p| p.try_into().ok()).expect("a port"))
            .collect(),
        deny_hosts: vec!["denied.example.net".into()],
        max_url: written["limits"]["url"].as_integer().expect("a number") as usize,
        ..Policy::default()
    }
}

/// The lines of a corpus file: two columns, `\u{…}` undone.
fn lines(file: &'static str) -> Vec<(String, String)> {
    let columns = |line: &'static str| {
        let (left, right) = line.split_once('\t').unwrap_or_else(|| panic!("no tab in {line:?}"));
        (undo_escapes(left), undo_escapes(right))
    };
    file.lines().filter(|line| !line.starts_with("# ")).map(columns).collect()
}

fn undo_escapes(text: &str) -> String {
    let mut parts = text.split(r"\u{");
    let mut plain = parts.next().expect("split gives at least one part").to_owned();
    for part in parts {
        let (hex, rest) = part.split_once('}').expect("an escape is closed");
        let code = u32::from_str_radix(hex, 16).expect("an escape is hexadecimal");
        plain.push(char::from_u32(code).expect("an escape is a character"));
        plain.push_str(rest);
    }
    plain
}

#[test]
fn every_hostile_url_is_refused_for_the_reason_it_is_hostile() {
    let policy = shipped();
    let corpus = lines(include_str!("guard_corpus/hostile.tsv"));
    let distinct: HashSet<_> = corpus.iter().map(|(_, text)| text).collect();
    assert!(distinct.len() >= 500 && distinct.len() == corpus.len(), "{}", distinct.len());
    let wrong: Vec<_> = corpus
        .iter()
        .filter_map(|(expected, text)| match WebhookUrl::parse(text, &policy) {
            Ok(url) => Some(format!("{text:?}: accepted as {url}")),
            Err(error) if error.reason() == expected => None,
            Err(error) => Some(format!("{text:?}: {} instead of {expected}", error.reason())),
        })
        .collect();
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_good_url_is_accepted_and_has_its_canonical_form() {
    let policy = shipped();
    let corpus = lines(include_str!("guard_corpus/good.tsv"));
    let distinct: HashSet<_> = corpus.iter().map(|(text, _)| text).collect();
    assert!(distinct.len() >= 200 && distinct.len() == corpus.len(), "{}", distinct.len());
    let read = |text: &str| WebhookUrl::parse(text, &policy).map(|url| url.to_string());
    let wrong: Vec<_> = corpus
        .iter()
        .flat_map(|(text, canonical)| {
            let expected = Ok(canonical.clone());
            [text, canonical]
                .map(|text| (text, read(text)))
                .into_iter()
                .filter(move |(_, got)| *got != expected)
                .map(move |(text, got)| format!("{text:?}: {got:?} instead of {canonical:?}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// What a tenant reads about a refused target is one sentence: it cannot be used to tell a private
/// address from a metadata service or a cluster's name.
#[test]
fn a_refused_target_tells_tenants_nothing_more() {
    let policy = shipped();
    let told: HashSet<String> = lines(include_str!("guard_corpus/hostile.tsv"))
        .iter()
        .filter_map(|(_, text)| WebhookUrl::parse(text, &policy).err())
        .filter(|error| error.code() == "blocked_target")
        .map(|error| error.to_string())
        .collect();
    assert_eq!(told.len(), 1, "{told:?}");
}

/// The parser before `judge_url`, on the same corpus: no text that it accepts is read differently
/// by the parser of the HTTP library.
#[test]
fn the_http_library_reads_every_parsed_url_alike() {
    let hostile = lines(include_str!("guard_corpus/hostile.tsv")).into_iter().map(|(_, text)| text);
    let good = lines(include_str!("guard_corpus/good.tsv")).into_iter().map(|(text, _)| text);
    let mut compared = 0;
    for text in hostile.chain(good) {
        let Ok(url) = WebhookUrl::from_stored(&text) else { continue };
        let other: http::Uri = url.to_string().parse().unwrap_or_else(|e| panic!("{url}: {e}"));
        assert_eq!(other.host(), Some(url.host.to_string().as_str()), "{text:?}");
        assert_eq!(other.port_u16().unwrap_or(url.scheme.default_port()), url.port, "{text:?}");
        let path = other.path_and_query().map(|p| p.as_str());
        assert_eq!(path, Some(url.path_and_query.as_str()), "{text:?}");
        compared += 1;
    }
    assert!(compared >= 700, "{compared} compared");
}

/// An error's message is for tenants: it never repeats what they wrote, which may hold a password.
#[test]
fn no_message_repeats_the_url() {
    let policy = shipped();
    for (_, text) in lines(include_str!("guard_corpus/hostile.tsv")) {
        let error = WebhookUrl::parse(&text, &policy).expect_err("hostile");
        let message = error.to_string();
        assert!(text.len() < 12 || !message.contains(&text), "{message}");
        assert!(!message.ends_with('.') && message.len() < 200, "{message}");
        if let UrlError::Blocked(denied) = error {
            assert!(!message.contains(denied.rule));
        }
    }
}

#[track_caller]
fn agree_v4(policy: &Policy, ip: Ipv4Addr) {
    let expected = second::v4_is_public(ip);
    assert_eq!(policy.judge_ip(IpAddr::V4(ip)).is_ok(), expected, "{ip}");
}

#[track_caller]
fn agree_v6(policy: &Policy, ip: Ipv6Addr) {
    let expected = second::v6_is_public(ip);
    assert_eq!(policy.judge_ip(IpAddr::V6(ip)).is_ok(), expected, "{ip}");
}

/// First and last address of a block and their neighbours, wrapping at the ends of the space.
fn edges_v4(block: &str) -> [Ipv4Addr; 4] {
    let net: ipnet::Ipv4Net = block.parse().expect("a block");
    let (first, last) = (net.network().to_bits(), net.broadcast().to_bits());
    [first.wrapping_sub(1), first, last, last.wrapping_add(1)].map(Ipv4Addr::from_bits)
}

fn edges_v6(block: &str) -> [Ipv6Addr; 4] {
    let net: ipnet::Ipv6Net = block.parse().expect("a block");
    let (first, last) = (net.network().to_bits(), net.broadcast().to_bits());
    [first.wrapping_sub(1), first, last, last.wrapping_add(1)].map(Ipv6Addr::from_bits)
}

#[test]
fn both_ends_of_every_ipv4_block_are_denied_and_the_neighbours_judged_alike() {
    let policy = Policy::default();
    for block in second::V4_REGISTRY {
        let edges = edges_v4(block);
        for inside in [edges[1], edges[2]] {
            assert!(policy.judge_ip(inside.into()).is_err(), "{inside} of {block}");
        }
        for ip in edges {
            agree_v4(&policy, ip);
            agree_v6(&policy, ip.to_ipv6_mapped());
        }
    }
    // The neighbours that a too-wide mask would swallow.
    for free in [
        "1.0.0.0",
        "11.0.0.0",
        "100.128.0.0",
        "172.32.0.0",
        "192.0.1.0",
        "192.0.3.0",
        "192.169.0.0",
        "198.20.0.0",
        "223.255.255.255",
        "126.255.255.255",
        "128.0.0.0",
    ] {
        assert!(policy.judge_ip(free.parse().expect("an address")).is_ok(), "{free}");
    }
}

#[test]
fn both_ends_of_every_ipv6_block_are_denied_and_the_neighbours_judged_alike() {
    let policy = Policy::default();
    for block in second::V6_REGISTRY {
        let edges = edges_v6(block);
        for inside in [edges[1], edges[2]] {
            assert!(policy.judge_ip(inside.into()).is_err(), "{inside} of {block}");
        }
        for ip in edges {
            agree_v6(&policy, ip);
        }
    }
    for (inside, outside) in [
        ("2000::", "1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "4000::"),
    ] {
        assert!(policy.judge_ip(inside.parse().expect("an address")).is_ok(), "{inside}");
        assert!(policy.judge_ip(outside.parse().expect("an address")).is_err(), "{outside}");
    }
}

/// SplitMix64: enough to scatter addresses, and the same in every run.
struct Scatter(u64);

impl Scatter {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[test]
fn two_verdicts_agree_on_millions_of_ipv4_addresses() {
    let policy = Policy::default();
    let mut scatter = Scatter(1);
    for _ in 0..2_000_000 {
        agree_v4(&policy, Ipv4Addr::from_bits(scatter.next() as u32));
    }
    // Every /24's first, middle and last address in the /8s that have special blocks.
    for first in [0u32, 10, 100, 127, 168, 169, 172, 192, 198, 203, 223, 224, 255] {
        for third in 0..1u32 << 16 {
            let base = first << 24 | third << 8;
            for last in [0, 128, 255] {
                agree_v4(&policy, Ipv4Addr::from_bits(base | last));
            }
        }
    }
}

/// `GUARD_EXHAUSTIVE` is set by `scripts/test guard`, which takes a minute for it; else every 251st
/// address, a prime so that no pattern of the blocks is missed twice.
#[test]
#[expect(clippy::disallowed_methods, reason = "a test's own settings")]
fn two_verdicts_agree_on_all_of_ipv4() {
    let step = if std::env::var("GUARD_EXHAUSTIVE").is_ok() { 1 } else { 251 };
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let share = (1_u64 << 32).div_ceil(cores);
    let checked: u64 = std::thread::scope(|scope| {
        let part = |core: u64| {
            let addresses = (core * share)..((core + 1) * share).min(1 << 32);
            scope.spawn(move || {
                let policy = Policy::default();
                let mut checked = 0;
                for bits in addresses.step_by(step) {
                    agree_v4(&policy, Ipv4Addr::from_bits(bits as u32));
                    checked += 1;
                }
                checked
            })
        };
        let parts: Vec<_> = (0..cores).map(part).collect();
        parts.into_iter().map(|part| part.join().expect("they agree")).sum()
    });
    assert!(step > 1 || checked == 1 << 32);
    println!("guard: two verdicts agree on {checked} IPv4 addresses");
}

#[test]
fn two_verdicts_agree_on_ipv6_addresses_scattered_around_every_block() {
    let policy = Policy::default();
    let mut scatter = Scatter(2);
    for block in second::V6_REGISTRY {
        let net: ipnet::Ipv6Net = block.parse().expect("a block");
        let free_bits = 128 - u32::from(net.prefix_len());
        for _ in 0..4_000 {
            let noise = u128::from(scatter.next()) << 64 | u128::from(scatter.next());
            // Inside the block, or a few of the prefix's last bits away from it.
            let near = noise & (u128::MAX >> (128 - (free_bits + 6).min(128)).min(127));
            agree_v6(&policy, Ipv6Addr::from_bits(net.network().to_bits() ^ near));
        }
    }
    for _ in 0..300_000 {
        let noise = u128::from(scatter.next()) << 64 | u128::from(scatter.next());
        agree_v6(&policy, Ipv6Addr::from_bits(noise));
        agree_v6(&policy, Ipv6Addr::from_bits(noise >> 3 | 1 << 125));
    }
}

/// Metadata services by the addresses their operators publish.
#[test]
fn metadata_services_are_denied_to_whoever_allows_the_whole_internet() {
    let everything = ["0.0.0.0/0", "::/0"].map(|net| net.parse().expect("a network"));
    let policy = Policy { allow_networks: everything.to_vec(), ..Policy::default() };
    for address in second::METADATA {
        let ip: IpAddr = address.parse().expect("an address");
        assert!(policy.judge_ip(ip).is_err(), "{ip}");
        assert!(Policy::default().judge_ip(ip).is_err(), "{ip}");
        if let IpAddr::V4(v4) = ip {
            let low = u128::from(v4.to_bits());
            let nat64 = 0x0064_ff9b_u128 << 96 | low;
            let six_to_four = 0x2002_u128 << 112 | low << 80 | 1;
            for bits in [nat64, six_to_four, low, v4.to_ipv6_mapped().to_bits()] {
                let hidden = Ipv6Addr::from_bits(bits);
                assert!(policy.judge_ip(hidden.into()).is_err(), "{hidden}");
            }
        }
        let exactly = Policy { allow_networks: vec![ip.into()], ..Policy::default() };
        assert!(exactly.judge_ip(ip).is_ok(), "{ip} listed exactly");
    }
}
