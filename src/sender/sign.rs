//! Signatures: making them for every attempt, and checking them as a receiver does.
//!
//! Two schemes sign the same body. `X-Senderz-Signature` is lower-case hex HMAC-SHA256 of the raw
//! body, keyed with the UTF-8 bytes of the whole `whsec_…` string. `webhook-signature` follows
//! Standard Webhooks: `v1,` and base64 of HMAC-SHA256 over `id.timestamp.body`, keyed with the
//! bytes that the string encodes. While rotated secrets overlap, both headers carry the new
//! signature first and the old ones after it, from the newest to the oldest.
//!
//! Keying an HMAC costs two compressions of SHA-256, as much as signing 128 bytes, so a [`Signer`]
//! keeps the keyed states and clones one per signature. The body is hashed where it lies; what is
//! written goes through stack buffers into the caller's.
//!
//! Verifying is strict: no white space, no upper-case hex, no base64 variants, at most
//! [`MAX_SIGNATURES`], and no early exit once a comparison has begun.

pub mod diagnose;

use std::{fmt, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use subtle::{Choice, ConstantTimeEq as _};

use crate::{
    clock::Millis,
    tenant::{SigningSecret, SigningSecrets},
};

type HmacSha256 = Hmac<Sha256>;

/// More signatures than this in one header are an attempt to make the verifier work.
pub const MAX_SIGNATURES: usize = 16;

/// How far a timestamp may be from the receiver's clock unless it chooses otherwise.
pub const DEFAULT_TOLERANCE: Duration = Duration::from_secs(300);

/// Digits: any number of so many is a `u64`.
const TIMESTAMP_MAX: usize = 19;

const MAC: usize = 32;
const HEX: usize = 2 * MAC;
const BASE64: usize = MAC.div_ceil(3) * 4;

/// A tenant's keys, ready to sign.
pub struct Signer {
    current: Keys,
    /// The rotated secrets, the newest first, and the wall times from which they no longer sign.
    previous: Vec<(Keys, Millis)>,
}

impl Signer {
    pub fn new(secrets: &SigningSecrets) -> Self {
        Self {
            current: Keys::new(&secrets.current),
            previous: secrets.previous.iter().map(|(s, end)| (Keys::new(s), *end)).collect(),
        }
    }

    /// Appends the value of `X-Senderz-Signature`, as of the wall time `now`.
    pub fn write_hex(&self, now: Millis, body: &[u8], out: &mut Vec<u8>) {
        write_one_hex(&self.current.hex, body, out);
        for previous in self.overlapping(now) {
            out.push(b',');
            write_one_hex(&previous.hex, body, out);
        }
    }

    /// Appends the value of `webhook-signature`, as of the wall time `now`.
    pub fn write_standard(
        &self,
        now: Millis,
        id: &[u8],
        timestamp: &[u8],
        body: &[u8],
        out: &mut Vec<u8>,
    ) {
        write_one_standard(&self.current.standard, id, timestamp, body, out);
        for previous in self.overlapping(now) {
            out.push(b' ');
            write_one_standard(&previous.standard, id, timestamp, body, out);
        }
    }

    fn overlapping(&self, now: Millis) -> impl Iterator<Item = &Keys> {
        self.previous.iter().filter(move |(_, end)| now < *end).map(|(keys, _)| keys)
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer(hidden)")
    }
}

/// One secret as two keyed states, one for each scheme.
struct Keys {
    hex: HmacSha256,
    standard: HmacSha256,
}

impl Keys {
    fn new(secret: &SigningSecret) -> Self {
        Self { hex: hex_state(secret), standard: standard_state(secret) }
    }
}

/// Why a signature is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSignature {
    #[error("the signature header is empty")]
    Empty,
    #[error("the signature header has more than {MAX_SIGNATURES} signatures")]
    TooMany,
    #[error("the signature header is malformed")]
    Malformed,
    #[error("the timestamp is not a number of seconds")]
    Timestamp,
    #[error("the timestamp is too far from now")]
    OutsideTolerance,
    #[error("no signature matches")]
    Mismatch,
}

/// Checks an `X-Senderz-Signature` against the body as received.
pub fn verify_hex(secret: &SigningSecret, header: &str, body: &[u8]) -> Result<(), BadSignature> {
    let mut expected = hex_state(secret);
    expected.update(body);
    let expected: [u8; MAC] = expected.finalize().into_bytes().into();
    let mut matches = Choice::from(0);
    for (at, part) in parts(header, ',')?.enumerate() {
        let given = (at < MAX_SIGNATURES).then(|| decode_hex(part)).ok_or(BadSignature::TooMany)?;
        matches |= given.ok_or(BadSignature::Malformed)?.ct_eq(&expected);
    }
    if bool::from(matches) { Ok(()) } else { Err(BadSignature::Mismatch) }
}

