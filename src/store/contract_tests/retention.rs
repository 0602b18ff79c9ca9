//! Retention: whole blocks, oldest first, never an open delivery.

use super::*;
use crate::{delivery::FailReason, id::Place, store::RecoveredState};

suite!(
    settled_events_are_removed_after_their_age,
    settled_events_are_removed_when_the_logs_are_large,
    open_deliveries_and_what_follows_are_kept,
    disabled_routes_hold_nothing,
    ids_go_on_after_everything_was_removed,
    a_replay_of_a_removed_event_holds_nothing,
);

fn soon(settings: &mut Settings) {
    settings.retention_age = Duration::ZERO;
}

fn settled_events_are_removed_after_their_age(backend: &Backend) {
    let running = backend.start_with(soon);
    let keys: Vec<_> = (0..30).map(|n| running.accept(event(&format!("{n}"), &[1]))[0]).collect();
    running.record(keys.iter().map(|key| delivered(*key)).collect());
    eventually("everything is removed", || running.count_events() == 0);
    assert_eq!(running.entries(keys[0]), vec![]);
    let gone = running.runtime.block_on(running.store.block(keys[0].place.block())).unwrap();
    assert_eq!(gone, None);
    running.close();
    let running = backend.start();
    assert_eq!(running.count_events(), 0);
    assert_eq!(running.recovered, vec![]);
    running.close();
}

fn settled_events_are_removed_when_the_logs_are_large(backend: &Backend) {
    let running = backend.start_with(|settings| settings.retention_bytes = 100_000);
    for n in 0..100 {
        let key = running.accept(event(&format!("{n:0>5000}"), &[1]))[0];
        running.record(vec![delivered(key)]);
    }
    eventually("the logs are small", || running.count_events() <= 20);
    assert!(running.count_events() >= 10, "no more is removed than must be");
    running.close();
}

fn open_deliveries_and_what_follows_are_kept(backend: &Backend) {
    let running = backend.start_with(soon);
    let first = running.accept(event("settled", &[1]))[0];
    let open = running.accept(event("open", &[1, 2]));
    let after = running.accept(event("after", &[1]))[0];
    running.record(vec![delivered(first), delivered(open[0]), delivered(after)]);
    eventually("the first is removed", || running.count_events() == 2);
    running.close();
    let running = backend.start_with(soon);
    let expected = vec![(open[0], RecoveredState::Settled), (open[1], RecoveredState::Fresh)];
    let told: Vec<_> = running.recovered.iter().map(|r| (r.key, r.state)).collect();
    assert_eq!(told, expected);
    // A retry keeps it, its end frees it and what stood behind it.
    running.record(vec![answered(open[1], 1, 500, Verdict::RetryAt(9))]);
    running.accept(event("newer", &[]));
    assert!(running.count_events() >= 2);
    assert_eq!(running.entries(open[1]).len(), 1);
    running.record(vec![answered(open[1], 2, 500, Verdict::Failed(FailReason::AttemptsExhausted))]);
    eventually("all are removed", || running.count_events() == 0);
    running.close();
}

fn disabled_routes_hold_nothing(backend: &Backend) {
    let running = backend.start_with(soon);
    let routes: Arc<[Route]> = vec![route(1, false), route(2, true)].into();
    let keys = running.accept(NewEvent { routes, ..event("x", &[]) });
    running.record(vec![delivered(keys[1])]);
    eventually("it is removed", || running.count_events() == 0);
    running.close();
}

fn ids_go_on_after_everything_was_removed(backend: &Backend) {
    let mut last = Place::MIN;
    for round in 0..4 {
        let running = backend.start_with(soon);
        let key = running.accept(event("x", &[1]))[0];
        assert!(round == 0 || key.place > last, "{:?} after {last:?}", key.place);
        last = key.place;
        running.record(vec![delivered(key)]);
        eventually("it is removed", || running.count_events() == 0);
        running.abandon();
    }
}

fn a_replay_of_a_removed_event_holds_nothing(backend: &Backend) {
    let running = backend.start_with(soon);
    let gone = running.accept(event("x", &[1]))[0];
    running.record(vec![delivered(gone)]);
    eventually("it is removed", || running.count_events() == 0);
    running.record(vec![decision(gone, 5, Verdict::Reopened)]);
    let next = running.accept(event("y", &[1]))[0];
    running.record(vec![delivered(next)]);
    eventually("the next one is removed too", || running.count_events() == 0);
    running.close();
    let running = backend.start();
    assert_eq!(running.recovered, vec![]);
    running.close();
}
