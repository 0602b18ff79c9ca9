//! Events: listed, and one with its payload, its deliveries, and why a webhook got none.

use std::collections::{HashMap, HashSet};

use axum::{
    extract::State,
    response::{IntoResponse as _, Response},
};
use http::StatusCode;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{
    ApiState, Problem,
    access::{Id, Scope},
    catch_up,
    cursor::List,
    delivery::{DeliveryView, locate_event, raw},
    example,
    openapi::SkipReason,
    page::{Page, json},
    params::Params,
    problem::Object,
    skipped::Skipped,
};
use crate::{
    clock::rfc3339,
    delivery::Entry,
    id::{DeliveryId, DeliveryKey, EventId, Place, WebhookNo},
    openapi::words,
    store::{EventQuery, EventRow, Route},
    webhook::Webhook,
};

pub(super) const PARAMS: &[&str] =
    &["limit", "cursor", "after", "webhook", "event_type", "found_disabled", "since", "until"];

/// An event in lists.
#[derive(Serialize, ToSchema)]
#[schema(as = EventSummary)]
pub(super) struct EventView {
    #[schema(value_type = words::EventId)]
    id: String,
    #[schema(value_type = words::EventType)]
    r#type: &'static str,
    #[schema(value_type = words::Time)]
    accepted_at: String,
    /// Bytes; 0 where it was erased.
    payload_size: usize,
    /// When the payload was erased.
    #[schema(value_type = Option<words::Time>, required)]
    erased_at: Option<String>,
    /// How many webhooks it was for, disabled ones not counted.
    deliveries: usize,
    /// How many webhooks it would have been for, had they not been disabled when it came.
    found_disabled: usize,
}

impl EventView {
    pub(super) fn of(row: &EventRow) -> Self {
        let deliveries = row.routes.iter().filter(|route| route.enabled).count();
        Self {
            id: row.id.to_string(),
            r#type: row.event_type.as_str(),
            accepted_at: rfc3339(row.id.accepted_at),
            payload_size: row.payload.len(),
            erased_at: row.erased_at.map(rfc3339),
            deliveries,
            found_disabled: row.routes.len() - deliveries,
        }
    }
}

/// An event with its payload and its deliveries.
#[derive(Serialize, ToSchema)]
#[schema(as = StoredEvent)]
pub(super) struct FullEventView {
    #[schema(value_type = words::EventId)]
    id: String,
    #[schema(value_type = words::EventType)]
    r#type: &'static str,
    #[schema(value_type = words::Time)]
    accepted_at: String,
    /// Null where it was erased.
    #[schema(value_type = Option<words::StoredPayload>, required)]
    payload: Option<Box<RawValue>>,
    /// When the payload was erased.
    #[schema(value_type = Option<words::Time>, required)]
    erased_at: Option<String>,
    /// Which trace the event belongs to, and the span that it came from (W3C Trace Context). Null
    /// where its producer did not say so.
    #[schema(value_type = Option<words::Traceparent>, required)]
    traceparent: Option<String>,
    deliveries: Vec<DeliveryView>,
    /// The webhooks that got no delivery: those disabled then, and those of today.
    skipped: Vec<SkippedView>,
}

/// A webhook that got no delivery of an event, and why.
#[derive(Serialize, ToSchema)]
#[schema(as = SkippedWebhook)]
struct SkippedView {
    /// Null where the webhook was deleted so long ago that its id is forgotten.
    #[schema(value_type = Option<words::WebhookId>, required)]
    webhook_id: Option<String>,
    webhook_deleted: bool,
    #[schema(value_type = SkipReason)]
    reason: &'static str,
    /// The reason in plain words.
    detail: &'static str,
    /// By which it can be replayed all the same; none where the event never was for the webhook.
    #[schema(value_type = Option<words::DeliveryId>, required)]
    delivery_id: Option<String>,
}

