//! What the engine holds, for metrics, readiness and whoever looks at a webhook.

use super::{BreakerState, Gauges, lane::Lane, step::Engine};
use crate::{clock::Millis, id::WebhookNo};

/// Accepted-at marks are kept this long beyond the oldest age that matters.
const AGE_SLACK: Millis = 3_600_000;

impl Gauges {
    /// Adds what others hold.
    pub fn add(&mut self, other: Self) {
        self.pending += other.pending;
        self.spilled += other.spilled;
        self.retrying += other.retrying;
        self.in_flight += other.in_flight;
        self.breakers_open += other.breakers_open;
        self.breakers_half_open += other.breakers_half_open;
        self.crowded |= other.crowded;
        self.webhooks_held_back += other.webhooks_held_back;
        let oldest = [self.oldest_accepted_at, other.oldest_accepted_at];
        self.oldest_accepted_at = oldest.into_iter().flatten().min();
    }
}

impl Engine {
    /// What it holds now. Costs a look at each lane: for once in a second.
    pub fn gauges(&mut self, now: Millis) -> Gauges {
        let mut gauges = Gauges { crowded: self.crowded, ..Gauges::default() };
        for (_, lane) in &self.lanes {
            gauges.add(self.held_by(lane));
        }
        // These are kept anyway, and exactly.
        gauges.pending = self.pending as u64;
        gauges.spilled = self.spilled;
        gauges.retrying = self.retrying;
        gauges.in_flight = self.flights.len() as u64;
        let max_age = self.settings.max_age.as_millis() as Millis;
        let of_no_use = now.saturating_sub(max_age + AGE_SLACK);
        // `max_age` may have become shorter than the age of what waits and will only now expire.
        let oldest = gauges.oldest_accepted_at;
        self.ages.forget_older_than(oldest.map_or(of_no_use, |oldest| of_no_use.min(oldest)));
        gauges
    }

    /// What it holds for one webhook; nothing where it does not know it.
    pub fn standing(&self, webhook: WebhookNo) -> Gauges {
        self.live(webhook).map_or_else(Gauges::default, |no| self.held_by(&self.lanes[no as usize]))
    }

    fn held_by(&self, lane: &Lane) -> Gauges {
        let breaker = lane.breaker.state();
        let fresh = lane.oldest_fresh().and_then(|place| self.ages.of(place));
        let due = lane.due.front().map(|due| self.age_base(due));
        let later = lane.later.front().map(|later| later.due);
        Gauges {
            pending: lane.fresh.len() as u64,
            spilled: lane.spill.as_ref().map_or(0, |spill| spill.count),
            retrying: (lane.retrying() + lane.later.len()) as u64,
            in_flight: u64::from(lane.in_flight),
            breakers_open: u64::from(breaker == BreakerState::Open),
            breakers_half_open: u64::from(breaker == BreakerState::HalfOpen),
            crowded: self.crowded,
            webhooks_held_back: u64::from(lane.is_held_back(self.crowded)),
            oldest_accepted_at: [fresh, due, later].into_iter().flatten().min(),
        }
    }
}
