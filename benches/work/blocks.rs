//! Full blocks of both logs, to be written and to be read.

use std::hint::black_box;

use bytes::Bytes;
use senderz_gateway::{
    delivery::{Attempt, Entry, KeptResponse, Phases, Protocol, Verdict},
    event::EventType,
    id::{DeliveryKey, Place, TenantNo, WebhookNo},
    store::{
        EventBlock, NewEvent, Route,
        codec::{
            EntryBlockBuilder, EntryHead, EventBlockBuilder, EventHead, Log, PART_MAX, RECORD_HEAD,
            decode_entries, decode_event_block, open,
        },
    },
};

use super::{NODE, NOW, payload};

const NUMBER: u64 = 1_234_567;
const BYTES_BEFORE: u64 = 7_000_000_000;

/// Events and entries in the blocks here: as many as fit.
pub(crate) const EVENTS: usize = 31;
pub(crate) const ENTRIES: usize = 203;

/// A block of events: payloads of 512 bytes, one route each.
pub(crate) struct EventsBlock {
    events: Vec<NewEvent>,
    record: Bytes,
}

impl EventsBlock {
    pub(crate) fn new() -> Self {
        let route = Route { webhook: WebhookNo(4321), enabled: true };
        let event = NewEvent {
            tenant: TenantNo(23),
            event_type: EventType::Delivered,
            payload: Bytes::from(payload(512)),
            key: None,
            trace: None,
            routes: [route].into(),
        };
        let mut builder = builder();
        let fitting = std::iter::from_fn(|| builder.push(&event).map(|_| event.clone()));
        let mut block = Self { events: fitting.collect(), record: Bytes::new() };
        assert_eq!(block.events.len(), EVENTS);
        block.record = written(|put| drop(block.encode_to(put)));
        block
    }

    pub(crate) fn encode(&self) -> EventBlock {
        self.encode_to(&mut |record| {
            black_box(record);
        })
    }

    fn encode_to(&self, put: &mut dyn FnMut(&[u8])) -> EventBlock {
        let mut builder = builder();
        for event in &self.events {
            black_box(builder.push(event));
        }
        builder.finish(|_, record| put(record))
    }

    pub(crate) fn decode(&self) -> EventBlock {
        decode_event_block(NUMBER, body(Log::Events, &self.record)).expect("it was encoded here")
    }
}

fn builder() -> EventBlockBuilder {
    let head = EventHead {
        number: NUMBER,
        node: NODE,
        accepted_at: NOW,
        entries_from: NUMBER,
        bytes_before: BYTES_BEFORE,
    };
    EventBlockBuilder::new(head, PART_MAX)
}

/// A block of attempts: plain successes on a reused connection.
pub(crate) struct EntryBlock {
    entries: Vec<Entry>,
    record: Bytes,
}

impl EntryBlock {
    pub(crate) fn new() -> Self {
        let mut builder = entry_builder();
        let fitting = (0..).map(entry).take_while(|entry| builder.push(entry));
        let mut block = Self { entries: fitting.collect(), record: Bytes::new() };
        assert_eq!(block.entries.len(), ENTRIES);
        block.record = written(|put| block.encode_to(put));
        block
    }

    pub(crate) fn encode(&self) {
        self.encode_to(&mut |record| {
            black_box(record);
        });
    }

    fn encode_to(&self, put: &mut dyn FnMut(&[u8])) {
        let mut builder = entry_builder();
        for entry in &self.entries {
            let fits = builder.push(entry);
            assert!(fits, "as many as fitted before");
        }
        builder.finish(|_, record| put(record));
    }

    pub(crate) fn decode(&self) -> Vec<Entry> {
        decode_entries(NUMBER, body(Log::Entries, &self.record)).expect("it was encoded here")
    }
}

fn entry_builder() -> EntryBlockBuilder {
    EntryBlockBuilder::new(EntryHead { number: NUMBER, base: NOW, bytes_before: BYTES_BEFORE })
}

fn entry(n: u16) -> Entry {
    let attempt = Attempt {
        number: 1,
        at: NOW + u64::from(n) / 4,
        status: Some(200),
        error: None,
        latency: 850 + u32::from(n),
        phases: Phases { queue: 120, first_byte: 800 + u32::from(n), ..Phases::default() },
        response: KeptResponse {
            headers: Bytes::from_static(b"content-type: application/json\r\ncontent-length: 2\r\n"),
            body: Bytes::from_static(b"{}"),
            truncated: false,
        },
        peer: Some(([192, 0, 2, 1], 8443).into()),
        protocol: Protocol::Http1,
        reused_connection: true,
    };
    Entry {
        key: DeliveryKey { place: Place::new(NUMBER, n % 12), webhook: WebhookNo(4321) },
        at: NOW + u64::from(n) / 4 + 1,
        verdict: Verdict::Delivered,
        attempt: Some(attempt),
    }
}

/// The one record that `write` makes.
fn written(write: impl FnOnce(&mut dyn FnMut(&[u8]))) -> Bytes {
    let mut records = Vec::new();
    write(&mut |record| records.push(Bytes::copy_from_slice(record)));
    assert_eq!(records.len(), 1, "what fits into a block is one record");
    records.remove(0)
}

/// A record's share of the block, after the check that every read makes.
fn body(log: Log, record: &Bytes) -> Bytes {
    open(&log.key(NUMBER, 0), record).expect("it was sealed here");
    record.slice(RECORD_HEAD..)
}
