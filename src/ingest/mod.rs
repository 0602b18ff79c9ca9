//! Ingest: the two routes by which events come in, directly on hyper.
//!
//! head checks ▶ body (bounded) ▶ parse ▶ a place in the store's queue ▶ the tenant's rate ▶ append
//! ▶ 202. Whatever can refuse a request does so before the append is sent; from there on only the
//! store answers. The append and the counting of its result go on if the client hangs up.
//!
//! Invariants:
//! - no 2xx before the store said that the event is durable;
//! - a request is accepted whole or not at all;
//! - bodies being read or waiting to be durable never hold more than `ingest.max_pending`;
//! - a producer is told to come back later rather than kept waiting for a queue.
//!
//! Ingest does not know which store runs, keeps nothing between requests except tenants' rates,
//! and never changes a payload.

mod answer;
pub mod batch;
pub mod body;
pub mod openapi;
pub mod problem;
pub mod request;

use std::{
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::Full;
use tokio::sync::oneshot;

use crate::{
    clock, config,
    directory::{Directory, Principal},
    event::{EventType, PayloadError, PayloadLimits, parse_payload},
    id::TenantNo,
    ingest::{
        batch::{BadBatch, BatchLimits, BatchParser},
        body::{BodyError, Budget},
        problem::{Code, FieldError, Problem},
        request::Format,
    },
    metrics::{EVENTS_ACCEPTED, EVENTS_REJECTED},
    problem::{Again, Quota},
    quota::{Quotas, Take},
    store::{AppendError, Appended, NewEvent, Route, Store, Write},
    trace::TraceContext,
};

/// How long a request may wait for a place in the store's queue. A queue that has been full for
/// this long is overload, not a burst.
const QUEUE_WAIT: Duration = Duration::from_millis(100);

/// Where one event is sent.
pub const EVENT_PATH: &str = "/v1/tenants/{tenant}/events";
/// Where many are.
pub const BATCH_PATH: &str = "/v1/events";

/// What `ingest.tenant_rate` counts in.
const SECOND: Duration = Duration::from_secs(1);

/// Lines of a batch that are parsed before other tasks of the thread get a turn (about 1 ms).
const LINES_PER_TURN: usize = 500;

/// What ingest asks of the directory: who a key speaks for, and where a tenant's events go.
pub trait Tenants: Send + Sync + 'static {
    /// Who presents this bearer key.
    fn authenticate(&self, key: &str) -> Option<Principal>;
    /// The number of the tenant of this name.
    fn number(&self, tenant: &str) -> Option<TenantNo>;
    /// The number of the tenant of this name, and where its events of this type go.
    fn routes(&self, tenant: &str, event_type: EventType) -> Option<(TenantNo, Arc<[Route]>)>;
}

impl Tenants for Directory {
    fn authenticate(&self, key: &str) -> Option<Principal> {
        Directory::authenticate(self, key)
    }

    fn number(&self, tenant: &str) -> Option<TenantNo> {
        Some(self.tenant(tenant)?.tenant.no)
    }

    fn routes(&self, tenant: &str, event_type: EventType) -> Option<(TenantNo, Arc<[Route]>)> {
        let entry = self.tenant(tenant)?;
        Some((entry.tenant.no, entry.routes(event_type)))
    }
}

/// Both ingest routes. Shared by all connections.
pub struct Ingest {
    settings: config::Ingest,
    batch_limits: BatchLimits,
    body_timeout: Duration,
    tenants: Arc<dyn Tenants>,
    store: Store,
    pending: Arc<Budget>,
    /// What a tenant may send in a second, and what each has sent.
    rate: Option<(NonZeroU32, Quotas<TenantNo>)>,
    started: Instant,
    counters: Arc<Counters>,
}

