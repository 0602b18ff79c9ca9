//! Handing out slots, and ending what waits without an attempt: expired, canceled, removed.

use super::{
    Effect, Ticket,
    fairness::LaneNo,
    lane::{Due, Retry},
    step::{Engine, Flight, SENDS_PER_STEP, Timer, record_decision},
};
use crate::{
    clock::Millis,
    delivery::{CancelReason, FailReason, Verdict},
    id::{DeliveryKey, Place, WebhookNo},
};

/// How exact the ages are (they are kept by the second).
const AGE_GRAIN: Millis = 1000;

impl Engine {
    /// Sends while there are slots and lanes that can go, as far as this step's sends go; true where
    /// more could.
    pub(super) fn hand_out_slots(&mut self, now: Millis, effects: &mut Vec<Effect>) -> bool {
        let limit = self.flights.len() + SENDS_PER_STEP;
        while self.flights.len() < self.settings.max_in_flight as usize && self.decisions > 0 {
            if self.flights.len() == limit {
                return self.fairness.has_next();
            }
            let Some(no) = self.fairness.next() else { return self.fairness.has_next() };
            let lane = &mut self.lanes[no as usize];
            lane.in_ring = false;
            if !lane.can_go(self.crowded) {
                self.release(no);
                continue;
            }
            if let Some(rate) = &mut lane.rate
                && let Err(free_at) = rate.take(now)
            {
                lane.rate_timer = Some(self.wheel.insert(free_at, Timer::Rate { lane: no }));
                continue;
            }
            self.send_one(now, no, effects);
            self.see_if_room();
            self.ask_for_refill(no, effects);
            self.enter_ring(no);
        }
        false
    }

    /// The lane's next delivery that is not too old: due ones first, and in a crowd perhaps only those.
    fn send_one(&mut self, now: Millis, no: LaneNo, effects: &mut Vec<Effect>) {
        let waited = self.lanes[no as usize].behind();
        while self.decisions > 0 {
            let lane = &mut self.lanes[no as usize];
            let (retry, due, later) = if let Some(due) = lane.pop_due() {
                self.retrying -= 1;
                (due.retry, due.due, false)
            } else if lane.has_room(self.crowded)
                && let Some(place) = lane.pop_fresh()
            {
                self.pending -= 1;
                (Retry { place, attempts: 0, round: 0, replayed: false }, now, false)
            } else if lane.later_may_go(self.crowded)
                && let Some(later) = lane.pop_later()
            {
                self.retrying -= 1;
                (later.retry, later.due, true)
            } else {
                break;
            };
            let key = DeliveryKey { place: retry.place, webhook: self.lanes[no as usize].webhook };
            if self.is_expired(now, &Due { retry, due }) {
                self.decisions -= 1;
                record_decision(effects, key, Verdict::Failed(FailReason::Expired));
                continue;
            }
            let lane = &mut self.lanes[no as usize];
            lane.in_flight += 1;
            lane.later_in_flight += u32::from(later);
            self.fairness.started(lane.tenant);
            let flight = Flight { lane: no, retry, canceled: None, later };
            let ticket = Ticket(self.flights.insert(flight) as u32);
            let number = retry.attempts.saturating_add(1);
            effects.push(Effect::Send { ticket, key, number, due });
            break;
        }
        if self.lanes[no as usize].behind() != waited {
            // Of those that are due, the next may be older than the one before.
            self.watch_age(no);
        }
    }

    /// From when a waiting delivery's age counts.
    pub(super) fn age_base(&self, due: &Due) -> Millis {
        if due.retry.replayed {
            return due.due;
        }
        // A place before all marks is older than any age that matters. A mark may be too young where
        // the wall clock was ahead; but nothing is accepted after it is due.
        self.ages.of(due.retry.place).unwrap_or(0).min(due.due)
    }

    fn is_expired(&self, now: Millis, due: &Due) -> bool {
        let max_age = self.settings.max_age.as_millis() as Millis;
        now >= self.age_base(due).saturating_add(max_age + AGE_GRAIN)
    }

