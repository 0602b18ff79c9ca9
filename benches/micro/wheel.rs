//! Timers by the thousand, the hundred thousand and the ten million: ours and two others.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use criterion::{Criterion, SamplingMode};
use senderz_gateway::clock;

use crate::{
    rivals::{Sorted, Tokio},
    work::timers::{Load, Ours, Timers},
};

/// Insertions and cancellations between two looks at the clock.
const BATCH: u64 = 100;

/// Filling ten million takes long and up to two gigabytes, so it is done only for someone who
/// names it.
const SIZES: [(&str, usize); 3] = [("1k", 1_000), ("100k", 100_000), ("10M", 10_000_000)];
const LARGE: &str = "10M";

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = Rc::new(runtime.enable_time().build().expect("a runtime"));
    let _inside = runtime.enter();
    let asked_for_large = std::env::args().any(|argument| argument.contains(LARGE));
    for (size, entries) in SIZES.into_iter().filter(|(size, _)| *size != LARGE || asked_for_large) {
        cells(criterion, "ours", size, || Load::new(Ours::new(), entries));
        cells(criterion, "delay_queue", size, || Load::new(Tokio::new(&runtime, entries), entries));
        cells(criterion, "btree_map", size, || Load::new(Sorted::default(), entries));
    }
}

/// What so many entries cost.
type Way<Q> = fn(&mut Load<Q>, u64) -> Duration;

/// Filled once, by the first of the three cells that runs.
fn cells<Q: Timers>(
    criterion: &mut Criterion,
    queue: &str,
    size: &str,
    fill: impl Fn() -> Load<Q>,
) {
    let mut filled = None;
    let mut group = criterion.benchmark_group("wheel");
    // Where a millisecond is a real one, a few of them must do.
    group.sampling_mode(SamplingMode::Flat).measurement_time(Duration::from_millis(300));
    let ways: [(&str, Way<Q>); 3] = [("insert", insert), ("cancel", cancel), ("tick", tick)];
    for (name, way) in ways {
        group.bench_function(format!("{name}/{size}/{queue}"), |b| {
            let load = filled.get_or_insert_with(&fill);
            b.iter_custom(|count| way(load, count));
        });
    }
    group.finish();
}

fn insert<Q: Timers>(load: &mut Load<Q>, count: u64) -> Duration {
    in_batches(count, |batch| {
        let picked = load.pick(batch);
        load.cancel(&picked);
        timed(|| load.insert(&picked))
    })
}

fn cancel<Q: Timers>(load: &mut Load<Q>, count: u64) -> Duration {
    in_batches(count, |batch| {
        let picked = load.pick(batch);
        let spent = timed(|| load.cancel(&picked));
        load.insert(&picked);
        spent
    })
}

/// Per entry that falls due; an empty millisecond is part of it.
fn tick<Q: Timers>(load: &mut Load<Q>, count: u64) -> Duration {
    let (mut taken, mut spent) = (0, Duration::ZERO);
    while taken < count {
        load.pass();
        let began: Instant = clock::instant();
        taken += load.take_due() as u64;
        spent += began.elapsed();
        load.put_back();
    }
    // The last millisecond may have had more than were asked for.
    spent.mul_f64(count as f64 / taken as f64)
}

fn in_batches(count: u64, mut batch: impl FnMut(usize) -> Duration) -> Duration {
    let mut left = count;
    let mut spent = Duration::ZERO;
    while left > 0 {
        let now = left.min(BATCH);
        spent += batch(now as usize);
        left -= now;
    }
    spent
}

fn timed(work: impl FnOnce()) -> Duration {
    let began = clock::instant();
    work();
    began.elapsed()
}
