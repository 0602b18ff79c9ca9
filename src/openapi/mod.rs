//! The vocabulary of the API's OpenAPI 3.1 document.
//!
//! A route is described by an [`Operation`], which says only what is particular to it; what all
//! have in common (how a refusal looks, which headers it has) is written out here, once, from the
//! same [`Kind`]s that the refusals are made of. Schemas of what is serialised are derived next to
//! the types that are serialised; those of the words they are made of stand in [`words`].
//!
//! Nothing here knows a route. Each driver describes its own, and the composition puts them
//! together.

pub mod words;

use std::collections::{BTreeMap, BTreeSet};

use http::{Method, StatusCode};
use serde_json::{Map, Value, json};
use utoipa::{
    ToSchema,
    openapi::{RefOr, Schema},
};

use crate::{
    problem::{self, FieldError, Kind},
    request_id::MAX_REQUEST_ID,
};

/// The path of the document itself.
pub const PATH: &str = "/openapi.json";

const PROBLEM_JSON: &str = "application/problem+json";

/// Schemas by their names in the document.
pub type Schemas = Map<String, Value>;

/// One route, as far as it differs from others.
#[derive(Clone, Debug, Default)]
pub struct Operation {
    /// For generated clients: `createWebhook`.
    pub id: &'static str,
    pub tag: &'static str,
    pub summary: &'static str,
    pub description: String,
    /// Parameter objects, of path, query and header.
    pub parameters: Vec<Value>,
    pub body: Option<Value>,
    pub answers: Vec<Answer>,
    /// Every refusal it can answer with.
    pub refusals: Vec<Kind>,
    /// Whether no key is needed.
    pub is_open: bool,
}

/// What a route answers when it did what was asked.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub description: &'static str,
    /// Of the body, where there is one.
    pub media_type: &'static str,
    /// Schema and example; none where there is no body.
    pub content: Option<(Value, Value)>,
    pub headers: Vec<(&'static str, Value)>,
}

impl Answer {
    pub fn new(
        status: StatusCode,
        description: &'static str,
        schema: Value,
        example: Value,
    ) -> Self {
        Self { content: Some((schema, example)), ..Self::empty(status, description) }
    }

    pub fn empty(status: StatusCode, description: &'static str) -> Self {
        let media_type = "application/json";
        Self { status, description, media_type, content: None, headers: Vec::new() }
    }

    #[must_use]
    pub fn header(mut self, name: &'static str, header: Value) -> Self {
        self.headers.push((name, header));
        self
    }

    fn to_value(&self) -> Value {
        let mut headers = Map::from_iter([request_id()]);
        headers.extend(self.headers.iter().map(|(name, h)| ((*name).into(), h.clone())));
        let mut response = json!({"description": self.description, "headers": headers});
        if let Some((schema, example)) = &self.content {
            response["content"] = json!({self.media_type: {"schema": schema, "example": example}});
        }
        response
    }
}

/// A component of the document.
pub fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

/// The schema's name, and it with all that it names.
pub fn collect<T: ToSchema>(schemas: &mut Schemas) {
    let mut found: Vec<(String, RefOr<Schema>)> = vec![(T::name().into_owned(), T::schema())];
    T::schemas(&mut found);
    for (name, schema) in found {
        schemas.insert(name, serde_json::to_value(schema).expect("schemas have string keys"));
    }
}

pub fn parameter(place: &str, name: &str, description: impl Into<String>, schema: Value) -> Value {
    json!({
        "name": name,
        "in": place,
        "required": place == "path",
        "description": description.into(),
        "schema": schema,
    })
}

/// A JSON request body.
pub fn body(is_required: bool, media_types: &[&str], schema: Value, example: Value) -> Value {
    let content = json!({"schema": schema, "example": example});
    let content = media_types.iter().map(|name| ((*name).to_owned(), content.clone()));
    json!({"required": is_required, "content": content.collect::<Map<_, _>>()})
}

/// Everything that the document is made of.
#[derive(Debug)]
pub struct Parts {
    pub operations: Vec<(Method, &'static str, Operation)>,
    pub schemas: Schemas,
    /// Name and description of each group of routes.
    pub tags: Vec<(&'static str, &'static str)>,
    /// Every refusal there is, those that belong to no route included.
    pub kinds: Vec<Kind>,
}

/// The whole document.
pub fn document(parts: &Parts) -> Value {
    let mut responses = Map::new();
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for (method, path, operation) in &parts.operations {
        let method = method.as_str().to_ascii_lowercase();
        let written = written(operation, &mut responses);
        paths.entry(path).or_default().insert(method, written);
    }
    let tags = parts.tags.iter();
    let tags = tags.map(|(name, text)| json!({"name": name, "description": text}));
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "senderz-gateway",
            "version": env!("CARGO_PKG_VERSION"),
            "description": DESCRIPTION,
        },
        "servers": [{"url": "/"}],
        "tags": tags.collect::<Vec<_>>(),
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "schemas": schemas(parts),
            "responses": responses,
            "securitySchemes": {"bearer": {
                "type": "http",
                "scheme": "bearer",
                "description": "An API key: `szk_operator_…` may do everything, `szk_tenant_…` what is \
                                its tenant's own, `szk_producer_…` may only send events. Keys are \
                                taken from this header only, never from a URL.",
            }},
        },
    })
}

