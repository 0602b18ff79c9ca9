//! One behaviour a test, where the simulation is blunt: exact tables, bounds, turns, memory.

use std::time::Duration;

use super::*;
use crate::{
    delivery::{CancelReason, FailReason},
    engine::step::DECISIONS_PER_STEP,
};

const START: Millis = 1_795_000_000_000;
const AGAIN: Outcome = Outcome::Retry { not_before: None };
const DAY: Millis = 86_400_000;

/// An engine, its time, and what the last step did.
struct Rig {
    engine: Engine,
    now: Millis,
    wake: Option<Millis>,
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

#[test]
fn six_attempts_follow_the_schedule_to_the_millisecond_and_then_it_has_failed() {
    let mut rig = Rig::new(|_| {});
    let mut effects = rig.step(vec![set(1, lane(1)), accepted(1, 7)]);
    for (number, gap) in (1..).zip([1000, 2000, 4000, 8000, 16_000]) {
        let [(ticket, 1, 7, made)] = sends(&effects)[..] else { panic!("{effects:?}") };
        assert_eq!(made, number);
        let effects_of_failure = rig.after(30, vec![finished(ticket, AGAIN, Blame::Receiver)]);
        assert_eq!(verdicts(&effects_of_failure), [(7, Verdict::RetryAt(rig.now + gap))]);
        assert_eq!(sends(&rig.after(gap - 1, vec![])), []);
        effects = rig.after(1, vec![]);
    }
    let [(ticket, 1, 7, 6)] = sends(&effects)[..] else { panic!("{effects:?}") };
    let effects = rig.step(vec![finished(ticket, AGAIN, Blame::Receiver)]);
    assert_eq!(verdicts(&effects), [(7, Verdict::Failed(FailReason::AttemptsExhausted))]);
    assert_eq!(rig.engine.gauges(rig.now), Gauges::default());
}

#[test]
fn what_follows_from_an_attempt() {
    #[track_caller]
    fn check(first: Option<Input>, outcome: Outcome, blame: Blame, expected: Verdict) {
        let mut rig = Rig::new(|_| {});
        let effects = rig.step(vec![set(1, lane(1)), accepted(1, 7)]);
        let mut inputs: Vec<_> = first.into_iter().collect();
        inputs.push(finished(sends(&effects)[0].0, outcome, blame));
        assert_eq!(verdicts(&rig.step(inputs)), [(7, expected)], "{outcome:?}, {blame:?}");
    }
    let cancel = || Some(Input::Cancel { key: key(1, 7) });
    let remove = || Some(Input::WebhookRemoved { webhook: WebhookNo(1) });
    let asked = |wait| Outcome::Retry { not_before: Some(START + wait) };
    let requested = Verdict::Canceled(CancelReason::Requested);
    let deleted = Verdict::Canceled(CancelReason::WebhookDeleted);
    let ours = Blame::Receiver;
    check(None, Outcome::Delivered, ours, Verdict::Delivered);
    check(None, Outcome::Failed, ours, Verdict::Failed(FailReason::BlockedTarget));
    check(None, AGAIN, ours, Verdict::RetryAt(START + 1000));
    check(None, asked(500), ours, Verdict::RetryAt(START + 1000));
    check(None, asked(9_000), ours, Verdict::RetryAt(START + 9_000));
    check(None, asked(DAY), ours, Verdict::RetryAt(START + 3_600_000));
    // Whoever cancels what is under way cannot undo a success.
    for (before, reason) in [(cancel(), requested), (remove(), deleted)] {
        check(before.clone(), Outcome::Delivered, ours, Verdict::Delivered);
        check(before.clone(), Outcome::Failed, ours, reason);
        check(before.clone(), AGAIN, ours, reason);
        check(before, AGAIN, Blame::Own, reason);
    }
}

#[test]
fn an_own_fault_is_forgotten_and_costs_neither_an_attempt_nor_the_breaker() {
    let mut rig = Rig::new(|settings| settings.breaker_timeouts = 1);
    let mut effects = rig.step(vec![set(1, lane(1)), accepted(1, 7)]);
    for _ in 0..20 {
        let [(ticket, 1, 7, 1)] = sends(&effects)[..] else { panic!("{effects:?}") };
        let effects_of_fault = rig.step(vec![finished(ticket, AGAIN, Blame::Own)]);
        assert_eq!(effects_of_fault, [Effect::Forget { ticket }]);
        effects = rig.after(1000, vec![]);
    }
    assert_eq!(rig.engine.gauges(rig.now).breakers_open, 0);
}

#[test]
fn every_cap_holds_and_every_slot_is_used() {
    /// Four webhooks of two tenants, ten deliveries each: how many are sent at once.
    #[track_caller]
    fn check(shard: u32, share: f64, cap: u32, own_cap: Option<u32>, expected: usize) {
        let mut rig = Rig::new(|settings| {
            settings.max_in_flight = shard;
            settings.tenant_share = share;
            settings.webhook_max_in_flight = cap;
        });
        let lanes =
            (1..=4).map(|no| set(no, LaneSettings { max_in_flight: own_cap, ..lane(no % 2) }));
        let mut inputs: Vec<_> = lanes.collect();
        inputs.extend((0..40).map(|place| accepted(place as u32 % 4 + 1, place)));
        assert_eq!(sends(&rig.step(inputs)).len(), expected);
    }
    check(100, 1.0, 10, None, 40);
    check(25, 1.0, 10, None, 25);
    check(100, 1.0, 3, None, 12);
    check(100, 1.0, 3, Some(5), 20);
    check(100, 1.0, 3, Some(1), 4);
    check(100, 0.07, 10, None, 14);
    check(10, 0.25, 10, None, 4);
    // A share of nothing is one.
    check(100, 0.0, 10, None, 2);
}

#[test]
fn tenants_share_the_slots_however_many_webhooks_and_deliveries_each_has() {
    let mut rig = Rig::new(|settings| settings.max_in_flight = 6);
    let mut inputs: Vec<_> = (1..=9).map(|no| set(no, lane(1))).collect();
    inputs.push(set(10, lane(2)));
    inputs.extend((0..90).map(|place| accepted(place as u32 % 9 + 1, place)));
    inputs.extend((90..190).map(|place| accepted(10, place)));
    let mut effects = rig.step(inputs);
    let mut of_the_small = 0;
    for _ in 0..20 {
        let (ticket, webhook, ..) = sends(&effects)[0];
        of_the_small += usize::from(webhook == 10);
        effects = rig.step(vec![finished(ticket, Outcome::Delivered, Blame::Receiver)]);
    }
    assert!((9..=10).contains(&of_the_small), "{of_the_small} of 20");
}

#[test]
fn what_is_due_again_goes_before_what_is_new_and_the_new_goes_in_place_order() {
    let mut rig = Rig::new(|settings| settings.webhook_max_in_flight = 1);
    let inputs = [3, 5, 8].map(|place| accepted(1, place));
    let first = sends(&rig.step([vec![set(1, lane(1))], inputs.to_vec()].concat()))[0];
    assert_eq!((first.2, first.3), (3, 1));
    let second = sends(&rig.step(vec![finished(first.0, AGAIN, Blame::Receiver)]))[0];
    assert_eq!((second.2, second.3), (5, 1));
    let done = finished(second.0, Outcome::Delivered, Blame::Receiver);
    let third = sends(&rig.after(1000, vec![done]))[0];
    assert_eq!((third.2, third.3), (3, 2));
    let done = finished(third.0, Outcome::Delivered, Blame::Receiver);
    assert_eq!(sends(&rig.step(vec![done]))[0].2, 8);
}

#[test]
fn timeouts_leave_fewer_slots_and_answers_give_them_back_but_a_probe_never_waits() {
    let mut rig = Rig::new(|settings| settings.webhook_max_in_flight = 4);
    let mut inputs = vec![set(1, lane(1))];
    inputs.extend((0..60).map(|place| accepted(1, place)));
    let mut flying: Vec<Ticket> = sends(&rig.step(inputs)).iter().map(|sent| sent.0).collect();
    let mut counts = vec![flying.len()];
    let answers = [[Blame::ReceiverTimeout; 9], [Blame::Receiver; 9]].concat();
    for blame in answers {
        let effects = rig.step(vec![finished(flying.remove(0), AGAIN, blame)]);
        flying.extend(sends(&effects).iter().map(|sent| sent.0));
        counts.push(flying.len());
    }
    assert_eq!(counts, [4, 4, 4, 3, 2, 1, 1, 1, 1, 1, 2, 4, 4, 4, 4, 4, 4, 4, 4]);
}

#[test]
fn a_rate_limit_asks_to_be_woken_when_it_allows_another() {
    let mut rig = Rig::new(|_| {});
    let limited = LaneSettings { rate_limit: Some(5), ..lane(1) };
    let inputs = vec![set(1, limited), accepted(1, 1), accepted(1, 2), accepted(1, 3)];
    let mut sent = vec![sends(&rig.step(inputs)).len()];
    while let Some(wake) = rig.wake.filter(|wake| *wake < START + 2000) {
        sent.push(sends(&rig.after(wake - rig.now, vec![])).len());
    }
    assert_eq!(sent.iter().sum::<usize>(), 3, "{sent:?}");
    assert!(sent[0] == 1 && rig.now >= START + 380, "{sent:?} by {}", rig.now - START);
    // A higher limit takes effect at once, not when the old one would allow the next.
    let inputs = vec![accepted(1, 4), accepted(1, 5)];
    assert_eq!(sends(&rig.step(inputs)).len(), 0);
    let faster = LaneSettings { rate_limit: None, ..lane(1) };
    assert_eq!(sends(&rig.step(vec![set(1, faster)])).len(), 2);
}

/// Nothing is sent; places 0.. of block 5 and on wait, as many in memory as the window holds.
fn spilled(places: u64) -> (Rig, Vec<Effect>) {
    let mut rig = Rig::new(|settings| {
        settings.max_queued = 0;
        settings.webhook_max_in_flight = 1;
    });
    let mut inputs = vec![set(1, lane(1))];
    inputs.extend((0..places).map(|index| accepted(1, Place::new(5 + index, 0).as_u64())));
    let effects = rig.step(inputs);
    (rig, effects)
}

fn refilled(blocks: &[u64], next: Option<u64>) -> Input {
    let places = blocks.iter().map(|block| Place::new(*block, 0)).collect();
    let next = next.map(|block| Place::new(block, 0));
    Input::Refilled { webhook: WebhookNo(1), places, next }
}

/// The blocks from which and up to which the log is to be read.
fn asked(effects: &[Effect]) -> Vec<(u64, u64)> {
    let asked = effects.iter().filter_map(|effect| match effect {
        Effect::Refill { from, until, .. } => Some((from.block(), until.block())),
        _ => None,
    });
    asked.collect()
}

/// Lets one attempt after the other succeed until none follows; the blocks that were sent.
fn drain_lane(rig: &mut Rig, mut effects: Vec<Effect>) -> (Vec<u64>, Vec<Effect>) {
    let mut went = Vec::new();
    let mut all = effects.clone();
    while let [(ticket, _, place, _)] = sends(&effects)[..] {
        went.push(Place::from_u64(place).block());
        effects = rig.step(vec![finished(ticket, Outcome::Delivered, Blame::Receiver)]);
        all.extend(effects.iter().cloned());
    }
    (went, all)
}

#[test]
fn a_lane_that_spills_asks_once_when_it_runs_low_and_goes_on_in_order() {
    let (mut rig, effects) = spilled(10);
    assert_eq!(asked(&effects), [], "three of four still wait in memory");
    let gauges = rig.engine.gauges(rig.now);
    assert_eq!((gauges.pending, gauges.spilled), (3, 6));
    let (went, effects) = drain_lane(&mut rig, effects);
    assert_eq!((went, asked(&effects)), (vec![5, 6, 7, 8], vec![(9, 14)]));
    let effects = rig.step(vec![accepted(1, Place::new(15, 0).as_u64())]);
    assert_eq!(effects, [], "the new one waits behind those in the log");
    let effects = rig.step(vec![refilled(&[9, 10, 11, 12], Some(13))]);
    let (went, effects) = drain_lane(&mut rig, effects);
    assert_eq!((went, asked(&effects)), (vec![9, 10, 11, 12], vec![(13, 15)]));
    let effects = rig.step(vec![refilled(&[13, 14, 15], None)]);
    assert_eq!(drain_lane(&mut rig, effects).0, [13, 14, 15]);
    assert_eq!(rig.engine.gauges(rig.now), Gauges::default());
}

#[test]
fn an_empty_answer_to_a_refill_is_followed_by_the_next_question() {
    let (mut rig, effects) = spilled(10);
    drain_lane(&mut rig, effects);
    let effects = rig.step(vec![refilled(&[], Some(11))]);
    assert_eq!(asked(&effects), [(11, 14)]);
    assert_eq!(sends(&rig.step(vec![refilled(&[11], None)])).len(), 1);
}

#[test]
fn what_is_canceled_while_only_the_log_holds_it_is_not_read_back() {
    let (mut rig, effects) = spilled(7);
    let canceled = Place::new(10, 0).as_u64();
    let cancel = || vec![Input::Cancel { key: key(1, canceled) }];
    assert_eq!(verdicts(&rig.step(cancel())).len(), 1);
    assert_eq!(verdicts(&rig.step(cancel())).len(), 0, "it has ended");
    drain_lane(&mut rig, effects);
    let effects = rig.step(vec![refilled(&[9, 10, 11], None)]);
    assert_eq!(drain_lane(&mut rig, effects).0, [9, 11]);
}

#[test]
fn blocks_that_the_store_passed_over_at_start_are_neither_delivered_nor_canceled() {
    let mut rig = Rig::new(|settings| settings.max_queued = 0);
    let disabled = LaneSettings { enabled: false, ..lane(1) };
    let mut inputs = vec![set(1, disabled)];
    let unsettled = [2, 3, 4, 6, 7, 9, 12];
    inputs.extend(unsettled.map(|block| accepted(1, Place::new(block, 0).as_u64())));
    inputs.push(Input::AlreadySettled { key: key(1, Place::new(12, 1).as_u64()) });
    rig.step(inputs);
    let gone = Input::Cancel { key: key(1, Place::new(8, 0).as_u64()) };
    assert_eq!(rig.step(vec![gone]), []);
    let effects = rig.step(vec![set(1, LaneSettings { max_in_flight: Some(1), ..lane(1) })]);
    let (went, effects) = drain_lane(&mut rig, effects);
    assert_eq!((went, asked(&effects)), (vec![2, 3, 4, 6], vec![(7, 12)]));
    // The log holds everything that was ever routed to this webhook.
    let mut places: Vec<_> = (7..=12).map(|block| Place::new(block, 0)).collect();
    places.push(Place::new(12, 1));
    let effects = rig.step(vec![Input::Refilled { webhook: WebhookNo(1), places, next: None }]);
    assert_eq!(drain_lane(&mut rig, effects).0, [7, 9, 12]);
}

#[test]
fn one_step_makes_a_bounded_number_of_decisions_and_asks_to_go_on() {
    let mut rig = Rig::new(|settings| settings.max_queued = 10_000);
    let mut inputs = vec![set(1, LaneSettings { enabled: false, ..lane(1) })];
    inputs.extend((0..2500).map(|place| accepted(1, place)));
    rig.step(inputs);
    let mut counts = vec![rig.step(vec![Input::WebhookRemoved { webhook: WebhookNo(1) }]).len()];
    while rig.wake == Some(rig.now) {
        counts.push(rig.step(vec![]).len());
    }
    assert_eq!(counts, [DECISIONS_PER_STEP, DECISIONS_PER_STEP, 2500 - 2 * DECISIONS_PER_STEP]);
    assert!(rig.engine.lanes.is_empty() && rig.wake.is_none());
}

#[test]
fn what_is_too_old_expires_a_bounded_number_per_step_and_is_never_sent() {
    let mut rig = Rig::new(|settings| settings.max_queued = 10_000);
    let mut inputs = vec![set(1, LaneSettings { enabled: false, ..lane(1) })];
    inputs.extend((0..2500).map(|place| accepted(1, place)));
    rig.step(inputs);
    let mut counts = vec![rig.after(DAY + 1000, vec![set(1, lane(1))]).len()];
    while rig.wake == Some(rig.now) {
        let effects = rig.step(vec![]);
        assert_eq!(sends(&effects), []);
        counts.push(effects.len());
    }
    assert_eq!(counts, [DECISIONS_PER_STEP, DECISIONS_PER_STEP, 2500 - 2 * DECISIONS_PER_STEP]);
}

#[test]
fn a_removed_webhook_is_forgotten_when_its_last_delivery_has_ended() {
    /// `end` ends the only delivery, which was attempted once; how many lanes are left after it.
    #[track_caller]
    fn check(what: &str, end: impl FnOnce(&mut Rig, Ticket)) {
        let mut rig = Rig::new(|_| {});
        let effects = rig.step(vec![set(1, lane(1)), accepted(1, 7)]);
        end(&mut rig, sends(&effects)[0].0);
        assert!(rig.engine.lanes.is_empty() && rig.engine.index.is_empty(), "{what}");
        assert_eq!(rig.engine.gauges(rig.now), Gauges::default(), "{what}");
        assert_eq!(rig.wake, None, "{what}: a timer is left");
    }
    let remove = || Input::WebhookRemoved { webhook: WebhookNo(1) };
    check("while under way", |rig, ticket| {
        rig.step(vec![remove()]);
        rig.step(vec![finished(ticket, AGAIN, Blame::Receiver)]);
    });
    check("while scheduled", |rig, ticket| {
        rig.step(vec![finished(ticket, AGAIN, Blame::Receiver), remove()]);
        rig.after(1000, vec![]);
    });
    check("scheduled, canceled later", |rig, ticket| {
        rig.step(vec![finished(ticket, AGAIN, Blame::Receiver), remove()]);
        rig.step(vec![Input::Cancel { key: key(1, 7) }]);
    });
}

#[test]
fn an_unknown_webhooks_deliveries_are_canceled() {
    let mut rig = Rig::new(|_| {});
    let resumed =
        Input::Resumed { key: key(9, 2), began: START, attempts: 1, round_attempts: 1, due: START };
    let replay = Input::Replay { key: key(9, 3), attempts: 6 };
    let deleted = Verdict::Canceled(CancelReason::WebhookDeleted);
    let expected = [1, 2, 3].map(|place| decided(9, place, deleted));
    assert_eq!(rig.step(vec![accepted(9, 1), resumed, replay]), expected);
}

#[test]
fn draining_starts_nothing_and_records_what_ends() {
    let mut rig = Rig::new(|settings| settings.webhook_max_in_flight = 1);
    let effects = rig.step(vec![set(1, lane(1)), accepted(1, 1), accepted(1, 2)]);
    let ticket = sends(&effects)[0].0;
    assert_eq!(rig.step(vec![Input::Drain]), []);
    let effects = rig.step(vec![finished(ticket, AGAIN, Blame::Receiver)]);
    assert_eq!(verdicts(&effects), [(1, Verdict::RetryAt(START + 1000))]);
    assert_eq!(sends(&effects), []);
    assert_eq!(rig.after(5000, vec![]), []);
}

#[test]
fn a_replay_goes_at_once_with_numbers_that_go_on_and_a_schedule_that_starts_anew() {
    let mut rig = Rig::new(|_| {});
    // Long after it was accepted: a replay's age counts from the replay.
    rig.now += 9 * DAY;
    let effects = rig.step(vec![set(1, lane(1)), Input::Replay { key: key(1, 7), attempts: 6 }]);
    let [(ticket, 1, 7, 7)] = sends(&effects)[..] else { panic!("{effects:?}") };
    let effects = rig.step(vec![finished(ticket, AGAIN, Blame::Receiver)]);
    assert_eq!(verdicts(&effects), [(7, Verdict::RetryAt(rig.now + 1000))]);
    assert_eq!(sends(&rig.after(1000, vec![]))[0].3, 8);
}

/// When deliveries expire that wait for a disabled webhook.
fn expiries(rig: &mut Rig) -> Vec<(u64, Millis)> {
    let mut expired = Vec::new();
    while let Some(wake) = rig.wake {
        let effects = rig.after(wake.saturating_sub(rig.now), vec![]);
        let verdicts = verdicts(&effects).into_iter();
        let of_age =
            verdicts.filter(|(_, verdict)| *verdict == Verdict::Failed(FailReason::Expired));
        expired.extend(of_age.map(|(place, _)| (place, rig.now - START)));
    }
    expired
}

#[test]
fn a_wall_clock_that_is_ahead_makes_nothing_younger_than_now() {
    let mut rig = Rig::new(|_| {});
    let ahead = Input::Accepted { key: key(1, 1), accepted_at: START + 30 * DAY };
    rig.step(vec![set(1, LaneSettings { enabled: false, ..lane(1) }), ahead]);
    assert_eq!(expiries(&mut rig), [(1, DAY + 1000)]);
}

#[test]
fn a_resumed_replay_does_not_make_what_was_accepted_after_it_younger() {
    let mut rig = Rig::new(|_| {});
    rig.now += DAY / 2;
    // Place 1 ended without an attempt, was replayed just now, and failed once since.
    let (began, due) = (rig.now - 2000, rig.now - 1000);
    let resumed = Input::Resumed { key: key(1, 1), began, attempts: 1, round_attempts: 1, due };
    let off = LaneSettings { enabled: false, ..lane(1) };
    rig.step(vec![set(1, off), resumed, accepted(1, 2)]);
    assert_eq!(expiries(&mut rig), [(2, DAY + 1000), (1, DAY + DAY / 2)]);
}

#[test]
fn the_first_of_those_that_are_due_expires_in_time_though_it_came_after_a_younger_one() {
    let mut rig = Rig::new(|_| {});
    let effects = rig.step(vec![set(1, lane(1)), accepted(1, 1)]);
    let later = Outcome::Retry { not_before: Some(START + 3_000_000) };
    rig.step(vec![finished(sends(&effects)[0].0, later, Blame::Receiver)]);
    // A younger one waits first, and its age is watched.
    let younger = Input::Accepted { key: key(1, 2), accepted_at: START + 2_000_000 };
    let off = LaneSettings { enabled: false, ..lane(1) };
    rig.after(2_000_000, vec![set(1, off), younger]);
    assert_eq!(expiries(&mut rig), [(1, DAY + 1000), (2, DAY + 2_001_000)]);
}

#[test]
fn timers_that_fire_together_do_not_take_each_others_places() {
    let mut rig = Rig::new(|_| {});
    let effects = rig.step(vec![set(1, lane(1)), set(2, lane(1)), accepted(1, 1), accepted(2, 1)]);
    let later = |wait| Outcome::Retry { not_before: Some(START + wait) };
    let finish = |at: usize, wait| finished(sends(&effects)[at].0, later(wait), Blame::Receiver);
    rig.step(vec![finish(0, 3_000_000), finish(1, 2_999_000)]);
    let younger = |webhook, place| Input::Accepted {
        key: key(webhook, place),
        accepted_at: START + 2_000_000,
    };
    let off = || LaneSettings { enabled: false, ..lane(1) };
    rig.after(2_000_000, vec![set(1, off()), younger(1, 2), set(2, off())]);
    // The clock jumps: both retries come due and the younger one's watch ends in one step.
    rig.after(2 * DAY, vec![]);
    rig.rest();
    assert_eq!(rig.engine.gauges(rig.now), Gauges::default(), "they have all expired");
    assert_eq!(rig.wake, None, "no timer is left");
}

#[test]
fn the_same_inputs_have_the_same_effects() {
    let run = || {
        let mut rig = Rig::new(|settings| settings.max_in_flight = 0);
        let mut inputs: Vec<_> = (0..60).map(|no| set(no, lane(no % 7))).collect();
        inputs.extend((0..200).map(|place| accepted(place as u32 % 60, place)));
        rig.step(inputs);
        rig.step(vec![Input::SettingsChanged(Box::new(settings()))])
    };
    let first = run();
    assert_eq!(sends(&first).len(), 100);
    assert_eq!(run(), first);
}
