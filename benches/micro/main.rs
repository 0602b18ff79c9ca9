//! What single parts cost, in nanoseconds: `cargo bench --bench micro`. benches/README.md says how
//! to read it.
//!
//! ```text
//! cargo bench --bench micro                  # all but the cells of ten million entries
//! cargo bench --bench micro -- wheel         # only names with this in them
//! cargo bench --bench micro -- 10M           # the large cells, which run only where asked for
//! cargo bench --bench micro -- --test        # everything once: does it still run?
//! ```

mod blocks;
mod engine;
mod head;
mod pool;
mod rivals;
mod router;
mod wheel;
#[path = "../work/mod.rs"]
mod work;

use std::time::Duration;

use criterion::Criterion;

/// The binary's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Body sizes, bytes.
const SIZES: [usize; 3] = [512, 4 << 10, 64 << 10];

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(30)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    head::bench(&mut criterion);
    blocks::bench(&mut criterion);
    engine::bench(&mut criterion);
    router::bench(&mut criterion);
    pool::bench(&mut criterion);
    wheel::bench(&mut criterion);
    criterion.final_summary();
}