const DESCRIPTION: &str = "Takes message events from the senderZ cluster and delivers each one, \
    signed, to the webhooks that asked for it.\n\nAn operator acts for a tenant with the header \
    `Senderz-Tenant`. Another tenant's object answers as a missing one does. Every refusal is a \
    problem document (RFC 9457) whose `code` is stable; a path that exists and does not have the \
    method answers 405 with `Allow`. Lists are pages: pass `next_cursor` as `cursor`, with the same \
    filters, until it is null. Unknown fields and parameters are refused by name. Limits are those \
    of this gateway's configuration.";

fn schemas(parts: &Parts) -> Schemas {
    let mut schemas = parts.schemas.clone();
    collect::<problem::Document<'_>>(&mut schemas);
    let codes: BTreeSet<&str> = parts.kinds.iter().map(|kind| kind.code).collect();
    schemas["Problem"]["properties"]["code"]["enum"] = json!(codes);
    schemas
}

fn written(operation: &Operation, responses: &mut Map<String, Value>) -> Value {
    let mut answers = Map::new();
    for answer in &operation.answers {
        answers.insert(answer.status.as_str().to_owned(), answer.to_value());
    }
    let mut by_status: BTreeMap<u16, BTreeMap<&str, Kind>> = BTreeMap::new();
    for kind in &operation.refusals {
        by_status.entry(kind.status.as_u16()).or_default().insert(kind.code, *kind);
    }
    for (status, kinds) in by_status {
        // Routes that can refuse in the same ways share the description of it.
        let name = kinds.keys().copied().collect::<Vec<_>>().join(".");
        let reference = json!({"$ref": format!("#/components/responses/{name}")});
        responses.entry(name).or_insert_with(|| refusal(status, kinds.values().copied()));
        answers.insert(status.to_string(), reference);
    }
    let mut written = json!({
        "operationId": operation.id,
        "tags": [operation.tag],
        "summary": operation.summary,
        "description": operation.description,
        "parameters": operation.parameters,
        "responses": answers,
    });
    if let Some(body) = &operation.body {
        written["requestBody"] = body.clone();
    }
    if operation.is_open {
        written["security"] = json!([]);
    }
    written
}

/// The response of one status, for every kind that has it.
fn refusal(status: u16, kinds: impl Iterator<Item = Kind> + Clone) -> Value {
    let titles: Vec<&str> = kinds.clone().map(|kind| kind.title).collect();
    let codes: Vec<&str> = kinds.clone().map(|kind| kind.code).collect();
    let examples = kinds.map(|kind| {
        let errors = match kind.code {
            "invalid_body" => vec![FieldError::new("/url", "it is required")],
            "invalid_parameter" => vec![FieldError::new("?limit", "it is a number from 1 to 100")],
            _ => Vec::new(),
        };
        let answer = problem::response(kind, kind.title, &errors, None);
        let value: Value = serde_json::from_slice(answer.body()).expect("we have just written it");
        (kind.code.to_owned(), json!({"summary": kind.title, "value": value}))
    });
    let only = json!({"properties": {"code": {"enum": codes}, "status": {"const": status}}});
    json!({
        "description": titles.join(". "),
        "headers": headers(status),
        "content": {PROBLEM_JSON: {
            "schema": {"allOf": [reference("Problem"), only]},
            "examples": examples.collect::<Map<_, _>>(),
        }},
    })
}

/// What every answer is called.
fn request_id() -> (String, Value) {
    let header = json!({
        "description": "What the request is called, in the gateway's log and its audit log too: the request's own \
            `X-Request-Id` (1 to 128 letters, digits and `-_.:/+=@`), or else a new one.",
        "required": true,
        "schema": {"type": "string", "minLength": 1, "maxLength": MAX_REQUEST_ID},
        "example": "req_2h9skbyy5sez9j30eefxy5w454",
    });
    ("X-Request-Id".to_owned(), header)
}

/// The headers that a refusal of this status carries besides its body.
fn headers(status: u16) -> Map<String, Value> {
    let mut headers = Map::from_iter([request_id()]);
    headers.extend(particular_headers(status));
    headers
}

/// Those that not every answer has.
fn particular_headers(status: u16) -> Map<String, Value> {
    let retry_after = |is_required: bool| {
        let header = json!({
            "description": "Whole seconds after which it may go better.",
            "required": is_required,
            "schema": {"type": "integer", "minimum": 1},
        });
        Map::from_iter([("Retry-After".to_owned(), header)])
    };
    match status {
        401 => {
            let header = json!({
                "description": "How to authenticate.",
                "required": true,
                "schema": {"type": "string"},
                "example": problem::CHALLENGE,
            });
            Map::from_iter([("WWW-Authenticate".to_owned(), header)])
        }
        429 => {
            let mut fields = retry_after(true);
            let field = |text: &str, example: &str| {
                json!({
                    "description": format!("{text} (draft-ietf-httpapi-ratelimit-headers); only \
                        where it was a quota."),
                    "schema": {"type": "string"},
                    "example": example,
                })
            };
            let policy = field("The quota and its seconds", r#""limits.tenant_tests";q=60;w=60"#);
            let left = r#""limits.tenant_tests";r=0;t=7"#;
            let left = field("What is left, and when there is more", left);
            fields
                .extend([("RateLimit-Policy".to_owned(), policy), ("RateLimit".to_owned(), left)]);
            fields
        }
        503 => retry_after(true),
        507 => retry_after(false),
        _ => Map::new(),
    }
}
