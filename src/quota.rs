//! How much of something each of many may have in a period: one bucket for each, which holds one
//! period's worth.
//!
//! A bucket is one number, the time at which it will be full again (GCRA), so a full bucket needs
//! no memory at all. A request is judged whole, over all the buckets that it takes from, before
//! anything is taken. One that is larger than a bucket is let through when the bucket is full, and
//! its owner then waits until the debt is paid; otherwise a large batch could never be sent.

use std::{
    collections::HashMap,
    hash::Hash,
    num::NonZeroU32,
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// Buckets that are not full, held at once. Far above `limits.tenants`' default; beyond it further
/// owners are refused for a second rather than counted nowhere.
const MAX_BUCKETS: usize = 100_000;

/// How much longer an owner without a bucket has to wait where there is no room for one.
const NO_ROOM: Duration = Duration::from_secs(1);

/// The buckets of all owners.
#[derive(Debug)]
pub struct Quotas<K> {
    /// In nanoseconds.
    period: u64,
    /// When each bucket will be full again, in nanoseconds on the caller's scale.
    full_at: Mutex<HashMap<K, u64>>,
}

/// What one request takes from one bucket.
#[derive(Clone, Copy, Debug)]
pub struct Take<K> {
    pub owner: K,
    /// How many things.
    pub count: u32,
    /// How many of them the owner may have in a period.
    pub of: NonZeroU32,
}

/// Someone wants too much too fast; nothing was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooFast<K> {
    /// Who has to wait longest.
    pub owner: K,
    /// When the same request would be let through, if nothing else comes.
    pub wait: Duration,
}

impl<K: Copy + Eq + Hash> Quotas<K> {
    pub fn new(period: Duration) -> Self {
        let period = u64::try_from(period.as_nanos()).unwrap_or(u64::MAX);
        Self { period, full_at: Mutex::new(HashMap::new()) }
    }

    /// Takes all of it, or nothing at all. An owner may be named more than once.
    ///
    /// `now` is nanoseconds on any scale that does not go back.
    pub fn take(
        &self,
        now: u64,
        takes: impl IntoIterator<Item = Take<K>>,
    ) -> Result<(), TooFast<K>> {
        let mut wanted: HashMap<K, Wanted> = HashMap::new();
        for Take { owner, count, of } in takes {
            let wanted = wanted.entry(owner).or_insert(Wanted { count: 0, of, full_at: 0 });
            wanted.count += u64::from(count);
        }
        // The map is whole between any two statements: a panic elsewhere cannot have torn it.
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        if full_at.len() + wanted.len() > MAX_BUCKETS {
            full_at.retain(|_, at| *at > now);
        }
        let new = wanted.keys().filter(|owner| !full_at.contains_key(owner)).count();
        let has_room = full_at.len() + new <= MAX_BUCKETS;
        let mut longest: Option<TooFast<K>> = None;
        for (owner, wanted) in &mut wanted {
            let known = full_at.get(owner).copied();
            let full = known.unwrap_or(0).max(now);
            let cost = self.cost(*wanted);
            let latest = if cost > self.period { now } else { now + self.period - cost };
            let mut wait = Duration::from_nanos(full.saturating_sub(latest));
            if known.is_none() && !has_room {
                wait = wait.max(NO_ROOM);
            }
            if wait > longest.map_or(Duration::ZERO, |longest| longest.wait) {
                longest = Some(TooFast { owner: *owner, wait });
            }
            wanted.full_at = full.saturating_add(cost);
        }
        match longest {
            Some(too_fast) => Err(too_fast),
            None => {
                full_at.extend(wanted.into_iter().map(|(owner, wanted)| (owner, wanted.full_at)));
                Ok(())
            }
        }
    }

    fn cost(&self, wanted: Wanted) -> u64 {
        let cost = u128::from(self.period) * u128::from(wanted.count) / u128::from(wanted.of.get());
        u64::try_from(cost).unwrap_or(u64::MAX)
    }
}

