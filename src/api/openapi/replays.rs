//! The routes of replays of many.

use serde_json::{Value, json};

use super::{Settings, accepted, kinds, ok, paged};
use crate::{
    api::Code,
    event::EventType,
    openapi::{Operation, body, reference, words::Example},
    replays::STATUSES,
};

const TAG: &str = "Replays";
const JSON: &[&str] = &["application/json"];

fn replay() -> Value {
    let example = Example::new();
    json!({
        "id": example.replay,
        "state": "running",
        "reason": null,
        "dry_run": false,
        "webhook": example.webhook,
        "status": ["failed", "missed"],
        "event_type": [EventType::Failed.as_str()],
        "since": Example::TIME,
        "until": Example::TIME,
        "rate": 50,
        "matched": 1200,
        "replayed": 1190,
        "skipped": 10,
        "progress": 0.25,
        "position": Example::TIME,
        "created_at": Example::TIME,
    })
}

/// `NewReplay`: what is left out narrows nothing down, but for `status`.
pub(super) fn new(settings: &Settings) -> Value {
    let names = |values: &[&str]| {
        json!({"anyOf": [
            {"type": "string", "enum": values},
            {"type": "array", "minItems": 1, "items": {"type": "string", "enum": values}},
            {"type": "null"},
        ]})
    };
    let time = || json!({"type": ["string", "null"], "format": "date-time"});
    let described = |mut schema: Value, text: &str| {
        schema["description"] = json!(text);
        schema
    };
    let webhook = json!({"anyOf": [reference("WebhookId"), {"type": "null"}]});
    let status = "How they ended; `missed` is what found its webhook disabled and was never sent. \
                  `failed` by default.";
    json!({
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "webhook": described(webhook, "Only to this webhook; all by default."),
            "status": described(names(&STATUSES), status),
            "event_type": described(names(&EventType::EVERY.map(EventType::as_str)), "All by default."),
            "since": described(time(), "Only of events accepted then or later."),
            "until": described(time(), "Only of events accepted then or earlier, and before now."),
            "dry_run": {"type": ["boolean", "null"], "description": "Count, and send nothing."},
            "rate": {
                "type": ["integer", "null"], "minimum": 1, "maximum": settings.max_replay_rate,
                "description": "Deliveries a second; the gateway's default where left out.",
            },
        },
    })
}

pub(in crate::api) fn create(_: &Settings) -> Operation {
    let example = json!({
        "webhook": Example::new().webhook, "status": ["failed", "missed"], "rate": 50,
    });
    Operation {
        id: "createReplay",
        tag: TAG,
        summary: "Replay many deliveries",
        description:
            "Sends deliveries that have ended again, the oldest first, each with the same \
                      `webhook-id` and attempt numbers that go on. They wait behind everything \
                      else of their webhook and take at most half of its slots; a replay over \
                      several webhooks goes at the pace of the slowest. It goes on where it was \
                      after a restart."
                .to_owned(),
        body: Some(body(false, JSON, reference("NewReplay"), example)),
        answers: vec![accepted("It has begun.", "Replay", replay())],
        refusals: kinds(&[Code::WebhookDisabled, Code::LimitReached, Code::StorageFull]),
        ..Operation::default()
    }
}

pub(in crate::api) fn list(_: &Settings) -> Operation {
    Operation {
        id: "listReplays",
        tag: TAG,
        summary: "List replays",
        description:
            "The tenant's replays of many, the newest first. Of those that have ended the \
                      last few are kept."
                .to_owned(),
        answers: vec![paged("Replay", replay())],
        ..Operation::default()
    }
}

pub(in crate::api) fn show(_: &Settings) -> Operation {
    Operation {
        id: "getReplay",
        tag: TAG,
        summary: "Show a replay",
        description: "How far a replay is.".to_owned(),
        answers: vec![ok("The replay.", "Replay", replay())],
        ..Operation::default()
    }
}

fn change(id: &'static str, summary: &'static str, description: &str) -> Operation {
    let nothing = json!({"type": "object", "additionalProperties": false});
    Operation {
        id,
        tag: TAG,
        summary,
        description: description.to_owned(),
        body: Some(body(false, JSON, nothing, json!({}))),
        answers: vec![ok("The replay as it is now.", "Replay", replay())],
        refusals: kinds(&[Code::ReplayEnded, Code::StorageFull]),
        ..Operation::default()
    }
}

pub(in crate::api) fn pause(_: &Settings) -> Operation {
    change("pauseReplay", "Pause a replay", "It rests until it is resumed, also over a restart.")
}

pub(in crate::api) fn resume(_: &Settings) -> Operation {
    change("resumeReplay", "Resume a replay", "It goes on where it was.")
}

pub(in crate::api) fn cancel(_: &Settings) -> Operation {
    let text = "Ends it where it is. What it has already handed on is sent all the same.";
    change("cancelReplay", "Cancel a replay", text)
}
