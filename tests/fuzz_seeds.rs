//! The fuzz targets' checks over their seeds, without a fuzzer: what fuzzing once found stays
//! found. `fuzz/README.md` says how to fuzz for real and how to add a target.

use std::{fs, path::Path};

#[path = "../fuzz/checks/address.rs"]
mod address;
#[path = "../fuzz/checks/batch.rs"]
mod batch;
#[path = "../fuzz/checks/block.rs"]
mod block;
#[path = "../fuzz/checks/config.rs"]
mod config;
#[path = "../fuzz/checks/headers.rs"]
mod headers;
#[path = "../fuzz/checks/idempotency.rs"]
mod idempotency;
#[path = "../fuzz/checks/key.rs"]
mod key;
#[path = "../fuzz/checks/log.rs"]
mod log;
#[path = "../fuzz/checks/payload.rs"]
mod payload;
#[path = "../fuzz/checks/query.rs"]
mod query;
#[path = "../fuzz/checks/response.rs"]
mod response;
#[path = "../fuzz/checks/signature.rs"]
mod signature;
#[path = "../fuzz/checks/url.rs"]
mod url;
#[path = "../fuzz/checks/world.rs"]
mod world;

struct Target {
    name: &'static str,
    check: fn(&[u8]),
    /// How many places of each seed are cut and changed in a plain run: fewer where a check opens
    /// a database, a connection or a file.
    places: usize,
}

const fn target(name: &'static str, check: fn(&[u8]), places: usize) -> Target {
    Target { name, check, places }
}

/// Each target with its check; a directory of seeds without an entry here fails the test.
const TARGETS: [Target; 13] = [
    target("address", address::check, 256),
    target("batch", batch::check, 64),
    target("block", block::check, 256),
    target("config", config::check, 4),
    target("headers", headers::check, 256),
    target("idempotency", idempotency::check, 256),
    target("key", key::check, 8),
    target("log", log::check, 0),
    target("payload", payload::check, 128),
    target("query", query::check, 8),
    target("response", response::check, 8),
    target("signature", signature::check, 48),
    target("url", url::check, 256),
];

#[test]
fn every_seed_of_every_target_passes_its_check() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
    let mut found: Vec<String> = fs::read_dir(&root)
        .expect("the seeds are there")
        .map(|entry| entry.expect("readable").file_name().into_string().expect("a plain name"))
        .collect();
    found.sort();
    assert_eq!(found, TARGETS.map(|target| target.name), "a target has seeds and a check");

    for Target { name, check, .. } in TARGETS {
        let mut seeds = 0;
        for entry in fs::read_dir(root.join(name)).expect("a directory of seeds") {
            let path = entry.expect("readable").path();
            println!("{}", path.display());
            check(&fs::read(&path).expect("a seed is readable"));
            seeds += 1;
        }
        assert!(seeds >= 10, "{name} has {seeds} seeds");
    }
}

/// Prefixes and one-byte changes of each seed: a poor man's fuzzer that runs everywhere.
#[test]
fn seeds_that_are_cut_or_changed_break_nothing() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
    for Target { name, check, places } in TARGETS {
        for entry in fs::read_dir(root.join(name)).expect("a directory of seeds") {
            let seed = fs::read(entry.expect("readable").path()).expect("a seed is readable");
            let step = seed.len().min(256).div_ceil(places.max(1)).max(1);
            for at in (0..seed.len().min(256)).step_by(step).take(places) {
                check(&seed[..at]);
                for byte in [0, b'.', b'@', b'%', b'0', b'[', 0x7f, 0xff] {
                    let mut changed = seed.clone();
                    changed[at] = byte;
                    check(&changed);
                }
            }
        }
    }
}
