//! The one row that tells what the logs alone cannot.
//!
//! It is written before retention removes what it stands for, at once when a replay lowers the low
//! watermark, with each change of the directory, and otherwise lazily: an old one costs a longer
//! recovery and nothing else, since block numbers go on after the highest found in the logs as well.

use std::ops::Range;

use crate::{
    clock::Millis,
    id::NodeNo,
    store::{
        codec::{self, Damage, Log, RECORD_HEAD},
        sled::disk::META_KEY,
    },
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Meta {
    /// Made at random when the store was created.
    pub(super) node: NodeNo,
    pub(super) next: Numbers,
    /// Blocks before this one have no open delivery.
    pub(super) low: u64,
    /// What is before these was retired; keys that are left of it are garbage.
    pub(super) kept: Kept,
    /// No block may be accepted earlier, even if every block before it was retired.
    pub(super) accepted_at: Millis,
    /// How often this row was written by a commit: what the mark counts.
    pub(super) revision: u64,
    /// How many rows the directory has.
    pub(super) rows: u64,
}

/// What the next block of each log will be called, and how far the logs have grown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Numbers {
    pub(super) event: u64,
    pub(super) entry: u64,
    pub(super) keys: u64,
    /// Bytes ever written to each log.
    pub(super) event_bytes: u64,
    pub(super) entry_bytes: u64,
}

/// The first block of each log that is not retired.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) event: u64,
    pub(super) entry: u64,
    pub(super) keys: u64,
}

impl Meta {
    pub(super) fn new() -> Self {
        Self {
            node: NodeNo(crate::id::random_u128() as u16),
            next: Numbers::default(),
            low: 0,
            kept: Kept::default(),
            accepted_at: 0,
            revision: 0,
            rows: 0,
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut record = vec![0; RECORD_HEAD];
        record.extend_from_slice(&self.node.0.to_le_bytes());
        for field in self.fields() {
            record.extend_from_slice(&field.to_le_bytes());
        }
        codec::seal(META_KEY, 1, &mut record);
        record
    }

    pub(super) fn decode(record: &[u8]) -> Result<Self, Damage> {
        let (_, body) = codec::open(META_KEY, record)?;
        let (node, rest) = body.split_first_chunk::<2>().ok_or(Damage::Truncated)?;
        let (fields, []) = rest.as_chunks::<8>() else { return Err(Damage::Trailing) };
        let fields: &[[u8; 8]; 12] = fields.try_into().map_err(|_| Damage::Truncated)?;
        let [event, entry, keys, event_bytes, entry_bytes, low, kept @ .., at, revision, rows] =
            fields.map(u64::from_le_bytes);
        let [k_event, k_entry, k_keys] = kept;
        Ok(Self {
            node: NodeNo(u16::from_le_bytes(*node)),
            next: Numbers { event, entry, keys, event_bytes, entry_bytes },
            low,
            kept: Kept { event: k_event, entry: k_entry, keys: k_keys },
            accepted_at: at,
            revision,
            rows,
        })
    }

    fn fields(&self) -> [u64; 12] {
        let Numbers { event, entry, keys, event_bytes, entry_bytes } = self.next;
        let kept = [self.kept.event, self.kept.entry, self.kept.keys];
        let [k_event, k_entry, k_keys] = kept;
        [
            event,
            entry,
            keys,
            event_bytes,
            entry_bytes,
            self.low,
            k_event,
            k_entry,
            k_keys,
            self.accepted_at,
            self.revision,
            self.rows,
        ]
    }

    /// What the next block of a log will be called.
    pub(super) fn next_of(&self, log: Log) -> u64 {
        match log {
            Log::Events => self.next.event,
            Log::Entries => self.next.entry,
            Log::Idempotency => self.next.keys,
        }
    }

    /// No event block is called by a number below this any more. A log that holds nothing begins
    /// there.
    pub(super) fn go_on_from(&mut self, event: u64) {
        if self.kept.event == self.next.event {
            self.kept.event = event.max(self.kept.event);
        }
        self.next.event = event.max(self.next.event);
        self.low = self.low.max(self.kept.event);
    }

    /// The numbers of the event and of the entry blocks.
    pub(super) fn extents(&self) -> (Range<u64>, Range<u64>) {
        (self.kept.event..self.next.event, self.kept.entry..self.next.entry)
    }

    /// The first block number of a log that is not retired.
    pub(super) fn kept_from(&self, log: Log) -> u64 {
        match log {
            Log::Events => self.kept.event,
            Log::Entries => self.kept.entry,
            Log::Idempotency => self.kept.keys,
        }
    }
}
