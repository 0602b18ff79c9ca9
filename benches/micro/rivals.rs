//! What else could tell when what is due.

use std::{
    collections::BTreeMap,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use senderz_gateway::clock::Millis;
use tokio::{runtime::Runtime, time::Instant};
use tokio_util::time::{DelayQueue, delay_queue::Key};

use crate::work::timers::Timers;

/// A sorted map; the number keeps equal deadlines apart.
#[derive(Default)]
pub(crate) struct Sorted {
    waiting: BTreeMap<(Millis, u64), [u64; 2]>,
    now: Millis,
    inserted: u64,
}

impl Timers for Sorted {
    type Id = (Millis, u64);

    fn now(&self) -> Millis {
        self.now
    }

    fn insert(&mut self, deadline: Millis, item: [u64; 2]) -> Self::Id {
        self.inserted += 1;
        let id = (deadline, self.inserted);
        self.waiting.insert(id, item);
        id
    }

    fn cancel(&mut self, id: Self::Id) {
        self.waiting.remove(&id).expect("each entry is canceled once");
    }

    fn pass(&mut self) {
        self.now += 1;
    }

    fn take_due(&mut self, due: &mut Vec<(Millis, [u64; 2])>) {
        while let Some(first) = self.waiting.first_entry()
            && first.key().0 <= self.now
        {
            let ((deadline, _), item) = first.remove_entry();
            due.push((deadline, item));
        }
    }
}

/// tokio's, which knows no time but the real one: a millisecond that passes is slept through.
pub(crate) struct Tokio {
    waiting: DelayQueue<[u64; 2]>,
    runtime: Rc<Runtime>,
    began: Instant,
}

impl Tokio {
    /// Must be called, and used, inside the runtime's context.
    pub(crate) fn new(runtime: &Rc<Runtime>, entries: usize) -> Self {
        let waiting = DelayQueue::with_capacity(entries);
        Self { waiting, runtime: Rc::clone(runtime), began: Instant::now() }
    }
}

impl Timers for Tokio {
    type Id = Key;

    fn now(&self) -> Millis {
        self.began.elapsed().as_millis() as Millis
    }

    fn insert(&mut self, deadline: Millis, item: [u64; 2]) -> Key {
        self.waiting.insert_at(item, self.began + Duration::from_millis(deadline))
    }

    fn cancel(&mut self, id: Key) {
        self.waiting.remove(&id);
    }

    fn pass(&mut self) {
        self.runtime.block_on(tokio::time::sleep(Duration::from_millis(1)));
    }

    fn take_due(&mut self, due: &mut Vec<(Millis, [u64; 2])>) {
        let mut cx = Context::from_waker(Waker::noop());
        while let Poll::Ready(Some(expired)) = self.waiting.poll_expired(&mut cx) {
            due.push((0, expired.into_inner()));
        }
    }
}
