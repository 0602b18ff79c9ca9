//! The header `Idempotency-Key`: what it may be, wherever it is taken.
//!
//! (Ingest and the API remember keys differently: ingest in the event log, where what is repeated
//! is found again; the API with the whole answer, sealed.)

use http::{HeaderMap, HeaderName};
use serde_json::{Value, json};

pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// `true` on an answer that was given before.
pub const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// The header is not one usable key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unusable;

/// The key, if there is one.
pub fn key_of(headers: &HeaderMap, max: usize) -> Result<Option<&str>, Unusable> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    match (value.to_str(), values.next()) {
        (Ok(key), None) if is_usable(key.as_bytes(), max) => Ok(Some(key)),
        _ => Err(Unusable),
    }
}

/// Whether `key` is 1 to `max` characters of visible ASCII.
pub fn is_usable(key: &[u8], max: usize) -> bool {
    (1..=max).contains(&key.len()) && key.iter().all(u8::is_ascii_graphic)
}

/// The rule of [`is_usable`], for people.
pub fn rule(max: usize) -> String {
    format!(
        "an idempotency key is one string of 1 to {max} visible ASCII characters \
         (ingest.max_idempotency_key)"
    )
}

/// The rule of [`is_usable`], for the OpenAPI document.
pub fn schema(max: usize) -> Value {
    json!({"type": "string", "minLength": 1, "maxLength": max, "pattern": "^[!-~]+$"})
}
