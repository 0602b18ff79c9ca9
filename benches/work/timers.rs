//! Timers in steady state: always as many entries wait, and in every millisecond a hundred fall
//! due and are put back.

use senderz_gateway::{
    clock::Millis,
    wheel::{TimerId, Wheel},
};

use super::NOW;

/// Entries that fall due in a millisecond, on average.
pub(crate) const PER_MILLI: usize = 100;

/// Something that tells when what is due. Items are as large as the engine's.
pub(crate) trait Timers {
    type Id: Copy;

    fn now(&self) -> Millis;
    fn insert(&mut self, deadline: Millis, item: [u64; 2]) -> Self::Id;
    fn cancel(&mut self, id: Self::Id);
    /// Lets a millisecond pass.
    fn pass(&mut self);
    /// Takes out what is due now.
    fn take_due(&mut self, due: &mut Vec<(Millis, [u64; 2])>);
}

/// The gateway's own wheel, in a time of its own.
pub(crate) struct Ours {
    wheel: Wheel<[u64; 2]>,
    now: Millis,
}

impl Ours {
    pub(crate) fn new() -> Self {
        Self { wheel: Wheel::new(NOW), now: NOW }
    }
}

impl Timers for Ours {
    type Id = TimerId;

    fn now(&self) -> Millis {
        self.now
    }

    fn insert(&mut self, deadline: Millis, item: [u64; 2]) -> TimerId {
        self.wheel.insert(deadline, item)
    }

    fn cancel(&mut self, id: TimerId) {
        self.wheel.cancel(id).expect("each entry is canceled once");
    }

    fn pass(&mut self) {
        self.now += 1;
    }

    fn take_due(&mut self, due: &mut Vec<(Millis, [u64; 2])>) {
        while self.wheel.poll(self.now, usize::MAX, due) {}
    }
}

/// A fixed number of waiting entries. An item's first number is where its id stands in `ids`.
pub(crate) struct Load<Q: Timers> {
    queue: Q,
    ids: Vec<Q::Id>,
    due: Vec<(Millis, [u64; 2])>,
    random: u64,
}

impl<Q: Timers> Load<Q> {
    pub(crate) fn new(queue: Q, entries: usize) -> Self {
        let mut load = Self { queue, ids: Vec::with_capacity(entries), due: Vec::new(), random: 1 };
        for at in 0..entries {
            let deadline = load.deadline(entries);
            let id = load.queue.insert(deadline, [at as u64, 0]);
            load.ids.push(id);
        }
        load
    }

    /// Some places of entries all over the slab, and a new deadline for each.
    pub(crate) fn pick(&mut self, count: usize) -> Vec<(usize, Millis)> {
        let entries = self.ids.len();
        let from = self.draw(entries as u64) as usize;
        let stride = entries / count;
        (0..count).map(|n| ((from + n * stride) % entries, self.deadline(entries))).collect()
    }

    pub(crate) fn cancel(&mut self, picked: &[(usize, Millis)]) {
        for (at, _) in picked {
            self.queue.cancel(self.ids[*at]);
        }
    }

    /// Fills the places of canceled entries.
    pub(crate) fn insert(&mut self, picked: &[(usize, Millis)]) {
        for (at, deadline) in picked {
            self.ids[*at] = self.queue.insert(*deadline, [*at as u64, 0]);
        }
    }

    pub(crate) fn pass(&mut self) {
        self.queue.pass();
    }

    /// Answers how many were due.
    pub(crate) fn take_due(&mut self) -> usize {
        self.queue.take_due(&mut self.due);
        self.due.len()
    }

    pub(crate) fn put_back(&mut self) {
        let mut due = std::mem::take(&mut self.due);
        for (_, item) in due.drain(..) {
            let deadline = self.deadline(self.ids.len());
            self.ids[item[0] as usize] = self.queue.insert(deadline, item);
        }
        self.due = due;
    }

    /// With `entries` waiting this long on average, [`PER_MILLI`] are due in each millisecond.
    fn deadline(&mut self, entries: usize) -> Millis {
        let mean = (entries / PER_MILLI) as u64;
        self.queue.now() + 1 + self.draw(2 * mean)
    }

    /// Numbers below `end` that are the same in every run (splitmix64).
    fn draw(&mut self, end: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ z >> 31) % end
    }
}
