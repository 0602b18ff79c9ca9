//! Spans: a trace of every attempt, for the operator's own tracing system.
//!
//! ```text
//! shard: begin ▶ attempt ▶ end ──try_send──▶ queue (bounded) ──every interval──▶ exporter's thread
//!                                  │ full                                           │ OTLP over HTTP
//!                                  ▼ counted                                        ▼
//!                               dropped                                         collector
//! ```
//!
//! An event belongs to the trace that its producer named (`traceparent`), or to one whose id follows
//! from the event's own id, so that all its deliveries and attempts meet in one trace without a byte
//! on disk. Whether it is traced is decided once for the whole trace: by its producer, or by a share
//! of the ids. Each attempt is a span of kind client, as the semantic conventions for HTTP have it.
//!
//! Invariants:
//! - a delivery never waits for a span: what the queue has no room for is dropped and counted;
//! - nothing here ends or stops the gateway: a collector that is gone costs spans, an exporter that
//!   died costs spans;
//! - no secret, no payload, no path and no word of a receiver's is in a span;
//! - where nothing is traced there is no queue, no thread, and no allocation for an attempt.
//!
//! The wire types are OpenTelemetry's own (`opentelemetry-proto`). Its exporter and SDK are not
//! used: they take HTTP clients that are refused here (deny.toml), read the environment beside the
//! configuration, and tell nobody how many spans their queue dropped.

mod attempt;
mod collector;
mod exporter;
#[cfg(test)]
mod tests;

use std::{path::PathBuf, time::Duration};

use http::HeaderMap;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use url::Url;

pub use self::{
    attempt::{AttemptSpan, Failure, Link},
    exporter::{Exporter, start},
};
use crate::{
    config::Forward,
    id::{self, EventId},
    metrics::{SPANS_DROPPED, SpanLoss},
    trace::TraceContext,
    trust::TrustError,
};

/// What is traced, and where spans go.
#[derive(Clone, Debug)]
pub struct Settings {
    pub forward: Forward,
    /// Of the events that came without a trace.
    pub sample: f64,
    pub export: Option<Export>,
}

/// The way to the collector.
#[derive(Clone, Debug)]
pub struct Export {
    pub endpoint: Url,
    /// Their values may be secret.
    pub headers: HeaderMap,
    pub ca_file: Option<PathBuf>,
    /// Spans that wait for the exporter.
    pub queue: usize,
    /// Spans in one export.
    pub batch: usize,
    pub interval: Duration,
    /// One export, from connect to answer.
    pub timeout: Duration,
    /// At the end, for all that waits.
    pub flush_timeout: Duration,
}

/// Why nothing can be exported.
#[derive(Debug, thiserror::Error)]
pub enum ExporterError {
    #[error(transparent)]
    Trust(#[from] TrustError),
    #[error("the operating system refused a thread or an event queue: {0}")]
    Thread(#[from] std::io::Error),
}

/// Begins and ends spans, for one shard. Copies share the queue.
#[derive(Clone, Debug)]
pub struct Tracer {
    forward: Forward,
    /// An event without a trace is traced where its trace id's last eight bytes are less.
    sampled_below: u64,
    queue: Option<Queue>,
}

#[derive(Clone, Debug)]
struct Queue {
    spans: mpsc::Sender<AttemptSpan>,
    full: metrics::Counter,
    dead: metrics::Counter,
}

/// What an attempt takes along.
#[derive(Debug, Default)]
pub struct Begun {
    /// For the receiver: this attempt's span is the parent of what it does.
    pub forwarded: Option<Box<TraceContext>>,
    /// For the span, which is told when the attempt has ended; none where it is not exported.
    pub link: Option<Box<Link>>,
}

impl Tracer {
    /// None where there is nothing to do for any attempt. The exporter is the one to be asked for
    /// spans that this one queues.
    fn new(settings: &Settings, spans: Option<mpsc::Sender<AttemptSpan>>) -> Option<Self> {
        let lost = |why: SpanLoss| ::metrics::counter!(SPANS_DROPPED, "reason" => why.as_str());
        let queue = spans.map(|spans| Queue {
            spans,
            full: lost(SpanLoss::QueueFull),
            dead: lost(SpanLoss::ExportFailed),
        });
        let has_work = queue.is_some() || settings.forward != Forward::Off;
        // From 1.0 on the product is beyond the largest number, and the cast stops at that.
        let sampled_below = (settings.sample * 2f64.powi(64)) as u64;
        has_work.then_some(Self { forward: settings.forward, sampled_below, queue })
    }

    /// A new span in the trace that the event came with, or in its own.
    pub fn begin(&self, event: EventId, came_with: Option<TraceContext>) -> Begun {
        let (mut context, parent) = match came_with {
            Some(given) => {
                let parent = given.span_id;
                (given, Some(parent))
            }
            None => {
                let Some(trace_id) = self.own_trace(event) else { return Begun::default() };
                let state = Box::default();
                (TraceContext { trace_id, span_id: [0; 8], flags: 1, state }, None)
            }
        };
        context.span_id = new_span_id();
        let exported = self.queue.is_some() && context.is_sampled();
        let forwarded = match self.forward {
            Forward::Off => None,
            Forward::Traceparent => {
                Some(Box::new(TraceContext { state: Box::default(), ..context.clone() }))
            }
            Forward::All => Some(Box::new(context.clone())),
        };
        Begun { forwarded, link: exported.then(|| Box::new(Link { context, parent })) }
    }

    /// The id of the trace that an event begins; none where it is not among the sampled ones, or
    /// nobody would hear of it.
    fn own_trace(&self, event: EventId) -> Option<[u8; 16]> {
        self.queue.as_ref()?;
        let trace_id = trace_id_of(event);
        let (_, last) = trace_id.split_last_chunk().expect("16 bytes have 8 last ones");
        let draw = u64::from_be_bytes(*last);
        (draw < self.sampled_below || self.sampled_below == u64::MAX).then_some(trace_id)
    }

    /// Hands an ended span to the exporter, or drops it. Never waits, and wakes nobody.
    pub fn end(&self, span: AttemptSpan) {
        let Some(queue) = &self.queue else { return };
        match queue.spans.try_send(span) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => queue.full.increment(1),
            Err(mpsc::error::TrySendError::Closed(_)) => queue.dead.increment(1),
        }
    }
}

/// The same for all attempts of an event, after a restart too, and as good as random.
fn trace_id_of(event: EventId) -> [u8; 16] {
    let mut hash = Sha256::new();
    hash.update(b"senderz trace id v1\0");
    hash.update(event.to_u128().to_be_bytes());
    let digest: [u8; 32] = hash.finalize().into();
    let (half, _) = digest.split_first_chunk().expect("16 of 32 bytes");
    *half
}

/// Never zero, which means none.
fn new_span_id() -> [u8; 8] {
    (id::random_u128() as u64).max(1).to_be_bytes()
}
