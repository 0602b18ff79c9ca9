//! One behaviour a test, where the simulation is blunt: exact tables, bounds, turns, memory.

mod ages;
mod crowd;
mod ending;
mod later;
mod slots;
mod spill;

use std::time::Duration;

use super::{fairness::TENANT_SENDS, step::SENDS_PER_STEP, *};
use crate::delivery::{CancelReason, FailReason};

const START: Millis = 1_795_000_000_000;
const AGAIN: Outcome = Outcome::Retry { not_before: None };
const DAY: Millis = 86_400_000;
/// A delay counts from where the millisecond in which its attempt ended is over.
const GRAIN: Millis = 1;

/// An engine, its time, and what the last step did.
struct Rig {
    engine: Engine,
    now: Millis,
    wake: Option<Millis>,
}

fn cancel_of(key: DeliveryKey) -> Input {
    Input::Cancel { key, reason: CancelReason::Requested }
}

fn settings() -> Settings {
    Settings {
        retry_schedule: [1, 2, 4, 8, 16].map(Duration::from_secs).to_vec(),
        retry_jitter: 0.0,
        max_retry_after: Duration::from_secs(3600),
        max_age: Duration::from_secs(86_400),
        max_in_flight: 100,
        tenant_share: 1.0,
        webhook_max_in_flight: 10,
        max_queued: 1000,
        lane_window: 4,
        max_retrying: 1000,
        breaker_timeouts: 3,
    }
}

fn lane(tenant: u32) -> LaneSettings {
    LaneSettings { tenant: TenantNo(tenant), enabled: true, max_in_flight: None, rate_limit: None }
}

fn set(webhook: u32, settings: LaneSettings) -> Input {
    Input::WebhookSet { webhook: WebhookNo(webhook), settings }
}

fn key(webhook: u32, place: u64) -> DeliveryKey {
    DeliveryKey { place: Place::from_u64(place), webhook: WebhookNo(webhook) }
}

fn accepted(webhook: u32, place: u64) -> Input {
    Input::Accepted { key: key(webhook, place), accepted_at: START }
}

fn finished(ticket: Ticket, outcome: Outcome, blame: Blame) -> Input {
    Input::Finished { ticket, outcome, blame }
}

fn decided(webhook: u32, place: u64, verdict: Verdict) -> Effect {
    Effect::Record { ticket: None, key: key(webhook, place), number: 0, verdict }
}

impl Rig {
    fn new(change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = settings();
        change(&mut settings);
        Self { engine: Engine::new(settings, 0), now: START, wake: None }
    }

    /// One step; more where the engine had to go on without having had any effect. (Under test the
    /// wheel spreads few entries at a time.)
    fn step(&mut self, mut inputs: Vec<Input>) -> Vec<Effect> {
        let mut effects = Vec::new();
        loop {
            self.wake = self.engine.step(self.now, &mut inputs, &mut effects);
            if !effects.is_empty() || self.wake != Some(self.now) {
                return effects;
            }
        }
    }

    /// Steps until the engine rests.
    fn rest(&mut self) -> Vec<Effect> {
        let mut effects = Vec::new();
        while self.wake.is_some_and(|wake| wake <= self.now) {
            effects.append(&mut self.step(vec![]));
        }
        effects
    }

    /// Lets the time pass and steps.
    fn after(&mut self, wait: Millis, inputs: Vec<Input>) -> Vec<Effect> {
        self.now += wait;
        self.step(inputs)
    }
}

/// What was sent: ticket, webhook, place, number.
fn sends(effects: &[Effect]) -> Vec<(Ticket, u32, u64, u16)> {
    let sent = effects.iter().filter_map(|effect| match effect {
        Effect::Send { ticket, key, number, .. } => {
            Some((*ticket, key.webhook.0, key.place.as_u64(), *number))
        }
        _ => None,
    });
    sent.collect()
}

fn verdicts(effects: &[Effect]) -> Vec<(u64, Verdict)> {
    let recorded = effects.iter().filter_map(|effect| match effect {
        Effect::Record { key, verdict, .. } => Some((key.place.as_u64(), *verdict)),
        _ => None,
    });
    recorded.collect()
}
