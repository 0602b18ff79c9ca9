//! When too many deliveries wait for a retry: who is held back, who is not, and when it is over.

use super::*;

/// Webhook 1 fails and webhook 2 does not; of 1, two may be under way at once. Places 0..40 wait
/// for 1.
fn rig(max_retrying: usize) -> (Rig, Vec<Effect>) {
    let mut rig = Rig::new(|settings| {
        settings.max_retrying = max_retrying;
        settings.webhook_max_in_flight = 2;
    });
    let mut inputs = vec![set(1, lane(1)), set(2, lane(2))];
    inputs.extend((0..40).map(|place| accepted(1, place)));
    let effects = rig.step(inputs);
    (rig, effects)
}

/// Lets what was sent fail until nothing more is sent; the places, in order.
fn fail_all(rig: &mut Rig, mut effects: Vec<Effect>) -> Vec<u64> {
    let mut went = Vec::new();
    loop {
        let sent = sends(&effects);
        if sent.is_empty() {
            return went;
        }
        went.extend(sent.iter().map(|(_, _, place, _)| *place));
        effects = rig.step(
            sent.into_iter().map(|(ticket, ..)| finished(ticket, AGAIN, Blame::Receiver)).collect(),
        );
    }
}

fn retrying(rig: &mut Rig) -> (u64, bool, u64) {
    let gauges = rig.engine.gauges(rig.now);
    (gauges.retrying, gauges.crowded, gauges.webhooks_held_back)
}

#[test]
fn a_webhook_that_fails_makes_no_first_attempts_in_a_crowd_and_its_retries_keep_their_schedule() {
    let (mut rig, effects) = rig(16);
    let went = fail_all(&mut rig, effects);
    assert_eq!(went, (0..16).collect::<Vec<_>>());
    assert_eq!(retrying(&mut rig), (16, true, 1));
    let effects = rig.after(1001, vec![]);
    let again: Vec<_> = sends(&effects).iter().map(|sent| (sent.2, sent.3)).collect();
    assert_eq!(again.len(), 2);
    assert!(again.iter().all(|(place, number)| *place < 16 && *number == 2), "{again:?}");
}

#[test]
fn a_healthy_webhook_notices_nothing_of_a_crowd() {
    let (mut rig, effects) = rig(16);
    fail_all(&mut rig, effects);
    for place in 100..150 {
        let effects = rig.step(vec![accepted(2, place)]);
        let [(ticket, 2, at, 1)] = sends(&effects)[..] else { panic!("{effects:?}") };
        assert_eq!(at, place);
        rig.step(vec![finished(ticket, Outcome::Delivered, Blame::Receiver)]);
    }
    assert_eq!(retrying(&mut rig), (16, true, 1));
}

#[test]
fn one_that_begins_to_fail_in_a_crowd_is_held_back_at_its_cap() {
    let (mut rig, effects) = rig(16);
    fail_all(&mut rig, effects);
    let effects = rig.step((100..150).map(|place| accepted(2, place)).collect());
    assert_eq!(fail_all(&mut rig, effects), [100, 101]);
    assert_eq!(retrying(&mut rig), (18, true, 2));
}

#[test]
fn the_crowd_is_over_when_an_eighth_is_free_and_then_first_attempts_go_on() {
    let (mut rig, effects) = rig(16);
    fail_all(&mut rig, effects);
    let cancel = |place| cancel_of(key(1, place));
    let effects = rig.step(vec![cancel(0), cancel(1)]);
    assert_eq!((sends(&effects), retrying(&mut rig)), (vec![], (14, true, 1)));
    let effects = rig.step(vec![cancel(2)]);
    assert_eq!(sends(&effects).iter().map(|sent| sent.2).collect::<Vec<_>>(), [16, 17]);
    assert_eq!(retrying(&mut rig), (13, false, 0));
    // The last two begin while fifteen wait: what is under way when it fills up comes on top.
    assert_eq!(fail_all(&mut rig, effects), [16, 17, 18, 19]);
    assert_eq!(retrying(&mut rig), (17, true, 1));
}

#[test]
fn its_own_retries_ending_let_a_webhook_go_on_though_it_is_still_crowded() {
    let (mut rig, effects) = rig(16);
    fail_all(&mut rig, effects);
    let effects = rig.step((100..150).map(|place| accepted(2, place)).collect());
    let went = fail_all(&mut rig, effects);
    let cancels = went.into_iter().map(|place| cancel_of(key(2, place)));
    let effects = rig.step(cancels.collect());
    assert_eq!(sends(&effects).len(), 2, "{effects:?}");
    assert!(sends(&effects).iter().all(|(_, webhook, ..)| *webhook == 2), "{effects:?}");
    assert_eq!(retrying(&mut rig), (16, true, 1));
}

#[test]
fn what_is_too_old_makes_room() {
    let (mut rig, effects) = rig(16);
    fail_all(&mut rig, effects);
    let off = LaneSettings { enabled: false, ..lane(1) };
    rig.step(vec![set(1, off)]);
    rig.after(DAY + 1000, vec![]);
    rig.rest();
    assert_eq!(retrying(&mut rig), (0, false, 0));
}

#[test]
fn a_higher_limit_ends_the_crowd_at_once_and_a_lower_one_begins_it() {
    let (mut rig, effects) = rig(16);
    fail_all(&mut rig, effects);
    let limit = |max_retrying| {
        let webhook_max_in_flight = 2;
        let settings = Settings { max_retrying, webhook_max_in_flight, ..settings() };
        Input::SettingsChanged(Box::new(settings))
    };
    let effects = rig.step(vec![limit(20)]);
    assert_eq!(sends(&effects).len(), 2);
    assert_eq!(retrying(&mut rig), (16, false, 0));
    rig.step(vec![limit(16)]);
    assert_eq!(retrying(&mut rig), (16, true, 1));
}

#[test]
fn what_was_waiting_for_a_retry_before_the_start_is_rebuilt_beyond_the_limit() {
    let mut rig = Rig::new(|settings| settings.max_retrying = 16);
    let resumed = |place| Input::Resumed {
        key: key(1, place),
        began: START,
        attempts: 1,
        round_attempts: 1,
        due: START + 1000,
    };
    let mut inputs = vec![set(1, lane(1)), accepted(1, 0)];
    inputs.extend((1..100).map(resumed));
    inputs.push(accepted(1, 100));
    assert_eq!(sends(&rig.step(inputs)), [], "it is crowded at once");
    assert_eq!(retrying(&mut rig), (99, true, 1));
    let effects = rig.after(1001, vec![]);
    assert_eq!(sends(&effects).len(), 10, "the retries go when they are due");
}

#[test]
fn a_replay_finds_no_room_where_its_own_webhook_fills_the_crowd() {
    let (mut rig, effects) = rig(16);
    let room = |rig: &Rig| [1, 2, 9].map(|no| rig.engine.has_room(WebhookNo(no)));
    assert_eq!(room(&rig), [true; 3]);
    fail_all(&mut rig, effects);
    // Nobody knows webhook 9: its deliveries are canceled, which needs no room.
    assert_eq!(room(&rig), [false, true, true]);
    let replay = |place| Input::Replay { key: key(2, place), attempts: 6 };
    rig.step(vec![replay(201), replay(202), replay(203), replay(204)]);
    // Two of them are under way, and two wait.
    assert_eq!(room(&rig), [false, false, true]);
}
