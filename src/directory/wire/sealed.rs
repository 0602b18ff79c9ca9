//! The body of a row that holds secrets: `length of the open part (4 bytes, little-endian) · open
//! part, JSON · sealed part`.
//!
//! What is sealed is a list of texts, each behind its length: no parser makes copies of it that
//! nobody wipes. It is bound to the row's key, the format and the open part, so that it opens
//! nowhere else: not in another tenant's row, and not beside settings that were changed.

use serde::Serialize;
use zeroize::Zeroizing;

use super::{BadRow, SEALED};
use crate::directory::{
    keyring::{KeyRing, Unopened},
    layout::RowKey,
};

const LEN: usize = 4;

pub(super) fn seal<'t>(
    key: RowKey,
    open: &impl Serialize,
    texts: impl Iterator<Item = &'t str> + Clone,
    ring: &KeyRing,
) -> Vec<u8> {
    let open = serde_json::to_vec(open).expect("rows are plain structs without maps");
    let secret = ring.seal(&bound_to(key, &open), &list(texts));
    let len = u32::try_from(open.len()).expect("the directory bounds what is in a row");
    [len.to_le_bytes().as_slice(), &open, &secret].concat()
}

impl From<Unopened> for BadRow {
    fn from(why: Unopened) -> Self {
        match why {
            Unopened::Truncated => Self::Truncated,
            Unopened::MissingKey(id) => Self::MissingKey(id),
            Unopened::NotAuthentic => Self::NotAuthentic,
        }
    }
}

/// A body's parts, opened.
pub(super) struct Parts<'a> {
    pub(super) open: &'a [u8],
    secret: Zeroizing<Vec<u8>>,
    /// Sealed with the key that encrypts.
    pub(super) is_current: bool,
}

impl<'a> Parts<'a> {
    pub(super) fn of(key: RowKey, body: &'a [u8], ring: &KeyRing) -> Result<Self, BadRow> {
        let (open, secret) = split(body).ok_or(BadRow::Truncated)?;
        let opened = ring.open(&bound_to(key, open), secret)?;
        Ok(Self { open, secret: opened.0, is_current: opened.1 })
    }

    pub(super) fn texts(&self) -> Result<Vec<&str>, BadRow> {
        let mut texts = Vec::new();
        let mut rest = self.secret.as_slice();
        while !rest.is_empty() {
            let (text, after) = split(rest).ok_or(BadRow::Truncated)?;
            texts.push(std::str::from_utf8(text).map_err(|_| BadRow::Value("text"))?);
            rest = after;
        }
        Ok(texts)
    }
}

fn bound_to(key: RowKey, open: &[u8]) -> Vec<u8> {
    let key = key.encode();
    let len = u8::try_from(key.len()).expect("keys have a few bytes");
    [b"senderz-gateway directory row".as_slice(), &[SEALED, len], &key, open].concat()
}

fn list<'t>(texts: impl Iterator<Item = &'t str> + Clone) -> Zeroizing<Vec<u8>> {
    let len = texts.clone().map(|text| LEN + text.len()).sum();
    // The full capacity at once: a buffer that grows leaves copies behind.
    let mut list = Zeroizing::new(Vec::with_capacity(len));
    for text in texts {
        let len = u32::try_from(text.len()).expect("the directory bounds what is in a row");
        list.extend_from_slice(&len.to_le_bytes());
        list.extend_from_slice(text.as_bytes());
    }
    list
}

fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<LEN>()?;
    rest.split_at_checked(u32::from_le_bytes(*len) as usize)
}
