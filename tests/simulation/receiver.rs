//! What the customers' receivers do: a mood for each stretch of time, and an answer to each attempt.

use senderz_gateway::{clock::Millis, delivery::Outcome, engine::Blame};

use crate::rng::Rng;

/// How long an attempt may take.
pub(crate) const TIMEOUT: Millis = 15_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Healthy,
    /// Answers 500.
    Failing,
    /// Lets every attempt run into its deadline.
    Hanging,
    /// Points to an address that the guard refuses.
    Blocked,
    /// Answers 503 with `Retry-After`.
    Asking,
    /// Our own side fails.
    Starved,
    /// Anything.
    Mixed,
}

const MOODS: [Mood; 7] = [
    Mood::Healthy,
    Mood::Failing,
    Mood::Hanging,
    Mood::Blocked,
    Mood::Asking,
    Mood::Starved,
    Mood::Mixed,
];

/// How an attempt will end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    pub(crate) after: Millis,
    pub(crate) outcome: Outcome,
    pub(crate) blame: Blame,
}

#[derive(Debug)]
pub(crate) struct Receiver {
    /// Each with the time until which it lasts; healthy after the last one.
    moods: Vec<(Millis, Mood)>,
    slowest: Millis,
}

impl Receiver {
    /// Moods until `end`, each no longer than `longest`.
    pub(crate) fn new(rng: &mut Rng, start: Millis, end: Millis, longest: Millis) -> Self {
        let mut moods = Vec::new();
        let mut until = start;
        while until < end {
            let mood = if rng.percent(35) { Mood::Healthy } else { rng.pick(&MOODS) };
            // Own faults do not count, so they are repeated every second: a short while will do.
            let longest = if mood == Mood::Starved { 5_000 } else { longest };
            until += rng.between(2_000..=longest);
            moods.push((until.min(end), mood));
        }
        Self { moods, slowest: rng.pick(&[0, 5, 200, 3_000]) }
    }

    pub(crate) fn answer(&self, rng: &mut Rng, now: Millis) -> Answer {
        let mood = self.moods.iter().find(|(until, _)| now < *until);
        let mut mood = mood.map_or(Mood::Healthy, |(_, mood)| *mood);
        if mood == Mood::Mixed {
            mood = rng.pick(&MOODS[..6]);
        }
        let (outcome, blame) = match mood {
            Mood::Healthy | Mood::Mixed => (Outcome::Delivered, Blame::Receiver),
            Mood::Failing => (Outcome::Retry { not_before: None }, Blame::Receiver),
            Mood::Hanging => (Outcome::Retry { not_before: None }, Blame::ReceiverTimeout),
            Mood::Blocked => (Outcome::Failed, Blame::Receiver),
            Mood::Asking => {
                let asked = now + rng.between(0..=90_000);
                (Outcome::Retry { not_before: Some(asked) }, Blame::Receiver)
            }
            Mood::Starved => (Outcome::Retry { not_before: None }, Blame::Own),
        };
        let after = match mood {
            Mood::Hanging => TIMEOUT + rng.between(0..=3),
            _ => rng.between(0..=self.slowest),
        };
        Answer { after, outcome, blame }
    }
}
