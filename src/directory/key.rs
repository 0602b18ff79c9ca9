//! API keys: how they are made, read and compared.
//!
//! `szk_tenant_` + the key's id (26 characters of Crockford base32) + 32 characters that carry 160
//! random bits. The id part finds the row without a scan; only the SHA-256 of the whole text is
//! kept, and it is compared in constant time. A slow hash would add nothing: what is hashed has
//! more entropy than any search can cover.

use std::fmt;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::{clock::Millis, directory::Principal, id::KeyId};

/// No key is longer; what is longer is refused before it is hashed.
pub const MAX_KEY_TEXT: usize = 256;

const SECRET_ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const SECRET_CHARS: usize = 32;

/// An API key as the directory knows it. The key itself is nowhere.
#[derive(Clone, Debug)]
pub struct ApiKey {
    pub id: KeyId,
    /// Its place in lists: keys are numbered as they are made.
    pub no: u32,
    /// For whom it speaks.
    pub principal: Principal,
    pub created_at: Millis,
    pub(super) hash: KeyHash,
}

impl ApiKey {
    /// A new key and its text, which is shown once and then forgotten.
    pub(super) fn generate(no: u32, principal: Principal, created_at: Millis) -> (Self, KeyText) {
        let id = KeyId(crate::id::random_u128());
        let text = KeyText::generate(principal, id);
        (Self { id, no, principal, created_at, hash: KeyHash::of(text.expose()) }, text)
    }
}

/// A key's text. Its memory is wiped on drop and `Debug` does not show it.
#[derive(Clone)]
pub struct KeyText(Zeroizing<String>);

impl KeyText {
    pub(super) fn generate(principal: Principal, id: KeyId) -> Self {
        let mut random = Zeroizing::new([0u8; SECRET_CHARS]);
        getrandom::fill(random.as_mut())
            .expect("the kernel's random source does not fail after boot");
        let id = id.to_string();
        let digits = id.strip_prefix(KeyId::PREFIX).expect("ids show their prefix");
        let prefix = prefix_of(principal);
        // The full capacity at once: a string that grows leaves copies behind.
        let mut text =
            Zeroizing::new(String::with_capacity(prefix.len() + digits.len() + SECRET_CHARS));
        text.push_str(prefix);
        text.push_str(digits);
        // 256 is a multiple of 32, so the low five bits are uniform.
        text.extend(random.iter().map(|byte| SECRET_ALPHABET[usize::from(byte & 31)] as char));
        Self(text)
    }

    pub(super) fn from_text(text: Zeroizing<String>) -> Self {
        Self(text)
    }

    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for KeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyText(hidden)")
    }
}

/// What remains of a key that somebody presented: enough to ask again whether it still speaks for
/// anybody, and not enough to present it.
#[derive(Clone, Debug)]
pub struct KeyMark {
    pub(super) id: Option<KeyId>,
    pub(super) hash: KeyHash,
}

impl KeyMark {
    /// None where the text is longer than any key.
    pub fn of(key: &str) -> Option<Self> {
        (key.len() <= MAX_KEY_TEXT).then(|| Self { id: id_in(key), hash: KeyHash::of(key) })
    }
}

/// SHA-256 of a key's whole text.
#[derive(Clone, Copy)]
pub(super) struct KeyHash(pub(super) [u8; 32]);

impl KeyHash {
    pub(super) fn of(text: &str) -> Self {
        Self(Sha256::digest(text.as_bytes()).into())
    }

    pub(super) fn matches(&self, other: &KeyHash) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHash(hidden)")
    }
}

pub const OPERATOR_PREFIX: &str = "szk_operator_";
pub const PRODUCER_PREFIX: &str = "szk_producer_";
pub const TENANT_PREFIX: &str = "szk_tenant_";

fn prefix_of(principal: Principal) -> &'static str {
    match principal {
        Principal::Operator => OPERATOR_PREFIX,
        Principal::Producer => PRODUCER_PREFIX,
        Principal::Tenant(_) => TENANT_PREFIX,
    }
}

/// The id that a key's text carries; none where it has another shape.
fn id_in(text: &str) -> Option<KeyId> {
    let rest = [OPERATOR_PREFIX, PRODUCER_PREFIX, TENANT_PREFIX]
        .into_iter()
        .find_map(|prefix| text.strip_prefix(prefix))?;
    let digits = rest.get(..rest.len().checked_sub(SECRET_CHARS)?)?;
    format!("{}{digits}", KeyId::PREFIX).parse().ok()
}
