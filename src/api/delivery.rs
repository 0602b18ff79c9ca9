//! One delivery: found by its id, for its owner only, and as the API shows it.

use std::sync::Arc;

use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{
    ApiState, Problem,
    access::{Id, Scope},
    attempt::{AttemptView, LastAttemptView},
    openapi::DeliveryStatus,
    problem::Object,
};
use crate::{
    clock::{Millis, rfc3339},
    delivery::{CancelReason, Entry, State},
    event::EventType,
    id::{DeliveryId, EventId, Place},
    openapi::words,
    store::{DeliveryRow, EventBlock, EventInBlock, Route},
};

/// How many attempts one answer shows, the newest; replays can make any number.
const MAX_ATTEMPTS_SHOWN: usize = 100;

/// A delivery of the caller's tenant, as the event log tells it.
#[derive(Clone, Debug)]
pub(super) struct Located {
    pub(super) id: DeliveryId,
    pub(super) event: EventId,
    pub(super) event_type: EventType,
    route: Route,
    block: Arc<EventBlock>,
}

/// Finds a delivery. Whatever is wrong with an id, the answer is the same as for another tenant's.
pub(super) async fn locate(api: &ApiState, scope: &Scope, id: &Id) -> Result<Located, Problem> {
    let missing = || Problem::no_such(Object::Delivery);
    let id: DeliveryId = id.parse(Object::Delivery)?;
    let (block, event) = locate_event(api, scope, id.key.place).await?.ok_or_else(missing)?;
    let index = id.key.place.index();
    let routes = block.routes_of(index);
    let route = routes.iter().find(|route| route.webhook == id.key.webhook);
    match route {
        Some(route) if id.node == block.node => Ok(Located {
            id,
            event: block.event_id(index),
            event_type: event.event_type,
            route: *route,
            block,
        }),
        _ => Err(missing()),
    }
}

/// The event at a place, where there is one and it is the caller's tenant's.
pub(super) async fn locate_event(
    api: &ApiState,
    scope: &Scope,
    place: Place,
) -> Result<Option<(Arc<EventBlock>, EventInBlock)>, Problem> {
    let Some(block) = api.store.block(place.block()).await? else { return Ok(None) };
    let event = block.events.get(usize::from(place.index())).copied();
    Ok(event.filter(|event| event.tenant == scope.no()).map(|event| (block, event)))
}

impl Located {
    pub(super) async fn entries(&self, api: &ApiState) -> Result<Vec<Entry>, Problem> {
        let key = self.id.key;
        Ok(api.store.entries(key.place, Some(key.webhook)).await?)
    }

    pub(super) fn standing(&self, entries: &[Entry]) -> Standing {
        Standing::of(self.route, entries)
    }

    pub(super) fn view(&self, api: &ApiState, entries: &[Entry]) -> DeliveryView {
        let standing = self.standing(entries);
        DeliveryView::new(api, self.id, self.event, self.event_type, standing, last(entries))
    }

    pub(super) fn erased_at(&self) -> Option<Millis> {
        self.block.erased_at(self.id.key.place.index())
    }

    /// The payload, written into the answer as it is. JSON has no room for white space around a
    /// value, so what stood before and after it is left out.
    pub(super) fn payload(&self) -> Option<Box<RawValue>> {
        raw(&self.block.payload(self.id.key.place.index())?)
    }
}

/// None where the bytes are not JSON, which ingest refuses.
pub(super) fn raw(payload: &[u8]) -> Option<Box<RawValue>> {
    RawValue::from_string(std::str::from_utf8(payload).ok()?.to_owned()).ok()
}

/// Where a delivery stands, from all its entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) state: State,
    /// The number of the last attempt; attempts are numbered without gaps.
    pub(super) attempts: u16,
}

impl Standing {
    pub(super) fn of(route: Route, entries: &[Entry]) -> Self {
        let start = if route.enabled {
            State::Pending
        } else {
            State::Canceled(CancelReason::WebhookDisabled)
        };
        let state = entries.iter().fold(start, |state, entry| state.after(entry.verdict));
        let numbers = entries.iter().filter_map(|entry| Some(entry.attempt.as_ref()?.number));
        Self { state, attempts: numbers.max().unwrap_or(0) }
    }
}

