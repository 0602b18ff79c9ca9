//! What producers sent: the list, and one event with its payload and what became of it.

use askama::Template;
use axum::response::Response;

use super::{
    ask::{Refused, with_query},
    curl::pretty,
    deliveries::said,
    shell::{Place, Shell, page},
    visit::Visit,
    webhooks::Names,
    wire::{Delivery, Event, FullEvent, Page},
    words::When,
};
use crate::event::EventType;

#[derive(Template)]
#[template(path = "events.html")]
struct ListPage {
    shell: Shell,
    base: String,
    chosen: String,
    types: [&'static str; 6],
    wrong: Vec<String>,
    rows: Vec<Event>,
    older: Option<String>,
    newest: Option<String>,
}

pub(super) async fn list(visit: Visit) -> Result<Response, Refused> {
    let base = visit.to("/events");
    let chosen = visit.query.filled("event_type");
    let cursor = visit.query.filled("cursor");
    let kept = || chosen.map(|chosen| ("event_type", chosen));
    let with_cursor = |path: &str, cursor: Option<&str>| {
        with_query(path, kept().into_iter().chain(cursor.map(|c| ("cursor", c))))
    };
    let mut wrong = Vec::new();
    let asked = with_cursor("/v1/events", cursor);
    let rows: Page<Event> = match visit.asker.get(&asked).await {
        Ok(rows) => rows,
        Err(refused) if refused.is_correctable() => {
            wrong = said(&refused);
            Page { data: Vec::new(), next_cursor: None }
        }
        Err(refused) => return Err(refused),
    };
    Ok(page(&ListPage {
        shell: visit.shell("Events", Place::Events),
        chosen: chosen.unwrap_or_default().to_owned(),
        types: EventType::ALL.map(EventType::as_str),
        wrong,
        older: rows.next_cursor.as_deref().map(|next| with_cursor(&base, Some(next))),
        newest: cursor.map(|_| with_cursor(&base, None)),
        rows: rows.data,
        base,
    }))
}

#[derive(Template)]
#[template(path = "event.html")]
struct EventPage<'a> {
    shell: Shell,
    base: String,
    event: FullEvent<'a>,
    accepted: Option<When>,
    names: Names,
    deliveries: Vec<Delivery>,
    pretty: Option<String>,
}

pub(super) async fn show(visit: Visit) -> Result<Response, Refused> {
    let text = visit.asker.get_text(&format!("/v1/events/{}", visit.id)).await?;
    let mut event: FullEvent<'_> =
        serde_json::from_slice(&text).map_err(|_| Refused::nothing_here())?;
    Ok(page(&EventPage {
        shell: visit.shell("Event", Place::Events),
        base: visit.to(""),
        accepted: When::of(&event.accepted_at),
        names: Names::of(&visit).await?,
        deliveries: std::mem::take(&mut event.deliveries),
        pretty: event.payload.map(|payload| pretty(payload.get())),
        event,
    }))
}
