//! The timer wheel: what is due when, for millions of entries.
//!
//! A deadline's 64 bits are eleven digits of six bits, and a level is a digit: an entry stands at
//! the level of the highest digit in which its deadline differs from `elapsed`, in the slot that
//! this digit names. So a deadline of any distance has a place (nothing is clamped and nothing
//! wraps around), everything at a level is due before anything at a higher one, and the first
//! occupied slot of the lowest occupied level comes next. Two bit masks find it; a jump over years
//! costs no more than one over a millisecond.
//!
//! An entry is 32 bytes in a slab. The first entry of a slot's list names its slot where the others
//! name their predecessor, so an entry can be taken out from anywhere in constant time without
//! knowing at which level it stands.
//!
//! Invariants:
//! - At level 0 a slot is one millisecond: its entries all have the same deadline.
//! - At higher levels every occupied slot lies after `elapsed`, except the one being spread.
//! - What is inserted with a deadline before `elapsed` is kept apart, sorted, and comes first.
//!   That costs O(log n) instead of O(1) and is rare: a due time in the past.
//!
//! Spreading a high slot over the levels below moves at most `SPREAD_PER_POLL` entries per poll,
//! so that a million retries for the same hour do not stop a shard when that hour comes.
//!
//! Not done: the order of entries with equal deadlines is not promised, and the slab gives memory
//! back only when the last entry leaves.

use std::collections::BTreeSet;

use crate::clock::Millis;

const BITS: u32 = 6;
const SLOTS: usize = 1 << BITS;
const LEVELS: usize = u64::BITS.div_ceil(BITS) as usize;

/// Entries moved to lower levels by one [`Wheel::poll`].
const SPREAD_PER_POLL: usize = if cfg!(test) { 5 } else { 8192 };
/// Entries' worth of memory that an empty wheel keeps.
const KEPT_WHEN_EMPTY: usize = 256;

/// Ends a list.
const NONE: u32 = u32::MAX;
/// In `prev`: the slab's entry is free.
const VACANT: u32 = u32::MAX;
/// In `prev`: the entry stands in `overdue`, not in a slot.
const OVERDUE: u32 = u32::MAX - 1;
/// In `prev`: the entry is its slot's first; the slot's number is in the other bits.
const FIRST: u32 = 1 << 31;

/// An entry's index in the slab. It means something until the entry is canceled or polled; after
/// that the same id may name another entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimerId(u32);

#[derive(Clone, Copy, Debug)]
struct Entry<T> {
    deadline: Millis,
    item: T,
    prev: u32,
    next: u32,
}

const _: () = assert!(size_of::<Entry<[u64; 2]>>() <= 32, "a waiting retry costs 32 bytes");

#[derive(Debug)]
pub struct Wheel<T> {
    /// Everything before this was handed out, but for `overdue`. Never goes back.
    elapsed: Millis,
    entries: Vec<Entry<T>>,
    /// The first free entry of the slab; free entries are linked by `next`.
    free: u32,
    len: usize,
    /// The first entry of each slot; slot `s` of level `l` is at `l * SLOTS + s`.
    slots: Box<[u32; LEVELS * SLOTS]>,
    /// One bit for each slot that has entries.
    occupied: [u64; LEVELS],
    /// The slot that is being spread over the levels below it. No entry is handed out before that
    /// is done, since any of those left may be the first.
    spreading: Option<usize>,
    overdue: BTreeSet<(Millis, u32)>,
}

