//! Told: which blocks of the event log the engine has heard of.
//!
//! At start the store passes over every block in which all has ended. A lane that has spilled reads
//! its stretch of the log back by place, and such a block may lie in the middle of it: what it
//! holds must not be delivered again. Events are told in place order, so it is enough to keep the
//! gaps between the blocks that were told, and only as long as a lane is spilled.
//! (Only within a webhook do places never go back; a block that comes late closes its gap.)
//!
//! Sixteen bytes a gap. A block that held nothing for this shard leaves one, too; that does no harm.

use std::collections::VecDeque;

use crate::id::Place;

#[derive(Debug, Default)]
pub(super) struct Told {
    /// The newest block told; none before the first.
    last: Option<u64>,
    /// First and last block of each gap, rising.
    gaps: VecDeque<(u64, u64)>,
}

impl Told {
    /// Tells of an event, or of more in the same block.
    pub(super) fn note(&mut self, place: Place) {
        let block = place.block();
        match self.last {
            Some(last) if block == last => return,
            Some(last) if block < last => return self.close(block),
            Some(last) if block > last + 1 => self.gaps.push_back((last + 1, block - 1)),
            _ => {}
        }
        self.last = Some(block);
    }

    /// Takes a block out of the gap that holds it, if one does.
    fn close(&mut self, block: u64) {
        let Some(at) = self.gap_of(block) else { return };
        let (first, last) = self.gaps[at];
        self.gaps.remove(at);
        if block < last {
            self.gaps.insert(at, (block + 1, last));
        }
        if first < block {
            self.gaps.insert(at, (first, block - 1));
        }
    }

    fn gap_of(&self, block: u64) -> Option<usize> {
        let at = self.gaps.partition_point(|(_, last)| *last < block);
        self.gaps.get(at).is_some_and(|(first, _)| *first <= block).then_some(at)
    }

    /// Whether its block lies between blocks that were told, and was not.
    pub(super) fn passed_over(&self, place: Place) -> bool {
        self.gap_of(place.block()).is_some()
    }

    /// No lane is spilled: what was passed over so far will never be read.
    pub(super) fn forget(&mut self) {
        self.gaps = VecDeque::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(told: &[u64], expected: &[u64]) {
        let mut all = Told::default();
        for block in told {
            all.note(Place::new(*block, 3));
        }
        let passed = (0..12).filter(|block| all.passed_over(Place::new(*block, 0)));
        assert_eq!(passed.collect::<Vec<_>>(), expected, "after {told:?}");
    }

    #[test]
    fn what_lies_between_was_passed_over_and_what_lies_outside_was_not() {
        check(&[], &[]);
        check(&[5], &[]);
        check(&[5, 5, 6, 7], &[]);
        check(&[2, 4, 5, 9, 9, 10], &[3, 6, 7, 8]);
        check(&[4, 2, 5], &[]);
        check(&[2, 9, 5], &[3, 4, 6, 7, 8]);
        check(&[2, 9, 3, 8, 5, 5], &[4, 6, 7]);
        check(&[2, 4, 3], &[]);
    }

    #[test]
    fn forgetting_keeps_where_it_was() {
        let mut told = Told::default();
        for block in [1, 5, 8] {
            told.note(Place::new(block, 0));
        }
        told.forget();
        told.note(Place::new(10, 0));
        let passed: Vec<_> = (0..12).filter(|b| told.passed_over(Place::new(*b, 0))).collect();
        assert_eq!(passed, [9]);
    }
}
