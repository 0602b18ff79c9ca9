//! Full blocks of both logs; the rate is per event and per entry.

use criterion::{Criterion, Throughput};

use crate::work::blocks::{ENTRIES, EVENTS, EntryBlock, EventsBlock};

pub(crate) fn bench(criterion: &mut Criterion) {
    let block = EventsBlock::new();
    let mut group = criterion.benchmark_group("events");
    group.throughput(Throughput::Elements(EVENTS as u64));
    group.bench_function("encode", |b| b.iter(|| block.encode()));
    group.bench_function("decode", |b| b.iter(|| block.decode()));
    group.finish();
    let block = EntryBlock::new();
    let mut group = criterion.benchmark_group("entries");
    group.throughput(Throughput::Elements(ENTRIES as u64));
    group.bench_function("encode", |b| b.iter(|| block.encode()));
    group.bench_function("decode", |b| b.iter(|| block.decode()));
    group.finish();
}
