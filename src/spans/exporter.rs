//! The exporter: a thread of its own that empties the queue every now and then.
//!
//! It looks into the queue instead of waiting at it. A receiver that waits has to be woken, which is
//! a system call in the middle of an attempt; one that looks finds what came meanwhile.
//!
//! An export that may be taken later is tried again a few times while the queue fills behind it;
//! then it is given up. At the end what waits is exported within a limit, and what is left then is
//! counted and told.

use std::{thread::JoinHandle, time::Duration};

use bytes::Bytes;
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::InstrumentationScope,
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans},
};
use prost::Message as _;
use tokio::{
    sync::mpsc::{self, error::TryRecvError},
    time::{sleep, timeout},
};

use super::{
    AttemptSpan, Export, ExporterError, Settings, Tracer,
    attempt::{Attributes, SCHEMA_URL},
    collector::{Collector, Refusal},
};
use crate::{
    id,
    metrics::{SPANS_DROPPED, SPANS_EXPORTED, SpanLoss},
    shutdown::{self, Signal, Trigger},
};

/// The pauses between the tries of one export.
const PAUSES: [Duration; 4] = [
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
];

/// The running exporter; the thread also ends when every [`Tracer`] is gone.
#[derive(Debug)]
pub struct Exporter {
    stop: Trigger,
    thread: JoinHandle<()>,
}

/// Starts the exporter, if there is somewhere to export to. Nothing is connected yet.
pub fn start(settings: &Settings) -> Result<(Option<Tracer>, Option<Exporter>), ExporterError> {
    let Some(export) = &settings.export else { return Ok((Tracer::new(settings, None), None)) };
    let (spans, queue) = mpsc::channel(export.queue);
    let collector = Collector::new(export)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (stop, stopped) = shutdown::channel();
    let mut work = Work::new(export.clone(), collector, queue);
    let thread = std::thread::Builder::new().name("spans".to_owned()).spawn(move || {
        runtime.block_on(work.run_until(stopped));
        // A look-up of the collector's name may still hang in a thread of the runtime's.
        runtime.shutdown_background();
    })?;
    Ok((Tracer::new(settings, Some(spans)), Some(Exporter { stop, thread })))
}

impl Exporter {
    /// Exports what waits and ends, within `tracing.flush_timeout`. Whoever still has spans to tell
    /// has told them before.
    pub async fn finish(self) {
        self.stop.fire();
        let ended = tokio::task::spawn_blocking(|| self.thread.join()).await;
        if !matches!(ended, Ok(Ok(()))) {
            tracing::error!("the exporter of spans ended by a fault of its own");
        }
    }
}

struct Work {
    settings: Export,
    collector: Collector,
    queue: mpsc::Receiver<AttemptSpan>,
    batch: Vec<AttemptSpan>,
    resource: Resource,
    /// Spans of the export under way.
    under_way: usize,
    /// Whether the log says that exports fail.
    failing: bool,
    exported: metrics::Counter,
    failed: metrics::Counter,
    rejected: metrics::Counter,
}

impl Work {
    fn new(settings: Export, collector: Collector, queue: mpsc::Receiver<AttemptSpan>) -> Self {
        let lost = |why: SpanLoss| ::metrics::counter!(SPANS_DROPPED, "reason" => why.as_str());
        Self {
            batch: Vec::with_capacity(settings.batch.min(1024)),
            settings,
            collector,
            queue,
            resource: resource(),
            under_way: 0,
            failing: false,
            exported: ::metrics::counter!(SPANS_EXPORTED),
            failed: lost(SpanLoss::ExportFailed),
            rejected: lost(SpanLoss::Rejected),
        }
    }

