//! Attempts: when, how many at once, in which order, and what follows from them.

use super::*;

#[test]
fn six_attempts_follow_the_schedule_to_the_millisecond_and_then_it_has_failed() {
    let mut rig = Rig::new(|_| {});
    let mut effects = rig.step(vec![set(1, lane(1)), accepted(1, 7)]);
    for (number, delay) in (1..).zip([1000, 2000, 4000, 8000, 16_000]) {
        let gap = delay + GRAIN;
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
    let cancel = || Some(cancel_of(key(1, 7)));
    let remove = || Some(Input::WebhookRemoved { webhook: WebhookNo(1) });
    let asked = |wait| Outcome::Retry { not_before: Some(START + wait) };
    let requested = Verdict::Canceled(CancelReason::Requested);
    let deleted = Verdict::Canceled(CancelReason::WebhookDeleted);
    let ours = Blame::Receiver;
    check(None, Outcome::Delivered, ours, Verdict::Delivered);
    check(None, Outcome::Failed, ours, Verdict::Failed(FailReason::BlockedTarget));
    check(None, AGAIN, ours, Verdict::RetryAt(START + GRAIN + 1000));
    check(None, asked(500), ours, Verdict::RetryAt(START + GRAIN + 1000));
    check(None, asked(9_000), ours, Verdict::RetryAt(START + 9_000));
    check(None, asked(DAY), ours, Verdict::RetryAt(START + GRAIN + 3_600_000));
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
        let mut effects = rig.step(inputs);
        effects.append(&mut rig.rest());
        assert_eq!(sends(&effects).len(), expected);
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
fn a_thousand_attempts_do_not_begin_at_once_and_whoever_comes_next_goes_next() {
    let mut rig = Rig::new(|settings| settings.max_in_flight = 2000);
    let mut inputs: Vec<_> = (1..=1000).map(|no| set(no, lane(1))).collect();
    inputs.push(set(1001, lane(2)));
    inputs.extend((1..=1000).map(|no| accepted(no, 7)));
    assert_eq!(sends(&rig.step(inputs)).len(), TENANT_SENDS as usize);
    assert_eq!(rig.wake, Some(rig.now), "the rest follows at once");
    let effects = rig.step(vec![accepted(1001, 8)]);
    assert!(sends(&effects)[..2].iter().any(|(_, webhook, ..)| *webhook == 1001), "{effects:?}");
    assert_eq!(sends(&effects).len(), TENANT_SENDS as usize + 1);
    rig.rest();
    assert_eq!(rig.engine.in_flight(), 1001);
    assert_ne!(rig.wake, Some(rig.now), "nothing is left over");
}

#[test]
fn a_step_begins_a_bounded_number_of_attempts_however_many_tenants_there_are() {
    let mut rig = Rig::new(|settings| settings.max_in_flight = 4 * SENDS_PER_STEP as u32);
    let webhooks = 1..=2 * SENDS_PER_STEP as u32;
    let mut inputs: Vec<_> = webhooks.clone().map(|no| set(no, lane(no))).collect();
    inputs.extend(webhooks.map(|no| accepted(no, 7)));
    for _ in 0..2 {
        assert_eq!(sends(&rig.step(std::mem::take(&mut inputs))).len(), SENDS_PER_STEP);
    }
    rig.rest();
    assert_eq!(rig.engine.in_flight(), 2 * SENDS_PER_STEP as u64);
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
    let third = sends(&rig.after(GRAIN + 1000, vec![done]))[0];
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

#[test]
fn the_same_inputs_have_the_same_effects() {
    let run = || {
        let mut rig = Rig::new(|settings| settings.webhook_max_in_flight = 1);
        let mut inputs: Vec<_> = (0..60).map(|no| set(no, lane(no % 7))).collect();
        inputs.extend((0..200).map(|place| accepted(place as u32 % 60, place)));
        rig.step(inputs);
        rig.rest();
        // All lanes become able to go at once, and there are slots for a part of them.
        let mut effects = rig.step(vec![Input::SettingsChanged(Box::new(settings()))]);
        effects.append(&mut rig.rest());
        effects
    };
    let first = run();
    assert_eq!(sends(&first).len(), 40);
    assert_eq!(run(), first);
}
