//! What must be true when an engine rests: nothing that could be done is left undone, it has asked
//! to be woken in time for what comes next, and its gauges count what there is.

use senderz_gateway::{
    clock::Millis,
    engine::{BreakerState, Gauges},
    id::{Place, WebhookNo},
};

use crate::{
    lane::Lane,
    oracle::{AGE_GRAIN, Oracle},
    world::REPLAYS_AT_ONCE,
};

impl Oracle {
    /// `wake` is when the engine wants to be called again at the latest.
    pub(crate) fn rests(&self, now: Millis, wake: Option<Millis>) {
        for (webhook, lane) in &self.lanes {
            let scheduled = lane.dues.range((now + 1, Place::MIN)..).next();
            if let Some((due, place)) = scheduled {
                wakes_by(wake, *due, || format!("{place:?} for {webhook:?} is due"));
            }
            self.expires_in_time(now, wake, *webhook, lane);
            if !self.draining {
                self.leaves_no_slot_free(now, wake, *webhook, lane);
            }
        }
    }

    /// The breaker makes slots fewer, down to one; it never keeps a delivery from a free one.
    fn leaves_no_slot_free(
        &self,
        now: Millis,
        wake: Option<Millis>,
        webhook: WebhookNo,
        lane: &Lane,
    ) {
        let could_go = self.shard_has_slot()
            && self.tenant_has_slot(lane.settings.tenant)
            && lane.has_slot()
            && lane.is_ready(now, self.crowded);
        if !could_go {
            return;
        }
        let free_at = lane.free_at();
        let limited = lane.settings.rate_limit.is_some() && free_at > now;
        assert!(limited, "{webhook:?} could go at {now} and does not: {lane:?}");
        wakes_by(wake, free_at, || format!("the rate limit of {webhook:?} allows another"));
    }

    /// Of those that are due, the oldest need not be first; but when all are too old, the first is.
    fn expires_in_time(&self, now: Millis, wake: Option<Millis>, webhook: WebhookNo, lane: &Lane) {
        if lane.removed {
            return;
        }
        let too_old = self.max_age() + AGE_GRAIN;
        let fresh = lane.fresh.first_key_value().filter(|_| !lane.asked);
        let fresh = fresh.map(|(_, accepted)| accepted + too_old);
        let due = lane.dues.iter().take_while(|(due, _)| *due <= now);
        let due = due.map(|(due, place)| lane.retries[place].base.latest(*due) + too_old).max();
        let later = lane.later.values().map(|retry| retry.due + too_old).min();
        for at in [fresh, due, later].into_iter().flatten() {
            assert!(at > now, "{webhook:?} keeps what is {} ms too old: {lane:?}", now - at);
            wakes_by(wake, at, || format!("what waits for {webhook:?} expires"));
        }
    }

    /// `spilled` is not known here, but together with `pending` it is.
    pub(crate) fn counts(&self, now: Millis, gauges: &Gauges) {
        let fresh: usize = self.lanes.values().map(|lane| lane.fresh.len()).sum();
        let retrying = self.retrying();
        assert_eq!(gauges.pending + gauges.spilled, fresh as u64, "{gauges:?}: pending, spilled");
        assert_eq!(gauges.retrying, retrying as u64, "retrying");
        assert_eq!(gauges.in_flight, self.flights.len() as u64, "in flight");
        if self.lanes.values().all(|lane| !lane.removed) {
            assert_eq!(gauges.breakers_open, self.breakers(BreakerState::Open), "open");
            let half_open = self.breakers(BreakerState::HalfOpen);
            assert_eq!(gauges.breakers_half_open, half_open, "half open");
        }
        let in_memory = self.most_queued + self.lanes.len() * 2 * self.widest_window;
        assert!(gauges.pending <= in_memory as u64, "{gauges:?}: {in_memory} fit in memory");
        self.is_bounded(gauges);
        let firsts = self.lanes.values().filter_map(|lane| lane.fresh.first_key_value());
        if let Some(oldest) = firsts.map(|(_, accepted)| *accepted).min() {
            let told = gauges.oldest_accepted_at;
            assert!(told.is_some_and(|told| told <= oldest && told <= now), "{told:?}, {oldest}");
        }
    }
}

impl Oracle {
    /// Beyond the limit: what was under way when it was reached, what is waiting for a webhook and
    /// under way while as many wait as may be under way, a few replays that were asked for at once,
    /// and what waited before the start.
    fn is_bounded(&self, gauges: &Gauges) {
        let each = 3 * self.widest_cap as usize + REPLAYS_AT_ONCE;
        let beyond = self.most_in_flight as usize + self.lanes.len() * each + self.rebuilt;
        let bound = self.most_retrying + beyond;
        assert!(gauges.retrying + gauges.in_flight <= bound as u64, "{gauges:?}, {bound} at most");
        assert_eq!(gauges.crowded, self.crowded, "{gauges:?}");
        if self.lanes.values().all(|lane| !lane.asked) {
            assert_eq!(gauges.webhooks_held_back, self.held_back().count() as u64, "{gauges:?}");
        }
    }

    /// Lanes whose first attempts the crowd keeps from being made.
    pub(crate) fn held_back(&self) -> impl Iterator<Item = &Lane> {
        let wants = |lane: &&Lane| lane.settings.enabled && !lane.removed && !lane.fresh.is_empty();
        let is_full = |lane: &&Lane| !lane.has_room(self.crowded);
        self.lanes.values().filter(wants).filter(is_full)
    }
}

fn wakes_by(wake: Option<Millis>, at: Millis, why: impl Fn() -> String) {
    assert!(wake.is_some_and(|wake| wake <= at), "wakes at {wake:?}, but {} at {at}", why());
}
