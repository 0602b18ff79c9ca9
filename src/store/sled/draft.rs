//! One commit in the making: events and entries become blocks, blocks become records.
//! Nothing here touches the disk.

use std::sync::Arc;

use super::{meta::Numbers, writes::Writes};
use crate::{
    clock::Millis,
    delivery::Entry,
    id::{NodeNo, Place},
    store::{
        EventBlock, NewEvent,
        codec::{EntryBlockBuilder, EntryHead, EventBlockBuilder, EventHead, KeyRow, encode_keys},
        history::Summary,
    },
};

/// Of an event beside its payload, about: type, tenant, a route or two, length.
const BESIDE_PAYLOAD: usize = 16;

/// What one commit will write.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) writes: Writes,
    pub(super) is_empty: bool,
    pub(super) accepted_at: Millis,
    /// The numbers after this commit.
    pub(super) next: Numbers,
    pub(super) blocks: Vec<Arc<EventBlock>>,
    pub(super) summaries: Vec<(u64, Summary)>,
    pub(super) keys: Vec<KeyRow>,
    node: NodeNo,
    entries_from: u64,
    event_records: usize,
    /// Payload bytes and events still to come.
    expected: (usize, usize),
    open: Option<EventBlockBuilder>,
}

impl Draft {
    /// For at most so many bytes of payload in so many events.
    pub(super) fn new(
        node: NodeNo,
        accepted_at: Millis,
        next: Numbers,
        expected: (usize, usize),
    ) -> Self {
        Self {
            writes: Writes::default(),
            is_empty: true,
            accepted_at,
            next,
            blocks: Vec::new(),
            summaries: Vec::new(),
            keys: Vec::new(),
            node,
            entries_from: next.entry,
            event_records: 0,
            expected,
            open: None,
        }
    }

    /// Adds an event to the block that is being filled, or to a new one.
    pub(super) fn event(&mut self, event: &NewEvent) -> Place {
        let (bytes, events) = self.expected;
        self.expected = (bytes.saturating_sub(event.payload.len()), events.saturating_sub(1));
        if let Some(place) = self.open.as_mut().and_then(|open| open.push(event)) {
            return place;
        }
        self.finish_block();
        let head = EventHead {
            number: self.next.event,
            node: self.node,
            accepted_at: self.accepted_at,
            entries_from: self.entries_from,
            bytes_before: self.next.event_bytes,
        };
        let builder =
            self.open.insert(EventBlockBuilder::new(head, bytes + events * BESIDE_PAYLOAD));
        builder.push(event).expect("an empty block takes any event")
    }

    /// Adds events that stand or fall with the directory's rows of this commit.
    pub(super) fn with_rows(&mut self, events: &[NewEvent]) {
        for event in events {
            self.event(event);
            self.writes.must_be_whole();
        }
    }

    /// Writes the last event block; no event comes after it.
    pub(super) fn finish_block(&mut self) {
        let Some(open) = self.open.take() else { return };
        self.is_empty = false;
        let block = open.finish(|key, record| {
            self.writes.insert(key, record);
            self.event_records += 1;
        });
        // A batch that was sent is accepted whole or not at all, after a crash too: its producer
        // would send it again, and what is here already would be a second event.
        if self.event_records > 1 {
            self.writes.must_be_whole();
        }
        self.next.event += 1;
        self.next.event_bytes += block.bytes.len() as u64;
        self.blocks.push(Arc::new(block));
    }

    /// Adds entries, in order.
    pub(super) fn entries(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        let mut rest = entries;
        while !rest.is_empty() {
            let number = self.next.entry;
            let head = EntryHead { number, base: first.at, bytes_before: self.next.entry_bytes };
            let mut builder = EntryBlockBuilder::new(head);
            let mut summary = Summary::NOTHING;
            while let Some((entry, others)) = rest.split_first() {
                if !builder.push(entry) {
                    break;
                }
                summary.add(entry.key);
                rest = others;
            }
            self.next.entry += 1;
            self.next.entry_bytes += builder.len() as u64;
            builder.finish(|key, record| self.writes.insert(key, record));
            self.summaries.push((number, summary));
        }
        self.is_empty = false;
    }

    /// Writes the idempotency keys of this commit's events; gives each block's number and how
    /// many keys it holds.
    pub(super) fn finish_keys(&mut self) -> Vec<(u64, usize)> {
        if self.keys.is_empty() {
            return Vec::new();
        }
        // An event without its key would be accepted a second time.
        self.writes.must_be_whole();
        let first = self.next.keys;
        let put = |key: &[u8], record: &[u8]| self.writes.insert(key, record);
        let counts = encode_keys(first, self.accepted_at, &self.keys, put);
        self.next.keys += counts.len() as u64;
        (first..).zip(counts).collect()
    }
}
