//! How many deliveries of each event block are not settled yet.
//!
//! The low watermark is the first block with an open delivery; everything before it needs no
//! recovery and may be retired. To pass a block too early loses a delivery at the next restart, so
//! a count alone is not trusted: if a delivery were settled twice by mistake, it would stand in for
//! another one. Beside the count each block keeps a **mark**, the exclusive-or of a hash of every
//! open delivery. Settling and reopening toggle it. A block is done only when the count is zero
//! *and* the mark is: a mistake leaves the block open, which costs a closer look at the next start
//! and never a delivery.
//!
//! Twenty bytes for a block with open deliveries, nothing for the others.

use std::collections::BTreeMap;

use crate::{
    delivery::{Entry, Verdict},
    id::{DeliveryKey, WebhookNo},
    store::EventBlock,
};

/// One block's open deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Tally {
    left: i64,
    mark: u64,
}

impl Tally {
    /// Every enabled route of a block is an open delivery.
    pub(super) fn of(block: &EventBlock) -> Self {
        let mut tally = Self::default();
        for index in 0..block.events.len() {
            let index = index as u16;
            let routes = block.routes_of(index).iter().filter(|route| route.enabled);
            routes.for_each(|route| tally.open(index, route.webhook));
        }
        tally
    }

    /// Adds an open delivery.
    pub(super) fn open(&mut self, index: u16, webhook: WebhookNo) {
        self.left += 1;
        self.mark ^= mark(index, webhook);
    }

    pub(super) fn is_done(self) -> bool {
        self.left <= 0 && self.mark == 0
    }

    /// What an entry changes.
    pub(super) fn apply(&mut self, key: DeliveryKey, verdict: Verdict) {
        let change = match verdict {
            Verdict::Delivered | Verdict::Failed(_) | Verdict::Canceled(_) => -1,
            Verdict::Reopened => 1,
            Verdict::RetryAt(_) => return,
        };
        self.left += change;
        self.mark ^= mark(key.place.index(), key.webhook);
    }

    /// Adds what entries changed to what the block began with.
    pub(super) fn merge(&mut self, other: Self) {
        self.left += other.left;
        self.mark ^= other.mark;
    }
}

/// All blocks with open deliveries.
#[derive(Clone, Debug, Default)]
pub(super) struct Tallies {
    open: BTreeMap<u64, Tally>,
}

impl Tallies {
    pub(super) fn add(&mut self, block: u64, tally: Tally) {
        if !tally.is_done() {
            self.open.insert(block, tally);
        }
    }

    /// Takes an entry in. `oldest` is the first block that the log still has: what is older is
    /// gone, and a replay of it must not hold the watermark.
    pub(super) fn apply(&mut self, entry: &Entry, oldest: u64) {
        let DeliveryKey { place, .. } = entry.key;
        if place.block() < oldest {
            return;
        }
        let reopens = entry.verdict == Verdict::Reopened;
        if !reopens && !self.open.contains_key(&place.block()) {
            return;
        }
        let tally = self.open.entry(place.block()).or_default();
        tally.apply(entry.key, entry.verdict);
        if tally.is_done() {
            self.open.remove(&place.block());
        }
    }

    /// The first block with an open delivery.
    pub(super) fn low(&self) -> Option<u64> {
        self.open.keys().next().copied()
    }
}

/// SplitMix64's finisher over a delivery's name within its block: never the same for two of them,
/// and sums of a few are practically never zero.
fn mark(index: u16, webhook: WebhookNo) -> u64 {
    let name = u64::from(index) << 32 | u64::from(webhook.0);
    let mut z = name.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}
