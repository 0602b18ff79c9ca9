//! The oracle: knows from what an engine was told what it may do, and what it must.
//!
//! One oracle watches one engine; a restart brings a new pair. Inputs are told before the step, and
//! what follows from them must be the step's first effects, in order. What else a step may do
//! (start attempts, end what is too old or whose webhook is gone, ask for a refill) is judged one
//! effect at a time. What a step must not leave undone is judged when it rests: see `rest.rs`.

use std::collections::{BTreeMap, HashMap, VecDeque};

use senderz_gateway::{
    clock::Millis,
    delivery::{CancelReason, FailReason, Outcome, Verdict},
    engine::{Blame, BreakerState, Effect, Input, Settings, Ticket},
    id::{DeliveryKey, TenantNo, WebhookNo},
};

use crate::lane::{Base, Lane, Retry};

/// What the engine's ages may be wrong by, and an expiry late.
pub(crate) const AGE_GRAIN: Millis = 2_000;
/// After an attempt that our own side spoiled.
const OWN_FAULT_PAUSE: Millis = 1_000;

#[derive(Debug)]
pub(crate) struct Oracle {
    pub(crate) settings: Settings,
    pub(crate) lanes: BTreeMap<WebhookNo, Lane>,
    pub(crate) flights: HashMap<Ticket, Flight>,
    pub(crate) under_way: BTreeMap<TenantNo, u32>,
    pub(crate) draining: bool,
    /// The largest numbers that this engine has had: what is in memory when they shrink stays.
    pub(crate) most_queued: usize,
    pub(crate) widest_window: usize,
    pub(crate) most_retrying: usize,
    pub(crate) most_in_flight: u32,
    pub(crate) widest_cap: u32,
    /// Waiting for a retry when this engine started.
    pub(crate) rebuilt: usize,
    /// From `max_retrying` that wait for a retry until an eighth of them is gone.
    pub(crate) crowded: bool,
    expected: VecDeque<Expected>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Flight {
    key: DeliveryKey,
    /// As it was before this attempt.
    retry: Retry,
    canceled: Option<CancelReason>,
    /// It began among the replays that have no hurry.
    later: bool,
}

/// An effect that an input must have.
#[derive(Debug)]
enum Expected {
    Exactly(Effect),
    /// The attempt's record, with a time for the next one in this range.
    RetryWithin {
        ticket: Ticket,
        key: DeliveryKey,
        number: u16,
        earliest: Millis,
        latest: Millis,
    },
}

impl Oracle {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            most_queued: settings.max_queued,
            widest_window: settings.lane_window.max(1),
            most_retrying: settings.max_retrying,
            most_in_flight: settings.max_in_flight,
            widest_cap: settings.webhook_max_in_flight,
            rebuilt: 0,
            crowded: false,
            settings,
            lanes: BTreeMap::new(),
            flights: HashMap::new(),
            under_way: BTreeMap::new(),
            draining: false,
            expected: VecDeque::new(),
        }
    }

    /// Before the step: what the engine is going to be told.
    pub(crate) fn told(&mut self, now: Millis, input: &Input) {
        self.take(now, input);
        self.crowded |= self.retrying() >= self.settings.max_retrying;
    }

    fn take(&mut self, now: Millis, input: &Input) {
        match input {
            Input::WebhookSet { webhook, settings } => {
                self.widest_cap = self.widest_cap.max(settings.max_in_flight.unwrap_or(0));
                match self.lanes.get_mut(webhook) {
                    Some(lane) => lane.change(*settings, &self.settings, now),
                    None => {
                        let lane = Lane::new(*settings, &self.settings, now);
                        self.lanes.insert(*webhook, lane);
                    }
                }
            }
            Input::WebhookRemoved { webhook } => {
                // It may have been removed before this engine started.
                if let Some(lane) = self.lanes.get_mut(webhook) {
                    lane.removed = true;
                }
            }
            Input::Accepted { key, accepted_at } => {
                let Some(lane) = self.live(*key) else { return };
                assert!(lane.fresh.insert(key.place, *accepted_at.min(&now)).is_none());
            }
            Input::Resumed { key, began, attempts, round_attempts, due } => {
                let Some(lane) = self.live(*key) else { return };
                let replayed = attempts != round_attempts || *attempts == 0;
                let base = if replayed { Base::Due } else { Base::Between(*began.min(&now)) };
                let (due, attempts, round) = (*due, *attempts, *round_attempts);
                lane.wait(key.place, Retry { due, attempts, round, base });
                self.rebuilt += 1;
            }
            Input::Replay { key, attempts } => {
                let Some(lane) = self.live(*key) else { return };
                let retry = Retry { due: now, attempts: *attempts, round: 0, base: Base::Due };
                lane.wait(key.place, retry);
            }
            Input::ReplayLater { key, attempts } => {
                let Some(lane) = self.live(*key) else { return };
                let retry = Retry { due: now, attempts: *attempts, round: 0, base: Base::Due };
                assert!(lane.later.insert(key.place, retry).is_none());
            }
            Input::Finished { ticket, outcome, blame } => {
                self.finished(now, *ticket, *outcome, *blame);
            }
            Input::Cancel { key, reason } => self.cancel(*key, *reason),
            Input::Refilled { webhook, .. } => self.lane(*webhook).asked = false,
            Input::SettingsChanged(settings) => self.change(settings),
            Input::Drain => self.draining = true,
            Input::AlreadySettled { .. } | Input::Waited(_) => {}
        }
    }

    fn lane(&mut self, webhook: WebhookNo) -> &mut Lane {
        self.lanes.get_mut(&webhook).expect("the engine was told of this webhook")
    }

    /// Where a delivery is to wait; it is canceled at once if its webhook is gone.
    fn live(&mut self, key: DeliveryKey) -> Option<&mut Lane> {
        let lane = self.lanes.get_mut(&key.webhook).filter(|lane| !lane.removed);
        if lane.is_none() {
            self.expected.push_back(decision(key, CancelReason::WebhookDeleted));
        }
        lane
    }

    fn change(&mut self, settings: &Settings) {
        self.settings = settings.clone();
        self.most_queued = self.most_queued.max(settings.max_queued);
        self.widest_window = self.widest_window.max(settings.lane_window);
        self.most_retrying = self.most_retrying.max(settings.max_retrying);
        self.most_in_flight = self.most_in_flight.max(settings.max_in_flight);
        self.widest_cap = self.widest_cap.max(settings.webhook_max_in_flight);
        for lane in self.lanes.values_mut() {
            lane.breaker.resize(lane.whole_cap(settings));
        }
    }

    fn cancel(&mut self, key: DeliveryKey, reason: CancelReason) {
        let Some(lane) = self.lanes.get_mut(&key.webhook) else { return };
        if lane.forget(key.place) {
            self.expected.push_back(decision(key, reason));
        }
        for flight in self.flights.values_mut().filter(|flight| flight.key == key) {
            flight.canceled = Some(reason);
        }
    }

    fn finished(&mut self, now: Millis, ticket: Ticket, outcome: Outcome, blame: Blame) {
        let Flight { key, retry, canceled, later } =
            self.flights.remove(&ticket).expect("only what was sent finishes");
        let settings = &self.settings;
        let lane = self.lanes.get_mut(&key.webhook).expect("lanes are not forgotten here");
        lane.in_flight -= 1;
        lane.later_in_flight -= u32::from(later);
        *self.under_way.entry(lane.settings.tenant).or_default() -= 1;
        let change = match blame {
            Blame::Own => None,
            Blame::ReceiverTimeout => lane.breaker.timed_out(settings.breaker_timeouts),
            Blame::Receiver => lane.breaker.answered(lane.whole_cap(settings)),
        };
        if let Some(to) = change {
            let effect = Effect::Breaker { webhook: key.webhook, to };
            self.expected.push_back(Expected::Exactly(effect));
        }
        let reason = if lane.removed { Some(CancelReason::WebhookDeleted) } else { canceled };
        if blame == Blame::Own {
            self.expected.push_back(Expected::Exactly(Effect::Forget { ticket }));
            match reason {
                Some(reason) => self.expected.push_back(decision(key, reason)),
                None => lane.wait(key.place, Retry { due: now + OWN_FAULT_PAUSE, ..retry }),
            }
            return;
        }
        let number = retry.attempts + 1;
        let verdict = match (outcome, reason) {
            (Outcome::Delivered, _) => Verdict::Delivered,
            (_, Some(reason)) => Verdict::Canceled(reason),
            (Outcome::Failed, None) => Verdict::Failed(FailReason::BlockedTarget),
            (Outcome::Retry { not_before }, None) => {
                match next_attempt(settings, retry.round, now, not_before) {
                    None => Verdict::Failed(FailReason::AttemptsExhausted),
                    Some((earliest, latest)) => {
                        let round = retry.round + 1;
                        let next = Retry { due: earliest, attempts: number, round, ..retry };
                        lane.wait(key.place, next);
                        return self.expected.push_back(Expected::RetryWithin {
                            ticket,
                            key,
                            number,
                            earliest,
                            latest,
                        });
                    }
                }
            }
        };
        let effect = Effect::Record { ticket: Some(ticket), key, number, verdict };
        self.expected.push_back(Expected::Exactly(effect));
    }

    /// After the step: one of its effects.
    pub(crate) fn saw(&mut self, now: Millis, effect: &Effect) {
        if let Effect::Refill { webhook, from, until, limit } = effect {
            assert!(from <= until && *limit > 0, "{effect:?} asks for nothing");
            let lane = self.lane(*webhook);
            assert!(!lane.asked, "{effect:?} while another is under way");
            lane.asked = true;
            return;
        }
        if let Some(expected) = self.expected.pop_front() {
            return self.fulfil(expected, effect);
        }
        match *effect {
            Effect::Send { ticket, key, number, due } => self.sent(now, ticket, key, number, due),
            Effect::Record { ticket: None, key, number: 0, verdict } => {
                self.ended(now, key, verdict);
            }
            _ => panic!("{effect:?} follows from nothing"),
        }
    }

    fn fulfil(&mut self, expected: Expected, effect: &Effect) {
        match expected {
            Expected::Exactly(exactly) => assert_eq!(*effect, exactly),
            Expected::RetryWithin { ticket, key, number, earliest, latest } => {
                let Effect::Record { verdict: Verdict::RetryAt(due), .. } = *effect else {
                    panic!("{effect:?} instead of {key:?}'s next attempt");
                };
                let verdict = Verdict::RetryAt(due);
                let record = Effect::Record { ticket: Some(ticket), key, number, verdict };
                assert_eq!(*effect, record);
                assert!(
                    (earliest..=latest).contains(&due),
                    "{effect:?}, not {earliest}..={latest}"
                );
                let lane = self.lane(key.webhook);
                // A cancel in the same step may have ended it already.
                if let Some(retry) = lane.take_retry(key.place) {
                    lane.wait(key.place, Retry { due, ..retry });
                }
            }
        }
    }

    /// An attempt starts.
    fn sent(&mut self, now: Millis, ticket: Ticket, key: DeliveryKey, number: u16, due: Millis) {
        assert!(!self.draining, "{key:?} is sent while draining");
        self.see_if_room();
        let (max_age, crowded) = (self.max_age(), self.crowded);
        let lane = self.lanes.get_mut(&key.webhook).expect("sent to a webhook that is known");
        let mut later = false;
        let retry = if let Some(retry) = lane.later.remove(&key.place) {
            assert!(!lane.is_ready_before(now, crowded), "{key:?} has no hurry: {lane:?}");
            assert!(lane.has_room(crowded), "{key:?} adds to a crowd: {lane:?}");
            assert!(lane.later_in_flight < lane.half(), "{key:?} takes the other half: {lane:?}");
            lane.later_in_flight += 1;
            later = true;
            assert_eq!(due, retry.due, "when {key:?} was asked for");
            retry
        } else if let Some(retry) = lane.take_retry(key.place) {
            assert!(retry.due <= now, "{key:?} is due at {} and sent at {now}", retry.due);
            assert_eq!(due, retry.due, "when {key:?} was due");
            retry
        } else {
            assert!(lane.has_room(crowded), "{key:?} adds to a crowd: {lane:?}");
            let first = lane.fresh.pop_first();
            let (place, accepted) = first.unwrap_or_else(|| panic!("{key:?} does not wait"));
            assert_eq!(key.place, place, "first attempts of {:?} start in order", key.webhook);
            assert_eq!(due, now, "a first attempt is due when it starts");
            Retry { due: now, attempts: 0, round: 0, base: Base::Accepted(accepted) }
        };
        assert_eq!(number, retry.attempts + 1, "{key:?}'s next attempt");
        assert!(now < retry.base.latest(retry.due) + max_age + AGE_GRAIN, "{key:?} is too old");
        assert!(lane.has_slot(), "{key:?} is sent beyond its webhook's cap: {lane:?}");
        lane.in_flight += 1;
        if let Some(limit) = lane.settings.rate_limit {
            assert!(lane.rate.start(now) <= limit as usize + 1, "{key:?} is sent beyond {limit}/s");
        }
        let tenant = lane.settings.tenant;
        assert!(self.tenant_has_slot(tenant), "{key:?} is sent beyond its tenant's share");
        assert!(self.shard_has_slot(), "{key:?} is sent beyond max_in_flight");
        *self.under_way.entry(tenant).or_default() += 1;
        let flight = Flight { key, retry, canceled: None, later };
        assert!(self.flights.insert(ticket, flight).is_none(), "{ticket:?} is in use");
    }

    /// A delivery ends without an attempt, and nobody asked for it.
    fn ended(&mut self, now: Millis, key: DeliveryKey, verdict: Verdict) {
        let max_age = self.max_age();
        let lane = self.lane(key.webhook);
        match verdict {
            Verdict::Canceled(CancelReason::WebhookDeleted) => {
                assert!(lane.removed, "{key:?}'s webhook still exists");
                assert!(lane.forget(key.place), "{key:?} is canceled and does not wait");
            }
            Verdict::Failed(FailReason::Expired) => {
                let later = lane.later.remove(&key.place);
                let base = match later.or_else(|| lane.take_retry(key.place)) {
                    Some(retry) => retry.base.earliest(retry.due),
                    None => lane.fresh.remove(&key.place).expect("what expires waits"),
                };
                assert!(now >= base + max_age, "{key:?} expired {} ms early", base + max_age - now);
                lane.rate.waste(now);
            }
            _ => panic!("{key:?} ends {verdict:?} for no reason"),
        }
    }

    /// After all effects of a step.
    pub(crate) fn step_is_over(&mut self) {
        self.see_if_room();
        assert!(self.expected.is_empty(), "the engine did not do {:?}", self.expected);
    }

    /// What a shard must answer when it is asked whether a delivery may be replayed now.
    pub(crate) fn has_room(&self, webhook: WebhookNo) -> bool {
        let lane = self.lanes.get(&webhook).filter(|lane| !lane.removed);
        lane.is_none_or(|lane| lane.has_room(self.crowded))
    }

    /// How many replays that have no hurry a shard must say that a webhook takes now.
    pub(crate) fn later_room(&self, webhook: WebhookNo) -> usize {
        let lane = self.lanes.get(&webhook).filter(|lane| !lane.removed);
        lane.map_or(1, |lane| lane.later_room(self.crowded))
    }

    pub(crate) fn retrying(&self) -> usize {
        self.lanes.values().map(|lane| lane.retries.len() + lane.later.len()).sum()
    }

    fn see_if_room(&mut self) {
        let max = self.settings.max_retrying;
        self.crowded &= self.retrying() >= max - max / 8;
    }

    pub(crate) fn max_age(&self) -> Millis {
        self.settings.max_age.as_millis() as Millis
    }

    pub(crate) fn shard_has_slot(&self) -> bool {
        self.flights.len() < self.settings.max_in_flight as usize
    }

    pub(crate) fn tenant_has_slot(&self, tenant: TenantNo) -> bool {
        let share = f64::from(self.settings.max_in_flight) * self.settings.tenant_share;
        let under_way = self.under_way.get(&tenant).copied().unwrap_or(0);
        under_way < (share.floor() as u32).max(1)
    }

    pub(crate) fn breakers(&self, state: BreakerState) -> u64 {
        self.lanes.values().filter(|lane| lane.breaker.state == state).count() as u64
    }

    /// Everything that this engine still has to bring to an end, in order.
    pub(crate) fn unsettled(&self) -> Vec<DeliveryKey> {
        let flying = self.flights.values().map(|flight| flight.key);
        let waiting = self.lanes.iter().flat_map(|(webhook, lane)| {
            let places = lane.fresh.keys().chain(lane.retries.keys()).chain(lane.later.keys());
            places.map(|place| DeliveryKey { place: *place, webhook: *webhook })
        });
        let mut keys: Vec<_> = flying.chain(waiting).collect();
        keys.sort();
        keys
    }
}

/// The earliest and the latest time of the next attempt; none where the schedule is exhausted.
fn next_attempt(
    settings: &Settings,
    round: u16,
    now: Millis,
    not_before: Option<Millis>,
) -> Option<(Millis, Millis)> {
    let delay = settings.retry_schedule.get(usize::from(round))?.as_millis() as Millis;
    // The attempt ended somewhere in the millisecond `now`.
    let ended = now + 1;
    let asked =
        not_before.map_or(0, |at| at.min(ended + settings.max_retry_after.as_millis() as u64));
    let jitter = (delay as f64 * settings.retry_jitter) as Millis;
    Some(((ended + delay).max(asked), (ended + delay + jitter).max(asked)))
}

fn decision(key: DeliveryKey, reason: CancelReason) -> Expected {
    let verdict = Verdict::Canceled(reason);
    Expected::Exactly(Effect::Record { ticket: None, key, number: 0, verdict })
}
