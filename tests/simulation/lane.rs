//! The oracle's view of one webhook: what waits, what is under way, and what the published rules
//! allow. Written from the rules, not from the engine.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use senderz_gateway::{
    clock::Millis,
    engine::{BreakerState, LaneSettings, Settings},
    id::Place,
};

#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) settings: LaneSettings,
    pub(crate) removed: bool,
    /// Waiting for their first attempt, and from when their age counts.
    pub(crate) fresh: BTreeMap<Place, Millis>,
    /// Waiting for a later attempt.
    pub(crate) retries: BTreeMap<Place, Retry>,
    /// The same by due time.
    pub(crate) dues: BTreeSet<(Millis, Place)>,
    /// Replays that have no hurry.
    pub(crate) later: BTreeMap<Place, Retry>,
    pub(crate) in_flight: u32,
    pub(crate) later_in_flight: u32,
    pub(crate) breaker: Breaker,
    /// A refill was asked for and not answered.
    pub(crate) asked: bool,
    pub(crate) rate: RateWatch,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Retry {
    pub(crate) due: Millis,
    /// In all, and since acceptance or the last replay.
    pub(crate) attempts: u16,
    pub(crate) round: u16,
    pub(crate) base: Base,
}

/// From when a delivery's age counts.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Base {
    Accepted(Millis),
    /// It was replayed.
    Due,
    /// It was resumed after a restart: no earlier than its round began, no later than it is due.
    Between(Millis),
}

impl Base {
    pub(crate) fn earliest(self, due: Millis) -> Millis {
        match self {
            Base::Accepted(at) => at,
            // The wall clock that stamped it may have been ahead.
            Base::Between(at) => at.min(due),
            Base::Due => due,
        }
    }

    pub(crate) fn latest(self, due: Millis) -> Millis {
        match self {
            Base::Accepted(at) => at,
            Base::Due | Base::Between(_) => due,
        }
    }
}

impl Lane {
    pub(crate) fn new(settings: LaneSettings, policy: &Settings, now: Millis) -> Self {
        let mut lane = Self {
            settings,
            removed: false,
            fresh: BTreeMap::new(),
            retries: BTreeMap::new(),
            dues: BTreeSet::new(),
            later: BTreeMap::new(),
            in_flight: 0,
            later_in_flight: 0,
            breaker: Breaker { state: BreakerState::Closed, cap: 1, whole: 1, streak: 0 },
            asked: false,
            rate: RateWatch::new(now),
        };
        lane.breaker.resize(lane.whole_cap(policy));
        lane
    }

    pub(crate) fn whole_cap(&self, policy: &Settings) -> u32 {
        self.settings.max_in_flight.unwrap_or(policy.webhook_max_in_flight)
    }

    pub(crate) fn change(&mut self, settings: LaneSettings, policy: &Settings, now: Millis) {
        if settings.rate_limit != self.settings.rate_limit {
            self.rate = RateWatch::new(now);
        }
        self.settings = settings;
        self.breaker.resize(self.whole_cap(policy));
    }

    pub(crate) fn wait(&mut self, place: Place, retry: Retry) {
        assert!(self.retries.insert(place, retry).is_none(), "{place:?} waits twice");
        self.dues.insert((retry.due, place));
    }

    pub(crate) fn take_retry(&mut self, place: Place) -> Option<Retry> {
        let retry = self.retries.remove(&place)?;
        self.dues.remove(&(retry.due, place));
        Some(retry)
    }

    /// Forgets a delivery that waits here; whether it did.
    pub(crate) fn forget(&mut self, place: Place) -> bool {
        self.fresh.remove(&place).is_some()
            || self.take_retry(place).is_some()
            || self.later.remove(&place).is_some()
    }

    pub(crate) fn first_due(&self) -> Option<Millis> {
        self.dues.first().map(|(due, _)| *due)
    }

    /// Whether something certainly waits in memory that may go now. Fresh ones may be in the log
    /// only while a refill is under way.
    pub(crate) fn is_ready(&self, now: Millis, crowded: bool) -> bool {
        self.is_ready_before(now, crowded) || self.later_is_ready(crowded)
    }

