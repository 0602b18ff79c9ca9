//! `GET /v1/events?after=…`: events in the order of acceptance, for consumers who read what they
//! missed.
//!
//! Nothing is left out in silence. Where retention was faster than the consumer the answer is a 410,
//! and where a damaged part of the log was passed over, `incomplete` says so. New events only ever
//! come behind the last one told, so pages are stable under inserts.
//!
//! `next_cursor` says that there is more now, as in every list. `poll_cursor` is always there: it
//! goes on behind all that was read, which spares a consumer of few events the way over those of
//! everybody else, and outlives the event in `after`.

use axum::response::Response;
use http::StatusCode;
use serde::Serialize;

use super::{
    ApiState, Code, Problem, access::Scope, cursor::List, events::EventView, page::json,
    problem::Object, query::After,
};
use crate::{
    id::{EventId, Place},
    store::{EventQuery, StoreError},
};

#[derive(Serialize)]
struct CatchUpView {
    data: Vec<EventView>,
    /// Null where there is no more now.
    next_cursor: Option<String>,
    /// Where to ask again later, with the same parameters.
    poll_cursor: String,
    /// Whether a damaged part of the log was passed over: events may be missing in this page.
    incomplete: bool,
}

/// A page behind `position`, where a cursor gave one, or else behind `after`.
pub(super) async fn page(
    api: &ApiState,
    scope: &Scope,
    list: &List<'_>,
    after: After,
    position: Option<Place>,
    query: EventQuery,
) -> Result<Response, Problem> {
    let start = match (position, after) {
        (Some(place), _) => Start::At(place),
        (None, After::Start) => Start::Oldest,
        (None, After::Event(id)) => behind(api, scope, id).await?,
    };
    let from = match start {
        Start::Oldest => None,
        Start::At(place) | Start::Behind(place) => Some(place),
    };
    let found = api.store.following(from, query).await?.ok_or_else(gone)?;
    if let Start::Behind(_) = start {
        // Not removed by retention either: it never was.
        return Err(Problem::no_such(Object::Event));
    }
    let cursor = || list.cursor(found.next.as_u64().to_be_bytes());
    let view = CatchUpView {
        data: found.events.iter().map(EventView::of).collect(),
        next_cursor: found.more.then(cursor),
        poll_cursor: cursor(),
        incomplete: found.incomplete,
    };
    Ok(json(StatusCode::OK, &view))
}

/// Where a page starts.
enum Start {
    Oldest,
    At(Place),
    /// Behind an event that is not in the log: the store knows whether it ever could have been.
    Behind(Place),
}

async fn behind(api: &ApiState, scope: &Scope, id: EventId) -> Result<Start, Problem> {
    let missing = || Problem::no_such(Object::Event);
    if id.node != api.store.node {
        return Err(missing());
    }
    let next = Place::from_u64(id.place.as_u64().saturating_add(1));
    let block = match api.store.block(id.place.block()).await {
        Ok(Some(block)) => block,
        Ok(None) => return Ok(Start::Behind(next)),
        // Whose event it was cannot be read any more. As a place to go on it gives nothing away.
        Err(StoreError::Damaged) => return Ok(Start::At(next)),
        Err(error) => return Err(error.into()),
    };
    let event = block.events.get(usize::from(id.place.index()));
    let is_own = event.is_some_and(|event| event.tenant == scope.no());
    if !is_own || block.event_id(id.place.index()) != id {
        return Err(missing());
    }
    Ok(Start::At(next))
}

fn gone() -> Problem {
    Problem::new(
        Code::EventsGone,
        "events after it are no longer kept, so some may be missed for good; `after=start` goes \
         on with the oldest that is kept",
    )
}
