//! The engine in steady state: each step, deliveries are accepted and the attempts that the step
//! before asked for end.

use std::time::Duration;

use senderz_gateway::{
    clock::Millis,
    delivery::Outcome,
    engine::{Blame, Effect, Engine, Input, LaneSettings, Settings},
    id::{DeliveryKey, Place, TenantNo, WebhookNo},
};

use super::NOW;

/// Deliveries accepted in each step.
pub(crate) const PER_STEP: u16 = 64;

/// Webhooks of one tenant.
const PER_TENANT: u32 = 10;

/// What comes of attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Delivered,
    /// The first attempt of each fails; the second, a second later, delivers.
    RetriedOnce,
}

pub(crate) struct Turns {
    engine: Engine,
    fate: Fate,
    webhooks: u32,
    now: Millis,
    steps: u64,
    inputs: Vec<Input>,
    effects: Vec<Effect>,
}

impl Turns {
    pub(crate) fn new(webhooks: u32, fate: Fate) -> Self {
        let mut engine = Engine::new(settings(), 0);
        let set = |no| Input::WebhookSet {
            webhook: WebhookNo(no),
            settings: LaneSettings {
                tenant: TenantNo(no / PER_TENANT),
                enabled: true,
                max_in_flight: None,
                rate_limit: None,
            },
        };
        let mut inputs: Vec<Input> = (0..webhooks).map(set).collect();
        let effects = Vec::new();
        engine.step(NOW, &mut inputs, &mut Vec::new());
        let mut turns = Self { engine, fate, webhooks, now: NOW, steps: 0, inputs, effects };
        // Until as many retries fall due in each step as are scheduled.
        for _ in 0..1500 {
            turns.step();
        }
        turns
    }

    /// What there is to do in a millisecond, which passes. Answers how many effects it had.
    pub(crate) fn step(&mut self) -> usize {
        self.now += 1;
        self.steps += 1;
        for effect in self.effects.drain(..) {
            if let Effect::Send { ticket, number, .. } = effect {
                let outcome = match self.fate {
                    Fate::RetriedOnce if number == 1 => Outcome::Retry { not_before: None },
                    Fate::RetriedOnce | Fate::Delivered => Outcome::Delivered,
                };
                self.inputs.push(Input::Finished { ticket, outcome, blame: Blame::Receiver });
            }
        }
        for index in 0..PER_STEP {
            let nth = self.steps * u64::from(PER_STEP) + u64::from(index);
            let webhook = WebhookNo((nth % u64::from(self.webhooks)) as u32);
            let key = DeliveryKey { place: Place::new(self.steps, index), webhook };
            self.inputs.push(Input::Accepted { key, accepted_at: self.now });
        }
        let mut wake = Some(self.now);
        while wake == Some(self.now) {
            // More than one where there is more to begin than one may.
            wake = self.engine.step(self.now, &mut self.inputs, &mut self.effects);
        }
        self.effects.len()
    }
}

fn settings() -> Settings {
    Settings {
        retry_schedule: [1, 2, 4, 8, 16].map(Duration::from_secs).to_vec(),
        retry_jitter: 0.0,
        max_retry_after: Duration::from_secs(3600),
        max_age: Duration::from_secs(86_400),
        max_in_flight: 1024,
        tenant_share: 1.0,
        webhook_max_in_flight: 1024,
        max_queued: 1_000_000,
        max_retrying: 1_000_000,
        lane_window: 64,
        breaker_timeouts: 5,
    }
}
