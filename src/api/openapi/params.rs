//! What the parameters of the table's routes are.

use serde_json::{Value, json};

use super::{Access, Route, Settings};
use crate::{
    api::{
        query::{DEFAULT_LIMIT, STATES},
        stats::DEFAULT_PERIOD,
    },
    audit::Action,
    delivery::ErrorCode,
    event::{EventType, MAX_RECIPIENT},
    openapi::{parameter, reference, words::Example},
    stats::Period,
};

/// A route's parameters: of its path, of the query, and the header that names a tenant.
pub(super) fn of(route: &Route, settings: &Settings) -> Vec<Value> {
    let path = route.path.contains("{id}").then(|| id(route.path));
    let query = route.params.iter().map(|name| query(name, settings));
    let header = match route.access {
        Access::Anyone | Access::Operator => None,
        Access::Tenant | Access::TenantOrOperator => Some(tenant()),
    };
    path.into_iter().chain(query).chain(header).collect()
}

fn id(path: &str) -> Value {
    let example = Example::new();
    let (schema, example) = match path.split('/').nth(2).unwrap_or_default() {
        "tenants" => ("TenantId", example.tenant),
        "keys" => ("KeyId", example.key.as_str()),
        "webhooks" => ("WebhookId", example.webhook.as_str()),
        "events" => ("EventId", example.event.as_str()),
        "deliveries" => ("DeliveryId", example.delivery.as_str()),
        "replays" => ("ReplayId", example.replay.as_str()),
        "backups" => ("BackupName", Example::BACKUP),
        "erasures" => ("ErasureId", example.erasure.as_str()),
        other => panic!("it is not said what the id in /{other}/{{id}} names"),
    };
    let mut id = parameter("path", "id", "Which one.", reference(schema));
    id["example"] = json!(example);
    id
}

fn tenant() -> Value {
    let text = "For which tenant an operator asks; a tenant's own key needs none, and may name no \
                other. Once.";
    let mut header = parameter("header", "Senderz-Tenant", text, reference("TenantId"));
    header["example"] = json!(Example::new().tenant);
    header
}

/// A parameter of lists, by its name: each means the same wherever it is taken.
fn query(name: &str, settings: &Settings) -> Value {
    let page = settings.limits.page;
    let (text, schema, example) = match name {
        "limit" => (
            "How many rows at most.",
            json!({
                "type": "integer", "minimum": 1, "maximum": page,
                "default": DEFAULT_LIMIT.min(page),
            }),
            json!(20.min(page)),
        ),
        "cursor" => (
            "The `next_cursor` of the page before, with the same filters. It belongs to one list \
             of one tenant with its filters.",
            json!({"type": "string"}),
            Value::Null,
        ),
        "after" => (
            "Events in the order of acceptance instead, from behind this one; `start` is before the \
             oldest that is kept. For consumers that catch up.",
            json!({"anyOf": [reference("EventId"), {"const": "start"}]}),
            Value::Null,
        ),
        "dry_run" => (
            "`true`: saves nothing, sends an example event there once, and says what came of it.",
            json!({"type": "string", "enum": ["true"]}),
            Value::Null,
        ),
        "recipient" => (
            "Whose events: `data.recipient`, the whole of it. A `+` in it is written `%2B`.",
            json!({"type": "string", "minLength": 1, "maxLength": MAX_RECIPIENT}),
            json!("+15555550100"),
        ),
        "found_disabled" => (
            "`true`: only events that found a webhook disabled when they came.",
            json!({"type": "string", "enum": ["true"]}),
            json!("true"),
        ),
        "period" => (
            "Over which time until now.",
            json!({
                "type": "string", "enum": Period::ALL.map(Period::as_str),
                "default": DEFAULT_PERIOD.as_str(),
            }),
            Value::Null,
        ),
        "webhook" => (
            "Only of this webhook; 404 where there is none.",
            reference("WebhookId"),
            json!(Example::new().webhook),
        ),
        "status" => ("Only in these states.", list(&STATES), json!(["failed", "canceled"])),
        "event_type" => (
            "Only of these types.",
            list(&EventType::EVERY.map(EventType::as_str)),
            json!([EventType::Failed.as_str()]),
        ),
        "code" => (
            "Only where the last attempt was answered with this status, or with one of its class.",
            json!({"type": "string", "pattern": "^[1-5]([0-9][0-9]|xx)$"}),
            json!("5xx"),
        ),
        "error" => (
            "Only where the last attempt failed so.",
            json!({"type": "string", "enum": ErrorCode::ALL.map(ErrorCode::as_str)}),
            json!(ErrorCode::Timeout.as_str()),
        ),
        "action" => (
            "Only these.",
            list(&Action::ALL.map(Action::as_str)),
            json!([Action::WebhookUpdated.as_str()]),
        ),
        "actor" => (
            "Only what was done with this key or in this session of the portal, or by this kind of \
             somebody.",
            json!({"anyOf": [
                reference("KeyId"), reference("SessionId"), reference("AuditActorKind"),
            ]}),
            json!(Example::new().key),
        ),
        "object" => (
            "Only what was done to the object of this id.",
            json!({"type": "string", "pattern": "^[!-~]{1,128}$"}),
            json!(Example::new().webhook),
        ),
        "since" => (
            "Only what was accepted, or done, then or later; since 1970, and not later than \
             `until`. A `+` in it is written `%2B`.",
            time(),
            json!(Example::TIME),
        ),
        "until" => (
            "Only what was accepted, or done, then or earlier; since 1970. A `+` in it is written \
             `%2B`.",
            time(),
            json!(Example::TIME),
        ),
        other => panic!("the parameter {other} is not described"),
    };
    let is_list = schema["type"] == "array";
    let mut query = parameter("query", name, text, schema);
    if !example.is_null() {
        query["example"] = example;
    }
    if name == "recipient" {
        query["required"] = json!(true);
    }
    if is_list {
        query["style"] = json!("form");
        query["explode"] = json!(false);
    }
    query
}

/// One or more, with commas.
fn list(values: &[&str]) -> Value {
    json!({"type": "array", "minItems": 1, "items": {"type": "string", "enum": values}})
}

fn time() -> Value {
    json!({"type": "string", "format": "date-time"})
}
