//! The route of the audit log.

use serde_json::{Value, json};

use super::{Settings, paged};
use crate::{
    audit::{Action, ActorKind},
    openapi::{Operation, words::Example},
};

fn record() -> Value {
    let example = Example::new();
    json!({
        "sequence": 17,
        "at": Example::TIME,
        "tenant": example.tenant,
        "action": Action::WebhookUpdated.as_str(),
        "object_id": example.webhook,
        "changed": ["url"],
        "actor": {
            "kind": ActorKind::Tenant.as_str(), "key_id": example.key, "session_id": null,
        },
        "request_id": example.request,
    })
}

pub(in crate::api) fn list(_: &Settings) -> Operation {
    Operation {
        id: "listAuditRecords",
        tag: "Audit",
        summary: "List what was changed, and by whom",
        description: "The newest first: a tenant's own records, or, for an operator who names \
                      none, all of them. A record is written together with the change that it is \
                      about and never changed; the oldest are removed when there are too many. It \
                      has no secret, no URL and no payload."
            .to_owned(),
        answers: vec![paged("AuditRecord", record())],
        ..Operation::default()
    }
}
