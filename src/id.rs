//! Identifiers: what they carry, and how they look outside.
//!
//! Inside, an event is its [`Place`] in the event log and a webhook is a small number. Outside,
//! both are Crockford base32 strings with a prefix. Event, delivery and attempt ids carry their
//! place, so that a look-up by id needs no index. They are names, not secrets: whoever asks for an
//! object must own it, and a wrong guess looks the same as a missing object.

use std::{
    fmt,
    hash::{BuildHasher, Hasher},
    str::FromStr,
};

/// Where an event stands in the event log: block number (48 bits), then index in the block
/// (16 bits). Places order as the events were accepted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Place(u64);

impl Place {
    /// The highest block number a place can carry.
    pub const MAX_BLOCK: u64 = (1 << 48) - 1;
    pub const MIN: Place = Place(0);
    pub const MAX: Place = Place(u64::MAX);

    pub const fn new(block: u64, index: u16) -> Self {
        assert!(block <= Self::MAX_BLOCK, "2^48 blocks is more than a disk can hold");
        Self(block << 16 | index as u64)
    }

    pub const fn block(self) -> u64 {
        self.0 >> 16
    }

    pub const fn index(self) -> u16 {
        self.0 as u16
    }

    pub const fn as_u64(self) -> u64 {
        self.0
    }

    pub const fn from_u64(raw: u64) -> Self {
        Self(raw)
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.block(), self.index())
    }
}

/// A tenant's number in the directory: assigned once, never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantNo(pub u32);

/// A webhook's number in the directory: assigned once, never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WebhookNo(pub u32);

/// Which store wrote a log; part of event ids so that the ids of two gateways never meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NodeNo(pub u16);

/// A delivery inside the process: one event for one webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryKey {
    pub place: Place,
    pub webhook: WebhookNo,
}

/// What the prefix of a text says that it is the id of; for those who mixed up two ids.
pub fn kind(text: &str) -> Option<&'static str> {
    const KINDS: [(&str, &str); 11] = [
        (EventId::PREFIX, "an event"),
        (DeliveryId::PREFIX, "a delivery"),
        (AttemptId::PREFIX, "an attempt"),
        (WebhookId::PREFIX, "a webhook"),
        (KeyId::PREFIX, "a key"),
        (ReplayId::PREFIX, "a replay"),
        (ErasureId::PREFIX, "an erasure"),
        (StreamId::PREFIX, "a place in the stream"),
        (SessionId::PREFIX, "a session of the portal"),
        ("req_", "a request"),
        ("msg_", "a message"),
    ];
    KINDS.into_iter().find(|(prefix, _)| text.starts_with(prefix)).map(|(_, kind)| kind)
}

/// Why a string is not an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    #[error("an id of this kind starts with `{0}`")]
    Prefix(&'static str),
    #[error("an id has 26 characters of Crockford base32 after its prefix")]
    Shape,
    #[error("the id's check digits do not match; it was probably mistyped")]
    Check,
}

impl IdError {
    /// What is wrong with `text`, and where it is the id of something else, of what.
    pub fn of(self, text: &str) -> String {
        match (self, kind(text)) {
            (Self::Prefix(_), Some(kind)) => format!("this is the id of {kind}; {self}"),
            _ => self.to_string(),
        }
    }
}

/// `evt_…`: accepted-at in milliseconds (48 bits), node (16), place (64).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EventId {
    pub accepted_at: u64,
    pub node: NodeNo,
    pub place: Place,
}

impl EventId {
    pub const PREFIX: &'static str = "evt_";

    pub fn to_u128(self) -> u128 {
        (u128::from(self.accepted_at & ((1 << 48) - 1)) << 80)
            | (u128::from(self.node.0) << 64)
            | u128::from(self.place.as_u64())
    }

    pub fn from_u128(raw: u128) -> Self {
        Self {
            accepted_at: (raw >> 80) as u64,
            node: NodeNo((raw >> 64) as u16),
            place: Place::from_u64(raw as u64),
        }
    }

    /// The id's 30 ASCII characters, without allocation.
    pub fn encode(self) -> [u8; 30] {
        encode_prefixed(b"evt_", self.to_u128())
    }
}

/// `dlv_…`: place (64), webhook (32), node (16), check (16).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeliveryId {
    pub node: NodeNo,
    pub key: DeliveryKey,
}

impl DeliveryId {
    pub const PREFIX: &'static str = "dlv_";