    /// Makes sure that a timer watches the age of what waits.
    pub(super) fn watch_age(&mut self, no: LaneNo) {
        let lane = &self.lanes[no as usize];
        if lane.removed {
            return;
        }
        let fresh = lane.fresh.front().map(|place| self.ages.of(*place).unwrap_or(0));
        let due = lane.due.front().map(|due| self.age_base(due));
        let later = lane.later.front().map(|later| later.due);
        let Some(oldest) = [fresh, due, later].into_iter().flatten().min() else { return };
        let max_age = self.settings.max_age.as_millis() as Millis;
        let at = oldest.saturating_add(max_age + AGE_GRAIN);
        if let Some((set_to, timer)) = lane.expiry_timer {
            if set_to <= at {
                return;
            }
            self.wheel.cancel(timer);
        }
        let timer = self.wheel.insert(at, Timer::Expiry { lane: no });
        self.lanes[no as usize].expiry_timer = Some((at, timer));
    }

    /// Ends what has waited too long, as far as this step's decisions go.
    pub(super) fn expire(&mut self, now: Millis, no: LaneNo, effects: &mut Vec<Effect>) {
        let webhook = self.lanes[no as usize].webhook;
        while self.decisions > 0 {
            let lane = &self.lanes[no as usize];
            let due = lane.due.front().copied().filter(|due| self.is_expired(now, due));
            let later = lane.later.front().copied().filter(|later| self.is_expired(now, later));
            let fresh = lane.fresh.front().map(|place| Due {
                retry: Retry { place: *place, attempts: 0, round: 0, replayed: false },
                due: now,
            });
            let lane = &mut self.lanes[no as usize];
            let place = if let Some(due) = due {
                lane.pop_due();
                self.retrying -= 1;
                due.retry.place
            } else if let Some(fresh) = fresh.filter(|fresh| self.is_expired(now, fresh)) {
                self.lanes[no as usize].pop_fresh();
                self.pending -= 1;
                fresh.retry.place
            } else if let Some(later) = later {
                self.lanes[no as usize].pop_later();
                self.retrying -= 1;
                later.retry.place
            } else {
                break;
            };
            self.decisions -= 1;
            let key = DeliveryKey { place, webhook };
            record_decision(effects, key, Verdict::Failed(FailReason::Expired));
        }
        self.ask_for_refill(no, effects);
        self.watch_age(no);
    }

    /// Ends a delivery wherever it waits; one under way is marked.
    pub(super) fn cancel(
        &mut self,
        key: DeliveryKey,
        reason: CancelReason,
        effects: &mut Vec<Effect>,
    ) {
        let Some(&no) = self.index.get(&key.webhook) else { return };
        if self.forget_waiting(no, key.place) {
            record_decision(effects, key, Verdict::Canceled(reason));
            self.ask_for_refill(no, effects);
            self.enter_ring(no);
            self.watch_age(no);
            self.release(no);
            return;
        }
        let under_way = self.flights.iter_mut().map(|(_, flight)| flight);
        for flight in under_way.filter(|f| f.lane == no && f.retry.place == key.place) {
            flight.canceled = Some(reason);
        }
    }

    /// Rare, so it may search.
    fn forget_waiting(&mut self, no: LaneNo, place: Place) -> bool {
        let lane = &mut self.lanes[no as usize];
        if let Ok(at) = lane.fresh.binary_search(&place) {
            lane.fresh.remove(at);
            self.pending -= 1;
            return true;
        }
        for queue in [&mut lane.due, &mut lane.later] {
            if let Some(at) = queue.iter().position(|due| due.retry.place == place) {
                queue.remove(at);
                self.retrying -= 1;
                return true;
            }
        }
        let scheduled = |timer: &Timer| matches!(timer, Timer::Retry { place: p, lane, .. } if *p == place && *lane == no);
        let found = self.wheel.iter().find(|(_, _, timer)| scheduled(timer)).map(|(id, ..)| id);
        if let Some(id) = found {
            self.wheel.cancel(id);
            lane.scheduled -= 1;
            self.retrying -= 1;
            return true;
        }
        let under_way = self.flights.iter().any(|(_, f)| f.lane == no && f.retry.place == place);
        if let Some(spill) = lane.spill.as_mut().filter(|_| !under_way)
            && (spill.next..=spill.last).contains(&place)
            && !self.told.passed_over(place)
            && spill.skip.insert(place)
        {
            spill.count = spill.count.saturating_sub(1);
            self.spilled = self.spilled.saturating_sub(1);
            return true;
        }
        false
    }

