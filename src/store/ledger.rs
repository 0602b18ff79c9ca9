//! The idempotency keys of the window, in memory.
//!
//! The store's writer owns it, so looking and inserting cannot race: a hundred appends of one key
//! at once are one event. Keys are taken in when their event joins a commit; a commit that fails
//! poisons the store, so nobody is ever answered from an entry that did not become durable.
//!
//! Bounded twice: by the window, and by a number of keys beyond which the oldest is forgotten.
//!
//! A key and its event share a commit, in blocks of their own ([`super::codec`]); the ledger counts
//! which of those blocks still hold a remembered key, so that the others can be removed.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::{
    clock::Millis,
    id::{EventId, NodeNo, Place},
    store::{AppendError, Appended, IdempotencyKey, NewEvent, codec::KeyRow},
};

/// What is to be done with one event of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// Append it; the hash is of its payload, where it has a key.
    New(Option<u64>),
    /// It was appended before.
    Replay(Appended),
    /// It has the key and the payload of an earlier event of this very batch.
    SameAs(usize),
}

#[derive(Debug)]
pub(super) struct Ledger {
    node: NodeNo,
    window: Millis,
    max_keys: usize,
    known: HashMap<[u8; 16], Known>,
    /// In the order of acceptance. A key that came again after its window stands here twice; the
    /// place tells which one is meant.
    order: VecDeque<([u8; 16], Place)>,
    blocks: VecDeque<Block>,
    /// Keys forgotten before their window ended, since the last look.
    forgotten: u64,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    accepted_at: Millis,
    payload: u64,
    place: Place,
    deliveries: u32,
}

/// An idempotency block, and how many of its keys stand in `order`.
#[derive(Debug)]
struct Block {
    number: u64,
    keys: usize,
}

impl Ledger {
    pub(super) fn new(node: NodeNo, window: std::time::Duration, max_keys: usize) -> Self {
        Self {
            node,
            window: window.as_millis() as Millis,
            max_keys,
            known: HashMap::new(),
            order: VecDeque::new(),
            blocks: VecDeque::new(),
            forgotten: 0,
        }
    }

    /// Decides for each event of a batch; refuses all of it where a key comes with a payload that
    /// is not the first one's. Changes nothing.
    pub(super) fn plan(&self, events: &[NewEvent], now: Millis) -> Result<Vec<Plan>, AppendError> {
        let mut plans = Vec::with_capacity(events.len());
        let mut reused = Vec::new();
        let mut within: HashMap<[u8; 16], (usize, u64)> = HashMap::new();
        for (index, event) in events.iter().enumerate() {
            let Some(IdempotencyKey(key)) = event.key else {
                plans.push(Plan::New(None));
                continue;
            };
            let payload = payload_hash(&event.payload);
            let (plan, first) = if let Some(known) = self.find(&key, now) {
                (Plan::Replay(self.answer(known)), known.payload)
            } else if let Some(&(earlier, first)) = within.get(&key) {
                (Plan::SameAs(earlier), first)
            } else {
                within.insert(key, (index, payload));
                (Plan::New(Some(payload)), payload)
            };
            if first != payload {
                reused.push(index);
            }
            plans.push(plan);
        }
        if reused.is_empty() { Ok(plans) } else { Err(AppendError::KeyReused(reused)) }
    }

    /// Takes in a key whose event joins the running commit.
    pub(super) fn insert(&mut self, row: KeyRow, accepted_at: Millis) {
        let KeyRow { key: IdempotencyKey(key), payload, place, deliveries } = row;
        self.known.insert(key, Known { accepted_at, payload, place, deliveries });
        self.order.push_back((key, place));
    }

    /// Says that the last `keys` keys taken in stand in block `number`.
    pub(super) fn stored(&mut self, number: u64, keys: usize) {
        self.blocks.push_back(Block { number, keys });
    }

    /// Forgets what is out of the window or beyond the number of keys.
    pub(super) fn expire(&mut self, now: Millis) {
        while let Some(&(key, place)) = self.order.front() {
            let current = self.known.get(&key).filter(|known| known.place == place);
            let expired = current.is_none_or(|known| self.is_expired(known, now));
            if !expired && self.known.len() <= self.max_keys {
                break;
            }
            self.forgotten += u64::from(!expired);
            if current.is_some() {
                self.known.remove(&key);
            }
            self.order.pop_front();
            if let Some(block) = self.blocks.front_mut() {
                block.keys -= 1;
                if block.keys == 0 {
                    self.blocks.pop_front();
                }
            }
        }
    }

    /// The first idempotency block that is still needed; none where none is.
    pub(super) fn oldest_block(&self) -> Option<u64> {
        self.blocks.front().map(|block| block.number)
    }

    /// How many keys were forgotten early since the last call.
    pub(super) fn take_forgotten(&mut self) -> u64 {
        std::mem::take(&mut self.forgotten)
    }

    fn find(&self, key: &[u8; 16], now: Millis) -> Option<&Known> {
        self.known.get(key).filter(|known| !self.is_expired(known, now))
    }

    fn is_expired(&self, known: &Known, now: Millis) -> bool {
        known.accepted_at.saturating_add(self.window) <= now
    }

    fn answer(&self, known: &Known) -> Appended {
        let Known { accepted_at, place, deliveries, .. } = *known;
        Appended { id: EventId { accepted_at, node: self.node, place }, deliveries, replayed: true }
    }
}

/// 64 bits of SHA-256: two different payloads under one key meet once in 2^64 mistakes.
fn payload_hash(payload: &Bytes) -> u64 {
    let digest = Sha256::digest(payload);
    u64::from_le_bytes(digest[..8].try_into().expect("a SHA-256 has 32 bytes"))
}
