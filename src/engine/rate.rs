//! Rate: a webhook's limit on attempts per second.
//!
//! A token bucket of one token, kept as the time at which the bucket is full again (the generic
//! cell rate algorithm). Times are counted in ticks of 1/limit ms: a millisecond is `limit` ticks
//! and the space between two attempts is exactly 1000, so nothing is rounded and nothing drifts.
//!
//! Promise: in every window of one second (1000 consecutive values of `now`) at most limit + 1
//! attempts; and where attempts are always wanted and made when free, or up to [`LATE`] or one
//! space later, the limit is reached in the long run. The lateness that is made up for is what
//! allows the one extra; it is bounded so that a limit of one per second never lets two through at
//! once.

use crate::clock::Millis;

/// How late an attempt may be, in milliseconds, and the next ones still catch up: timers and the
/// turns of a loop are late by a few milliseconds every time, and always in the same direction.
const LATE: u128 = 10;
/// The space between two attempts, in ticks.
const SPACE: u128 = 1000;

#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    /// Ticks per millisecond = attempts per second.
    limit: u32,
    /// When the next attempt would be in perfectly even spacing, in ticks since 1970.
    even: u128,
}

impl Rate {
    /// The first attempt is free at once. A limit of 0 is refused where it is set; here it is 1.
    pub(super) fn new(per_second: u32, now: Millis) -> Self {
        let limit = per_second.max(1);
        Self { limit, even: u128::from(now) * u128::from(limit) }
    }

    /// Takes a token, or says when one is free: later than `now`, and taking it then succeeds.
    pub(super) fn take(&mut self, now: Millis) -> Result<(), Millis> {
        let limit = u128::from(self.limit);
        let ticks = u128::from(now) * limit;
        // Just under a millisecond is due to the clock's grain: above 1000 per second several
        // attempts share a millisecond, and the last of them is ahead of its even time.
        let ahead = (limit - 1) + SPACE.min(LATE * limit);
        let free = self.even.saturating_sub(ahead);
        if ticks < free {
            return Err(Millis::try_from(free.div_ceil(limit)).unwrap_or(Millis::MAX));
        }
        self.even = self.even.max(ticks) + SPACE;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    const START: Millis = 1_795_000_000_000;

    /// Attempts as they are made when each is made `late` ms after it is free; until `end`.
    fn greedy(limit: u32, late: Millis, end: Millis) -> Vec<Millis> {
        let mut rate = Rate::new(limit, START);
        let mut now = START;
        let mut made = Vec::new();
        while now < end {
            match rate.take(now) {
                Ok(()) => made.push(now),
                Err(at) => now = at + late,
            }
        }
        made
    }

    /// The most attempts in any 1000 consecutive milliseconds.
    fn most_in_a_second(made: &[Millis]) -> usize {
        let mut window = VecDeque::new();
        let mut most = 0;
        for at in made {
            window.push_back(*at);
            while window.front().is_some_and(|first| first + 1000 <= *at) {
                window.pop_front();
            }
            most = most.max(window.len());
        }
        most
    }

    #[test]
    fn the_limit_is_reached_and_not_passed_in_the_long_run() {
        let seconds = 60;
        for limit in [1, 2, 3, 7, 10, 99, 100, 999, 1000, 1001, 3333, 5000] {
            for late in [0, 1, 2, 5] {
                // What is late by more than a space cannot be made up for by one token.
                if late > 0 && late * u64::from(limit) > 1000 {
                    continue;
                }
                let made = greedy(limit, late, START + seconds * 1000).len() as u64;
                let wanted = u64::from(limit) * seconds;
                // The last one of all may be late into the next minute.
                assert!((wanted - 1..=wanted + 2).contains(&made), "{limit}/s, {late}: {made}");
            }
        }
    }

    #[test]
    fn one_per_second_never_lets_two_through_at_once() {
        let mut rate = Rate::new(1, START);
        assert_eq!(rate.take(START + 50_000), Ok(()));
        assert_eq!(rate.take(START + 50_000), Err(START + 50_990));
        assert_eq!(rate.take(START + 50_989), Err(START + 50_990));
        assert_eq!(rate.take(START + 50_990), Ok(()));
        assert_eq!(rate.take(START + 50_990), Err(START + 51_990));
    }

    #[test]
    fn several_attempts_share_a_millisecond_above_1000_per_second() {
        let made = greedy(5000, 0, START + 2000);
        let in_the_second_second = made.iter().filter(|at| **at == START + 1500).count();
        assert_eq!(in_the_second_second, 5);
    }

    #[test]
    fn a_clock_that_goes_back_earns_nothing() {
        let mut rate = Rate::new(10, START);
        assert_eq!(rate.take(START), Ok(()));
        let free = rate.take(START).expect_err("the token is gone");
        assert_eq!(rate.take(0), Err(free));
        assert_eq!(rate.take(free), Ok(()));
    }

    #[test]
    fn extremes_neither_overflow_nor_divide_by_zero() {
        for limit in [0, 1, u32::MAX] {
            for now in [0, Millis::MAX] {
                let mut rate = Rate::new(limit, now);
                assert_eq!(rate.take(now), Ok(()), "{limit} at {now}");
            }
        }
    }

    proptest! {
        #[test]
        fn no_second_has_more_than_limit_plus_one_attempts(
            limit in prop_oneof![1u32..20, 20u32..200, 900u32..1100, 1100u32..3000],
            arrivals in prop::collection::vec(
                (prop_oneof![Just(0u64), 0u64..3, 0u64..40, 900u64..2500], 1usize..60),
                1..200,
            ),
        ) {
            let mut rate = Rate::new(limit, START);
            let mut now = START;
            let mut made = Vec::new();
            for (gap, wanted) in arrivals {
                now += gap;
                for _ in 0..wanted {
                    match rate.take(now) {
                        Ok(()) => made.push(now),
                        Err(at) => {
                            prop_assert!(at > now);
                            prop_assert!(rate.clone().take(at - 1).is_err(), "free before said");
                            prop_assert!(rate.clone().take(at).is_ok(), "not free when said");
                        }
                    }
                }
            }
            prop_assert!(most_in_a_second(&made) <= limit as usize + 1);
        }

        #[test]
        fn after_any_pause_a_greedy_lane_stays_within_limit_plus_one(
            limit in 1u32..3000,
            pauses in prop::collection::vec(0u64..1500, 1..6),
        ) {
            let mut rate = Rate::new(limit, START);
            let mut now = START;
            let mut made = Vec::new();
            for pause in pauses {
                now += pause;
                let busy_until = now + 700;
                while now < busy_until {
                    match rate.take(now) {
                        Ok(()) => made.push(now),
                        Err(at) => now = at,
                    }
                }
            }
            prop_assert!(most_in_a_second(&made) <= limit as usize + 1);
        }
    }
}
