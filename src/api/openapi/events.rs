//! The routes of events.

use serde_json::{Value, json};

use super::{Settings, deliveries::delivery, ok, paged};
use crate::openapi::{Operation, words::Example};

const TAG: &str = "Events";

fn head() -> Value {
    let payload = Example::payload();
    json!({
        "id": Example::new().event, "type": payload["type"], "accepted_at": Example::TIME,
    })
}

pub(in crate::api) fn list(_: &Settings) -> Operation {
    let mut event = head();
    event["payload_size"] = json!(Example::payload().to_string().len());
    event["deliveries"] = json!(1);
    Operation {
        id: "listEvents",
        tag: TAG,
        summary: "List events",
        description: "The tenant's events, the newest first, as long as they are kept.".to_owned(),
        answers: vec![paged("EventSummary", event)],
        ..Operation::default()
    }
}

pub(in crate::api) fn show(_: &Settings) -> Operation {
    let example = Example::new();
    let mut event = head();
    event["payload"] = Example::payload();
    event["deliveries"] = json!([delivery()]);
    event["skipped"] = json!([{
        "webhook_id": example.webhook, "reason": "not_subscribed", "delivery_id": null,
    }]);
    Operation {
        id: "getEvent",
        tag: TAG,
        summary: "Show an event",
        description: "An event with its payload, its deliveries, and why each other webhook of \
                      the tenant got none."
            .to_owned(),
        answers: vec![ok("The event.", "StoredEvent", event)],
        ..Operation::default()
    }
}
