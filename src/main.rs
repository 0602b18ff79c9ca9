//! The binary: everything is in the library, so that tests reach it too.

use std::process::ExitCode;

/// A delivery makes and drops a few dozen small objects; this allocator makes that cheaper than the
/// system's does (`cargo bench --bench throughput` shows by how much).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    senderz_gateway::cli::main()
}
