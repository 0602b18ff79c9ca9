//! The breaker: how many attempts at once a webhook that lets them time out may still hold.
//!
//! It exists because an attempt that hangs holds a slot until its deadline. It counts timeouts only:
//! a receiver that refuses or fails fast holds nothing, and its schedule is its own affair. It never
//! ends a delivery and never delays an attempt for which a slot is free; it only makes slots fewer,
//! down to one, so that there is always a probe.
//!
//! From `threshold` timeouts in a row each further one halves the cap; at one it is open. An
//! attempt that is answered in time, whatever the answer, doubles the cap until it is whole again.

use super::BreakerState;

#[derive(Clone, Copy, Debug)]
pub(super) struct Breaker {
    state: BreakerState,
    /// At least 1, at most `whole`.
    cap: u32,
    /// What the webhook allows.
    whole: u32,
    /// Timeouts in a row.
    streak: u32,
}

impl Breaker {
    pub(super) fn new(whole: u32) -> Self {
        let whole = whole.max(1);
        Self { state: BreakerState::Closed, cap: whole, whole, streak: 0 }
    }

    pub(super) fn state(&self) -> BreakerState {
        self.state
    }

    pub(super) fn cap(&self) -> u32 {
        self.cap
    }

    /// The webhook's own cap changed. What timeouts took away stays away.
    pub(super) fn resize(&mut self, whole: u32) {
        let whole = whole.max(1);
        let is_whole = self.state == BreakerState::Closed && self.cap == self.whole;
        self.cap = if is_whole { whole } else { self.cap.min(whole) };
        self.whole = whole;
    }

    /// An attempt ran into its deadline. Answers the new state if it changed.
    pub(super) fn timed_out(&mut self, threshold: u32) -> Option<BreakerState> {
        self.streak = self.streak.saturating_add(1);
        match self.state {
            BreakerState::Closed if self.streak < threshold => None,
            BreakerState::Closed => {
                self.cap = (self.cap / 2).max(1);
                (self.cap == 1).then(|| self.enter(BreakerState::Open))
            }
            BreakerState::HalfOpen => Some(self.enter(BreakerState::Open)),
            BreakerState::Open => None,
        }
    }

    /// An attempt was answered in time. Answers the new state if it changed.
    pub(super) fn answered(&mut self, whole: u32) -> Option<BreakerState> {
        let whole = whole.max(1);
        self.streak = 0;
        self.cap = self.cap.saturating_mul(2).min(whole);
        match self.state {
            BreakerState::Closed => None,
            _ if self.cap == whole => Some(self.enter(BreakerState::Closed)),
            BreakerState::Open => Some(self.enter(BreakerState::HalfOpen)),
            BreakerState::HalfOpen => None,
        }
    }

    fn enter(&mut self, state: BreakerState) -> BreakerState {
        self.state = state;
        if state == BreakerState::Open {
            self.cap = 1;
        }
        state
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_in_a_row_shrink_the_cap_down_to_single_probes() {
        let mut breaker = Breaker::new(64);
        let caps: Vec<u32> = (0..10)
            .map(|_| {
                breaker.timed_out(3);
                breaker.cap()
            })
            .collect();
        assert_eq!(caps, [64, 64, 32, 16, 8, 4, 2, 1, 1, 1]);
        assert_eq!(breaker.state(), BreakerState::Open);
    }

    #[test]
    fn an_answer_between_timeouts_keeps_it_closed() {
        let mut breaker = Breaker::new(64);
        for _ in 0..100 {
            assert_eq!(breaker.timed_out(3), None);
            assert_eq!(breaker.timed_out(3), None);
            assert_eq!(breaker.answered(64), None);
        }
        assert_eq!(breaker.cap(), 64);
    }

    #[test]
    fn answers_double_the_cap_until_it_is_whole() {
        let mut breaker = Breaker::new(10);
        while breaker.state() != BreakerState::Open {
            breaker.timed_out(1);
        }
        let steps: Vec<_> = (0..5).map(|_| (breaker.answered(10), breaker.cap())).collect();
        assert_eq!(
            steps,
            [
                (Some(BreakerState::HalfOpen), 2),
                (None, 4),
                (None, 8),
                (Some(BreakerState::Closed), 10),
                (None, 10)
            ]
        );
    }

    #[test]
    fn a_timeout_while_ramping_up_opens_it_again() {
        let mut breaker = Breaker::new(10);
        while breaker.state() != BreakerState::Open {
            breaker.timed_out(1);
        }
        breaker.answered(10);
        breaker.answered(10);
        assert_eq!(breaker.timed_out(3), Some(BreakerState::Open));
        assert_eq!(breaker.cap(), 1);
    }

    #[test]
    fn a_webhook_with_a_cap_of_one_opens_and_closes_without_a_ramp() {
        let mut breaker = Breaker::new(1);
        assert_eq!(breaker.timed_out(2), None);
        assert_eq!(breaker.timed_out(2), Some(BreakerState::Open));
        assert_eq!(breaker.answered(1), Some(BreakerState::Closed));
    }

    #[test]
    fn a_change_of_settings_gives_back_nothing_that_timeouts_took() {
        let mut breaker = Breaker::new(64);
        for _ in 0..5 {
            breaker.timed_out(3);
        }
        assert_eq!((breaker.state(), breaker.cap()), (BreakerState::Closed, 8));
        breaker.resize(64);
        assert_eq!(breaker.cap(), 8);
        breaker.answered(64);
        assert_eq!(breaker.cap(), 16);
    }

    #[test]
    fn a_smaller_cap_takes_effect_in_every_state() {
        let mut breaker = Breaker::new(64);
        breaker.resize(8);
        assert_eq!(breaker.cap(), 8);
        breaker.resize(0);
        assert_eq!(breaker.cap(), 1, "never less than a probe");
    }
}
