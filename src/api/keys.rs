//! API keys: made, listed without their text, revoked.

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
    body::{Fields, Given},
    cursor::List,
    openapi::KeyKind,
    page::{Page, created},
    params::Params,
    problem::Object,
};
use crate::{
    clock::rfc3339,
    directory::{ApiKey, Directory, Principal},
    id::KeyId,
    openapi::words,
};

/// An API key, without its text.
#[derive(Serialize, ToSchema)]
#[schema(as = ApiKey)]
pub(super) struct KeyView {
    #[schema(value_type = words::KeyId)]
    id: String,
    #[schema(value_type = KeyKind)]
    kind: &'static str,
    /// Of a key of kind `tenant`.
    #[schema(value_type = Option<words::TenantId>, required)]
    tenant: Option<String>,
    #[schema(value_type = words::Time)]
    created_at: String,
}

impl KeyView {
    fn of(api: &ApiState, key: &ApiKey) -> Self {
        let tenant = match key.principal {
            Principal::Tenant(no) => api.directory.tenant_by_no(no),
            Principal::Operator | Principal::Producer => None,
        };
        Self {
            id: key.id.to_string(),
            kind: key.principal.kind(),
            tenant: tenant.map(|entry| entry.tenant.id.to_string()),
            created_at: rfc3339(key.created_at),
        }
    }
}

/// A key just made. The only answer that shows its text.
#[derive(Serialize, ToSchema)]
#[schema(as = NewApiKey)]
pub(super) struct NewKeyView<'a> {
    #[serde(flatten)]
    key: KeyView,
    api_key: &'a str,
}

pub(super) async fn create(
    State(api): State<ApiState>,
    caller: Caller,
    mut fields: Fields,
) -> Result<Response, Problem> {
    let kind = fields.string("kind");
    let kind = fields.required("kind", kind);
    let tenant = fields.string("tenant");
    let principal = principal(&api.directory, &caller, &mut fields, kind.as_deref(), tenant)?;
    fields.finish()?;
    let principal = principal.expect("what is wrong with it was refused");
    let (key, text) = api.directory.on_behalf_of(&caller.by).create_key(principal).await?;
    tracing::info!(key = %key.id, kind = principal.kind(), "api key created");
    let view = NewKeyView { key: KeyView::of(&api, &key), api_key: text.expose() };
    Ok(created(&format!("/v1/keys/{}", key.id), &view))
}

/// For whom the new key shall speak. A tenant's key can only be made for that tenant.
fn principal(
    directory: &Directory,
    caller: &Caller,
    fields: &mut Fields,
    kind: Option<&str>,
    tenant: Given<String>,
) -> Result<Option<Principal>, Problem> {
    let named = match tenant {
        Given::Value(name) => Some(name),
        _ => None,
    };
    let own = caller.tenant.as_ref().map(|entry| entry.tenant.id.as_str());
    let agrees = named.is_none() || own.is_none() || named.as_deref() == own;
    if !caller.is_operator() && (kind.is_some_and(|kind| kind != "tenant") || !agrees) {
        return Err(Problem::new(
            Code::Forbidden,
            "a tenant's key can make keys of kind `tenant` for its own tenant only",
        ));
    }
    if !agrees {
        fields.refuse("/tenant", "it is another tenant than the header Senderz-Tenant names");
    }
    match kind {
        Some("operator" | "producer") if named.is_some() => {
            fields.refuse("/tenant", "only a key of kind `tenant` has one");
        }
        Some("operator") => return Ok(Some(Principal::Operator)),
        Some("producer") => return Ok(Some(Principal::Producer)),
        Some("tenant") => match named.as_deref().or(own) {
            Some(name) => match directory.tenant(name) {
                Some(entry) => return Ok(Some(Principal::Tenant(entry.tenant.no))),
                None => fields.refuse("/tenant", "there is no such tenant"),
            },
            None => fields.refuse("/tenant", "it is required for a key of kind `tenant`"),
        },
        Some(_) => fields.refuse("/kind", "it is one of operator, producer, tenant"),
        None => {}
    }
    Ok(None)
}

pub(super) async fn list(
    State(api): State<ApiState>,
    caller: Caller,
    params: Params,
) -> Result<Response, Problem> {
    let list = List { name: "keys", tenant: caller.tenant_no(), params: &params };
    let mut query = params.read();
    let limit = query.limit(api.settings().limits.page);
    let before = query.position(&list).map(u32::from_be_bytes);
    query.finish()?;
    let keys = api.directory.keys(caller.tenant_no(), before, limit + 1);
    let cursor = |key: &std::sync::Arc<ApiKey>| list.cursor(key.no.to_be_bytes());
    Ok(Page::cut(keys, limit, cursor, |key| KeyView::of(&api, key)).into_response())
}

pub(super) async fn revoke(
    State(api): State<ApiState>,
    caller: Caller,
    id: Id,
) -> Result<StatusCode, Problem> {
    let id: KeyId = id.parse(Object::Key)?;
    api.directory.on_behalf_of(&caller.by).revoke_key(caller.tenant_no(), id).await?;
    tracing::info!(key = %id, "api key revoked");
    Ok(StatusCode::NO_CONTENT)
}

#[cfg(test)]
mod tests;
