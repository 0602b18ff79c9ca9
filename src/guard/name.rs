//! The verdict on a host name, before any DNS.
//!
//! It keeps names out that mean something inside this machine, this network or this cloud. It is
//! no protection by itself (anybody can point a public name at a private address, see
//! [`address`](super::address)); it is there so that such names are never even asked for, and so
//! that the tenant hears of it at registration.

use std::net::{IpAddr, Ipv4Addr};

use super::{
    Policy,
    address::{Class, Denied},
};

impl Policy {
    /// Whether webhooks may use this name. Takes canonical names, as in
    /// [`Host::Name`](super::Host::Name).
    pub fn judge_name(&self, name: &str) -> Result<(), Denied> {
        if self.deny_hosts.iter().any(|pattern| matches_denied(pattern, name)) {
            return Err(Denied::new(Class::DeniedHost, "security.deny_hosts"));
        }
        if METADATA.iter().any(|zone| is_or_below(name, zone)) {
            return Err(Denied::new(Class::MetadataName, "cloud metadata"));
        }
        if self.is_allowed_localhost(name) {
            return Ok(());
        }
        if LOCAL.iter().any(|zone| is_or_below(name, zone)) {
            return Err(Denied::new(Class::LocalName, "a name of this machine or network"));
        }
        if !name.contains('.') {
            return Err(Denied::new(Class::SingleLabel, "only fully qualified names"));
        }
        Ok(())
    }

    /// Whether webhooks may write this address as their host: operators put addresses into
    /// `deny_hosts` too.
    pub(super) fn judge_literal(&self, ip: IpAddr) -> Result<(), Denied> {
        let names = |pattern: &String| pattern.trim_matches(['[', ']']).parse() == Ok(ip);
        if self.deny_hosts.iter().any(names) {
            return Err(Denied::new(Class::DeniedHost, "security.deny_hosts"));
        }
        Ok(())
    }

    /// `localhost` is a way to write 127.0.0.1 and stands or falls with it. What it resolves to is
    /// judged like everything else.
    pub(super) fn is_allowed_localhost(&self, name: &str) -> bool {
        name == "localhost" && self.allows(Ipv4Addr::LOCALHOST.into())
    }
}

/// An operator writes `example.com`, `.example.com`, `*.example.com`, `Example.com.` and means the
/// same: this name and all below it. A name outside ASCII is compared as punycode.
fn matches_denied(pattern: &str, name: &str) -> bool {
    let pattern = pattern.trim_start_matches("*.").trim_matches('.');
    if pattern.is_ascii() {
        return is_or_below(name, pattern);
    }
    idna::domain_to_ascii(pattern).is_ok_and(|ascii| is_or_below(name, &ascii))
}

fn is_or_below(name: &str, zone: &str) -> bool {
    let Some(above) = name.len().checked_sub(zone.len()) else { return false };
    let (rest, tail) = name.as_bytes().split_at(above);
    !zone.is_empty()
        && tail.eq_ignore_ascii_case(zone.as_bytes())
        && (rest.is_empty() || rest.ends_with(b"."))
}

/// Names under which clouds serve credentials.
const METADATA: [&str; 9] = [
    "metadata",
    "metadata.goog",
    "metadata.google.internal",
    "instance-data",
    "instance-data.ec2.internal",
    "metadata.azure.internal",
    "metadata.tencentyun.com",
    "metadata.cloud.ibm.com",
    "metadata.packet.net",
];

/// Zones that never lead to a customer's server: RFC 6761, RFC 6762, RFC 8375, ICANN's reserved
/// `internal`, cluster names, and what home routers and companies use.
const LOCAL: [&str; 17] = [
    "localhost",
    "localdomain",
    "ip6-localhost",
    "ip6-loopback",
    "ip6-localnet",
    "ip6-mcastprefix",
    "ip6-allnodes",
    "ip6-allrouters",
    "local",
    "internal",
    "intranet",
    "lan",
    "corp",
    "home",
    "home.arpa",
    "svc",
    "onion",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn check(policy: &Policy, name: &str, expected: Option<Class>) {
        assert_eq!(policy.judge_name(name).err().map(|d| d.class), expected, "{name}");
    }

    #[test]
    fn names_of_the_inside_are_refused_and_their_lookalikes_are_not() {
        let policy = Policy::default();
        for (name, expected) in [
            ("localhost", Some(Class::LocalName)),
            ("a.localhost", Some(Class::LocalName)),
            ("ip6-localhost", Some(Class::LocalName)),
            ("printer.local", Some(Class::LocalName)),
            ("db.prod.internal", Some(Class::LocalName)),
            ("api.default.svc", Some(Class::LocalName)),
            ("api.default.svc.cluster.local", Some(Class::LocalName)),
            ("metadata", Some(Class::MetadataName)),
            ("metadata.google.internal", Some(Class::MetadataName)),
            ("instance-data", Some(Class::MetadataName)),
            ("intern", Some(Class::SingleLabel)),
            ("svc.example.com", None),
            ("local.example.com", None),
            ("notlocal", Some(Class::SingleLabel)),
            ("example.notlocal", None),
            ("localhost.example.com", None),
            ("metadata.example.com", None),
            ("mymetadata.goog", None),
        ] {
            check(&policy, name, expected);
        }
    }

    #[test]
    fn denied_hosts_cover_all_names_below_them_however_they_are_written() {
        for pattern in ["evil.example", ".evil.example", "*.evil.example", "EVIL.example."] {
            let policy = Policy { deny_hosts: vec![pattern.into()], ..Policy::default() };
            check(&policy, "evil.example", Some(Class::DeniedHost));
            check(&policy, "a.b.evil.example", Some(Class::DeniedHost));
            check(&policy, "notevil.example", None);
            check(&policy, "evil.example.com", None);
        }
        let policy = Policy { deny_hosts: vec!["bücher.example".into()], ..Policy::default() };
        check(&policy, "www.xn--bcher-kva.example", Some(Class::DeniedHost));
        let nothing = Policy { deny_hosts: vec![String::new(), "*.".into()], ..Policy::default() };
        check(&nothing, "www.example.com", None);
    }

    #[test]
    fn localhost_is_let_through_with_the_address_it_stands_for_and_nothing_else_is() {
        let allow = |text: &str| Policy {
            allow_networks: vec![text.parse().expect("a network")],
            ..Policy::default()
        };
        check(&allow("127.0.0.0/8"), "localhost", None);
        check(&allow("127.0.0.1/32"), "localhost", None);
        check(&allow("127.0.0.2/32"), "localhost", Some(Class::LocalName));
        check(&allow("10.0.0.0/8"), "localhost", Some(Class::LocalName));
        check(&allow("127.0.0.0/8"), "a.localhost", Some(Class::LocalName));
        check(&allow("127.0.0.0/8"), "ip6-localhost", Some(Class::LocalName));
        check(&allow("0.0.0.0/0"), "metadata", Some(Class::MetadataName));
    }
}
