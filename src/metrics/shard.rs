//! What one shard counts: plain integers on the hot path, handed on once a second.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use ::metrics::{Counter, Gauge};

use super::{
    ATTEMPTS, ATTEMPTS_DEFERRED, BREAKER_TRANSITIONS, DELIVERIES, DELIVERIES_CREATED,
    DELIVERIES_ENDED, RESPONSES, WEBHOOKS,
    aggregate::{Aggregated, HISTOGRAMS, Local, Slot},
    install,
};
use crate::{
    clock::Millis,
    delivery::{Attempt, ErrorCode, Phases, Verdict},
    engine::{BreakerState, Gauges},
};

const OUTCOMES: [&str; 3] = ["delivered", "retry", "failed"];
/// By the first digit of a status.
const CODE_CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
const ENDS: [&str; 3] = ["delivered", "failed", "canceled"];
const BREAKER_STATES: [&str; 3] = ["closed", "open", "half_open"];
/// No error, and the codes by their number.
const ERRORS: usize = ErrorCode::ALL.len() + 1;

/// Indices into `aggregate::AGGREGATED`.
const DURATION: usize = 0;
const PHASE_QUEUE: usize = 1;
const LATENCY: usize = 7;
const LAG: usize = 8;

/// A shard's own counts. Nothing in it is shared or atomic until [`ShardMetrics::flush`], which
/// the shard calls about once a second and before it ends.
#[derive(Debug)]
pub struct ShardMetrics {
    histograms: [Local; HISTOGRAMS],
    attempts: [[u64; ERRORS]; OUTCOMES.len()],
    deferred: u64,
    responses: [u64; CODE_CLASSES.len()],
    ended: [u64; ENDS.len()],
    breaker: [u64; BREAKER_STATES.len()],
    /// What this shard last added to the gauges that all shards share.
    shown: Gauges,
    slot: Arc<Slot>,
    aggregated: Arc<Aggregated>,
    registered: Registered,
}

/// The exporter's handles, looked up once.
#[derive(Debug)]
pub(super) struct Registered {
    created: Counter,
    deferred: Counter,
    responses: [Counter; CODE_CLASSES.len()],
    ended: [Counter; ENDS.len()],
    breaker: [Counter; BREAKER_STATES.len()],
    pending: Gauge,
    retrying: Gauge,
    in_flight: Gauge,
    breakers_open: Gauge,
    breakers_half_open: Gauge,
    held_back: Gauge,
}

impl ShardMetrics {
    pub fn new() -> Self {
        let handle = install();
        let slot = Arc::new(Slot::default());
        handle.aggregated.join(Arc::downgrade(&slot));
        Self {
            histograms: std::array::from_fn(|_| Local::default()),
            attempts: Default::default(),
            deferred: 0,
            responses: Default::default(),
            ended: Default::default(),
            breaker: Default::default(),
            shown: Gauges::default(),
            slot,
            aggregated: handle.aggregated,
            registered: Self::register(),
        }
    }

    /// Makes every series of the shards, at 0 where it is new.
    pub(super) fn register() -> Registered {
        let deliveries = |state| ::metrics::gauge!(DELIVERIES, "state" => state);
        let webhooks = |state| ::metrics::gauge!(WEBHOOKS, "state" => state);
        Registered {
            created: ::metrics::counter!(DELIVERIES_CREATED),
            deferred: ::metrics::counter!(ATTEMPTS_DEFERRED),
            responses: CODE_CLASSES
                .map(|class| ::metrics::counter!(RESPONSES, "code_class" => class)),
            ended: ENDS.map(|end| ::metrics::counter!(DELIVERIES_ENDED, "outcome" => end)),
            breaker: BREAKER_STATES.map(|to| ::metrics::counter!(BREAKER_TRANSITIONS, "to" => to)),
            pending: deliveries("pending"),
            retrying: deliveries("retrying"),
            in_flight: deliveries("in_flight"),
            breakers_open: webhooks("breaker_open"),
            breakers_half_open: webhooks("breaker_half_open"),
            held_back: webhooks("held_back"),
        }
    }

    /// A committed block brought this many deliveries.
    pub fn created(&self, deliveries: u64) {
        self.registered.created.increment(deliveries);
    }

