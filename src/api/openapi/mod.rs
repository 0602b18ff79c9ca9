//! The API's part of the OpenAPI document, made from the table of routes.
//!
//! What stands in the table is taken from there (method, path, parameters, who may call it), and
//! what follows from it (the refusals of the gate, of the body's reader and of the pages) is added
//! here; a route's own words, bodies and answers are in the file of its objects.

pub(super) mod audit;
pub(super) mod backups;
pub(super) mod deliveries;
pub(super) mod erasures;
pub(super) mod events;
pub(super) mod keys;
mod params;
pub(super) mod portal;
pub(super) mod replays;
pub(super) mod signing_secret;
pub(super) mod stats;
pub(super) mod stream;
pub(super) mod tenants;
pub(super) mod webhooks;

use axum::{
    extract,
    response::{IntoResponse as _, Response},
};
use http::{HeaderValue, Method, StatusCode, header};
use serde_json::{Value, json};

use super::{
    ApiState, Code, Settings,
    query::STATES,
    routes::{Access, Route, all},
};
use crate::{
    audit::{Action, ActorKind},
    backups::Backup,
    erasures::State as Erasing,
    idempotency,
    openapi::{
        Answer, Operation, Schemas, collect, parameter, reference,
        words::{self, one_of, word},
    },
    problem::{self, Kind},
    replays::{Reason, STATUSES, State},
    stats::Period,
    webhook::DisabledReason,
};

word!(AuditAction, one_of(Action::ALL.map(Action::as_str), "What was done."));
word!(
    AuditActorKind,
    one_of(
        ActorKind::ALL.map(ActorKind::as_str),
        "What kind of somebody it was; `gateway` where nobody asked for it."
    )
);
word!(DeliveryStatus, one_of(STATES, "Where a delivery stands."));
word!(KeyKind, one_of(keys::KINDS, "For whom a key speaks."));
word!(BackupState, one_of(Backup::STATES, "How a backup went."));
word!(ErasureState, one_of(Erasing::ALL.map(Erasing::as_str), "Where an erasure stands."));
word!(ReplayState, one_of(State::ALL.map(State::as_str), "Where a replay stands."));
word!(ReplayReason, one_of(Reason::ALL.map(Reason::as_str), "Why a replay rests or failed."));
word!(ReplayStatus, one_of(STATUSES, "How deliveries ended that are replayed."));
word!(SkipReason, one_of(super::skipped::REASONS, "Why a webhook got no delivery."));
word!(Breaker, one_of(super::stats::BREAKERS, "What a breaker allows."));
word!(
    DisabledBecause,
    one_of(DisabledReason::ALL.map(DisabledReason::as_str), "Why a webhook is disabled.")
);
word!(StatsPeriod, one_of(Period::ALL.map(Period::as_str), "Which time until now."));
word!(StatsErrors, words::error_counts());
word!(LagReason, one_of(super::stream::REASONS, "Why attempts were left out."));

const TAGS: [(&str, &str); 12] = [
    ("Tenants", "Customers of senderZ, for the operator."),
    ("Keys", "API keys: made, listed without their text, revoked."),
    ("Signing secret", "What deliveries are signed with."),
    ("Webhooks", "Where events go, and how."),
    ("Statistics", "What came of attempts lately, and what waits."),
    ("Events", "What producers send, and what was accepted."),
    ("Deliveries", "One event for one webhook each, with all its attempts."),
    ("Replays", "Many deliveries sent again, slowly, as a job."),
    ("Erasures", "What events said of a person, forgotten as a job."),
    ("Stream", "Attempts as they are made."),
    ("Audit", "What was changed, and by whom."),
    ("Portal", "Ways into the portal."),
];

pub(super) const GATEWAY: &str = "Gateway";

/// What the API's routes are, for the document.
pub fn operations(settings: &Settings) -> Vec<(Method, &'static str, Operation)> {
    all()
        .into_iter()
        .map(|route| (route.method.clone(), route.path, whole(&route, settings)))
        .collect()
}

