//! What opening tells: every delivery that is not settled, and where it stands.

use super::*;
use crate::{
    delivery::{CancelReason, FailReason},
    id::Place,
    store::RecoveredState::{self, Fresh, Resumed, Settled},
};

suite!(
    fresh_deliveries_are_told_in_place_order,
    settled_deliveries_are_subtracted,
    disabled_routes_are_never_told,
    attempted_deliveries_resume_where_they_were,
    a_reopened_delivery_survives_a_restart,
    a_reopened_delivery_of_an_old_block_survives_a_restart,
    a_replay_counts_its_own_round,
    every_feed_is_told_the_same,
    many_deliveries_in_every_state_recover_exactly,
    a_delivery_settled_twice_hides_no_other,
);

/// What was told of each delivery, by place and webhook.
fn states(running: &Running) -> Vec<(Place, u32, RecoveredState)> {
    running.recovered.iter().map(|r| (r.key.place, r.key.webhook.0, r.state)).collect()
}

fn retry(key: DeliveryKey, number: u16, due: Millis) -> Entry {
    answered(key, number, 500, Verdict::RetryAt(due))
}

fn reopen(key: DeliveryKey, at: Millis) -> Entry {
    decision(key, at, Verdict::Reopened)
}

fn fresh_deliveries_are_told_in_place_order(backend: &Backend) {
    let running = backend.start();
    let mut expected = Vec::new();
    for n in 0..40 {
        let accepted = running.append(vec![event(&"x".repeat(n * 50), &[2, 1])]).unwrap()[0].id;
        expected.push((accepted.place, 2, Fresh));
        expected.push((accepted.place, 1, Fresh));
    }
    let killed = backend.killed();
    running.close();
    for backend in [backend, &killed] {
        let running = backend.start();
        assert_eq!(states(&running), expected);
        assert!(running.recovered.iter().all(|r| r.accepted_at > 1_700_000_000_000));
        running.close();
    }
}

fn settled_deliveries_are_subtracted(backend: &Backend) {
    let running = backend.start();
    let a = running.accept(event("a", &[1, 2]));
    let b = running.accept(event("b", &[1, 2, 3]));
    let c = running.accept(event("c", &[1]));
    running.record(vec![delivered(a[0]), delivered(b[1])]);
    running.record(vec![
        decision(a[1], 5, Verdict::Canceled(CancelReason::Requested)),
        answered(b[0], 6, 500, Verdict::Failed(FailReason::AttemptsExhausted)),
    ]);
    let killed = backend.killed();
    running.abandon();
    for backend in [backend, &killed] {
        let running = backend.start();
        let expected = vec![
            (b[0].place, 1, Settled),
            (b[1].place, 2, Settled),
            (b[2].place, 3, Fresh),
            (c[0].place, 1, Fresh),
        ];
        assert_eq!(states(&running), expected, "all of a is settled, so it is not told");
        running.close();
    }
}

fn disabled_routes_are_never_told(backend: &Backend) {
    let running = backend.start();
    let routes: Arc<[Route]> = vec![route(1, false), route(2, true), route(3, false)].into();
    let some = running.accept(NewEvent { routes, ..event("x", &[]) });
    let none: Arc<[Route]> = vec![route(1, false)].into();
    running.accept(NewEvent { routes: none, ..event("y", &[]) });
    running.accept(event("nobody wants it", &[]));
    running.close();
    let running = backend.start();
    assert_eq!(states(&running), vec![(some[1].place, 2, Fresh)]);
    running.record(vec![delivered(some[1])]);
    running.close();
    assert_eq!(states(&backend.start()), vec![]);
}

fn attempted_deliveries_resume_where_they_were(backend: &Backend) {
    let running = backend.start();
    let keys = running.accept(event("x", &[1, 2]));
    running.record(vec![retry(keys[0], 1, 1_000), retry(keys[1], 1, 2_000)]);
    running.record(vec![retry(keys[0], 2, 3_000)]);
    running.close();
    for _ in 0..2 {
        let running = backend.start();
        let resumed = |attempts, due| Resumed { attempts, round_attempts: attempts, due };
        let place = keys[0].place;
        assert_eq!(
            states(&running),
            vec![(place, 1, resumed(2, 3_000)), (place, 2, resumed(1, 2_000))]
        );
        running.close();
    }
}

fn a_reopened_delivery_survives_a_restart(backend: &Backend) {
    let running = backend.start();
    let key = running.accept(event("x", &[1]))[0];
    running.record(vec![answered(key, 6, 500, Verdict::Failed(FailReason::AttemptsExhausted))]);
    running.record(vec![reopen(key, 777)]);
    let killed = backend.killed();
    running.close();
    for backend in [backend, &killed] {
        let running = backend.start();
        let state = Resumed { attempts: 6, round_attempts: 0, due: 777 };
        assert_eq!(running.recovered, vec![Recovered { key, accepted_at: 777, state }]);
        running.record(vec![answered(key, 7, 200, Verdict::Delivered)]);
        running.close();
        let running = backend.start();
        assert_eq!(running.recovered, vec![]);
        running.close();
        if let Backend::Memory(_) = backend {
            return; // both are the same memory
        }
    }
}

