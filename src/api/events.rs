//! Events: listed, and one with its payload, its deliveries, and why a webhook got none.

use std::collections::HashMap;

use axum::{
    extract::State,
    response::{IntoResponse as _, Response},
};
use http::StatusCode;
use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    ApiState, Problem,
    access::{Id, Scope},
    cursor::List,
    delivery::{DeliveryView, locate_event, raw},
    page::{Page, json},
    params::Params,
};
use crate::{
    clock::rfc3339,
    delivery::Entry,
    event::EventType,
    id::{EventId, Place, WebhookNo},
    store::{EventQuery, EventRow, Route},
    webhook::Webhook,
};

pub(super) const PARAMS: &[&str] = &["limit", "cursor", "event_type", "since", "until"];

#[derive(Serialize)]
struct EventView {
    id: String,
    r#type: &'static str,
    accepted_at: String,
    /// Bytes.
    payload_size: usize,
    /// How many webhooks it was for, disabled ones not counted.
    deliveries: usize,
}

impl EventView {
    fn of(row: &EventRow) -> Self {
        Self {
            id: row.id.to_string(),
            r#type: row.event_type.as_str(),
            accepted_at: rfc3339(row.id.accepted_at),
            payload_size: row.payload.len(),
            deliveries: row.routes.iter().filter(|route| route.enabled).count(),
        }
    }
}

#[derive(Serialize)]
struct FullEventView {
    id: String,
    r#type: &'static str,
    accepted_at: String,
    payload: Option<Box<RawValue>>,
    deliveries: Vec<DeliveryView>,
    /// The tenant's webhooks of today that got no delivery.
    skipped: Vec<SkippedView>,
}

#[derive(Serialize)]
struct SkippedView {
    webhook_id: String,
    reason: &'static str,
}

pub(super) async fn list(
    State(api): State<ApiState>,
    scope: Scope,
    params: Params,
) -> Result<Response, Problem> {
    let list = List { name: "events", tenant: Some(scope.no()), params: &params };
    let (since, until) = params.period()?;
    let query = EventQuery {
        tenant: scope.no(),
        event_types: params.event_types()?,
        since,
        until,
        before: list.position()?.map(|place| Place::from_u64(u64::from_be_bytes(place))),
        limit: params.limit(api.settings().limits.page)?,
    };
    let page = api.store.events(query).await?;
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
    let id: EventId = id.parse()?;
    let (block, event) = locate_event(&api, &scope, id.place).await?;
    let index = id.place.index();
    // The rest of the id is part of the name: an id that was tampered with names nothing.
    if block.event_id(index) != id {
        return Err(Problem::not_found());
    }
    let entries = by_webhook(api.store.entries(id.place, None).await?);
    let routes = block.routes_of(index);
    let delivery = |route: &Route| {
        let entries = entries.get(&route.webhook).map_or(&[][..], Vec::as_slice);
        DeliveryView::of_route(&api, id, event.event_type, *route, entries)
    };
    let view = FullEventView {
        id: id.to_string(),
        r#type: event.event_type.as_str(),
        accepted_at: rfc3339(id.accepted_at),
        payload: block.payload(index).and_then(|payload| raw(&payload)),
        deliveries: routes.iter().map(delivery).collect(),
        skipped: skipped(&api, &scope, id, event.event_type, routes),
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

fn skipped(
    api: &ApiState,
    scope: &Scope,
    event: EventId,
    event_type: EventType,
    routes: &[Route],
) -> Vec<SkippedView> {
    let routed: std::collections::HashSet<WebhookNo> =
        routes.iter().map(|route| route.webhook).collect();
    let webhooks = api.directory.webhooks(scope.no(), None, usize::MAX);
    let without = webhooks.iter().filter(|webhook| !routed.contains(&webhook.no));
    without
        .map(|webhook| SkippedView {
            webhook_id: webhook.id.to_string(),
            reason: why_skipped(webhook, event, event_type),
        })
        .collect()
}

/// Routes are decided once, when the event comes; what is known of a webhook is how it is now.
fn why_skipped(webhook: &Webhook, event: EventId, event_type: EventType) -> &'static str {
    if webhook.created_at > event.accepted_at {
        "created_later"
    } else if webhook.events.contains(event_type) {
        "not_subscribed_then"
    } else {
        "not_subscribed"
    }
}
