//! The only reader of time.
//!
//! Two times are kept apart. [`Clock::now`] is for intervals and due times: milliseconds on the
//! Unix scale, anchored to the wall clock once at start and moved by the monotonic clock after
//! that, so a stepped wall clock neither fires nor starves a retry. [`wall_ms`] is for what people
//! and receivers read: signatures, logs, `accepted_at`.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds on the Unix scale, from a clock that never goes back while the process lives.
pub type Millis = u64;

/// Where an instant too far away to be one is put: later than any process lives.
const FAR: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// The process's steady clock. Copies share the anchor.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// With its fraction of a millisecond: due times outlive the process, so the clocks of two
    /// processes have to change their milliseconds when the wall clock does.
    anchor_wall: Duration,
    anchor: Instant,
}

impl Clock {
    pub fn start() -> Self {
        Self { anchor_wall: wall(), anchor: instant() }
    }

    /// Rounded down: the millisecond that is under way.
    pub fn now(&self) -> Millis {
        self.at(instant())
    }

    /// What [`Clock::now`] read at `instant`, or would have.
    fn at(&self, instant: Instant) -> Millis {
        self.since_1970(instant).as_millis() as u64
    }

    /// The first reading of [`Clock::now`] that is not before `instant`: what a delay from there
    /// counts from, so that it never ends early.
    pub fn after(&self, instant: Instant) -> Millis {
        self.since_1970(instant).as_nanos().div_ceil(1_000_000) as u64
    }

    /// The instant at which [`Clock::now`] will first read `at`; what lies before the start gives
    /// the start.
    pub fn instant_at(&self, at: Millis) -> Instant {
        ahead(self.anchor, Duration::from_millis(at).saturating_sub(self.anchor_wall))
    }

    fn since_1970(&self, instant: Instant) -> Duration {
        self.anchor_wall + instant.saturating_duration_since(self.anchor)
    }
}

/// What an instant cannot express is still in the future.
fn ahead(from: Instant, offset: Duration) -> Instant {
    from.checked_add(offset).unwrap_or_else(|| from + FAR)
}

/// The wall clock in milliseconds since 1970; 0 where the clock is set before that.
pub fn wall_ms() -> Millis {
    wall().as_millis() as u64
}

#[expect(clippy::disallowed_methods, reason = "the one place that may")]
fn wall() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
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

#[cfg(test)]
mod tests {
    use super::*;

    const MICRO: Duration = Duration::from_micros(1);

    /// A clock that started `fraction` µs into the wall clock's millisecond 5,000,000.
    fn clock(fraction: u32) -> Clock {
        let anchor_wall = Duration::from_millis(5_000_000) + fraction * MICRO;
        Clock { anchor_wall, anchor: instant() }
    }

    /// What it reads `micros` after the wall clock's millisecond 5,000,000 began.
    fn reads(fraction: u32, micros: u32) -> [Millis; 2] {
        let clock = clock(fraction);
        let then = clock.anchor + (micros - fraction) * MICRO;
        [clock.at(then) - 5_000_000, clock.after(then) - 5_000_000]
    }

    #[test]
    fn the_fraction_at_which_a_process_started_does_not_move_its_milliseconds() {
        for fraction in [0, 1, 400, 900] {
            assert_eq!(reads(fraction, 999), [0, 1], "{fraction}");
            assert_eq!(reads(fraction, 1000), [1, 1], "{fraction}");
            assert_eq!(reads(fraction, 1001), [1, 2], "{fraction}");
            assert_eq!(reads(fraction, 7999), [7, 8], "{fraction}");
        }
    }

    #[test]
    fn an_instant_is_the_first_that_reads_its_millisecond() {
        for fraction in [0, 1, 400, 999] {
            let clock = clock(fraction);
            let at = clock.instant_at(5_000_003);
            assert_eq!(clock.at(at), 5_000_003, "{fraction}");
            assert_eq!(clock.at(at - Duration::from_nanos(1)), 5_000_002, "{fraction}");
            assert_eq!(clock.after(at), 5_000_003, "{fraction}");
            assert_eq!(clock.instant_at(0), clock.anchor, "the past is due at once");
        }
    }

    #[test]
    fn what_is_too_far_away_stays_in_the_future() {
        let now = instant();
        for offset in [Duration::from_secs(1), Duration::MAX] {
            assert!(ahead(now, offset) > now, "{offset:?}");
        }
        assert!(clock(0).instant_at(Millis::MAX) > now + FAR);
    }
}
