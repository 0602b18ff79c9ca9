//! What the runs really met: a simulation that never spills proves nothing about spilling.

use std::collections::BTreeMap;

use senderz_gateway::{
    delivery::{CancelReason, FailReason, Verdict},
    engine::{BreakerState, Effect, Gauges},
};

/// What every set of runs is to meet.
const WANTED: [&str; 21] = [
    "attempts",
    "attempts exhausted",
    "blocked",
    "breaker closed",
    "breaker half open",
    "breaker open",
    "canceled",
    "crowd",
    "delivered",
    "empty refill",
    "expired",
    "held back",
    "later replay",
    "later replay refused",
    "own fault",
    "refill",
    "replay",
    "replay refused",
    "restart",
    "restart over settled blocks while spilled",
    "webhook deleted",
];

#[derive(Debug, Default)]
pub(crate) struct Tally(BTreeMap<&'static str, u64>);

impl Tally {
    pub(crate) fn note(&mut self, what: &'static str) {
        debug_assert!(WANTED.contains(&what), "{what} is not in the list");
        *self.0.entry(what).or_default() += 1;
    }

    pub(crate) fn effect(&mut self, effect: &Effect) {
        self.note(match effect {
            Effect::Send { .. } => "attempts",
            Effect::Refill { .. } => "refill",
            Effect::Forget { .. } => "own fault",
            Effect::Breaker { to: BreakerState::Open, .. } => "breaker open",
            Effect::Breaker { to: BreakerState::HalfOpen, .. } => "breaker half open",
            Effect::Breaker { to: BreakerState::Closed, .. } => "breaker closed",
            Effect::Record { verdict, .. } => match verdict {
                Verdict::Delivered => "delivered",
                Verdict::Failed(FailReason::AttemptsExhausted) => "attempts exhausted",
                Verdict::Failed(FailReason::Expired) => "expired",
                Verdict::Failed(FailReason::BlockedTarget) => "blocked",
                Verdict::Canceled(CancelReason::Requested | CancelReason::EventErased) => {
                    "canceled"
                }
                Verdict::Canceled(CancelReason::WebhookDeleted) => "webhook deleted",
                _ => return,
            },
        });
    }

    /// What an engine that rests holds.
    pub(crate) fn crowd(&mut self, gauges: &Gauges) {
        if gauges.crowded {
            self.note("crowd");
        }
        if gauges.webhooks_held_back > 0 {
            self.note("held back");
        }
    }

    pub(crate) fn add(&mut self, other: &Tally) {
        for (what, count) in &other.0 {
            *self.0.entry(what).or_default() += count;
        }
    }

    /// Each with how often it was met.
    pub(crate) fn met(&self) -> impl Iterator<Item = (&'static str, u64)> {
        WANTED.into_iter().map(|what| (what, self.count(what)))
    }

    pub(crate) fn count(&self, what: &str) -> u64 {
        self.0.get(what).copied().unwrap_or(0)
    }
}
