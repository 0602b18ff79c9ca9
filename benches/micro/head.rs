//! What is done with a payload's bytes: the check when it comes, the signatures (beside the bare
//! hashing that they cannot do without) and the request when it goes.

use criterion::{BenchmarkId, Criterion, Throughput};

use crate::{
    SIZES,
    work::{Hash, Head, Parse, Sign},
};

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("parse");
    for size in SIZES {
        let parse = Parse::new(size);
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::from_parameter(size), |b| b.iter(|| parse.run()));
    }
    group.finish();
    let mut group = criterion.benchmark_group("hash");
    for size in SIZES {
        let hash = Hash::new(size);
        group.throughput(Throughput::Bytes(2 * size as u64));
        group.bench_function(BenchmarkId::from_parameter(size), |b| b.iter(|| hash.run()));
    }
    group.finish();
    let mut group = criterion.benchmark_group("sign");
    for size in SIZES {
        let mut sign = Sign::new(size);
        // Both schemes hash all of it.
        group.throughput(Throughput::Bytes(2 * size as u64));
        group.bench_function(BenchmarkId::from_parameter(size), |b| b.iter(|| sign.run()));
    }
    group.finish();
    let head = Head::new(512);
    criterion.bench_function("head/512", |b| b.iter(|| head.run()));
}
