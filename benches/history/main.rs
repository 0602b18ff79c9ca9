//! How long a page of the API takes, and whether it takes longer where there is more history.
//!
//! A store on disk is filled with attempts of 400 tenants with 10,000 webhooks; at each size a set
//! of pages of 50 is asked for over the API's router, in this process, one request after the other.
//! A line of JSON for each page and size, with `must`, what the project has set itself, and whether
//! it was `reached`. How to read the rest: `benches/README.md`.
//!
//! ```text
//! cargo bench --bench history                        # 100,000, a million and ten million attempts
//! cargo bench --bench history -- --attempts 1000000  # no more than that
//! cargo bench --bench history -- --without-index     # the same pages read from the logs
//! cargo bench --bench history -- --dir /dev/shm      # without the disk
//! cargo bench --bench history -- --quick             # few attempts: does it still run?
//! ```

mod cost;
mod fill;
mod options;
mod pages;
mod world;

use fill::Filling;
use options::Options;
use world::World;

/// The binary's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let options = Options::read(&arguments)?;
    let dir = tempfile::tempdir_in(&options.dir)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let world = runtime.block_on(World::open(dir.path(), &options))?;
    let mut filling = Filling::new(&world);
    for size in options.sizes() {
        runtime.block_on(filling.fill(&world, size))?;
        cost::print(dir.path(), filling.attempts)?;
        runtime.block_on(pages::measure(&world, &filling, &options))?;
    }
    runtime.block_on(world.close())
}
