//! The routes of events.

use http::StatusCode;
use serde_json::{Value, json};

use super::{Settings, deliveries::delivery, kinds, ok, page};
use crate::{
    api::Code,
    openapi::{Answer, Operation, reference, words::Example},
};

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
    event["erased_at"] = json!(null);
    event["deliveries"] = json!(1);
    event["found_disabled"] = json!(0);
    let answer = Answer::new(
        StatusCode::OK,
        "One page; with `after`, one that can be read on from.",
        json!({"anyOf": [reference("CatchUpPage"), reference("EventSummaryPage")]}),
        json!({"data": [event], "next_cursor": null}),
    );
    Operation {
        id: "listEvents",
        tag: TAG,
        summary: "List events",
        description:
            "The tenant's events, the newest first, as long as they are kept; with `after` \
                      in the order of acceptance, without a silent gap."
                .to_owned(),
        answers: vec![answer],
        refusals: kinds(&[Code::EventsGone]),
        ..Operation::default()
    }
}

/// A page of events in the order of acceptance.
pub(super) fn catch_up_page() -> Value {
    let mut page = page("EventSummary");
    page["required"] = json!(["data", "next_cursor", "poll_cursor", "incomplete"]);
    page["properties"]["poll_cursor"] = json!({
        "type": "string",
        "description": "For `cursor`, later and with everything else unchanged: behind all that was \
                        read.",
    });
    page["properties"]["incomplete"] = json!({
        "type": "boolean",
        "description": "A damaged part of the log was passed over: events may be missing in this \
                        page.",
    });
    page
}

pub(in crate::api) fn show(_: &Settings) -> Operation {
    let example = Example::new();
    let mut event = head();
    event["payload"] = Example::payload();
    event["erased_at"] = json!(null);
    event["traceparent"] = json!("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    event["deliveries"] = json!([delivery()]);
    event["skipped"] = json!([{
        "webhook_id": example.webhook,
        "webhook_deleted": false,
        "reason": "not_subscribed",
        "detail": "its list of events does not have this type",
        "delivery_id": null,
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
