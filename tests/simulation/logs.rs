//! The store as the engine's surroundings see it: the event log, the attempt log, and what follows
//! from the two. It outlives every engine, and it is where a delivery that ends twice is noticed.

use std::collections::BTreeMap;

use senderz_gateway::{
    clock::Millis,
    delivery::{State, Verdict},
    engine::Input,
    id::{DeliveryKey, Place, WebhookNo},
};

#[derive(Debug, Default)]
pub(crate) struct Logs {
    blocks: Vec<Block>,
    stories: BTreeMap<DeliveryKey, Story>,
}

#[derive(Debug)]
struct Block {
    accepted_at: Millis,
    /// For each event, who gets it.
    events: Vec<Vec<WebhookNo>>,
}

/// What the attempt log says about a delivery.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Story {
    pub(crate) state: State,
    /// In all, and since acceptance or the last replay.
    pub(crate) attempts: u16,
    round_attempts: u16,
    reopened_at: Option<Millis>,
}

impl Logs {
    /// Appends a block. The log's times never go back, whatever the wall clock does.
    pub(crate) fn append(&mut self, wall: Millis, events: Vec<Vec<WebhookNo>>) -> Vec<Input> {
        let accepted_at = wall.max(self.blocks.last().map_or(0, |last| last.accepted_at));
        let keys = keys(self.blocks.len(), &events);
        self.stories.extend(keys.iter().map(|key| (*key, Story::default())));
        self.blocks.push(Block { accepted_at, events });
        keys.into_iter().map(|key| Input::Accepted { key, accepted_at }).collect()
    }

    pub(crate) fn record(&mut self, key: DeliveryKey, number: u16, verdict: Verdict, now: Millis) {
        let story = self.stories.get_mut(&key).expect("records are about accepted deliveries");
        if verdict == Verdict::Reopened {
            assert!(story.state.is_ended(), "{key:?} is replayed although it has not ended");
            story.round_attempts = 0;
            story.reopened_at = Some(now);
        } else {
            assert!(!story.state.is_ended(), "{key:?} has ended and gets {verdict:?}");
        }
        // A decision has no number: it is not an attempt.
        if number > 0 {
            assert_eq!(number, story.attempts + 1, "attempts of {key:?} are numbered in turn");
            story.attempts = number;
            story.round_attempts += 1;
        }
        story.state = story.state.after(verdict);
    }

    /// Answers a refill. Reads a bounded number of blocks, so an answer may be short or even empty
    /// and still have a next place.
    pub(crate) fn places(
        &self,
        webhook: WebhookNo,
        (from, until): (Place, Place),
        limit: usize,
        scan: u64,
    ) -> (Vec<Place>, Option<Place>) {
        let mut places = Vec::new();
        for number in from.block()..=until.block() {
            let Some(block) = self.blocks.get(number as usize) else { break };
            if number - from.block() >= scan {
                return (places, Some(Place::new(number, 0)));
            }
            for (index, webhooks) in (0..).zip(&block.events) {
                let place = Place::new(number, index);
                if place < from || place > until || !webhooks.contains(&webhook) {
                    continue;
                }
                if places.len() == limit {
                    return (places, Some(place));
                }
                places.push(place);
            }
        }
        (places, None)
    }

    /// What a new engine is told, as the store's contract has it: in place order, and nothing at
    /// all about a block in which everything has ended.
    pub(crate) fn recovered(&self) -> Vec<Input> {
        let mut inputs = Vec::new();
        for (number, block) in self.blocks.iter().enumerate() {
            let keys = keys(number, &block.events);
            if keys.iter().any(|key| !self.stories[key].state.is_ended()) {
                inputs.extend(keys.iter().map(|key| self.stories[key].told(*key, block)));
            }
        }
        inputs
    }

    /// Whether a block in which everything has ended stands among others.
    pub(crate) fn has_settled_blocks_between(&self) -> bool {
        let waits = |(number, block): (usize, &Block)| {
            keys(number, &block.events).iter().any(|key| !self.stories[key].state.is_ended())
        };
        let waiting: Vec<bool> = self.blocks.iter().enumerate().map(waits).collect();
        let first = waiting.iter().position(|waits| *waits);
        let last = waiting.iter().rposition(|waits| *waits);
        first.zip(last).is_some_and(|(first, last)| waiting[first..last].contains(&false))
    }

    pub(crate) fn story(&self, key: DeliveryKey) -> &Story {
        &self.stories[&key]
    }

    /// Deliveries that have (not) ended, in order.
    pub(crate) fn keys(&self, ended: bool) -> Vec<DeliveryKey> {
        let wanted = self.stories.iter().filter(|(_, story)| story.state.is_ended() == ended);
        wanted.map(|(key, _)| *key).collect()
    }
}

impl Story {
    fn told(&self, key: DeliveryKey, block: &Block) -> Input {
        let began = self.reopened_at.unwrap_or(block.accepted_at);
        let (attempts, round_attempts) = (self.attempts, self.round_attempts);
        let resumed = |due| Input::Resumed { key, began, attempts, round_attempts, due };
        match (self.state, self.reopened_at) {
            (State::Retrying { due }, _) => resumed(due),
            (State::Pending, Some(reopened_at)) => resumed(reopened_at),
            (State::Pending, None) => Input::Accepted { key, accepted_at: block.accepted_at },
            _ => Input::AlreadySettled { key },
        }
    }
}

fn keys(number: usize, events: &[Vec<WebhookNo>]) -> Vec<DeliveryKey> {
    let key = |index, webhook| DeliveryKey { place: Place::new(number as u64, index), webhook };
    let events = (0..).zip(events);
    events.flat_map(|(index, to)| to.iter().map(move |webhook| key(index, *webhook))).collect()
}
