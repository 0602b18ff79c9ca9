#![no_main]

#[path = "../checks/url.rs"]
mod url;

libfuzzer_sys::fuzz_target!(|data: &[u8]| url::check(data));
