//! One-time links into the portal, for whoever shows it to a tenant's people.

use axum::{extract::State, response::Response};
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    ApiState, Code, Problem,
    access::{Caller, Scope},
    body::{Given, OptionalFields},
    page::json,
};
use crate::{
    audit::{Action, Done},
    clock::{rfc3339, wall_ms},
    openapi::words,
    sessions::{LinkOf, MAX_LINK_LIFETIME},
};

/// The shortest that a link may be good for.
pub(super) const MIN_LINK_LIFETIME: std::time::Duration = std::time::Duration::from_secs(1);

// Not `Debug`: who has it is let in.
/// A link that logs one browser in.
#[derive(Serialize, ToSchema)]
#[schema(as = PortalSession)]
pub(super) struct LinkView {
    /// Works once. Whoever follows it sees and changes what the tenant's own key may.
    url: String,
    #[schema(value_type = words::Time)]
    expires_at: String,
}

/// Makes a link. The session that it opens lasts as long as one opened with a key.
pub(super) async fn create(
    State(api): State<ApiState>,
    caller: Caller,
    scope: Scope,
    OptionalFields(mut fields): OptionalFields,
) -> Result<Response, Problem> {
    let lifetime = fields.duration("expires_in", MIN_LINK_LIFETIME..=MAX_LINK_LIFETIME);
    fields.finish()?;
    let lifetime = match lifetime {
        Given::Value(lifetime) => Some(lifetime),
        _ => None,
    };
    let (url, lifetime) = api
        .sessions
        .link(LinkOf::Tenant(scope.no()), lifetime)
        .ok_or_else(|| Problem::new(Code::NotFound, "the portal is off (portal.enabled)"))?;
    let made = Done::of(&scope.0.tenant, Action::PortalLinkCreated);
    api.directory.on_behalf_of(&caller.by).note(made).await?;
    tracing::info!(tenant = %scope.0.tenant.id, by = caller.principal.kind(), "portal link made");
    let expires_at = wall_ms() + u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX);
    let view = LinkView { url, expires_at: rfc3339(expires_at) };
    Ok(json(StatusCode::CREATED, &view))
}
