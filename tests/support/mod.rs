//! What the tests of the real binary share: the gateway as a child process, a scripted receiver,
//! and a small blocking HTTP client. None of it uses the gateway's own code, so that a mistake in
//! that cannot hide itself.

#![expect(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]

pub mod disk;
pub mod gateway;
pub mod http;
pub mod ledger;
pub mod namespace;
pub mod probe;
pub mod process;
pub mod receiver;
pub mod signed;

use std::time::{Duration, Instant};

/// Waits for a predicate, level-triggered, with a limit; panics with `what` when it passes.
#[expect(clippy::disallowed_methods, reason = "tests measure from outside")]
pub fn eventually<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[expect(clippy::disallowed_methods, reason = "tests measure from outside")]
pub fn now() -> Instant {
    Instant::now()
}

/// A payload of the published contract with this message id.
pub fn payload(event_type: &str, id: &str) -> String {
    format!(
        r#"{{"type":"{event_type}","timestamp":"2026-11-23T04:20:00.123Z","data":{{"id":"{id}","channel":"sms","recipient":"+15555550100","status_reason":"carrier_rejected"}}}}"#
    )
}

/// A test's own setting from the environment. Not named SENDERZ_…: the gateway refuses variables of
/// that prefix that are no setting of its own.
#[expect(clippy::disallowed_methods, reason = "a test's own settings")]
pub fn setting<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok()?.parse().ok()
}

/// xorshift: the moments of a test need no better.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit.max(1)
    }
}
