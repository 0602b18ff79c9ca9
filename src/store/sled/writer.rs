//! The thread that owns everything that changes.
//!
//! It takes one message, drains what waits behind it, writes one commit, syncs once, feeds the
//! committed blocks, and answers all. An idle store commits at once. A busy one lets the next
//! commit grow for a moment (`pace`): the size of a commit decides what an event costs.
//!
//! Entries nobody waits for ride on the next append, and wait for one no longer than
//! `entries_max_wait`.
//!
//! The first failed write or sync **poisons** the store: whatever the kernel did with the pages, a
//! second sync would not tell. From then on every write is answered `Poisoned`, and the process is
//! expected to exit.

mod erase;
mod scrub;
mod upkeep;

use std::{
    collections::VecDeque,
    mem,
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, oneshot, watch};

use self::{erase::Lately, scrub::Scrub};
use super::{
    Shared,
    backup::Backup,
    disk::{Disk, META_KEY},
    draft::Draft,
    group::{Answer, AppendReply, Group, Inbox, Next, POISONED, answer_all, refuse},
    mark::MarkFile,
    meta::Meta,
    metrics::StoreMetrics,
    pace::{self, Pace},
    quiet::PanicGuard,
    recovery::{self, RecoveryError, Start},
    retention::Retention,
    room::Room,
    rows::Directory,
};
use crate::{
    clock::{instant, wall_ms},
    delivery::Entry,
    id::EventId,
    store::{
        AppendError, Appended, Feed, Health, NewEvent, Settings, Write,
        codec::KeyRow,
        ledger::{Ledger, Plan},
        tally::{Tallies, Tally},
    },
};

/// How often disk space, the flusher and the meta row are looked after.
const TICK: Duration = Duration::from_millis(if cfg!(test) { 20 } else { 1000 });

/// Retention takes a step after so many commits, and when idle.
const COMMITS_PER_STEP: u32 = 8;

/// How soon an idle store goes on with retention that is not finished.
const RETENTION_PAUSE: Duration = Duration::from_millis(20);

/// Room for so many entries stays with the writer between commits.
const ENTRIES_KEPT: usize = 4096;

pub(super) struct Writer {
    disk: Disk,
    mark: MarkFile,
    settings: Settings,
    meta: Meta,
    meta_written: Instant,
    directory: Directory,
    ledger: Ledger,
    tallies: Tallies,
    shared: Shared,
    feeds: Vec<mpsc::Sender<Feed>>,
    health: watch::Sender<Health>,
    retention: Retention,
    commits: u32,
    /// Until then the low watermark is what the meta row says.
    is_recovered: bool,
    room: Room,
    lately: Lately,
    scrub: Scrub,
    backup: Backup,
    poisoned: bool,
    metrics: StoreMetrics,
}

impl Writer {
    pub(super) fn new(
        disk: Disk,
        mark: MarkFile,
        settings: Settings,
        mut start: Start,
        shared: Shared,
        health: watch::Sender<Health>,
        metrics: StoreMetrics,
    ) -> Self {
        start.directory.forget_rows();
        Self {
            disk,
            mark,
            retention: Retention::new(&settings, &start.meta),
            room: Room::new(settings.disk_headroom),
            settings,
            meta: start.meta,
            meta_written: instant(),
            directory: start.directory,
            ledger: start.ledger,
            tallies: Tallies::default(),
            shared,
            feeds: Vec::new(),
            health,
            commits: 0,
            is_recovered: false,
            lately: Lately::default(),
            scrub: Scrub::default(),
            backup: Backup::default(),
            poisoned: false,
            metrics,
        }
    }

