//! Erasures: asked for over events, looked at as jobs.

use axum::{
    extract::State,
    response::{IntoResponse as _, Response},
};
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    ApiState, Code, Problem,
    access::{Caller, Id, Scope},
    cursor::List,
    openapi::ErasureState,
    page::{Page, json, located},
    params::Params,
    problem::Object,
};
use crate::{
    clock::rfc3339,
    erasures::{Job, Refusal},
    id::ErasureId,
    openapi::words,
};

pub(super) const PARAMS: &[&str] = &["recipient"];

/// An erasure. Whom it is about is not told again.
#[derive(Serialize, ToSchema)]
#[schema(as = Erasure)]
pub(super) struct ErasureView {
    #[schema(value_type = words::ErasureId)]
    id: String,
    #[schema(value_type = ErasureState)]
    state: &'static str,
    /// Events erased so far.
    events: u64,
    /// Their deliveries that still waited and were canceled.
    deliveries_canceled: u64,
    /// A damaged part of the log was passed over; what it may hold is never delivered or shown.
    incomplete: bool,
    /// Events accepted before this have been looked at.
    #[schema(value_type = Option<words::Time>, required)]
    position: Option<String>,
    #[schema(value_type = words::Time)]
    created_at: String,
    /// Since when nothing of it is left in the gateway's files.
    #[schema(value_type = Option<words::Time>, required)]
    completed_at: Option<String>,
}

impl ErasureView {
    fn of(job: &Job) -> Self {
        Self {
            id: job.id.to_string(),
            state: job.state.as_str(),
            events: job.events,
            deliveries_canceled: job.canceled,
            incomplete: job.incomplete,
            position: job.at.map(rfc3339),
            created_at: rfc3339(job.created_at),
            completed_at: job.completed_at.map(rfc3339),
        }
    }
}

/// Erases every event of the tenant that one person received or sent.
pub(super) async fn create(
    State(api): State<ApiState>,
    caller: Caller,
    scope: Scope,
    params: Params,
) -> Result<Response, Problem> {
    let mut query = params.read();
    let recipient = query.recipient();
    query.finish()?;
    let job = api.erasures.create(scope.no(), recipient.unwrap_or_default(), caller.by).await?;
    tracing::info!(tenant = %scope.0.tenant.id, erasure = %job.id, "erasure created");
    let view = json(StatusCode::ACCEPTED, &ErasureView::of(&job));
    Ok(located(&format!("/v1/erasures/{}", job.id), view))
}

pub(super) async fn list(
    State(api): State<ApiState>,
    scope: Scope,
    params: Params,
) -> Result<Response, Problem> {
    let list = List { name: "erasures", tenant: Some(scope.no()), params: &params };
    let mut query = params.read();
    let limit = query.limit(api.settings().limits.page);
    let before = query.position(&list).map(u64::from_be_bytes);
    query.finish()?;
    let jobs = api.erasures.list(scope.no(), before, limit + 1);
    let cursor = |job: &Job| list.cursor(job.created_at.to_be_bytes());
    Ok(Page::cut(jobs, limit, cursor, ErasureView::of).into_response())
}

pub(super) async fn show(
    State(api): State<ApiState>,
    scope: Scope,
    id: Id,
) -> Result<Response, Problem> {
    let id: ErasureId = id.parse(Object::Erasure)?;
    let job = api.erasures.job(scope.no(), id).ok_or_else(|| Problem::no_such(Object::Erasure))?;
    Ok(json(StatusCode::OK, &ErasureView::of(&job)))
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Limit => Self::new(Code::LimitReached, refusal.to_string()),
            Refusal::Store(error) => error.into(),
        }
    }
}
