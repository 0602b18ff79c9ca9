//! Every metric, in one place, with its help text and its closed label sets.
//!
//! Names are fixed by the published interface. No webhook, tenant, URL or id is ever a label.
//!
//! Two ways lead to `/metrics`. What happens seldom goes through the `metrics` macros with the
//! names below. What happens for every delivery is counted by each shard in plain integers
//! ([`ShardMetrics`]) and added up once a second, because the exporter keeps every histogram
//! sample until it is drained: at tens of thousands of deliveries a second, each with eight
//! samples, that is memory and time for nothing. The names in `AGGREGATED` belong to the shards; a
//! `histogram!` for one of them would make a second family of the same name.
//!
//! A family that has no series yet still shows its `# HELP` and `# TYPE`, so that the whole
//! catalogue can be read from a gateway that has done nothing.

mod aggregate;
mod process;
mod shard;
#[cfg(test)]
mod tests;
mod threads;

use std::{
    fmt::Write as _,
    sync::{Arc, OnceLock},
};

use ::metrics::{SharedString, Unit};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

pub use self::{process::PROCESS, shard::ShardMetrics};
use crate::{clock, delivery::ErrorCode, event::EventType, webhook::DisabledReason};

pub const EVENTS_ACCEPTED: &str = "senderz_events_accepted_total";
pub const EVENTS_REJECTED: &str = "senderz_events_rejected_total";
pub const DELIVERIES_CREATED: &str = "senderz_deliveries_created_total";
pub const ATTEMPTS: &str = "senderz_attempts_total";
pub const ATTEMPTS_DEFERRED: &str = "senderz_attempts_deferred_total";
pub const RESPONSES: &str = "senderz_responses_total";
pub const ATTEMPT_DURATION: &str = "senderz_attempt_duration_seconds";
pub const ATTEMPT_PHASE: &str = "senderz_attempt_phase_seconds";
pub const DELIVERY_LATENCY: &str = "senderz_delivery_latency_seconds";
pub const DELIVERIES_ENDED: &str = "senderz_deliveries_ended_total";
pub const RETRY_LAG: &str = "senderz_retry_lag_seconds";
pub const DELIVERIES: &str = "senderz_deliveries";
pub const OLDEST_PENDING_AGE: &str = "senderz_oldest_pending_age_seconds";
pub const BACKLOG_BYTES: &str = "senderz_backlog_bytes";
pub const WEBHOOKS: &str = "senderz_webhooks";
pub const WEBHOOKS_DISABLED: &str = "senderz_webhooks_disabled_total";
pub const PANICS: &str = "senderz_panics_total";
pub const BREAKER_TRANSITIONS: &str = "senderz_breaker_transitions_total";
pub const CONNECTIONS: &str = "senderz_connections";
pub const CONNECTIONS_OPENED: &str = "senderz_connections_opened_total";
pub const CONNECTIONS_REUSED: &str = "senderz_connections_reused_total";
pub const DNS_LOOKUPS: &str = "senderz_dns_lookups_total";
pub const STORE_COMMIT: &str = "senderz_store_commit_seconds";
pub const STORE_COMMIT_EVENTS: &str = "senderz_store_commit_events";
pub const STORE_BYTES: &str = "senderz_store_bytes";
pub const STORE_DISK_FREE: &str = "senderz_store_disk_free_bytes";
pub const STORE_ERRORS: &str = "senderz_store_errors_total";
pub const RECOVERY: &str = "senderz_recovery_seconds";
pub const HTTP_REQUESTS: &str = "senderz_http_requests_total";
pub const LOG_LINES_DROPPED: &str = "senderz_log_lines_dropped_total";
pub const SPANS_EXPORTED: &str = "senderz_spans_exported_total";
pub const SPANS_DROPPED: &str = "senderz_spans_dropped_total";
pub const READY: &str = "senderz_ready";
pub const TIME: &str = "senderz_time_seconds";
pub const SHARDS: &str = "senderz_shards";
pub const THREAD_CPU: &str = "senderz_thread_cpu_seconds_total";
pub const CERTIFICATE_EXPIRY: &str = "senderz_tls_certificate_expiry_timestamp_seconds";
pub const BACKUP_TIME: &str = "senderz_backup_last_success_timestamp_seconds";
pub const BUILD_INFO: &str = "senderz_build_info";

/// What a metric is, as the exposition format names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// One metric of the catalogue.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    pub name: &'static str,
    pub kind: Kind,
    pub unit: Option<Unit>,
    /// The names of its labels; `le` of a histogram apart.
    pub labels: &'static [&'static str],
    pub help: &'static str,
}

impl Metric {
    const fn by(self, labels: &'static [&'static str]) -> Self {
        Self { labels, ..self }
    }
}

const fn counter(name: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: Kind::Counter, unit: Some(Unit::Count), labels: &[], help }
}

const fn gauge(name: &'static str, unit: Unit, help: &'static str) -> Metric {
    Metric { name, kind: Kind::Gauge, unit: Some(unit), labels: &[], help }
}

