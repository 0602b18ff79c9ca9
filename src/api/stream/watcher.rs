//! The task behind one stream.
//!
//! It reads a page of the attempt log, writes it, and waits until more was committed. A reader who
//! resumes gets all that it missed, at its own pace, until it has caught up. From then on the stream
//! is live: one that has not caught up again for `stream.max_lag` skips to the present, counting
//! what it leaves out.
//!
//! It ends when the reader has gone or takes nothing, when its key or its tenant is no longer what it
//! was, and when the gateway drains.

use std::{
    convert::Infallible,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::channel::Sender;
use tokio::sync::watch;

use super::{
    super::{ApiState, access::Caller},
    slots::Slot,
    view::{Reason, Writer},
};
use crate::{
    clock::instant,
    config,
    shutdown::Signal,
    store::{AttemptQuery, Attempts, EntryPlace, StoreError},
};

/// Attempts in one page, …
pub(super) const PAGE: usize = 64;
/// … and in one that is only counted.
const COUNTED: usize = 4096;
/// Bytes after which a piece is sent.
pub(super) const CHUNK: usize = 32 << 10;
/// Between two looks at a log that grows: one read for many commits.
const PAUSE: Duration = Duration::from_millis(100);
/// A reader who takes nothing for so many keep-alives is gone.
const PATIENCE: u32 = 4;

/// Where a stream begins.
#[derive(Clone, Copy, Debug)]
pub(super) enum Start {
    /// At the end of the log.
    Now(EntryPlace),
    /// Behind what the reader has seen.
    Behind(EntryPlace),
}

pub(super) struct Watcher {
    api: ApiState,
    /// Whose key or session is judged again and again: it may end while the stream is open.
    reader: Caller,
    query: AttemptQuery,
    place: EntryPlace,
    pieces: Sender<Bytes, Infallible>,
    writer: Writer,
    limits: config::Stream,
    /// When it last had caught up; none before it has for the first time.
    live_at: Option<Instant>,
    told_at: Instant,
    _slot: Slot,
}

impl Watcher {
    pub(super) fn new(
        api: ApiState,
        reader: Caller,
        query: AttemptQuery,
        start: Start,
        pieces: Sender<Bytes, Infallible>,
        limits: config::Stream,
        slot: Slot,
    ) -> Self {
        let (told_at, writer) = (instant(), Writer::new(api.store.node));
        let (place, live_at) = match start {
            Start::Now(end) => (end, Some(told_at)),
            Start::Behind(seen) => (seen, None),
        };
        Self { api, reader, query, place, pieces, writer, limits, live_at, told_at, _slot: slot }
    }

    pub(super) async fn run(self, mut draining: Signal, mut reader_gone: Signal) {
        tokio::select! {
            () = draining.fired() => {}
            () = reader_gone.fired() => {}
            _ = self.watch() => {}
        }
    }

    /// Returns when the stream is to end.
    async fn watch(mut self) -> Option<()> {
        let mut recorded = self.api.store.recorded.clone();
        self.writer.opening(self.place);
        self.say().await?;
        loop {
            recorded.mark_unchanged();
            // Not when it was taken: a reader who takes long has not caught up by that.
            let read_at = instant();
            let found = self.read(PAGE).await?;
            let is_late = self.live_at.is_some_and(|at| at.elapsed() > self.limits.max_lag);
            if found.more && is_late {
                self.skip(found).await?;
                continue;
            }
            let has_more = found.more;
            self.tell(found).await?;
            if !has_more {
                self.live_at = Some(read_at);
                self.rest(&mut recorded).await?;
            }
        }
    }

    async fn tell(&mut self, found: Attempts) -> Option<()> {
        if let Some(gap) = found.gap {
            let to = found.rows.first().map_or(found.next, |row| row.place);
            self.writer.lagged(None, Reason::Gap(gap), self.place, to);
        }
        let to_operator = self.reader.is_operator();
        for row in &found.rows {
            self.writer.attempt(&self.api, row, to_operator);
            if self.writer.len() >= CHUNK {
                self.say().await?;
            }
        }
        self.place = found.next;
        if self.writer.len() > 0 { self.say().await } else { Some(()) }
    }

    /// Goes to the end of the log and counts what it passes over, the page that was read included.
    async fn skip(&mut self, found: Attempts) -> Option<()> {
        let from = self.place;
        let (mut found, mut missed) = (found, 0);
        loop {
            missed += found.rows.len() as u64;
            self.place = found.next;
            if let Some(gap) = found.gap {
                self.writer.lagged(None, Reason::Gap(gap), from, self.place);
            }
            if !found.more {
                break;
            }
            found = self.read(COUNTED).await?;
        }
        if missed > 0 {
            self.writer.lagged(Some(missed), Reason::Slow, from, self.place);
        }
        self.live_at = Some(instant());
        if self.writer.len() > 0 { self.say().await } else { Some(()) }
    }

    /// A page from where the stream stands; none where it is to end.
    async fn read(&self, limit: usize) -> Option<Attempts> {
        while self.is_allowed() {
            let query = AttemptQuery { limit, ..self.query.clone() };
            match self.api.store.attempts(Some(self.place), query).await {
                Ok(found) => return Some(found),
                Err(StoreError::Closed | StoreError::Poisoned) => return None,
                Err(error) => {
                    // Too many read at once, or the disk does not: the log stays where it is.
                    tracing::debug!(%error, "a stream could not read on");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
        None
    }

    fn is_allowed(&self) -> bool {
        let reader = &self.reader;
        let directory = &self.api.directory;
        reader.credential.principal(directory) == Some(reader.principal)
            && reader.tenant_no().is_none_or(|no| directory.tenant_by_no(no).is_some())
    }

    /// Waits until more was recorded, with a sign of life from time to time.
    async fn rest(&mut self, recorded: &mut watch::Receiver<u64>) -> Option<()> {
        tokio::time::sleep(PAUSE).await;
        loop {
            let quiet = self.told_at.elapsed();
            if quiet >= self.limits.keep_alive {
                if !self.is_allowed() {
                    return None;
                }
                self.writer.keep_alive(self.place);
                self.say().await?;
                continue;
            }
            match tokio::time::timeout(self.limits.keep_alive - quiet, recorded.changed()).await {
                Ok(changed) => return changed.ok(),
                Err(_) => continue,
            }
        }
    }

    /// Sends what was written; none where the reader has gone, or takes nothing.
    async fn say(&mut self) -> Option<()> {
        let piece = Bytes::from(self.writer.take());
        let patience = self.limits.keep_alive * PATIENCE;
        let sent = tokio::time::timeout(patience, self.pieces.send_data(piece)).await;
        self.told_at = instant();
        sent.ok()?.ok()
    }
}
