//! The fuzz targets' checks over their seeds, without a fuzzer: what fuzzing once found stays
//! found. `fuzz/README.md` says how to fuzz for real and how to add a target.

use std::{fs, path::Path};

#[path = "../fuzz/checks/address.rs"]
mod address;
#[path = "../fuzz/checks/headers.rs"]
mod headers;
#[path = "../fuzz/checks/url.rs"]
mod url;

type Check = fn(&[u8]);

/// Each target with its check; a directory of seeds without an entry here fails the test.
const TARGETS: [(&str, Check); 3] =
    [("address", address::check), ("headers", headers::check), ("url", url::check)];

#[test]
fn every_seed_of_every_target_passes_its_check() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
    let mut found: Vec<String> = fs::read_dir(&root)
        .expect("the seeds are there")
        .map(|entry| entry.expect("readable").file_name().into_string().expect("a plain name"))
        .collect();
    found.sort();
    assert_eq!(found, TARGETS.map(|(name, _)| name), "a target has seeds and a check");

    for (name, check) in TARGETS {
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

/// Every prefix and every one-byte change of each seed: a poor man's fuzzer that runs everywhere.
#[test]
fn seeds_that_are_cut_or_changed_break_nothing() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
    for (name, check) in TARGETS {
        for entry in fs::read_dir(root.join(name)).expect("a directory of seeds") {
            let seed = fs::read(entry.expect("readable").path()).expect("a seed is readable");
            for at in 0..seed.len().min(256) {
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
