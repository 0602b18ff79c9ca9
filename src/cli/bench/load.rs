//! The load: workers with a connection each, and what they saw.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use hdrhistogram::Histogram;
use http::Method;

use super::{
    body::{self, Bodies},
    report::{Quantiles, Report},
};
use crate::{
    cli::client::{Client, ClientError, Connection, JSON, NDJSON, whole},
    clock::instant,
    tenant::TenantId,
};

/// One request, from connecting to the last byte of the answer.
const TIMEOUT: Duration = Duration::from_secs(30);
/// What a worker waits that finds nobody to talk to: asking faster would measure the refusals.
const UNREACHABLE_WAIT: Duration = Duration::from_millis(100);
/// Latencies are kept with three digits, up to this many microseconds.
const LONGEST: u64 = 120_000_000;

#[derive(Clone, Copy, Debug)]
pub(super) enum Pace {
    /// Each worker asks again once it was answered.
    Closed,
    /// A request is due every so often.
    Open { gap: Duration },
}

/// Shared by the workers of one thread.
pub(super) struct Load {
    client: Client,
    tenant: TenantId,
    bodies: Bodies,
    batch: u16,
    pace: Pace,
    duration: Duration,
    began: Cell<Instant>,
    /// The number of the next request.
    next: Cell<u64>,
    seen: RefCell<Seen>,
}

/// What came of the requests.
struct Seen {
    latency: Histogram<u64>,
    /// How late a worker was that only waited for its instant: the load generator's own.
    own_lateness: Histogram<u64>,
    requests: u64,
    accepted: u64,
    under_way: u64,
    errors: BTreeMap<String, u64>,
}

/// For who watches.
pub(super) struct SoFar {
    pub(super) accepted: u64,
    pub(super) errors: u64,
    pub(super) p99_ms: f64,
}

impl Load {
    pub(super) fn new(
        client: Client,
        tenant: TenantId,
        bodies: Bodies,
        batch: u16,
        pace: Pace,
        duration: Duration,
    ) -> Rc<Self> {
        let histogram = || {
            Histogram::new_with_max(LONGEST, 3).expect("three digits up to two minutes are a range")
        };
        let seen = Seen {
            latency: histogram(),
            own_lateness: histogram(),
            requests: 0,
            accepted: 0,
            under_way: 0,
            errors: BTreeMap::new(),
        };
        Rc::new(Self {
            client,
            tenant,
            bodies,
            batch,
            pace,
            duration,
            began: Cell::new(instant()),
            next: Cell::new(0),
            seen: RefCell::new(seen),
        })
    }

    /// The clock starts.
    pub(super) fn begin(&self) -> Instant {
        self.began.set(instant());
        self.began.get()
    }

    /// One connection's work: a request after the other until the time is over.
    pub(super) async fn work(&self) {
        let mut connection = None;
        while let Some((number, from)) = self.due().await {
            self.seen.borrow_mut().under_way += 1;
            let outcome =
                tokio::time::timeout(TIMEOUT, self.exchange(&mut connection, number)).await;
            let outcome = outcome.unwrap_or(Err(ClientError::Timeout));
            if outcome.is_err() {
                // Whatever state it is in.
                connection = None;
            }
            let is_unreachable = matches!(outcome, Err(ClientError::Unreachable { .. }));
            self.note(from, outcome);
            if is_unreachable {
                tokio::time::sleep(UNREACHABLE_WAIT).await;
            }
        }
    }

    /// Waits for the next request; gives its number and the instant from which its latency counts.
    /// None where no more is due.
    async fn due(&self) -> Option<(u64, Instant)> {
        let (began, now) = (self.began.get(), instant());
        let number = self.next.get();
        let due = match self.pace {
            Pace::Closed => now,
            Pace::Open { gap } => began + gap.mul_f64(number as f64),
        };
        if due.saturating_duration_since(began) >= self.duration {
            return None;
        }
        self.next.set(number + 1);
        if due <= now {
            // Every worker was busy: that is what has to be counted.
            return Some((number, due));
        }
        tokio::time::sleep_until(due.into()).await;
        // How late a timer is says nothing about the gateway.
        let woken = instant();
        let late = micros(woken.saturating_duration_since(due));
        self.seen.borrow_mut().own_lateness.saturating_record(late);
        Some((number, woken))
    }

    /// Sends the request, on a new connection where there is none. The status and the code of a
    /// refusal are data.
    async fn exchange(
        &self,
        connection: &mut Option<Connection>,
        number: u64,
    ) -> Result<Option<String>, ClientError> {
        let (path, kind, body) = self.request(number);
        let request = self.client.build(Method::POST, &path, kind, Some(body), None)?;
        let open = match connection {
            Some(open) => open,
            None => connection.insert(self.client.connect().await?),
        };
        let response = open.send(request).await?;
        let (status, head) = (response.status(), response.headers().clone());
        let body = whole(response.into_body()).await?;
        if head.get(http::header::CONNECTION).is_some_and(|value| value == "close") {
            *connection = None;
        }
        if status.is_success() {
            return Ok(None);
        }
        let problem: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        let code = problem["code"].as_str().unwrap_or("no_problem_document");
        Ok(Some(format!("{} {code}", status.as_u16())))
    }

    fn request(&self, number: u64) -> (String, &'static str, Bytes) {
        // Number 0 was sent before.
        match u64::from(self.batch) {
            1 => (body::event_path(&self.tenant), JSON, self.bodies.one(number + 1)),
            batch => {
                let lines = self.bodies.lines(&self.tenant, 1 + number * batch, batch);
                ("/v1/events?ids=false".to_owned(), NDJSON, lines)
            }
        }
    }

    fn note(&self, from: Instant, outcome: Result<Option<String>, ClientError>) {
        let mut seen = self.seen.borrow_mut();
        seen.under_way -= 1;
        seen.requests += 1;
        let error = match outcome {
            Ok(None) => {
                seen.accepted += u64::from(self.batch);
                seen.latency.saturating_record(micros(from.elapsed()));
                return;
            }
            Ok(Some(refused)) => refused,
            Err(ClientError::Unreachable { .. }) => "unreachable".to_owned(),
            Err(ClientError::Timeout) => "timeout".to_owned(),
            Err(_) => "connection_broken".to_owned(),
        };
        *seen.errors.entry(error).or_default() += 1;
    }

    pub(super) fn so_far(&self) -> SoFar {
        let seen = self.seen.borrow();
        SoFar {
            accepted: seen.accepted,
            errors: seen.errors.values().sum(),
            p99_ms: seen.latency.value_at_quantile(0.99) as f64 / 1e3,
        }
    }

    pub(super) fn report(&self) -> Report {
        let seen = self.seen.borrow();
        let elapsed = self.began.get().elapsed();
        let mut errors = seen.errors.clone();
        if seen.under_way > 0 {
            errors.insert("not_answered".to_owned(), seen.under_way);
        }
        let (asked, never_sent) = match self.pace {
            Pace::Closed => (None, 0),
            Pace::Open { gap } => {
                let so_far = elapsed.min(self.duration).as_secs_f64() / gap.as_secs_f64();
                let never_sent = (so_far.ceil() as u64).saturating_sub(self.next.get());
                (Some(f64::from(self.batch) / gap.as_secs_f64()), never_sent)
            }
        };
        Report {
            asked,
            // What came after the end was asked for before it.
            seconds: elapsed.as_secs_f64(),
            requests: seen.requests,
            accepted: seen.accepted,
            never_sent,
            latency: Quantiles::of(&seen.latency),
            own_lateness: asked.map(|_| Quantiles::of(&seen.own_lateness)),
            errors,
        }
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}
