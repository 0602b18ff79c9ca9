//! One step: take the inputs in order, let time pass, hand out free slots.

use std::collections::{HashMap, VecDeque};

use slab::Slab;

use super::{
    Blame, Effect, Input, LaneSettings, Settings, Ticket,
    ages::Ages,
    backoff::{self, Next},
    crowd::Round,
    fairness::{Fairness, LaneNo},
    lane::{Due, Lane, Retry, Spill},
    rate::Rate,
    told::Told,
};
use crate::{
    clock::Millis,
    delivery::{CancelReason, FailReason, Outcome, Verdict},
    id::{ByNumber, DeliveryKey, Place, WebhookNo},
    wheel::Wheel,
};

/// Decisions that one step makes beside sending (expired, canceled), so that a step stays short.
pub(super) const DECISIONS_PER_STEP: usize = 1000;
/// Attempts that one step begins, of all tenants together; [`TENANT_SENDS`] says of one.
///
/// [`TENANT_SENDS`]: super::fairness::TENANT_SENDS
pub(super) const SENDS_PER_STEP: usize = 256;
/// Timers that one step lets fire.
const TIMERS_PER_STEP: usize = 10_000;
/// How long an attempt that failed by our own fault waits before it is made again.
pub(super) const OWN_FAULT_PAUSE: Millis = 1000;
/// Ages are kept by the second.
const MARK: Millis = 1000;

/// All policy of one shard.
#[derive(Debug)]
pub struct Engine {
    pub(super) settings: Settings,
    pub(super) seed: u64,
    pub(super) lanes: Slab<Lane>,
    pub(super) index: HashMap<WebhookNo, LaneNo, ByNumber>,
    pub(super) fairness: Fairness,
    pub(super) wheel: Wheel<Timer>,
    pub(super) flights: Slab<Flight>,
    pub(super) ages: Ages,
    pub(super) told: Told,
    /// Lanes that have spilled.
    pub(super) spilled_lanes: usize,
    /// Removed lanes that still hold something to cancel.
    pub(super) removing: VecDeque<LaneNo>,
    /// Places in all `fresh` queues.
    pub(super) pending: usize,
    pub(super) spilled: u64,
    /// In the wheel or due.
    pub(super) retrying: u64,
    /// Set while too many are retrying.
    pub(super) crowded: bool,
    pub(super) draining: bool,
    /// What is left of this step's decisions.
    pub(super) decisions: usize,
    fired: Vec<(Millis, Timer)>,
}

/// What the wheel holds; 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timer {
    Retry {
        place: Place,
        lane: LaneNo,
        attempts: u16,
        round: Round,
    },
    /// The rate limit allows another attempt.
    Rate {
        lane: LaneNo,
    },
    /// The oldest waiting delivery is too old.
    Expiry {
        lane: LaneNo,
    },
}

const _: () = assert!(size_of::<Timer>() == 16);

/// An attempt under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flight {
    pub(super) lane: LaneNo,
    /// The delivery as it was before this attempt.
    pub(super) retry: Retry,
    /// Asked to end when this attempt ends without success.
    pub(super) canceled: bool,
    /// It began among the replays that have no hurry.
    pub(super) later: bool,
}

impl Engine {
    /// `seed` decides the jitter, nothing else.
    pub fn new(settings: Settings, seed: u64) -> Self {
        Self {
            fairness: Fairness::new(share(&settings)),
            settings,
            seed,
            lanes: Slab::new(),
            index: HashMap::default(),
            wheel: Wheel::new(0),
            flights: Slab::new(),
            ages: Ages::default(),
            told: Told::default(),
            spilled_lanes: 0,
            removing: VecDeque::new(),
            pending: 0,
            spilled: 0,
            retrying: 0,
            crowded: false,
            draining: false,
            decisions: 0,
            fired: Vec::new(),
        }
    }