    pub fn to_u128(self) -> u128 {
        let body = (u128::from(self.key.place.as_u64()) << 48)
            | (u128::from(self.key.webhook.0) << 16)
            | u128::from(self.node.0);
        body << 16 | u128::from(check(body))
    }

    pub fn from_u128(raw: u128) -> Result<Self, IdError> {
        let body = raw >> 16;
        if check(body) != raw as u16 {
            return Err(IdError::Check);
        }
        Ok(Self {
            node: NodeNo(body as u16),
            key: DeliveryKey {
                place: Place::from_u64((body >> 48) as u64),
                webhook: WebhookNo((body >> 16) as u32),
            },
        })
    }

    pub fn encode(self) -> [u8; 30] {
        encode_prefixed(b"dlv_", self.to_u128())
    }
}

/// `att_…`: place (64), webhook (32), node (16), attempt number (16).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AttemptId {
    pub delivery: DeliveryId,
    pub number: u16,
}

impl AttemptId {
    pub const PREFIX: &'static str = "att_";

    pub fn encode(self) -> [u8; 30] {
        let raw = (u128::from(self.delivery.key.place.as_u64()) << 64)
            | (u128::from(self.delivery.key.webhook.0) << 32)
            | (u128::from(self.delivery.node.0) << 16)
            | u128::from(self.number);
        encode_prefixed(b"att_", raw)
    }
}

/// `pos_…`: how far somebody has seen the stream of attempts. A place in the attempt log (64), node
/// (16), check (16).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StreamId {
    pub node: NodeNo,
    /// In the attempt log, not in that of events.
    pub place: Place,
}

impl StreamId {
    pub const PREFIX: &'static str = "pos_";

    fn to_u128(self) -> u128 {
        let body = (u128::from(self.place.as_u64()) << 16) | u128::from(self.node.0);
        body << 16 | u128::from(check(body))
    }

    fn from_u128(raw: u128) -> Result<Self, IdError> {
        let body = raw >> 16;
        if check(body) != raw as u16 || body >> 80 != 0 {
            return Err(IdError::Check);
        }
        Ok(Self { node: NodeNo(body as u16), place: Place::from_u64((body >> 16) as u64) })
    }
}

/// `wh_…`: 128 random bits; the directory maps it to a [`WebhookNo`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WebhookId(pub u128);

impl WebhookId {
    pub const PREFIX: &'static str = "wh_";
}

/// `key_…`: 128 random bits; names an API key without being one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub u128);

impl KeyId {
    pub const PREFIX: &'static str = "key_";
}

/// `rpl_…`: 128 random bits; names a replay of many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplayId(pub u128);

impl ReplayId {
    pub const PREFIX: &'static str = "rpl_";
}

/// `ers_…`: 128 random bits; names an erasure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ErasureId(pub u128);

impl ErasureId {
    pub const PREFIX: &'static str = "ers_";
}

/// `ses_…`: 128 random bits; names a session of the portal without opening it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u128);

impl SessionId {
    pub const PREFIX: &'static str = "ses_";
}

/// `req_…`: 128 bits; what a request is called that came without a name.
pub fn request(raw: u128) -> [u8; 30] {
    encode_prefixed(b"req_", raw)
}

/// Hashes the numbers that we give out ourselves (webhooks, blocks). Nobody outside chooses them,
/// so there is no flood to defend against, and one multiplication spreads them well enough.
#[derive(Clone, Copy, Debug, Default)]
pub struct ByNumber;

impl BuildHasher for ByNumber {
    type Hasher = NumberHasher;

    fn build_hasher(&self) -> NumberHasher {
        NumberHasher(0)
    }
}

/// See [`ByNumber`].
#[derive(Clone, Copy, Debug)]
pub struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        // Fibonacci hashing; the high bits are the good ones, and the table looks at both ends.
        let spread = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = spread ^ spread >> 32;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// 128 bits from the operating system's generator.
pub fn random_u128() -> u128 {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the kernel's random source does not fail after boot");
    u128::from_be_bytes(bytes)
}

macro_rules! textual_id {
    ($name:ident, $id:ident => $to:expr, $raw:ident => $from:expr) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let $id = *self;
                f.write_str(Self::PREFIX)?;
                f.write_str(std::str::from_utf8(&encode_base32($to)).expect("base32 is ASCII"))
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let digits =
                    text.strip_prefix(Self::PREFIX).ok_or(IdError::Prefix(Self::PREFIX))?;
                let $raw = decode_base32(digits).ok_or(IdError::Shape)?;
                $from
            }
        }
    };
}

