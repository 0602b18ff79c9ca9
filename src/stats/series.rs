//! The counts of one webhook, tenant or shard over time: a few numbers for each stretch in which
//! anything happened.

use super::counts::{CELLS, Counts, Moves};

/// How many stretches of five minutes an hour has.
pub(super) const SLOTS_PER_HOUR: u32 = 12;
/// Hours that are kept, the one under way included.
pub(super) const HOURS: u32 = 72;

/// A stretch of time: five minutes, or, once it is older than an hour or two, the whole hour.
#[derive(Clone, Debug)]
pub(super) struct Bucket {
    /// When it begins, in stretches of five minutes since 1970.
    pub(super) slot: u32,
    /// Saturating: a stretch of four thousand million attempts is no longer counted, only many.
    cells: [u32; CELLS],
}

impl Bucket {
    fn hour(&self) -> u32 {
        self.slot / SLOTS_PER_HOUR
    }

    fn count(&mut self, moves: Moves) {
        for cell in moves.iter() {
            self.cells[cell] = self.cells[cell].saturating_add(1);
        }
    }

    fn merge(&mut self, other: &Self) {
        for (sum, more) in self.cells.iter_mut().zip(other.cells) {
            *sum = sum.saturating_add(more);
        }
    }

    pub(super) fn add_to(&self, counts: &mut Counts) {
        counts.add(self.cells.iter().map(|cell| u64::from(*cell)));
    }
}

/// The oldest first.
#[derive(Debug, Default)]
pub(super) struct Series(Vec<Bucket>);

impl Series {
    /// Time must not go back from one call to the next.
    pub(super) fn count(&mut self, slot: u32, moves: Moves) {
        if self.0.last().is_none_or(|last| last.slot < slot) {
            let hour = slot / SLOTS_PER_HOUR;
            self.tidy(hour.saturating_sub(1), oldest_hour(hour));
            // As many as are needed: a vector that doubles would hold memory for nothing.
            self.0.reserve_exact(1);
            self.0.push(Bucket { slot, cells: [0; CELLS] });
        }
        let last = self.0.last_mut().expect("one was made");
        last.count(moves);
    }

    /// Makes one stretch of each hour before `fine_from`, and forgets those before `oldest`.
    pub(super) fn tidy(&mut self, fine_from: u32, oldest: u32) {
        self.0.retain(|bucket| bucket.hour() >= oldest);
        self.0.dedup_by(|later, earlier| {
            let is_one = later.hour() == earlier.hour() && later.hour() < fine_from;
            if is_one {
                earlier.merge(later);
            }
            is_one
        });
        for bucket in self.0.iter_mut().take_while(|bucket| bucket.hour() < fine_from) {
            bucket.slot = bucket.hour() * SLOTS_PER_HOUR;
        }
    }

    /// Gives memory back that tidying has left.
    pub(super) fn shrink(&mut self) {
        self.0.shrink_to_fit();
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Bucket> {
        self.0.iter()
    }

    pub(super) fn hours(&self) -> impl Iterator<Item = u32> {
        self.0.iter().map(Bucket::hour)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Buckets that memory is held for.
    pub(super) fn held(&self) -> usize {
        self.0.capacity()
    }
}

/// The first hour of those that are kept.
pub(super) fn oldest_hour(hour: u32) -> u32 {
    (hour + 1).saturating_sub(HOURS)
}
