//! A block of the event log, decoded.

use bytes::Bytes;

use super::{Route, codec};
use crate::{
    clock::Millis,
    event::EventType,
    id::{EventId, NodeNo, Place, TenantNo},
    trace::TraceContext,
};

/// A decoded block of the event log. Payloads are slices of one buffer.
#[derive(Clone, Debug, PartialEq)]
pub struct EventBlock {
    pub number: u64,
    pub node: NodeNo,
    /// Wall time of acceptance; never less than the block's before it.
    pub accepted_at: Millis,
    /// The attempt log's next block number when this block was written: no entry about this block
    /// stands before it.
    pub entries_from: u64,
    pub bytes: Bytes,
    pub events: Vec<EventInBlock>,
    pub routes: Vec<Route>,
}

/// Index ranges into the block it stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventInBlock {
    pub tenant: TenantNo,
    pub event_type: EventType,
    /// Its payload was erased. In its place stands when, in eight bytes, little-endian.
    pub erased: bool,
    /// Whether a trace context stands behind the payload.
    pub has_trace: bool,
    pub payload: (u32, u32),
    pub routes: (u32, u32),
}

impl EventBlock {
    /// The payload of the event at `index`: a slice of the block, not a copy. None where there is no
    /// such event, or it was erased.
    pub fn payload(&self, index: u16) -> Option<Bytes> {
        let event = self.events.get(usize::from(index)).filter(|event| !event.erased)?;
        let (from, to) = event.payload;
        Some(self.bytes.slice(from as usize..to as usize))
    }

    /// When the payload of the event at `index` was erased; none where it was not.
    pub fn erased_at(&self, index: u16) -> Option<Millis> {
        let event = self.events.get(usize::from(index)).filter(|event| event.erased)?;
        let (from, to) = event.payload;
        let at = self.bytes.get(from as usize..to as usize)?;
        Some(Millis::from_le_bytes(at.try_into().ok()?))
    }

    /// The trace that the event at `index` belongs to.
    pub fn trace(&self, index: u16) -> Option<TraceContext> {
        let event = self.events.get(usize::from(index)).filter(|event| event.has_trace)?;
        codec::read_trace(self.bytes.get(event.payload.1 as usize..)?).ok()
    }

    pub fn routes_of(&self, index: u16) -> &[Route] {
        self.events
            .get(usize::from(index))
            .map_or(&[], |e| &self.routes[e.routes.0 as usize..e.routes.1 as usize])
    }

    pub fn event_id(&self, index: u16) -> EventId {
        EventId {
            accepted_at: self.accepted_at,
            node: self.node,
            place: Place::new(self.number, index),
        }
    }
}
