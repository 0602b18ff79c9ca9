//! Webhooks: the list, and a new one, tried before it is saved.

use askama::Template;
use axum::response::Response;
use serde_json::{Map, Value, json};

use super::{
    ask::{Refused, with_query},
    deliveries::said,
    form::{Form, Pairs},
    phases::{Bar, bars},
    shell::{Place, Shell, page, page_with},
    stats::{self, Spot, Stats},
    visit::Visit,
    wire::{Check, Page, Webhook},
};
use crate::{event::EventType, stats::Period};

/// The tenant's webhooks by id, so that pages can name them by where they are.
#[derive(Clone, Debug)]
pub(super) struct Names(Vec<(String, String)>);

impl Names {
    /// Of one page of them: a webhook beyond it is shown by its id.
    pub(super) async fn of(visit: &Visit) -> Result<Self, Refused> {
        let found: Page<Webhook> = visit.asker.get("/v1/webhooks").await?;
        Ok(Self(found.data.into_iter().map(|one| (one.id, short(&one.url))).collect()))
    }

    pub(super) fn all(&self) -> &[(String, String)] {
        &self.0
    }

    /// Where the webhook is, or its id.
    pub(super) fn of_id<'a>(&'a self, id: &'a str) -> &'a str {
        let found = self.0.iter().find(|(own, _)| own == id);
        found.map_or(if id.is_empty() { "(forgotten)" } else { id }, |(_, name)| name)
    }
}

/// A URL without its scheme.
fn short(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.trim_end_matches('/').to_owned()
}

#[derive(Template)]
#[template(path = "webhooks.html")]
struct ListPage {
    shell: Shell,
    base: String,
    deliveries: String,
    rows: Vec<Listed>,
    older: Option<String>,
    newest: Option<String>,
}

/// A webhook with how it does; without, where nobody can say now.
struct Listed {
    webhook: Webhook,
    stats: Option<Stats>,
    spots: Vec<Spot>,
}

pub(super) async fn list(visit: Visit) -> Result<Response, Refused> {
    let base = visit.to("/webhooks");
    let cursor = visit.query.filled("cursor");
    let asked = with_query("/v1/webhooks", cursor.map(|cursor| ("cursor", cursor)));
    let rows: Page<Webhook> = visit.asker.get(&asked).await?;
    let mut listed = Vec::with_capacity(rows.data.len());
    for webhook in rows.data {
        let counted = format!("/v1/webhooks/{}/stats", webhook.id);
        let stats = stats::ask(&visit, &counted, Period::Day).await.ok();
        let spots = stats.as_ref().map(stats::spots).unwrap_or_default();
        listed.push(Listed { webhook, stats, spots });
    }
    Ok(page(&ListPage {
        shell: visit.shell("Webhooks", Place::Webhooks),
        older: rows.next_cursor.as_deref().map(|next| with_query(&base, [("cursor", next)])),
        newest: cursor.map(|_| base.clone()),
        rows: listed,
        deliveries: visit.to("/deliveries"),
        base,
    }))
}

/// What the form of a webhook has filled in.
#[derive(Clone, Debug, Default)]
pub(super) struct Filled {
    pub(super) url: String,
    pub(super) description: String,
    /// None of them means all.
    pub(super) events: Vec<String>,
    /// A line each, as in HTTP.
    pub(super) headers: String,
    pub(super) success: String,
    pub(super) timeout: String,
    pub(super) max_in_flight: String,
    pub(super) rate_limit: String,
    pub(super) enabled: bool,
}

impl Filled {
    pub(super) fn of(form: &Pairs) -> Self {
        let text = |name| form.filled(name).unwrap_or_default().to_owned();
        Self {
            url: text("url"),
            description: text("description"),
            events: form.all("events").map(str::to_owned).collect(),
            // What a browser makes of line ends in a text field.
            headers: form.text("headers").replace("\r\n", "\n"),
            success: text("success"),
            timeout: text("timeout"),
            max_in_flight: text("max_in_flight"),
            rate_limit: text("rate_limit"),
            enabled: form.has("enabled"),
        }
    }

