//! Lanes whose backlog is mostly in the log.

use super::*;

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
    let cancel = || vec![cancel_of(key(1, canceled))];
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
    let gone = cancel_of(key(1, Place::new(8, 0).as_u64()));
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
fn what_retention_took_from_the_log_is_not_counted_as_waiting() {
    let (mut rig, effects) = spilled(10);
    drain_lane(&mut rig, effects);
    assert_eq!(rig.engine.gauges(rig.now).spilled, 6);
    let effects = rig.step(vec![refilled(&[13, 14], None)]);
    assert_eq!(drain_lane(&mut rig, effects).0, [13, 14]);
    assert_eq!(rig.engine.gauges(rig.now), Gauges::default());
}
