//! The OpenAPI document: complete, consistent in itself, and true of every answer of this suite.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, LazyLock, Mutex},
};

use http::{Method, StatusCode};
use jsonschema::Validator;
use senderz_gateway::{
    api::{self, routes},
    app::openapi::document,
    config::{self, Config, Sources},
    ingest,
};
use serde_json::{Value, json};

use crate::support::{Answer, World};

const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

fn config() -> Config {
    config::load(&Sources::default()).expect("the defaults are valid")
}

pub(crate) static DOCUMENT: LazyLock<Value> = LazyLock::new(|| document(&config()));

/// Every operation, with its method and its path.
fn operations() -> impl Iterator<Item = (String, &'static str, &'static Value)> {
    let paths = DOCUMENT["paths"].as_object().expect("paths").iter();
    paths.flat_map(|(path, item)| {
        let methods = item.as_object().expect("a path's methods").iter();
        methods.map(move |(method, operation)| {
            assert!(METHODS.contains(&method.as_str()), "{method}");
            (method.to_uppercase(), path.as_str(), operation)
        })
    })
}

/// What a reference points to, or the value itself.
pub(crate) fn resolved(value: &'static Value) -> &'static Value {
    match value.get("$ref").and_then(Value::as_str) {
        Some(reference) => DOCUMENT.pointer(&reference[1..]).expect("references point somewhere"),
        None => value,
    }
}

/// A validator of a schema of the document. Payloads of this suite are no events.
fn validator(schema: &Value, components: Value) -> Validator {
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "allOf": [schema],
        "components": components,
    });
    jsonschema::validator_for(&schema).expect("the document's schemas are schemas")
}

