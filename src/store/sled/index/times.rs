//! When the event blocks of a stretch were accepted. Times never fall from one block to the next.

use std::ops::Range;

use crate::clock::Millis;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Times {
    pub(super) first: u64,
    /// One for each block; that of one that is damaged is the time before it.
    pub(super) at: Vec<Millis>,
}

impl Times {
    pub(super) fn starting_at(first: u64) -> Self {
        Self { first, at: Vec::new() }
    }

    pub(super) fn blocks(&self) -> Range<u64> {
        self.first..self.first + self.at.len() as u64
    }

    pub(super) fn of(&self, block: u64) -> Option<Millis> {
        self.at.get(usize::try_from(block.checked_sub(self.first)?).ok()?).copied()
    }

    /// The blocks that were accepted in this period, both ends included.
    pub(super) fn within(&self, since: Option<Millis>, until: Option<Millis>) -> Range<u64> {
        let before = |is_before: &dyn Fn(Millis) -> bool| {
            self.first + self.at.partition_point(|at| is_before(*at)) as u64
        };
        let start = since.map_or(self.first, |since| before(&|at| at < since));
        let end = until.map_or(self.blocks().end, |until| before(&|at| at <= until));
        start..end.max(start)
    }
}
