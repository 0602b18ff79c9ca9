//! One delivery: what was sent, what came back each time, why it failed and what mends it.

use askama::Template;
use axum::response::Response;
use serde_json::{Value, json};

use super::{
    ask::Refused,
    curl::{self, pretty},
    phases::{Bar, bars},
    shell::{Place, Shell, page},
    visit::Visit,
    webhooks::Names,
    wire::{Attempt, AttemptError, Delivery, DeliveryRest, Webhook},
};

#[derive(Template)]
#[template(path = "delivery.html")]
struct DeliveryPage {
    shell: Shell,
    base: String,
    delivery: Delivery,
    names: Names,
    /// The newest first.
    attempts: Vec<Shown>,
    /// Why it is not delivered, where an attempt says so.
    trouble: Option<AttemptError>,
    payload: Option<Payload>,
    request: Option<Request>,
}

struct Shown {
    attempt: Attempt,
    bars: Vec<Bar>,
    is_last: bool,
}

struct Payload {
    raw: String,
    pretty: String,
}

/// What was sent along with the payload, as far as it can be made again.
struct Request {
    method_line: String,
    headers: Vec<(String, String)>,
    curl: String,
}

pub(super) async fn show(visit: Visit) -> Result<Response, Refused> {
    let text = visit.asker.get_text(&format!("/v1/deliveries/{}", visit.id)).await?;
    let unreadable = |_| Refused::nothing_here();
    let delivery: Delivery = serde_json::from_slice(&text).map_err(unreadable)?;
    let rest: DeliveryRest<'_> = serde_json::from_slice(&text).map_err(unreadable)?;
    let webhook = match &delivery.webhook_id {
        Some(id) if !delivery.webhook_deleted => {
            Some(visit.asker.get::<Webhook>(&format!("/v1/webhooks/{id}")).await?)
        }
        _ => None,
    };
    let raw = rest.payload.map(|payload| payload.get());
    let request = webhook.as_ref().zip(raw).map(|(webhook, raw)| {
        let headers = curl::headers(&delivery, webhook);
        Request {
            method_line: format!("POST {}", webhook.url),
            curl: curl::command(&webhook.url, &headers, raw),
            headers,
        }
    });
    let last = rest.attempts.last();
    let trouble = match delivery.status.as_str() {
        "delivered" => None,
        _ => last.and_then(|attempt| attempt.error.clone()),
    };
    let longest = rest.attempts.iter().map(|one| one.latency_ms).fold(0.0, f64::max);
    let count = rest.attempts.len();
    let shown = rest.attempts.into_iter().enumerate().rev().map(|(at, attempt)| Shown {
        bars: bars(&attempt.phases, longest),
        is_last: at + 1 == count,
        attempt,
    });
    Ok(page(&DeliveryPage {
        shell: visit.shell("Delivery", Place::Deliveries),
        base: visit.to("/deliveries"),
        names: Names::of(&visit).await?,
        attempts: shown.collect(),
        trouble,
        payload: raw.map(|raw| Payload { raw: raw.to_owned(), pretty: pretty(raw) }),
        request,
        delivery,
    }))
}

pub(super) async fn replay(visit: Visit) -> Result<Response, Refused> {
    change(&visit, "replay", "replayed").await
}

pub(super) async fn cancel(visit: Visit) -> Result<Response, Refused> {
    change(&visit, "cancel", "canceled").await
}

async fn change(visit: &Visit, what: &str, done: &str) -> Result<Response, Refused> {
    let id = &visit.id;
    visit.asker.post::<Value>(&format!("/v1/deliveries/{id}/{what}"), json!({})).await?;
    Ok(visit.done(&format!("/deliveries/{id}"), done))
}
