//! What seals the secrets in the directory's rows: a ring of keys, of which the first encrypts and
//! all decrypt.
//!
//! A sealed value is `key's id (8 bytes) ·` what [`seal`](crate::seal) makes. The id says which key
//! it needs, so that a missing key is told from damage. A value is bound to its row and to all of
//! that row that is not sealed: moved to another row, it does not open there.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::seal::{self, KEY_LEN};

/// A ring holds the key in use and those before it until everything is sealed anew; more are a
/// mistake.
pub(super) const MAX_KEYS: usize = 16;

const ID_LEN: usize = 8;

/// A random key has about thirty different bytes; one with fewer than this was typed by hand.
const MIN_DIFFERENT_BYTES: usize = 16;

/// Names a key without telling anything about it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EncryptionKeyId([u8; ID_LEN]);

impl EncryptionKeyId {
    fn of(key: &[u8]) -> Self {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
        mac.update(b"senderz-gateway encryption key id");
        let digest = mac.finalize().into_bytes();
        let (id, _) = digest.split_first_chunk().expect("SHA-256 has 32 bytes");
        Self(*id)
    }

    /// As it is shown: 16 hexadecimal digits.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let digits = (text.len() == 2 * ID_LEN && text.bytes().all(|b| b.is_ascii_hexdigit()))
            .then(|| u64::from_str_radix(text, 16).ok())?;
        Some(Self(digits?.to_be_bytes()))
    }
}

impl fmt::Display for EncryptionKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

impl fmt::Debug for EncryptionKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One key. Its memory is wiped on drop and `Debug` shows its id only.
#[derive(Clone)]
struct Key {
    id: EncryptionKeyId,
    /// On the heap, so that moving a ring leaves no copies behind.
    bytes: Box<Zeroizing<[u8; KEY_LEN]>>,
}

impl Key {
    /// With what `fill` writes into it.
    fn new(fill: impl FnOnce(&mut [u8; KEY_LEN])) -> Self {
        let mut bytes = Box::new(Zeroizing::new([0; KEY_LEN]));
        fill(&mut bytes);
        Self { id: EncryptionKeyId::of(bytes.as_slice()), bytes }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.id)
    }
}

/// Never empty.
#[derive(Clone, Debug)]
pub struct KeyRing(Vec<Key>);

/// A text that is no ring of keys. It does not show the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadKeyRing;

/// Why a sealed value does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unopened {
    /// It is shorter than any sealed value.
    Truncated,
    /// The ring does not hold the key that it needs.
    MissingKey(EncryptionKeyId),
    /// It was changed, or what it is bound to was, or it belongs elsewhere.
    NotAuthentic,
}

impl KeyRing {
    /// A ring of one new key.
    pub fn generate() -> Self {
        let random = |bytes: &mut [u8; KEY_LEN]| {
            getrandom::fill(bytes).expect("the kernel's random source does not fail after boot");
        };
        Self(vec![Key::new(random)])
    }

    /// Reads keys in base64, the one that encrypts first, separated by commas, spaces or line ends.
    pub fn parse(text: &str) -> Result<Self, BadKeyRing> {
        let parts = text.split(|c: char| c == ',' || c.is_ascii_whitespace());
        let keys = parts.filter(|part| !part.is_empty()).map(|part| {
            let bytes = Zeroizing::new(STANDARD.decode(part).map_err(|_| BadKeyRing)?);
            if bytes.len() == KEY_LEN && is_strong(&bytes) {
                Ok(Key::new(|key| key.copy_from_slice(&bytes)))
            } else {
                Err(BadKeyRing)
            }
        });
        let keys: Vec<Key> = keys.take(MAX_KEYS + 1).collect::<Result<_, _>>()?;
        if (1..=MAX_KEYS).contains(&keys.len()) { Ok(Self(keys)) } else { Err(BadKeyRing) }
    }

    /// As [`KeyRing::parse`] reads it: a key a line.
    pub(super) fn to_text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(self.0.len() * 2 * KEY_LEN));
        for key in &self.0 {
            text.push_str(&Zeroizing::new(STANDARD.encode(key.bytes.as_slice())));
            text.push('\n');
        }
        text
    }

    /// The key that encrypts.
    pub fn current(&self) -> EncryptionKeyId {
        self.0[0].id
    }

    pub fn ids(&self) -> impl Iterator<Item = EncryptionKeyId> {
        self.0.iter().map(|key| key.id)
    }

    /// Encrypts, and binds the result to `bound_to`.
    pub(super) fn seal(&self, bound_to: &[u8], plain: &[u8]) -> Vec<u8> {
        let key = &self.0[0];
        let sealed = seal::seal(&key.bytes, &with_id(key.id, bound_to), plain);
        [key.id.0.as_slice(), &sealed].concat()
    }

    /// Decrypts what was bound to `bound_to`; and whether the key that encrypts did it.
    pub(super) fn open(
        &self,
        bound_to: &[u8],
        sealed: &[u8],
    ) -> Result<(Zeroizing<Vec<u8>>, bool), Unopened> {
        let (id, rest) = sealed.split_first_chunk::<ID_LEN>().ok_or(Unopened::Truncated)?;
        if rest.len() < seal::NONCE_LEN {
            return Err(Unopened::Truncated);
        }
        let id = EncryptionKeyId(*id);
        let key = self.0.iter().find(|key| key.id == id).ok_or(Unopened::MissingKey(id))?;
        let plain = seal::open(&key.bytes, &with_id(id, bound_to), rest);
        let plain = plain.ok_or(Unopened::NotAuthentic)?;
        Ok((Zeroizing::new(plain), id == self.current()))
    }
}

