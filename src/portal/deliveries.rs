//! The log of deliveries: filtered, live, replayed by hand.

use askama::Template;
use axum::response::{IntoResponse as _, Redirect, Response};
use serde_json::{Value, json};

use super::{
    ask::{Refused, part, with_query},
    filter::{Filter, is_relative},
    form::Form,
    shell::{Place, Shell, page},
    visit::Visit,
    webhooks::Names,
    wire::{Delivery, Page},
};
use crate::{delivery::ErrorCode, event::EventType};

/// What `POST /v1/replays` can be narrowed down by.
pub(super) const OF_REPLAYS: [&str; 5] = ["webhook", "status", "event_type", "since", "until"];

const STATES: [&str; 5] = ["pending", "retrying", "delivered", "failed", "canceled"];

/// How many one form may send again; each is a request of its own to the API.
const MAX_SELECTED: usize = 100;

#[derive(Template)]
#[template(path = "deliveries.html")]
struct ListPage {
    shell: Shell,
    base: String,
    filter: Filter,
    line: String,
    wrong: Vec<String>,
    names: Names,
    rows: Vec<Delivery>,
    states: [&'static str; 5],
    types: [&'static str; 6],
    errors: [&'static str; 9],
    /// Where the live updates of this list come from.
    stream: String,
    older: Option<String>,
    newest: Option<String>,
    /// Where all that match can be sent again; none where the API cannot narrow it down so.
    replay_all: Option<String>,
}

pub(super) async fn list(visit: Visit) -> Result<Response, Refused> {
    let base = visit.to("/deliveries");
    let mut wrong = Vec::new();
    let typed = visit.query.text("q").to_owned();
    let filter = match visit.query.filled("q").map(Filter::of_line) {
        Some(Ok(filter)) => return Ok(Redirect::to(&filter.at(&base, None)).into_response()),
        Some(Err(error)) => {
            wrong.push(error);
            Filter::default()
        }
        None => Filter::of(&visit.query),
    };
    if is_relative(&visit.query) {
        return Ok(Redirect::to(&filter.at(&base, None)).into_response());
    }
    let cursor = visit.query.filled("cursor");
    let asked = filter.at("/v1/deliveries", cursor);
    let none = || Page { data: Vec::new(), next_cursor: None };
    let rows: Page<Delivery> = match visit.asker.get(&asked).await {
        // What was typed is not what this would be a list of.
        Ok(_) if !wrong.is_empty() => none(),
        Ok(rows) => rows,
        Err(refused) if refused.is_correctable() || !filter.is_empty() => {
            wrong.extend(said(&refused));
            none()
        }
        Err(refused) => return Err(refused),
    };
    let names = Names::of(&visit).await?;
    let can_replay = wrong.is_empty() && filter.beside(&OF_REPLAYS).is_empty();
    Ok(page(&ListPage {
        shell: visit.shell("Deliveries", Place::Deliveries),
        line: if typed.is_empty() { filter.line() } else { typed },
        stream: filter
            .only(&["webhook", "status", "event_type", "code", "error"])
            .at(&visit.to("/stream"), None),
        older: rows.next_cursor.as_deref().map(|cursor| filter.at(&base, Some(cursor))),
        newest: cursor.map(|_| filter.at(&base, None)),
        replay_all: can_replay.then(|| filter.at(&visit.to("/replays/new"), None)),
        base,
        filter,
        wrong,
        names,
        rows: rows.data,
        states: STATES,
        types: EventType::ALL.map(EventType::as_str),
        errors: ErrorCode::ALL.map(ErrorCode::as_str),
    }))
}

/// What the API found wrong, piece by piece.
pub(super) fn said(refused: &Refused) -> Vec<String> {
    if refused.errors.is_empty() {
        return vec![refused.to_string()];
    }
    let errors = refused.errors.iter();
    errors.map(|e| format!("{}: {}", e.pointer.trim_start_matches(['?', '/']), e.detail)).collect()
}

#[derive(Template)]
#[template(path = "replayed.html")]
struct ReplayedPage {
    shell: Shell,
    back: String,
    sent: usize,
    not_sent: Vec<(String, String)>,
}

/// Sends those that were ticked again, each as if by its own button.
pub(super) async fn replay_selected(visit: Visit, Form(form): Form) -> Result<Response, Refused> {
    let (mut sent, mut not_sent) = (0, Vec::new());
    for id in form.all("id").take(MAX_SELECTED) {
        let path = format!("/v1/deliveries/{}/replay", part(id));
        match visit.asker.post::<Value>(&path, json!({})).await {
            Ok(_) => sent += 1,
            Err(refused) => not_sent.push((id.to_owned(), refused.detail)),
        }
    }
    if sent > 0 && not_sent.is_empty() {
        return Ok(visit.done("/deliveries", "replayed-selected"));
    }
    let back = with_query(&visit.to("/deliveries"), []);
    let shell = visit.shell("Replayed", Place::Deliveries);
    Ok(page(&ReplayedPage { shell, back, sent, not_sent }))
}
