//! The rows of the newest events, in memory, in the order of the log. Most attempts are recorded
//! soon after their event, so most rows are never changed after they have left it.

use std::ops::Range;

use super::{row::Row, search::Hits, times::Times};
use crate::{
    delivery::EntryFacts,
    id::{DeliveryKey, Place},
    store::{EntryPlace, EventBlock},
};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tail {
    pub(super) times: Times,
    pub(super) rows: Vec<Row>,
    /// Of each block, its first row.
    starts: Vec<u32>,
}

impl Tail {
    pub(super) fn starting_at(block: u64) -> Self {
        Self { times: Times::starting_at(block), ..Self::default() }
    }

    /// What was kept of an earlier process; rows stand in the order of the log.
    pub(super) fn of(times: Times, rows: Vec<Row>) -> Self {
        let row_before = |block: u64| rows.partition_point(|row| row.key.place.block() < block);
        let starts = times.blocks().map(|block| row_before(block) as u32).collect();
        Self { times, rows, starts }
    }

    pub(super) fn end(&self) -> u64 {
        self.times.blocks().end
    }

    /// Adds the next block.
    pub(super) fn push(&mut self, block: &EventBlock) {
        self.push_time(block.accepted_at);
        for index in 0..block.events.len() {
            let index = index as u16;
            let event = block.events[usize::from(index)];
            let place = Place::new(block.number, index);
            let row = |route| Row::new(event.tenant, event.event_type, place, route);
            let routes = block.routes_of(index);
            match routes {
                [] => self.rows.push(row(None)),
                routes => self.rows.extend(routes.iter().map(|route| row(Some(*route)))),
            }
        }
    }

    /// The next block cannot be read, or was removed before it was.
    pub(super) fn push_missing(&mut self) {
        self.push_time(self.times.at.last().copied().unwrap_or(0));
    }

    fn push_time(&mut self, at: u64) {
        // A clock that was set back is not seen in the log; who searches by halves relies on it.
        let at = at.max(self.times.at.last().copied().unwrap_or(0));
        self.times.at.push(at);
        self.starts.push(self.rows.len() as u32);
    }

    /// The first blocks, with so many rows or a block more.
    pub(super) fn first(&self, rows: usize) -> (Times, Vec<Row>) {
        let blocks = self.starts.partition_point(|start| (*start as usize) < rows);
        let end = self.starts.get(blocks).map_or(self.rows.len(), |start| *start as usize);
        let times = Times { first: self.times.first, at: self.times.at[..blocks].to_vec() };
        (times, self.rows[..end].to_vec())
    }

    /// Goes on with this block.
    pub(super) fn forget_before(&mut self, block: u64) {
        let rows = self.rows.split_off(self.rows_of(block..block).start);
        let at = self.times.at.split_off((block - self.times.first) as usize);
        *self = Self::of(Times { first: block, at }, rows);
    }

    /// The entry's delivery is here, if it is anywhere.
    pub(super) fn apply(&mut self, at: EntryPlace, entry: &EntryFacts) {
        let rows = self.rows_of(entry.key.place.block()..entry.key.place.block() + 1);
        if let Some(row) = self.rows[rows].iter_mut().find(|row| row.key == entry.key) {
            row.told.apply(at, entry);
        }
    }

    pub(super) fn row(&self, key: DeliveryKey) -> Option<&Row> {
        let rows = self.rows_of(key.place.block()..key.place.block() + 1);
        self.rows[rows].iter().find(|row| row.key == key)
    }

    pub(super) fn holds(&self, key: DeliveryKey) -> bool {
        key.place.block() >= self.times.first
    }

    /// Offers what is wanted of the blocks that are kept.
    pub(super) fn search(&self, kept: &Range<u64>, hits: &mut Hits<'_>) {
        let (since, until) = (hits.search.since, hits.search.until);
        let within = self.times.within(since, until);
        let asked = hits.search.blocks();
        let start = within.start.max(kept.start).max(asked.start);
        let end = within.end.min(kept.end).min(asked.end);
        let mut blocks = start..end.max(start);
        let newest_first = hits.search.newest_first;
        while let Some(block) = if newest_first { blocks.next_back() } else { blocks.next() } {
            if !hits.may_take(&(block..block + 1)) {
                return;
            }
            let accepted_at = self.times.of(block).unwrap_or(0);
            for row in &self.rows[self.rows_of(block..block + 1)] {
                if hits.search.is_about(row) && hits.search.wants(row) {
                    hits.offer(row, accepted_at);
                }
            }
        }
    }

    fn rows_of(&self, blocks: Range<u64>) -> Range<usize> {
        let start = |block: u64| {
            let at = block.checked_sub(self.times.first).and_then(|at| usize::try_from(at).ok());
            at.and_then(|at| self.starts.get(at)).map_or(self.rows.len(), |start| *start as usize)
        };
        start(blocks.start)..start(blocks.end)
    }
}