fn with_id(id: EncryptionKeyId, bound_to: &[u8]) -> Vec<u8> {
    [id.0.as_slice(), bound_to].concat()
}

fn is_strong(bytes: &[u8]) -> bool {
    let mut seen = [false; 256];
    bytes.iter().for_each(|byte| seen[usize::from(*byte)] = true);
    seen.iter().filter(|seen| **seen).count() >= MIN_DIFFERENT_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "MTIzNDU2Nzg5MGFiY2RlZmdoaWprbG1ub3BxcnN0dXY=";
    const NEW: &str = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY=";

    fn ring(text: &str) -> KeyRing {
        KeyRing::parse(text).expect("a ring")
    }

    #[test]
    fn a_ring_is_one_to_sixteen_strong_keys_in_base64() {
        let check = |text: &str, keys: Option<usize>| {
            assert_eq!(KeyRing::parse(text).ok().map(|ring| ring.ids().count()), keys, "{text:?}");
        };
        check(NEW, Some(1));
        check(&format!("{NEW}\n{OLD}\n"), Some(2));
        check(&format!(" {NEW}, {OLD} "), Some(2));
        check(&format!("{NEW}\r\n{OLD}\r\n"), Some(2));
        check(&[NEW; 16].join(","), Some(16));
        check(&[NEW; 17].join(","), None);
        check("", None);
        check(" \n,", None);
        check(&NEW[1..], None);
        check(NEW.trim_end_matches('='), None);
        check(&format!("{NEW}x"), None);
        check(&STANDARD.encode([7u8; 31]), None);
        check(&STANDARD.encode([0u8; 32]), None);
        check(&STANDARD.encode(b"passwordpasswordpasswordpassword"), None);
        check("ключ", None);
    }

    #[test]
    fn what_one_key_sealed_opens_with_every_ring_that_holds_it() {
        let sealed = ring(OLD).seal(b"row", b"secret");
        let open = |ring: &KeyRing| {
            ring.open(b"row", &sealed).map(|(plain, current)| (plain.to_vec(), current))
        };
        assert_eq!(open(&ring(OLD)), Ok((b"secret".to_vec(), true)));
        assert_eq!(open(&ring(&format!("{NEW},{OLD}"))), Ok((b"secret".to_vec(), false)));
        assert_eq!(open(&ring(NEW)), Err(Unopened::MissingKey(ring(OLD).current())));
        // With the key itself, and not with something that all rings share.
        let key = STANDARD.decode(OLD).unwrap().try_into().unwrap();
        let bound_to = with_id(ring(OLD).current(), b"row");
        let plain = seal::open(&key, &bound_to, &sealed[ID_LEN..]);
        assert_eq!(plain.as_deref(), Some(b"secret".as_slice()));
        let again = ring(OLD).seal(b"row", b"secret");
        assert_ne!(again, sealed, "no nonce comes twice");
    }

    #[test]
    fn what_was_cut_changed_or_moved_does_not_open() {
        let ring = ring(NEW);
        let sealed = ring.seal(b"row", b"secret");
        assert_eq!(sealed.len(), ID_LEN + seal::NONCE_LEN + b"secret".len() + 16);
        for len in 0..sealed.len() {
            let short = len < ID_LEN + seal::NONCE_LEN;
            let why = if short { Unopened::Truncated } else { Unopened::NotAuthentic };
            assert_eq!(ring.open(b"row", &sealed[..len]), Err(why), "the first {len} bytes");
        }
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(ring.open(b"row", &changed).is_err(), "bit {bit}");
        }
        for elsewhere in [b"".as_slice(), b"rox", b"row ", b"ro"] {
            assert_eq!(ring.open(elsewhere, &sealed), Err(Unopened::NotAuthentic));
        }
    }

    #[test]
    fn a_ring_is_read_as_it_was_written_and_debug_shows_ids_only() {
        let both = ring(&format!("{NEW},{OLD}"));
        assert_eq!(*both.to_text(), format!("{NEW}\n{OLD}\n"));
        let shown = both.ids().map(|id| format!("Key({id})")).collect::<Vec<_>>().join(", ");
        assert_eq!(format!("{both:?}"), format!("KeyRing([{shown}])"));
        assert_eq!(format!("{:?}", both.current()), both.current().to_string());
    }

    /// Rows of earlier versions must open for ever.
    #[test]
    fn ids_stay_as_they_are_and_are_read_as_shown() {
        let id = ring(OLD).current();
        assert_eq!(EncryptionKeyId::parse(&id.to_string()), Some(id));
        assert_eq!(id.to_string(), "bc0fddd6915705f6");
        for odd in ["", "0", "00000000000000000", "+000000000000000", "000000000000000g"] {
            assert_eq!(EncryptionKeyId::parse(odd), None, "{odd:?}");
        }
        assert!(!format!("{:?}", ring(OLD)).contains(&OLD[..8]));
    }
}
