//! Where an event goes: what ingest asks for each event, and what is worked out when a tenant's
//! webhooks change.

use criterion::Criterion;

use crate::work::{directory::Tenants, rebuild_routes};

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut tenants = None;
    criterion.bench_function("router/lookup", |b| {
        let tenants = tenants.get_or_insert_with(|| Tenants::new(1000));
        b.iter(|| tenants.look_up());
    });
    criterion.bench_function("router/rebuild", |b| b.iter(rebuild_routes));
}
