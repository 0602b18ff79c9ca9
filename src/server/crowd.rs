//! The connections of a listener: which of them are idle, since when, and who has to go.
//!
//! A connection is idle while no request of its is in flight, from the moment it is accepted: a
//! handshake or a head that never ends holds no place either. The idle ones stand in the order in
//! which they became so. When a place is wanted, the first of them is asked to leave; when none is
//! idle, the next one to become so is.
//!
//! Invariants: a connection stands in the order at most once, only while it is idle and open; each
//! event costs one short lock and O(log n). There are no timers here.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use crate::clock;

/// [`Activity::ticket`] of a connection that is not in the order.
const NOT_IDLE: u64 = 0;
/// … and of one that has ended and never will be again.
const GONE: u64 = u64::MAX;

/// All open connections of a listener.
#[derive(Debug, Default)]
pub(super) struct Crowd(Mutex<Idle>);

/// The idle connections by ticket. Tickets rise: the first one has been idle longest.
#[derive(Debug, Default)]
struct Idle {
    order: BTreeMap<u64, Arc<Activity>>,
    last_ticket: u64,
    /// Whether the next connection to become idle is to leave.
    is_place_wanted: bool,
}

impl Crowd {
    pub(super) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// A connection that has just been accepted.
    pub(super) fn enter(self: &Arc<Self>) -> Member {
        let activity = Arc::new(Activity {
            opened: clock::instant(),
            in_flight: AtomicUsize::new(0),
            quiet_since: AtomicU64::new(0),
            crowd: Arc::clone(self),
            ticket: AtomicU64::new(NOT_IDLE),
            leave: Notify::new(),
        });
        self.idle().join(&activity);
        Member(activity)
    }

    /// Asks the connection that has been idle longest to leave; if there is none, the next to
    /// become idle.
    pub(super) fn want_place(&self) {
        let mut idle = self.idle();
        match idle.order.pop_first() {
            Some((_, oldest)) => {
                oldest.ticket.store(NOT_IDLE, Ordering::Relaxed);
                oldest.leave.notify_one();
            }
            None => idle.is_place_wanted = true,
        }
    }

    /// There is a place: nobody has to leave any more.
    pub(super) fn has_place(&self) {
        self.idle().is_place_wanted = false;
    }

    fn idle(&self) -> MutexGuard<'_, Idle> {
        // The order is whole between any two statements: a panic elsewhere cannot have torn it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Idle {
    /// Puts a connection at the end of the order, if it is idle, open and not there yet.
    fn join(&mut self, activity: &Arc<Activity>) {
        // Asked under the lock: a request that has begun since takes its connection out after us.
        let is_busy = activity.in_flight.load(Ordering::Relaxed) > 0;
        if is_busy || activity.ticket.load(Ordering::Relaxed) != NOT_IDLE {
            return;
        }
        if std::mem::take(&mut self.is_place_wanted) {
            activity.leave.notify_one();
            return;
        }
        self.last_ticket += 1;
        activity.ticket.store(self.last_ticket, Ordering::Relaxed);
        self.order.insert(self.last_ticket, Arc::clone(activity));
    }

    fn take_out(&mut self, activity: &Activity, ticket: u64) {
        let before = activity.ticket.load(Ordering::Relaxed);
        if before != GONE {
            self.order.remove(&before);
            activity.ticket.store(ticket, Ordering::Relaxed);
        }
    }
}

/// A connection's place in the crowd, until it is dropped.
#[derive(Debug)]
pub(super) struct Member(Arc<Activity>);

impl std::ops::Deref for Member {
    type Target = Arc<Activity>;

    fn deref(&self) -> &Arc<Activity> {
        &self.0
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // On HTTP/2 a request may outlive its connection: its end must not bring this one back.
        self.0.crowd.idle().take_out(&self.0, GONE);
    }
}

/// How many requests a connection is busy with, and since when it is quiet. Shared by the
/// connection and its requests, which on HTTP/2 are tasks of their own.
#[derive(Debug)]
pub(super) struct Activity {
    opened: Instant,
    in_flight: AtomicUsize,
    /// Microseconds after `opened` at which the last request ended; 0 before the first one has.
    quiet_since: AtomicU64,
    crowd: Arc<Crowd>,
    /// The place in the crowd's order; changed only under its lock.
    ticket: AtomicU64,
    leave: Notify,
}

impl Activity {
    /// Counts a request until the guard is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> InFlight {
        if self.in_flight.fetch_add(1, Ordering::Relaxed) == 0 {
            self.crowd.idle().take_out(self, NOT_IDLE);
        }
        InFlight(Arc::clone(self))
    }

    /// How long no request has been in flight; none while one is.
    pub(super) fn quiet_for(&self) -> Option<Duration> {
        if self.in_flight.load(Ordering::Acquire) > 0 {
            return None;
        }
        let since = Duration::from_micros(self.quiet_since.load(Ordering::Relaxed));
        Some(self.opened.elapsed().saturating_sub(since))
    }

    /// Whether no request has come yet.
    pub(super) fn is_new(&self) -> bool {
        // The end of a request is told before that it is no longer in flight.
        self.in_flight.load(Ordering::Acquire) == 0 && self.quiet_since.load(Ordering::Relaxed) == 0
    }

    /// Ready once another connection needs the place of this one. Cancel-safe.
    pub(super) async fn asked_to_leave(&self) {
        self.leave.notified().await;
    }
}

/// A request in flight.
#[derive(Debug)]
pub(super) struct InFlight(Arc<Activity>);

impl Drop for InFlight {
    fn drop(&mut self) {
        let now = u64::try_from(self.0.opened.elapsed().as_micros()).unwrap_or(u64::MAX);
        // Zero is for no request at all.
        self.0.quiet_since.store(now.max(1), Ordering::Relaxed);
        if self.0.in_flight.fetch_sub(1, Ordering::Release) == 1 {
            self.0.crowd.idle().join(&self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn must_leave(member: &Member) -> bool {
        let mut asked = std::pin::pin!(member.asked_to_leave());
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        asked.as_mut().poll(&mut cx).is_ready()
    }

    #[test]
    fn the_longest_idle_leaves_first_and_the_busy_stay() {
        let crowd = Crowd::new();
        let [a, b, c] = [(); 3].map(|()| crowd.enter());
        drop(a.begin());
        let _busy = b.begin();
        for expected in [[false, false, true], [true, false, false], [false, false, false]] {
            crowd.want_place();
            assert_eq!([&a, &b, &c].map(must_leave), expected);
        }
    }

    #[test]
    fn where_all_are_busy_the_next_idle_one_leaves_unless_a_place_was_found() {
        let crowd = Crowd::new();
        let [a, b] = [(); 2].map(|()| crowd.enter());
        let (first, second, other) = (a.begin(), a.begin(), b.begin());
        crowd.want_place();
        drop(first);
        assert!(!must_leave(&a), "one of its requests is in flight");
        drop(second);
        assert!(must_leave(&a));
        crowd.want_place();
        crowd.has_place();
        drop(other);
        assert!(!must_leave(&b));
    }

    #[test]
    fn a_connection_that_ended_is_forgotten_even_if_a_request_outlives_it() {
        let crowd = Crowd::new();
        let (a, b) = (crowd.enter(), crowd.enter());
        let late = a.begin();
        drop(a);
        drop(late);
        drop(b);
        assert!(crowd.idle().order.is_empty());
    }
}