    /// Takes all inputs, in order, and appends what is to be done about them. Answers when it wants
    /// to be called again at the latest; `now` where work is left over.
    pub fn step(
        &mut self,
        now: Millis,
        inputs: &mut Vec<Input>,
        effects: &mut Vec<Effect>,
    ) -> Option<Millis> {
        self.decisions = DECISIONS_PER_STEP;
        self.fairness.begin_step();
        for input in inputs.drain(..) {
            self.take(now, input, effects);
        }
        let more_timers = self.fire_timers(now, effects);
        self.cancel_removed(effects);
        self.see_if_room();
        if self.spilled_lanes == 0 {
            self.told.forget();
        }
        let more_sends = !self.draining && self.hand_out_slots(now, effects);
        let more = more_timers || more_sends || !self.removing.is_empty() || self.decisions == 0;
        if more { Some(now) } else { self.wheel.next() }
    }

    fn take(&mut self, now: Millis, input: Input, effects: &mut Vec<Effect>) {
        match input {
            Input::WebhookSet { webhook, settings } => self.set(now, webhook, settings),
            Input::WebhookRemoved { webhook } => self.remove(webhook),
            Input::Accepted { key, accepted_at } => self.accept(now, key, accepted_at, effects),
            Input::Resumed { key, began, attempts, round_attempts, due } => {
                self.told.note(key.place);
                let round = u8::try_from(round_attempts).unwrap_or(u8::MAX);
                let replayed = self.may_be_replayed(key.place, began, attempts, round_attempts);
                let retry = Retry { place: key.place, attempts, round, replayed };
                self.resume(key.webhook, retry, due, effects);
            }
            Input::AlreadySettled { key } => {
                self.told.note(key.place);
                if let Some(&lane) = self.index.get(&key.webhook) {
                    self.lanes[lane as usize].skip(key.place);
                }
            }
            Input::Finished { ticket, outcome, blame } => {
                self.finish(now, ticket, outcome, blame, effects);
            }
            Input::Replay { key, attempts } => {
                let retry = Retry { place: key.place, attempts, round: 0, replayed: true };
                self.resume(key.webhook, retry, now, effects);
            }
            Input::ReplayLater { key, attempts } => self.replay_later(now, key, attempts, effects),
            Input::Cancel { key } => self.cancel(key, effects),
            Input::Refilled { webhook, places, next } => {
                self.refilled(webhook, &places, next, effects);
            }
            Input::Waited(wait) => self.fairness.waited(wait, self.flights.len() as u32),
            Input::SettingsChanged(settings) => self.change_settings(*settings),
            Input::Drain => self.draining = true,
        }
    }

    fn set(&mut self, now: Millis, webhook: WebhookNo, settings: LaneSettings) {
        let Some(&no) = self.index.get(&webhook) else {
            let tenant = self.fairness.tenant(settings.tenant);
            let lane = Lane::new(webhook, tenant, settings, &self.settings, now);
            let no = self.lanes.insert(lane) as LaneNo;
            self.index.insert(webhook, no);
            return;
        };
        let lane = &mut self.lanes[no as usize];
        if lane.settings.rate_limit != settings.rate_limit {
            lane.rate = settings.rate_limit.map(|limit| Rate::new(limit, now));
            if let Some(timer) = lane.rate_timer.take() {
                self.wheel.cancel(timer);
            }
        }
        lane.settings = settings;
        lane.breaker.resize(lane.whole_cap(&self.settings));
        self.enter_ring(no);
        self.watch_age(no);
    }

    fn remove(&mut self, webhook: WebhookNo) {
        let Some(&no) = self.index.get(&webhook) else { return };
        let lane = &mut self.lanes[no as usize];
        if !lane.removed {
            lane.removed = true;
            self.removing.push_back(no);
        }
    }

