//! The API: JSON over HTTP for tenants, keys, webhooks, events and deliveries.
//!
//! A handler knows HTTP and never how things are stored: it reads a request into typed values, asks
//! the [`Directory`] or the [`Store`], and writes the answer. All routes stand in one table
//! ([`routes`]), each with who may call it and which parameters it takes; the router is built from
//! that table, so a route without a rule cannot be made. Every refusal is a [`Problem`].
//!
//! What holds everywhere:
//! - a handler sees the tenant it acts for and nothing else; another tenant's object answers
//!   exactly as a missing one;
//! - a key is taken from the `Authorization` header only;
//! - a body has at most [`MAX_BODY`] bytes, a page at most `limits.page` rows;
//! - every answer ends, except for a stream, which ends with its reader or with the gateway;
//! - work that must not stop half-way runs in a task of its own, whether the caller still waits or
//!   not.
//!
//! It does not take events (ingest does), decide when a delivery is attempted (the engine does), or
//! serve pages: the portal does, which asks this router for all that it shows.

mod access;
mod attempt;
mod audit;
mod backups;
mod body;
mod catch_up;
mod check;
mod cursor;
mod deliveries;
mod delivery;
mod erasures;
mod etag;
mod events;
mod example;
mod idempotency;
mod keys;
pub mod openapi;
mod page;
mod params;
mod portal;
mod problem;
mod query;
mod replays;
pub mod routes;
mod signing_secret;
mod skipped;
mod stats;
mod stream;
mod tenants;
mod webhooks;

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use axum::{
    Router,
    extract::{MatchedPath, Request},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use http::{HeaderValue, header};
use tokio::sync::Semaphore;

pub use self::{
    body::MAX_BODY,
    idempotency::{Answers, BadAnswer, Bounds},
    problem::{Code, FieldError, Problem},
    stream::Ended,
};
use crate::{
    backups::Backups,
    command::Shards,
    config::{self, Limits},
    directory::Directory,
    erasures::Erasures,
    guard::Policy,
    metrics,
    replays::Replays,
    sessions::{Pass, Sessions},
    store::Store,
};

/// What the operator allows tenants to set.
#[derive(Clone, Debug)]
pub struct Settings {
    pub limits: Limits,
    pub stream: config::Stream,
    pub policy: Arc<Policy>,
    /// The most that a webhook may set as `timeout`.
    pub max_timeout: Duration,
    /// The most that a webhook may set as `max_in_flight`.
    pub max_in_flight: u32,
    /// `ingest.max_idempotency_key`.
    pub longest_idempotency_key: usize,
    /// The most deliveries a second that a replay of many may name.
    pub max_replay_rate: u32,
    /// The OpenAPI document, which is about ingest too.
    pub document: Bytes,
}

/// What goes on beside requests.
#[derive(Clone, Debug)]
pub struct Jobs {
    pub replays: Replays,
    pub erasures: Erasures,
    pub backups: Backups,
}

/// What every handler reaches. Copies share everything.
#[derive(Clone, Debug)]
pub struct ApiState {
    pub directory: Directory,
    pub store: Store,
    pub commands: Shards,
    pub replays: Replays,
    pub erasures: Erasures,
    pub backups: Backups,
    sessions: Sessions,
    settings: Arc<ArcSwap<Settings>>,
    tests: Arc<example::Tests>,
    answers: Answers,
    /// Webhooks that may be tried at once before they are saved.
    checks: Arc<Semaphore>,
    streams: Arc<stream::Streams>,
}

impl ApiState {
    pub fn new(
        directory: Directory,
        store: Store,
        commands: Shards,
        jobs: Jobs,
        sessions: Sessions,
        answers: Answers,
        settings: Settings,
    ) -> Self {
        let checks = Arc::new(Semaphore::new(settings.limits.webhook_checks));
        let settings = Arc::new(ArcSwap::from_pointee(settings));
        let tests = Arc::new(example::Tests::new());
        let streams = Arc::new(stream::Streams::new());
        let Jobs { replays, erasures, backups } = jobs;
        Self {
            directory,
            store,
            commands,
            replays,
            erasures,
            backups,
            sessions,
            settings,
            tests,
            answers,
            checks,
            streams,
        }
    }

    /// New settings, for requests from now on. The directory's limits are set on the directory.
    pub fn reload(&self, settings: Settings) {
        self.settings.store(Arc::new(settings));
    }

    /// Ends every stream, and lets none in: they would end by themselves only with their readers.
    pub fn end_streams(&self) {
        self.streams.end();
    }

    fn settings(&self) -> Arc<Settings> {
        self.settings.load_full()
    }
}

/// The whole API, built from the table of [`routes`].
pub fn router(state: ApiState) -> Router {
    let mut router = Router::new();
    for route in routes::all() {
        let gate = access::Gate::new(&state.directory, &route);
        let guarded = middleware::from_fn_with_state(gate, access::pass);
        let mut handler = (route.handler)();
        if route.is_repeatable() {
            let once = middleware::from_fn_with_state(state.clone(), idempotency::once);
            handler = handler.route_layer(once);
        }
        // Added last, so it comes first.
        router = router.route(route.path, handler.route_layer(guarded));
    }
    router
        .fallback(no_such_route)
        .method_not_allowed_fallback(no_such_method)
        .layer(middleware::from_fn(finish))
        .with_state(state)
}

async fn no_such_route() -> Problem {
    Problem::new(Code::NotFound, "there is no such path")
}

async fn no_such_method() -> Problem {
    Problem::new(Code::MethodNotAllowed, "this path has other methods; see the header Allow")
}

/// Counts the answer (the portal counts its own pages, and not what they are made
/// of), and keeps it (it may hold secrets) out of every cache.
async fn finish(path: Option<MatchedPath>, request: Request, next: Next) -> Response {
    let route = path.map_or_else(|| "unmatched".to_owned(), |path| path.as_str().to_owned());
    let is_counted = request.extensions().get::<Pass>().is_none();
    let mut response = next.run(request).await.into_response();
    let class = match response.status().as_u16() / 100 {
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        _ => "5xx",
    };
    if is_counted {
        ::metrics::counter!(metrics::HTTP_REQUESTS, "route" => route, "code_class" => class)
            .increment(1);
    }
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
