//! Ages: when the event at a place was accepted, to the second.
//!
//! A waiting delivery is 16 bytes or fewer and does not carry when it was accepted. Places order as
//! events were accepted, so one mark per second that saw an event says it for all of them: the
//! place from which on that second holds. A day of constant load is 86,400 marks, 1.4 MB, whatever
//! the load.
//!
//! Invariant: marks rise strictly in both place and time. A clock that goes back makes no mark: the
//! events count as accepted in the latest second until the clock has caught up.

use std::collections::VecDeque;

use crate::{clock::Millis, id::Place};

const SECOND: Millis = 1000;
/// Marks' worth of memory not worth giving back.
const KEPT: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Ages {
    /// From this place on, events were accepted in the second that starts here.
    marks: VecDeque<(Place, Millis)>,
}

impl Ages {
    /// Tells when a place was accepted. A place at or before the last mark is known already.
    pub(super) fn note(&mut self, place: Place, accepted_at: Millis) {
        let second = accepted_at - accepted_at % SECOND;
        let newer = self.marks.back().is_none_or(|last| place > last.0 && second > last.1);
        if newer {
            self.marks.push_back((place, second));
        }
    }

    /// When the event at `place` was accepted, rounded down to the second; none for a place before
    /// all marks (an old delivery that is replayed).
    pub(super) fn of(&self, place: Place) -> Option<Millis> {
        let after = self.marks.partition_point(|(from, _)| *from <= place);
        after.checked_sub(1).map(|at| self.marks[at].1)
    }

    /// Gives up marks that only tell ages beyond any that matters.
    pub(super) fn forget_older_than(&mut self, accepted_at: Millis) {
        while self.marks.get(1).is_some_and(|(_, second)| *second <= accepted_at) {
            self.marks.pop_front();
        }
        if self.marks.len() < self.marks.capacity() / 4 {
            self.marks.shrink_to(KEPT.max(self.marks.len() * 2));
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.marks.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn place(raw: u64) -> Place {
        Place::from_u64(raw)
    }

    fn ages(notes: &[(u64, Millis)]) -> Ages {
        let mut ages = Ages::default();
        for (at, accepted_at) in notes {
            ages.note(place(*at), *accepted_at);
        }
        ages
    }

    #[track_caller]
    fn check(notes: &[(u64, Millis)], expected: &[(u64, Option<Millis>)]) {
        let ages = ages(notes);
        for (at, accepted_at) in expected {
            assert_eq!(ages.of(place(*at)), *accepted_at, "place {at} after {notes:?}");
        }
    }

    #[test]
    fn a_place_has_the_second_of_the_last_mark_at_or_before_it() {
        check(&[], &[(0, None), (u64::MAX, None)]);
        check(&[(10, 5_999)], &[(9, None), (10, Some(5_000)), (u64::MAX, Some(5_000))]);
        check(
            &[(10, 5_000), (20, 6_001), (30, 9_500)],
            &[(10, Some(5_000)), (19, Some(5_000)), (20, Some(6_000)), (29, Some(6_000))],
        );
        check(&[(10, 5_000), (20, 6_001), (30, 9_500)], &[(30, Some(9_000)), (99, Some(9_000))]);
    }

    #[test]
    fn a_clock_that_goes_back_counts_as_the_latest_second() {
        check(
            &[(10, 9_000), (20, 3_000), (30, 9_999), (40, 10_000)],
            &[(20, Some(9_000)), (30, Some(9_000)), (40, Some(10_000))],
        );
    }

    #[test]
    fn a_place_that_goes_back_changes_nothing() {
        check(
            &[(10, 5_000), (20, 7_000), (15, 8_000), (20, 9_000)],
            &[(10, Some(5_000)), (15, Some(5_000)), (20, Some(7_000))],
        );
    }

    #[test]
    fn a_mark_is_made_only_when_the_second_changes() {
        let notes: Vec<_> = (0..10_000).map(|n| (n, 50_000 + n)).collect();
        assert_eq!(ages(&notes).len(), 10);
    }

    #[test]
    fn forgetting_gives_memory_back() {
        let notes: Vec<_> = (0..100_000).map(|n| (n, n * SECOND)).collect();
        let mut ages = ages(&notes);
        ages.forget_older_than(99_990 * SECOND);
        assert_eq!(ages.len(), 10);
        assert!(ages.marks.capacity() <= 2 * KEPT, "{} marks' room", ages.marks.capacity());
    }

    proptest! {
        #[test]
        fn forgetting_keeps_every_answer_about_younger_places(
            steps in prop::collection::vec((1u64..4, 0u64..3_000), 1..80),
            forget in 0u64..100_000,
        ) {
            let mut now = (0, 0);
            let notes: Vec<_> = steps.into_iter().map(|(places, ms)| {
                now = (now.0 + places, now.1 + ms);
                now
            }).collect();
            let whole = ages(&notes);
            let mut pruned = ages(&notes);
            pruned.forget_older_than(forget);
            for (at, accepted_at) in notes {
                prop_assert_eq!(whole.of(place(at)), Some(accepted_at / SECOND * SECOND));
                if accepted_at >= forget {
                    prop_assert_eq!(pruned.of(place(at)), whole.of(place(at)));
                }
            }
            let needed = pruned.marks.iter().filter(|(_, second)| *second > forget).count();
            prop_assert!(pruned.len() <= needed + 1, "{} marks, {} needed", pruned.len(), needed);
        }
    }
}