impl std::fmt::Debug for Ingest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ingest").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Ingest {
    /// Metrics go to the recorder that is installed when this is called.
    pub fn new(
        settings: config::Ingest,
        body_timeout: Duration,
        tenants: Arc<dyn Tenants>,
        store: Store,
    ) -> Self {
        let batch_limits = BatchLimits {
            max_lines: settings.max_batch_lines,
            max_key: settings.max_idempotency_key,
            payload: PayloadLimits {
                max_bytes: settings.max_payload,
                max_depth: settings.max_depth,
            },
        };
        Self {
            batch_limits,
            body_timeout,
            tenants,
            store,
            pending: Budget::new(settings.max_pending),
            rate: settings
                .tenant_rate
                .and_then(NonZeroU32::new)
                .map(|of| (of, Quotas::new(SECOND))),
            started: clock::instant(),
            counters: Arc::new(Counters::new()),
            settings,
        }
    }

    /// Bytes of bodies that are held now.
    pub fn pending_bytes(&self) -> usize {
        self.pending.used()
    }

    /// `POST /v1/tenants/{tenant}/events`: the body is one payload.
    pub async fn event<B>(&self, tenant: &str, request: Request<B>) -> Response<Full<Bytes>>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
    {
        let (head, mut body) = request.into_parts();
        match self.try_event(tenant, &head, &mut body).await {
            Ok(response) => response,
            Err(refusal) => self.refuse(refusal, body, head.version),
        }
    }

    /// `POST /v1/events`: a payload per line.
    pub async fn batch<B>(&self, request: Request<B>) -> Response<Full<Bytes>>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
    {
        let (head, mut body) = request.into_parts();
        match self.try_batch(&head, &mut body).await {
            Ok(response) => response,
            Err(refusal) => self.refuse(refusal, body, head.version),
        }
    }

    async fn try_event<B>(
        &self,
        name: &str,
        head: &http::request::Parts,
        body: &mut B,
    ) -> Result<Response<Full<Bytes>>, Refusal>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        request::no_delivery(&head.headers)?;
        let who = self.authenticate(head)?;
        let tenant = self.tenants.number(name).filter(|no| may_send(who, *no));
        let tenant = tenant.ok_or_else(no_such_tenant)?;
        request::no_parameters(head.uri.query())?;
        request::check_format(&head.headers, Format::Json)?;
        let key = request::idempotency_header(&head.headers, self.settings.max_idempotency_key)?
            .map(|key| request::idempotency_key(tenant, key));
        let payload = self.read(body, self.settings.max_payload, "ingest.max_payload").await?;
        let event_type =
            parse_payload(&payload, &self.batch_limits.payload).map_err(bad_payload)?;
        // The tenant may have been deleted while the body came in, and its name given to another.
        let same = self.tenants.routes(name, event_type).filter(|(no, _)| *no == tenant);
        let (_, routes) = same.ok_or_else(no_such_tenant)?;
        let trace = TraceContext::of_headers(&head.headers).map(Box::new);
        let event = NewEvent { tenant, event_type, payload, key, trace, routes };
        let appended = self.append(vec![event], Format::Json).await?;
        let first = appended.first().ok_or_else(|| self.unavailable())?;
        Ok(answer::accepted_one(first))
    }

    async fn try_batch<B>(
        &self,
        head: &http::request::Parts,
        body: &mut B,
    ) -> Result<Response<Full<Bytes>>, Refusal>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        request::no_delivery(&head.headers)?;
        let who = self.authenticate(head)?;
        let wants_ids = request::wants_ids(head.uri.query())?;
        request::check_format(&head.headers, Format::Lines)?;
        if head.headers.contains_key("idempotency-key") {
            let detail = "a batch has a key per line: send it as the line's `idempotency_key`";
            return Err(Problem::new(Code::InvalidIdempotencyKey, detail).into());
        }
        let body = self.read(body, self.settings.max_batch, "ingest.max_batch").await?;
        let mut events = self.parse(&body, who).await?;
        if let Some(trace) = TraceContext::of_headers(&head.headers).map(Box::new) {
            // A line's own word comes first.
            for event in events.iter_mut().filter(|event| event.trace.is_none()) {
                event.trace = Some(trace.clone());
            }
        }
        self.check_fan_out(&events)?;
        let appended = self.append(events, Format::Lines).await?;
        Ok(answer::accepted_many(&appended, wants_ids))
    }

    async fn parse(&self, body: &Bytes, who: Principal) -> Result<Vec<NewEvent>, Refusal> {
        let mut find = |name: &str, event_type| {
            self.tenants.routes(name, event_type).filter(|(no, _)| may_send(who, *no))
        };
        let mut parser = BatchParser::new(body, &self.batch_limits)?;
        while !parser.advance(LINES_PER_TURN, &mut find) {
            tokio::task::yield_now().await;
        }
        Ok(parser.finish()?)
    }

    /// Refuses a batch that would be too much for one commit of the store.
    fn check_fan_out(&self, events: &[NewEvent]) -> Result<(), Refusal> {
        let max = self.settings.max_batch_deliveries;
        let deliveries = fan_out(events);
        if deliveries <= max {
            return Ok(());
        }
        let detail = format!(
            "the batch would lead to {deliveries} deliveries; one request may lead to at most \
             {max} (ingest.max_batch_deliveries); send fewer lines at once"
        );
        let problem = Problem::new(Code::TooManyDeliveries, detail);
        Err(Refusal { problem, events: events.len() })
    }

    fn authenticate(&self, head: &http::request::Parts) -> Result<Principal, Problem> {
        request::no_key_in_query(head.uri.query())?;
        let key = request::bearer(&head.headers)?;
        self.tenants
            .authenticate(key)
            .ok_or_else(|| Problem::new(Code::Unauthorized, "the API key is unknown or revoked"))
    }

    async fn read<B>(&self, body: &mut B, limit: usize, name: &str) -> Result<Bytes, Problem>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        body::read(body, limit, &self.pending, self.body_timeout).await.map_err(|e| match e {
            BodyError::TooLarge => {
                let detail = format!("a body has at most {limit} bytes here ({name})");
                Problem::new(Code::PayloadTooLarge, detail).closing()
            }
            BodyError::NoRoom => self.later("too many bytes wait to be stored").closing(),
            BodyError::Late => Problem::new(
                Code::Timeout,
                "the body did not arrive within server.body_timeout; send it again",
            )
            .closing(),
            BodyError::Broken => {
                Problem::new(Code::BadRequest, "the body broke off or is badly framed").closing()
            }
        })
    }

    fn later(&self, detail: &'static str) -> Problem {
        Problem::new(Code::Overloaded, detail).retry_after(self.settings.retry_after)
    }

    fn unavailable(&self) -> Problem {
        Problem::new(Code::Unavailable, "the store takes no events; try another gateway or later")
            .retry_after(self.settings.retry_after)
    }

    /// Has the store append `events`, whole or not at all.
    async fn append(
        &self,
        events: Vec<NewEvent>,
        format: Format,
    ) -> Result<Vec<Appended>, Refusal> {
        let count = events.len();
        let refused = |problem: Problem| Refusal { problem, events: count };
        let place = tokio::time::timeout(QUEUE_WAIT, self.store.writes.reserve())
            .await
            .map_err(|_| refused(self.later("the store's queue is full")))?
            .map_err(|_| refused(self.unavailable()))?;
        if let Some((of, quotas)) = &self.rate {
            let now = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
            let take = |event: &NewEvent| Take { owner: event.tenant, count: 1, of: *of };
            quotas.take(now, events.iter().map(take)).map_err(|e| {
                let wait = e.wait.max(self.settings.retry_after);
                let detail = "the tenant's events come faster than ingest.tenant_rate";
                let of = of.get().into();
                let quota = Quota { name: "ingest.tenant_rate", of, period: Some(SECOND) };
                let again = Again { after: wait, quota: Some(Box::new(quota)) };
                refused(Problem::new(Code::RateLimited, detail).retry_after(again))
            })?;
        }
        let types: Vec<EventType> = events.iter().map(|event| event.event_type).collect();
        let (reply, answer) = oneshot::channel();
        // From here on the events count as sent: no await stands between rate, send and spawn.
        place.send(Write::Append { events, reply });
        let counters = Arc::clone(&self.counters);
        let counted = tokio::spawn(async move {
            let result = answer.await.unwrap_or(Err(AppendError::Poisoned));
            if let Ok(appended) = &result {
                counters.accepted(&types, appended);
            }
            result
        });
        let result = counted.await.unwrap_or(Err(AppendError::Poisoned));
        result.map_err(|e| refused(self.not_appended(e, format)))
    }

    fn not_appended(&self, e: AppendError, format: Format) -> Problem {
        match e {
            AppendError::Poisoned => self.unavailable(),
            AppendError::Full => {
                Problem::new(Code::StorageFull, "the store has no room for more events")
                    .retry_after(self.settings.retry_after)
            }
            AppendError::KeyReused(indices) => {
                let detail = "the same idempotency key came with another payload before; \
                              send a new key for a new event";
                let problem = Problem::new(Code::IdempotencyKeyReused, detail);
                match format {
                    Format::Json => problem,
                    Format::Lines => problem.with_errors(named(&indices)),
                }
            }
        }
    }

    fn refuse<B>(&self, refusal: Refusal, body: B, version: http::Version) -> Response<Full<Bytes>>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
    {
        self.counters.rejected(refusal.problem.code, refusal.events);
        body::linger(body);
        refusal.problem.into_response(version)
    }
}

