//! A lane is everything we know about one webhook's backlog. It never waits and never sends; it
//! answers one question, whether this webhook may take another request now, so that a slow webhook
//! can hold up only itself.
//!
//! A delivery that waits for its first attempt costs eight bytes here: its place. A lane that holds
//! too many spills: what comes after stays in the log, and only where it begins and ends is kept.

use std::collections::VecDeque;

use super::{
    LaneSettings, Settings, breaker::Breaker, fairness::TenantIndex, rate::Rate, skip::Skip,
};
use crate::{
    clock::Millis,
    id::{Place, WebhookNo},
    wheel::TimerId,
};

/// A queue that has been this long gives its memory back as it empties.
const KEEP_CAPACITY: usize = 4096;

#[derive(Debug)]
pub(super) struct Lane {
    pub(super) webhook: WebhookNo,
    pub(super) tenant: TenantIndex,
    pub(super) settings: LaneSettings,
    /// Waiting for their first attempt, in place order.
    pub(super) fresh: VecDeque<Place>,
    /// The part of the backlog that only the log holds; it comes after all of `fresh`.
    pub(super) spill: Option<Box<Spill>>,
    /// Retries and replays whose time has come, in the order in which it came.
    pub(super) due: VecDeque<Due>,
    /// Replays that have no hurry: they go when nothing else waits.
    pub(super) later: VecDeque<Due>,
    /// Retries in the wheel.
    pub(super) scheduled: u32,
    pub(super) in_flight: u32,
    /// Of `in_flight`, those that began in `later`.
    pub(super) later_in_flight: u32,
    pub(super) breaker: Breaker,
    pub(super) rate: Option<Rate>,
    /// Set while the rate limit keeps the lane out of the ring.
    pub(super) rate_timer: Option<TimerId>,
    /// Set while anything waits: when the first of it is too old.
    pub(super) expiry_timer: Option<(Millis, TimerId)>,
    /// Whether it stands in its tenant's ring.
    pub(super) in_ring: bool,
    /// The webhook was deleted; what waits is being canceled.
    pub(super) removed: bool,
}

/// A retry or replay that may go now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) retry: Retry,
    pub(super) due: Millis,
}

/// A delivery with a past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Retry {
    pub(super) place: Place,
    /// Attempts made in all: numbers the next one.
    pub(super) attempts: u16,
    /// Attempts made since acceptance or the last replay: its step in the schedule.
    pub(super) round: u8,
    /// Its age counts from when it was due, not from the event's acceptance.
    pub(super) replayed: bool,
}

/// The stretch of the log that holds the rest of a lane's backlog.
#[derive(Debug)]
pub(super) struct Spill {
    /// Where the next refill starts.
    pub(super) next: Place,
    /// The newest delivery of the stretch.
    pub(super) last: Place,
    /// How many wait there.
    pub(super) count: u64,
    /// Places in the stretch that do not wait there: known elsewhere, settled or canceled.
    pub(super) skip: Skip,
    /// Up to where a refill has been asked for.
    pub(super) asked: Option<Place>,
}

impl Lane {
    pub(super) fn new(
        webhook: WebhookNo,
        tenant: TenantIndex,
        settings: LaneSettings,
        policy: &Settings,
        now: Millis,
    ) -> Self {
        let whole = settings.max_in_flight.unwrap_or(policy.webhook_max_in_flight);
        Self {
            webhook,
            tenant,
            settings,
            fresh: VecDeque::new(),
            spill: None,
            due: VecDeque::new(),
            later: VecDeque::new(),
            scheduled: 0,
            in_flight: 0,
            later_in_flight: 0,
            breaker: Breaker::new(whole),
            rate: settings.rate_limit.map(|limit| Rate::new(limit, now)),
            rate_timer: None,
            expiry_timer: None,
            in_ring: false,
            removed: false,
        }
    }

    /// The webhook's own in-flight cap, before the breaker has its say.
    pub(super) fn whole_cap(&self, policy: &Settings) -> u32 {
        self.settings.max_in_flight.unwrap_or(policy.webhook_max_in_flight).max(1)
    }

    /// Whether it has something to send and a slot to send it with; the rate limit is asked later.
    pub(super) fn can_go(&self, crowded: bool) -> bool {
        self.settings.enabled
            && !self.removed
            && self.rate_timer.is_none()
            && self.in_flight < self.breaker.cap()
            && (!self.due.is_empty()
                || (!self.fresh.is_empty() && self.has_room(crowded))
                || self.later_may_go(crowded))
    }

    /// Whether one more of its deliveries may become one that waits for a retry. In a crowd, no
    /// more may wait than may be under way.
    pub(super) fn has_room(&self, crowded: bool) -> bool {
        !crowded || self.retrying() < self.breaker.cap() as usize
    }

    /// Whether a crowd keeps its first attempts from being made.
    pub(super) fn is_held_back(&self, crowded: bool) -> bool {
        let wants = self.settings.enabled && !self.removed && !self.fresh.is_empty();
        wants && !self.has_room(crowded)
    }

    /// Retries and replays that wait, those that have no hurry apart.
    pub(super) fn retrying(&self) -> usize {
        self.scheduled as usize + self.due.len()
    }

    /// Whether any delivery waits in memory for a slot.
    pub(super) fn holds_any(&self) -> bool {
        !self.due.is_empty() || !self.fresh.is_empty() || !self.later.is_empty()
    }

    /// Whether nothing is left of it, so that its index may be used again.
    pub(super) fn is_spent(&self) -> bool {
        !self.holds_any()
            && self.spill.is_none()
            && self.scheduled == 0
            && self.in_flight == 0
            && !self.in_ring
    }

    pub(super) fn pop_fresh(&mut self) -> Option<Place> {
        pop(&mut self.fresh)
    }

    pub(super) fn pop_due(&mut self) -> Option<Due> {
        pop(&mut self.due)
    }

    pub(super) fn pop_later(&mut self) -> Option<Due> {
        pop(&mut self.later)
    }

    /// Tells the spilled stretch, if there is one, that this place does not wait there.
    pub(super) fn skip(&mut self, place: Place) {
        if let Some(spill) = self.spill.as_mut().filter(|spill| place >= spill.next) {
            spill.skip.insert(place);
        }
    }

    /// The oldest place that waits in memory or begins the spilled stretch.
    pub(super) fn oldest_fresh(&self) -> Option<Place> {
        self.fresh.front().copied().or(self.spill.as_ref().map(|spill| spill.next))
    }
}

/// Not only once it is empty: what is bounded over all lanes may wait now in one and now in another.
fn pop<T>(queue: &mut VecDeque<T>) -> Option<T> {
    let first = queue.pop_front();
    if queue.capacity() > KEEP_CAPACITY && queue.len() < queue.capacity() / 4 {
        queue.shrink_to(queue.capacity() / 2);
    }
    first
}

impl Spill {
    pub(super) fn new(first: Place) -> Self {
        Self { next: first, last: first, count: 1, skip: Skip::default(), asked: None }
    }

    pub(super) fn push(&mut self, place: Place) {
        self.last = place;
        self.count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_queue_gives_its_memory_back_before_it_is_empty() {
        let mut queue: VecDeque<u64> = (0..1_000_000).collect();
        while queue.len() > 100 {
            pop(&mut queue);
        }
        assert!(queue.capacity() <= 2 * KEEP_CAPACITY, "room for {}", queue.capacity());
        assert!(queue.iter().copied().eq(999_900..1_000_000));
    }
}
