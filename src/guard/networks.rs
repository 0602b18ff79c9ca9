//! Checks of the operator's own networks, for the configuration to call: entries that would open
//! more than their writer can have meant, or nothing at all.

use ipnet::{IpNet, Ipv6Net};

use super::{Policy, special};

/// The widest entries of `allow_networks` that need no confirmation, as prefix lengths.
const WIDEST_V4: u8 = 8;
const WIDEST_V6: u8 = 32;

/// What is wrong with a network in the configuration, and what to write instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    #[error(
        "{0} is wider than /{WIDEST_V4} (IPv4) or /{WIDEST_V6} (IPv6): it opens other people's \
         networks to tenants; name the networks you need, or set \
         security.i_understand_wide_networks = true"
    )]
    Wide(IpNet),
    #[error(
        "{0} is a block of IPv4-mapped addresses, which are judged as IPv4: write the IPv4 network"
    )]
    Mapped(IpNet),
    #[error(
        "{0} is no NAT64 prefix: its length has to be 32, 40, 48, 56, 64 or 96, and bits 64 to 71 \
         have to be zero (RFC 6052)"
    )]
    Nat64(Ipv6Net),
}

impl Policy {
    /// All that is wrong with `security.allow_networks`, in its order. Metadata addresses stay
    /// denied inside a wide entry whether it is confirmed or not.
    pub fn check_networks(
        allow: &[IpNet],
        i_understand_wide_networks: bool,
    ) -> Result<(), Vec<NetworkError>> {
        all(allow.iter().filter_map(|network| {
            let widest = if matches!(network, IpNet::V4(_)) { WIDEST_V4 } else { WIDEST_V6 };
            if is_mapped(network) {
                Some(NetworkError::Mapped(*network))
            } else if network.prefix_len() < widest && !i_understand_wide_networks {
                Some(NetworkError::Wide(*network))
            } else {
                None
            }
        }))
    }

    /// All that is wrong with `security.nat64_prefixes`, in its order.
    pub fn check_nat64_prefixes(prefixes: &[Ipv6Net]) -> Result<(), Vec<NetworkError>> {
        all(prefixes.iter().filter(|prefix| !is_nat64(prefix)).map(|p| NetworkError::Nat64(*p)))
    }
}

fn all(problems: impl Iterator<Item = NetworkError>) -> Result<(), Vec<NetworkError>> {
    let problems: Vec<_> = problems.collect();
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

/// Such an entry would look right and never match.
fn is_mapped(network: &IpNet) -> bool {
    match network {
        IpNet::V4(_) => false,
        IpNet::V6(v6) => v6.prefix_len() >= 96 && v6.network().to_ipv4_mapped().is_some(),
    }
}

fn is_nat64(prefix: &Ipv6Net) -> bool {
    special::NAT64_LENGTHS.contains(&prefix.prefix_len()) && prefix.network().octets()[8] == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().expect("a network")).collect()
    }

    #[test]
    fn a_wide_network_needs_the_operators_word() {
        let wide = nets(&["0.0.0.0/0", "0.0.0.0/7", "::/0", "2000::/31"]);
        let problems = wide.iter().map(|n| NetworkError::Wide(*n)).collect();
        assert_eq!(Policy::check_networks(&wide, false), Err(problems));
        assert_eq!(Policy::check_networks(&wide, true), Ok(()));
        let narrow = nets(&["10.0.0.0/8", "127.0.0.1/32", "fd00::/32", "::1/128"]);
        assert_eq!(Policy::check_networks(&narrow, false), Ok(()));
    }

    #[test]
    fn a_mapped_network_is_refused_because_it_would_never_match() {
        for text in ["::ffff:10.0.0.0/104", "::ffff:0:0/96", "::ffff:7f00:1/128"] {
            let mapped = nets(&[text]);
            for word in [false, true] {
                let expected = Err(vec![NetworkError::Mapped(mapped[0])]);
                assert_eq!(Policy::check_networks(&mapped, word), expected, "{text}");
            }
        }
    }

    #[test]
    fn nat64_prefixes_have_the_six_lengths_of_rfc_6052() {
        let check =
            |text: &str| Policy::check_nat64_prefixes(&[text.parse().expect("a prefix")]).is_ok();
        let good = (0..=128).filter(|len| check(&format!("2001:db8::/{len}")));
        assert_eq!(good.collect::<Vec<_>>(), [32, 40, 48, 56, 64, 96]);
        assert!(check("64:ff9b::/96"));
        assert!(!check("2001:db8:0:0:100::/96"), "bits 64 to 71 are not zero");
    }
}
