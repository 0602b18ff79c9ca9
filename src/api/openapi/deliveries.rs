//! The routes of deliveries.

use serde_json::{Value, json};

use super::{Settings, accepted, kinds, ok, paged};
use crate::{
    api::Code,
    delivery::{ErrorCode, FailReason, Protocol},
    openapi::{Operation, body, words::Example},
};

const TAG: &str = "Deliveries";

pub(super) fn delivery() -> Value {
    let example = Example::new();
    json!({
        "id": example.delivery,
        "event_id": example.event,
        "webhook_id": example.webhook,
        "webhook_deleted": false,
        "event_type": Example::payload()["type"],
        "status": "failed",
        "reason": FailReason::AttemptsExhausted.as_str(),
        "attempts_made": 6,
        "created_at": Example::TIME,
        "next_attempt_at": null,
        "last_attempt": {
            "number": 6, "at": Example::TIME, "status": 503, "latency_ms": 81.25, "error": error(),
        },
    })
}

fn error() -> Value {
    json!({
        "code": ErrorCode::Status.as_str(),
        "detail": "answered 503",
        "cause": "The receiver answered 503 (Service Unavailable).",
        "hint": "Look at the receiver: it is overloaded, or what runs behind it is down.",
    })
}

pub(super) fn attempt() -> Value {
    json!({
        "id": Example::new().attempt,
        "number": 1,
        "at": Example::TIME,
        "status": 503,
        "latency_ms": 81.25,
        "phases": {
            "queue": 0.1, "dns": 10.0, "connect": 20.5, "tls": 30.0, "first_byte": 20.0, "body": 0.75,
        },
        "error": error(),
        "response": {"headers": {"content-type": "text/plain"}, "body": "busy", "truncated": false},
        "peer": "192.0.2.7:443",
        "protocol": Protocol::Http2.as_str(),
        "reused_connection": false,
        "next_attempt_at": Example::TIME,
    })
}

pub(in crate::api) fn list(_: &Settings) -> Operation {
    Operation {
        id: "listDeliveries",
        tag: TAG,
        summary: "List deliveries",
        description: "The tenant's deliveries, the newest first. Filters narrow the list down \
                      together."
            .to_owned(),
        answers: vec![paged("DeliverySummary", delivery())],
        ..Operation::default()
    }
}

pub(in crate::api) fn show(_: &Settings) -> Operation {
    let mut details = delivery();
    details["payload"] = Example::payload();
    details["erased_at"] = json!(null);
    details["attempts"] = json!([attempt()]);
    Operation {
        id: "getDelivery",
        tag: TAG,
        summary: "Show a delivery",
        description: "A delivery with its payload and its attempts, the oldest first; at most the \
                      last hundred."
            .to_owned(),
        answers: vec![ok("The delivery.", "DeliveryDetails", details)],
        ..Operation::default()
    }
}

/// Nothing is taken; an empty object is let pass.
fn nothing() -> Value {
    let schema = json!({"type": "object", "additionalProperties": false});
    body(false, &["application/json"], schema, json!({}))
}

fn pending() -> Value {
    let mut pending = delivery();
    pending["status"] = json!("pending");
    pending["reason"] = Value::Null;
    pending
}

pub(in crate::api) fn replay(_: &Settings) -> Operation {
    Operation {
        id: "replayDelivery",
        tag: TAG,
        summary: "Replay a delivery",
        description: "Sends a delivery that has ended again, with the same `webhook-id`; the \
                      numbers of its attempts go on."
            .to_owned(),
        body: Some(nothing()),
        answers: vec![accepted("It is due now.", "DeliverySummary", pending())],
        refusals: kinds(&[
            Code::DeliveryNotEnded,
            Code::EventErased,
            Code::WebhookDeleted,
            Code::WebhookDisabled,
            Code::LimitReached,
            Code::RateLimited,
            Code::StorageFull,
        ]),
        ..Operation::default()
    }
}

pub(in crate::api) fn cancel(_: &Settings) -> Operation {
    Operation {
        id: "cancelDelivery",
        tag: TAG,
        summary: "Cancel a delivery",
        description: "Ends a delivery that is pending or retrying. Where an attempt is under way \
                      it may still be delivered; otherwise it ends canceled."
            .to_owned(),
        body: Some(nothing()),
        answers: vec![accepted("It will end; as it stands now.", "DeliverySummary", pending())],
        refusals: kinds(&[Code::DeliveryEnded]),
        ..Operation::default()
    }
}
