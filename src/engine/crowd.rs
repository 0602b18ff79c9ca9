//! Crowd: how many deliveries wait in memory for a retry, and who makes room.
//!
//! A delivery that waits for its first attempt may wait in the log alone; one that waits for a
//! retry may not, since only memory knows when it is due. So what is bounded is where retries come
//! from. From `max_retrying` of them on it is crowded, until an eighth of them has gone. In a crowd
//! a webhook of which as many wait for a retry as may be under way makes no first attempts and takes
//! no replays, until fewer wait. One that fails makes few attempts, then; one that fails now and
//! then goes on; one that does not fail notices nothing. A fixed share for each webhook, or one of
//! what is left, would have to know how many webhooks are going to fail.
//!
//! Retries keep their schedule. Nothing is ended or passed over; what is held back may spill.
//!
//! What waits for a retry and what is under way are together never more than `max_retrying`, plus
//! `max_in_flight`, plus twice each webhook's cap, plus what was waiting for a retry when the engine
//! started: that must be rebuilt, however many there are. (Replays that were let in before it was
//! crowded and come after that add to it; they are as many as the requests for them under way.)

use super::{
    fairness::LaneNo,
    lane::Retry,
    step::{Engine, Timer},
};
use crate::{clock::Millis, id::WebhookNo};

/// A crowd ends when this part of `max_retrying` is free, lest it begin and end all the time.
const ROOM: u64 = 8;

/// A retry's step in the schedule (7 bits) and whether it was replayed (1 bit).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Round(u8);

impl Round {
    fn new(round: u8, replayed: bool) -> Self {
        Self(round.min(0x7f) | u8::from(replayed) << 7)
    }

    pub(super) fn step(self) -> u8 {
        self.0 & 0x7f
    }

    pub(super) fn replayed(self) -> bool {
        self.0 >> 7 == 1
    }
}

impl Engine {
    /// Whether a delivery of this webhook may be replayed now. Ask before the replay is recorded:
    /// [`Input::Replay`](super::Input::Replay) is always taken.
    pub fn has_room(&self, webhook: WebhookNo) -> bool {
        self.live(webhook).is_none_or(|no| self.lanes[no as usize].has_room(self.crowded))
    }

    /// Puts a retry into the wheel.
    pub(super) fn schedule(&mut self, no: LaneNo, retry: Retry, due: Millis) {
        let round = Round::new(retry.round, retry.replayed);
        let timer = Timer::Retry { place: retry.place, lane: no, attempts: retry.attempts, round };
        self.wheel.insert(due, timer);
        self.lanes[no as usize].scheduled += 1;
        self.retrying += 1;
        self.see_if_crowded();
    }

    /// After there is one more, or another limit.
    pub(super) fn see_if_crowded(&mut self) {
        self.crowded |= self.retrying >= self.max_retrying();
    }

    /// After there may be fewer, or another limit: in the end lets everyone go on who was held back.
    /// That looks at every lane, and is rare: an eighth of the limit lies between two such ends.
    pub(super) fn see_if_room(&mut self) {
        if !self.crowded {
            return;
        }
        let max = self.max_retrying();
        if self.retrying >= max - max / ROOM {
            return;
        }
        self.crowded = false;
        for no in self.all_lanes() {
            self.enter_ring(no);
        }
    }

    /// A limit of 0 is refused where it is set; here it is 1.
    fn max_retrying(&self) -> u64 {
        self.settings.max_retrying.max(1) as u64
    }
}