const fn histogram(name: &'static str, unit: Unit, help: &'static str) -> Metric {
    Metric { name, kind: Kind::Histogram, unit: Some(unit), labels: &[], help }
}

/// Every metric that the gateway writes, in the order of the interface, [`PROCESS`] apart.
/// docs/operations.md is held to both.
pub const CATALOGUE: [Metric; 39] = [
    gauge(BUILD_INFO, Unit::Count, "Always 1; the label says which version runs.").by(&["version"]),
    counter(EVENTS_ACCEPTED, "Events made durable, by event type.").by(&["type"]),
    counter(EVENTS_REJECTED, "Events refused before they were accepted, by reason.").by(&["reason"]),
    counter(DELIVERIES_CREATED, "Deliveries that accepted events were routed to."),
    counter(
        ATTEMPTS,
        "Attempts made, by what followed (retry: another one; failed: it was the last) and error code.",
    ).by(&["outcome", "error"]),
    counter(
        ATTEMPTS_DEFERRED,
        "Attempts put off because the gateway had no file descriptor, local port or connection left.",
    ),
    counter(RESPONSES, "Responses received, by class of status code.").by(&["code_class"]),
    histogram(ATTEMPT_DURATION, Unit::Seconds, "An attempt, from its start to the last byte read."),
    histogram(
        ATTEMPT_PHASE,
        Unit::Seconds,
        "What attempts spent their time on; a phase that did not happen is not counted.",
    ).by(&["phase"]),
    histogram(
        DELIVERY_LATENCY,
        Unit::Seconds,
        "From accepted to delivered, all attempts included.",
    ),
    counter(DELIVERIES_ENDED, "Deliveries that ended, by how.").by(&["outcome"]),
    histogram(RETRY_LAG, Unit::Seconds, "How much later than due a retry started."),
    gauge(DELIVERIES, Unit::Count, "Deliveries that have not ended, by state.").by(&["state"]),
    gauge(
        OLDEST_PENDING_AGE,
        Unit::Seconds,
        "Age of the oldest delivery that waits to be attempted: for the first time, or after its retry fell due; 0 where none does.",
    ),
    gauge(
        BACKLOG_BYTES,
        Unit::Bytes,
        "Payload bytes of events whose deliveries have not all ended.",
    ),
    gauge(WEBHOOKS, Unit::Count, "Webhooks, by state.").by(&["state"]),
    counter(
        WEBHOOKS_DISABLED,
        "Webhooks that the gateway disabled, by why (failing: delivery.disable_after; gone: delivery.disable_on_gone).",
    ).by(&["reason"]),
    counter(BREAKER_TRANSITIONS, "Breakers that changed their state, by the new state.").by(&["to"]),
    gauge(CONNECTIONS, Unit::Count, "Connections to receivers, by state.").by(&["state"]),
    counter(CONNECTIONS_OPENED, "Connections opened to receivers, by protocol.").by(&["protocol"]),
    counter(CONNECTIONS_REUSED, "Attempts made on a connection that was already open."),
    counter(DNS_LOOKUPS, "Look-ups of receivers' names, by result.").by(&["result"]),
    histogram(STORE_COMMIT, Unit::Seconds, "One commit of the store, from written to durable."),
    histogram(
        STORE_COMMIT_EVENTS,
        Unit::Count,
        "Events in one commit of the store, of those that have any.",
    ),
    gauge(STORE_BYTES, Unit::Bytes, "Bytes that the store takes on disk."),
    gauge(STORE_DISK_FREE, Unit::Bytes, "Bytes free on the store's file system."),
    counter(STORE_ERRORS, "Failed operations of the store, by operation.").by(&["op"]),
    gauge(RECOVERY, Unit::Seconds, "How long reading the logs took at the last start."),
    counter(HTTP_REQUESTS, "Requests to the API, by route and class of status code.").by(&["route", "code_class"]),
    counter(PANICS, "Faults of the gateway's own that ended a request, a task or a thread."),
    counter(LOG_LINES_DROPPED, "Log lines dropped because their reader was too slow."),
    counter(SPANS_EXPORTED, "Spans of attempts that the collector took."),
    counter(
        SPANS_DROPPED,
        "Spans of attempts lost: the exporter's queue was full, an export failed, or the collector rejected them.",
    ).by(&["reason"]),
    gauge(READY, Unit::Count, "1 where /readyz says so, 0 where it does not."),
    gauge(TIME, Unit::Seconds, "The clock that attempts are signed with, Unix time."),
    gauge(SHARDS, Unit::Count, "Delivery threads that were started."),
    Metric {
        name: THREAD_CPU,
        kind: Kind::Counter,
        unit: Some(Unit::Seconds),
        labels: &["thread"],
        help: "CPU time used, by what the threads are for.",
    },
    gauge(
        CERTIFICATE_EXPIRY,
        Unit::Seconds,
        "When the listener's own certificate ends, Unix time; only where it speaks TLS.",
    ),
    gauge(
        BACKUP_TIME,
        Unit::Seconds,
        "The instant that the last complete backup in backup.dir shows, Unix time; only where there is one.",
    ),
];

