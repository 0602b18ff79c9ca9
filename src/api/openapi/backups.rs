//! The routes of backups.

use http::StatusCode;
use serde_json::{Value, json};

use super::{Settings, kinds, ok, paged};
use crate::{
    api::Code,
    openapi::{Answer, Operation, body, reference, words::Example},
};

const TAG: &str = super::GATEWAY;
const JSON: &[&str] = &["application/json"];

fn backup() -> Value {
    json!({
        "name": Example::BACKUP,
        "state": "done",
        "path": format!("/var/lib/senderz/backups/{}", Example::BACKUP),
        "with_keys": false,
        "progress": 1.0,
        "bytes": 52_428_800,
        "error": null,
        "began_at": Example::TIME,
        "ended_at": Example::TIME,
    })
}

/// `NewBackup`.
pub(super) fn new() -> Value {
    json!({
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "name": {
                "anyOf": [reference("BackupName"), {"type": "null"}],
                "description": "Of its directory in `backup.dir`; made of the time where left out.",
            },
            "rate": {
                "type": ["integer", "null"], "minimum": 1, "maximum": u32::MAX,
                "description": "Bytes a second; `backup.rate` where left out.",
            },
            "with_keys": {
                "type": ["boolean", "null"],
                "description": "Take along the encryption key and the operator's key, where they \
                                stand in the data directory. Whoever has such a copy has everything.",
            },
        },
    })
}

pub(in crate::api) fn create(_: &Settings) -> Operation {
    let location = json!({
        "description": "Where it can be looked at.",
        "required": true,
        "schema": {"type": "string", "format": "uri-reference"},
        "example": format!("/v1/backups/{}", Example::BACKUP),
    });
    let answer = Answer::new(StatusCode::ACCEPTED, "It has begun.", reference("Backup"), backup())
        .header("Location", location);
    Operation {
        id: "createBackup",
        tag: TAG,
        summary: "Back up the running gateway",
        description:
            "Copies the store as it is now into a directory of its own on the gateway's disk, \
                      while everything goes on. Everything accepted before is in it. A gateway \
                      starts on the directory. It has its name only once it is complete; one at a \
                      time."
                .to_owned(),
        body: Some(body(false, JSON, reference("NewBackup"), json!({"name": Example::BACKUP}))),
        answers: vec![answer],
        refusals: kinds(&[Code::BackupRunning, Code::BackupExists]),
        ..Operation::default()
    }
}

pub(in crate::api) fn list(_: &Settings) -> Operation {
    Operation {
        id: "listBackups",
        tag: TAG,
        summary: "List backups",
        description: "The last backups of this process, the newest first.".to_owned(),
        answers: vec![paged("Backup", backup())],
        ..Operation::default()
    }
}

pub(in crate::api) fn show(_: &Settings) -> Operation {
    Operation {
        id: "getBackup",
        tag: TAG,
        summary: "Show a backup",
        description: "How far a backup is.".to_owned(),
        answers: vec![ok("The backup.", "Backup", backup())],
        ..Operation::default()
    }
}
