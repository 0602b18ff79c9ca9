//! Deliveries: listed, shown, replayed, canceled.

use std::time::Duration;

use axum::{
    extract::State,
    response::{IntoResponse as _, Response},
};
use http::StatusCode;

use super::{
    ApiState, Code, Problem,
    access::{Caller, Id, Scope},
    body::OptionalFields,
    cursor::List,
    delivery::{DeliveryView, FullDeliveryView, locate},
    page::{Page, json},
    params::Params,
    problem::Object,
};
use crate::{
    audit::{Action, Done},
    clock::wall_ms,
    command::Command,
    delivery::{CancelReason, Entry, Verdict},
    id::{DeliveryKey, Place, WebhookNo},
    replays::MAX_ATTEMPTS,
    store::{Bundle, DeliveryQuery},
};

pub(super) const PARAMS: &[&str] =
    &["limit", "cursor", "webhook", "status", "event_type", "code", "error", "since", "until"];

/// When to come back after a replay for which there was no room: by then most retries of a webhook
/// that fails have been made.
const NO_ROOM_FOR: Duration = Duration::from_secs(10);

pub(super) async fn list(
    State(api): State<ApiState>,
    scope: Scope,
    params: Params,
) -> Result<Response, Problem> {
    let list = List { name: "deliveries", tenant: Some(scope.no()), params: &params };
    let mut query = params.read();
    let webhook = query.webhook();
    let (since, until) = query.period();
    let wanted = DeliveryQuery {
        tenant: scope.no(),
        webhook: None,
        states: query.states(),
        event_types: query.event_types(),
        status: query.code(),
        error: query.error(),
        since,
        until,
        before: query.position(&list).map(from_position),
        limit: query.limit(api.settings().limits.page),
    };
    query.finish()?;
    let webhook = match webhook {
        Some(id) => {
            let found = api.directory.webhook_no(scope.no(), id);
            Some(found.ok_or_else(|| Problem::no_such(Object::Webhook))?)
        }
        None => None,
    };
    let page = api.store.deliveries(DeliveryQuery { webhook, ..wanted }).await?;
    Ok(Page {
        data: page.rows.iter().map(|row| DeliveryView::of_row(&api, row)).collect(),
        next_cursor: page.next.map(|key| list.cursor(to_position(key))),
    }
    .into_response())
}

fn to_position(key: DeliveryKey) -> [u8; 12] {
    let mut position = [0; 12];
    position[..8].copy_from_slice(&key.place.as_u64().to_be_bytes());
    position[8..].copy_from_slice(&key.webhook.0.to_be_bytes());
    position
}

fn from_position(position: [u8; 12]) -> DeliveryKey {
    let (place, webhook) = position.split_at(8);
    let place = u64::from_be_bytes(place.try_into().expect("eight bytes"));
    let webhook = u32::from_be_bytes(webhook.try_into().expect("four bytes"));
    DeliveryKey { place: Place::from_u64(place), webhook: WebhookNo(webhook) }
}

pub(super) async fn show(
    State(api): State<ApiState>,
    caller: Caller,
    scope: Scope,
    id: Id,
) -> Result<Response, Problem> {
    let located = locate(&api, &scope, &id).await?;
    let entries = located.entries(&api).await?;
    let view = FullDeliveryView::of(&api, &located, &entries, caller.is_operator());
    Ok(json(StatusCode::OK, &view))
}

/// Sends an ended delivery again. `Reopened` is durable before the shard hears of it: a crash in
/// between means that recovery finds it pending, never that it is sent and then forgotten.
pub(super) async fn replay(
    State(api): State<ApiState>,
    caller: Caller,
    scope: Scope,
    id: Id,
    OptionalFields(fields): OptionalFields,
) -> Result<Response, Problem> {
    fields.finish()?;
    let located = locate(&api, &scope, &id).await?;
    let key = located.id.key;
    let not_ended =
        || Problem::new(Code::DeliveryNotEnded, "only a delivery that has ended can be replayed");
    // Two replays that both saw the ended state would send it twice.
    let claim = api.replays.claim(key).ok_or_else(not_ended)?;
    let mut entries = located.entries(&api).await?;
    let standing = located.standing(&entries);
    if !standing.state.is_ended() {
        return Err(not_ended());
    }
    if located.erased_at().is_some() {
        let detail = "what the event said was erased: there is nothing left to send";
        return Err(Problem::new(Code::EventErased, detail));
    }
    let Some(webhook) = api.directory.webhook_by_no(key.webhook) else {
        return Err(Problem::new(Code::WebhookDeleted, "there is nowhere to send it to"));
    };
    if !webhook.enabled {
        // It would wait until it expires.
        let detail = "a disabled webhook is sent nothing; enable it first";
        return Err(Problem::new(Code::WebhookDisabled, detail));
    }
    if standing.attempts >= MAX_ATTEMPTS {
        let detail = format!("a delivery has at most {MAX_ATTEMPTS} attempts");
        return Err(Problem::new(Code::LimitReached, detail));
    }
    if !api.commands.has_room(key.webhook).await? {
        let detail = "too many deliveries wait for a retry, this webhook's among them";
        return Err(Problem::new(Code::RateLimited, detail).retry_after(NO_ROOM_FOR));
    }
    let reopened = Entry { key, at: wall_ms(), verdict: Verdict::Reopened, attempt: None };
    entries.push(reopened.clone());
    let command = Command::Replay { key, attempts: standing.attempts };
    let done = Done::of(&scope.0.tenant, Action::DeliveryReplayed).to(located.id);
    let bundle = Bundle { entries: vec![reopened], ..Bundle::default() };
    let (state, by) = (api.clone(), caller.by);
    // In a task of its own: a caller who goes away now must not leave it recorded and unsent.
    let work = tokio::spawn(async move {
        let _claim = claim;
        state.directory.audit().commit(&state.store, &by, vec![done], bundle).await?;
        state.commands.send(command).await?;
        Ok::<(), Problem>(())
    });
    work.await.unwrap_or_else(|_| {
        Err(Problem::new(Code::Internal, "whether it is replayed is not known; read it again"))
    })?;
    Ok(json(StatusCode::ACCEPTED, &located.view(&api, &entries)))
}

/// Ends a pending or retrying delivery. The shard records it; where an attempt is under way, once
/// that has ended without success.
pub(super) async fn cancel(
    State(api): State<ApiState>,
    caller: Caller,
    scope: Scope,
    id: Id,
    OptionalFields(fields): OptionalFields,
) -> Result<Response, Problem> {
    fields.finish()?;
    let located = locate(&api, &scope, &id).await?;
    let entries = located.entries(&api).await?;
    if located.standing(&entries).state.is_ended() {
        return Err(Problem::new(
            Code::DeliveryEnded,
            "only a pending or retrying delivery can be canceled",
        ));
    }
    // Before the shard hears of it: what is canceled has been recorded, whatever happens meanwhile.
    let done = Done::of(&scope.0.tenant, Action::DeliveryCanceled).to(located.id);
    api.directory.audit().note(&api.store, &caller.by, done).await?;
    let (key, reason) = (located.id.key, CancelReason::Requested);
    api.commands.send(Command::Cancel { key, reason }).await?;
    Ok(json(StatusCode::ACCEPTED, &located.view(&api, &entries)))
}
