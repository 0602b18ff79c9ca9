//! Blocks of the event log.
//!
//! ```text
//! body   events (4, little endian) · node (2) · accepted-at · entries-from · bytes-before · event …
//! event  type (1) · tenant · routes · route … · payload length · payload · the trace, if there is one
//! route  webhook << 1 | enabled; from the second on, the step from the webhook before, zigzag
//! trace  trace id (16) · span id (8) · flags (1) · length of the state · state
//! ```
//!
//! Two bits of a type say more. 0x80: a trace follows the payload. 0x40: the payload was erased; in
//! its place stand eight bytes: when, little endian. Up to format 3 no event had either: such blocks
//! are read as they always were.
//!
//! All numbers without a width are varints. `bytes-before` is what the event log had grown to when
//! the block was written: the size of any stretch of the log is a subtraction, not a scan.
//!
//! The builder copies each payload once, into the buffer that is sealed for the disk and then
//! frozen as [`EventBlock::bytes`].

use bytes::Bytes;

use super::{
    Damage, Log, PART_MAX, RECORD_HEAD, cut,
    wire::{Reader, put_varint, unzigzag, zigzag},
};
use crate::{
    clock::Millis,
    event::EventType,
    id::{NodeNo, Place, TenantNo, WebhookNo},
    store::{EventBlock, EventInBlock, NewEvent, Route},
    trace::TraceContext,
};

/// An index in a place has 16 bits.
const EVENTS_MAX: usize = 1 << 16;

/// Count (4), node (2) and three varints (10 each).
const HEAD_MAX: usize = 36;

/// Type, tenant, routes, payload length.
const EVENT_MIN: usize = 4;

/// Trace id (16), span id (8), flags (1) and the state's length (10).
const TRACE_HEAD_MAX: usize = 35;

/// In an event's type.
const HAS_TRACE: u8 = 0x80;
/// In an event's type: its payload was erased.
const ERASED: u8 = 0x40;

/// What stands in the place of an erased payload.
const ERASED_AT: usize = size_of::<Millis>();

/// What a block says of itself before its first event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventHead {
    pub number: u64,
    pub node: NodeNo,
    pub accepted_at: Millis,
    pub entries_from: u64,
    pub bytes_before: u64,
}

/// A block of the event log in the making.
#[derive(Debug)]
pub struct EventBlockBuilder {
    head: EventHead,
    /// A record's head, then the body.
    buffer: Vec<u8>,
    events: Vec<EventInBlock>,
    routes: Vec<Route>,
}

impl EventBlockBuilder {
    /// An empty block with memory for events that take about so many bytes in all; it is kept with
    /// them for as long as anyone holds a payload.
    pub fn new(head: EventHead, bytes: usize) -> Self {
        let mut buffer = Vec::with_capacity(RECORD_HEAD + HEAD_MAX + bytes.min(PART_MAX));
        buffer.resize(RECORD_HEAD + 4, 0);
        buffer.extend_from_slice(&head.node.0.to_le_bytes());
        put_varint(&mut buffer, head.accepted_at);
        put_varint(&mut buffer, head.entries_from);
        put_varint(&mut buffer, head.bytes_before);
        Self { head, buffer, events: Vec::with_capacity(16), routes: Vec::with_capacity(16) }
    }

    /// Adds an event and says where it stands; none where the block is full and the event belongs
    /// into the next one. An empty block takes any event.
    pub fn push(&mut self, event: &NewEvent) -> Option<Place> {
        if self.events.len() == EVENTS_MAX {
            return None;
        }
        let start = self.buffer.len();
        let has_trace = event.trace.is_some();
        self.buffer.push(event.event_type as u8 | if has_trace { HAS_TRACE } else { 0 });
        put_varint(&mut self.buffer, u64::from(event.tenant.0));
        put_varint(&mut self.buffer, event.routes.len() as u64);
        put_routes(&mut self.buffer, &event.routes);
        put_varint(&mut self.buffer, event.payload.len() as u64);
        let payload = range(self.buffer.len() - RECORD_HEAD, event.payload.len());
        let trace = event.trace.as_deref().map_or(0, trace_len);
        let body = self.buffer.len() + event.payload.len() + trace - RECORD_HEAD;
        if body > PART_MAX && !self.events.is_empty() {
            self.buffer.truncate(start);
            return None;
        }
        self.buffer.extend_from_slice(&event.payload);
        if let Some(trace) = &event.trace {
            put_trace(&mut self.buffer, trace);
        }
        let routes = range(self.routes.len(), event.routes.len());
        self.routes.extend_from_slice(&event.routes);
        let index = self.events.len() as u16;
        self.events.push(EventInBlock {
            tenant: event.tenant,
            event_type: event.event_type,
            erased: false,
            has_trace,
            payload,
            routes,
        });
        Some(Place::new(self.head.number, index))
    }

