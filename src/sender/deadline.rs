//! The deadlines of one shard's attempts.
//!
//! Nearly every attempt ends long before its deadline. A timer of the runtime would cost each of
//! them a lock and a place in the runtime's wheel, twice; here a deadline is an entry of our own
//! [`Wheel`], put in and taken out again in constant time, and one task with one timer wakes those
//! that are due. It sleeps until the earliest deadline it has seen, so that under load it wakes
//! about once in the time that an attempt may take.
//!
//! A deadline is kept to the millisecond and never fires early.

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    pin::Pin,
    rc::Rc,
    task::{Poll, Waker},
    time::Duration,
};

use slab::Slab;
use tokio::{
    sync::Notify,
    task::{spawn_local, yield_now},
    time::{Instant, sleep_until},
};

use crate::{
    clock::{Clock, Millis},
    wheel::{TimerId, Wheel},
};

/// Attempts that are woken before others have their turn. To end one closes a connection; where
/// thousands hang that began together, whoever else is on this thread would wait for all of them.
const DUE_BATCH: usize = 32;

/// How long the task sleeps while nothing waits, milliseconds: as good as for ever.
const IDLE_LOOK: Millis = 3_600_000;

/// The deadline came first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Late;

#[derive(Debug)]
pub(super) struct Deadlines {
    clock: Clock,
    table: RefCell<Table>,
    /// When the task that wakes them looks next; none before there is one.
    looks_at: Cell<Option<Millis>>,
    sooner: Notify,
}

#[derive(Debug)]
struct Table {
    wheel: Wheel<usize>,
    waiting: Slab<Waiting>,
}

/// Someone under a deadline.
#[derive(Debug)]
struct Waiting {
    /// None once it has fired.
    timer: Option<TimerId>,
    waker: Waker,
}

impl Deadlines {
    pub(super) fn new(clock: Clock) -> Rc<Self> {
        let table = Table { wheel: Wheel::new(clock.now()), waiting: Slab::new() };
        Rc::new(Self {
            clock,
            table: RefCell::new(table),
            looks_at: Cell::new(None),
            sooner: Notify::new(),
        })
    }

    /// Runs `work` for at most `limit` from `began`. Must be awaited inside a `LocalSet`.
    /// `work` is pinned where its owner keeps it, so that nothing large is moved.
    pub(super) async fn within<W: Future>(
        self: &Rc<Self>,
        began: std::time::Instant,
        limit: Duration,
        mut work: Pin<&mut W>,
    ) -> Result<W::Output, Late> {
        let waiting = self.enter(began, limit);
        poll_fn(|cx| {
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(Ok(done));
            }
            if waiting.is_late(cx.waker()) { Poll::Ready(Err(Late)) } else { Poll::Pending }
        })
        .await
    }

    fn enter(self: &Rc<Self>, began: std::time::Instant, limit: Duration) -> Place<'_> {
        let limit = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        let deadline = self.clock.after(began).saturating_add(limit);
        let mut table = self.table.borrow_mut();
        let place = table.waiting.insert(Waiting { timer: None, waker: Waker::noop().clone() });
        let timer = table.wheel.insert(deadline, place);
        table.waiting[place].timer = Some(timer);
        drop(table);
        match self.looks_at.get() {
            Some(at) if at <= deadline => {}
            Some(_) => {
                self.looks_at.set(Some(deadline));
                self.sooner.notify_one();
            }
            None => self.watch(),
        }
        Place { deadlines: self, place }
    }

    fn watch(self: &Rc<Self>) {
        // Until it has looked, nobody needs to tell it anything.
        self.looks_at.set(Some(0));
        let watch = Watch(Rc::clone(self));
        spawn_local(async move {
            let deadlines = &watch.0;
            loop {
                let Some(next) = deadlines.fire() else {
                    yield_now().await;
                    continue;
                };
                let at = deadlines.clock.instant_at(next);
                tokio::select! {
                    () = sleep_until(Instant::from_std(at)) => {}
                    () = deadlines.sooner.notified() => {}
                }
            }
        });
    }

    /// Wakes some of those whose deadline has come; gives when to look again, none if at once.
    fn fire(&self) -> Option<Millis> {
        let now = self.clock.now();
        let mut due = Vec::new();
        let mut woken = Vec::new();
        let next = {
            let table = &mut *self.table.borrow_mut();
            let more = table.wheel.poll(now, DUE_BATCH, &mut due);
            for (_, place) in due {
                let waiting = &mut table.waiting[place];
                waiting.timer = None;
                woken.push(waiting.waker.clone());
            }
            if more { now } else { table.wheel.next().unwrap_or(now + IDLE_LOOK) }
        };
        woken.into_iter().for_each(Waker::wake);
        self.looks_at.set(Some(next));
        Some(next).filter(|next| *next > now)
    }
}

/// Held by the task that watches. Should that ever panic, the next attempt starts another: attempts
/// without a deadline would hang for good.
struct Watch(Rc<Deadlines>);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.looks_at.set(None);
    }
}

