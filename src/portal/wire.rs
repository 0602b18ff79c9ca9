//! The API's answers, as far as pages show them. The OpenAPI document says what they are.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::words::{Badge, When, latency};

#[derive(Debug, Deserialize)]
pub(super) struct Page<T> {
    pub(super) data: Vec<T>,
    pub(super) next_cursor: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Delivery {
    pub(super) id: String,
    pub(super) event_id: String,
    pub(super) webhook_id: Option<String>,
    pub(super) webhook_deleted: bool,
    pub(super) event_type: String,
    pub(super) status: String,
    pub(super) reason: Option<String>,
    pub(super) attempts_made: u32,
    pub(super) created_at: String,
    pub(super) next_attempt_at: Option<String>,
    pub(super) last_attempt: Option<LastAttempt>,
}

impl Delivery {
    pub(super) fn badge(&self) -> Badge {
        Badge::of(&self.status)
    }

    pub(super) fn created(&self) -> Option<When> {
        When::of(&self.created_at)
    }

    pub(super) fn next(&self) -> Option<When> {
        When::of(self.next_attempt_at.as_deref()?)
    }

    pub(super) fn webhook(&self) -> &str {
        self.webhook_id.as_deref().unwrap_or_default()
    }

    pub(super) fn is_ended(&self) -> bool {
        matches!(self.status.as_str(), "delivered" | "failed" | "canceled")
    }

    pub(super) fn can_be_replayed(&self) -> bool {
        self.is_ended() && !self.webhook_deleted
    }

