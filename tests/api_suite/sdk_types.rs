//! The SDK's types, written by hand, have the members that the OpenAPI document's schemas have.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::openapi::{DOCUMENT, resolved};

const API: &str = include_str!("../../sdk/typescript/src/api.ts");
const ERRORS: &str = include_str!("../../sdk/typescript/src/errors.ts");

/// What a member may be: left out, null.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct May {
    lack: bool,
    null: bool,
}

type Members = BTreeMap<String, May>;

/// The members of an interface, those that it extends included.
fn of_interface(source: &str, name: &str) -> Members {
    let start = format!("export interface {name} ");
    let at = source.find(&start).unwrap_or_else(|| panic!("there is no interface {name}"));
    let (head, body) = source[at + start.len()..].split_once("{\n").expect("a body");
    let (body, _) = body.split_once("\n}").expect("its end");
    let mut members = match head.trim().strip_prefix("extends ") {
        Some(base) => of_interface(source, base),
        None => Members::new(),
    };
    // A member stands on a line of its own, two spaces in.
    let lines = body.lines().filter_map(|line| line.strip_prefix("  "));
    for line in lines.filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase())) {
        let (name, kind) = line.split_once(':').expect("a member has a type");
        let may = May { lack: name.ends_with('?'), null: kind.ends_with("| null;") };
        members.insert(name.trim_end_matches('?').to_owned(), may);
    }
    assert!(!members.is_empty(), "{name}");
    members
}

/// The members of a schema, those of the schemas that it is put together from included.
fn of_schema(schema: &'static Value) -> Members {
    let schema = resolved(schema);
    let parts = schema["allOf"].as_array().into_iter().flatten();
    let mut members: Members = parts.flat_map(of_schema).collect();
    let required = schema["required"].as_array().into_iter().flatten();
    let required: Vec<_> = required.filter_map(Value::as_str).collect();
    for (name, member) in schema["properties"].as_object().into_iter().flatten() {
        let may = May { lack: !required.contains(&name.as_str()), null: may_be_null(member) };
        members.insert(name.clone(), may);
    }
    members
}

fn may_be_null(schema: &Value) -> bool {
    let among = |key: &str, null: &Value| {
        schema[key].as_array().is_some_and(|values| values.iter().any(|value| value == null))
    };
    let null = serde_json::json!({"type": "null"});
    among("type", &"null".into()) || among("enum", &Value::Null) || among("oneOf", &null)
}

fn schema(name: &str) -> &'static Value {
    &DOCUMENT["components"]["schemas"][name]
}

#[test]
fn answers_have_the_same_members_here_and_there() {
    for (source, name) in [
        (API, "Webhook"),
        (API, "WebhookCheck"),
        (API, "SentTest"),
        (API, "StatsCounts"),
        (API, "StatsPoint"),
        (API, "StatsBacklog"),
        (API, "StatsWebhooks"),
        (API, "WebhookStats"),
        (API, "OverallStats"),
        (API, "AcceptedEvent"),
        (API, "EventSummary"),
        (API, "StoredEvent"),
        (API, "SkippedWebhook"),
        (API, "DeliverySummary"),
        (API, "DeliveryDetails"),
        (API, "AttemptError"),
        (API, "LastAttempt"),
        (API, "Attempt"),
        (API, "Replay"),
        (API, "Erasure"),
        (API, "AuditRecord"),
        (API, "AuditActor"),
        (API, "StreamedAttempt"),
        (API, "StreamLagged"),
        (ERRORS, "Problem"),
        (ERRORS, "FieldError"),
    ] {
        assert_eq!(of_interface(source, name), of_schema(schema(name)), "{name}");
    }
}

#[test]
fn requests_have_the_same_members_here_and_there() {
    for name in ["NewWebhook", "WebhookPatch", "NewReplay"] {
        let (interface, schema) = (of_interface(API, name), of_schema(schema(name)));
        assert_eq!(Vec::from_iter(interface.keys()), Vec::from_iter(schema.keys()), "{name}");
        for (member, may) in interface {
            assert_eq!(may.lack, schema[&member].lack, "{name} {member}");
        }
    }
}

#[test]
fn closed_lists_have_the_same_words_here_and_there() {
    for name in [
        "DeliveryStatus",
        "AttemptErrorCode",
        "ReplayState",
        "ReplayStatus",
        "ErasureState",
        "AuditAction",
        "AuditActorKind",
    ] {
        let start = format!("export type {name} =");
        let (_, union) = API.split_once(&start).unwrap_or_else(|| panic!("no type {name}"));
        let (union, _) = union.split_once(';').expect("its end");
        let mut words: Vec<_> = union.split('"').skip(1).step_by(2).collect();
        let listed = schema(name)["enum"].as_array().expect("a list");
        let mut listed: Vec<_> = listed.iter().filter_map(Value::as_str).collect();
        words.sort_unstable();
        listed.sort_unstable();
        assert_eq!(words, listed, "{name}");
    }
}
