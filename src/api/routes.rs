//! Every route, who may call it, and which parameters it takes.

use axum::routing::{MethodRouter, delete, get, patch, post};
use http::Method;

use super::{ApiState, deliveries, events, example, keys, signing_secret, tenants, webhooks};

/// Who may call a route. A producer's key may call none of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// The operator.
    Operator,
    /// A tenant, or the operator acting for one (`Senderz-Tenant`).
    Tenant,
    /// A tenant for its own; the operator with or without a tenant.
    TenantOrOperator,
}

/// A route and its rules.
#[derive(Clone, Debug)]
pub struct Route {
    pub method: Method,
    pub path: &'static str,
    pub access: Access,
    /// The URL's parameters that it takes; any other is refused.
    pub params: &'static [&'static str],
    pub(super) handler: fn() -> MethodRouter<ApiState>,
}

const NONE: &[&str] = &[];
const PAGE: &[&str] = &["limit", "cursor"];

pub fn all() -> Vec<Route> {
    use Access::{Operator, Tenant, TenantOrOperator};
    let route =
        |method, path, access, params, handler| Route { method, path, access, params, handler };
    vec![
        route(Method::POST, "/v1/tenants", Operator, NONE, || post(tenants::create)),
        route(Method::GET, "/v1/tenants", Operator, PAGE, || get(tenants::list)),
        route(Method::GET, "/v1/tenants/{id}", Operator, NONE, || get(tenants::show)),
        route(Method::DELETE, "/v1/tenants/{id}", Operator, NONE, || delete(tenants::remove)),
        route(Method::POST, "/v1/keys", TenantOrOperator, NONE, || post(keys::create)),
        route(Method::GET, "/v1/keys", TenantOrOperator, PAGE, || get(keys::list)),
        route(Method::DELETE, "/v1/keys/{id}", TenantOrOperator, NONE, || delete(keys::revoke)),
        route(Method::GET, "/v1/signing-secret", Tenant, NONE, || get(signing_secret::show)),
        route(Method::POST, "/v1/signing-secret/rotate", Tenant, NONE, || {
            post(signing_secret::rotate)
        }),
        route(Method::POST, "/v1/webhooks", Tenant, NONE, || post(webhooks::create)),
        route(Method::GET, "/v1/webhooks", Tenant, PAGE, || get(webhooks::list)),
        route(Method::GET, "/v1/webhooks/{id}", Tenant, NONE, || get(webhooks::show)),
        route(Method::PATCH, "/v1/webhooks/{id}", Tenant, NONE, || patch(webhooks::update)),
        route(Method::DELETE, "/v1/webhooks/{id}", Tenant, NONE, || delete(webhooks::remove)),
        route(Method::POST, "/v1/webhooks/{id}/test", Tenant, NONE, || post(example::test)),
        route(Method::GET, "/v1/events", Tenant, events::PARAMS, || get(events::list)),
        route(Method::GET, "/v1/events/{id}", Tenant, NONE, || get(events::show)),
        route(Method::GET, "/v1/deliveries", Tenant, deliveries::PARAMS, || get(deliveries::list)),
        route(Method::GET, "/v1/deliveries/{id}", Tenant, NONE, || get(deliveries::show)),
        route(Method::POST, "/v1/deliveries/{id}/replay", Tenant, NONE, || {
            post(deliveries::replay)
        }),
        route(Method::POST, "/v1/deliveries/{id}/cancel", Tenant, NONE, || {
            post(deliveries::cancel)
        }),
    ]
}