    /// Why it ended, in words; empty where that needs none.
    pub(super) fn why(&self) -> &str {
        match self.reason.as_deref() {
            Some("attempts_exhausted") => "every attempt failed",
            Some("expired") => "it waited too long",
            Some("blocked_target") => "the address may not be reached",
            Some("unreadable") => "the event could not be read from the log",
            Some("requested") => "somebody canceled it",
            Some("webhook_deleted") => "the webhook was deleted",
            Some("webhook_disabled") => "the webhook was disabled",
            Some(other) => other,
            None => "",
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct LastAttempt {
    pub(super) status: Option<u16>,
    pub(super) latency_ms: f64,
    pub(super) error: Option<AttemptError>,
}

impl LastAttempt {
    pub(super) fn latency(&self) -> String {
        latency(self.latency_ms)
    }
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct AttemptError {
    pub(super) code: String,
    pub(super) detail: String,
    pub(super) cause: String,
    pub(super) hint: String,
}

/// What a single delivery has beyond its summary. The payload stays as it was written.
#[derive(Debug, Deserialize)]
pub(super) struct DeliveryRest<'a> {
    #[serde(borrow)]
    pub(super) payload: Option<&'a RawValue>,
    pub(super) attempts: Vec<Attempt>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Attempt {
    pub(super) number: u32,
    pub(super) at: String,
    pub(super) status: Option<u16>,
    pub(super) latency_ms: f64,
    pub(super) phases: Phases,
    pub(super) error: Option<AttemptError>,
    pub(super) response: Option<KeptResponse>,
    pub(super) peer: Option<String>,
    pub(super) protocol: String,
    pub(super) reused_connection: bool,
    pub(super) next_attempt_at: Option<String>,
}

impl Attempt {
    pub(super) fn when(&self) -> Option<When> {
        When::of(&self.at)
    }

    pub(super) fn next(&self) -> Option<When> {
        When::of(self.next_attempt_at.as_deref()?)
    }

    pub(super) fn latency(&self) -> String {
        latency(self.latency_ms)
    }
}

/// Milliseconds.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Phases {
    pub(super) queue: f64,
    pub(super) dns: f64,
    pub(super) connect: f64,
    pub(super) tls: f64,
    pub(super) first_byte: f64,
    pub(super) body: f64,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct KeptResponse {
    pub(super) headers: std::collections::BTreeMap<String, String>,
    pub(super) body: String,
    pub(super) truncated: bool,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Webhook {
    pub(super) id: String,
    pub(super) url: String,
    pub(super) events: Vec<String>,
    pub(super) description: String,
    pub(super) headers: std::collections::BTreeMap<String, String>,
    pub(super) enabled: bool,
    pub(super) success: Option<String>,
    pub(super) timeout: Option<String>,
    pub(super) max_in_flight: Option<u32>,
    pub(super) rate_limit: Option<u32>,
    pub(super) created_at: String,
    pub(super) updated_at: String,
}

impl Webhook {
    pub(super) fn badge(&self) -> Badge {
        Badge::of(if self.enabled { "enabled" } else { "disabled" })
    }

    pub(super) fn created(&self) -> Option<When> {
        When::of(&self.created_at)
    }

    pub(super) fn updated(&self) -> Option<When> {
        When::of(&self.updated_at)
    }

    pub(super) fn takes(&self) -> String {
        if self.events.iter().any(|name| name == "*") {
            "all events".to_owned()
        } else {
            self.events.join(", ")
        }
    }
}

/// What came of trying a webhook.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Check {
    pub(super) ok: bool,
    pub(super) url: String,
    pub(super) status: Option<u16>,
    pub(super) latency_ms: f64,
    pub(super) phases: Phases,
    pub(super) error: Option<AttemptError>,
    pub(super) response: Option<KeptResponse>,
    pub(super) protocol: String,
}

impl Check {
    pub(super) fn latency(&self) -> String {
        latency(self.latency_ms)
    }
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Event {
    pub(super) id: String,
    pub(super) r#type: String,
    pub(super) accepted_at: String,
    pub(super) payload_size: u64,
    pub(super) deliveries: u32,
    pub(super) found_disabled: u32,
}

impl Event {
    pub(super) fn accepted(&self) -> Option<When> {
        When::of(&self.accepted_at)
    }

    pub(super) fn size(&self) -> String {
        super::words::size(self.payload_size)
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct FullEvent<'a> {
    pub(super) id: String,
    pub(super) r#type: String,
    pub(super) accepted_at: String,
    #[serde(borrow)]
    pub(super) payload: Option<&'a RawValue>,
    pub(super) traceparent: Option<String>,
    pub(super) deliveries: Vec<Delivery>,
    pub(super) skipped: Vec<Skipped>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Skipped {
    pub(super) webhook_id: Option<String>,
    pub(super) webhook_deleted: bool,
    pub(super) detail: String,
    pub(super) delivery_id: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Key {
    pub(super) id: String,
    pub(super) kind: String,
    pub(super) created_at: String,
}

impl Key {
    pub(super) fn created(&self) -> Option<When> {
        When::of(&self.created_at)
    }
}

/// A change, and who made it.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct AuditRecord {
    pub(super) sequence: u64,
    pub(super) at: String,
    pub(super) tenant: Option<String>,
    pub(super) action: String,
    pub(super) object_id: Option<String>,
    pub(super) changed: Vec<String>,
    pub(super) actor: AuditActor,
    pub(super) request_id: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct AuditActor {
    pub(super) kind: String,
    pub(super) key_id: Option<String>,
    pub(super) session_id: Option<String>,
}

impl AuditRecord {
    pub(super) fn when(&self) -> Option<When> {
        When::of(&self.at)
    }
}

#[derive(Deserialize)]
pub(super) struct NewKey {
    pub(super) id: String,
    pub(super) api_key: String,
}

#[derive(Deserialize)]
pub(super) struct Secrets {
    pub(super) secret: String,
    pub(super) previous: Vec<PreviousSecret>,
}

#[derive(Deserialize)]
pub(super) struct PreviousSecret {
    pub(super) secret: String,
    pub(super) valid_until: String,
}

impl PreviousSecret {
    pub(super) fn until(&self) -> Option<When> {
        When::of(&self.valid_until)
    }
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Tenant {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) created_at: String,
}

impl Tenant {
    pub(super) fn created(&self) -> Option<When> {
        When::of(&self.created_at)
    }
}

#[derive(Deserialize)]
pub(super) struct NewTenant {
    pub(super) id: String,
    pub(super) api_key: String,
    pub(super) signing_secret: String,
}

/// A replay of many.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Replay {
    pub(super) id: String,
    pub(super) state: String,
    pub(super) reason: Option<String>,
    pub(super) dry_run: bool,
    pub(super) webhook: Option<String>,
    pub(super) status: Vec<String>,
    pub(super) event_type: Vec<String>,
    pub(super) since: Option<String>,
    pub(super) until: String,
    pub(super) rate: u32,
    pub(super) matched: u64,
    pub(super) replayed: u64,
    pub(super) skipped: u64,
    pub(super) progress: f64,
    pub(super) created_at: String,
}

impl Replay {
    pub(super) fn badge(&self) -> Badge {
        Badge::of(&self.state)
    }

    pub(super) fn is_over(&self) -> bool {
        !matches!(self.state.as_str(), "running" | "paused")
    }

    pub(super) fn percent(&self) -> u32 {
        (self.progress.clamp(0.0, 1.0) * 100.0).round() as u32
    }

    pub(super) fn created(&self) -> Option<When> {
        When::of(&self.created_at)
    }

    pub(super) fn since(&self) -> Option<When> {
        When::of(self.since.as_deref()?)
    }

    pub(super) fn until(&self) -> Option<When> {
        When::of(&self.until)
    }

    pub(super) fn statuses(&self) -> String {
        self.status.join(", ")
    }

    pub(super) fn types(&self) -> String {
        if self.event_type.len() == 6 { "all".to_owned() } else { self.event_type.join(", ") }
    }
}
