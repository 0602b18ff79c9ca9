//! The routes of webhooks, and the schemas of what they take.

use http::StatusCode;
use serde_json::{Value, json};

use super::{Settings, accepted, created, gone, kinds, ok, paged};
use crate::{
    api::{
        Code,
        webhooks::{MAX_RATE, MIN_TIMEOUT},
    },
    config::units::format_duration,
    event::EventType,
    openapi::{Answer, Operation, body, parameter, reference, words::Example},
    webhook::{ALL_EVENTS, RESERVED, RESERVED_PREFIXES, SuccessRule},
};

const TAG: &str = "Webhooks";
const TAG_EXAMPLE: &str = "\"0f343b0931126a20f133d67c2b018a3b\"";
const JSON: &[&str] = &["application/json"];
const MERGE_PATCH: &[&str] = &["application/json", "application/merge-patch+json"];

fn webhook() -> Value {
    json!({
        "id": Example::new().webhook,
        "url": "https://hooks.example.com/in",
        "events": [EventType::Failed.as_str(), EventType::Delivered.as_str()],
        "description": "orders",
        "headers": {"x-team": "orders"},
        "enabled": true,
        "disabled_reason": null,
        "disabled_at": null,
        "failing_since": null,
        "success": null,
        "timeout": "5s",
        "max_in_flight": null,
        "rate_limit": 50,
        "created_at": Example::TIME,
        "updated_at": Example::TIME,
    })
}

/// `NewWebhook`: what is left out or null takes its default.
pub(super) fn new(settings: &Settings) -> Value {
    let mut schema = fields(settings, json!({"type": "string"}));
    schema["required"] = json!(["url", "events"]);
    schema["description"] = json!("A setting that is left out or null takes its default.");
    schema
}

/// `WebhookPatch`: a JSON merge patch (RFC 7396).
pub(super) fn patch(settings: &Settings) -> Value {
    let mut schema = fields(settings, json!({"type": ["string", "null"]}));
    schema["description"] = json!(
        "A JSON merge patch (RFC 7396): what is left out stays, null resets a setting and removes \
         a header."
    );
    schema
}

fn fields(settings: &Settings, mut header: Value) -> Value {
    let limits = &settings.limits;
    // Visible characters, and spaces between them.
    header["pattern"] = json!("^([!-~]([ -~]*[!-~])?)?$");
    header["maxLength"] = json!(limits.custom_headers_size);
    let prefixes = RESERVED_PREFIXES.map(|prefix| format!("`{prefix}…`")).join(", ");
    let headers = format!(
        "Sent with every attempt. At most {} headers and {} bytes of names and values together. \
         Refused, in any letter case: {} and {prefixes}.",
        limits.custom_headers,
        limits.custom_headers_size,
        RESERVED.map(|name| format!("`{name}`")).join(", "),
    );
    let (from, to) = (format_duration(MIN_TIMEOUT), format_duration(settings.max_timeout));
    json!({
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "url": {
                "type": "string",
                "format": "uri",
                "description": format!("Where deliveries go: http or https, at most {} bytes. No \
                    user name, no fragment; a host in the public internet.", limits.url),
                "minLength": 1,
                "maxLength": limits.url,
                "pattern": "^[Hh][Tt][Tt][Pp][Ss]?://[^/?#@]+",
            },
            "events": {
                "description": "The types to receive, or `*` alone for the six that producers send. \
                                `webhook.disabled` is for webhooks of the operator's own tenant \
                                (`ops.tenant`).",
                "anyOf": [
                    {"type": "array", "minItems": 1, "items": reference("EventType")},
                    {"type": "array", "minItems": 1, "items": {"const": ALL_EVENTS}},
                ],
            },
            "description": {
                "type": ["string", "null"],
                "description": "For people.",
                "maxLength": limits.description,
            },
            "headers": {
                "description": headers,
                "type": ["object", "null"],
                "maxProperties": limits.custom_headers,
                "propertyNames": {
                    "pattern": "^[A-Za-z0-9!#$%&'*+.^_`|~-]+$",
                    "not": {"enum": RESERVED},
                },
                "additionalProperties": header,
            },
            "enabled": {
                "type": ["boolean", "null"],
                "description": "Whether it gets deliveries; true by default.",
            },
            "success": {
                "description": "Which statuses are a success; null for the gateway's default.",
                "enum": SuccessRule::ALL.map(SuccessRule::as_str).map(Value::from).into_iter()
                    .chain([Value::Null]).collect::<Vec<_>>(),
            },
            "timeout": {
                "type": ["string", "null"],
                "pattern": "^[0-9]+(ms|s|m|h|d)$",
                "description": format!("The deadline of one attempt, from DNS to the last byte \
                    read: `{from}` to `{to}`; null for the gateway's default."),
            },
            "max_in_flight": number(settings.max_in_flight, "How many attempts may be under way \
                at once; null for the gateway's default."),
            "rate_limit": number(MAX_RATE, "Attempts per second; null for no limit."),
        },
    })
}

fn number(most: u32, description: &str) -> Value {
    json!({
        "type": ["integer", "null"], "minimum": 1, "maximum": most, "description": description,
    })
}

fn dry_run(settings: &Settings) -> String {
    format!(
        "With `dry_run=true` nothing is saved: an example event is sent there once, signed, and the \
         answer says what came of it. It counts as one of the tenant's {} tests in a minute.",
        settings.limits.tenant_tests
    )
}