/// Why a request was not accepted, and how many events that concerns (1 where it is not known).
struct Refusal {
    problem: Problem,
    events: usize,
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self { problem, events: 1 }
    }
}

impl From<BadBatch> for Refusal {
    fn from(bad: BadBatch) -> Self {
        let detail = bad.to_string();
        match bad {
            BadBatch::Empty => Problem::new(Code::InvalidBatch, detail).into(),
            BadBatch::TooManyLines { lines, .. } => {
                Self { problem: Problem::new(Code::PayloadTooLarge, detail), events: lines }
            }
            BadBatch::BadLines { errors, lines, .. } => Self {
                problem: Problem::new(Code::InvalidBatch, detail).with_errors(errors),
                events: lines,
            },
        }
    }
}

fn may_send(who: Principal, tenant: TenantNo) -> bool {
    match who {
        Principal::Operator | Principal::Producer => true,
        Principal::Tenant(own) => own == tenant,
    }
}

/// How many deliveries these events lead to. Lines of one tenant and type share their routes, and
/// mostly follow each other: those are counted once.
fn fan_out(events: &[NewEvent]) -> usize {
    let same_routes = events.chunk_by(|a, b| Arc::ptr_eq(&a.routes, &b.routes));
    let deliveries = same_routes
        .map(|run| run.len() * run[0].routes.iter().filter(|route| route.enabled).count());
    deliveries.sum()
}

