//! Replays that have no hurry.

use super::*;

fn later(place: u64) -> Input {
    Input::ReplayLater { key: key(1, place), attempts: 6 }
}

fn capped(cap: u32) -> Input {
    set(1, LaneSettings { max_in_flight: Some(cap), ..lane(1) })
}

#[test]
fn they_go_behind_what_is_due_and_what_is_fresh_and_leave_half_of_the_slots() {
    let mut rig = Rig::new(|_| {});
    let replay = Input::Replay { key: key(1, 3), attempts: 6 };
    let off = set(1, LaneSettings { enabled: false, ..lane(1) });
    rig.step(vec![off, later(1), later(2), later(4), accepted(1, 9), replay]);
    assert_eq!(rig.rest(), [], "a disabled webhook is sent nothing");
    let mut effects = rig.step(vec![capped(4)]);
    effects.append(&mut rig.rest());
    let sent: Vec<_> = sends(&effects).iter().map(|(_, _, place, no)| (*place, *no)).collect();
    assert_eq!(sent, [(3, 7), (9, 1), (1, 7), (2, 7)], "one of four waits");
    assert_eq!(rig.engine.later_room(WebhookNo(1)), 3, "one of them waits");
}

#[test]
fn no_more_are_taken_than_may_be_under_way_those_that_wait_for_a_retry_included() {
    let mut rig = Rig::new(|_| {});
    let webhook = WebhookNo(1);
    assert_eq!(rig.engine.later_room(webhook), 1, "an unknown one is canceled at once");
    let sent = sends(&rig.step(vec![capped(2), later(1)]));
    assert_eq!((sent.len(), rig.engine.later_room(webhook)), (1, 2));
    rig.step(vec![finished(sent[0].0, AGAIN, Blame::Receiver)]);
    assert_eq!(rig.engine.later_room(webhook), 1, "its retry takes room");
    rig.step(vec![set(1, LaneSettings { enabled: false, ..lane(1) })]);
    assert_eq!(rig.engine.later_room(webhook), 0, "a disabled one takes none");
}

#[test]
fn they_are_canceled_expire_and_end_with_their_webhook() {
    let mut rig = Rig::new(|_| {});
    let off = set(1, LaneSettings { enabled: false, ..lane(1) });
    rig.step(vec![off, later(1), later(2), later(3)]);
    assert_eq!(rig.engine.gauges(rig.now).retrying, 3);
    let effects = rig.step(vec![cancel_of(key(1, 2))]);
    assert_eq!(effects, [decided(1, 2, Verdict::Canceled(CancelReason::Requested))]);
    let gone = Verdict::Canceled(CancelReason::WebhookDeleted);
    let effects = rig.step(vec![Input::WebhookRemoved { webhook: WebhookNo(1) }]);
    assert_eq!(effects, [decided(1, 1, gone), decided(1, 3, gone)]);
    assert_eq!(rig.step(vec![later(4)]), [decided(1, 4, gone)]);

    let off = set(2, LaneSettings { enabled: false, ..lane(1) });
    let waits = Input::ReplayLater { key: key(2, 5), attempts: 6 };
    rig.step(vec![off, waits]);
    let effects = rig.after(DAY + 1_000, vec![]);
    assert_eq!(effects, [decided(2, 5, Verdict::Failed(FailReason::Expired))]);
}
