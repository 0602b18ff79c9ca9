//! What waits for a commit, and how it is answered.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use tokio::{
    runtime::Runtime,
    sync::{mpsc, oneshot},
};

use super::{backup::BackupReply, pace::Load};
use crate::{
    clock::instant,
    delivery::Entry,
    store::{
        AppendError, Appended, BackupOrder, Bundle, Erasure, NewEvent, Row, Settings, StoreError,
        Write,
    },
};

/// What waits for one commit.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) appends: Vec<(Vec<NewEvent>, AppendReply)>,
    pub(super) events: usize,
    pub(super) bytes: usize,
    pub(super) entries: Vec<Entry>,
    pub(super) entry_replies: Vec<Reply>,
    /// When the first of the entries came.
    pub(super) entries_since: Option<Instant>,
    pub(super) rows: Vec<(Vec<Row>, Reply)>,
    pub(super) erasures: Vec<(Erasure, Reply)>,
    pub(super) scrubs: Vec<Reply>,
    pub(super) backups: Vec<(BackupOrder, BackupReply)>,
    /// Those that belong to rows.
    pub(super) with_rows: Vec<NewEvent>,
    pub(super) close: Option<Reply>,
}

pub(super) type AppendReply = oneshot::Sender<Result<Vec<Appended>, AppendError>>;
pub(super) type Reply = oneshot::Sender<Result<(), StoreError>>;

impl Group {
    pub(super) fn add(&mut self, write: Write) {
        match write {
            Write::Append { events, reply } => {
                self.events += events.len();
                self.bytes += events.iter().map(|event| event.payload.len()).sum::<usize>();
                self.appends.push((events, reply));
            }
            Write::Entries { entries, reply } => {
                self.entries.extend(entries);
                self.entry_replies.extend(reply);
                self.entries_since.get_or_insert_with(instant);
            }
            Write::Rows { bundle: Bundle { rows, events, entries }, reply } => {
                self.events += events.len();
                self.bytes += events.iter().map(|event| event.payload.len()).sum::<usize>();
                self.with_rows.extend(events);
                self.entries.extend(entries);
                self.rows.push((rows, reply));
            }
            Write::Erase { erasure, reply } => self.erasures.push((erasure, reply)),
            Write::Scrub { reply } => self.scrubs.push(reply),
            Write::Backup { order, reply } => self.backups.push((order, reply)),
            Write::Close { reply } => self.close = Some(reply),
        }
    }

    pub(super) fn load(&self) -> Load {
        Load { batches: self.appends.len(), events: self.events }
    }

    /// Whether somebody waits for it.
    pub(super) fn is_urgent(&self) -> bool {
        !self.appends.is_empty()
            || !self.rows.is_empty()
            || !self.entry_replies.is_empty()
            || !self.erasures.is_empty()
            || !self.scrubs.is_empty()
            || !self.backups.is_empty()
            || self.close.is_some()
    }

    pub(super) fn is_large(&self, settings: &Settings) -> bool {
        self.events + self.entries.len() >= settings.commit_max_events
            || self.bytes >= settings.commit_max_bytes
            || self.close.is_some()
    }
}

/// Messages, in order: first those that came before the store was ready for them.
#[derive(Debug)]
pub(super) struct Inbox {
    pub(super) early: VecDeque<Write>,
    pub(super) writes: mpsc::Receiver<Write>,
    pub(super) runtime: Runtime,
}

#[derive(Debug)]
pub(super) enum Next {
    Write(Write),
    /// Nothing came in time.
    Due,
    /// All handles are gone.
    Closed,
}

impl Inbox {
    pub(super) fn wait(&mut self, limit: Duration) -> Next {
        if let Some(write) = self.early.pop_front() {
            return Next::Write(write);
        }
        let next = async { tokio::time::timeout(limit, self.writes.recv()).await };
        match self.runtime.block_on(next) {
            Ok(Some(write)) => Next::Write(write),
            Ok(None) => Next::Closed,
            Err(_) => Next::Due,
        }
    }

    pub(super) fn try_next(&mut self) -> Option<Write> {
        self.early.pop_front().or_else(|| self.writes.try_recv().ok())
    }
}

pub(super) const POISONED: Result<(), StoreError> = Err(StoreError::Poisoned);

/// A batch that was decided, before the commit is durable.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) outcome: Result<Vec<Appended>, AppendError>,
    pub(super) reply: AppendReply,
}

impl Answer {
    pub(super) fn send(self) {
        // Whoever asked may be gone; its events are accepted all the same.
        let _ = self.reply.send(self.outcome);
    }

    /// The commit failed: nothing of it is promised. A refusal stays one.
    pub(super) fn refuse(self) {
        let outcome = self.outcome.and(Err(AppendError::Poisoned));
        let _ = self.reply.send(outcome);
    }
}

pub(super) fn answer_all(
    replies: impl IntoIterator<Item = Reply>,
    answer: &Result<(), StoreError>,
) {
    for reply in replies {
        let _ = reply.send(answer.clone());
    }
}

pub(super) fn refuse(group: Group) {
    for (_, reply) in group.appends {
        let _ = reply.send(Err(AppendError::Poisoned));
    }
    answer_all(group.entry_replies, &POISONED);
    answer_all(group.rows.into_iter().map(|(_, reply)| reply), &POISONED);
    answer_all(group.erasures.into_iter().map(|(_, reply)| reply), &POISONED);
    answer_all(group.scrubs, &POISONED);
    for (_, reply) in group.backups {
        let _ = reply.send(Err(StoreError::Poisoned.into()));
    }
    answer_all(group.close, &POISONED);
}