textual_id!(EventId, id => id.to_u128(), raw => Ok(Self::from_u128(raw)));
textual_id!(DeliveryId, id => id.to_u128(), raw => Self::from_u128(raw));
textual_id!(StreamId, id => id.to_u128(), raw => Self::from_u128(raw));
textual_id!(WebhookId, id => id.0, raw => Ok(Self(raw)));
textual_id!(KeyId, id => id.0, raw => Ok(Self(raw)));
textual_id!(ReplayId, id => id.0, raw => Ok(Self(raw)));
textual_id!(ErasureId, id => id.0, raw => Ok(Self(raw)));
textual_id!(SessionId, id => id.0, raw => Ok(Self(raw)));

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.encode()).expect("base32 is ASCII"))
    }
}

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

fn encode_prefixed(prefix: &[u8; 4], raw: u128) -> [u8; 30] {
    let mut out = [0; 30];
    out[..4].copy_from_slice(prefix);
    out[4..].copy_from_slice(&encode_base32(raw));
    out
}

/// Most significant digit first; the first of the 26 digits carries 3 bits.
fn encode_base32(raw: u128) -> [u8; 26] {
    std::array::from_fn(|digit| ALPHABET[(raw >> (5 * (25 - digit))) as usize & 31])
}

/// Strict about length and overflow; forgiving, as Crockford asks, about letter case and about
/// `o`, `i` and `l`, which people read for 0 and 1.
fn decode_base32(digits: &str) -> Option<u128> {
    let digits: &[u8; 26] = digits.as_bytes().try_into().ok()?;
    let mut raw: u128 = 0;
    for (at, byte) in digits.iter().enumerate() {
        let value = match byte.to_ascii_lowercase() {
            b'o' => 0,
            b'i' | b'l' => 1,
            other => ALPHABET.iter().position(|&c| c == other)?,
        };
        if at == 0 && value > 7 {
            return None;
        }
        raw = raw << 5 | value as u128;
    }
    Some(raw)
}

fn check(body: u128) -> u16 {
    crc32fast::hash(&body.to_be_bytes()) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_survive_the_way_out_and_back() {
        let event =
            EventId { accepted_at: 1_795_407_600_123, node: NodeNo(7), place: Place::new(99, 3) };
        assert_eq!(event.to_string().parse(), Ok(event));
        assert_eq!(event.to_string().as_bytes(), event.encode());
        let delivery = DeliveryId {
            node: NodeNo(7),
            key: DeliveryKey { place: Place::new(Place::MAX_BLOCK, 65535), webhook: WebhookNo(5) },
        };
        assert_eq!(delivery.to_string().parse(), Ok(delivery));
        let stream = StreamId { node: NodeNo(u16::MAX), place: Place::MAX };
        assert_eq!(stream.to_string().parse(), Ok(stream));
        assert_eq!(WebhookId(u128::MAX).to_string().parse(), Ok(WebhookId(u128::MAX)));
    }

    #[test]
    fn a_mistyped_delivery_id_is_noticed() {
        let id = DeliveryId {
            node: NodeNo(1),
            key: DeliveryKey { place: Place::new(12, 1), webhook: WebhookNo(3) },
        }
        .to_string();
        let mistyped = id.replacen('c', "d", 1);
        assert_ne!(id, mistyped, "the sample id has a c in it");
        assert_eq!(mistyped.parse::<DeliveryId>(), Err(IdError::Check));
    }

    #[test]
    fn bad_shapes_are_refused_with_their_reason() {
        let cases = [
            ("", IdError::Prefix("evt_")),
            ("dlv_00000000000000000000000000", IdError::Prefix("evt_")),
            ("evt_0000000000000000000000000", IdError::Shape),
            ("evt_000000000000000000000000000", IdError::Shape),
            ("evt_80000000000000000000000000", IdError::Shape),
            ("evt_0000000000000000000000000u", IdError::Shape),
            ("evt_é000000000000000000000000", IdError::Shape),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse::<EventId>(), Err(expected), "{text}");
        }
    }

    #[test]
    fn places_order_as_the_log_does() {
        assert!(Place::new(1, u16::MAX) < Place::new(2, 0));
        assert_eq!(Place::new(5, 6).block(), 5);
        assert_eq!(Place::new(5, 6).index(), 6);
    }
}
