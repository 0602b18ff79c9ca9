use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;

use super::*;

const DAY: Millis = 86_400_000;
const NOW: Millis = 1_795_000_000_000;

fn wheel(deadlines: &[Millis]) -> Wheel<u128> {
    let mut wheel = Wheel::new(NOW);
    for (item, deadline) in (0..).zip(deadlines) {
        wheel.insert(*deadline, item);
    }
    wheel
}

/// Polls with the same `now` until nothing more is due.
fn drain(wheel: &mut Wheel<u128>, now: Millis, limit: usize) -> Vec<Millis> {
    let mut due = Vec::new();
    while wheel.poll(now, limit, &mut due) {}
    due.into_iter().map(|(deadline, _)| deadline).collect()
}

#[track_caller]
fn check(deadlines: &[Millis], now: Millis, expected: &[Millis]) {
    for limit in [1, 2, usize::MAX] {
        assert_eq!(drain(&mut wheel(deadlines), now, limit), expected, "limit {limit}");
    }
}

#[test]
fn due_entries_come_in_deadline_order_and_the_others_stay() {
    check(&[], NOW + DAY, &[]);
    check(&[NOW + 1], NOW, &[]);
    check(&[NOW, NOW + 1], NOW, &[NOW]);
    check(&[NOW + 64, NOW + 63, NOW + 1, NOW + 65], NOW + 64, &[NOW + 1, NOW + 63, NOW + 64]);
    check(
        &[NOW + DAY, NOW + 3000 * DAY, NOW + 7, u64::MAX],
        NOW + 4000 * DAY,
        &[NOW + 7, NOW + DAY, NOW + 3000 * DAY],
    );
    check(&[u64::MAX, u64::MAX - 1], u64::MAX, &[u64::MAX - 1, u64::MAX]);
}

#[test]
fn what_was_due_before_it_was_inserted_comes_first_and_in_order() {
    check(&[NOW, 50, NOW - 1, 0, 30], NOW, &[0, 30, 50, NOW - 1, NOW]);
}

#[test]
fn a_now_that_goes_back_counts_as_the_latest() {
    let mut wheel = wheel(&[]);
    assert!(!wheel.poll(NOW + 100, 1, &mut Vec::new()));
    wheel.insert(NOW + 90, 1);
    wheel.insert(NOW + 100, 2);
    wheel.insert(NOW + 101, 3);
    assert_eq!(drain(&mut wheel, 0, 10), [NOW + 90, NOW + 100]);
}

#[test]
fn an_entry_is_canceled_from_anywhere_in_its_list() {
    for canceled in 0..3 {
        let mut wheel = Wheel::new(NOW);
        let ids = [0, 1, 2].map(|item| wheel.insert(NOW + 5000, item));
        assert_eq!(wheel.cancel(ids[canceled as usize]), Some(canceled));
        assert_eq!(wheel.cancel(ids[canceled as usize]), None);
        let mut due = Vec::new();
        while wheel.poll(NOW + 5000, 9, &mut due) {}
        let mut items: Vec<u128> = due.into_iter().map(|(_, item)| item).collect();
        items.sort_unstable();
        let expected: Vec<u128> = (0..3).filter(|item| *item != canceled).collect();
        assert_eq!(items, expected);
        assert_eq!(wheel.next(), None);
    }
}

#[test]
fn a_half_spread_slot_hands_nothing_out_and_can_be_canceled() {
    let mut wheel = Wheel::new(0);
    let ids: Vec<_> = (0..SPREAD_PER_POLL as u128 + 2).map(|n| wheel.insert(70, n)).collect();
    let mut due = Vec::new();
    assert!(wheel.poll(100, 99, &mut due), "not all spread");
    assert_eq!(due, []);
    assert_eq!(wheel.next(), Some(64));
    // The last two to be spread are the first two inserted.
    assert_eq!(wheel.cancel(ids[0]), Some(0));
    assert_eq!(wheel.cancel(ids[1]), Some(1));
    assert!(!wheel.poll(100, 99, &mut due));
    assert_eq!(due.len(), SPREAD_PER_POLL);
}

#[test]
fn next_is_exact_within_a_slot_and_a_slots_start_beyond() {
    let cases = [(NOW, NOW), (NOW + 3, NOW + 3), (NOW - 9, NOW - 9)];
    for (deadline, expected) in cases {
        assert_eq!(wheel(&[deadline]).next(), Some(expected));
    }
    let mut wheel = Wheel::new(0);
    wheel.insert(64 * 3 + 5, 1);
    assert_eq!(wheel.next(), Some(64 * 3));
    assert!(!wheel.poll(64 * 3, 9, &mut Vec::new()));
    assert_eq!(wheel.next(), Some(64 * 3 + 5));
}

#[test]
fn a_million_years_take_no_longer_than_a_moment() {
    let mut wheel = wheel(&[NOW + 1, u64::MAX]);
    let mut polls = 0;
    while let Some(at) = wheel.next() {
        wheel.poll(at, 1, &mut Vec::new());
        polls += 1;
    }
    assert!(polls <= 2 + LEVELS, "{polls} polls");
}

#[test]
fn an_empty_wheel_gives_its_memory_back() {
    let deadlines: Vec<_> = (0..20_000).map(|n| NOW + n % 50).collect();
    let mut wheel = wheel(&deadlines);
    assert!(wheel.entries.capacity() >= 20_000);
    assert_eq!(drain(&mut wheel, NOW + DAY, 1000).len(), 20_000);
    assert!(wheel.entries.capacity() <= KEPT_WHEN_EMPTY);
    wheel.insert(NOW, 1);
    assert_eq!(wheel.len(), 1);
}

