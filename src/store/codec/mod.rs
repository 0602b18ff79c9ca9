//! What the logs look like on disk. Pure: bytes in, values out, no store behind it.
//!
//! Two layers. A **block** is a log's unit: a number and a body that holds many events or many
//! entries. A **record** is what the disk sees: a block is cut into parts, and each part is stored
//! under its own key with a head in front:
//!
//! ```text
//! key     log (1) · block (8, big endian) · part (2, big endian)
//! record  version (1) · log (1) · parts of this block (2) · crc32 (4) · the part's bytes
//! ```
//!
//! The checksum covers the key too, so a record that is intact but stands in the wrong place, or
//! is the stale one of an earlier block, is damage like a flipped bit. Blocks are filled to one
//! part; only an event whose payload or fan-out is large has a block of many parts, for itself.
//!
//! A part is never larger than [`RECORD_MAX`]. The embedded store writes whole tree pages, and one
//! that is larger than a quarter of its segment (a mebibyte) goes into a side file which is never
//! synced. A page holds at most 17 records before it is split, and 20 when a page of up to three is
//! merged into it: 20 × (16,500 + 15 for key and lengths) is a third of that. Larger records cost
//! the store less for each byte, smaller ones are read back with less beside them, and four
//! payloads of 4 KiB fill one of this size.
//!
//! Every decoder is total: any bytes give a value or a [`Damage`], never a panic, and no decoder
//! reserves more memory than its input could fill.

mod entries;
mod events;
mod idempotency;
#[cfg(test)]
mod tests;
mod wire;

pub use self::{
    entries::{
        EntryBlockBuilder, EntryHead, decode_entries, decode_entry_facts, decode_entry_head,
        redact_entries,
    },
    events::{
        EventBlockBuilder, EventHead, decode_event_block, decode_event_head, erase_events,
        put_trace, read_trace,
    },
    idempotency::{KeyRow, decode_keys, encode_keys},
};

/// The format this version writes; a record of another one is refused.
pub const VERSION: u8 = 1;

/// A record in all, head included.
pub const RECORD_MAX: usize = 16_500;

/// Version, log, parts, checksum.
pub const RECORD_HEAD: usize = 8;

/// What of a block fits into one part.
pub const PART_MAX: usize = RECORD_MAX - RECORD_HEAD;

/// No event comes near it (256 KiB of payload are 16 parts); it bounds what a damaged head can ask
/// for.
pub const PARTS_MAX: u16 = 4096;

pub const KEY_LEN: usize = 11;

/// Which log a block belongs to; the first byte of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Log {
    Entries = 0x30,
    Events = 0x40,
    Idempotency = 0x50,
}

impl Log {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Entries => "entries",
            Self::Events => "events",
            Self::Idempotency => "idempotency",
        }
    }

    pub fn key(self, block: u64, part: u16) -> [u8; KEY_LEN] {
        let mut key = [0; KEY_LEN];
        key[0] = self as u8;
        key[1..9].copy_from_slice(&block.to_be_bytes());
        key[9..].copy_from_slice(&part.to_be_bytes());
        key
    }
}

/// The block and part that a key names; none where it is no log's key.
pub fn parse_key(key: &[u8]) -> Option<(u64, u16)> {
    let key: &[u8; KEY_LEN] = key.try_into().ok()?;
    let block = u64::from_be_bytes(key[1..9].try_into().ok()?);
    Some((block, u16::from_be_bytes([key[9], key[10]])))
}

/// Why stored bytes are not what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    #[error("the record is shorter than its head")]
    Short,
    #[error("the record has version {0}")]
    Version(u8),
    #[error("the record belongs to another log")]
    WrongLog,
    #[error("the checksum does not match")]
    Checksum,
    #[error("a part of the block is missing")]
    MissingPart,
    #[error("the block ends too early")]
    Truncated,
    #[error("the block goes on after its end")]
    Trailing,
    #[error("the block holds an impossible {0}")]
    Value(&'static str),
}

/// Writes a record's head into the eight bytes left free for it at the front of `record`.
pub fn seal(key: &[u8], parts: u16, record: &mut [u8]) {
    assert!((RECORD_HEAD..=RECORD_MAX).contains(&record.len()), "blocks are cut before sealing");
    record[0] = VERSION;
    record[1] = key[0];
    record[2..4].copy_from_slice(&parts.to_le_bytes());
    let crc = checksum(key, record);
    record[4..8].copy_from_slice(&crc.to_le_bytes());
}

/// Checks a record that was found under `key`; gives the number of parts of its block and its
/// share of the body.
pub fn open<'r>(key: &[u8], record: &'r [u8]) -> Result<(u16, &'r [u8]), Damage> {
    if record.len() < RECORD_HEAD {
        return Err(Damage::Short);
    }
    if record[0] != VERSION {
        return Err(Damage::Version(record[0]));
    }
    if key.first() != Some(&record[1]) {
        return Err(Damage::WrongLog);
    }
    let stored = u32::from_le_bytes([record[4], record[5], record[6], record[7]]);
    if stored != checksum(key, record) {
        return Err(Damage::Checksum);
    }
    let parts = u16::from_le_bytes([record[2], record[3]]);
    if !(1..=PARTS_MAX).contains(&parts) {
        return Err(Damage::Value("number of parts"));
    }
    Ok((parts, &record[RECORD_HEAD..]))
}

/// Over the key, the head without the checksum itself, and the part's bytes.
fn checksum(key: &[u8], record: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(key);
    crc.update(&record[..4]);
    crc.update(&record[RECORD_HEAD..]);
    crc.finalize()
}

/// Cuts a block into its records and hands each to `put` with its key. `buffer` is the block's
/// body with [`RECORD_HEAD`] free bytes in front, so that the usual block of one part is sealed
/// where it lies.
pub fn cut(log: Log, block: u64, buffer: &mut [u8], mut put: impl FnMut(&[u8], &[u8])) {
    let body = buffer.len() - RECORD_HEAD;
    if body <= PART_MAX {
        let key = log.key(block, 0);
        seal(&key, 1, buffer);
        put(&key, buffer);
        return;
    }
    let parts = body.div_ceil(PART_MAX);
    let count = u16::try_from(parts).ok().filter(|count| *count <= PARTS_MAX);
    let count = count.expect("ingest bounds a payload and the directory a fan-out");
    let mut record = Vec::with_capacity(RECORD_MAX);
    for (part, piece) in buffer[RECORD_HEAD..].chunks(PART_MAX).enumerate() {
        record.clear();
        record.resize(RECORD_HEAD, 0);
        record.extend_from_slice(piece);
        let key = log.key(block, part as u16);
        seal(&key, count, &mut record);
        put(&key, &record);
    }
}
