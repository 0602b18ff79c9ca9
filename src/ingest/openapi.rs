//! Ingest's part of the OpenAPI document.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{problem::Code, request::LINES};
use crate::{
    config, idempotency,
    openapi::{Answer, Operation, Schemas, body, parameter, reference, words::Example},
};

const TAG: &str = "Events";

/// Both routes.
pub fn operations(settings: &config::Ingest) -> Vec<(Method, &'static str, Operation)> {
    vec![
        (Method::POST, super::EVENT_PATH, event(settings)),
        (Method::POST, super::BATCH_PATH, batch(settings)),
    ]
}

pub fn schemas(settings: &config::Ingest) -> Schemas {
    let mut schemas = Schemas::new();
    schemas.insert("AcceptedEvent".to_owned(), accepted_event());
    schemas.insert("AcceptedBatch".to_owned(), accepted_batch());
    schemas.insert("EventLine".to_owned(), line(settings));
    schemas
}

fn event(settings: &config::Ingest) -> Operation {
    let tenant = parameter("path", "tenant", "Whose event it is.", reference("TenantId"));
    let text = format!(
        "Makes repeating safe: the same key with the same payload within {} gets the first answer \
         again. Once, 1 to {} visible ASCII characters.",
        human(settings.idempotency_window),
        settings.max_idempotency_key,
    );
    let schema = idempotency::schema(settings.max_idempotency_key);
    let key = parameter("header", "Idempotency-Key", text, schema);
    let example = json!({"id": Example::new().event, "deliveries": 2});
    let mut refusals = common();
    refusals.extend([Code::InvalidPayload, Code::InvalidIdempotencyKey, Code::NotFound]);
    Operation {
        id: "sendEvent",
        tag: TAG,
        summary: "Send an event",
        description: format!(
            "The body is the payload: at most {} bytes and {} levels. It is delivered byte for \
             byte as it came. 202 means that it is on disk; 429, 503 and 507 mean that nothing was \
             accepted.\n\nWho: a producer, the operator, or a tenant for itself.",
            settings.max_payload, settings.max_depth
        ),
        parameters: [example_of(tenant, json!("acme")), example_of(key, json!("order-17"))]
            .into_iter()
            .chain(tracing())
            .collect(),
        body: Some(body(
            true,
            &["application/json"],
            reference("EventPayload"),
            Example::payload(),
        )),
        answers: vec![accepted("AcceptedEvent", example)],
        refusals: refusals.into_iter().map(Code::kind).collect(),
        ..Operation::default()
    }
}

fn batch(settings: &config::Ingest) -> Operation {
    let ids = parameter(
        "query",
        "ids",
        "Whether the answer lists the ids.",
        json!({"type": "boolean", "default": true}),
    );
    let line = json!({
        "tenant": "acme", "idempotency_key": "order-17", "payload": Example::payload(),
    });
    let schema = json!({
        "type": "array",
        "description": "Newline-delimited JSON: the items of this array, one a line, without \
                        brackets and commas.",
        "minItems": 1,
        "maxItems": settings.max_batch_lines,
        "items": reference("EventLine"),
    });
    let example = json!({"accepted": 1, "ids": [Example::new().event]});
    let mut refusals = common();
    refusals.extend([Code::InvalidBatch, Code::InvalidIdempotencyKey, Code::TooManyDeliveries]);
    Operation {
        id: "sendEvents",
        tag: TAG,
        summary: "Send many events",
        description: format!(
            "One event a line, at most {} lines and {} bytes; accepted whole or not at all. Together \
             they may lead to {} deliveries. A 400 names every bad line, the first {} of \
             them.\n\nWho: a producer, the operator, or a tenant for itself.",
            settings.max_batch_lines,
            settings.max_batch,
            settings.max_batch_deliveries,
            super::batch::MAX_NAMED_LINES,
        ),
        parameters: [ids].into_iter().chain(tracing()).collect(),
        body: Some(body(true, LINES, schema, json!([line]))),
        answers: vec![accepted("AcceptedBatch", example)],
        refusals: refusals.into_iter().map(Code::kind).collect(),
        ..Operation::default()
    }
}

/// What both routes can refuse.
fn common() -> Vec<Code> {
    vec![
        Code::BadRequest,
        Code::LoopDetected,
        Code::InvalidParameter,
        Code::Unauthorized,
        Code::Timeout,
        Code::PayloadTooLarge,
        Code::UnsupportedMediaType,
        Code::IdempotencyKeyReused,
        Code::RateLimited,
        Code::Internal,
        Code::Overloaded,
        Code::Unavailable,
        Code::StorageFull,
    ]
}

fn accepted(name: &str, example: Value) -> Answer {
    let replayed = json!({
        "description": "There, and `true`, where all of it had been accepted before.",
        "schema": {"type": "string", "const": "true"},
    });
    Answer::new(StatusCode::ACCEPTED, "It is on disk.", reference(name), example)
        .header("Idempotent-Replayed", replayed)
}

fn accepted_event() -> Value {
    json!({
        "type": "object",
        "required": ["id", "deliveries"],
        "properties": {
            "id": reference("EventId"),
            "deliveries": {
                "type": "integer", "minimum": 0, "description": "How many webhooks it goes to.",
            },
        },
    })
}

fn accepted_batch() -> Value {
    json!({
        "type": "object",
        "required": ["accepted"],
        "properties": {
            "accepted": {
                "type": "integer", "minimum": 1, "description": "How many events, one for each line.",
            },
            "ids": {
                "type": "array",
                "items": reference("EventId"),
                "description": "In the order of the lines; left out with `?ids=false`.",
            },
        },
    })
}

fn line(settings: &config::Ingest) -> Value {
    let key = optional(idempotency::schema(settings.max_idempotency_key));
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["tenant", "payload"],
        "properties": {
            "tenant": reference("TenantId"),
            "idempotency_key": key,
            "traceparent": optional(traceparent()),
            "tracestate": optional(tracestate()),
            "payload": reference("EventPayload"),
        },
    })
}

fn optional(mut schema: Value) -> Value {
    schema["type"] = json!(["string", "null"]);
    schema
}

fn traceparent() -> Value {
    json!({
        "type": "string",
        "description": "The trace that the event belongs to, as W3C Trace Context has it.",
        "pattern": "^00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$",
        "example": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    })
}

fn tracestate() -> Value {
    json!({
        "type": "string",
        "description": "Kept up to 512 characters, and without effect where there is no usable \
                        `traceparent` or where it is malformed.",
    })
}

/// Both headers, for both routes.
fn tracing() -> [Value; 2] {
    // A header may be wrong without harm, so that its schema is no more than a string.
    let text = "The trace that the request's events belong to, as W3C Trace Context has it; kept \
                with each event. One that is malformed is left out.";
    let state = "Goes with `traceparent`.";
    let schema = json!({"type": "string"});
    [("traceparent", text), ("tracestate", state)]
        .map(|(name, text)| parameter("header", name, text, schema.clone()))
}

fn example_of(mut parameter: Value, example: Value) -> Value {
    parameter["example"] = example;
    parameter
}

fn human(duration: std::time::Duration) -> String {
    config::units::format_duration(duration)
}
