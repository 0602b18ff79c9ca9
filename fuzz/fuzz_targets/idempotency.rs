#![no_main]

#[path = "../checks/idempotency.rs"]
mod idempotency;

libfuzzer_sys::fuzz_target!(|data: &[u8]| idempotency::check(data));
