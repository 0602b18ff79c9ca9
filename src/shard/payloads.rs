//! The event blocks that a shard keeps in memory, so that fresh deliveries need no read.
//!
//! A payload is a slice of its block, and blocks are what is counted and dropped: first in, first
//! out, within a budget of bytes. A delivery whose block is gone reads it back from the store. A
//! slice that an attempt still sends keeps its block alive beyond the budget; the caps on attempts
//! under way bound that.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use crate::{id::ByNumber, store::EventBlock};

#[derive(Debug)]
pub(super) struct Payloads {
    blocks: HashMap<u64, Arc<EventBlock>, ByNumber>,
    /// Block numbers in the order in which they came; each is a key of `blocks`.
    order: VecDeque<u64>,
    bytes: usize,
    budget: usize,
}

impl Payloads {
    /// A budget of 0 keeps nothing.
    pub(super) fn new(budget: usize) -> Self {
        Self { blocks: HashMap::default(), order: VecDeque::new(), bytes: 0, budget }
    }

    pub(super) fn get(&self, block: u64) -> Option<&Arc<EventBlock>> {
        self.blocks.get(&block)
    }

    /// Takes what is left of a block for what it was, where it is here.
    pub(super) fn replace(&mut self, block: Arc<EventBlock>) {
        let Some(here) = self.blocks.get_mut(&block.number) else { return };
        self.bytes = self.bytes - footprint(here) + footprint(&block);
        *here = block;
    }

    pub(super) fn insert(&mut self, block: Arc<EventBlock>) {
        let size = footprint(&block);
        let number = block.number;
        if self.blocks.insert(number, block).is_some() {
            return;
        }
        self.order.push_back(number);
        self.bytes += size;
        while self.bytes > self.budget {
            let Some(oldest) = self.order.pop_front() else { break };
            let block = self.blocks.remove(&oldest).expect("every number in the order has a block");
            self.bytes -= footprint(&block);
        }
    }
}

/// What a block holds in memory: its bytes and its two tables.
fn footprint(block: &EventBlock) -> usize {
    block.bytes.len()
        + size_of_val(block.events.as_slice())
        + size_of_val(block.routes.as_slice())
        + size_of::<EventBlock>()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::id::NodeNo;

    fn block(number: u64, size: usize) -> Arc<EventBlock> {
        Arc::new(EventBlock {
            number,
            node: NodeNo(1),
            accepted_at: 0,
            entries_from: 0,
            bytes: Bytes::from(vec![0; size]),
            events: Vec::new(),
            routes: Vec::new(),
        })
    }

    #[test]
    fn the_oldest_blocks_leave_when_the_budget_is_used_up() {
        let mut payloads = Payloads::new(10_000);
        for number in 0..10 {
            payloads.insert(block(number, 3000));
        }
        let kept: Vec<u64> = (0..10).filter(|n| payloads.get(*n).is_some()).collect();
        assert_eq!(kept, [7, 8, 9]);
        assert!(payloads.bytes <= 10_000);
    }

    #[test]
    fn a_block_that_comes_twice_is_counted_once() {
        let mut payloads = Payloads::new(10_000);
        payloads.insert(block(1, 3000));
        let counted = payloads.bytes;
        payloads.insert(block(1, 3000));
        assert_eq!(payloads.bytes, counted);
    }

    #[test]
    fn what_is_left_of_a_block_takes_its_place_and_no_other() {
        let mut payloads = Payloads::new(10_000);
        payloads.insert(block(1, 3000));
        payloads.replace(block(1, 10));
        payloads.replace(block(2, 10));
        assert_eq!(payloads.get(1).unwrap().bytes.len(), 10);
        assert!(payloads.get(2).is_none());
        assert_eq!(payloads.bytes, footprint(&block(1, 10)));
    }

    #[test]
    fn a_block_larger_than_the_budget_is_not_kept() {
        let mut payloads = Payloads::new(100);
        payloads.insert(block(1, 3000));
        assert!(payloads.get(1).is_none());
        assert_eq!(payloads.bytes, 0);
    }
}
