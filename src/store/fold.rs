//! What the entries about one delivery add up to.
//!
//! Recovery, the pages of the API and the reference store all ask the same question of the attempt
//! log; this is the one answer. Entries must come in log order.

use crate::{
    clock::Millis,
    delivery::{Entry, EntryFacts, State, Verdict},
    store::RecoveredState,
};

/// Where a delivery stands after some entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Progress {
    pub(super) state: State,
    /// The highest number of an attempt: numbers go on after a replay.
    pub(super) attempts: u16,
    /// Attempts since acceptance or the last replay.
    pub(super) round_attempts: u16,
    /// When the last replay was asked for.
    pub(super) reopened_at: Option<Millis>,
}

impl Progress {
    pub(super) fn apply(&mut self, entry: &EntryFacts) {
        self.state = self.state.after(entry.verdict);
        if let Some(attempt) = &entry.attempt {
            self.attempts = self.attempts.max(attempt.number);
            self.round_attempts = self.round_attempts.saturating_add(1);
        }
        if entry.verdict == Verdict::Reopened {
            self.round_attempts = 0;
            self.reopened_at = Some(entry.at);
        }
    }

    /// What opening tells about it, and when its round began.
    pub(super) fn recovered(&self, accepted_at: Millis) -> (RecoveredState, Millis) {
        let began = self.reopened_at.unwrap_or(accepted_at);
        let resumed = |due| RecoveredState::Resumed {
            attempts: self.attempts,
            round_attempts: self.round_attempts,
            due,
        };
        let state = match (self.state, self.reopened_at) {
            (State::Retrying { due }, _) => resumed(due),
            (State::Pending, Some(reopened_at)) => resumed(reopened_at),
            (State::Pending, None) => RecoveredState::Fresh,
            (State::Delivered | State::Failed(_) | State::Canceled(_), _) => {
                RecoveredState::Settled
            }
        };
        (state, began)
    }
}

/// [`Progress`], and the entry that people want to see.
#[derive(Clone, Debug, PartialEq, Default)]
pub(super) struct Story {
    pub(super) progress: Progress,
    /// The last entry with an attempt, or else the last one.
    pub(super) last: Option<Entry>,
}

impl Story {
    pub(super) fn apply(&mut self, entry: &Entry) {
        self.progress.apply(&entry.facts());
        let shown = self.last.as_ref().is_some_and(|last| last.attempt.is_some());
        if entry.attempt.is_some() || !shown {
            self.last = Some(entry.clone());
        }
    }
}
