//! What attempts came to, as a row of numbers.
//!
//! A latency is kept as the class it falls into: two classes to the octave, from a millisecond to
//! half a minute. So a quantile is an estimate, off by a sixth or so, and by a half at the worst.

use crate::delivery::{Attempt, ErrorCode, Verdict};

const DELIVERED: usize = 0;
const FAILED: usize = 1;
const CANCELED: usize = 2;
const ERRORS: usize = 3;
const LATENCIES: usize = ERRORS + ErrorCode::ALL.len();
const CLASSES: usize = 32;
pub(super) const CELLS: usize = LATENCIES + CLASSES;

/// The first class ends, and the second begins, at 2¹⁰ µs.
const FIRST_OCTAVE: u32 = 10;

/// Which numbers one record moves: how its delivery ended, why its attempt failed, how long it took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moves([Option<usize>; 3]);

impl Moves {
    pub(super) fn of(verdict: Verdict, attempt: Option<&Attempt>) -> Self {
        let ended = match verdict {
            Verdict::Delivered => Some(DELIVERED),
            Verdict::Failed(_) => Some(FAILED),
            Verdict::Canceled(_) => Some(CANCELED),
            Verdict::RetryAt(_) | Verdict::Reopened => None,
        };
        let error = attempt.and_then(|attempt| attempt.error.as_ref());
        let error = error.map(|error| ERRORS + error.code as usize - 1);
        Self([ended, error, attempt.map(|attempt| LATENCIES + class(attempt.latency))])
    }

    pub(super) fn iter(self) -> impl Iterator<Item = usize> {
        self.0.into_iter().flatten()
    }
}

/// What the attempts of a stretch of time came to, and how deliveries ended in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts([u64; CELLS]);

impl Default for Counts {
    fn default() -> Self {
        Self([0; CELLS])
    }
}

impl Counts {
    pub(super) fn add(&mut self, cells: impl IntoIterator<Item = u64>) {
        for (sum, more) in self.0.iter_mut().zip(cells) {
            *sum += more;
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.add(other.0);
    }

    /// Attempts that were made.
    pub fn attempts(&self) -> u64 {
        self.delivered() + self.errors().map(|(_, count)| count).sum::<u64>()
    }

    /// Deliveries that ended well, each with its last attempt.
    pub fn delivered(&self) -> u64 {
        self.0[DELIVERED]
    }

    /// Deliveries that ended without success.
    pub fn failed(&self) -> u64 {
        self.0[FAILED]
    }

    /// Deliveries that were ended by a decision.
    pub fn canceled(&self) -> u64 {
        self.0[CANCELED]
    }

    /// Attempts that failed, by why.
    pub fn errors(&self) -> impl Iterator<Item = (ErrorCode, u64)> {
        ErrorCode::ALL.into_iter().zip(self.0[ERRORS..LATENCIES].iter().copied())
    }

    /// The share of attempts that delivered; none where there was no attempt.
    pub fn success_rate(&self) -> Option<f64> {
        let attempts = self.attempts();
        (attempts > 0).then(|| self.delivered() as f64 / attempts as f64)
    }

    /// What the share `q` of all attempts took at most, in microseconds, about; none where there was
    /// no attempt.
    pub fn latency(&self, q: f64) -> Option<u64> {
        let classes = &self.0[LATENCIES..];
        let all: u64 = classes.iter().sum();
        let wanted = (all as f64 * q).ceil().max(1.0);
        let mut below = 0.0;
        for (class, count) in classes.iter().map(|count| *count as f64).enumerate() {
            if count > 0.0 && below + count >= wanted {
                let (from, to) = bounds(class);
                let share = (wanted - below) / count;
                return Some(from + ((to - from) as f64 * share) as u64);
            }
            below += count;
        }
        None
    }
}

/// The class of a latency in microseconds.
fn class(micros: u32) -> usize {
    let octave = micros.max(1).ilog2();
    if octave < FIRST_OCTAVE {
        return 0;
    }
    let half = micros >> (octave - 1) & 1;
    (2 * (octave - FIRST_OCTAVE) + half + 1).min(CLASSES as u32 - 1) as usize
}

/// Where a class begins and ends; the last one would have no end.
fn bounds(class: usize) -> (u64, u64) {
    let start = |class: usize| match class {
        0 => 0,
        class => {
            let (octave, half) = ((class - 1) / 2, (class as u64 - 1) % 2);
            (2 + half) << (FIRST_OCTAVE as usize + octave - 1)
        }
    };
    (start(class), start(class + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latency_lies_within_the_bounds_of_its_class() {
        let mut last = 0;
        for micros in (0..40_000_000_u32).step_by(997).chain([1023, 1024, 1535, 1536, 2048]) {
            let (from, to) = bounds(class(micros));
            assert!((from..to).contains(&u64::from(micros)), "{micros} in {from}..{to}");
            last = last.max(class(micros));
        }
        assert_eq!(last, CLASSES - 1);
        assert_eq!(class(u32::MAX), CLASSES - 1);
    }

    #[test]
    fn quantiles_are_where_the_latencies_are() {
        let mut counts = Counts::default();
        assert_eq!(counts.latency(0.5), None);
        for (micros, times) in [(5_000, 90), (700_000, 9), (20_000_000, 1)] {
            counts.0[LATENCIES + class(micros)] += times;
        }
        for (q, micros) in [(0.5, 5_000), (0.9, 5_000), (0.95, 700_000), (1.0, 20_000_000)] {
            let (from, to) = bounds(class(micros));
            let found = counts.latency(q).expect("there are attempts");
            assert!((from..=to).contains(&found), "{q}: {found} for {micros}");
        }
        assert!(counts.latency(0.5) < counts.latency(0.9));
    }
}
