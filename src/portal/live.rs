//! The live tail: attempts as they are made.
//!
//! What comes is the API's own stream, passed on: it holds up no delivery, says how many attempts a
//! slow browser has missed, and ends with the session.

use askama::Template;
use axum::response::Response;
use http::{HeaderMap, HeaderName};

use super::{
    ask::Refused,
    filter::Filter,
    shell::{Place, Shell, page},
    visit::Visit,
    webhooks::Names,
};

const FILTERS: [&str; 5] = ["webhook", "status", "event_type", "code", "error"];
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

#[derive(Template)]
#[template(path = "live.html")]
struct LivePage {
    shell: Shell,
    base: String,
    deliveries: String,
    stream: String,
    filter: Filter,
    names: Names,
}

pub(super) async fn show(visit: Visit) -> Result<Response, Refused> {
    let filter = Filter::of(&visit.query).only(&FILTERS);
    Ok(page(&LivePage {
        shell: visit.shell("Live", Place::Live),
        base: visit.to("/live"),
        deliveries: visit.to("/deliveries"),
        stream: filter.at(&visit.to("/stream"), None),
        names: Names::of(&visit).await?,
        filter,
    }))
}

pub(super) async fn stream(visit: Visit, headers: HeaderMap) -> Result<Response, Refused> {
    let path = Filter::of(&visit.query).only(&FILTERS).at("/v1/stream", None);
    let seen = headers.get(LAST_EVENT_ID).map(|id| (LAST_EVENT_ID, id.clone()));
    visit.asker.open(&path, seen.as_slice()).await
}