pub(super) async fn list(
    State(api): State<ApiState>,
    scope: Scope,
    params: Params,
) -> Result<Response, Problem> {
    let list = List { name: "events", tenant: Some(scope.no()), params: &params };
    let mut query = params.read();
    let (after, webhook) = (query.after(), query.webhook());
    let (since, until) = query.period();
    let wanted = EventQuery {
        tenant: scope.no(),
        event_types: query.event_types(),
        webhook: None,
        found_disabled: query.flag("found_disabled"),
        since,
        until,
        before: None,
        limit: query.limit(api.settings().limits.page),
    };
    let position = query.position(&list).map(|place| Place::from_u64(u64::from_be_bytes(place)));
    query.finish()?;
    let webhook = webhook.map(|id| {
        let found = api.directory.webhook_no(scope.no(), id);
        found.ok_or_else(|| Problem::no_such(Object::Webhook))
    });
    let wanted = EventQuery { webhook: webhook.transpose()?, ..wanted };
    if let Some(after) = after {
        return catch_up::page(&api, &scope, &list, after, position, wanted).await;
    }
    let page = api.store.events(EventQuery { before: position, ..wanted }).await?;
    Ok(Page {
        data: page.events.iter().map(EventView::of).collect(),
        next_cursor: page.next.map(|place| list.cursor(place.as_u64().to_be_bytes())),
    }
    .into_response())
}

pub(super) async fn show(
    State(api): State<ApiState>,
    scope: Scope,
    id: Id,
) -> Result<Response, Problem> {
    let missing = || Problem::no_such(Object::Event);
    let id: EventId = id.parse(Object::Event)?;
    let (block, event) = locate_event(&api, &scope, id.place).await?.ok_or_else(missing)?;
    let index = id.place.index();
    // The rest of the id is part of the name: an id that was tampered with names nothing.
    if block.event_id(index) != id {
        return Err(missing());
    }
    let entries = by_webhook(api.store.entries(id.place, None).await?);
    let routes = block.routes_of(index);
    // A disabled route is no delivery, unless a replay made it one.
    let (delivered, disabled): (Vec<Route>, Vec<Route>) =
        routes.iter().partition(|route| route.enabled || entries.contains_key(&route.webhook));
    let delivery = |route: &Route| {
        let entries = entries.get(&route.webhook).map_or(&[][..], Vec::as_slice);
        DeliveryView::of_route(&api, id, event.event_type, *route, entries)
    };
    let payload = block.payload(index).unwrap_or_default();
    let is_test = matches!(routes, [_]) && example::is_test(event.event_type, &payload);
    let mut skipped = were_disabled(&api, id, &disabled);
    let why = |webhook: &Webhook| Skipped::of(webhook, id, event.event_type, is_test);
    skipped.extend(never_routed(&api, &scope, routes, why));
    let view = FullEventView {
        id: id.to_string(),
        r#type: event.event_type.as_str(),
        accepted_at: rfc3339(id.accepted_at),
        payload: raw(&payload),
        erased_at: block.erased_at(index).map(rfc3339),
        traceparent: block.trace(index).map(|trace| trace.to_text()),
        deliveries: delivered.iter().map(delivery).collect(),
        skipped,
    };
    Ok(json(StatusCode::OK, &view))
}

fn by_webhook(entries: Vec<Entry>) -> HashMap<WebhookNo, Vec<Entry>> {
    let mut grouped: HashMap<WebhookNo, Vec<Entry>> = HashMap::new();
    for entry in entries {
        grouped.entry(entry.key.webhook).or_default().push(entry);
    }
    grouped
}

fn were_disabled(api: &ApiState, event: EventId, routes: &[Route]) -> Vec<SkippedView> {
    let skipped = |route: &Route| {
        let key = DeliveryKey { place: event.place, webhook: route.webhook };
        SkippedView {
            webhook_id: api.directory.webhook_id(route.webhook).map(|id| id.to_string()),
            webhook_deleted: api.directory.webhook_by_no(route.webhook).is_none(),
            reason: Skipped::Disabled.as_str(),
            detail: Skipped::Disabled.detail(),
            delivery_id: Some(DeliveryId { node: event.node, key }.to_string()),
        }
    };
    routes.iter().map(skipped).collect()
}

/// Of webhooks that were deleted since, only those that the event was routed to are known.
fn never_routed(
    api: &ApiState,
    scope: &Scope,
    routes: &[Route],
    why: impl Fn(&Webhook) -> Skipped,
) -> Vec<SkippedView> {
    let routed: HashSet<WebhookNo> = routes.iter().map(|route| route.webhook).collect();
    let webhooks = api.directory.webhooks(scope.no(), None, usize::MAX);
    let without = webhooks.iter().filter(|webhook| !routed.contains(&webhook.no));
    let skipped = |webhook: &std::sync::Arc<Webhook>| SkippedView {
        webhook_id: Some(webhook.id.to_string()),
        webhook_deleted: false,
        reason: why(webhook).as_str(),
        detail: why(webhook).detail(),
        delivery_id: None,
    };
    without.map(skipped).collect()
}
