//! `?dry_run=true`: a webhook is tried before it is saved.
//!
//! Everything is judged as it would be, and then an example event is sent to it, once, signed with
//! the tenant's secret: name, address, certificate, round trip and the receiver's own verification
//! are seen to work, or which of them does not. Nothing is saved and nothing is recorded. It goes out
//! as every attempt does, from a shard, behind the same guard.

use std::sync::Arc;

use axum::{extract::FromRequestParts, response::Response};
use http::{StatusCode, request::Parts};
use serde::Serialize;
use tokio::sync::oneshot;
use utoipa::ToSchema;

use super::{
    ApiState, Code, Problem,
    access::Scope,
    attempt::{ErrorView, Millis, PhasesView, ResponseView, is_public},
    example,
    page::json,
    params::Params,
};
use crate::{
    clock::rfc3339,
    command::{Check, Checked, Command, Stopped},
    delivery::Outcome,
    event::{EventType, EventTypes},
    openapi::words,
    webhook::Webhook,
};

/// What came of trying a webhook.
#[derive(Serialize, ToSchema)]
#[schema(as = WebhookCheck)]
pub(super) struct CheckView<'a> {
    /// Whether the answer counts as a success by the webhook's own rule.
    ok: bool,
    /// Where it went: the URL as it would be saved.
    #[schema(value_type = words::WebhookUrl)]
    url: String,
    #[schema(value_type = words::Time)]
    at: String,
    /// Null where no answer came.
    #[schema(required)]
    status: Option<u16>,
    /// From its start to the last byte read.
    #[schema(value_type = words::Milliseconds)]
    latency_ms: Millis,
    phases: PhasesView,
    #[schema(required)]
    error: Option<ErrorView>,
    /// What was kept of the answer.
    #[schema(required)]
    response: Option<ResponseView<'a>>,
    /// Null where there was no connection, and, for tenants, where the address is not public.
    #[schema(required)]
    peer: Option<String>,
    #[schema(value_type = words::HttpVersion)]
    protocol: &'static str,
}

/// Tries a webhook that is not saved, or not so.
pub(super) async fn check(
    api: &ApiState,
    scope: &Scope,
    webhook: Webhook,
    to_operator: bool,
) -> Result<Response, Problem> {
    api.tests.take_of_tenant(&api.settings().limits, scope.no())?;
    let Ok(_slot) = api.checks.try_acquire() else {
        let detail = "too many webhooks are being tried at once (limits.webhook_checks)";
        return Err(Problem::new(Code::Unavailable, detail));
    };
    let url = webhook.url.to_string();
    let event_type = first_of(webhook.events);
    let check = Check {
        webhook: Arc::new(webhook),
        tenant: Arc::clone(&scope.0.tenant),
        event_type,
        payload: example::payload(event_type),
    };
    let (reply, answer) = oneshot::channel();
    api.commands.send(Command::Check { check: Box::new(check), reply }).await?;
    let Checked { attempt, outcome } = answer.await.map_err(|_| Stopped)?;
    let peer = attempt.peer.filter(|peer| to_operator || is_public(*peer));
    let view = CheckView {
        ok: outcome == Outcome::Delivered,
        url,
        at: rfc3339(attempt.at),
        status: attempt.status,
        latency_ms: Millis(attempt.latency),
        phases: PhasesView::of(attempt.phases),
        error: ErrorView::of(&attempt),
        response: attempt.status.map(|_| ResponseView::of(&attempt.response)),
        peer: peer.map(|peer| peer.to_string()),
        protocol: attempt.protocol.as_str(),
    };
    Ok(json(StatusCode::OK, &view))
}

/// Whether a request only tries what it asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct DryRun(pub(super) bool);

impl<S: Sync> FromRequestParts<S> for DryRun {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let params = Params::from_request_parts(parts, state).await?;
        let mut query = params.read();
        let is_dry_run = query.flag("dry_run");
        query.finish()?;
        Ok(Self(is_dry_run))
    }
}

/// What it would be sent first, as far as anybody knows.
fn first_of(events: EventTypes) -> EventType {
    let subscribed = |event_type: &EventType| events.contains(*event_type);
    EventType::EVERY.into_iter().find(subscribed).unwrap_or(EventType::Sent)
}