/// A place in the table, given back on drop.
struct Place<'d> {
    deadlines: &'d Deadlines,
    place: usize,
}

impl Place<'_> {
    /// Whether the deadline has come; if not, `waker` will be told.
    fn is_late(&self, waker: &Waker) -> bool {
        let waiting = &mut self.deadlines.table.borrow_mut().waiting[self.place];
        waiting.waker.clone_from(waker);
        waiting.timer.is_none()
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let table = &mut *self.deadlines.table.borrow_mut();
        if let Some(timer) = table.waiting.remove(self.place).timer {
            table.wheel.cancel(timer);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::pending, pin::pin};

    use tokio::task::LocalSet;

    use super::*;
    use crate::clock;

    const MS: Duration = Duration::from_millis(1);

    fn run(test: impl AsyncFnOnce(Rc<Deadlines>)) {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().build().unwrap();
        LocalSet::new().block_on(&runtime, test(Deadlines::new(Clock::start())));
    }

    #[test]
    fn a_watch_that_died_is_replaced() {
        run(async |deadlines| {
            // As one leaves it that looked and then panicked.
            deadlines.looks_at.set(Some(0));
            drop(Watch(Rc::clone(&deadlines)));
            let work = pin!(pending::<()>());
            let late = deadlines.within(clock::instant(), MS, work);
            let in_time = tokio::time::timeout(1000 * MS, late);
            assert_eq!(in_time.await, Ok(Err(Late)));
        });
    }

    #[test]
    fn a_thousand_that_are_late_together_leave_others_their_turns() {
        run(async |deadlines| {
            let ended = Rc::new(Cell::new(0));
            let began = clock::instant();
            for _ in 0..1000 {
                let (deadlines, ended) = (Rc::clone(&deadlines), Rc::clone(&ended));
                spawn_local(async move {
                    let late = deadlines.within(began, 20 * MS, pin!(pending::<()>())).await;
                    assert_eq!(late, Err(Late));
                    ended.set(ended.get() + 1);
                });
            }
            // A task like theirs, behind those that are woken before it.
            let other = spawn_local(async move {
                let (mut before, mut most) = (0, 0);
                while before < 1000 {
                    yield_now().await;
                    most = most.max(ended.get() - before);
                    before = ended.get();
                }
                most
            });
            let most = other.await.unwrap();
            assert!(most <= 4 * DUE_BATCH, "{most} in one go");
        });
    }

    #[test]
    fn work_that_never_ends_is_late_and_not_early() {
        run(async |deadlines| {
            for limit in [0, 1, 20] {
                let began = clock::instant();
                assert_eq!(
                    deadlines.within(clock::instant(), limit * MS, pin!(pending::<()>())).await,
                    Err(Late)
                );
                assert!(began.elapsed() >= limit * MS);
            }
        });
    }

    #[test]
    fn work_in_time_ends_as_it_would_alone() {
        run(async |deadlines| {
            let soon = async {
                tokio::task::yield_now().await;
                7
            };
            assert_eq!(
                deadlines.within(clock::instant(), Duration::from_secs(60), pin!(soon)).await,
                Ok(7)
            );
            assert_eq!(
                deadlines.within(clock::instant(), Duration::MAX, pin!(async { 8 })).await,
                Ok(8)
            );
        });
    }

    #[test]
    fn a_short_deadline_is_not_held_up_by_longer_ones() {
        run(async |deadlines| {
            let long = Rc::clone(&deadlines);
            let long = spawn_local(async move {
                long.within(clock::instant(), Duration::from_secs(60), pin!(pending::<()>())).await
            });
            // It has a place, and the task sleeps until its deadline.
            while deadlines.looks_at.get().is_none_or(|at| at == 0) {
                tokio::task::yield_now().await;
            }
            let never = pin!(pending::<()>());
            let short = deadlines.within(clock::instant(), 5 * MS, never);
            let short = tokio::time::timeout(Duration::from_secs(20), short).await;
            assert_eq!(short, Ok(Err(Late)));
            assert!(!long.is_finished());
            long.abort();
        });
    }

    #[test]
    fn places_are_given_back() {
        run(async |deadlines| {
            for _ in 0..10 {
                let _ = deadlines
                    .within(clock::instant(), Duration::from_secs(60), pin!(async {}))
                    .await;
                let _ = deadlines.within(clock::instant(), MS, pin!(pending::<()>())).await;
            }
            let table = deadlines.table.borrow();
            assert_eq!((table.waiting.len(), table.wheel.len()), (0, 0));
        });
    }

    #[test]
    fn a_thousand_deadlines_all_come() {
        run(async |deadlines| {
            let tasks: Vec<_> = (0..1000)
                .map(|n| {
                    let deadlines = Rc::clone(&deadlines);
                    spawn_local(async move {
                        deadlines
                            .within(clock::instant(), (1 + n % 40) * MS, pin!(pending::<()>()))
                            .await
                    })
                })
                .collect();
            for task in tasks {
                assert_eq!(task.await.unwrap(), Err(Late));
            }
        });
    }
}
