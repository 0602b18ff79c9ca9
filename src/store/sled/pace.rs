//! How long a commit waits for company.
//!
//! What a commit costs beside its bytes (waking sled's threads, two syncs) is shared by all events
//! in it. Producers that wait for an answer come back together soon after they got it; a commit
//! that starts with the first of them makes the others wait for the next one, and the store goes
//! on with a small and a large commit in turns. So a busy store waits, up to `commit_max_wait`
//! after its last commit, until as many batches have come as it knows to be under way: those that
//! it has just answered and those that came meanwhile.
//!
//! Whether it is busy is told by the size of its commits: a store that commits a few events at a
//! time has nothing to gain, and its producers would pay with latency.

use std::time::{Duration, Instant};

/// A store whose commits are smaller than this many events does not wait.
const BUSY_FROM: usize = 32;

/// How long a growing commit sleeps before it looks again. Waking up for every message would cost
/// what it is meant to save.
pub(super) const STEP: Duration = Duration::from_micros(200);

/// What waits for a commit, or was in one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Load {
    pub(super) batches: usize,
    pub(super) events: usize,
}

#[derive(Debug)]
pub(super) struct Pace {
    max_wait: Duration,
    /// Batches that are likely to be in the next commit.
    expected: usize,
    ended: Instant,
}

impl Pace {
    pub(super) fn new(max_wait: Duration, now: Instant) -> Self {
        Self { max_wait, expected: 0, ended: now }
    }

    /// A commit has been answered, and this much came while it was made.
    pub(super) fn committed(&mut self, answered: Load, waiting: Load, now: Instant) {
        let is_busy = answered.events + waiting.events >= BUSY_FROM;
        self.expected = if is_busy { answered.batches + waiting.batches } else { 0 };
        self.ended = now;
    }

    /// Whether more is worth waiting for.
    pub(super) fn may_grow(&self, waiting: Load, now: Instant) -> bool {
        waiting.batches < self.expected && now.duration_since(self.ended) < self.max_wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::instant;

    const WAIT: Duration = Duration::from_millis(2);

    fn load(batches: usize, events: usize) -> Load {
        Load { batches, events }
    }

    /// After a commit of `answered` while `waiting` came, does a commit wait with `now_waiting`?
    fn check(answered: Load, waiting: Load, now_waiting: Load, expected: bool) {
        let began = instant();
        let mut pace = Pace::new(WAIT, began);
        pace.committed(answered, waiting, began);
        let case = format!("{answered:?} {waiting:?} {now_waiting:?}");
        assert_eq!(pace.may_grow(now_waiting, began + WAIT / 2), expected, "{case}");
        assert!(!pace.may_grow(now_waiting, began + WAIT), "{case}");
    }

    #[test]
    fn a_busy_store_waits_for_those_it_has_answered_and_those_that_waited() {
        check(load(8, 800), load(0, 0), load(1, 100), true);
        check(load(8, 800), load(0, 0), load(7, 700), true);
        check(load(8, 800), load(0, 0), load(8, 800), false);
        check(load(1, 100), load(7, 700), load(7, 700), true);
        check(load(64, 64), load(0, 0), load(1, 1), true);
    }

    #[test]
    fn a_single_producer_never_waits() {
        check(load(1, 100), load(0, 0), load(1, 100), false);
        check(load(1, 1), load(0, 0), load(1, 1), false);
    }

    #[test]
    fn a_store_with_little_to_do_never_waits() {
        check(load(3, 3), load(4, 4), load(1, 1), false);
        let now = instant();
        assert!(!Pace::new(WAIT, now).may_grow(load(1, 1000), now));
    }
}
