//! The routes of the signing secret.

use serde_json::{Value, json};

use super::{Settings, kinds, ok, tenants::SECRET};
use crate::{
    api::{
        Code,
        signing_secret::{DEFAULT_OVERLAP, MAX_OVERLAP},
    },
    config::units::format_duration,
    openapi::{Operation, body, words::Example},
    tenant::MAX_PREVIOUS_SECRETS,
};

const TAG: &str = "Signing secret";

fn secrets() -> Value {
    let before = json!({"secret": SECRET, "valid_until": Example::TIME});
    json!({"secret": SECRET, "previous": [before]})
}

pub(in crate::api) fn show(_: &Settings) -> Operation {
    Operation {
        id: "getSigningSecret",
        tag: TAG,
        summary: "Show the signing secret",
        description: "The secret that signs the tenant's deliveries, and those before it that \
                      still sign too, the newest first."
            .to_owned(),
        answers: vec![ok("The secrets.", "SigningSecrets", secrets())],
        ..Operation::default()
    }
}

pub(in crate::api) fn rotate(_: &Settings) -> Operation {
    let (default, most) = (format_duration(DEFAULT_OVERLAP), format_duration(MAX_OVERLAP));
    let schema = json!({
        "type": "object",
        "additionalProperties": false,
        "properties": {"overlap": {
            "description": format!("How long the secret before signs as well: `0s` to `{most}`."),
            "type": ["string", "null"],
            "pattern": "^[0-9]+(ms|s|m|h|d)$",
            "default": default,
        }},
    });
    Operation {
        id: "rotateSigningSecret",
        tag: TAG,
        summary: "Rotate the signing secret",
        description: format!(
            "Makes a new secret. The one before signs as well until its overlap ends; with `0s`, \
             for a secret that leaked, the new one signs alone at once. At most \
             {MAX_PREVIOUS_SECRETS} old secrets sign at once: beyond them the answer is 409. The \
             body may be left out."
        ),
        body: Some(body(false, &["application/json"], schema, json!({"overlap": "24h"}))),
        answers: vec![ok("The new secret.", "SigningSecrets", secrets())],
        refusals: kinds(&[Code::LimitReached, Code::StorageFull]),
        ..Operation::default()
    }
}