/// What one request wants of one owner's bucket, all its takes together.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    count: u64,
    of: NonZeroU32,
    /// When the bucket would be full again afterwards.
    full_at: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: u32 = 1;
    const B: u32 = 2;
    const MS: u64 = 1_000_000;
    const SECOND: u64 = 1000 * MS;

    /// Everyone has the same rate.
    struct Rates {
        per_second: NonZeroU32,
        quotas: Quotas<u32>,
    }

    impl Rates {
        fn take(
            &self,
            now: u64,
            owners: impl IntoIterator<Item = u32>,
        ) -> Result<(), TooFast<u32>> {
            let take = |owner| Take { owner, count: 1, of: self.per_second };
            self.quotas.take(now, owners.into_iter().map(take))
        }
    }

    fn rates(per_second: u32) -> Rates {
        let per_second = NonZeroU32::new(per_second).expect("not zero");
        Rates { per_second, quotas: Quotas::new(Duration::from_secs(1)) }
    }

    fn wait_ms(taken: Result<(), TooFast<u32>>) -> Option<u64> {
        taken.err().map(|e| e.wait.as_millis() as u64)
    }

    #[test]
    fn a_second_s_worth_may_come_at_once_and_then_the_rate_holds() {
        let rates = rates(10);
        for _ in 0..10 {
            assert_eq!(rates.take(5 * SECOND, [A]), Ok(()));
        }
        assert_eq!(wait_ms(rates.take(5 * SECOND, [A])), Some(100));
        assert_eq!(wait_ms(rates.take(5 * SECOND + 99 * MS, [A])), Some(1));
        assert_eq!(rates.take(5 * SECOND + 100 * MS, [A]), Ok(()));
        assert_eq!(wait_ms(rates.take(5 * SECOND + 100 * MS, [A])), Some(100));
    }

    #[test]
    fn owners_do_not_share_a_bucket() {
        let rates = rates(1);
        assert_eq!(rates.take(0, [A]), Ok(()));
        assert!(rates.take(0, [A]).is_err());
        assert_eq!(rates.take(0, [B]), Ok(()));
    }

    #[test]
    fn a_refused_request_takes_nothing_from_anyone() {
        let rates = rates(2);
        assert_eq!(rates.take(0, [A, A]), Ok(()));
        assert_eq!(rates.take(0, [B, A, B]).map_err(|e| e.owner), Err(A));
        assert_eq!(rates.take(0, [B, B]), Ok(()));
    }

    #[test]
    fn a_batch_larger_than_the_bucket_passes_when_it_is_full_and_is_paid_for() {
        let rates = rates(10);
        assert_eq!(rates.take(0, [A; 50]), Ok(()));
        assert_eq!(wait_ms(rates.take(0, [A])), Some(4_100));
        assert_eq!(wait_ms(rates.take(SECOND, [A; 50])), Some(4_000));
        assert_eq!(rates.take(5 * SECOND, [A; 50]), Ok(()));
    }

    #[test]
    fn each_owner_has_its_own_measure_and_the_longest_wait_is_told() {
        let quotas = Quotas::new(Duration::from_secs(60));
        let take = |owner, of| Take { owner, count: 1, of: NonZeroU32::new(of).expect("not zero") };
        for _ in 0..2 {
            assert_eq!(quotas.take(0, [take(A, 2), take(B, 6)]), Ok(()));
        }
        assert_eq!(quotas.take(0, [take(B, 6)]), Ok(()));
        let refused = quotas.take(0, [take(A, 2), take(B, 6)]);
        assert_eq!(refused, Err(TooFast { owner: A, wait: Duration::from_secs(30) }));
        for _ in 0..3 {
            assert_eq!(quotas.take(0, [take(B, 6)]), Ok(()), "a refused request took nothing");
        }
        assert_eq!(quotas.take(30 * SECOND, [take(A, 2), take(B, 6)]), Ok(()));
    }

    #[test]
    fn full_buckets_are_forgotten_and_memory_is_bounded() {
        let rates = rates(1);
        for round in 0..3 {
            let now = round * 10 * SECOND;
            for owner in 0..MAX_BUCKETS as u32 - 1 {
                assert_eq!(rates.take(now, [owner]), Ok(()));
            }
            // Two new ones at once where there is room for one.
            assert_eq!(wait_ms(rates.take(now, [u32::MAX, u32::MAX - 1])), Some(1_000));
            assert_eq!(rates.take(now, [u32::MAX]), Ok(()));
            assert!(rates.take(now, [u32::MAX - 1]).is_err());
            assert_eq!(rates.quotas.full_at.lock().expect("not poisoned").len(), MAX_BUCKETS);
        }
    }

    #[test]
    fn over_a_long_time_the_rate_is_exact() {
        let rates = rates(7);
        let accepted = (0..100_000u64).filter(|ms| rates.take(ms * MS, [A]).is_ok()).count();
        // 100 s at 7 a second, and one bucket.
        assert!((700..=707).contains(&accepted), "{accepted}");
    }
}