/// A delivery in lists, and the head of a single one.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DeliverySummary)]
pub(super) struct DeliveryView {
    #[schema(value_type = words::DeliveryId)]
    id: String,
    #[schema(value_type = words::EventId)]
    event_id: String,
    /// Null where the webhook was deleted so long ago that its id is forgotten.
    #[schema(value_type = Option<words::WebhookId>, required)]
    webhook_id: Option<String>,
    /// Then it can be sent nowhere any more.
    webhook_deleted: bool,
    #[schema(value_type = words::EventType)]
    event_type: &'static str,
    #[schema(value_type = DeliveryStatus)]
    status: &'static str,
    /// Why it failed or was canceled.
    #[schema(value_type = Option<words::EndReason>, required)]
    reason: Option<&'static str>,
    attempts_made: u16,
    #[schema(value_type = words::Time)]
    created_at: String,
    #[schema(value_type = Option<words::Time>, required)]
    next_attempt_at: Option<String>,
    #[schema(required)]
    last_attempt: Option<LastAttemptView>,
}

impl DeliveryView {
    pub(super) fn of_row(api: &ApiState, row: &DeliveryRow) -> Self {
        let id = DeliveryId { node: row.event.node, key: row.key };
        let standing = Standing { state: row.state, attempts: row.attempts };
        Self::new(api, id, row.event, row.event_type, standing, row.last.as_ref())
    }

    /// One of an event's deliveries.
    pub(super) fn of_route(
        api: &ApiState,
        event: EventId,
        event_type: EventType,
        route: Route,
        entries: &[Entry],
    ) -> Self {
        let key = crate::id::DeliveryKey { place: event.place, webhook: route.webhook };
        let id = DeliveryId { node: event.node, key };
        Self::new(api, id, event, event_type, Standing::of(route, entries), last(entries))
    }

    fn new(
        api: &ApiState,
        id: DeliveryId,
        event: EventId,
        event_type: EventType,
        standing: Standing,
        last: Option<&Entry>,
    ) -> Self {
        Self {
            id: id.to_string(),
            event_id: event.to_string(),
            webhook_id: api.directory.webhook_id(id.key.webhook).map(|id| id.to_string()),
            webhook_deleted: api.directory.webhook_by_no(id.key.webhook).is_none(),
            event_type: event_type.as_str(),
            status: standing.state.as_str(),
            reason: standing.state.reason(),
            attempts_made: standing.attempts,
            created_at: rfc3339(event.accepted_at),
            next_attempt_at: match standing.state {
                State::Retrying { due } => Some(rfc3339(due)),
                _ => None,
            },
            last_attempt: last.and_then(|e| e.attempt.as_ref()).map(LastAttemptView::of),
        }
    }
}

/// A single delivery, with everything known about it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DeliveryDetails)]
pub(super) struct FullDeliveryView<'a> {
    #[serde(flatten)]
    delivery: DeliveryView,
    /// Null where it was erased.
    #[schema(value_type = Option<words::StoredPayload>, required)]
    payload: Option<Box<RawValue>>,
    /// When the event was erased, and with it the responses of these attempts.
    #[schema(value_type = Option<words::Time>, required)]
    erased_at: Option<String>,
    /// Oldest first; at most the last hundred.
    attempts: Vec<AttemptView<'a>>,
}

impl<'a> FullDeliveryView<'a> {
    pub(super) fn of(
        api: &ApiState,
        located: &Located,
        entries: &'a [Entry],
        to_operator: bool,
    ) -> Self {
        let attempts = entries.iter();
        let mut attempts: Vec<_> =
            attempts.filter_map(|entry| AttemptView::of(located.id, entry, to_operator)).collect();
        attempts.drain(..attempts.len().saturating_sub(MAX_ATTEMPTS_SHOWN));
        Self {
            delivery: located.view(api, entries),
            payload: located.payload(),
            erased_at: located.erased_at().map(rfc3339),
            attempts,
        }
    }
}

/// The last entry that has an attempt.
fn last(entries: &[Entry]) -> Option<&Entry> {
    entries.iter().rev().find(|entry| entry.attempt.is_some())
}
