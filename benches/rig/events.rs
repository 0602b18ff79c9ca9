//! What producers send.

pub(crate) const TYPES: [&str; 6] = [
    "message.sent",
    "message.delivered",
    "message.failed",
    "message.inbound",
    "message.read",
    "message.blocked",
];

/// What the required fields take; a payload is at least as large.
pub(crate) const LEAST: usize = 220;

/// The nth payload, of exactly `len` bytes. Its number stands after `msg_`, in twenty digits.
pub(crate) fn payload(n: usize, kind: &str, len: usize) -> String {
    let reason =
        if matches!(kind, "message.failed" | "message.blocked") { "\"carrier\"" } else { "null" };
    let head = format!(
        r#"{{"type":"{kind}","timestamp":"2026-11-23T04:20:00.123Z","data":{{"id":"msg_{n:020}","channel":"whatsapp","recipient":"+15555550100","status_reason":{reason},"note":""#
    );
    let filler = "x".repeat(len - head.len() - 3);
    format!("{head}{filler}\"}}}}")
}

/// A request with these events, each of a tenant.
pub(crate) fn batch(events: impl Iterator<Item = (String, String)>) -> Vec<u8> {
    let lines: String = events
        .map(|(tenant, payload)| format!("{{\"tenant\":\"{tenant}\",\"payload\":{payload}}}\n"))
        .collect();
    super::client::request("/v1/events?ids=false", "application/x-ndjson", lines.as_bytes())
}
