//! Events as they are asked for and answered: in pages from the newest back, or onwards from a place
//! for those who catch up.
//!
//! Whoever catches up relies on seeing everything: so an answer says where it is complete up to,
//! that retention was faster, or that a part of the log could not be read. It never leaves a gap
//! without a word.

use bytes::Bytes;

use super::{EventBlock, Read, Route, Store, StoreError};
use crate::{
    clock::Millis,
    event::{EventType, EventTypes},
    id::{EventId, Place, TenantNo, WebhookNo},
};

/// Which events are wanted. Every set filter must match.
#[derive(Clone, Debug)]
pub struct EventQuery {
    pub tenant: TenantNo,
    /// None of them means any.
    pub event_types: EventTypes,
    /// Those routed to this webhook, whether it was enabled then or not.
    pub webhook: Option<WebhookNo>,
    /// Only those that found a webhook disabled: this one, or any where none is given.
    pub found_disabled: bool,
    /// Of acceptance, wall, inclusive.
    pub since: Option<Millis>,
    pub until: Option<Millis>,
    /// Only events strictly before this place.
    pub before: Option<Place>,
    pub limit: usize,
}

impl EventQuery {
    /// Whether the block's event at `index` passes the filters, those of time and place apart.
    pub(super) fn wants(&self, block: &EventBlock, index: u16) -> bool {
        let event = block.events[usize::from(index)];
        event.tenant == self.tenant
            && (self.event_types.is_empty() || self.event_types.contains(event.event_type))
            && self.wants_routes(block.routes_of(index))
    }

    fn wants_routes(&self, routes: &[Route]) -> bool {
        let asks = self.found_disabled || self.webhook.is_some();
        let wanted = |route: &Route| {
            self.webhook.is_none_or(|webhook| webhook == route.webhook)
                && !(self.found_disabled && route.enabled)
        };
        !asks || routes.iter().any(wanted)
    }
}

#[derive(Clone, Debug, PartialEq, Default)]
pub struct EventPage {
    pub events: Vec<EventRow>,
    pub next: Option<Place>,
}

/// A stretch of the event log in the order of acceptance.
#[derive(Clone, Debug, PartialEq)]
pub struct Following {
    pub events: Vec<EventRow>,
    /// Every event that matches and stands before it was told, now or earlier: where to go on.
    pub next: Place,
    /// Whether there may be more already.
    pub more: bool,
    /// A part of the log could not be read; there may have been events in it.
    pub incomplete: bool,
}

impl Store {
    /// `before` of the query is not heeded.
    pub async fn following(
        &self,
        from: Option<Place>,
        query: EventQuery,
    ) -> Result<Option<Following>, StoreError> {
        self.read(|reply| Read::Following { from, query, reply }).await
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct EventRow {
    pub id: EventId,
    pub tenant: TenantNo,
    pub event_type: EventType,
    /// Empty where it was erased.
    pub payload: Bytes,
    pub erased_at: Option<Millis>,
    pub routes: Vec<Route>,
}

impl EventRow {
    pub(super) fn of(block: &EventBlock, index: u16) -> Self {
        let event = block.events[usize::from(index)];
        Self {
            id: block.event_id(index),
            tenant: event.tenant,
            event_type: event.event_type,
            payload: block.payload(index).unwrap_or_default(),
            erased_at: block.erased_at(index),
            routes: block.routes_of(index).to_vec(),
        }
    }
}