/// The groups of routes.
pub fn tags() -> Vec<(&'static str, &'static str)> {
    TAGS.into_iter().chain([(GATEWAY, "About the gateway itself.")]).collect()
}

pub fn schemas(settings: &Settings) -> Schemas {
    let mut schemas = Schemas::new();
    collect::<super::tenants::TenantView<'_>>(&mut schemas);
    collect::<super::tenants::NewTenantView<'_>>(&mut schemas);
    collect::<super::keys::KeyView>(&mut schemas);
    collect::<super::keys::NewKeyView<'_>>(&mut schemas);
    collect::<super::signing_secret::SecretView<'_>>(&mut schemas);
    collect::<super::webhooks::WebhookView<'_>>(&mut schemas);
    collect::<super::example::TestView>(&mut schemas);
    collect::<super::check::CheckView<'_>>(&mut schemas);
    collect::<super::events::EventView>(&mut schemas);
    collect::<super::events::FullEventView>(&mut schemas);
    collect::<super::delivery::FullDeliveryView<'_>>(&mut schemas);
    collect::<super::replays::ReplayView>(&mut schemas);
    collect::<super::erasures::ErasureView>(&mut schemas);
    collect::<super::backups::BackupView>(&mut schemas);
    collect::<super::stats::WebhookStatsView>(&mut schemas);
    collect::<super::stats::OverallStatsView>(&mut schemas);
    collect::<super::stream::StreamedAttemptView<'_>>(&mut schemas);
    collect::<super::stream::LaggedView>(&mut schemas);
    collect::<super::audit::RecordView<'_>>(&mut schemas);
    collect::<super::portal::LinkView>(&mut schemas);
    collect::<words::EventPayload>(&mut schemas);
    collect::<words::TenantId>(&mut schemas);
    let listed = [
        "Tenant",
        "ApiKey",
        "Webhook",
        "EventSummary",
        "DeliverySummary",
        "Replay",
        "Erasure",
        "Backup",
        "AuditRecord",
    ];
    for name in listed {
        schemas.insert(format!("{name}Page"), page(name));
    }
    schemas.insert("CatchUpPage".to_owned(), events::catch_up_page());
    schemas.insert("NewBackup".to_owned(), backups::new());
    schemas.insert("NewReplay".to_owned(), replays::new(settings));
    schemas.insert("NewWebhook".to_owned(), webhooks::new(settings));
    schemas.insert("WebhookPatch".to_owned(), webhooks::patch(settings));
    schemas
}

/// The document itself, as a route of its own.
pub(super) fn itself(_: &Settings) -> Operation {
    let answer = Answer::new(
        StatusCode::OK,
        "The document.",
        json!({"type": "object", "required": ["openapi", "info", "paths"]}),
        json!({"openapi": "3.1.0", "info": {"title": "senderz-gateway", "version": "0"}, "paths": {}}),
    );
    Operation {
        id: "getOpenApi",
        tag: GATEWAY,
        summary: "This document",
        description: "The OpenAPI document of this gateway. No key is needed.".to_owned(),
        answers: vec![answer],
        ..Operation::default()
    }
}

