//! The tenant's signing secret: read, and rotated with an overlap.
//!
//! A rotation within the overlap of another one cuts nothing short: every secret signs as long as
//! it was promised when it was rotated, up to [`MAX_PREVIOUS_SECRETS`] of them. With an overlap of
//! `0s`, for a secret that leaked, the new one signs alone from the answer on.
//!
//! [`MAX_PREVIOUS_SECRETS`]: crate::tenant::MAX_PREVIOUS_SECRETS

use std::time::Duration;

use axum::{extract::State, response::Response};
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    ApiState, Problem,
    access::{Caller, Scope},
    body::{Given, OptionalFields},
    page::json,
};
use crate::{
    audit::{Action, Done},
    clock::{rfc3339, wall_ms},
    openapi::words,
    tenant::{SigningSecrets, Tenant},
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
pub(super) const DEFAULT_OVERLAP: Duration = DAY;
pub(super) const MAX_OVERLAP: Duration = Duration::from_secs(7 * DAY.as_secs());

// Not `Debug`: it is the secrets.
/// A tenant's signing secrets.
#[derive(Serialize, ToSchema)]
#[schema(as = SigningSecrets)]
pub(super) struct SecretView<'a> {
    #[schema(value_type = words::SigningSecret)]
    secret: &'a str,
    /// The secrets before it that still sign, the newest first.
    previous: Vec<PreviousView<'a>>,
}

/// A secret that was rotated and still signs.
#[derive(Serialize, ToSchema)]
#[schema(as = PreviousSecret)]
struct PreviousView<'a> {
    #[schema(value_type = words::SigningSecret)]
    secret: &'a str,
    #[schema(value_type = words::Time)]
    valid_until: String,
}

impl<'a> SecretView<'a> {
    fn of(secrets: &'a SigningSecrets) -> Self {
        let previous = secrets.overlapping(wall_ms()).map(|(secret, until)| PreviousView {
            secret: secret.expose(),
            valid_until: rfc3339(*until),
        });
        Self { secret: secrets.current.expose(), previous: previous.collect() }
    }
}

/// Whoever sees the secret can sign for the tenant: that it was seen is recorded.
pub(super) async fn show(
    State(api): State<ApiState>,
    caller: Caller,
    Scope(entry): Scope,
) -> Result<Response, Problem> {
    let shown = Done::of(&entry.tenant, Action::SecretShown);
    api.directory.on_behalf_of(&caller.by).note(shown).await?;
    said(&entry.tenant, &caller, "signing secret shown");
    Ok(json(StatusCode::OK, &SecretView::of(&entry.tenant.secrets)))
}

pub(super) async fn rotate(
    State(api): State<ApiState>,
    caller: Caller,
    scope: Scope,
    OptionalFields(mut fields): OptionalFields,
) -> Result<Response, Problem> {
    let overlap = fields.duration("overlap", Duration::ZERO..=MAX_OVERLAP);
    fields.finish()?;
    let overlap = match overlap {
        Given::Value(overlap) => overlap,
        _ => DEFAULT_OVERLAP,
    };
    let tenant = api.directory.on_behalf_of(&caller.by).rotate_secret(scope.no(), overlap).await?;
    said(&tenant, &caller, "signing secret rotated");
    Ok(json(StatusCode::OK, &SecretView::of(&tenant.secrets)))
}

fn said(tenant: &Tenant, caller: &Caller, what: &str) {
    tracing::info!(tenant = %tenant.id, by = caller.principal.kind(), "{what}");
}
