//! Backoff: when the next attempt of a delivery is due, or that there is none.
//!
//! The schedule is the contract's and counts from the end of the failed attempt. That end lies
//! somewhere in the millisecond `now`, so the delay counts from where this millisecond is over: an
//! attempt comes up to a millisecond later than published and never earlier. Jitter only adds, too:
//! it spreads the retries of one outage. It comes from a hash of what is retried, so the same seed
//! gives the same run.

use std::time::Duration;

use crate::{clock::Millis, id::DeliveryKey};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    At(Millis),
    /// The schedule has no further attempt.
    Exhausted,
}

/// `failed_in_round` counts the attempts of this round, which all failed: 1 after the first one; a
/// replay starts a new round. `not_before` is the receiver's `Retry-After`: it can make the attempt
/// later, up to `max_retry_after` from now, and never earlier.
#[expect(clippy::too_many_arguments, reason = "a total function of plain values, called once")]
pub(super) fn next_attempt(
    schedule: &[Duration],
    jitter: f64,
    max_retry_after: Duration,
    seed: u64,
    key: DeliveryKey,
    failed_in_round: u16,
    now: Millis,
    not_before: Option<Millis>,
) -> Next {
    debug_assert!(failed_in_round > 0, "asked after a failed attempt");
    let step = usize::from(failed_in_round).saturating_sub(1);
    let Some(delay) = schedule.get(step) else {
        return Next::Exhausted;
    };
    let delay = millis(*delay);
    let extra = jitter.clamp(0.0, 1.0) * delay as f64 * fraction(seed, key, failed_in_round);
    let ended = now.saturating_add(1);
    let due = ended.saturating_add(delay).saturating_add(extra as u64);
    let latest_asked = ended.saturating_add(millis(max_retry_after));
    Next::At(not_before.map_or(due, |asked| due.max(asked.min(latest_asked))))
}

fn millis(duration: Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX)
}

/// From 0 up to, not including, 1; the same for the same arguments.
fn fraction(seed: u64, key: DeliveryKey, failed_in_round: u16) -> f64 {
    let step = u64::from(key.webhook.0) << 16 | u64::from(failed_in_round);
    let hash = mix(mix(mix(seed) ^ key.place.as_u64()) ^ step);
    // 53 bits are what an f64 holds exactly.
    (hash >> 11) as f64 / (1u64 << 53) as f64
}

/// SplitMix64's step (Steele, Lea and Flood, 2014): every input bit moves every output bit.
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::{self, Clock},
        id::{Place, WebhookNo},
    };

    const NOW: Millis = 1_795_000_000_000;
    /// Where the millisecond in which the attempt ended is over.
    const ENDED: Millis = NOW + 1;
    const MINUTE: Millis = 60_000;
    const SCHEDULE: [Duration; 3] =
        [Duration::from_secs(5), Duration::from_secs(60), Duration::from_secs(1800)];
    const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);

    fn key(place: u64) -> DeliveryKey {
        DeliveryKey { place: Place::from_u64(place), webhook: WebhookNo(7) }
    }

    /// In how many milliseconds from the end it is due; none where the schedule is exhausted.
    fn wait(jitter: f64, seed: u64, place: u64, failed: u16, asked: Option<Millis>) -> Option<u64> {
        let asked = asked.map(|after| ENDED + after);
        let next =
            next_attempt(&SCHEDULE, jitter, MAX_RETRY_AFTER, seed, key(place), failed, NOW, asked);
        match next {
            Next::At(due) => Some(due - ENDED),
            Next::Exhausted => None,
        }
    }

    #[track_caller]
    fn check(failed_in_round: u16, asked: Option<Millis>, expected: Option<Millis>) {
        let got = wait(0.0, 1, 1, failed_in_round, asked);
        assert_eq!(got, expected, "after {failed_in_round} failed, asked for {asked:?}");
    }

    #[test]
    fn without_jitter_the_schedule_is_exact_and_ends() {
        check(1, None, Some(5_000));
        check(2, None, Some(MINUTE));
        check(3, None, Some(30 * MINUTE));
        check(4, None, None);
        check(u16::MAX, None, None);
    }

    #[test]
    fn a_receiver_can_delay_up_to_the_cap_and_never_bring_forward() {
        check(1, Some(0), Some(5_000));
        check(1, Some(4_999), Some(5_000));
        check(1, Some(5_001), Some(5_001));
        check(1, Some(5 * MINUTE), Some(5 * MINUTE));
        check(1, Some(5 * MINUTE + 1), Some(5 * MINUTE));
        check(1, Some(Millis::MAX - ENDED), Some(5 * MINUTE));
        // A delay above the cap stays as it is.
        check(3, Some(20 * MINUTE), Some(30 * MINUTE));
        check(3, Some(40 * MINUTE), Some(30 * MINUTE));
    }

    /// As the shard does it: the clock is read once the attempt has ended.
    #[test]
    fn on_a_real_clock_a_retry_is_never_early_and_at_most_a_millisecond_late() {
        let delay = SCHEDULE[0];
        let next = |now| next_attempt(&SCHEDULE, 0.0, MAX_RETRY_AFTER, 1, key(1), 1, now, None);
        for _ in 0..10 {
            let clock = Clock::start();
            for _ in 0..500 {
                let ended = clock::instant();
                let Next::At(due) = next(clock.now()) else { panic!("it is in the schedule") };
                let told = clock::instant();
                let starts = clock.instant_at(due);
                assert!(starts >= ended + delay, "{:?} early", ended + delay - starts);
                let latest = told + delay + Duration::from_millis(1);
                assert!(starts <= latest, "{:?} late", starts - latest);
            }
        }
    }

    #[test]
    fn a_receiver_cannot_add_an_attempt() {
        check(4, Some(MINUTE), None);
    }

    #[test]
    fn jitter_spreads_over_the_whole_range_and_only_adds() {
        let delay = 30 * MINUTE;
        let mut tenths = [0; 10];
        for place in 0..10_000 {
            let extra = wait(0.5, 42, place, 3, None).expect("in the schedule") - delay;
            assert!(extra < delay / 2, "{extra}");
            tenths[(extra * 10 / (delay / 2)) as usize] += 1;
        }
        assert!(tenths.iter().all(|count| (850..1150).contains(count)), "{tenths:?}");
    }

    #[test]
    fn jitter_depends_on_each_of_seed_place_webhook_and_step_and_repeats() {
        let reference = wait(1.0, 42, 1, 3, None);
        assert_eq!(wait(1.0, 42, 1, 3, None), reference);
        assert_ne!(wait(1.0, 43, 1, 3, None), reference);
        assert_ne!(wait(1.0, 42, 2, 3, None), reference);
        let other = DeliveryKey { webhook: WebhookNo(8), ..key(1) };
        assert_ne!(fraction(42, other, 3), fraction(42, key(1), 3));
        assert_ne!(fraction(42, key(1), 2), fraction(42, key(1), 3));
    }

    #[test]
    fn extremes_saturate() {
        let next = next_attempt(&[Duration::MAX], 1.0, Duration::MAX, 1, key(1), 1, NOW, Some(NOW));
        assert_eq!(next, Next::At(Millis::MAX));
    }
}
