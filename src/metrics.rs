//! Every metric, in one place, with its help text and its closed label sets.
//!
//! Names are fixed by the published interface. No webhook, tenant, URL or id is ever a label.

pub const EVENTS_ACCEPTED: &str = "senderz_events_accepted_total"; // type
pub const EVENTS_REJECTED: &str = "senderz_events_rejected_total"; // reason
pub const DELIVERIES_CREATED: &str = "senderz_deliveries_created_total";
pub const ATTEMPTS: &str = "senderz_attempts_total"; // outcome, error
pub const RESPONSES: &str = "senderz_responses_total"; // code_class
pub const ATTEMPT_DURATION: &str = "senderz_attempt_duration_seconds";
pub const ATTEMPT_PHASE: &str = "senderz_attempt_phase_seconds"; // phase
pub const DELIVERY_LATENCY: &str = "senderz_delivery_latency_seconds";
pub const DELIVERIES_ENDED: &str = "senderz_deliveries_ended_total"; // outcome
pub const RETRY_LAG: &str = "senderz_retry_lag_seconds";
pub const DELIVERIES: &str = "senderz_deliveries"; // state
pub const OLDEST_PENDING_AGE: &str = "senderz_oldest_pending_age_seconds";
pub const BACKLOG_BYTES: &str = "senderz_backlog_bytes";
pub const WEBHOOKS: &str = "senderz_webhooks"; // state
pub const BREAKER_TRANSITIONS: &str = "senderz_breaker_transitions_total"; // to
pub const CONNECTIONS: &str = "senderz_connections"; // state
pub const CONNECTIONS_OPENED: &str = "senderz_connections_opened_total"; // protocol
pub const CONNECTIONS_REUSED: &str = "senderz_connections_reused_total";
pub const DNS_LOOKUPS: &str = "senderz_dns_lookups_total"; // result
pub const STORE_COMMIT: &str = "senderz_store_commit_seconds";
pub const STORE_COMMIT_EVENTS: &str = "senderz_store_commit_events";
pub const STORE_BYTES: &str = "senderz_store_bytes";
pub const STORE_DISK_FREE: &str = "senderz_store_disk_free_bytes";
pub const STORE_ERRORS: &str = "senderz_store_errors_total"; // op
pub const RECOVERY: &str = "senderz_recovery_seconds";
pub const HTTP_REQUESTS: &str = "senderz_http_requests_total"; // route, code_class
pub const BUILD_INFO: &str = "senderz_build_info"; // version