/// The three Standard Webhooks headers as received.
#[derive(Clone, Copy, Debug)]
pub struct StandardHeaders<'a> {
    pub id: &'a str,
    pub timestamp: &'a str,
    pub signature: &'a str,
}

/// Checks a Standard Webhooks signature; `now` is the receiver's wall time. Entries of versions
/// other than `v1` are skipped, as the specification asks.
pub fn verify_standard(
    secret: &SigningSecret,
    headers: StandardHeaders<'_>,
    body: &[u8],
    now: Millis,
    tolerance: Duration,
) -> Result<(), BadSignature> {
    let digits = headers.timestamp.as_bytes();
    // A sign would be parsed, too, and so would any number of zeros in front.
    if digits.len() > TIMESTAMP_MAX || !digits.iter().all(u8::is_ascii_digit) {
        return Err(BadSignature::Timestamp);
    }
    let seconds: u64 = headers.timestamp.parse().map_err(|_| BadSignature::Timestamp)?;
    if (now / 1000).abs_diff(seconds) > tolerance.as_secs() {
        return Err(BadSignature::OutsideTolerance);
    }
    let mut expected = standard_state(secret);
    update_standard(&mut expected, headers.id.as_bytes(), digits, body);
    let expected: [u8; MAC] = expected.finalize().into_bytes().into();
    let mut matches = Choice::from(0);
    for (at, part) in parts(headers.signature, ' ')?.enumerate() {
        if at >= MAX_SIGNATURES {
            return Err(BadSignature::TooMany);
        }
        let (version, encoded) = part.split_once(',').ok_or(BadSignature::Malformed)?;
        if version == "v1" {
            matches |= decode_base64(encoded).ok_or(BadSignature::Malformed)?.ct_eq(&expected);
        } else if version.is_empty() || encoded.is_empty() {
            return Err(BadSignature::Malformed);
        }
    }
    if bool::from(matches) { Ok(()) } else { Err(BadSignature::Mismatch) }
}

fn parts(header: &str, separator: char) -> Result<impl Iterator<Item = &str>, BadSignature> {
    if header.is_empty() { Err(BadSignature::Empty) } else { Ok(header.split(separator)) }
}

fn hex_state(secret: &SigningSecret) -> HmacSha256 {
    keyed(secret.expose().as_bytes())
}

fn standard_state(secret: &SigningSecret) -> HmacSha256 {
    keyed(&secret.key_bytes())
}

fn keyed(key: &[u8]) -> HmacSha256 {
    HmacSha256::new_from_slice(key).expect("HMAC takes keys of any length")
}

fn write_one_hex(state: &HmacSha256, body: &[u8], out: &mut Vec<u8>) {
    let mut mac = state.clone();
    mac.update(body);
    let mac: [u8; MAC] = mac.finalize().into_bytes().into();
    let mut text = [0; HEX];
    for (pair, byte) in text.chunks_exact_mut(2).zip(mac) {
        pair[0] = HEX_DIGITS[usize::from(byte >> 4)];
        pair[1] = HEX_DIGITS[usize::from(byte & 15)];
    }
    out.extend_from_slice(&text);
}

fn write_one_standard(
    state: &HmacSha256,
    id: &[u8],
    timestamp: &[u8],
    body: &[u8],
    out: &mut Vec<u8>,
) {
    let mut mac = state.clone();
    update_standard(&mut mac, id, timestamp, body);
    let mac: [u8; MAC] = mac.finalize().into_bytes().into();
    let mut text = [0; BASE64];
    STANDARD.encode_slice(mac, &mut text).expect("the buffer has base64's exact length");
    out.extend_from_slice(b"v1,");
    out.extend_from_slice(&text);
}

fn update_standard(mac: &mut HmacSha256, id: &[u8], timestamp: &[u8], body: &[u8]) {
    mac.update(id);
    mac.update(b".");
    mac.update(timestamp);
    mac.update(b".");
    mac.update(body);
}

const HEX_DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Lower case only: one signature has one spelling.
fn decode_hex(text: &str) -> Option<[u8; MAC]> {
    let text: &[u8; HEX] = text.as_bytes().try_into().ok()?;
    let mut mac = [0; MAC];
    for (byte, pair) in mac.iter_mut().zip(text.chunks_exact(2)) {
        *byte = hex_value(pair[0])? << 4 | hex_value(pair[1])?;
    }
    Some(mac)
}

fn hex_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// Canonical padding and no stray bits: the engine refuses both.
fn decode_base64(text: &str) -> Option<[u8; MAC]> {
    if text.len() != BASE64 {
        return None;
    }
    let mut mac = [0; MAC];
    let len = STANDARD.decode_slice(text, &mut mac).ok()?;
    (len == MAC).then_some(mac)
}

#[cfg(test)]
mod tests;
