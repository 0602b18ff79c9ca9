#![no_main]

#[path = "../checks/query.rs"]
mod query;
#[path = "../checks/world.rs"]
mod world;

libfuzzer_sys::fuzz_target!(|data: &[u8]| query::check(data));
