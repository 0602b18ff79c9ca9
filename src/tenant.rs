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

/// The secrets that sign for a tenant now: the current one, and the one before it until its
/// overlap ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningSecrets {
    pub current: SigningSecret,
    /// The rotated secret and the wall time (ms) from which it no longer signs.
    pub previous: Option<(SigningSecret, Millis)>,
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