    fn accept(
        &mut self,
        now: Millis,
        key: DeliveryKey,
        accepted_at: Millis,
        effects: &mut Vec<Effect>,
    ) {
        self.told.note(key.place);
        // The wall clock that stamped it may be ahead of ours: it is not younger than now.
        self.ages.note(key.place, accepted_at.min(now));
        let Some(no) = self.live(key.webhook) else {
            return record_decision(effects, key, Verdict::Canceled(CancelReason::WebhookDeleted));
        };
        let full = self.pending >= self.settings.max_queued;
        let lane = &mut self.lanes[no as usize];
        if let Some(spill) = &mut lane.spill {
            spill.push(key.place);
            self.spilled += 1;
        } else if full && lane.fresh.len() >= self.settings.lane_window.max(1) {
            lane.spill = Some(Box::new(Spill::new(key.place)));
            self.spilled += 1;
            self.spilled_lanes += 1;
        } else {
            let is_first = lane.fresh.is_empty();
            lane.fresh.push_back(key.place);
            self.pending += 1;
            self.enter_ring(no);
            // Whoever comes behind others is younger.
            if is_first {
                self.watch_age(no);
            }
        }
    }

    /// Whether a resumed delivery's age counts from when it is due. It does after a replay; and also
    /// where that cannot be told: as many attempts in this round as in all, but the round began
    /// later than the marks say that the event was accepted. Then its `began` must not become a
    /// mark, or what was accepted after it would count as younger than it is.
    fn may_be_replayed(&self, place: Place, began: Millis, attempts: u16, in_round: u16) -> bool {
        let is_known = || self.ages.of(place).is_some_and(|second| began < second + MARK);
        in_round == 0 || attempts != in_round || !is_known()
    }

    /// A delivery with a past: it waits in the wheel until it is due.
    fn resume(&mut self, webhook: WebhookNo, retry: Retry, due: Millis, effects: &mut Vec<Effect>) {
        let key = DeliveryKey { place: retry.place, webhook };
        let Some(no) = self.live(webhook) else {
            return record_decision(effects, key, Verdict::Canceled(CancelReason::WebhookDeleted));
        };
        self.lanes[no as usize].skip(retry.place);
        self.schedule(no, retry, due);
    }

    fn finish(
        &mut self,
        now: Millis,
        ticket: Ticket,
        outcome: Outcome,
        blame: Blame,
        effects: &mut Vec<Effect>,
    ) {
        let Some(flight) = self.flights.try_remove(ticket.0 as usize) else {
            debug_assert!(false, "a ticket finishes once");
            return;
        };
        let lane = &mut self.lanes[flight.lane as usize];
        lane.in_flight -= 1;
        lane.later_in_flight -= u32::from(flight.later);
        self.fairness.finished(lane.tenant);
        let change = match blame {
            Blame::Own => None,
            Blame::ReceiverTimeout => lane.breaker.timed_out(self.settings.breaker_timeouts),
            Blame::Receiver => lane.breaker.answered(lane.whole_cap(&self.settings)),
        };
        let webhook = lane.webhook;
        let removed = lane.removed;
        if let Some(to) = change {
            effects.push(Effect::Breaker { webhook, to });
        }
        let key = DeliveryKey { place: flight.retry.place, webhook };
        let canceled = if removed {
            Some(CancelReason::WebhookDeleted)
        } else {
            flight.canceled.then_some(CancelReason::Requested)
        };
        if blame == Blame::Own {
            effects.push(Effect::Forget { ticket });
            match canceled {
                Some(reason) => record_decision(effects, key, Verdict::Canceled(reason)),
                None => self.schedule(flight.lane, flight.retry, now + OWN_FAULT_PAUSE),
            }
        } else {
            let number = flight.retry.attempts.saturating_add(1);
            let verdict = self.verdict(now, key, &flight, outcome, canceled);
            effects.push(Effect::Record { ticket: Some(ticket), key, number, verdict });
        }
        self.enter_ring(flight.lane);
        self.release(flight.lane);
    }

