//! Checking signatures as a receiver does.
//!
//! Stands in for `crate::sender::sign`, whose `verify_hex` and `verify_standard` have these very
//! signatures.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

use crate::{clock::Millis, tenant::SigningSecret};

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadSignature {
    #[error("the timestamp is not a number of seconds")]
    Timestamp,
    #[error("the timestamp is too far from now")]
    OutsideTolerance,
    #[error("no signature matches")]
    Mismatch,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct StandardHeaders<'a> {
    pub(crate) id: &'a str,
    pub(crate) timestamp: &'a str,
    pub(crate) signature: &'a str,
}

pub(crate) fn verify_hex(
    secret: &SigningSecret,
    header: &str,
    body: &[u8],
) -> Result<(), BadSignature> {
    let mac: String =
        mac(secret.expose().as_bytes(), &[body]).iter().map(|byte| format!("{byte:02x}")).collect();
    any_equals(header.split(','), &mac)
}

pub(crate) fn verify_standard(
    secret: &SigningSecret,
    headers: StandardHeaders<'_>,
    body: &[u8],
    now: Millis,
    tolerance: Duration,
) -> Result<(), BadSignature> {
    let StandardHeaders { id, timestamp, signature } = headers;
    let seconds: u64 = timestamp.parse().map_err(|_| BadSignature::Timestamp)?;
    if (now / 1000).abs_diff(seconds) > tolerance.as_secs() {
        return Err(BadSignature::OutsideTolerance);
    }
    let parts = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body];
    let mac = format!("v1,{}", STANDARD.encode(mac(&secret.key_bytes(), &parts)));
    any_equals(signature.split(' '), &mac)
}

fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

fn any_equals<'a>(
    mut given: impl Iterator<Item = &'a str>,
    expected: &str,
) -> Result<(), BadSignature> {
    let matches = given.any(|part| bool::from(part.as_bytes().ct_eq(expected.as_bytes())));
    if matches { Ok(()) } else { Err(BadSignature::Mismatch) }
}
