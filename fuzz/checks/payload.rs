//! Any bytes as an event's payload: what is accepted is what another JSON parser reads as an event
//! of the contract.

use senderz_gateway::event::{EventType, PayloadLimits, parse_payload, parse_payload_str};
use serde_json::Value;

const LIMITS: PayloadLimits = PayloadLimits { max_bytes: 4096, max_depth: 16 };

pub(crate) fn check(data: &[u8]) {
    let read = parse_payload(data, &LIMITS);
    if let Ok(text) = std::str::from_utf8(data) {
        assert_eq!(parse_payload_str(text, &LIMITS).ok(), read.clone().ok(), "one parser");
    }
    match read {
        Ok(event_type) => is_an_event(data, event_type),
        Err(error) => {
            assert!(!error.problems.is_empty() && error.problems.len() <= 16);
            for problem in error.problems {
                assert!(problem.pointer.is_empty() || problem.pointer.starts_with('/'));
                assert!(!problem.detail.is_empty() && !problem.detail.contains('\n'));
            }
        }
    }
}

fn is_an_event(data: &[u8], event_type: EventType) {
    assert!(data.len() <= LIMITS.max_bytes);
    let value: Value = serde_json::from_slice(data).expect("it is JSON");
    assert!(depth(&value) <= LIMITS.max_depth);
    let text = |name: &str| value["data"][name].as_str();
    assert_eq!(value["type"], event_type.as_str());
    assert!(value["timestamp"].is_string());
    for required in ["id", "channel", "recipient"] {
        assert!(text(required).is_some_and(|text| !text.is_empty()), "{required}");
    }
    if matches!(event_type, EventType::Failed | EventType::Blocked) {
        assert!(text("status_reason").is_some_and(|text| !text.is_empty()));
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}
