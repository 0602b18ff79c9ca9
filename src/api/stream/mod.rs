//! `GET /v1/stream`: attempts as they are recorded, as Server-Sent Events.
//!
//! A stream is a place in the attempt log and a task that reads forwards from it
//! ([`watcher`]). Nothing is fed to it: the delivery path knows of no stream, and what is told is
//! what was committed. So an event's id is a place (`pos_…`), and to resume is to read on from there,
//! over restarts of the gateway too.
//!
//! The log is the buffer. What a stream holds beside it is bounded (one page and [`CHUNKS`] pieces),
//! so that a reader who takes nothing holds up nobody. Nothing is left out in silence: an event
//! `lagged` says how many attempts were, or that nobody knows how many.

mod slots;
mod view;
mod watcher;

use std::convert::Infallible;

use axum::{
    body::Body,
    extract::State,
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use http_body_util::{BodyExt as _, channel::Channel};

pub(super) use self::{
    slots::Streams,
    view::{LaggedView, REASONS, StreamedAttemptView},
};
use self::{
    view::MEDIA_TYPE,
    watcher::{Start, Watcher},
};
use super::{ApiState, Code, Problem, access::Caller, params::Params, problem::Object};
use crate::{
    id::{StreamId, WebhookId, WebhookNo},
    shutdown::{self, Signal},
    store::{AttemptQuery, EntryPlace},
};

pub(super) const PARAMS: &[&str] = &["webhook", "status", "event_type", "code", "error"];

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Pieces of an answer that wait for the connection to take them, of about [`watcher::CHUNK`] each.
const CHUNKS: usize = 2;

/// Stands beside an answer that does not end by itself: fires when the stream has ended for us. A
/// reader who takes nothing keeps the rest of it from being sent, and must not keep its connection
/// for that.
#[derive(Clone, Debug)]
pub struct Ended(pub Signal);

pub(super) async fn open(
    State(api): State<ApiState>,
    caller: Caller,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, Problem> {
    let mut query = params.read();
    let webhook = query.webhook();
    let wanted = AttemptQuery {
        tenant: caller.tenant_no(),
        webhook: None,
        states: query.states(),
        event_types: query.event_types(),
        status: query.code(),
        error: query.error(),
        limit: watcher::PAGE,
    };
    query.finish()?;
    let webhook = webhook.map(|id| webhook_no(&api, &caller, id)).transpose()?;
    let wanted = AttemptQuery { webhook, ..wanted };
    let seen = seen(&api, &headers)?;
    let limits = api.settings().stream.clone();
    let slot = api.streams.enter(caller.tenant_no(), &limits)?;
    let start = match seen {
        Some(place) => Start::Behind(place),
        None => Start::Now(api.store.attempts(None, wanted.clone()).await?.next),
    };

    let (pieces, body) = Channel::<Bytes, Infallible>::new(CHUNKS);
    let (reader_here, reader_gone) = shutdown::channel();
    let (ended, has_ended) = shutdown::channel();
    let draining = api.streams.draining();
    let watcher = Watcher::new(api, caller, wanted, start, pieces, limits, slot);
    tokio::spawn(async move {
        let _ended = ended;
        watcher.run(draining, reader_gone).await;
    });
    let body = body.map_frame(move |frame| {
        // Dropped with the body, whoever drops it.
        let _here = &reader_here;
        frame
    });
    let mut response = Body::new(body).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    // A proxy that waits for a full buffer would make it anything but live.
    let unbuffered = HeaderName::from_static("x-accel-buffering");
    response.headers_mut().insert(unbuffered, HeaderValue::from_static("no"));
    response.extensions_mut().insert(Ended(has_ended));
    Ok(response)
}

/// Up to where the reader has seen the log, where it says so.
fn seen(api: &ApiState, headers: &HeaderMap) -> Result<Option<EntryPlace>, Problem> {
    const RULE: &str =
        "Last-Event-ID is the `id` of an event of this gateway's stream; leave it out to begin now";
    let refuse = || Problem::new(Code::InvalidCursor, RULE);
    let mut values = headers.get_all(LAST_EVENT_ID).iter();
    let text = match (values.next(), values.next()) {
        (None, _) => return Ok(None),
        (Some(value), None) => value.to_str().map_err(|_| refuse())?,
        (Some(_), Some(_)) => return Err(refuse()),
    };
    let id: StreamId = text.parse().map_err(|_| refuse())?;
    if id.node != api.store.node {
        return Err(refuse());
    }
    Ok(Some(EntryPlace(id.place)))
}

/// An operator who acts for nobody may name any tenant's webhook.
fn webhook_no(api: &ApiState, caller: &Caller, id: WebhookId) -> Result<WebhookNo, Problem> {
    let found = match caller.tenant_no() {
        Some(tenant) => api.directory.webhook_no(tenant, id),
        None => api.directory.webhook_no_anywhere(id),
    };
    found.ok_or_else(|| Problem::no_such(Object::Webhook))
}
