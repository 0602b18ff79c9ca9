#![no_main]

#[path = "../checks/key.rs"]
mod key;
#[path = "../checks/world.rs"]
mod world;

libfuzzer_sys::fuzz_target!(|data: &[u8]| key::check(data));