#[test]
fn places_in_the_slab_are_used_again() {
    let mut wheel = wheel(&[NOW + DAY]);
    for n in 0..1000 {
        let id = wheel.insert(NOW + n, 2);
        assert_eq!(wheel.get(id), Some(&2));
        assert_eq!(wheel.cancel(id), Some(2));
        assert_eq!(wheel.get(id), None);
    }
    assert_eq!(wheel.entries.len(), 2);
}

#[derive(Clone, Debug)]
enum Op {
    /// Relative to the latest time polled.
    Insert(i64),
    InsertAt(Millis),
    /// One of the live ones, by its rank.
    Cancel(usize),
    Poll {
        ahead: i64,
        limit: usize,
    },
    /// To the time that `next` names.
    PollNext {
        limit: usize,
    },
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let distance =
        || prop_oneof![-200i64..200, -5000i64..100_000, 0i64..4_000_000_000, 0i64..1 << 50];
    let limit = || prop_oneof![0usize..4, Just(1000)];
    let op = prop_oneof![
        6 => distance().prop_map(Op::Insert),
        2 => (0i64..3).prop_map(|n| Op::Insert(64 * n + 70)),
        1 => prop_oneof![any::<u64>(), Just(u64::MAX), Just(0)].prop_map(Op::InsertAt),
        3 => any::<usize>().prop_map(Op::Cancel),
        3 => (distance(), limit()).prop_map(|(ahead, limit)| Op::Poll { ahead, limit }),
        3 => limit().prop_map(|limit| Op::PollNext { limit }),
    ];
    prop::collection::vec(op, 1..120)
}

/// A wheel beside a sorted map that predicts what it does.
struct Pair {
    wheel: Wheel<u128>,
    model: BTreeMap<(Millis, u128), TimerId>,
    inserted: u128,
    now: Millis,
}

impl Pair {
    fn insert(&mut self, deadline: Millis) {
        self.inserted += 1;
        let id = self.wheel.insert(deadline, self.inserted);
        assert!(self.model.values().all(|live| *live != id), "an id names one live entry");
        self.model.insert((deadline, self.inserted), id);
    }

    fn cancel(&mut self, rank: usize) {
        let Some(at) = rank.checked_rem(self.model.len()) else { return };
        let (key, id) = self.model.iter().nth(at).map(|(k, id)| (*k, *id)).expect("in range");
        assert_eq!(self.wheel.get(id), Some(&key.1));
        assert_eq!(self.wheel.cancel(id), Some(key.1));
        self.model.remove(&key);
    }

    fn poll(&mut self, now: Millis, limit: usize) {
        self.now = self.now.max(now);
        let now = now.max(self.wheel.elapsed);
        let mut due = Vec::new();
        let more = self.wheel.poll(now, limit, &mut due);
        assert!(self.wheel.elapsed <= self.now, "ahead of all that was polled");
        let ready = self.model.range(..=(now, u128::MAX));
        let ready: Vec<Millis> = ready.map(|((deadline, _), _)| *deadline).collect();
        assert!(due.len() <= limit);
        // What comes is a beginning of what is due, in deadline order; all of it if `more` is false.
        let deadlines: Vec<Millis> = due.iter().map(|(deadline, _)| *deadline).collect();
        assert_eq!(deadlines, ready[..due.len()]);
        assert!(more || due.len() == ready.len(), "{} of {} due", due.len(), ready.len());
        for key in due {
            assert!(self.model.remove(&key).is_some(), "{key:?} handed out twice or never set");
        }
    }

    fn agree(&self) {
        assert_eq!(self.wheel.len(), self.model.len());
        let earliest = self.model.keys().next().map(|(deadline, _)| *deadline);
        let next = self.wheel.next();
        assert_eq!(next.is_some(), earliest.is_some());
        assert!(next <= earliest, "{next:?} is after {earliest:?}");
        let seen: HashMap<u128, (Millis, TimerId)> =
            self.wheel.iter().map(|(id, deadline, item)| (*item, (deadline, id))).collect();
        assert_eq!(seen.len(), self.model.len());
        for ((deadline, item), id) in &self.model {
            assert_eq!(seen.get(item), Some(&(*deadline, *id)));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_wheel_does_what_a_sorted_map_does(start in prop_oneof![Just(NOW), any::<u64>()], ops in ops()) {
        let mut pair =
            Pair { wheel: Wheel::new(start), model: BTreeMap::new(), inserted: 0, now: start };
        for op in ops {
            match op {
                Op::Insert(distance) => pair.insert(pair.now.saturating_add_signed(distance)),
                Op::InsertAt(deadline) => pair.insert(deadline),
                Op::Cancel(rank) => pair.cancel(rank),
                Op::Poll { ahead, limit } => {
                    pair.poll(pair.now.saturating_add_signed(ahead), limit);
                }
                Op::PollNext { limit } => {
                    let at = pair.wheel.next().unwrap_or(pair.now);
                    pair.poll(at, limit);
                }
            }
            pair.agree();
        }
        // Polling at `next` comes to an end: each entry moves down a level or out.
        let mut polls = pair.model.len() * LEVELS + LEVELS;
        while let Some(at) = pair.wheel.next() {
            prop_assert!(polls > 0, "no progress at {at}");
            polls -= 1;
            pair.poll(at, 1);
        }
        prop_assert!(pair.model.is_empty());
    }
}