    async fn run_until(&mut self, stopped: Signal) {
        let flush_timeout = self.settings.flush_timeout;
        let mut late = stopped.clone();
        let late = async {
            late.fired().await;
            sleep(flush_timeout).await;
        };
        let cut = tokio::select! {
            () = self.run(stopped) => false,
            () = late => true,
        };
        let left = self.under_way + self.batch.len() + self.queue.len();
        if cut && left > 0 {
            self.failed.increment(left as u64);
            tracing::warn!(spans = left, "not exported before the end");
        }
    }

    async fn run(&mut self, mut stopped: Signal) {
        loop {
            let stopping = tokio::select! {
                () = stopped.fired() => true,
                () = sleep(self.settings.interval) => false,
            };
            loop {
                let has_ended = self.fill();
                if !self.batch.is_empty() {
                    self.export().await;
                } else if has_ended || stopping {
                    return;
                } else {
                    break;
                }
            }
        }
    }

    /// Takes what waits, up to one batch; true where nothing more can come.
    fn fill(&mut self) -> bool {
        while self.batch.len() < self.settings.batch {
            match self.queue.try_recv() {
                Ok(span) => self.batch.push(span),
                Err(TryRecvError::Empty) => return false,
                Err(TryRecvError::Disconnected) => return true,
            }
        }
        false
    }

    /// Exports the batch, or gives it up.
    async fn export(&mut self) {
        self.under_way = self.batch.len();
        let spans = self.under_way as u64;
        let body = encode(&self.resource, self.batch.drain(..));
        for pause in PAUSES.map(Some).into_iter().chain([None]) {
            let posted = timeout(self.settings.timeout, self.collector.post(body.clone())).await;
            let posted = posted
                .unwrap_or_else(|_| Err(Refusal::unanswered("no answer within tracing.timeout")));
            match (posted, pause) {
                (Ok(rejected), _) => {
                    let rejected = rejected.min(spans);
                    self.exported.increment(spans - rejected);
                    self.rejected.increment(rejected);
                    self.tell_success();
                    break;
                }
                (Err(refusal), Some(pause)) if refusal.is_passing => {
                    self.tell_failure(&refusal);
                    sleep(refusal.retry_after.unwrap_or(pause)).await;
                }
                (Err(refusal), _) => {
                    self.tell_failure(&refusal);
                    self.failed.increment(spans);
                    break;
                }
            }
        }
        self.under_way = 0;
    }

    fn tell_failure(&mut self, refusal: &Refusal) {
        if !std::mem::replace(&mut self.failing, true) {
            let why = &refusal.why;
            tracing::warn!(why, "spans cannot be exported; deliveries are not affected");
        }
    }

    fn tell_success(&mut self) {
        if std::mem::replace(&mut self.failing, false) {
            tracing::info!("spans are exported again");
        }
    }
}

fn encode(resource: &Resource, spans: impl Iterator<Item = AttemptSpan>) -> Bytes {
    let scope = InstrumentationScope {
        name: env!("CARGO_PKG_NAME").to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    };
    let spans = ScopeSpans {
        scope: Some(scope),
        spans: spans.map(AttemptSpan::into_otlp).collect(),
        schema_url: SCHEMA_URL.to_owned(),
    };
    let all = ResourceSpans {
        resource: Some(resource.clone()),
        scope_spans: vec![spans],
        schema_url: SCHEMA_URL.to_owned(),
    };
    ExportTraceServiceRequest { resource_spans: vec![all] }.encode_to_vec().into()
}

/// Who tells: this process, by a name that no other one has.
fn resource() -> Resource {
    let mut attributes = Attributes(Vec::new());
    attributes.text("service.name", env!("CARGO_PKG_NAME"));
    attributes.text("service.version", env!("CARGO_PKG_VERSION"));
    attributes.text("service.instance.id", random_uuid());
    Resource { attributes: attributes.0, ..Resource::default() }
}

/// RFC 9562, version 4.
fn random_uuid() -> String {
    let bits = id::random_u128() & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let digits = format!("{bits:032x}");
    let (a, b, c, d, e) =
        (&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]);
    format!("{a}-{b}-{c}-{d}-{e}")
}
