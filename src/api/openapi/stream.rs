//! The route of the stream.

use http::StatusCode;
use serde_json::{Value, json};

use super::{Settings, deliveries::attempt, kinds};
use crate::{
    api::Code,
    config::units::format_duration,
    delivery::FailReason,
    openapi::{Answer, Operation, parameter, words::Example},
};

fn streamed() -> Value {
    let example = Example::new();
    json!({
        "tenant_id": example.tenant,
        "webhook_id": example.webhook,
        "event_id": example.event,
        "event_type": Example::payload()["type"],
        "delivery_id": example.delivery,
        "status": "failed",
        "reason": FailReason::AttemptsExhausted.as_str(),
        "attempt": attempt(),
    })
}

pub(in crate::api) fn open(settings: &Settings) -> Operation {
    let id = Example::new().stream;
    let example = format!("event: attempt\nid: {id}\ndata: {}\n\n", streamed());
    let schema = json!({
        "type": "string",
        "description": "Server-Sent Events. The data of an event `attempt` is a StreamedAttempt, \
                        that of an event `lagged` a StreamLagged, each one line of JSON.",
    });
    let mut answer = Answer::new(
        StatusCode::OK,
        "The stream. It ends when the gateway drains, when the key is revoked, and when the reader \
         takes nothing for long.",
        schema,
        json!(example),
    );
    answer.media_type = "text/event-stream";
    let mut last = parameter(
        "header",
        "Last-Event-ID",
        "Begins behind the event with this `id` instead of now: nothing recorded since is missed, \
         unless an event `lagged` says so.",
        json!({"type": "string", "pattern": "^pos_[0-9a-z]{26}$"}),
    );
    last["example"] = json!(id);
    let limits = &settings.stream;
    Operation {
        id: "streamAttempts",
        tag: "Stream",
        summary: "Watch attempts",
        description: format!(
            "Attempts as they are recorded, in that order, as Server-Sent Events. `status` is where \
             the delivery stands after the attempt. Every event has an `id` to resume from; a \
             stream that resumes first has all that was missed. A reader that has not caught up \
             for {} skips to the present: an event `lagged` says how many attempts were left \
             out. Where nothing happens a comment comes every {}. One tenant may have {} streams \
             open.",
            format_duration(limits.max_lag),
            format_duration(limits.keep_alive),
            limits.max_per_tenant,
        ),
        parameters: vec![last],
        answers: vec![answer],
        refusals: kinds(&[Code::InvalidCursor, Code::RateLimited]),
        ..Operation::default()
    }
}
