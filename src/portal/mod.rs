//! The portal: pages about one tenant's webhooks, events and deliveries, and about the gateway.
//!
//! It holds no rule of its own. Everything that a page shows or does is asked of the API's router,
//! in this process, with the session of whoever sits before it (`ask`): so what a page may show is
//! what the API's gate lets that session see, filters mean what they mean there, and a refusal comes
//! with the API's words. What is left to do here is to make pages of answers and requests of forms.
//!
//! Pages are whole without JavaScript: forms are posted, answers redirect, and what is live says when
//! it was made. The one script adds copying, live rows and ages that go on.
//!
//! What holds everywhere (`fence`): requests come with a host that is ours; what changes something
//! comes from a page of ours; no page has a script, a style or an image that is not ours, and none is
//! kept in a cache. Text from tenants, producers and receivers reaches a page through askama's
//! escaping only: nothing in here marks a string as safe HTML.
//!
//! It never reads the store, and it never waits for a delivery: a browser that is slow is slow alone.

mod ask;
mod assets;
mod audit;
mod curl;
mod deliveries;
mod delivery;
mod door;
mod events;
mod fence;
mod filter;
mod form;
mod keys;
mod live;
mod operator;
mod overview;
mod phases;
mod replays;
mod samples;
mod shell;
mod stats;
mod verify;
mod visit;
mod webhook;
mod webhooks;
mod wire;
mod words;

use std::sync::Arc;

use axum::{
    Router, middleware,
    routing::{get, post},
};

use crate::{config, directory::Directory, sessions::Sessions};

/// What the operator's pages show of the gateway beside what the API says.
pub trait About: Send + Sync + std::fmt::Debug {
    /// Why the gateway is not ready; empty where it is.
    fn not_ready(&self) -> Vec<&'static str>;
    /// The numbers of `/metrics` at this moment, in its text format.
    fn metrics(&self) -> String;
    /// The configuration in force, as TOML with the origin of each value; none where nobody knows.
    fn configuration(&self) -> Option<String>;
}

/// What every page reaches. Copies share everything.
#[derive(Clone, Debug)]
struct Portal {
    api: Router,
    sessions: Sessions,
    directory: Directory,
    settings: Arc<config::Portal>,
    about: Arc<dyn About>,
}

/// All pages. `api` is the router that they ask.
pub fn router(
    api: Router,
    sessions: Sessions,
    directory: Directory,
    settings: config::Portal,
    about: Arc<dyn About>,
) -> Router {
    let portal = Portal { api, sessions, directory, settings: Arc::new(settings), about };
    // Not nested: a page knows its whole address, to come back to after a login.
    let of = |page: &str| format!("/portal/t/{{tenant}}{page}");
    Router::new()
        .route(&of("/"), get(overview::show))
        .route(&of("/deliveries"), get(deliveries::list))
        .route(&of("/deliveries/replay"), post(deliveries::replay_selected))
        .route(&of("/deliveries/{id}"), get(delivery::show))
        .route(&of("/deliveries/{id}/replay"), post(delivery::replay))
        .route(&of("/deliveries/{id}/cancel"), post(delivery::cancel))
        .route(&of("/webhooks"), get(webhooks::list))
        .route(&of("/webhooks/new"), get(webhooks::blank).post(webhooks::create))
        .route(&of("/webhooks/{id}"), get(webhook::show).post(webhook::update))
        .route(&of("/webhooks/{id}/test"), post(webhook::test))
        .route(&of("/webhooks/{id}/delete"), post(webhook::delete))
        .route(&of("/events"), get(events::list))
        .route(&of("/events/{id}"), get(events::show))
        .route(&of("/live"), get(live::show))
        .route(&of("/stream"), get(live::stream))
        .route(&of("/verify"), get(verify::show).post(verify::check))
        .route(&of("/keys"), get(keys::list).post(keys::create))
        .route(&of("/keys/{id}/revoke"), post(keys::revoke))
        .route(&of("/secret"), get(keys::secret).post(keys::reveal))
        .route(&of("/secret/rotate"), get(keys::secret).post(keys::rotate))
        .route(&of("/audit"), get(audit::of_tenant))
        .route(&of("/replays"), get(replays::list).post(replays::create))
        .route(&of("/replays/new"), get(replays::blank))
        .route(&of("/replays/{id}"), get(replays::show))
        .route(&of("/replays/{id}/{change}"), post(replays::change))
        .route(&of("/link"), post(operator::link))
        .route("/portal", get(door::front))
        .route("/portal/", get(door::front))
        .route("/portal/login", get(door::login_page).post(door::login))
        .route("/portal/logout", post(door::logout))
        .route("/portal/link", post(door::follow))
        .route("/portal/link/{token}", get(door::link_page))
        .route("/portal/static/{version}/{name}", get(assets::serve))
        .route("/portal/tenants", get(operator::tenants).post(operator::create_tenant))
        .route("/portal/audit", get(audit::of_all))
        .route("/portal/system", get(operator::system))
        .route("/portal/{*rest}", get(door::nothing_here))
        .layer(middleware::from_fn_with_state(portal.clone(), fence::pass))
        .with_state(portal)
}
