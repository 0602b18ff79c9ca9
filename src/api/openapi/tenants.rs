//! The routes of tenants.

use serde_json::{Value, json};

use super::{Settings, created, gone, kinds, ok, paged};
use crate::{
    api::{Code, tenants::MAX_NAME},
    openapi::{Operation, body, reference, words::Example},
};

const TAG: &str = "Tenants";
/// A secret's look; nobody's secret.
pub(super) const SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

fn tenant() -> Value {
    json!({"id": Example::new().tenant, "name": "Acme Inc.", "created_at": Example::TIME})
}

pub(in crate::api) fn create(_: &Settings) -> Operation {
    let mut new = tenant();
    new["api_key"] = json!("szk_tenant_…");
    new["signing_secret"] = json!(SECRET);
    let schema = json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["id"],
        "properties": {
            "id": reference("TenantId"),
            "name": {
                "type": ["string", "null"],
                "description": "For people, without control characters; the id where it is left out.",
                "maxLength": MAX_NAME,
                "pattern": "^[^\\u0000-\\u001f\\u007f-\\u009f]*$",
            },
        },
    });
    let example = json!({"id": Example::new().tenant, "name": "Acme Inc."});
    Operation {
        id: "createTenant",
        tag: TAG,
        summary: "Create a tenant",
        description: "Makes a tenant with its first API key and its signing secret. The key is \
                      shown in this answer only."
            .to_owned(),
        body: Some(body(true, &["application/json"], schema, example)),
        answers: vec![created("NewTenant", "/v1/tenants/acme", new)],
        refusals: kinds(&[Code::TenantExists, Code::LimitReached, Code::StorageFull]),
        ..Operation::default()
    }
}

pub(in crate::api) fn list(_: &Settings) -> Operation {
    Operation {
        id: "listTenants",
        tag: TAG,
        summary: "List tenants",
        description: "All tenants, the newest first.".to_owned(),
        answers: vec![paged("Tenant", tenant())],
        ..Operation::default()
    }
}

pub(in crate::api) fn show(_: &Settings) -> Operation {
    Operation {
        id: "getTenant",
        tag: TAG,
        summary: "Show a tenant",
        description: "One tenant.".to_owned(),
        answers: vec![ok("The tenant.", "Tenant", tenant())],
        ..Operation::default()
    }
}

pub(in crate::api) fn remove(_: &Settings) -> Operation {
    Operation {
        id: "deleteTenant",
        tag: TAG,
        summary: "Delete a tenant",
        description: "Deletes a tenant with its keys, its secret and its webhooks. What waits for \
                      them is canceled."
            .to_owned(),
        answers: vec![gone()],
        refusals: kinds(&[Code::StorageFull]),
        ..Operation::default()
    }
}