/// The low watermark has long passed the block when the replay comes.
fn a_reopened_delivery_of_an_old_block_survives_a_restart(backend: &Backend) {
    let running = backend.start();
    let old = running.accept(event("old", &[1]))[0];
    running.record(vec![delivered(old)]);
    for n in 0..50 {
        let key = running.accept(event(&format!("{n}"), &[1]))[0];
        running.record(vec![delivered(key)]);
    }
    running.close();
    let running = backend.start();
    assert_eq!(running.recovered, vec![]);
    let new = running.accept(event("new", &[1]))[0];
    running.record(vec![reopen(old, 99)]);
    let killed = backend.killed();
    running.abandon();
    let running = killed.start();
    let state = Resumed { attempts: 1, round_attempts: 0, due: 99 };
    assert_eq!(states(&running), vec![(old.place, 1, state), (new.place, 1, Fresh)]);
    running.close();
}

fn a_replay_counts_its_own_round(backend: &Backend) {
    let running = backend.start();
    let key = running.accept(event("x", &[1]))[0];
    running.record(vec![
        retry(key, 1, 10),
        answered(key, 2, 410, Verdict::Failed(FailReason::AttemptsExhausted)),
        reopen(key, 50),
        retry(key, 3, 60),
    ]);
    running.close();
    let running = backend.start();
    let state = Resumed { attempts: 3, round_attempts: 1, due: 60 };
    assert_eq!(running.recovered, vec![Recovered { key, accepted_at: 50, state }]);
    running.close();
}

fn every_feed_is_told_the_same(backend: &Backend) {
    let running = backend.start();
    let keys = running.accept(event("x", &[1, 2, 3]));
    running.close();
    let opened = match backend {
        Backend::Memory(memory) => memory.open(settings()).unwrap(),
        Backend::Sled(dir) => {
            sled::open(Settings { data_dir: dir.path().join("data"), ..settings() }).unwrap()
        }
    };
    let Opened { store, feeds, threads, .. } = opened;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..3).map(|_| mpsc::channel(100)).unzip();
    feeds.send(senders).unwrap();
    runtime.block_on(store.append(vec![event("y", &[1])])).unwrap();
    for mut feed in receivers {
        let mut told = Vec::new();
        while let Ok(feed) = feed.try_recv() {
            told.push(match feed {
                Feed::Recovered(all) => format!("recovered {}", all.len()),
                Feed::RecoveryDone => "done".to_owned(),
                Feed::Block(block) => format!("block {}", block.number > keys[0].place.block()),
                Feed::Erased(_) => "erased".to_owned(),
            });
        }
        assert_eq!(told, ["recovered 3", "done", "block true"]);
    }
    drop(store);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

/// More than one stretch and, under test, many windows.
fn many_deliveries_in_every_state_recover_exactly(backend: &Backend) {
    let running = backend.start();
    let count = 1500;
    let events = (0..count).map(|n| event(&format!("{n:0>100}"), &[1, 2])).collect();
    let appended = running.append(events).unwrap();
    let (mut entries, mut expected) = (Vec::new(), Vec::new());
    for (n, appended) in appended.iter().enumerate() {
        let place = appended.id.place;
        for webhook in [1, 2] {
            let key = DeliveryKey { place, webhook: WebhookNo(webhook) };
            let what = if n < 400 { 1 } else { (n * 7 + webhook as usize * 3) % 5 };
            match what {
                0 => expected.push((key, Fresh)),
                1 => entries.push(delivered(key)),
                2 => {
                    entries.extend([retry(key, 1, 5), delivered(key)]);
                }
                3 => {
                    entries.push(retry(key, 1, 5));
                    expected.push((key, Resumed { attempts: 1, round_attempts: 1, due: 5 }));
                }
                _ => {
                    entries.extend([delivered(key), reopen(key, 9)]);
                    expected.push((key, Resumed { attempts: 1, round_attempts: 0, due: 9 }));
                }
            }
        }
    }
    // Interleaved, each delivery's own entries in order.
    for stretch in entries.chunks(97) {
        running.record(stretch.to_vec());
    }
    running.close();
    let running = backend.start();
    let open: Vec<_> = running
        .recovered
        .iter()
        .filter(|recovered| recovered.state != Settled)
        .map(|recovered| (recovered.key, recovered.state))
        .collect();
    assert_eq!(open, expected);
    assert!(running.recovered.is_sorted_by_key(|recovered| recovered.key.place));
    running.close();
}

/// Nobody should do that; if somebody does, no delivery may be lost for it.
fn a_delivery_settled_twice_hides_no_other(backend: &Backend) {
    let running = backend.start();
    let keys = running.accept(event("x", &[1, 2]));
    running.record(vec![delivered(keys[0]), delivered(keys[0])]);
    running.close();
    let running = backend.start();
    let place = keys[0].place;
    assert_eq!(states(&running), vec![(place, 1, Settled), (place, 2, Fresh)]);
    running.record(vec![delivered(keys[1]), delivered(keys[1])]);
    // The log tells that all of it has ended, whatever the count says.
    let killed = backend.killed();
    running.close();
    for backend in [backend, &killed] {
        let running = backend.start();
        assert_eq!(states(&running), vec![]);
        running.close();
    }
}
