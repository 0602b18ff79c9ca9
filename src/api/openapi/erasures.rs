//! The routes of erasures.

use http::StatusCode;
use serde_json::{Value, json};

use super::{Settings, kinds, ok, paged};
use crate::{
    api::Code,
    openapi::{Answer, Operation, reference, words::Example},
};

const TAG: &str = "Erasures";

fn erasure() -> Value {
    json!({
        "id": Example::new().erasure,
        "state": "scrubbing",
        "events": 12,
        "deliveries_canceled": 1,
        "incomplete": false,
        "position": Example::TIME,
        "created_at": Example::TIME,
        "completed_at": null,
    })
}

pub(in crate::api) fn create(_: &Settings) -> Operation {
    let location = json!({
        "description": "Where it can be looked at.",
        "required": true,
        "schema": {"type": "string", "format": "uri-reference"},
        "example": format!("/v1/erasures/{}", Example::new().erasure),
    });
    let answer =
        Answer::new(StatusCode::ACCEPTED, "It has begun.", reference("Erasure"), erasure())
            .header("Location", location);
    Operation {
        id: "eraseEvents",
        tag: TAG,
        summary: "Erase one person's events",
        description:
            "Erases the payloads of all events accepted until now whose `data.recipient` is \
                      this one, and what receivers answered to them. Ids, types, times, deliveries \
                      and attempts stay. Deliveries that still wait are canceled with the reason \
                      `event_erased`. It is a job: it has the state `done` when nothing of it is \
                      left in the gateway's files, and goes on after a restart."
                .to_owned(),
        answers: vec![answer],
        refusals: kinds(&[Code::LimitReached, Code::StorageFull]),
        ..Operation::default()
    }
}

pub(in crate::api) fn list(_: &Settings) -> Operation {
    Operation {
        id: "listErasures",
        tag: TAG,
        summary: "List erasures",
        description: "The tenant's erasures, the newest first. Of those that are done the last \
                      500 are kept."
            .to_owned(),
        answers: vec![paged("Erasure", erasure())],
        ..Operation::default()
    }
}

pub(in crate::api) fn show(_: &Settings) -> Operation {
    Operation {
        id: "getErasure",
        tag: TAG,
        summary: "Show an erasure",
        description: "How far an erasure is.".to_owned(),
        answers: vec![ok("The erasure.", "Erasure", erasure())],
        ..Operation::default()
    }
}