fn check() -> Value {
    json!({
        "ok": false,
        "url": "https://hooks.example.com/in",
        "at": Example::TIME,
        "status": 401,
        "latency_ms": 31.204,
        "phases": {
            "queue": 0.0, "dns": 2.1, "connect": 8.7, "tls": 11.2, "first_byte": 9.1, "body": 0.1,
        },
        "error": {
            "code": "status",
            "detail": "the receiver answered 401",
            "cause": "The receiver wants to know who asks.",
            "hint": "Let it accept requests that our signature proves.",
        },
        "response": {"headers": {"content-length": "0"}, "body": "", "truncated": false},
        "peer": "203.0.113.7:443",
        "protocol": "http/1.1",
    })
}

/// The answer with the tag of what it shows.
fn tagged(answer: Answer) -> Answer {
    answer.header(
        "ETag",
        json!({
            "description": "Changes when what is shown changes (RFC 9110, section 8.8.3).",
            "schema": {"type": "string", "pattern": "^\"[0-9a-f]{32}\"$"},
            "example": TAG_EXAMPLE,
        }),
    )
}

fn if_match() -> Value {
    let text = "The `ETag` of what you have seen, or several, or `*`: the change is made only if \
                it is still so, otherwise 412 (RFC 9110, section 13.1.1).";
    let mut header = parameter("header", "If-Match", text, json!({"type": "string"}));
    header["example"] = json!("*");
    header
}

pub(in crate::api) fn create(settings: &Settings) -> Operation {
    let example = json!({
        "url": "https://hooks.example.com/in",
        "events": [EventType::Failed.as_str(), EventType::Delivered.as_str()],
        "description": "orders",
        "headers": {"x-team": "orders"},
        "timeout": "5s",
        "rate_limit": 50,
    });
    let location = format!("/v1/webhooks/{}", Example::new().webhook);
    Operation {
        id: "createWebhook",
        tag: TAG,
        summary: "Create a webhook",
        description: format!(
            "Registers a URL. It gets the events that are accepted from now on. {}",
            dry_run(settings)
        ),
        body: Some(body(true, JSON, reference("NewWebhook"), example)),
        answers: vec![
            tagged(created("Webhook", &location, webhook())),
            ok("What came of trying it (`dry_run=true`).", "WebhookCheck", check()),
        ],
        refusals: kinds(&[Code::LimitReached, Code::RateLimited, Code::StorageFull]),
        ..Operation::default()
    }
}

pub(in crate::api) fn list(_: &Settings) -> Operation {
    Operation {
        id: "listWebhooks",
        tag: TAG,
        summary: "List webhooks",
        description: "The tenant's webhooks, the newest first.".to_owned(),
        answers: vec![paged("Webhook", webhook())],
        ..Operation::default()
    }
}

pub(in crate::api) fn show(_: &Settings) -> Operation {
    Operation {
        id: "getWebhook",
        tag: TAG,
        summary: "Show a webhook",
        description: "One webhook.".to_owned(),
        answers: vec![tagged(ok("The webhook.", "Webhook", webhook()))],
        ..Operation::default()
    }
}

pub(in crate::api) fn update(settings: &Settings) -> Operation {
    let example = json!({"headers": {"x-old": null, "x-new": "1"}, "timeout": null});
    Operation {
        id: "updateWebhook",
        tag: TAG,
        summary: "Change a webhook",
        description: format!(
            "A JSON merge patch (RFC 7396), inside `headers` too; `events`, a list, is replaced \
             whole. Holds for attempts from now on. {}",
            dry_run(settings)
        ),
        parameters: vec![if_match()],
        body: Some(body(true, MERGE_PATCH, reference("WebhookPatch"), example)),
        answers: vec![tagged(Answer::new(
            StatusCode::OK,
            "The webhook as it is now; with `dry_run=true`, what came of trying it.",
            json!({"anyOf": [reference("Webhook"), reference("WebhookCheck")]}),
            webhook(),
        ))],
        refusals: kinds(&[
            Code::LimitReached,
            Code::PreconditionFailed,
            Code::RateLimited,
            Code::StorageFull,
        ]),
        ..Operation::default()
    }
}

pub(in crate::api) fn remove(_: &Settings) -> Operation {
    Operation {
        id: "deleteWebhook",
        tag: TAG,
        summary: "Delete a webhook",
        description: "Cancels what waits for it, a retry at the latest when it falls due."
            .to_owned(),
        parameters: vec![if_match()],
        answers: vec![gone()],
        refusals: kinds(&[Code::PreconditionFailed, Code::StorageFull]),
        ..Operation::default()
    }
}

pub(in crate::api) fn test(settings: &Settings) -> Operation {
    let limits = &settings.limits;
    let example = Example::new();
    let sent = json!({"event_id": example.event, "delivery_id": example.delivery});
    let schema = json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["type"],
        "properties": {"type": {
            "type": "string", "enum": EventType::EVERY.map(EventType::as_str),
            "description": "`webhook.disabled` for webhooks of the operator's own tenant only.",
        }},
    });
    Operation {
        id: "testWebhook",
        tag: TAG,
        summary: "Send a test event",
        description: format!(
            "Sends an example event to this webhook only, whatever its filter says. A webhook may \
             have {} in a minute and a tenant {}.",
            limits.webhook_tests, limits.tenant_tests
        ),
        body: Some(body(true, JSON, schema, json!({"type": EventType::Sent.as_str()}))),
        answers: vec![accepted("The event was accepted.", "SentTest", sent)],
        refusals: kinds(&[Code::WebhookDisabled, Code::RateLimited, Code::StorageFull]),
        ..Operation::default()
    }
}
