//! The whole engine in virtual time: thousands of small worlds, each decided by its seed.
//!
//! A world (`world.rs`) has webhooks with limits, receivers with moods, a store, and things that
//! happen to them (`plan.rs`); every effect of the engine is judged by an oracle that knows the
//! published rules (`oracle.rs`, `rest.rs`). A seed that fails is printed with the command that
//! runs it alone and shows every step. `SIMULATION_SEEDS` sets how many are run.

mod lane;
mod logs;
mod oracle;
mod plan;
mod receiver;
mod rest;
mod rng;
mod tally;
mod world;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use crate::{tally::Tally, world::World};

const SEEDS: u64 = 5_000;

#[test]
fn every_delivery_ends_once_and_no_rule_is_broken_on_the_way() {
    if let Some(seed) = setting("SIMULATION_SEED") {
        World::run(seed, false, true);
        return;
    }
    let seeds = setting("SIMULATION_SEEDS").unwrap_or(SEEDS);
    let (next, failed) = (AtomicU64::new(0), AtomicBool::new(false));
    let sum = Mutex::new(Tally::default());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !failed.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        break;
                    }
                    match catch_unwind(AssertUnwindSafe(|| World::run(seed, false, false))) {
                        Ok(world) => sum.lock().expect("nobody panics in it").add(&world.tally),
                        Err(_) => {
                            failed.store(true, Ordering::Relaxed);
                            eprintln!("to see seed {seed} fail step by step:");
                            eprintln!("SIMULATION_SEED={seed} cargo test --test simulation");
                        }
                    }
                }
            });
        }
    });
    assert!(!failed.into_inner(), "a seed failed; see above");
    let sum = sum.into_inner().expect("nobody panicked in it");
    println!("{seeds} seeds: {sum:?}");
    for (what, count) in sum.met() {
        assert!(count >= seeds / 20, "{what} happened only {count} times in {seeds} seeds");
    }
}

#[test]
fn the_same_seed_gives_the_same_effects() {
    for seed in 0..100 {
        let first = World::run(seed, true, false).trace.expect("it was asked for");
        let second = World::run(seed, true, false).trace.expect("it was asked for");
        assert!(!first.is_empty());
        let differing = first.iter().zip(&second).find(|(one, other)| one != other);
        assert_eq!(differing, None, "seed {seed}");
        assert_eq!(first.len(), second.len(), "seed {seed}");
    }
}

#[expect(clippy::disallowed_methods, reason = "a test's own settings")]
fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}