    /// The thread's body. `_closing` is dropped at the end, which ends the readers.
    pub(super) fn run(
        mut self,
        writes: mpsc::Receiver<Write>,
        feeds: oneshot::Receiver<Vec<mpsc::Sender<Feed>>>,
        began: Instant,
        _closing: watch::Sender<()>,
    ) {
        let _guard = PanicGuard(self.health.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let runtime = runtime.expect("a timer needs nothing from the system");
        let mut inbox = Inbox { early: VecDeque::new(), writes, runtime };
        self.look_at_disk(0);
        let Some(feeds) = self.await_feeds(&mut inbox, feeds) else { return };
        self.feeds = feeds;
        self.recover();
        self.metrics.recovery.set(began.elapsed().as_secs_f64());
        self.serve(&mut inbox);
    }

    /// Directory rows can be written before anyone is fed; the rest waits. None where the store
    /// was closed instead.
    fn await_feeds(
        &mut self,
        inbox: &mut Inbox,
        mut feeds: oneshot::Receiver<Vec<mpsc::Sender<Feed>>>,
    ) -> Option<Vec<mpsc::Sender<Feed>>> {
        loop {
            let has_room = inbox.early.len() < self.settings.queue;
            let write = inbox.runtime.block_on(async {
                tokio::select! {
                    biased;
                    feeds = &mut feeds => Err(feeds.ok()),
                    Some(write) = inbox.writes.recv(), if has_room => Ok(write),
                }
            });
            match write {
                Err(feeds) => return feeds,
                Ok(write) if write.needs_no_feed() => {
                    let is_close = matches!(write, Write::Close { .. });
                    let mut group = Group::default();
                    group.add(write);
                    self.commit(group);
                    if is_close {
                        return None;
                    }
                }
                Ok(early) => inbox.early.push_back(early),
            }
        }
    }

    fn recover(&mut self) {
        let feeds = mem::take(&mut self.feeds);
        let tell = |feed: Feed| send_all(&feeds, &feed);
        let low = self.meta.low;
        match recovery::recover(&self.disk, &self.shared, &self.metrics, &self.mark, low, tell) {
            Ok(tallies) => {
                self.tallies = tallies;
                self.is_recovered = true;
                self.shared.write().expect("no holder of this lock panics").is_recovered = true;
            }
            Err(RecoveryError::Lost(loss)) => {
                self.mark.tell(&loss);
                self.poison(&loss.of(self.mark.data_dir()));
            }
            Err(error) => self.poison(&error),
        }
        self.feeds = feeds;
    }

    fn serve(&mut self, inbox: &mut Inbox) {
        let mut group = Group::default();
        let mut pace = Pace::new(self.settings.commit_max_wait, instant());
        let mut ticked = instant();
        loop {
            let (mut closed, mut is_idle) = (false, false);
            if !group.is_urgent() && !group.is_large(&self.settings) {
                match inbox.wait(self.patience(&group, ticked)) {
                    Next::Write(write) => group.add(write),
                    Next::Due => is_idle = true,
                    Next::Closed => closed = true,
                }
            }
            self.drain(&mut group, inbox);
            while !group.appends.is_empty()
                && !group.is_large(&self.settings)
                && pace.may_grow(group.load(), instant())
            {
                std::thread::sleep(pace::STEP);
                self.drain(&mut group, inbox);
            }
            let is_due = group
                .entries_since
                .is_some_and(|since| since.elapsed() >= self.settings.entries_max_wait);
            let closing = closed || group.close.is_some();
            if closing || is_due || group.is_urgent() || group.is_large(&self.settings) {
                let answered = group.load();
                // The next commit takes its entries in the same memory: it may be a megabyte, and
                // to map and clear that afresh costs more than to write it.
                group.entries = self.commit(mem::take(&mut group));
                self.commits += 1;
                self.drain(&mut group, inbox);
                pace.committed(answered, group.load(), instant());
            }
            if closing {
                return;
            }
            if ticked.elapsed() >= TICK {
                ticked = instant();
                self.tick();
            }
            if self.commits >= COMMITS_PER_STEP || is_idle {
                self.commits = 0;
                self.retire();
            }
            self.go_on_scrubbing();
        }
    }

    /// How long to wait for the next message.
    fn patience(&self, group: &Group, ticked: Instant) -> Duration {
        let until_tick = TICK.saturating_sub(ticked.elapsed());
        let until_retention = if self.retention.has_more() { RETENTION_PAUSE } else { TICK };
        let until_entries = group
            .entries_since
            .map_or(TICK, |since| self.settings.entries_max_wait.saturating_sub(since.elapsed()));
        let until_scrub = self.scrub.patience().unwrap_or(TICK);
        until_tick.min(until_retention).min(until_entries).min(until_scrub)
    }

    /// Takes what waits, as far as it fits into one commit.
    fn drain(&self, group: &mut Group, inbox: &mut Inbox) {
        while !group.is_large(&self.settings) {
            let Some(write) = inbox.try_next() else { return };
            group.add(write);
        }
    }

    /// Makes the group durable and answers it; gives back its emptied vector of entries.
    fn commit(&mut self, mut group: Group) -> Vec<Entry> {
        if self.poisoned {
            refuse(group);
            return Vec::new();
        }
        let began = instant();
        if let Some(extra) = self.room.look_for(group.bytes) {
            self.look_at_disk(extra);
        }
        let now = wall_ms().max(self.meta.accepted_at);
        let mut draft =
            Draft::new(self.meta.node, now, self.meta.next, (group.bytes, group.events));
        let answers = self.draft_appends(group.appends, &mut draft);
        draft.with_rows(&group.with_rows);
        draft.finish_block();
        self.lately.redact(&mut group.entries);
        draft.entries(&group.entries);
        let key_blocks = draft.finish_keys();
        let (rows, row_replies): (Vec<_>, Vec<_>) = group.rows.into_iter().unzip();
        let is_meta_due = group.close.is_some() || !rows.is_empty();
        for row in rows.into_iter().flatten() {
            self.directory.put(row, &mut draft.writes);
            draft.is_empty = false;
        }
        if group.close.is_some() || !draft.is_empty {
            self.apply_tallies(&draft, &group.entries);
            self.meta.next = draft.next;
            if !draft.blocks.is_empty() {
                self.meta.accepted_at = now;
            }
            self.write_meta_if_due(&mut draft, is_meta_due);
            for (number, keys) in key_blocks {
                self.ledger.stored(number, keys);
            }
            self.retention.wrote(draft.writes.len());
            let room = self.disk.make_room(draft.next);
            let written = room.and_then(|()| self.disk.commit(mem::take(&mut draft.writes)));
            if let Err(fault) = written {
                self.poison(&fault);
                answers.into_iter().for_each(|answer| answer.refuse());
                answer_all(group.entry_replies, &POISONED);
                answer_all(row_replies, &POISONED);
                answer_all(group.close, &POISONED);
                return Vec::new();
            }
            self.metrics.commit.record(began.elapsed().as_secs_f64());
            self.publish(&draft);
            if group.close.is_some() {
                self.mark.advance(&self.meta);
            }
        }
        answers.into_iter().for_each(Answer::send);
        answer_all(group.entry_replies, &Ok(()));
        answer_all(row_replies, &Ok(()));
        for (erasure, reply) in group.erasures {
            let _ = reply.send(self.erase(&erasure));
        }
        group.scrubs.into_iter().for_each(|reply| self.scrub.ask(reply));
        group.backups.into_iter().for_each(|(order, reply)| self.back_up(order, reply));
        answer_all(group.close, &Ok(()));
        let mut entries = group.entries;
        entries.clear();
        entries.shrink_to(ENTRIES_KEPT);
        entries
    }

    /// Puts each batch into the commit, or decides why not.
    fn draft_appends(
        &mut self,
        appends: Vec<(Vec<NewEvent>, AppendReply)>,
        draft: &mut Draft,
    ) -> Vec<Answer> {
        let mut answers = Vec::with_capacity(appends.len());
        self.ledger.expire(draft.accepted_at);
        self.metrics.keys_forgotten.increment(self.ledger.take_forgotten());
        for (events, reply) in appends {
            let outcome = match self.ledger.plan(&events, draft.accepted_at) {
                Ok(plans)
                    if self.room.is_full() && plans.iter().any(|p| matches!(p, Plan::New(_))) =>
                {
                    Err(AppendError::Full)
                }
                Ok(plans) => Ok(self.draft_batch(&events, plans, draft)),
                Err(refused) => Err(refused),
            };
            answers.push(Answer { outcome, reply });
        }
        answers
    }

    fn draft_batch(
        &mut self,
        events: &[NewEvent],
        plans: Vec<Plan>,
        draft: &mut Draft,
    ) -> Vec<Appended> {
        let mut appended: Vec<Appended> = Vec::with_capacity(events.len());
        for (event, plan) in events.iter().zip(plans) {
            let payload = match plan {
                Plan::New(payload) => payload,
                Plan::Replay(first) => {
                    appended.push(first);
                    continue;
                }
                Plan::SameAs(earlier) => {
                    appended.push(Appended { replayed: true, ..appended[earlier] });
                    continue;
                }
            };
            let place = draft.event(event);
            let deliveries = event.routes.iter().filter(|route| route.enabled).count() as u32;
            if let (Some(key), Some(payload)) = (event.key, payload) {
                let row = KeyRow { key, payload, place, deliveries };
                draft.keys.push(row);
                self.ledger.insert(row, draft.accepted_at);
            }
            let id = EventId { accepted_at: draft.accepted_at, node: self.meta.node, place };
            appended.push(Appended { id, deliveries, replayed: false });
        }
        appended
    }

    fn apply_tallies(&mut self, draft: &Draft, entries: &[Entry]) {
        for block in &draft.blocks {
            self.tallies.add(block.number, Tally::of(block));
        }
        for entry in entries {
            self.tallies.apply(entry, self.meta.kept.event);
        }
    }

    /// A watermark that a replay lowered must become durable with that replay, or the next start
    /// would look past it. A risen one can wait.
    fn write_meta_if_due(&mut self, draft: &mut Draft, force: bool) {
        let low = self.tallies.low().unwrap_or(self.meta.next.event);
        let lowered = self.is_recovered && low < self.meta.low;
        if !lowered && !force && self.meta_written.elapsed() < TICK {
            return;
        }
        if self.is_recovered {
            self.meta.low = low;
        }
        self.meta.rows = self.directory.len();
        self.meta.revision += 1;
        draft.writes.insert(META_KEY, &self.meta.encode());
        draft.writes.must_be_whole();
        self.meta_written = instant();
    }

    /// The commit is durable: readers may see it, the shards get it, and only then is it answered.
    fn publish(&mut self, draft: &Draft) {
        {
            let mut extent = self.shared.write().expect("no holder of this lock panics");
            extent.events.end = self.meta.next.event;
            draft.summaries.iter().for_each(|(number, summary)| extent.push(*number, *summary));
        }
        let events: usize = draft.blocks.iter().map(|block| block.events.len()).sum();
        if events > 0 {
            self.metrics.commit_events.record(events as f64);
        }
        for block in &draft.blocks {
            send_all(&self.feeds, &Feed::Block(block.clone()));
        }
    }

    fn poison(&mut self, fault: &dyn std::error::Error) {
        let mut what = fault.to_string();
        if let Some(source) = fault.source() {
            what = format!("{what}: {source}");
        }
        tracing::error!(error = what, "the store has stopped");
        self.metrics.write_failed.increment(1);
        self.poisoned = true;
        self.health.send_modify(|health| {
            health.poisoned.get_or_insert(what);
        });
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("disk", &self.disk).finish_non_exhaustive()
    }
}

/// Blocks while a feed is full: what is durable must be fed, and a shard always takes. A feed
/// whose shard has ended is passed over.
fn send_all(feeds: &[mpsc::Sender<Feed>], feed: &Feed) {
    for sender in feeds {
        let _ = sender.blocking_send(feed.clone());
    }
}