    fn later_is_ready(&self, crowded: bool) -> bool {
        let has_half = self.later_in_flight < self.half();
        !self.later.is_empty() && has_half && self.has_room(crowded)
    }

    /// The slots that replays without hurry may take.
    pub(crate) fn half(&self) -> u32 {
        (self.breaker.cap / 2).max(1)
    }

    /// What a job may feed: with what waits for a retry, no more than may be under way.
    pub(crate) fn later_room(&self, crowded: bool) -> usize {
        if !self.settings.enabled || !self.has_room(crowded) {
            return 0;
        }
        let waiting = self.retries.len() + self.later.len();
        (self.breaker.cap as usize).saturating_sub(waiting)
    }

    /// The same, of what goes before replays that have no hurry.
    pub(crate) fn is_ready_before(&self, now: Millis, crowded: bool) -> bool {
        let is_due = self.first_due().is_some_and(|due| due <= now);
        is_due || (!self.fresh.is_empty() && !self.asked && self.has_room(crowded))
    }

    /// In a crowd, a webhook has no more waiting for a retry than it may have under way: where it
    /// has, it makes no first attempts and takes no replays.
    pub(crate) fn has_room(&self, crowded: bool) -> bool {
        !crowded || self.retries.len() < self.breaker.cap as usize
    }

    /// Whether its own cap, as the breaker has it, leaves a slot.
    pub(crate) fn has_slot(&self) -> bool {
        self.settings.enabled && !self.removed && self.in_flight < self.breaker.cap
    }

    /// When an attempt must be allowed again by the rate limit.
    pub(crate) fn free_at(&self) -> Millis {
        let space = self.settings.rate_limit.map_or(0, |limit| 1000 / u64::from(limit) + 1);
        self.rate.last.map_or(self.rate.since, |last| last + space)
    }
}

/// What is started under a rate limit.
#[derive(Debug)]
pub(crate) struct RateWatch {
    since: Millis,
    /// Attempts of the last second.
    starts: VecDeque<Millis>,
    /// When it was last used, perhaps only for a delivery that turned out to be too old.
    last: Option<Millis>,
}

impl RateWatch {
    fn new(now: Millis) -> Self {
        Self { since: now, starts: VecDeque::new(), last: None }
    }

    /// Notes a start, and tells how many there were in the second that ends now.
    pub(crate) fn start(&mut self, now: Millis) -> usize {
        while self.starts.front().is_some_and(|first| first + 1000 <= now) {
            self.starts.pop_front();
        }
        self.starts.push_back(now);
        self.last = Some(now);
        self.starts.len()
    }

    pub(crate) fn waste(&mut self, now: Millis) {
        self.last = Some(now);
    }
}

/// The breaker as published: from the threshold on each timeout in a row halves the cap, at one it
/// is open; what is answered in time doubles it, and nothing else gives back what timeouts took.
#[derive(Debug)]
pub(crate) struct Breaker {
    pub(crate) state: BreakerState,
    pub(crate) cap: u32,
    whole: u32,
    streak: u32,
}

impl Breaker {
    pub(crate) fn resize(&mut self, whole: u32) {
        let untouched = self.state == BreakerState::Closed && self.cap == self.whole;
        self.cap = if untouched { whole } else { self.cap.min(whole) };
        self.whole = whole;
    }

    /// The new state where it changes.
    pub(crate) fn timed_out(&mut self, threshold: u32) -> Option<BreakerState> {
        self.streak += 1;
        let opens = match self.state {
            BreakerState::Open => false,
            BreakerState::HalfOpen => true,
            BreakerState::Closed => {
                if self.streak >= threshold {
                    self.cap = (self.cap / 2).max(1);
                }
                self.streak >= threshold && self.cap == 1
            }
        };
        if opens {
            (self.state, self.cap) = (BreakerState::Open, 1);
        }
        opens.then_some(BreakerState::Open)
    }

    pub(crate) fn answered(&mut self, whole: u32) -> Option<BreakerState> {
        self.streak = 0;
        self.cap = (self.cap * 2).min(whole);
        let before = self.state;
        if before != BreakerState::Closed {
            let is_whole = self.cap == whole;
            self.state = if is_whole { BreakerState::Closed } else { BreakerState::HalfOpen };
        }
        (self.state != before).then_some(self.state)
    }
}