impl<T: Copy> Wheel<T> {
    pub fn new(now: Millis) -> Self {
        Self {
            elapsed: now,
            entries: Vec::new(),
            free: NONE,
            len: 0,
            slots: Box::new([NONE; LEVELS * SLOTS]),
            occupied: [0; LEVELS],
            spreading: None,
            overdue: BTreeSet::new(),
        }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A deadline that has passed comes with the next poll.
    pub fn insert(&mut self, deadline: Millis, item: T) -> TimerId {
        let entry = Entry { deadline, item, prev: VACANT, next: NONE };
        let index = if self.free == NONE {
            let index = u32::try_from(self.entries.len()).ok().filter(|index| *index < FIRST);
            self.entries.push(entry);
            index.expect("2^31 entries are 64 GiB; the queue limits are far below")
        } else {
            let index = self.free;
            let vacant = &mut self.entries[index as usize];
            self.free = std::mem::replace(vacant, entry).next;
            index
        };
        self.place(index);
        self.len += 1;
        TimerId(index)
    }

    /// Takes an entry out. The caller vouches that `id` was not polled or canceled before: a free
    /// id gives none, but one in use again gives the other entry.
    pub fn cancel(&mut self, id: TimerId) -> Option<T> {
        let item = *self.get(id)?;
        self.remove(id.0);
        Some(item)
    }

    pub fn get(&self, id: TimerId) -> Option<&T> {
        let entry = self.entries.get(id.0 as usize)?;
        (entry.prev != VACANT).then_some(&entry.item)
    }

    /// Appends up to `limit` entries with deadlines up to and including `now`, earliest first. True
    /// where more may be due: poll again with the same `now`, even if nothing was appended. A `now`
    /// before `elapsed` counts as `elapsed`.
    pub fn poll(&mut self, now: Millis, limit: usize, due: &mut Vec<(Millis, T)>) -> bool {
        let mut room = limit;
        let mut moves = SPREAD_PER_POLL;
        while let Some((_, index)) = self.overdue.first().copied() {
            if room == 0 {
                return true;
            }
            due.push(self.remove(index));
            room -= 1;
        }
        let now = now.max(self.elapsed);
        while let Some((slot, start)) = self.first_slot()
            && start <= now
        {
            self.elapsed = start;
            if slot < SLOTS {
                if room == 0 {
                    return true;
                }
                due.push(self.remove(self.slots[slot]));
                room -= 1;
            } else {
                self.spreading = Some(slot);
                if moves == 0 {
                    return true;
                }
                // Its digits down to this level are those of `elapsed` now, so it goes lower.
                let index = self.slots[slot];
                self.unlink(index);
                self.place(index);
                moves -= 1;
            }
        }
        self.elapsed = now;
        false
    }

    /// When to poll next, never later than the earliest deadline; earlier where a slot of a higher
    /// level must be spread first. None where nothing waits.
    pub fn next(&self) -> Option<Millis> {
        let overdue = self.overdue.first().map(|(deadline, _)| *deadline);
        overdue.or_else(|| self.first_slot().map(|(_, start)| start))
    }

    /// Every entry in no particular order, for the rare search by content.
    pub fn iter(&self) -> impl Iterator<Item = (TimerId, Millis, &T)> {
        (0..)
            .zip(&self.entries)
            .filter(|(_, entry)| entry.prev != VACANT)
            .map(|(index, entry)| (TimerId(index), entry.deadline, &entry.item))
    }

    /// The slot that comes next, and when it starts (for the one being spread: `elapsed`).
    fn first_slot(&self) -> Option<(usize, Millis)> {
        if let Some(slot) = self.spreading {
            return Some((slot, self.elapsed));
        }
        let level = self.occupied.iter().position(|mask| *mask != 0)?;
        let digit = self.occupied[level].trailing_zeros();
        let shift = level as u32 * BITS;
        let above = self.elapsed.checked_shr(shift + BITS).unwrap_or(0);
        let start = above.checked_shl(shift + BITS).unwrap_or(0) | u64::from(digit) << shift;
        Some((level * SLOTS + digit as usize, start))
    }

    /// Puts an unlinked entry in the slot of its deadline.
    fn place(&mut self, index: u32) {
        let deadline = self.entries[index as usize].deadline;
        if deadline < self.elapsed {
            self.entries[index as usize].prev = OVERDUE;
            self.overdue.insert((deadline, index));
            return;
        }
        // The lowest digit stands for "no digit differs", too.
        let differing = (deadline ^ self.elapsed) | 1;
        let level = differing.ilog2() / BITS;
        let digit = (deadline >> (level * BITS)) as usize % SLOTS;
        let slot = level as usize * SLOTS + digit;
        let next = std::mem::replace(&mut self.slots[slot], index);
        if next != NONE {
            self.entries[next as usize].prev = index;
        }
        let entry = &mut self.entries[index as usize];
        entry.prev = FIRST | slot as u32;
        entry.next = next;
        self.occupied[level as usize] |= 1 << digit;
    }

    fn unlink(&mut self, index: u32) {
        let Entry { deadline, prev, next, .. } = self.entries[index as usize];
        if prev == OVERDUE {
            self.overdue.remove(&(deadline, index));
            return;
        }
        if next != NONE {
            self.entries[next as usize].prev = prev;
        }
        if prev & FIRST == 0 {
            self.entries[prev as usize].next = next;
            return;
        }
        let slot = (prev & !FIRST) as usize;
        self.slots[slot] = next;
        if next == NONE {
            self.occupied[slot / SLOTS] &= !(1 << (slot % SLOTS));
            if self.spreading == Some(slot) {
                self.spreading = None;
            }
        }
    }

    /// Takes a live entry out and frees its place in the slab.
    fn remove(&mut self, index: u32) -> (Millis, T) {
        self.unlink(index);
        let entry = &mut self.entries[index as usize];
        let taken = (entry.deadline, entry.item);
        entry.prev = VACANT;
        entry.next = std::mem::replace(&mut self.free, index);
        self.len -= 1;
        if self.len == 0 {
            self.entries.clear();
            self.entries.shrink_to(KEPT_WHEN_EMPTY);
            self.free = NONE;
        }
        taken
    }
}

#[cfg(test)]
mod tests;
