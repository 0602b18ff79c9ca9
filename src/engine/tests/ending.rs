//! Ending without an attempt: bounded steps, removed webhooks, the drain, and replays after it.

use super::*;
use crate::engine::step::DECISIONS_PER_STEP;

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
        rig.after(GRAIN + 1000, vec![]);
    });
    check("scheduled, canceled later", |rig, ticket| {
        rig.step(vec![finished(ticket, AGAIN, Blame::Receiver), remove()]);
        rig.step(vec![cancel_of(key(1, 7))]);
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
    assert_eq!(verdicts(&effects), [(1, Verdict::RetryAt(START + GRAIN + 1000))]);
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
    assert_eq!(verdicts(&effects), [(7, Verdict::RetryAt(rig.now + GRAIN + 1000))]);
    assert_eq!(sends(&rig.after(GRAIN + 1000, vec![]))[0].3, 8);
}
