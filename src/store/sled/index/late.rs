//! What became known of a segment's deliveries after it was written: retries, the ends of what
//! waited long, replays. Kept in memory until the segment is written anew.

use std::collections::{HashMap, HashSet};

use super::row::{Mask, Row, Told};
use crate::{delivery::EntryFacts, id::DeliveryKey, store::EntryPlace};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Late {
    told: HashMap<DeliveryKey, Amendment>,
    /// What it adds to the masks of the segment's chunks; they end with the last that is changed.
    masks: Vec<Mask>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Amendment {
    /// The chunk in which the delivery's row stands.
    pub(super) chunk: u32,
    pub(super) told: Told,
}

impl Late {
    pub(super) fn len(&self) -> usize {
        self.told.len()
    }

    /// Takes in an entry about a delivery whose row is in this chunk.
    pub(super) fn apply(&mut self, at: EntryPlace, entry: &EntryFacts, chunk: u32) {
        let new = Amendment { chunk, told: Told::NOTHING };
        let amendment = self.told.entry(entry.key).or_insert(new);
        amendment.told.apply(at, entry);
        let mask = amendment.told.mask();
        self.mark(chunk, mask);
    }

    /// Takes in what was kept of an earlier process.
    pub(super) fn put(&mut self, key: DeliveryKey, amendment: Amendment) {
        self.told.insert(key, amendment);
        self.mark(amendment.chunk, amendment.told.mask());
    }

    /// What there is of these deliveries.
    pub(super) fn only(&self, keys: &HashSet<DeliveryKey>) -> Self {
        let mut only = Self::default();
        for key in keys {
            if let Some(amendment) = self.told.get(key) {
                only.put(*key, *amendment);
            }
        }
        only
    }

    fn mark(&mut self, chunk: u32, mask: Mask) {
        let chunk = chunk as usize;
        if self.masks.len() <= chunk {
            self.masks.resize(chunk + 1, Mask::default());
        }
        self.masks[chunk] = self.masks[chunk].or(mask);
    }

    pub(super) fn mask(&self, chunk: usize) -> Mask {
        self.masks.get(chunk).copied().unwrap_or_default()
    }

    /// What a row has become.
    pub(super) fn amend(&self, row: &mut Row) {
        if let Some(later) = self.told.get(&row.key) {
            row.told.add(&later.told);
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&DeliveryKey, &Amendment)> {
        self.told.iter()
    }
}
