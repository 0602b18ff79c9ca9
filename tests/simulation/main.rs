//! The whole engine in virtual time: thousands of small worlds, each decided by its seed.
//!
//! A world (`world.rs`) has webhooks with limits, receivers with moods, a store, and things that
//! happen to them (`plan.rs`); every effect of the engine is judged by an oracle that knows the
//! published rules (`oracle.rs`, `rest.rs`). A seed that fails is printed with the command that
//! runs it alone and shows every step. `SIMULATION_SEEDS` and `SIMULATION_DAYS` set how many are run.

mod lane;
mod logs;
mod oracle;
mod plan;
mod receiver;
mod rest;
mod rng;
mod tally;
mod trace;
mod world;

use std::{
    collections::HashSet,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use crate::{plan::Length, tally::Tally, world::World};

const SEEDS: u64 = 5_000;
/// Days are run twice each.
const DAYS: u64 = 500;

#[test]
fn every_delivery_ends_once_and_no_rule_is_broken_on_the_way() {
    if let Some(seed) = setting("SIMULATION_SEED") {
        World::run(seed, Length::Minutes, true);
        return;
    }
    let seeds = setting("SIMULATION_SEEDS").unwrap_or(SEEDS);
    let sum = Mutex::new(Tally::default());
    on_every_core(seeds, "SIMULATION_SEED", |seed| {
        let world = World::run(seed, Length::Minutes, false);
        sum.lock().expect("nobody panics in it").add(&world.tally);
    });
    let sum = sum.into_inner().expect("nobody panicked in it");
    println!("{seeds} seeds: {sum:?}");
    for (what, count) in sum.met() {
        assert!(count >= seeds / 20, "{what} happened only {count} times in {seeds} seeds");
    }
}

#[test]
fn through_a_whole_day_no_rule_is_broken_and_the_same_seed_gives_the_same_trace() {
    if let Some(seed) = setting("SIMULATION_DAY") {
        World::run(seed, Length::Day, true);
        return;
    }
    let days = setting("SIMULATION_DAYS").unwrap_or(DAYS);
    let (sum, traces) = (Mutex::new(Tally::default()), Mutex::new(HashSet::new()));
    let effects = AtomicU64::new(0);
    on_every_core(days, "SIMULATION_DAY", |seed| {
        let first = World::run(seed, Length::Day, false);
        let second = World::run(seed, Length::Day, false);
        assert_eq!(first.trace.hash(), second.trace.hash(), "two traces of seed {seed}");
        assert_eq!(first.trace.effects(), second.trace.effects(), "seed {seed}");
        effects.fetch_add(first.trace.effects(), Ordering::Relaxed);
        traces.lock().expect("nobody panics in it").insert(first.trace.hash());
        sum.lock().expect("nobody panics in it").add(&first.tally);
    });
    let sum = sum.into_inner().expect("nobody panicked in it");
    let traces = traces.into_inner().expect("nobody panicked in it").len() as u64;
    let effects = effects.into_inner();
    println!("{days} days, each twice: {effects} effects, {traces} different traces, {sum:?}");
    assert_eq!(traces, days, "another seed is another day");
    for what in ["breaker open", "restart", "held back", "replay", "attempts exhausted"] {
        let count = sum.count(what);
        assert!(count >= days, "{what} happened only {count} times in {days} days");
    }
}

/// Runs seeds from 0 on until one fails, and then says how to see that one alone.
fn on_every_core(seeds: u64, alone: &str, run: impl Fn(u64) + Sync) {
    let (next, failed) = (AtomicU64::new(0), AtomicBool::new(false));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !failed.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        break;
                    }
                    if catch_unwind(AssertUnwindSafe(|| run(seed))).is_err() {
                        failed.store(true, Ordering::Relaxed);
                        eprintln!("to see seed {seed} fail step by step:");
                        eprintln!("{alone}={seed} cargo test --test simulation");
                    }
                }
            });
        }
    });
    assert!(!failed.into_inner(), "a seed failed; see above");
}

#[expect(clippy::disallowed_methods, reason = "a test's own settings")]
fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}