    /// Bytes of the body so far.
    pub fn len(&self) -> usize {
        self.buffer.len() - RECORD_HEAD
    }

    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Seals the block: its records go to `put`, and the block as the feed will see it comes back.
    pub fn finish(mut self, put: impl FnMut(&[u8], &[u8])) -> EventBlock {
        let count = u32::try_from(self.events.len()).expect("an index has 16 bits");
        self.buffer[RECORD_HEAD..RECORD_HEAD + 4].copy_from_slice(&count.to_le_bytes());
        cut(Log::Events, self.head.number, &mut self.buffer, put);
        EventBlock {
            number: self.head.number,
            node: self.head.node,
            accepted_at: self.head.accepted_at,
            entries_from: self.head.entries_from,
            bytes: Bytes::from(self.buffer).slice(RECORD_HEAD..),
            events: self.events,
            routes: self.routes,
        }
    }
}

/// Decodes the body of event block `number`. Total: never panics.
pub fn decode_event_block(number: u64, bytes: Bytes) -> Result<EventBlock, Damage> {
    let mut reader = Reader::new(&bytes);
    let (head, count) = read_head(number, &mut reader)?;
    if count > EVENTS_MAX || count > reader.left() / EVENT_MIN {
        return Err(Damage::Value("number of events"));
    }
    let mut events = Vec::with_capacity(count);
    let mut routes = Vec::with_capacity(count);
    for _ in 0..count {
        events.push(read_event(&mut reader, &mut routes)?);
    }
    reader.end()?;
    let EventHead { node, accepted_at, entries_from, .. } = head;
    Ok(EventBlock { number, node, accepted_at, entries_from, bytes, events, routes })
}

fn read_event(reader: &mut Reader<'_>, routes: &mut Vec<Route>) -> Result<EventInBlock, Damage> {
    let coded = reader.u8()?;
    let (has_trace, erased) = (coded & HAS_TRACE != 0, coded & ERASED != 0);
    let event_type = EventType::from_u8(coded & !(HAS_TRACE | ERASED));
    let event_type = event_type.ok_or(Damage::Value("event type"))?;
    let tenant = TenantNo(reader.number("tenant")?);
    let first = routes.len();
    read_routes(reader, routes)?;
    let payload_len = reader.count(1)?;
    if erased && payload_len != ERASED_AT {
        return Err(Damage::Value("time of erasure"));
    }
    let payload = range(reader.position(), payload_len);
    reader.take(payload_len)?;
    if has_trace {
        take_trace(reader)?;
    }
    Ok(EventInBlock {
        tenant,
        event_type,
        erased,
        has_trace,
        payload,
        routes: range(first, routes.len() - first),
    })
}

/// Writes event block `number` again without the payloads of the events at `indices`: its records go
/// to `put`. Everything else in it stays byte for byte. None where nothing is left to be erased.
pub fn erase_events(
    number: u64,
    bytes: &Bytes,
    indices: &[u16],
    at: Millis,
    put: impl FnMut(&[u8], &[u8]),
) -> Result<Option<EventBlock>, Damage> {
    let mut reader = Reader::new(bytes);
    let (_, count) = read_head(number, &mut reader)?;
    let mut buffer = vec![0; RECORD_HEAD];
    buffer.extend_from_slice(&bytes[..reader.position()]);
    let (mut routes, mut changed) = (Vec::new(), false);
    for index in 0..count {
        let start = reader.position();
        let event = read_event(&mut reader, &mut routes)?;
        let whole = &bytes[start..reader.position()];
        let is_wanted = indices.iter().any(|wanted| usize::from(*wanted) == index);
        if event.erased || !is_wanted {
            buffer.extend_from_slice(whole);
            continue;
        }
        changed = true;
        let (from, to) = (event.payload.0 as usize - start, event.payload.1 as usize - start);
        let mut length = Vec::new();
        put_varint(&mut length, (to - from) as u64);
        buffer.push(whole[0] | ERASED);
        buffer.extend_from_slice(&whole[1..from - length.len()]);
        put_varint(&mut buffer, ERASED_AT as u64);
        buffer.extend_from_slice(&at.to_le_bytes());
        buffer.extend_from_slice(&whole[to..]);
    }
    reader.end()?;
    if !changed {
        return Ok(None);
    }
    cut(Log::Events, number, &mut buffer, put);
    decode_event_block(number, Bytes::from(buffer).slice(RECORD_HEAD..)).map(Some)
}

