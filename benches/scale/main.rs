//! Large numbers: what a million retries, ten million waiting deliveries and a restart cost.
//!
//! The gateway is the real binary, the receivers and the producers are processes and threads beside
//! it. A line of JSON for each figure, with `must`, what the project has set itself, and whether it
//! was `reached`. How to read the rest: `benches/README.md`.
//!
//! ```text
//! cargo bench --bench scale                                # all but the cell of ten million
//! cargo bench --bench scale -- --cell retries              # one of them
//! cargo bench --bench scale -- --cell waiting              # ten million; takes minutes and 6 GB
//! cargo bench --bench scale -- --cell waiting --deliveries 2000000
//! cargo bench --bench scale -- --gateway PATH              # another build of the gateway
//! cargo bench --bench scale -- --dir /dev/shm              # without the disk
//! cargo bench --bench scale -- --quick                     # few deliveries: does it still run?
//! ```

mod options;
mod restart;
mod retries;
#[path = "../rig/mod.rs"]
mod rig;
mod script;
mod waiting;
mod world;

use anyhow::Context as _;

use options::Options;
use script::Scripted;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    match arguments.split_first() {
        Some((role, rest)) if role == "role-receiver" => rig::receiver::role(rest, Scripted::new()),
        _ => {
            for (cell, options) in options::chosen(&arguments)? {
                (cell.run)(&options).with_context(|| cell.name)?;
            }
            Ok(())
        }
    }
}

/// What is measured together.
#[derive(Clone, Copy, Debug)]
struct Cell {
    name: &'static str,
    /// The issue's number.
    deliveries: u64,
    /// Prints its figures.
    run: fn(&Options) -> anyhow::Result<()>,
}

const CELLS: [Cell; 4] = [
    Cell { name: "retries", deliveries: 1_000_000, run: retries::run },
    Cell { name: "restart", deliveries: 1_000_000, run: restart::pending },
    Cell { name: "restart-retrying", deliveries: 1_000_000, run: restart::retrying },
    Cell { name: WAITING, deliveries: 10_000_000, run: waiting::run },
];

/// This one takes minutes and gigabytes; it must be asked for.
const WAITING: &str = "waiting";
