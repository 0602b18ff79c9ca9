//! The only reader of time.
//!
//! Two times are kept apart. [`Clock::now`] is for intervals and due times: milliseconds on the
//! Unix scale, anchored to the wall clock once at start and moved by the monotonic clock after
//! that, so a stepped wall clock neither fires nor starves a retry. [`wall_ms`] is for what people
//! and receivers read: signatures, logs, `accepted_at`.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds on the Unix scale, from a clock that never goes back while the process lives.
pub type Millis = u64;

/// The process's steady clock. Copies share the anchor.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    anchor_wall: Millis,
    anchor: Instant,
}

impl Clock {
    pub fn start() -> Self {
        Self { anchor_wall: wall_ms(), anchor: instant() }
    }

    pub fn now(&self) -> Millis {
        self.anchor_wall + self.anchor.elapsed().as_millis() as u64
    }

    /// What [`Clock::now`] read at `instant`, or would have.
    pub fn at(&self, instant: Instant) -> Millis {
        self.anchor_wall + instant.saturating_duration_since(self.anchor).as_millis() as u64
    }

    /// The instant at which [`Clock::now`] will read `at`; the past gives a past instant.
    pub fn instant_at(&self, at: Millis) -> Instant {
        let offset = Duration::from_millis(at.saturating_sub(self.anchor_wall));
        self.anchor.checked_add(offset).unwrap_or(self.anchor)
    }
}

/// The wall clock in milliseconds since 1970; 0 where the clock is set before that.
#[expect(clippy::disallowed_methods, reason = "the one place that may")]
pub fn wall_ms() -> Millis {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}

/// A point to measure an interval from.
#[expect(clippy::disallowed_methods, reason = "the one place that may")]
pub fn instant() -> Instant {
    Instant::now()
}

/// Microseconds since `from`, for phases and latencies; saturates at 71 minutes.
pub fn micros_since(from: Instant) -> u32 {
    micros_between(from, instant())
}

/// The same up to a point that was read already.
pub fn micros_between(from: Instant, to: Instant) -> u32 {
    u32::try_from(to.saturating_duration_since(from).as_micros()).unwrap_or(u32::MAX)
}

/// A wall time in milliseconds as RFC 3339 in UTC with milliseconds: `2026-11-23T04:20:00.123Z`.
pub fn rfc3339(ms: Millis) -> String {
    let time = jiff::Timestamp::from_millisecond(i64::try_from(ms).unwrap_or(i64::MAX))
        .unwrap_or(jiff::Timestamp::MAX);
    format!("{time:.3}")
}