    /// What follows from an attempt that counts; schedules the next one where there is one.
    fn verdict(
        &mut self,
        now: Millis,
        key: DeliveryKey,
        flight: &Flight,
        outcome: Outcome,
        canceled: Option<CancelReason>,
    ) -> Verdict {
        let not_before = match (outcome, canceled) {
            (Outcome::Delivered, _) => return Verdict::Delivered,
            (_, Some(reason)) => return Verdict::Canceled(reason),
            (Outcome::Failed, None) => return Verdict::Failed(FailReason::BlockedTarget),
            (Outcome::Retry { not_before }, None) => not_before,
        };
        let round = flight.retry.round.saturating_add(1);
        let next = backoff::next_attempt(
            &self.settings.retry_schedule,
            self.settings.retry_jitter,
            self.settings.max_retry_after,
            self.seed,
            key,
            u16::from(round),
            now,
            not_before,
        );
        match next {
            Next::Exhausted => Verdict::Failed(FailReason::AttemptsExhausted),
            Next::At(due) => {
                let attempts = flight.retry.attempts.saturating_add(1);
                let retry = Retry { attempts, round, ..flight.retry };
                self.schedule(flight.lane, retry, due);
                Verdict::RetryAt(due)
            }
        }
    }

    /// Lets the time pass; true where more timers are due now.
    fn fire_timers(&mut self, now: Millis, effects: &mut Vec<Effect>) -> bool {
        let mut fired = std::mem::take(&mut self.fired);
        let more = self.wheel.poll(now, TIMERS_PER_STEP, &mut fired);
        // First of all, lest what follows cancels a timer that has fired and whose id names another.
        for (_, timer) in &fired {
            match *timer {
                Timer::Retry { .. } => {}
                Timer::Rate { lane } => self.lanes[lane as usize].rate_timer = None,
                Timer::Expiry { lane } => self.lanes[lane as usize].expiry_timer = None,
            }
        }
        for (due, timer) in fired.drain(..) {
            match timer {
                Timer::Retry { place, lane: no, attempts, round } => {
                    let (step, replayed) = (round.step(), round.replayed());
                    let retry = Retry { place, attempts, round: step, replayed };
                    let lane = &mut self.lanes[no as usize];
                    lane.scheduled -= 1;
                    lane.due.push_back(Due { retry, due });
                    if lane.removed {
                        self.removing.push_back(no);
                    } else {
                        self.enter_ring(no);
                        self.watch_age(no);
                    }
                }
                Timer::Rate { lane } => self.enter_ring(lane),
                Timer::Expiry { lane } => self.expire(now, lane, effects),
            }
        }
        self.fired = fired;
        more
    }

    fn change_settings(&mut self, settings: Settings) {
        self.fairness.set_share(share(&settings));
        self.settings = settings;
        self.see_if_crowded();
        for no in self.all_lanes() {
            let lane = &mut self.lanes[no as usize];
            lane.breaker.resize(lane.whole_cap(&self.settings));
            if let Some((_, timer)) = lane.expiry_timer.take() {
                self.wheel.cancel(timer);
            }
            self.watch_age(no);
            self.enter_ring(no);
        }
    }

    /// The lane of a webhook that still exists.
    pub(super) fn live(&self, webhook: WebhookNo) -> Option<LaneNo> {
        self.index.get(&webhook).copied().filter(|no| !self.lanes[*no as usize].removed)
    }

    /// In the order of the table, so that the same inputs have the same effects.
    pub(super) fn all_lanes(&self) -> Vec<LaneNo> {
        self.lanes.iter().map(|(no, _)| no as LaneNo).collect()
    }

    /// Lets a lane take part in the turns, if it could go and does not yet.
    pub(super) fn enter_ring(&mut self, no: LaneNo) {
        let lane = &mut self.lanes[no as usize];
        if !lane.in_ring && lane.can_go(self.crowded) {
            lane.in_ring = true;
            self.fairness.enter(lane.tenant, no);
        }
    }

    /// Attempts under way.
    pub fn in_flight(&self) -> u64 {
        self.flights.len() as u64
    }
}

/// Writes a decision about a delivery that has no attempt under way.
pub(super) fn record_decision(effects: &mut Vec<Effect>, key: DeliveryKey, verdict: Verdict) {
    effects.push(Effect::Record { ticket: None, key, number: 0, verdict });
}

/// Attempts that one tenant may have under way.
fn share(settings: &Settings) -> u32 {
    (f64::from(settings.max_in_flight) * settings.tenant_share) as u32
}