pub(super) async fn show(extract::State(api): extract::State<ApiState>) -> Response {
    let mut response = api.settings().document.clone().into_response();
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// A route's own description, and what follows from its place in the table.
fn whole(route: &Route, settings: &Settings) -> Operation {
    let own = (route.document)(settings);
    let mut parameters = params::of(route, settings);
    parameters.extend(own.parameters);
    let mut refusals = own.refusals;
    let mut answers = own.answers;
    if route.is_repeatable() {
        parameters.push(idempotency_key(settings));
        refusals.extend(kinds(&[
            Code::InvalidIdempotencyKey,
            Code::IdempotencyKeyInUse,
            Code::IdempotencyKeyReused,
            Code::RateLimited,
            Code::StorageFull,
        ]));
        answers = answers.into_iter().map(repeatable).collect();
    }
    refusals.extend(refusals_of(route, own.body.is_some()));
    let description = format!("{}\n\n{}", own.description, who(route.access));
    let is_open = route.access == Access::Anyone;
    Operation { parameters, answers, refusals, description, is_open, ..own }
}

fn idempotency_key(settings: &Settings) -> Value {
    let text = "Makes repeating safe: the same request with the same key does nothing again and \
                gets the first answer. A key belongs to the API key that it comes with.";
    let schema = idempotency::schema(settings.longest_idempotency_key);
    let mut header = parameter("header", "Idempotency-Key", text, schema);
    header["example"] = json!("order-17");
    header
}

fn repeatable(answer: Answer) -> Answer {
    answer.header(
        "Idempotent-Replayed",
        json!({
            "description": "There, and `true`, where this answer was given before.",
            "schema": {"type": "string", "const": "true"},
        }),
    )
}

fn who(access: Access) -> &'static str {
    match access {
        Access::Anyone => "Who: anyone.",
        Access::Operator => "Who: the operator.",
        Access::Tenant => "Who: a tenant, or the operator for one (`Senderz-Tenant`).",
        Access::TenantOrOperator => {
            "Who: a tenant for its own; the operator with or without a tenant (`Senderz-Tenant`)."
        }
    }
}

/// What can be refused before a handler has anything to say.
fn refusals_of(route: &Route, has_body: bool) -> Vec<Kind> {
    let mut codes = vec![
        // Every request is read whole first.
        problem::BAD_REQUEST,
        problem::TIMEOUT,
        problem::PAYLOAD_TOO_LARGE,
        problem::OVERLOADED,
        problem::INTERNAL,
    ];
    let mut add = |those: &[Code]| codes.extend(those.iter().map(|code| code.kind()));
    add(&[Code::KeyInUrl, Code::InvalidParameter]);
    if route.access != Access::Anyone {
        add(&[Code::Unauthorized, Code::Forbidden, Code::Unavailable, Code::NotFound]);
        add(&[Code::TenantRequired]);
    }
    if route.params.contains(&"cursor") {
        add(&[Code::InvalidCursor]);
    }
    if has_body {
        add(&[Code::InvalidBody, Code::UnsupportedMediaType]);
    }
    codes
}

/// The schema of a page of these.
fn page(name: &str) -> Value {
    json!({
        "type": "object",
        "description": "One page. It may be short, even empty, and still have a next one.",
        "required": ["data", "next_cursor"],
        "properties": {
            "data": {"type": "array", "items": reference(name)},
            "next_cursor": {
                "type": ["string", "null"],
                "description": "For `cursor`, with the same filters; null on the last page.",
            },
        },
    })
}

/// The answer with a page of these.
fn paged(name: &str, one: Value) -> Answer {
    let example = json!({"data": [one], "next_cursor": null});
    Answer::new(StatusCode::OK, "One page.", reference(&format!("{name}Page")), example)
}

fn ok(description: &'static str, name: &str, example: Value) -> Answer {
    Answer::new(StatusCode::OK, description, reference(name), example)
}

fn accepted(description: &'static str, name: &str, example: Value) -> Answer {
    Answer::new(StatusCode::ACCEPTED, description, reference(name), example)
}

/// 201, with `Location`.
fn created(name: &str, location: &str, example: Value) -> Answer {
    let location = json!({
        "description": "Where it can be read.",
        "required": true,
        "schema": {"type": "string", "format": "uri-reference"},
        "example": location,
    });
    Answer::new(StatusCode::CREATED, "It was made.", reference(name), example)
        .header("Location", location)
}

fn gone() -> Answer {
    Answer::empty(StatusCode::NO_CONTENT, "It is gone.")
}

fn kinds(codes: &[Code]) -> Vec<Kind> {
    codes.iter().map(|code| code.kind()).collect()
}
