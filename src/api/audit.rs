//! The audit log: what was changed, by whom.

use axum::{
    extract::State,
    response::{IntoResponse as _, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    ApiState, Problem,
    access::Caller,
    cursor::List,
    openapi::{AuditAction, AuditActorKind},
    page::Page,
    params::Params,
};
use crate::{
    audit::{Actor, Query, Record},
    clock::rfc3339,
    openapi::words,
    request_id::RequestId,
};

pub(super) const PARAMS: &[&str] =
    &["limit", "cursor", "action", "actor", "object", "since", "until"];

/// A change, and who made it.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditRecord)]
pub(super) struct RecordView<'a> {
    /// Counts the records of its tenant, or those of no tenant, from 1 on. Old ones are removed from
    /// the beginning; a number missing between two others means that the record was taken away.
    sequence: u64,
    #[schema(value_type = words::Time)]
    at: String,
    /// Null where it belongs to no tenant.
    #[schema(value_type = Option<words::TenantId>, required)]
    tenant: Option<&'a str>,
    #[schema(value_type = AuditAction)]
    action: &'static str,
    /// The id of what was changed; null where there is only one of it.
    #[schema(required)]
    object_id: Option<&'a str>,
    /// The fields of it that are different now.
    changed: &'a [String],
    actor: ActorView,
    /// The `X-Request-Id` of the request that did it; null where the gateway did it by itself.
    #[schema(value_type = Option<words::RequestId>, required)]
    request_id: Option<String>,
}

/// Who it was.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditActor)]
struct ActorView {
    #[schema(value_type = AuditActorKind)]
    kind: &'static str,
    /// The API key that was used, or that the session was opened with. Null where there was none,
    /// for the operator's first key, and for all of the operator's to anybody else.
    #[schema(value_type = Option<words::KeyId>, required)]
    key_id: Option<String>,
    /// The portal's session.
    #[schema(value_type = Option<words::SessionId>, required)]
    session_id: Option<String>,
}

impl ActorView {
    fn of(actor: Actor) -> Self {
        Self {
            kind: actor.kind.as_str(),
            key_id: actor.key.map(|id| id.to_string()),
            session_id: actor.session.map(|id| id.to_string()),
        }
    }
}

impl<'a> RecordView<'a> {
    fn of(record: &'a Record, by_operator: bool) -> Self {
        Self {
            sequence: record.sequence,
            at: rfc3339(record.at),
            tenant: record.tenant.as_ref().map(|(_, id)| id.as_str()),
            action: record.action.as_str(),
            object_id: record.object.as_deref(),
            changed: &record.changed,
            actor: ActorView::of(record.by.actor.seen(by_operator)),
            request_id: record.by.request.as_ref().map(RequestId::to_string),
        }
    }
}

/// A tenant's own records, or, for an operator who names none, all of them.
pub(super) async fn list(
    State(api): State<ApiState>,
    caller: Caller,
    params: Params,
) -> Result<Response, Problem> {
    let list = List { name: "audit", tenant: caller.tenant_no(), params: &params };
    let mut query = params.read();
    let limit = query.limit(api.settings().limits.page);
    let before = query.position(&list).map(u64::from_be_bytes);
    let (since, until) = query.period();
    let (actions, actor) = (query.actions(), query.actor());
    let object = query.object();
    query.finish()?;
    let (of, by_operator) = (caller.tenant_no(), caller.is_operator());
    let actions = &actions;
    let wanted = Query { of, by_operator, actions, actor, object, since, until, before, limit };
    let page = api.directory.audit().page(&wanted);
    Ok(Page {
        data: page.records.iter().map(|record| RecordView::of(record, by_operator)).collect(),
        next_cursor: page.next.map(|place| list.cursor(place.to_be_bytes())),
    }
    .into_response())
}
