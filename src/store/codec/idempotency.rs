//! Blocks of remembered idempotency keys, written in the commit that writes their events.
//!
//! ```text
//! body  accepted-at · keys · row …
//! row   key (16) · payload hash (8) · place's block · place's index · deliveries
//! ```
//!
//! They stand apart from the events so that opening a store reads some forty bytes for each key and
//! not the payloads.

use super::{
    Damage, Log, RECORD_HEAD, cut,
    wire::{Reader, put_varint},
};
use crate::{clock::Millis, id::Place, store::IdempotencyKey};

/// Key (16), payload hash (8), and three varints of at least a byte.
const ROW_MIN: usize = 27;

/// Rows in one block: always a single part, also where each has its most bytes (39).
const ROWS_MAX: usize = 392;

/// A key, and the event it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyRow {
    pub key: IdempotencyKey,
    /// The first eight bytes of the payload's SHA-256.
    pub payload: u64,
    pub place: Place,
    pub deliveries: u32,
}

/// Writes rows accepted at one time into blocks from number `first` on; gives how many keys went
/// into each.
pub fn encode_keys(
    first: u64,
    accepted_at: Millis,
    rows: &[KeyRow],
    mut put: impl FnMut(&[u8], &[u8]),
) -> Vec<usize> {
    let mut counts = Vec::with_capacity(rows.len().div_ceil(ROWS_MAX));
    for (number, rows) in (first..).zip(rows.chunks(ROWS_MAX)) {
        let mut buffer = vec![0; RECORD_HEAD];
        put_varint(&mut buffer, accepted_at);
        put_varint(&mut buffer, rows.len() as u64);
        for row in rows {
            buffer.extend_from_slice(&row.key.0);
            buffer.extend_from_slice(&row.payload.to_le_bytes());
            put_varint(&mut buffer, row.place.block());
            put_varint(&mut buffer, u64::from(row.place.index()));
            put_varint(&mut buffer, u64::from(row.deliveries));
        }
        cut(Log::Idempotency, number, &mut buffer, &mut put);
        counts.push(rows.len());
    }
    counts
}

/// Decodes the body of an idempotency block: when its events were accepted, and its rows. Total:
/// never panics.
pub fn decode_keys(bytes: &[u8]) -> Result<(Millis, Vec<KeyRow>), Damage> {
    let mut reader = Reader::new(bytes);
    let accepted_at = reader.varint()?;
    let count = reader.count(ROW_MIN)?;
    let mut rows = Vec::with_capacity(count);
    for _ in 0..count {
        let key = IdempotencyKey(reader.array()?);
        let payload = u64::from_le_bytes(reader.array()?);
        let block = reader.varint()?;
        if block > Place::MAX_BLOCK {
            return Err(Damage::Value("place"));
        }
        let place = Place::new(block, reader.number("index")?);
        rows.push(KeyRow { key, payload, place, deliveries: reader.number("deliveries")? });
    }
    reader.end()?;
    Ok((accepted_at, rows))
}
