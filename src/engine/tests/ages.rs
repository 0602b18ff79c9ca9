//! How old what waits is, and that it expires in time.

use super::*;

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

/// A retry of an event that was accepted at the start. Webhook 9's event says when that was.
fn resumed(webhook: u32, place: u64, due: Millis) -> Input {
    let key = key(webhook, place);
    Input::Resumed { key, began: START, attempts: 1, round_attempts: 1, due: START + due }
}

fn younger(webhook: u32, place: u64, at: Millis) -> Input {
    Input::Accepted { key: key(webhook, place), accepted_at: START + at }
}

#[test]
fn the_first_of_those_that_are_due_expires_in_time_though_it_came_after_a_younger_one() {
    let mut rig = Rig::new(|_| {});
    let off = |webhook| set(webhook, LaneSettings { enabled: false, ..lane(1) });
    rig.step(vec![off(1), off(9), accepted(9, 1), resumed(1, 2, 3_000_000)]);
    // A younger one waits first, and its age is watched.
    rig.after(2_000_000, vec![younger(1, 3, 2_000_000)]);
    let expected = [(1, DAY + 1000), (2, DAY + 1000), (3, DAY + 2_001_000)];
    let mut expired = expiries(&mut rig);
    expired.sort();
    assert_eq!(expired, expected);
}

#[test]
fn timers_that_fire_together_do_not_take_each_others_places() {
    let mut rig = Rig::new(|_| {});
    let off = |webhook| set(webhook, LaneSettings { enabled: false, ..lane(1) });
    let far = Input::Resumed {
        key: key(3, 2),
        began: START,
        attempts: 7,
        round_attempts: 1,
        due: START + 99 * DAY,
    };
    rig.step(vec![off(1), off(2), off(3), off(9), accepted(9, 1), far]);
    // In one step: the retry of 2 comes due, and its age is to be watched; that of 1 comes due, older
    // than what waited there; and the watch over that ends.
    let end = DAY + 2_001_000;
    rig.step(vec![resumed(2, 3, end - 2), resumed(1, 4, end - 1)]);
    rig.after(2_000_000, vec![younger(1, 5, 2_000_000)]);
    rig.after(end - 2_000_000 - 5, vec![]);
    rig.rest();
    assert_eq!(rig.engine.gauges(rig.now).retrying, 3, "they are not due yet");
    rig.after(5, vec![]);
    rig.rest();
    let left = Gauges { retrying: 1, ..Gauges::default() };
    assert_eq!(rig.engine.gauges(rig.now), left, "all but the far one have expired");
}

#[test]
fn nothing_is_accepted_after_it_is_due_whatever_the_marks_say() {
    let mut rig = Rig::new(|_| {});
    rig.now += DAY;
    // The wall clock was ahead when the first one was accepted: it counts as accepted now.
    let ahead = younger(1, 1, 2 * DAY);
    let off = LaneSettings { enabled: false, ..lane(1) };
    rig.step(vec![set(1, off), ahead, resumed(1, 2, 5_000)]);
    assert_eq!(expiries(&mut rig), [(2, DAY + 6_000), (1, 2 * DAY + 1000)]);
}
