//! Tenants, for the operator.

use axum::{
    extract::State,
    response::{IntoResponse as _, Response},
};
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    ApiState, Problem,
    access::{Caller, Id},
    body::{Fields, Given},
    cursor::List,
    page::{Page, created, json},
    params::Params,
    problem::Object,
};
use crate::{
    clock::rfc3339,
    directory::TenantEntry,
    id::TenantNo,
    openapi::words,
    tenant::{Tenant, TenantId},
};

/// The longest name, characters.
pub(super) const MAX_NAME: usize = 200;

/// A customer of senderZ.
#[derive(Serialize, ToSchema)]
#[schema(as = Tenant)]
pub(super) struct TenantView<'a> {
    #[schema(value_type = words::TenantId)]
    id: &'a str,
    /// For people.
    name: &'a str,
    #[schema(value_type = words::Time)]
    created_at: String,
}

impl<'a> TenantView<'a> {
    fn of(tenant: &'a Tenant) -> Self {
        let created_at = rfc3339(tenant.created_at);
        Self { id: tenant.id.as_str(), name: &tenant.name, created_at }
    }
}

/// A tenant just made. The only answer that shows its first key.
#[derive(Serialize, ToSchema)]
#[schema(as = NewTenant)]
pub(super) struct NewTenantView<'a> {
    #[serde(flatten)]
    tenant: TenantView<'a>,
    api_key: &'a str,
    #[schema(value_type = words::SigningSecret)]
    signing_secret: &'a str,
}

pub(super) async fn create(
    State(api): State<ApiState>,
    caller: Caller,
    mut fields: Fields,
) -> Result<Response, Problem> {
    let id = fields.string("id");
    let id = fields.checked("id", id, |id| id.parse::<TenantId>().map_err(|e| e.to_string()));
    let id = fields.required("id", id);
    let name = fields.string("name");
    let name = fields.checked("name", name, |name| {
        if name.chars().count() <= MAX_NAME && !name.chars().any(char::is_control) {
            Ok(name)
        } else {
            Err(format!("it may have {MAX_NAME} characters, none of them a control character"))
        }
    });
    fields.finish()?;
    let id = id.expect("a missing id was refused");
    let name = match name {
        Given::Value(name) => name,
        _ => id.to_string(),
    };
    let new = api.directory.on_behalf_of(&caller.by).create_tenant(id, name).await?;
    tracing::info!(tenant = %new.tenant.id, "tenant created");
    let view = NewTenantView {
        tenant: TenantView::of(&new.tenant),
        api_key: new.api_key.expose(),
        signing_secret: new.tenant.secrets.current.expose(),
    };
    Ok(created(&format!("/v1/tenants/{}", new.tenant.id), &view))
}

pub(super) async fn list(State(api): State<ApiState>, params: Params) -> Result<Response, Problem> {
    let list = List { name: "tenants", tenant: None, params: &params };
    let mut query = params.read();
    let limit = query.limit(api.settings().limits.page);
    let before = query.position(&list).map(|no| TenantNo(u32::from_be_bytes(no)));
    query.finish()?;
    let tenants = api.directory.tenants(before, limit + 1);
    let cursor = |tenant: &&Tenant| list.cursor(tenant.no.0.to_be_bytes());
    let tenants: Vec<&Tenant> = tenants.iter().map(|tenant| &**tenant).collect();
    Ok(Page::cut(tenants, limit, cursor, |tenant| TenantView::of(tenant)).into_response())
}

pub(super) async fn show(State(api): State<ApiState>, id: Id) -> Result<Response, Problem> {
    Ok(json(StatusCode::OK, &TenantView::of(&find(&api, &id)?.tenant)))
}

pub(super) async fn remove(
    State(api): State<ApiState>,
    caller: Caller,
    id: Id,
) -> Result<StatusCode, Problem> {
    let entry = find(&api, &id)?;
    api.directory.on_behalf_of(&caller.by).delete_tenant(entry.tenant.no).await?;
    tracing::info!(tenant = %entry.tenant.id, "tenant deleted");
    Ok(StatusCode::NO_CONTENT)
}

fn find(api: &ApiState, id: &Id) -> Result<std::sync::Arc<TenantEntry>, Problem> {
    api.directory.tenant(&id.0).ok_or_else(|| Problem::no_such(Object::Tenant))
}
