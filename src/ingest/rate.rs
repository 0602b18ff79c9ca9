//! How fast one tenant may send: a bucket per tenant that holds one second's worth of events.
//!
//! A bucket is one number, the time at which it will be full again (GCRA), so a full bucket needs
//! no memory at all. A request is judged whole, over all its tenants, before anything is taken. One
//! that is larger than a bucket is let through when the bucket is full, and the tenant then waits
//! until the debt is paid; otherwise a large batch could never be sent.

use std::{
    collections::HashMap,
    num::NonZeroU32,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crate::id::TenantNo;

const SECOND: u64 = 1_000_000_000;

/// Buckets that are not full, held at once. Far above `limits.tenants`' default; beyond it events
/// of further tenants are refused for a second rather than counted nowhere.
const MAX_BUCKETS: usize = 100_000;

/// The buckets of all tenants.
#[derive(Debug)]
pub struct TenantRates {
    per_second: NonZeroU32,
    /// When each bucket will be full again, in nanoseconds on the caller's scale.
    full_at: Mutex<HashMap<TenantNo, u64>>,
}

/// A tenant sends too fast; nothing was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooFast {
    pub tenant: TenantNo,
    /// When the same request would be let through, if nothing else comes.
    pub wait: Duration,
}

impl TenantRates {
    pub fn new(per_second: NonZeroU32) -> Self {
        Self { per_second, full_at: Mutex::new(HashMap::new()) }
    }

    /// Takes one event for each tenant named, as often as it is named; or nothing at all.
    ///
    /// `now` is nanoseconds on any scale that does not go back.
    pub fn take(
        &self,
        now: u64,
        events: impl IntoIterator<Item = TenantNo>,
    ) -> Result<(), TooFast> {
        let mut wanted: HashMap<TenantNo, u64> = HashMap::new();
        for tenant in events {
            *wanted.entry(tenant).or_default() += 1;
        }
        // The map is whole between any two statements: a panic elsewhere cannot have torn it.
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        if full_at.len() + wanted.len() > MAX_BUCKETS {
            full_at.retain(|_, at| *at > now);
        }
        for (tenant, events) in &mut wanted {
            let full = full_at.get(tenant).copied().unwrap_or(0).max(now);
            if full_at.len() >= MAX_BUCKETS && !full_at.contains_key(tenant) {
                return Err(TooFast { tenant: *tenant, wait: Duration::from_secs(1) });
            }
            let cost = self.cost(*events);
            let latest = if cost > SECOND { now } else { now + SECOND - cost };
            if full > latest {
                let wait = Duration::from_nanos(full - latest);
                return Err(TooFast { tenant: *tenant, wait });
            }
            *events = full + cost;
        }
        full_at.extend(wanted);
        Ok(())
    }

    fn cost(&self, events: u64) -> u64 {
        events.saturating_mul(SECOND) / u64::from(self.per_second.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: TenantNo = TenantNo(1);
    const B: TenantNo = TenantNo(2);
    const MS: u64 = 1_000_000;

    fn rates(per_second: u32) -> TenantRates {
        TenantRates::new(NonZeroU32::new(per_second).expect("not zero"))
    }

    fn wait_ms(taken: Result<(), TooFast>) -> Option<u64> {
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
    fn tenants_do_not_share_a_bucket() {
        let rates = rates(1);
        assert_eq!(rates.take(0, [A]), Ok(()));
        assert!(rates.take(0, [A]).is_err());
        assert_eq!(rates.take(0, [B]), Ok(()));
    }

    #[test]
    fn a_refused_request_takes_nothing_from_anyone() {
        let rates = rates(2);
        assert_eq!(rates.take(0, [A, A]), Ok(()));
        assert_eq!(rates.take(0, [B, A, B]).map_err(|e| e.tenant), Err(A));
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
    fn full_buckets_are_forgotten_and_memory_is_bounded() {
        let rates = rates(1);
        for round in 0..3 {
            let now = round * 10 * SECOND;
            for tenant in 0..MAX_BUCKETS as u32 {
                assert_eq!(rates.take(now, [TenantNo(tenant)]), Ok(()));
            }
            assert!(rates.take(now, [TenantNo(u32::MAX)]).is_err());
            assert_eq!(rates.full_at.lock().expect("not poisoned").len(), MAX_BUCKETS);
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
