//! Example events: what `POST /v1/webhooks/{id}/test` sends. Each is valid under the published
//! contract, and says of itself that it is a test.

use bytes::Bytes;
use serde::Serialize;

use super::{Code, Problem};
use crate::{
    clock::{rfc3339, wall_ms},
    event::EventType,
    store::AppendError,
};

#[derive(Serialize)]
struct Example {
    r#type: &'static str,
    timestamp: String,
    data: ExampleData,
}

#[derive(Serialize)]
struct ExampleData {
    id: &'static str,
    channel: &'static str,
    /// From the range kept for fiction.
    recipient: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_reason: Option<&'static str>,
    test: bool,
}

pub(super) fn payload(event_type: EventType) -> Bytes {
    let status_reason = match event_type {
        EventType::Failed => Some("carrier_rejected"),
        EventType::Blocked => Some("recipient_opted_out"),
        EventType::Sent | EventType::Delivered | EventType::Inbound | EventType::Read => None,
    };
    let example = Example {
        r#type: event_type.as_str(),
        timestamp: rfc3339(wall_ms()),
        data: ExampleData {
            id: "msg_test",
            channel: "sms",
            recipient: "+15555550100",
            status_reason,
            test: true,
        },
    };
    serde_json::to_vec(&example).expect("strings and booleans always serialize").into()
}

/// Why the example was not accepted.
pub(super) fn refused(error: AppendError) -> Problem {
    match error {
        AppendError::Full => Problem::new(Code::StorageFull, "there is no room for more events"),
        AppendError::Poisoned => {
            Problem::new(Code::Unavailable, "the gateway's store has stopped; try again later")
        }
        AppendError::KeyReused(_) => {
            tracing::error!("the store found a reused key on an event that has none");
            Problem::new(Code::Internal, "the event was not accepted")
        }
    }
}
