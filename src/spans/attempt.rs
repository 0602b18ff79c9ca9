//! An attempt's span: what a shard tells of it, and how OTLP words that.
//!
//! Names are those of OpenTelemetry's semantic conventions for HTTP clients; what they have no name
//! for begins with `senderz.`. A URL's path and query are often a credential, so that `url.full` has
//! `REDACTED` in their place, as the conventions ask. Causes are the words of closed tables
//! (`delivery::cause`): nothing that a receiver wrote is repeated.

use std::net::SocketAddr;

use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, KeyValue, any_value::Value},
    trace::v1::{Span, Status, span::SpanKind, status::StatusCode},
};

use crate::{
    clock::Millis,
    delivery::{Attempt, ErrorCode, Phases, Protocol, cause},
    event::EventType,
    guard::{Host, Scheme},
    id::{DeliveryId, EventId, WebhookId},
    tenant::TenantId,
    trace::TraceContext,
};

/// The version of the semantic conventions that the names are of.
pub(super) const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.42.0";

/// OTLP's own flags beside those of the trace: it is known whether the parent is remote, and it is.
const PARENT_IS_KNOWN: u32 = 0x100;
const PARENT_IS_REMOTE: u32 = 0x200;

/// Where a span stands: its trace, its own id, and the span that it is a child of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub context: TraceContext,
    pub parent: Option<[u8; 8]>,
}

/// One attempt that was made, without anything of its response but the status.
#[derive(Clone, Debug)]
pub struct AttemptSpan {
    pub link: Link,
    pub event: EventId,
    pub event_type: EventType,
    pub delivery: DeliveryId,
    /// None where it was deleted meanwhile, as for the webhook.
    pub tenant: Option<TenantId>,
    pub webhook: Option<WebhookId>,
    pub server: (Scheme, Host, u16),
    pub payload: u32,
    pub number: u16,
    /// Wall time at which it started.
    pub at: Millis,
    /// Microseconds.
    pub latency: u32,
    pub phases: Phases,
    pub status: Option<u16>,
    pub failure: Option<Failure>,
    pub peer: Option<SocketAddr>,
    pub protocol: Protocol,
    pub reused_connection: bool,
    /// What followed.
    pub outcome: &'static str,
}

/// Why an attempt did not deliver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    pub code: ErrorCode,
    /// What happened, in the words of a closed table.
    pub cause: &'static str,
}

impl Failure {
    pub fn of(attempt: &Attempt) -> Option<Self> {
        let error = attempt.error.as_ref()?;
        let cause = match (error.code, attempt.status) {
            (ErrorCode::Status, Some(status)) => cause::answered(status).words,
            (code, _) => cause::unanswered(code, &error.detail).words,
        };
        Some(Self { code: error.code, cause })
    }
}

impl AttemptSpan {
    pub(super) fn into_otlp(self) -> Span {
        let attributes = self.attributes();
        let start = self.at.saturating_mul(1_000_000);
        let Link { context, parent } = self.link;
        let remote = if parent.is_some() { PARENT_IS_KNOWN | PARENT_IS_REMOTE } else { 0 };
        Span {
            trace_id: context.trace_id.into(),
            span_id: context.span_id.into(),
            trace_state: context.state.into(),
            parent_span_id: parent.map(Vec::from).unwrap_or_default(),
            flags: u32::from(context.flags) | remote,
            // There is no path template to go with it, and a path is no name.
            name: "POST".to_owned(),
            kind: SpanKind::Client.into(),
            start_time_unix_nano: start,
            end_time_unix_nano: start.saturating_add(u64::from(self.latency) * 1000),
            attributes,
            status: self.failure.map(|failure| Status {
                message: failure.cause.to_owned(),
                code: StatusCode::Error.into(),
            }),
            ..Span::default()
        }
    }

    fn attributes(&self) -> Vec<KeyValue> {
        let (scheme, host, port) = &self.server;
        let (scheme, host) = (scheme.as_str(), host_text(host));
        let authority = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let mut all = Attributes(Vec::with_capacity(32));
        all.text("http.request.method", "POST");
        all.text("url.full", format!("{scheme}://{authority}:{port}/REDACTED"));
        all.text("server.address", host);
        all.number("server.port", u64::from(*port));
        all.text(
            "network.protocol.version",
            match self.protocol {
                Protocol::Http1 => "1.1",
                Protocol::Http2 => "2",
            },
        );
        all.number("http.request.body.size", u64::from(self.payload));
        if self.number > 1 {
            all.number("http.request.resend_count", u64::from(self.number - 1));
        }
        if let Some(peer) = self.peer {
            all.text("network.peer.address", peer.ip().to_string());
            all.number("network.peer.port", u64::from(peer.port()));
        }
        if let Some(status) = self.status {
            all.number("http.response.status_code", u64::from(status));
        }
        if let Some(Failure { code, .. }) = self.failure {
            // The convention: the status where that is the error.
            match self.status.filter(|_| code == ErrorCode::Status) {
                Some(status) => all.text("error.type", status.to_string()),
                None => all.text("error.type", code.as_str()),
            }
        }
        self.own_attributes(&mut all);
        all.0
    }

    fn own_attributes(&self, all: &mut Attributes) {
        if let Some(tenant) = &self.tenant {
            all.text("senderz.tenant.id", tenant.as_str());
        }
        if let Some(webhook) = self.webhook {
            all.text("senderz.webhook.id", webhook.to_string());
        }
        all.text("senderz.event.id", self.event.to_string());
        all.text("senderz.event.type", self.event_type.as_str());
        all.text("senderz.delivery.id", self.delivery.to_string());
        all.number("senderz.attempt.number", u64::from(self.number));
        all.text("senderz.attempt.outcome", self.outcome);
        all.put("senderz.connection.reused", Value::BoolValue(self.reused_connection));
        let Phases { queue, dns, connect, tls, first_byte, body } = self.phases;
        for (name, micros) in [
            ("senderz.phase.queue", queue),
            ("senderz.phase.dns", dns),
            ("senderz.phase.connect", connect),
            ("senderz.phase.tls", tls),
            ("senderz.phase.first_byte", first_byte),
            ("senderz.phase.body", body),
        ] {
            // 0 is a phase that did not happen.
            if micros > 0 {
                all.put(name, Value::DoubleValue(f64::from(micros) / 1e6));
            }
        }
    }
}

fn host_text(host: &Host) -> String {
    match host {
        Host::Name(name) => name.clone(),
        Host::V4(ip) => ip.to_string(),
        Host::V6(ip) => ip.to_string(),
    }
}

/// Attributes in the making.
pub(super) struct Attributes(pub(super) Vec<KeyValue>);

impl Attributes {
    pub(super) fn text(&mut self, key: &'static str, value: impl Into<String>) {
        self.put(key, Value::StringValue(value.into()));
    }

    fn number(&mut self, key: &'static str, value: u64) {
        self.put(key, Value::IntValue(i64::try_from(value).unwrap_or(i64::MAX)));
    }

    fn put(&mut self, key: &'static str, value: Value) {
        let value = Some(AnyValue { value: Some(value) });
        self.0.push(KeyValue { key: key.to_owned(), value, ..KeyValue::default() });
    }
}