    pub(super) fn of_webhook(webhook: &Webhook) -> Self {
        let number = |number: Option<u32>| number.map(|n| n.to_string()).unwrap_or_default();
        let headers = webhook.headers.iter().map(|(name, value)| format!("{name}: {value}\n"));
        let is_all = webhook.events.iter().any(|name| name == "*");
        Self {
            url: webhook.url.clone(),
            description: webhook.description.clone(),
            events: if is_all { Vec::new() } else { webhook.events.clone() },
            headers: headers.collect(),
            success: webhook.success.clone().unwrap_or_default(),
            timeout: webhook.timeout.clone().unwrap_or_default(),
            max_in_flight: number(webhook.max_in_flight),
            rate_limit: number(webhook.rate_limit),
            enabled: webhook.enabled,
        }
    }

    pub(super) fn takes(&self, event_type: &str) -> bool {
        self.events.iter().any(|name| name == event_type)
    }

    /// The body of a request. What was left empty is `null`: the gateway's default.
    pub(super) fn body(&self, before: &[&String]) -> Value {
        let text = |text: &str| if text.is_empty() { Value::Null } else { json!(text) };
        // What is no number goes as it is: the API says what it should be.
        let number = |text: &str| match text.parse::<u64>() {
            Ok(number) => json!(number),
            Err(_) if text.is_empty() => Value::Null,
            Err(_) => json!(text),
        };
        let is_all = self.events.is_empty() || self.events.iter().any(|name| name == "*");
        let events = if is_all { json!(["*"]) } else { json!(self.events) };
        let mut headers: Map<String, Value> =
            before.iter().map(|name| ((*name).clone(), Value::Null)).collect();
        for line in self.headers.lines().filter(|line| !line.trim().is_empty()) {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            let name = name.trim();
            headers.retain(|own, value| !(value.is_null() && own.eq_ignore_ascii_case(name)));
            headers.insert(name.to_owned(), json!(value.trim()));
        }
        json!({
            "url": self.url,
            "events": events,
            "description": text(&self.description),
            "headers": headers,
            "enabled": self.enabled,
            "success": text(&self.success),
            "timeout": text(&self.timeout),
            "max_in_flight": number(&self.max_in_flight),
            "rate_limit": number(&self.rate_limit),
        })
    }
}

/// What came of trying a webhook, and its time as bars.
#[derive(Clone, Debug)]
pub(super) struct Tried {
    pub(super) check: Check,
    pub(super) bars: Vec<Bar>,
}

impl Tried {
    pub(super) fn of(check: Check) -> Self {
        Self { bars: bars(&check.phases, check.latency_ms), check }
    }
}

#[derive(Template)]
#[template(path = "webhook_new.html")]
struct NewPage {
    shell: Shell,
    base: String,
    filled: Filled,
    types: [&'static str; 6],
    wrong: Vec<String>,
    tried: Option<Tried>,
}

pub(super) async fn blank(visit: Visit) -> Response {
    let filled = Filled { enabled: true, ..Filled::default() };
    page(&new_page(&visit, filled))
}

fn new_page(visit: &Visit, filled: Filled) -> NewPage {
    NewPage {
        shell: visit.shell("New webhook", Place::Webhooks),
        base: visit.to("/webhooks"),
        filled,
        types: EventType::ALL.map(EventType::as_str),
        wrong: Vec::new(),
        tried: None,
    }
}

/// Tries it, or saves it, as the button says.
pub(super) async fn create(visit: Visit, Form(form): Form) -> Result<Response, Refused> {
    let filled = Filled::of(&form);
    let body = filled.body(&[]);
    let new = new_page(&visit, filled);
    let refused = if form.text("do") == "check" {
        match visit.asker.post("/v1/webhooks?dry_run=true", body).await {
            Ok(check) => return Ok(page(&NewPage { tried: Some(Tried::of(check)), ..new })),
            Err(refused) => refused,
        }
    } else {
        match visit.asker.post::<Webhook>("/v1/webhooks", body).await {
            Ok(webhook) => return Ok(visit.done(&format!("/webhooks/{}", webhook.id), "created")),
            Err(refused) => refused,
        }
    };
    if refused.is_correctable() {
        return Ok(page_with(refused.status, &NewPage { wrong: said(&refused), ..new }));
    }
    Err(refused)
}