fn assert_valid(validator: &Validator, value: &Value, what: &str) {
    let errors: Vec<_> = validator
        .iter_errors(value)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{what}: {errors:#?}\n{value:#}");
}

#[test]
fn the_documents_routes_are_the_routers() {
    let documented: BTreeSet<(String, &str)> =
        operations().map(|(method, path, _)| (method, path)).collect();
    let of_api = routes::all().into_iter().map(|route| (route.method.to_string(), route.path));
    let of_ingest = [ingest::EVENT_PATH, ingest::BATCH_PATH].map(|path| ("POST".to_owned(), path));
    let routed: BTreeSet<_> = of_api.chain(of_ingest).collect();
    assert_eq!(documented, routed);
}

#[test]
fn every_operation_is_described_whole() {
    let mut ids = BTreeSet::new();
    for (method, path, operation) in operations() {
        let what = format!("{method} {path}");
        for text in ["operationId", "summary", "description"] {
            assert!(operation[text].as_str().is_some_and(|text| !text.is_empty()), "{what} {text}");
        }
        assert!(ids.insert(operation["operationId"].as_str()), "{what} has another's id");
        let parameters = operation["parameters"].as_array().expect("parameters");
        for name in path.split('/').filter_map(|part| part.strip_prefix('{')) {
            let name = name.trim_end_matches('}');
            let is_it = |one: &&Value| one["in"] == "path" && one["name"] == name;
            assert_eq!(parameters.iter().filter(is_it).count(), 1, "{what} {name}");
        }
        let takes: Vec<_> = parameters.iter().filter(|one| one["in"] == "query").collect();
        if let Some(route) =
            routes::all().iter().find(|one| one.method == *method && one.path == path)
        {
            let names: Vec<_> = takes.iter().map(|one| one["name"].as_str()).collect();
            assert_eq!(names, route.params.iter().map(|name| Some(*name)).collect::<Vec<_>>());
        }
    }
}

#[test]
fn every_example_is_valid() {
    let mut checked = 0;
    let components = DOCUMENT["components"].clone();
    let mut check = |holder: &Value, example: &Value, what: &str| {
        assert_valid(&validator(&holder["schema"], components.clone()), example, what);
        checked += 1;
    };
    let mut content = |content: &Value, what: &str| {
        for (media_type, one) in content.as_object().into_iter().flatten() {
            let named = one["examples"].as_object().into_iter().flatten();
            let all: Vec<_> =
                named.map(|(_, example)| &example["value"]).chain(one.get("example")).collect();
            assert!(!all.is_empty(), "{what} {media_type} has no example");
            for example in all {
                check(one, example, what);
            }
        }
    };
    for (method, path, operation) in operations() {
        let what = format!("{method} {path}");
        content(&operation["requestBody"]["content"], &what);
        for (status, response) in operation["responses"].as_object().expect("responses") {
            content(&resolved(response)["content"], &format!("{what} {status}"));
        }
    }
    for (_, path, operation) in operations() {
        for parameter in operation["parameters"].as_array().expect("parameters") {
            if let Some(example) = parameter.get("example") {
                check(parameter, example, &format!("{path} {}", parameter["name"]));
            }
        }
    }
    assert!(checked > 100, "{checked}");
}

#[test]
fn the_documents_codes_are_those_of_the_refusals() {
    let of_api = api::Code::ALL.map(api::Code::kind);
    let of_ingest = ingest::problem::Code::ALL.map(ingest::problem::Code::kind);
    let all: BTreeSet<&str> = of_api.iter().chain(&of_ingest).map(|kind| kind.code).collect();
    let listed =
        DOCUMENT["components"]["schemas"]["Problem"]["properties"]["code"]["enum"].as_array();
    let listed: BTreeSet<&str> = listed.into_iter().flatten().filter_map(Value::as_str).collect();
    assert_eq!(listed, all);

    let responses = DOCUMENT["components"]["responses"].as_object().expect("responses");
    let examples = responses.values().flat_map(|response| {
        response["content"]["application/problem+json"]["examples"]
            .as_object()
            .expect("examples")
            .keys()
    });
    let mut somewhere: BTreeSet<&str> = examples.map(String::as_str).collect();
    // It is of paths, not of operations.
    somewhere.insert("method_not_allowed");
    assert_eq!(somewhere, all, "each is an answer of some route");
}

#[tokio::test]
async fn the_document_is_served_to_anyone() {
    let world = World::start().await;
    let answer = world.bare(Method::GET, "/openapi.json").await.expect(200);
    assert_eq!(answer.headers["content-type"], "application/json");
    assert_eq!(answer.json(), *DOCUMENT);
    let refused = world.bare(Method::GET, "/openapi.json?pretty=1").await.expect(400);
    assert_eq!(refused.problem(), "invalid_parameter");
    world.bare(Method::POST, "/openapi.json").await.expect(405);
}

/// The document as the suite's gateway serves it.
pub(crate) fn served() -> bytes::Bytes {
    DOCUMENT.to_string().into()
}

/// Holds a value to a schema of the document.
pub(crate) fn hold_to_schema(name: &str, value: &Value) {
    let schema = json!({"$ref": format!("#/components/schemas/{name}")});
    assert_valid(&closed(name, &schema), value, name);
}

/// Holds an answer to the document.
pub(crate) fn hold(method: &Method, path: &str, answer: &Answer) {
    if method == Method::HEAD {
        return;
    }
    let found =
        operations().find(|(other, pattern, _)| other == method.as_str() && fits(pattern, path));
    let status = answer.status;
    let Some((_, pattern, operation)) = found else {
        assert!(
            [StatusCode::NOT_FOUND, StatusCode::METHOD_NOT_ALLOWED].contains(&status),
            "{path}"
        );
        return;
    };
    let what = format!("{method} {pattern} {status}");
    let response = operation["responses"].get(status.as_str());
    let response = resolved(response.unwrap_or_else(|| panic!("{what} is not documented")));
    for (name, header) in response["headers"].as_object().into_iter().flatten() {
        // The front names requests, and this suite asks the router behind it.
        let is_needed = header["required"] == true && name != "X-Request-Id";
        assert!(!is_needed || answer.headers.contains_key(name), "{what} has no {name}");
    }
    let Some((media_type, content)) =
        response["content"].as_object().and_then(|content| content.iter().next())
    else {
        return assert!(answer.body.is_empty(), "{what} has a body");
    };
    assert_eq!(answer.headers["content-type"], media_type.as_str(), "{what}");
    let is_text = media_type == "text/event-stream";
    let text = || Value::from(String::from_utf8_lossy(&answer.body));
    let value = if is_text { text() } else { answer.json() };
    assert_valid(&closed(&what, &content["schema"]), &value, &what);
}

fn fits(pattern: &str, path: &str) -> bool {
    let (pattern, path): (Vec<_>, Vec<_>) =
        (pattern.split('/').collect(), path.split('/').collect());
    pattern.len() == path.len()
        && pattern.iter().zip(&path).all(|(part, given)| part == given || part.starts_with('{'))
}

/// As [`validator`], and nothing may be in an answer that the document does not name.
fn closed(what: &str, schema: &Value) -> Arc<Validator> {
    static MADE: LazyLock<Mutex<HashMap<String, Arc<Validator>>>> = LazyLock::new(Mutex::default);
    let mut made = MADE.lock().expect("nobody panics with it");
    let validator = made.entry(what.to_owned()).or_insert_with(|| {
        let mut components = DOCUMENT["components"].clone();
        // What is part of another schema is judged as a part of that.
        let parts = ["DeliverySummary", "Tenant", "ApiKey", "Problem", "StatsCounts", "Stats"];
        for (name, schema) in components["schemas"].as_object_mut().expect("schemas") {
            let has_members = schema.get("properties").is_some() || schema.get("allOf").is_some();
            if has_members && !parts.contains(&name.as_str()) {
                schema["unevaluatedProperties"] = json!(false);
            }
        }
        // The suite's payloads are no events; where one was erased, there is none.
        components["schemas"]["EventPayload"] = json!({"not": {"type": "null"}});
        Arc::new(validator(schema, components))
    });
    Arc::clone(validator)
}