/// Why a span was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanLoss {
    QueueFull,
    ExportFailed,
    /// The collector took the export and not all of its spans.
    Rejected,
}

impl SpanLoss {
    pub const ALL: [SpanLoss; 3] = [Self::QueueFull, Self::ExportFailed, Self::Rejected];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::ExportFailed => "export_failed",
            Self::Rejected => "rejected",
        }
    }
}

/// Bounds of the store's histograms; those of the shards are in `aggregate`.
const COMMIT_SECONDS: [f64; 13] =
    [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0, 30.0];
const COMMIT_EVENTS: [f64; 11] =
    [1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2000.0, 10000.0];

/// Reads the metrics. Copies share one recorder.
#[derive(Clone, Debug)]
pub struct Handle {
    exporter: PrometheusHandle,
    aggregated: Arc<aggregate::Aggregated>,
    process: Arc<process::Process>,
    threads: Arc<threads::Threads>,
}

/// Makes the process's recorder; later calls give the same one, so that several gateways can live
/// in one test process and share it.
pub fn install() -> Handle {
    static HANDLE: OnceLock<Handle> = OnceLock::new();
    HANDLE.get_or_init(build).clone()
}

/// Counts every panic from now on, whatever becomes of it: a task that ends with one is forgotten by
/// its runtime. Call it once.
pub fn count_panics() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        ::metrics::counter!(PANICS).increment(1);
        report(panic);
    }));
}

/// There is a complete backup of that time.
pub fn backup_made(at: clock::Millis) {
    ::metrics::gauge!(BACKUP_TIME).set(at as f64 / 1000.0);
}

fn build() -> Handle {
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Full(STORE_COMMIT.to_owned()), &COMMIT_SECONDS)
        .and_then(|b| {
            b.set_buckets_for_metric(Matcher::Full(STORE_COMMIT_EVENTS.to_owned()), &COMMIT_EVENTS)
        })
        .expect("the bounds are not empty")
        .build_recorder();
    let exporter = recorder.handle();
    ::metrics::set_global_recorder(recorder).expect("nothing else in this program sets a recorder");
    for metric in &CATALOGUE {
        describe(metric);
    }
    register_known_series();
    Handle {
        exporter,
        aggregated: Arc::new(aggregate::Aggregated::default()),
        process: Arc::new(process::Process::started_now()),
        threads: Arc::new(threads::Threads::default()),
    }
}

fn describe(metric: &Metric) {
    let help = SharedString::const_str(metric.help);
    let unit = metric.unit.unwrap_or(Unit::Count);
    match metric.kind {
        Kind::Counter => ::metrics::describe_counter!(metric.name, unit, help),
        Kind::Gauge => ::metrics::describe_gauge!(metric.name, unit, help),
        Kind::Histogram => ::metrics::describe_histogram!(metric.name, unit, help),
    }
}

/// A counter that appears only with its first event hides that event from `rate()`: every series
/// whose labels are known words starts at 0.
fn register_known_series() {
    ::metrics::gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    for event_type in EventType::ALL {
        ::metrics::counter!(EVENTS_ACCEPTED, "type" => event_type.as_str()).absolute(0);
    }
    for reason in [DisabledReason::Failing, DisabledReason::Gone] {
        ::metrics::counter!(WEBHOOKS_DISABLED, "reason" => reason.as_str()).absolute(0);
    }
    for name in [DELIVERIES_CREATED, CONNECTIONS_REUSED, LOG_LINES_DROPPED, PANICS, SPANS_EXPORTED]
    {
        ::metrics::counter!(name).absolute(0);
    }
    for why in SpanLoss::ALL {
        ::metrics::counter!(SPANS_DROPPED, "reason" => why.as_str()).absolute(0);
    }
    ::metrics::counter!(ATTEMPTS, "outcome" => "delivered", "error" => "none").absolute(0);
    for code in ErrorCode::ALL {
        for outcome in ["retry", "failed"] {
            ::metrics::counter!(ATTEMPTS, "outcome" => outcome, "error" => code.as_str())
                .absolute(0);
        }
    }
    drop(ShardMetrics::register());
}

impl Handle {
    /// Everything, in Prometheus's text format.
    pub fn render(&self) -> String {
        ::metrics::gauge!(TIME).set(clock::wall_ms() as f64 / 1e3);
        let mut out = self.exporter.render();
        self.aggregated.render(&mut out);
        self.threads.render(&mut out);
        for metric in &CATALOGUE {
            if !out.contains(&format!("# TYPE {} ", metric.name)) {
                write_head(&mut out, metric);
            }
        }
        self.process.render(&mut out);
        out
    }

    /// Drains what the exporter collected. Call it every second: it keeps samples until then.
    pub fn upkeep(&self) {
        self.exporter.run_upkeep();
    }
}

fn write_head(out: &mut String, metric: &Metric) {
    let kind = match metric.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
    };
    let Metric { name, help, .. } = metric;
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

/// The catalogue's entry of one of the names above.
fn metric(name: &str) -> &'static Metric {
    CATALOGUE.iter().find(|metric| metric.name == name).expect("the name is one of the catalogue")
}
