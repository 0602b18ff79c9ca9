//! Every route, who may call it, and which parameters it takes.

use axum::routing::{MethodRouter, delete, get, patch, post};
use http::Method;

use super::{
    ApiState, Settings, audit, backups, deliveries, erasures, events, example, keys, openapi,
    portal, replays, signing_secret, stats, stream, tenants, webhooks,
};
use crate::{
    openapi::{Operation, PATH},
    replays::Order,
};

/// Who may call a route. A producer's key may call none of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// Whoever asks, without a key.
    Anyone,
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
    /// What the OpenAPI document says of it beyond this table.
    pub(super) document: fn(&Settings) -> Operation,
    pub(super) handler: fn() -> MethodRouter<ApiState>,
}

impl Route {
    /// Whether it takes an `Idempotency-Key`: done twice, it would be done twice.
    pub(super) fn is_repeatable(&self) -> bool {
        self.method == Method::POST || (self.method == Method::DELETE && self.path == EVENTS)
    }
}

const EVENTS: &str = "/v1/events";
const NONE: &[&str] = &[];
/// Of routes that can try what they would do.
const DRY_RUN: &[&str] = &["dry_run"];
const PAGE: &[&str] = &["limit", "cursor"];

pub fn all() -> Vec<Route> {
    use Access::{Anyone, Operator, Tenant, TenantOrOperator};
    use openapi as doc;
    let route = |method, path, access, params, document, handler| Route {
        method,
        path,
        access,
        params,
        document,
        handler,
    };
    vec![
        route(Method::GET, PATH, Anyone, NONE, doc::itself, || get(doc::show)),
        route(Method::POST, "/v1/tenants", Operator, NONE, doc::tenants::create, || {
            post(tenants::create)
        }),
        route(Method::GET, "/v1/tenants", Operator, PAGE, doc::tenants::list, || {
            get(tenants::list)
        }),
        route(Method::GET, "/v1/tenants/{id}", Operator, NONE, doc::tenants::show, || {
            get(tenants::show)
        }),
        route(Method::DELETE, "/v1/tenants/{id}", Operator, NONE, doc::tenants::remove, || {
            delete(tenants::remove)
        }),
        route(Method::POST, "/v1/keys", TenantOrOperator, NONE, doc::keys::create, || {
            post(keys::create)
        }),
        route(Method::GET, "/v1/keys", TenantOrOperator, PAGE, doc::keys::list, || get(keys::list)),
        route(Method::DELETE, "/v1/keys/{id}", TenantOrOperator, NONE, doc::keys::revoke, || {
            delete(keys::revoke)
        }),
        route(Method::GET, "/v1/signing-secret", Tenant, NONE, doc::signing_secret::show, || {
            get(signing_secret::show)
        }),
        route(
            Method::POST,
            "/v1/signing-secret/rotate",
            Tenant,
            NONE,
            doc::signing_secret::rotate,
            || post(signing_secret::rotate),
        ),
        route(Method::POST, "/v1/webhooks", Tenant, DRY_RUN, doc::webhooks::create, || {
            post(webhooks::create)
        }),
        route(Method::GET, "/v1/webhooks", Tenant, PAGE, doc::webhooks::list, || {
            get(webhooks::list)
        }),
        route(Method::GET, "/v1/webhooks/{id}", Tenant, NONE, doc::webhooks::show, || {
            get(webhooks::show)
        }),
        route(Method::PATCH, "/v1/webhooks/{id}", Tenant, DRY_RUN, doc::webhooks::update, || {
            patch(webhooks::update)
        }),
        route(Method::DELETE, "/v1/webhooks/{id}", Tenant, NONE, doc::webhooks::remove, || {
            delete(webhooks::remove)
        }),
        route(Method::POST, "/v1/webhooks/{id}/test", Tenant, NONE, doc::webhooks::test, || {
            post(example::test)
        }),
        route(
            Method::GET,
            "/v1/webhooks/{id}/stats",
            Tenant,
            stats::PARAMS,
            doc::stats::webhook,
            || get(stats::of_webhook),
        ),
        route(
            Method::GET,
            "/v1/stats",
            TenantOrOperator,
            stats::PARAMS,
            doc::stats::overall,
            || get(stats::overall),
        ),
        route(Method::GET, EVENTS, Tenant, events::PARAMS, doc::events::list, || get(events::list)),
        route(Method::DELETE, EVENTS, Tenant, erasures::PARAMS, doc::erasures::create, || {
            delete(erasures::create)
        }),
        route(Method::POST, "/v1/backups", Operator, NONE, doc::backups::create, || {
            post(backups::create)
        }),
        route(Method::GET, "/v1/backups", Operator, PAGE, doc::backups::list, || {
            get(backups::list)
        }),
        route(Method::GET, "/v1/backups/{id}", Operator, NONE, doc::backups::show, || {
            get(backups::show)
        }),
        route(Method::GET, "/v1/erasures", Tenant, PAGE, doc::erasures::list, || {
            get(erasures::list)
        }),
        route(Method::GET, "/v1/erasures/{id}", Tenant, NONE, doc::erasures::show, || {
            get(erasures::show)
        }),
        route(Method::GET, "/v1/events/{id}", Tenant, NONE, doc::events::show, || {
            get(events::show)
        }),
        route(
            Method::GET,
            "/v1/deliveries",
            Tenant,
            deliveries::PARAMS,
            doc::deliveries::list,
            || get(deliveries::list),
        ),
        route(Method::GET, "/v1/deliveries/{id}", Tenant, NONE, doc::deliveries::show, || {
            get(deliveries::show)
        }),
        route(
            Method::POST,
            "/v1/deliveries/{id}/replay",
            Tenant,
            NONE,
            doc::deliveries::replay,
            || post(deliveries::replay),
        ),
        route(
            Method::POST,
            "/v1/deliveries/{id}/cancel",
            Tenant,
            NONE,
            doc::deliveries::cancel,
            || post(deliveries::cancel),
        ),
        route(Method::POST, "/v1/replays", Tenant, NONE, doc::replays::create, || {
            post(replays::create)
        }),
        route(Method::GET, "/v1/replays", Tenant, PAGE, doc::replays::list, || get(replays::list)),
        route(Method::GET, "/v1/replays/{id}", Tenant, NONE, doc::replays::show, || {
            get(replays::show)
        }),
        route(Method::POST, "/v1/replays/{id}/pause", Tenant, NONE, doc::replays::pause, || {
            replays::tell(Order::Pause)
        }),
        route(Method::POST, "/v1/replays/{id}/resume", Tenant, NONE, doc::replays::resume, || {
            replays::tell(Order::Resume)
        }),
        route(Method::POST, "/v1/replays/{id}/cancel", Tenant, NONE, doc::replays::cancel, || {
            replays::tell(Order::Cancel)
        }),
        route(
            Method::GET,
            "/v1/stream",
            TenantOrOperator,
            stream::PARAMS,
            doc::stream::open,
            || get(stream::open),
        ),
        route(Method::GET, "/v1/audit", TenantOrOperator, audit::PARAMS, doc::audit::list, || {
            get(audit::list)
        }),
        route(Method::POST, "/v1/portal/sessions", Tenant, NONE, doc::portal::create, || {
            post(portal::create)
        }),
    ]
}
