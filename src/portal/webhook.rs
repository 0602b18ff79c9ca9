//! One webhook: its settings, its last deliveries, a test, recovery.

use askama::Template;
use axum::response::{IntoResponse as _, Redirect, Response};
use serde::Deserialize;
use serde_json::json;

use super::{
    ask::{Refused, with_query},
    deliveries::said,
    form::Form,
    shell::{Place, Shell, page, page_with},
    stats::{self, Panel},
    visit::Visit,
    webhooks::{Filled, Names, Tried},
    wire::{Check, Delivery, Page, Webhook},
    words::When,
};
use crate::{event::EventType, stats::Period};

/// How many of its deliveries its page shows.
const RECENT: &str = "10";

#[derive(Template)]
#[template(path = "webhook.html")]
struct WebhookPage {
    shell: Shell,
    base: String,
    deliveries: String,
    replays: String,
    keys: String,
    verify: String,
    /// Until when older secrets sign as well.
    overlaps: Vec<When>,
    webhook: Webhook,
    names: Names,
    filled: Filled,
    types: [&'static str; 6],
    wrong: Vec<String>,
    tried: Option<Tried>,
    panel: Panel,
    trouble: Option<&'static str>,
    rows: Vec<Delivery>,
}

async fn whole(visit: &Visit, filled: Option<Filled>) -> Result<WebhookPage, Refused> {
    let webhook: Webhook = visit.asker.get(&format!("/v1/webhooks/{}", visit.id)).await?;
    let asked = with_query("/v1/deliveries", [("webhook", webhook.id.as_str()), ("limit", RECENT)]);
    let recent: Page<Delivery> = visit.asker.get(&asked).await?;
    let here = visit.to(&format!("/webhooks/{}", webhook.id));
    let counted = format!("/v1/webhooks/{}/stats", webhook.id);
    let counted = stats::ask(visit, &counted, Period::Day).await?;
    Ok(WebhookPage {
        shell: visit.shell("Webhook", Place::Webhooks),
        base: visit.to("/webhooks"),
        deliveries: visit.to("/deliveries"),
        replays: visit.to("/replays"),
        keys: visit.to("/keys"),
        verify: visit.to("/verify"),
        overlaps: visit.overlaps(),
        names: Names::of(visit).await?,
        filled: filled.unwrap_or_else(|| Filled::of_webhook(&webhook)),
        webhook,
        types: EventType::ALL.map(EventType::as_str),
        wrong: Vec::new(),
        tried: None,
        panel: Panel::of(visit, &counted, &here, Some(&visit.id)),
        trouble: counted.trouble(),
        rows: recent.data,
    })
}

pub(super) async fn show(visit: Visit) -> Result<Response, Refused> {
    Ok(page(&whole(&visit, None).await?))
}

/// Tries what it would become, or saves it, as the button says.
pub(super) async fn update(visit: Visit, Form(form): Form) -> Result<Response, Refused> {
    let path = format!("/v1/webhooks/{}", visit.id);
    let filled = Filled::of(&form);
    let before: Webhook = visit.asker.get(&path).await?;
    let body = filled.body(&before.headers.keys().collect::<Vec<_>>());
    let refused = if form.text("do") == "check" {
        match visit.asker.patch::<Check>(&format!("{path}?dry_run=true"), body).await {
            Ok(check) => {
                let shown = whole(&visit, Some(filled)).await?;
                return Ok(page(&WebhookPage { tried: Some(Tried::of(check)), ..shown }));
            }
            Err(refused) => refused,
        }
    } else {
        match visit.asker.patch::<Webhook>(&path, body).await {
            Ok(_) => return Ok(visit.done(&format!("/webhooks/{}", visit.id), "saved")),
            Err(refused) => refused,
        }
    };
    if !refused.is_correctable() {
        return Err(refused);
    }
    let shown = whole(&visit, Some(filled)).await?;
    Ok(page_with(refused.status, &WebhookPage { wrong: said(&refused), ..shown }))
}

#[derive(Deserialize)]
struct Sent {
    delivery_id: String,
}

/// Sends an example, and goes where it can be seen to arrive.
pub(super) async fn test(visit: Visit, Form(form): Form) -> Result<Response, Refused> {
    let path = format!("/v1/webhooks/{}/test", visit.id);
    let sent: Sent = visit.asker.post(&path, json!({"type": form.text("type")})).await?;
    Ok(visit.done(&format!("/deliveries/{}", sent.delivery_id), "tested"))
}

pub(super) async fn delete(visit: Visit) -> Result<Response, Refused> {
    visit.asker.delete(&format!("/v1/webhooks/{}", visit.id)).await?;
    let list = with_query(&visit.to("/webhooks"), [("done", "deleted")]);
    Ok(Redirect::to(&list).into_response())
}