/// Only what stands before the first event; the rest is not looked at.
pub fn decode_event_head(number: u64, bytes: &[u8]) -> Result<EventHead, Damage> {
    Ok(read_head(number, &mut Reader::new(bytes))?.0)
}

fn read_head(number: u64, reader: &mut Reader<'_>) -> Result<(EventHead, usize), Damage> {
    let count = u32::from_le_bytes(reader.array()?) as usize;
    let node = NodeNo(u16::from_le_bytes(reader.array()?));
    let accepted_at = reader.varint()?;
    let entries_from = reader.varint()?;
    let bytes_before = reader.varint()?;
    Ok((EventHead { number, node, accepted_at, entries_from, bytes_before }, count))
}

/// A trace context as it lies in a block.
struct StoredTrace<'a> {
    trace_id: [u8; 16],
    span_id: [u8; 8],
    flags: u8,
    state: &'a str,
}

/// The trace context at the front of `bytes`, which goes on behind it.
pub fn read_trace(bytes: &[u8]) -> Result<TraceContext, Damage> {
    let StoredTrace { trace_id, span_id, flags, state } = take_trace(&mut Reader::new(bytes))?;
    Ok(TraceContext { trace_id, span_id, flags, state: state.into() })
}

fn take_trace<'a>(reader: &mut Reader<'a>) -> Result<StoredTrace<'a>, Damage> {
    let (trace_id, span_id, flags) = (reader.array()?, reader.array()?, reader.u8()?);
    let length = reader.count(1)?;
    let state = std::str::from_utf8(reader.take(length)?).map_err(|_| Damage::Value("trace"))?;
    Ok(StoredTrace { trace_id, span_id, flags, state })
}

/// Appends what [`read_trace`] reads.
pub fn put_trace(out: &mut Vec<u8>, trace: &TraceContext) {
    out.extend_from_slice(&trace.trace_id);
    out.extend_from_slice(&trace.span_id);
    out.push(trace.flags);
    put_varint(out, trace.state.len() as u64);
    out.extend_from_slice(trace.state.as_bytes());
}

/// The most bytes that [`put_trace`] writes; a few more than it does.
fn trace_len(trace: &TraceContext) -> usize {
    TRACE_HEAD_MAX + trace.state.len()
}

/// Webhooks of one tenant were mostly registered one after the other: steps are short.
fn put_routes(out: &mut Vec<u8>, routes: &[Route]) {
    let mut before = None;
    for route in routes {
        let no = i64::from(route.webhook.0);
        let step = before.map_or(no as u64, |before| zigzag(no - before));
        put_varint(out, step << 1 | u64::from(route.enabled));
        before = Some(no);
    }
}

fn read_routes(reader: &mut Reader<'_>, routes: &mut Vec<Route>) -> Result<(), Damage> {
    let count = reader.count(1)?;
    routes.reserve(count);
    let mut before: Option<i64> = None;
    for _ in 0..count {
        let coded = reader.varint()?;
        let step = coded >> 1;
        let no = before.map_or(Some(step as i64), |before| before.checked_add(unzigzag(step)));
        let webhook = no.and_then(|no| u32::try_from(no).ok()).ok_or(Damage::Value("webhook"))?;
        routes.push(Route { webhook: WebhookNo(webhook), enabled: coded & 1 == 1 });
        before = Some(i64::from(webhook));
    }
    Ok(())
}

/// A range as a block's index keeps it. A block is far below 4 GiB.
fn range(from: usize, len: usize) -> (u32, u32) {
    let narrow = |at| u32::try_from(at).expect("a block has at most 4096 parts of 16,492 bytes");
    (narrow(from), narrow(from + len))
}
