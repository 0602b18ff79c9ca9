//! The routes of API keys.

use serde_json::{Value, json};

use super::{Settings, created, gone, kinds, paged};
use crate::{
    api::Code,
    directory::Principal,
    id::TenantNo,
    openapi::{Operation, body, reference, words::Example},
};

const TAG: &str = "Keys";

pub(super) const KINDS: [&str; 3] =
    [Principal::Operator.kind(), Principal::Producer.kind(), Principal::Tenant(TenantNo(0)).kind()];

fn key() -> Value {
    let example = Example::new();
    json!({
        "id": example.key, "kind": "tenant", "tenant": example.tenant, "created_at": Example::TIME,
    })
}

pub(in crate::api) fn create(_: &Settings) -> Operation {
    let [operator, producer, tenant] = KINDS;
    let named = |kinds: Value, tenant: Value| {
        json!({
            "type": "object",
            "additionalProperties": false,
            "required": ["kind"],
            "properties": {"kind": {"type": "string", "enum": kinds}, "tenant": tenant},
        })
    };
    let of_tenant = json!({
        "description": "For which tenant; where it is left out, the one that the request is for.",
        "anyOf": [reference("TenantId"), {"type": "null"}],
    });
    let schema = json!({"oneOf": [
        named(json!([operator, producer]), json!({"type": "null"})),
        named(json!([tenant]), of_tenant),
    ]});
    let mut new = key();
    new["api_key"] = json!("szk_tenant_…");
    Operation {
        id: "createKey",
        tag: TAG,
        summary: "Create an API key",
        description: "Makes a key; its text is shown in this answer only. A tenant can make keys \
                      of kind `tenant` for itself."
            .to_owned(),
        body: Some(body(true, &["application/json"], schema, json!({"kind": "tenant"}))),
        answers: vec![created("NewApiKey", &format!("/v1/keys/{}", Example::new().key), new)],
        refusals: kinds(&[Code::LimitReached, Code::StorageFull]),
        ..Operation::default()
    }
}

pub(in crate::api) fn list(_: &Settings) -> Operation {
    Operation {
        id: "listKeys",
        tag: TAG,
        summary: "List API keys",
        description: "The keys, without their text, the newest first: a tenant's, or, for an \
                      operator who names none, everybody's."
            .to_owned(),
        answers: vec![paged("ApiKey", key())],
        ..Operation::default()
    }
}

pub(in crate::api) fn revoke(_: &Settings) -> Operation {
    Operation {
        id: "revokeKey",
        tag: TAG,
        summary: "Revoke an API key",
        description: "From the answer on the key is unknown.".to_owned(),
        answers: vec![gone()],
        refusals: kinds(&[Code::StorageFull]),
        ..Operation::default()
    }
}
