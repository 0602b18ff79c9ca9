//! A step of the engine; the rate is per delivery.

use criterion::{BenchmarkId, Criterion, Throughput};

use crate::work::turns::{Fate, PER_STEP, Turns};

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("engine");
    group.throughput(Throughput::Elements(u64::from(PER_STEP)));
    let cells = [
        ("delivered", Fate::Delivered, 1),
        ("delivered", Fate::Delivered, 1_000),
        ("delivered", Fate::Delivered, 100_000),
        ("retried", Fate::RetriedOnce, 1_000),
    ];
    for (name, fate, webhooks) in cells {
        let mut turns = None;
        group.bench_function(BenchmarkId::new(name, webhooks), |b| {
            let turns = turns.get_or_insert_with(|| Turns::new(webhooks, fate));
            b.iter(|| turns.step());
        });
    }
    group.finish();
}
