//! Backups of the running gateway, for the operator.

use axum::{
    extract::State,
    response::{IntoResponse as _, Response},
};
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    ApiState, Code, Problem,
    access::{Caller, Id},
    body::OptionalFields,
    cursor::List,
    openapi::BackupState,
    page::{Page, json, located},
    params::Params,
    problem::Object,
};
use crate::{
    audit::{Action, Done},
    backups::{Backup, LONGEST_NAME, Refusal, is_name},
    clock::rfc3339,
    openapi::words,
};

/// A copy of the running gateway's data.
#[derive(Serialize, ToSchema)]
#[schema(as = Backup)]
pub(super) struct BackupView {
    /// The name of its directory.
    #[schema(value_type = words::BackupName)]
    name: String,
    #[schema(value_type = BackupState)]
    state: &'static str,
    /// Where it is, on the gateway's disk.
    path: String,
    /// Whether the encryption key and the operator's key are in it, where the gateway keeps them in
    /// its data directory.
    with_keys: bool,
    /// 0 to 1.
    progress: f64,
    /// On disk.
    #[schema(required)]
    bytes: Option<u64>,
    /// Why it failed.
    #[schema(required)]
    error: Option<String>,
    /// Everything accepted before this is in it.
    #[schema(value_type = words::Time)]
    began_at: String,
    #[schema(value_type = Option<words::Time>, required)]
    ended_at: Option<String>,
}

impl BackupView {
    fn of(backup: &Backup) -> Self {
        let outcome = backup.outcome.as_ref();
        Self {
            name: backup.name.clone(),
            state: backup.state(),
            path: backup.path.display().to_string(),
            with_keys: backup.with_keys,
            progress: backup.progress(),
            bytes: outcome.and_then(|outcome| outcome.as_ref().ok()).map(|done| done.bytes),
            error: outcome.and_then(|outcome| outcome.as_ref().err()).cloned(),
            began_at: rfc3339(backup.began_at),
            ended_at: backup.ended_at.map(rfc3339),
        }
    }
}

pub(super) async fn create(
    State(api): State<ApiState>,
    caller: Caller,
    OptionalFields(mut fields): OptionalFields,
) -> Result<Response, Problem> {
    let name = fields.string("name");
    let name = fields.checked("name", name, |name| match is_name(&name) {
        true => Ok(name),
        false => Err(format!(
            "it has 1 to {LONGEST_NAME} letters, digits, dots, hyphens and underscores, and does \
             not begin with a dot"
        )),
    });
    let rate = fields.number("rate", 1..=u32::MAX).or_none().flatten();
    let with_keys = fields.boolean("with_keys").or_reset(false).unwrap_or(false);
    fields.finish()?;
    let backup = api.backups.begin(name.or_none().flatten(), rate.map(u64::from), with_keys)?;
    let done = Done::of_gateway(Action::BackupCreated).to(&backup.name);
    api.directory.audit().note(&api.store, &caller.by, done).await?;
    let view = json(StatusCode::ACCEPTED, &BackupView::of(&backup));
    Ok(located(&format!("/v1/backups/{}", backup.name), view))
}

pub(super) async fn list(State(api): State<ApiState>, params: Params) -> Result<Response, Problem> {
    let list = List { name: "backups", tenant: None, params: &params };
    let mut query = params.read();
    let limit = query.limit(api.settings().limits.page);
    let before = query.position(&list).map(u64::from_be_bytes);
    query.finish()?;
    let backups = api.backups.list(before, limit + 1);
    let cursor = |backup: &Backup| list.cursor(backup.began_at.to_be_bytes());
    Ok(Page::cut(backups, limit, cursor, BackupView::of).into_response())
}

pub(super) async fn show(State(api): State<ApiState>, id: Id) -> Result<Response, Problem> {
    let backup = api.backups.named(&id.0);
    let backup = backup.ok_or_else(|| Problem::no_such(Object::Backup))?;
    Ok(json(StatusCode::OK, &BackupView::of(&backup)))
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Busy => Self::new(Code::BackupRunning, refusal.to_string()),
            Refusal::Exists => Self::new(Code::BackupExists, refusal.to_string()),
        }
    }
}
