//! Later: replays of many, which have no hurry.
//!
//! They wait in a queue of their own behind everything else of their webhook and take at most half
//! of its slots, so that an event which comes now finds one free. Whoever feeds them asks first how
//! many a webhook takes: never more than it may have under way, those that wait for a retry
//! included. So a million replays to a webhook that fails are a handful in memory at any time.

use super::{
    Effect,
    lane::{Due, Lane, Retry},
    step::{Engine, record_decision},
};
use crate::{
    clock::Millis,
    delivery::{CancelReason, Verdict},
    id::{DeliveryKey, WebhookNo},
};

impl Lane {
    /// Whether one of them may go, where nothing else of the lane can.
    pub(super) fn later_may_go(&self, crowded: bool) -> bool {
        !self.later.is_empty()
            && self.later_in_flight < (self.breaker.cap() / 2).max(1)
            && self.has_room(crowded)
    }

    /// Deliveries with a past that wait for nothing but a slot.
    pub(super) fn behind(&self) -> usize {
        self.due.len() + self.later.len()
    }

    fn later_room(&self, crowded: bool) -> usize {
        if !self.settings.enabled || !self.has_room(crowded) {
            return 0;
        }
        (self.breaker.cap() as usize).saturating_sub(self.retrying() + self.later.len())
    }
}

impl Engine {
    /// How many more of them the webhook takes now. Ask before they are recorded:
    /// [`Input::ReplayLater`](super::Input::ReplayLater) is always taken.
    pub fn later_room(&self, webhook: WebhookNo) -> usize {
        // One whose webhook is not known is canceled at once, and so is the next.
        self.live(webhook).map_or(1, |no| self.lanes[no as usize].later_room(self.crowded))
    }

    pub(super) fn replay_later(
        &mut self,
        now: Millis,
        key: DeliveryKey,
        attempts: u16,
        effects: &mut Vec<Effect>,
    ) {
        let Some(no) = self.live(key.webhook) else {
            return record_decision(effects, key, Verdict::Canceled(CancelReason::WebhookDeleted));
        };
        let lane = &mut self.lanes[no as usize];
        lane.skip(key.place);
        let retry = Retry { place: key.place, attempts, round: 0, replayed: true };
        lane.later.push_back(Due { retry, due: now });
        self.retrying += 1;
        self.see_if_crowded();
        self.enter_ring(no);
        self.watch_age(no);
    }
}