/// The same answer for a tenant that is missing and for one that is not the caller's.
fn no_such_tenant() -> Problem {
    Problem::new(Code::NotFound, "there is no such tenant")
}

fn bad_payload(e: PayloadError) -> Problem {
    let errors = e.problems.into_iter().map(|p| FieldError::new(p.pointer, p.detail));
    let detail = "the payload is not an event; nothing was accepted";
    Problem::new(Code::InvalidPayload, detail).with_errors(errors.collect())
}

/// The lines (from 1) of events (from 0) whose idempotency keys were used before.
fn named(indices: &[usize]) -> Vec<FieldError> {
    let named = indices.iter().take(batch::MAX_NAMED_LINES).map(|index| {
        let pointer = format!("/lines/{}/idempotency_key", index + 1);
        let error = FieldError::new(pointer, "came with another payload before");
        FieldError { line: Some(index + 1), ..error }
    });
    named.collect()
}

/// Metric handles, looked up once.
struct Counters {
    accepted: [metrics::Counter; EventType::ALL.len()],
    rejected: [metrics::Counter; Code::ALL.len()],
}

impl Counters {
    fn new() -> Self {
        Self {
            accepted: EventType::ALL.map(
                |event_type| metrics::counter!(EVENTS_ACCEPTED, "type" => event_type.as_str()),
            ),
            rejected: Code::ALL
                .map(|code| metrics::counter!(EVENTS_REJECTED, "reason" => code.as_str())),
        }
    }

    fn accepted(&self, types: &[EventType], appended: &[Appended]) {
        let mut new = [0; EventType::ALL.len()];
        for (event_type, one) in types.iter().zip(appended) {
            new[*event_type as usize] += u64::from(!one.replayed);
        }
        for (counter, new) in self.accepted.iter().zip(new) {
            if new > 0 {
                counter.increment(new);
            }
        }
    }

    fn rejected(&self, code: Code, events: usize) {
        self.rejected[code as usize].increment(events as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_sends_for_itself_and_producers_and_the_operator_for_everybody() {
        let (own, other) = (TenantNo(1), TenantNo(2));
        for tenant in [own, other] {
            assert!(may_send(Principal::Operator, tenant));
            assert!(may_send(Principal::Producer, tenant));
        }
        assert!(may_send(Principal::Tenant(own), own));
        assert!(!may_send(Principal::Tenant(own), other));
    }
}