    /// Asks for the next stretch of a spilled lane when its queue runs low.
    pub(super) fn ask_for_refill(&mut self, no: LaneNo, effects: &mut Vec<Effect>) {
        let limit = self.settings.lane_window.max(1);
        let lane = &mut self.lanes[no as usize];
        let low = lane.fresh.len() <= limit / 2;
        if let Some(spill) = lane.spill.as_mut().filter(|spill| low && spill.asked.is_none()) {
            spill.asked = Some(spill.last);
            let (webhook, from, until) = (lane.webhook, spill.next, spill.last);
            effects.push(Effect::Refill { webhook, from, until, limit });
        }
    }

    pub(super) fn refilled(
        &mut self,
        webhook: WebhookNo,
        places: &[Place],
        next: Option<Place>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(&no) = self.index.get(&webhook) else { return };
        let lane = &mut self.lanes[no as usize];
        let Some(spill) = &mut lane.spill else { return };
        let Some(until) = spill.asked.take() else { return };
        let mut taken = 0;
        for place in places {
            if !spill.skip.remove(*place) && !self.told.passed_over(*place) {
                lane.fresh.push_back(*place);
                taken += 1;
            }
        }
        self.pending += taken;
        let was = spill.count;
        spill.count = spill.count.saturating_sub(taken as u64);
        spill.next = next.unwrap_or(Place::from_u64(until.as_u64().saturating_add(1)));
        if spill.next > spill.last {
            spill.count = 0;
        }
        self.spilled = self.spilled.saturating_sub(was - spill.count);
        if spill.next > spill.last {
            lane.spill = None;
            self.spilled_lanes -= 1;
        } else {
            let from = spill.next;
            spill.skip.forget_before(from);
        }
        if lane.removed {
            self.removing.push_back(no);
        } else {
            // An answer may be empty, or hold only what does not wait: then nothing else would ask.
            self.ask_for_refill(no, effects);
            self.enter_ring(no);
            self.watch_age(no);
        }
    }

    /// Cancels what removed lanes still hold, as far as this step's decisions go. What is in the
    /// wheel or under way follows when it comes out.
    pub(super) fn cancel_removed(&mut self, effects: &mut Vec<Effect>) {
        while let Some(no) = self.removing.front().copied() {
            let Some(lane) = self.lanes.get_mut(no as usize).filter(|lane| lane.removed) else {
                self.removing.pop_front();
                continue;
            };
            let webhook = lane.webhook;
            while self.decisions > 0 {
                let place = if let Some(due) = lane.pop_due().or_else(|| lane.pop_later()) {
                    self.retrying -= 1;
                    due.retry.place
                } else if let Some(place) = lane.pop_fresh() {
                    self.pending -= 1;
                    place
                } else {
                    break;
                };
                self.decisions -= 1;
                let key = DeliveryKey { place, webhook };
                record_decision(effects, key, Verdict::Canceled(CancelReason::WebhookDeleted));
            }
            if lane.holds_any() {
                return;
            }
            self.removing.pop_front();
            self.ask_for_refill(no, effects);
            self.release(no);
        }
    }

    /// Forgets a removed lane once nothing of it is left.
    pub(super) fn release(&mut self, no: LaneNo) {
        let lane = &self.lanes[no as usize];
        if !lane.removed || !lane.is_spent() {
            return;
        }
        let lane = self.lanes.remove(no as usize);
        let expiry_timer = lane.expiry_timer.map(|(_, timer)| timer);
        for timer in [lane.rate_timer, expiry_timer].into_iter().flatten() {
            self.wheel.cancel(timer);
        }
        self.index.remove(&lane.webhook);
    }
}
