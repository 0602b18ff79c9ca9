//! Replays of many: counted first, confirmed, watched, stopped.

use askama::Template;
use axum::response::Response;
use serde_json::{Map, Value, json};

use super::{
    ask::{Refused, with_query},
    deliveries::{OF_REPLAYS, said},
    filter::Filter,
    form::Form,
    shell::{Place, Shell, page, page_with},
    visit::Visit,
    webhooks::Names,
    wire::{Page, Replay},
};
use crate::{event::EventType, replays::STATUSES};

#[derive(Template)]
#[template(path = "replays.html")]
struct ListPage {
    shell: Shell,
    base: String,
    names: Names,
    rows: Vec<Replay>,
    older: Option<String>,
}

pub(super) async fn list(visit: Visit) -> Result<Response, Refused> {
    let base = visit.to("/replays");
    let cursor = visit.query.filled("cursor").map(|cursor| ("cursor", cursor));
    let rows: Page<Replay> = visit.asker.get(&with_query("/v1/replays", cursor)).await?;
    let next = rows.next_cursor.as_deref();
    Ok(page(&ListPage {
        shell: visit.shell("Replays", Place::Replays),
        names: Names::of(&visit).await?,
        older: next.map(|next| with_query(&base, [("cursor", next)])),
        rows: rows.data,
        base,
    }))
}

#[derive(Template)]
#[template(path = "replay_new.html")]
struct NewPage {
    shell: Shell,
    base: String,
    names: Names,
    filter: Filter,
    statuses: [&'static str; 4],
    types: [&'static str; 6],
    wrong: Vec<String>,
}

async fn new_page(visit: &Visit, filter: Filter) -> Result<NewPage, Refused> {
    Ok(NewPage {
        shell: visit.shell("New replay", Place::Replays),
        base: visit.to("/replays"),
        names: Names::of(visit).await?,
        filter,
        statuses: STATUSES,
        types: EventType::ALL.map(EventType::as_str),
        wrong: Vec::new(),
    })
}

pub(super) async fn blank(visit: Visit) -> Result<Response, Refused> {
    let filter = Filter::of(&visit.query).only(&OF_REPLAYS);
    Ok(page(&new_page(&visit, filter).await?))
}

/// Counts, or sends, as the button says.
pub(super) async fn create(visit: Visit, Form(form): Form) -> Result<Response, Refused> {
    let filter = Filter::of(&form).only(&OF_REPLAYS);
    let dry_run = form.text("do") == "count";
    let mut body = Map::new();
    body.insert("dry_run".to_owned(), json!(dry_run));
    for name in OF_REPLAYS {
        let value = filter.value(name);
        let is_list = matches!(name, "status" | "event_type");
        if is_list && !value.is_empty() {
            body.insert(name.to_owned(), json!(value.split(',').collect::<Vec<_>>()));
        } else if !value.is_empty() {
            body.insert(name.to_owned(), json!(value));
        }
    }
    match visit.asker.post::<Replay>("/v1/replays", Value::Object(body)).await {
        Ok(job) if dry_run => Ok(visit.done(&format!("/replays/{}", job.id), "")),
        Ok(job) => Ok(visit.done(&format!("/replays/{}", job.id), "replay-started")),
        Err(refused) if refused.is_correctable() => {
            let shown = new_page(&visit, filter).await?;
            Ok(page_with(refused.status, &NewPage { wrong: said(&refused), ..shown }))
        }
        Err(refused) => Err(refused),
    }
}

#[derive(Template)]
#[template(path = "replay.html")]
struct ReplayPage {
    shell: Shell,
    base: String,
    names: Names,
    job: Replay,
    /// The deliveries that it is about.
    found: String,
}

pub(super) async fn show(visit: Visit) -> Result<Response, Refused> {
    let job: Replay = visit.asker.get(&format!("/v1/replays/{}", visit.id)).await?;
    Ok(page(&ReplayPage {
        found: found(&visit, &job),
        shell: visit.shell("Replay", Place::Replays),
        base: visit.to("/replays"),
        names: Names::of(&visit).await?,
        job,
    }))
}

/// The list of what a job is about. What it has sent again did not stay as it had ended.
fn found(visit: &Visit, job: &Replay) -> String {
    let statuses = job.status.iter().map(String::as_str).filter(|status| *status != "missed");
    let statuses = statuses.collect::<Vec<_>>().join(",");
    let (types, all) = (job.event_type.join(","), EventType::ALL.len());
    let filters = [
        ("webhook", job.webhook.as_deref().unwrap_or_default()),
        ("status", if job.dry_run { &statuses } else { "" }),
        ("event_type", if job.event_type.len() < all { &types } else { "" }),
        ("since", job.since.as_deref().unwrap_or_default()),
        ("until", &job.until),
    ];
    let set = filters.into_iter().filter(|(_, value)| !value.is_empty());
    with_query(&visit.to("/deliveries"), set)
}

/// Pauses, resumes or cancels it.
pub(super) async fn change(visit: Visit) -> Result<Response, Refused> {
    if !matches!(visit.change.as_str(), "pause" | "resume" | "cancel") {
        return Err(Refused::nothing_here());
    }
    let path = format!("/v1/replays/{}/{}", visit.id, visit.change);
    visit.asker.post::<Value>(&path, json!({})).await?;
    Ok(visit.done(&format!("/replays/{}", visit.id), "replay-changed"))
}
