//! What a scrub does to sled's pages and to the room between them.

use std::ops::{Bound, Range};

use sled::{Db, IVec};

use super::{
    disk::{Disk, FILLING_TAG, Fault, META_KEY},
    runway,
};
use crate::store::codec::RECORD_MAX;

/// sled writes a page anew when it has changed so often since the last time.
const CHANGES: usize = 10;

impl Disk {
    /// Changes a little in the pages of the next `limit` keys behind `after`, beside every `every`th
    /// of them. Gives the last one; none where no key is left.
    pub(super) fn touch_pages(
        &self,
        after: &[u8],
        limit: usize,
        every: usize,
    ) -> Result<Option<Vec<u8>>, Fault> {
        let db = self.view().db();
        let from = (Bound::Excluded(after), Bound::Excluded([FILLING_TAG].as_slice()));
        let keys: Vec<IVec> =
            db.range::<&[u8], _>(from).keys().take(limit).collect::<Result<_, _>>()?;
        for key in keys.iter().step_by(every) {
            // A page of a single key has to go too.
            let times = if every == 1 { CHANGES.div_ceil(2) } else { 1 };
            for _ in 0..times {
                touch(db, &beside(key))?;
            }
        }
        Ok(keys.last().map(|key| key.to_vec()))
    }

    /// Writes these records of filling, and hands them to the kernel.
    pub(super) fn fill(&self, records: Range<u32>) -> Result<(), Fault> {
        for n in records {
            self.put(&filling(n), &[0; RECORD_MAX])?;
        }
        self.flush()
    }

    /// Removes up to `limit` records of filling; gives how many there were.
    pub(super) fn clear_filling(&self, limit: usize) -> Result<usize, Fault> {
        let db = self.view().db();
        let keys = db.scan_prefix([FILLING_TAG]).keys().take(limit);
        let keys = keys.collect::<Result<Vec<IVec>, _>>()?;
        for key in &keys {
            db.remove(key)?;
        }
        Ok(keys.len())
    }
}

fn filling(n: u32) -> Vec<u8> {
    [[FILLING_TAG].as_slice(), &n.to_be_bytes()].concat()
}

/// Puts an empty record under the key and takes it away. A crash in between leaves it; all who read
/// take an empty record for one that was not written yet.
fn touch(db: &Db, key: &[u8]) -> Result<(), Fault> {
    db.insert(key, IVec::default())?;
    db.remove(key)?;
    Ok(())
}

/// A key behind this one and, as a rule, in its page, which names nothing: of a block or row the last
/// part that there could be.
fn beside(key: &[u8]) -> Vec<u8> {
    if key == META_KEY || runway::is_fence(key) {
        return [key, &[u8::MAX]].concat();
    }
    let mut beside = key.to_vec();
    let parts = beside.len().saturating_sub(2);
    beside[parts..].fill(u8::MAX);
    beside
}
