//! Tenants: a customer of senderZ, its signing secret, and the keys that speak for it.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use crate::{clock::Millis, id::TenantNo};

/// A tenant's public name: 1 to 64 characters of `[A-Za-z0-9_-]`, chosen by the operator.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantId(String);

/// A string that cannot name a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a tenant id has 1 to 64 characters out of A-Z a-z 0-9 _ -")]
pub struct BadTenantId;

impl TenantId {
    pub const MAX_LEN: usize = 64;

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `text` could name a tenant; lets look-ups borrow.
    pub fn is_valid(text: &str) -> bool {
        (1..=Self::MAX_LEN).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
    }
}

impl FromStr for TenantId {
    type Err = BadTenantId;

    fn from_str(text: &str) -> Result<Self, BadTenantId> {
        if Self::is_valid(text) { Ok(Self(text.to_owned())) } else { Err(BadTenantId) }
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::borrow::Borrow<str> for TenantId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// A signing secret: `whsec_` and base64 of the key's bytes. Its memory is wiped on drop and
/// `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningSecret(Zeroizing<String>);

/// Why a string is not a usable signing secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSecret {
    #[error("a signing secret starts with `whsec_`")]
    Prefix,
    #[error("a signing secret is standard base64 after `whsec_`")]
    Base64,
    #[error("a signing secret has 24 to 64 bytes after base64 decoding")]
    Length,
}

impl SigningSecret {
    pub const PREFIX: &'static str = "whsec_";

    /// A new secret of 32 random bytes.
    pub fn generate() -> Self {
        let mut key = Zeroizing::new([0u8; 32]);
        getrandom::fill(key.as_mut()).expect("the kernel's random source does not fail after boot");
        let encoded = Zeroizing::new(STANDARD.encode(*key));
        Self(Zeroizing::new(format!("{}{}", Self::PREFIX, *encoded)))
    }

    /// The whole string as shown to the tenant, `whsec_` included: the key of
    /// `X-Senderz-Signature`.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The decoded bytes after `whsec_`: the key of `webhook-signature`.
    pub fn key_bytes(&self) -> Zeroizing<Vec<u8>> {
        let encoded = &self.0[Self::PREFIX.len()..];
        Zeroizing::new(STANDARD.decode(encoded).expect("checked when the secret was made"))
    }
}

impl FromStr for SigningSecret {
    type Err = BadSecret;

    fn from_str(text: &str) -> Result<Self, BadSecret> {
        let encoded = text.strip_prefix(Self::PREFIX).ok_or(BadSecret::Prefix)?;
        let key = Zeroizing::new(STANDARD.decode(encoded).map_err(|_| BadSecret::Base64)?);
        if !(24..=64).contains(&key.len()) {
            return Err(BadSecret::Length);
        }
        Ok(Self(Zeroizing::new(text.to_owned())))
    }
}

impl fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningSecret(hidden)")
    }
}

/// The secrets that sign for a tenant now: the current one, and those before it until their
/// overlaps end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningSecrets {
    pub current: SigningSecret,
    /// The rotated secrets, the newest first, each with the wall time (ms) from which it no longer
    /// signs. What has ended may still stand here, until the next rotation.
    pub previous: Vec<(SigningSecret, Millis)>,
}

/// Every attempt carries a signature for each secret that still signs, so they are few.
pub const MAX_PREVIOUS_SECRETS: usize = 4;

/// As many rotated secrets still sign as may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManySecrets {
    /// The wall time at which the first of them ends, and another rotation is possible.
    pub until: Millis,
}

impl SigningSecrets {
    /// A tenant's first secret.
    pub fn generate() -> Self {
        Self { current: SigningSecret::generate(), previous: Vec::new() }
    }

    /// The rotated secrets that still sign at the wall time `now`, the newest first.
    pub fn overlapping(&self, now: Millis) -> impl Iterator<Item = &(SigningSecret, Millis)> {
        self.previous.iter().filter(move |(_, until)| now < *until)
    }

    /// What signs after a rotation at `now`. The secret before goes on for `overlap`, and those
    /// before that as long as they were promised, because receivers may still hold one of them.
    /// No overlap ends all of them: that is the way out for a secret that leaked.
    pub fn rotated(self, now: Millis, overlap: Millis) -> Result<Self, TooManySecrets> {
        let mut rotated = Self::generate();
        if overlap == 0 {
            return Ok(rotated);
        }
        rotated.previous.push((self.current, now.saturating_add(overlap)));
        rotated.previous.extend(self.previous.into_iter().filter(|(_, until)| now < *until));
        if rotated.previous.len() > MAX_PREVIOUS_SECRETS {
            let ends = rotated.previous[1..].iter().map(|(_, until)| *until);
            return Err(TooManySecrets { until: ends.min().expect("there are several") });
        }
        Ok(rotated)
    }
}

/// A customer of senderZ.
#[derive(Clone, Debug)]
pub struct Tenant {
    pub no: TenantNo,
    pub id: TenantId,
    /// For people; up to 200 characters.
    pub name: String,
    pub created_at: Millis,
    pub secrets: SigningSecrets,
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = 1_795_000_000_000;
    const HOUR: Millis = 3_600_000;

    fn ends(secrets: &SigningSecrets) -> Vec<Millis> {
        secrets.previous.iter().map(|(_, until)| *until).collect()
    }

    #[test]
    fn a_rotation_keeps_what_was_promised_to_the_secrets_before() {
        let first = SigningSecrets::generate();
        let second = first.clone().rotated(NOW, 3 * HOUR).unwrap();
        let third = second.clone().rotated(NOW + HOUR, HOUR).unwrap();
        let [current, before] = [&second.current, &first.current];
        let kept = [(current.clone(), NOW + 2 * HOUR), (before.clone(), NOW + 3 * HOUR)];
        assert_eq!(third.previous, kept, "the newest first");
        assert!(third.current != *current && *current != *before);
        // What has ended is forgotten.
        let fourth = third.clone().rotated(NOW + 2 * HOUR, HOUR).unwrap();
        assert_eq!(ends(&fourth), [NOW + 3 * HOUR, NOW + 3 * HOUR]);
        assert_eq!(fourth.overlapping(NOW + 3 * HOUR).count(), 0);
    }

    #[test]
    fn where_too_many_sign_a_rotation_waits_for_the_first_to_end_or_ends_them_all() {
        let mut secrets = SigningSecrets::generate();
        for hours in [9, 2, 7, 5] {
            secrets = secrets.rotated(NOW, hours * HOUR).unwrap();
        }
        let full = || secrets.clone();
        let refused = Err(TooManySecrets { until: NOW + 2 * HOUR });
        assert_eq!(full().rotated(NOW, HOUR), refused);
        assert_eq!(full().rotated(NOW + 2 * HOUR - 1, HOUR), refused);
        let next = full().rotated(NOW + 2 * HOUR, HOUR).unwrap();
        assert_eq!(ends(&next), [3, 5, 7, 9].map(|hours| NOW + hours * HOUR));
        assert_eq!(ends(&full().rotated(NOW, 0).unwrap()), [0; 0]);
    }
}
