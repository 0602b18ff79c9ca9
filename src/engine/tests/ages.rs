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