    /// An attempt that counts: it was made and is recorded. What follows from it for its delivery
    /// is its outcome: `retry` says that there will be another one, `failed` that this was the last.
    pub fn attempt(&mut self, verdict: Verdict, attempt: &Attempt) {
        let outcome = match verdict {
            Verdict::Delivered => 0,
            Verdict::RetryAt(_) | Verdict::Reopened => 1,
            Verdict::Failed(_) | Verdict::Canceled(_) => 2,
        };
        let error = attempt.error.as_ref().map_or(0, |error| error.code as usize);
        self.attempts[outcome][error] += 1;
        if let Some(status @ 100..600) = attempt.status {
            self.responses[usize::from(status / 100) - 1] += 1;
        }
        self.histograms[DURATION].record(u64::from(attempt.latency));
        self.phases(attempt.phases);
    }

    /// An attempt that does not count: a fault of our own kept it from being made.
    pub fn deferred(&mut self) {
        self.deferred += 1;
    }

    fn phases(&mut self, phases: Phases) {
        let Phases { queue, dns, connect, tls, first_byte, body } = phases;
        self.histograms[PHASE_QUEUE].record(u64::from(queue));
        for (offset, micros) in [dns, connect, tls, first_byte, body].into_iter().enumerate() {
            if micros > 0 {
                self.histograms[PHASE_QUEUE + 1 + offset].record(u64::from(micros));
            }
        }
    }

    /// A retry started this much later than it was due.
    pub fn retry_lag(&mut self, lag_ms: Millis) {
        self.histograms[LAG].record(lag_ms.saturating_mul(1000));
    }

    /// A delivery reached `verdict`; `age_ms` is the time since its event was accepted. Verdicts
    /// that do not end it count nothing.
    pub fn ended(&mut self, verdict: Verdict, age_ms: Millis) {
        match verdict {
            Verdict::Delivered => {
                self.ended[0] += 1;
                self.histograms[LATENCY].record(age_ms.saturating_mul(1000));
            }
            Verdict::Failed(_) => self.ended[1] += 1,
            Verdict::Canceled(_) => self.ended[2] += 1,
            Verdict::RetryAt(_) | Verdict::Reopened => {}
        }
    }

    pub fn breaker(&mut self, to: BreakerState) {
        let index = match to {
            BreakerState::Closed => 0,
            BreakerState::Open => 1,
            BreakerState::HalfOpen => 2,
        };
        self.breaker[index] += 1;
    }

    /// What the shard's engine holds now.
    pub fn gauges(&mut self, now: Gauges) {
        self.slot.oldest_accepted_at.store(now.oldest_accepted_at.unwrap_or(0), Relaxed);
        let Registered { pending, retrying, in_flight, .. } = &self.registered;
        let before = self.shown;
        // Every shard adds its difference, so the gauges are the sum over the shards.
        let move_by = |gauge: &Gauge, before: u64, now: u64| {
            if before != now {
                gauge.increment(now as f64 - before as f64);
            }
        };
        move_by(pending, before.pending + before.spilled, now.pending + now.spilled);
        move_by(retrying, before.retrying, now.retrying);
        move_by(in_flight, before.in_flight, now.in_flight);
        move_by(&self.registered.breakers_open, before.breakers_open, now.breakers_open);
        move_by(
            &self.registered.breakers_half_open,
            before.breakers_half_open,
            now.breakers_half_open,
        );
        move_by(&self.registered.held_back, before.webhooks_held_back, now.webhooks_held_back);
        self.shown = now;
    }

    /// Hands everything counted since the last time on.
    pub fn flush(&mut self) {
        self.aggregated.add(&mut self.histograms);
        for (outcome, errors) in OUTCOMES.into_iter().zip(&mut self.attempts) {
            for (error, count) in errors.iter_mut().enumerate().filter(|(_, count)| **count > 0) {
                let error = ErrorCode::from_u8(error as u8).map_or("none", ErrorCode::as_str);
                ::metrics::counter!(ATTEMPTS, "outcome" => outcome, "error" => error)
                    .increment(std::mem::take(count));
            }
        }
        let registered = &self.registered;
        registered.deferred.increment(std::mem::take(&mut self.deferred));
        hand_on(&mut self.responses, &registered.responses);
        hand_on(&mut self.ended, &registered.ended);
        hand_on(&mut self.breaker, &registered.breaker);
    }
}

impl Default for ShardMetrics {
    fn default() -> Self {
        Self::new()
    }
}

/// A shard that ends takes its part of the gauges away and keeps its counts.
impl Drop for ShardMetrics {
    fn drop(&mut self) {
        self.flush();
        self.gauges(Gauges::default());
    }
}

fn hand_on(counts: &mut [u64], counters: &[Counter]) {
    for (count, counter) in counts.iter_mut().zip(counters) {
        if *count > 0 {
            counter.increment(std::mem::take(count));
        }
    }
}
