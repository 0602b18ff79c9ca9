//! A job at work: a few deliveries at a time, as its rate and its webhooks allow.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Interval, MissedTickBehavior},
};

use super::{
    Claim, MAX_ATTEMPTS, Replays,
    job::{Job, Reason, State},
};
use crate::{
    clock::{Millis, wall_ms},
    command::Command,
    delivery::{Entry as LogEntry, Verdict},
    id::{DeliveryKey, ReplayId, WebhookNo},
    store::{EndedPage, EndedQuery, EndedRow, StoreError},
};

/// A job that goes faster takes more at a time, not more often.
const TURNS_PER_SECOND: u32 = 10;
/// What a dry run counts at a time.
const COUNTED_AT_ONCE: usize = 1000;
/// How often a running job writes how far it is.
const SAVE_EVERY: Millis = 1000;
/// After a failed read or write.
const PAUSE: Duration = Duration::from_secs(1);

/// A job in memory.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) id: ReplayId,
    job: Mutex<Job>,
    /// Held while its row is written, so that the last row written is the newest.
    pub(super) saving: tokio::sync::Mutex<()>,
    /// Rung when its state has changed.
    pub(super) wake: Notify,
    at_work: Mutex<AtWork>,
}

#[derive(Debug)]
struct AtWork {
    /// Whether a task runs it.
    is_running: bool,
    /// Set after a start, until it is past what an earlier process had done and not written down:
    /// what was reopened since then is its own.
    cut_off_at: Option<Millis>,
}

impl Entry {
    /// A new job.
    pub(super) fn made(job: Job) -> Self {
        Self::new(job, None)
    }

    /// One that an earlier process has written.
    pub(super) fn found(job: Job) -> Self {
        let turn_at = job.turn_at;
        Self::new(job, Some(turn_at))
    }

    fn new(job: Job, cut_off_at: Option<Millis>) -> Self {
        Self {
            id: job.id,
            job: Mutex::new(job),
            saving: tokio::sync::Mutex::default(),
            wake: Notify::new(),
            at_work: Mutex::new(AtWork { is_running: false, cut_off_at }),
        }
    }

    pub(super) fn job(&self) -> MutexGuard<'_, Job> {
        self.job.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn at_work(&self) -> MutexGuard<'_, AtWork> {
        self.at_work.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What came of one turn.
enum Turn {
    Went,
    /// Everything has been looked at.
    Finished,
    /// It cannot go on by itself.
    Stuck(State, Reason),
}

/// A delivery about to be reopened.
struct Taken {
    row: EndedRow,
    /// Until it is recorded.
    _claim: Claim,
}

impl Replays {
    /// Runs a job in a task of its own, unless one runs it already.
    pub(super) fn run(&self, entry: Arc<Entry>) {
        if std::mem::replace(&mut entry.at_work().is_running, true) {
            return;
        }
        let (replays, working) = (self.clone(), Arc::clone(&entry));
        self.watch(entry, async move { replays.work(&working).await });
    }

    /// Has a job's work done. Work that panics would be forgotten and the job look like one that
    /// runs: it has failed then, and says why.
    fn watch(&self, entry: Arc<Entry>, work: impl Future<Output = ()> + Send + 'static) {
        let (replays, work) = (self.clone(), tokio::spawn(work));
        self.inner.tasks.spawn(async move {
            let ended = work.await;
            if ended.is_err_and(|error| error.is_panic()) {
                tracing::error!(replay = %entry.id, "a replay ended by a fault of the gateway's own");
                entry.at_work().is_running = false;
                if let Err(error) = replays.end(&entry, State::Failed, Some(Reason::Fault)).await {
                    tracing::error!(replay = %entry.id, %error, "nor could that be written down");
                }
            }
        });
    }

    async fn work(&self, entry: &Entry) {
        let job = entry.job().clone();
        let mut turns = turns(job.rate);
        let mut stop = self.inner.stop.clone();
        let mut saved_at = wall_ms();
        loop {
            if !self.goes_on(entry) {
                return;
            }
            let turn = self.turn(entry).await;
            let went_on = match turn {
                Ok(Turn::Went) if wall_ms().saturating_sub(saved_at) < SAVE_EVERY => Ok(()),
                Ok(Turn::Went) => {
                    saved_at = wall_ms();
                    self.save(entry).await
                }
                Ok(Turn::Finished) => self.end(entry, State::Done, None).await,
                Ok(Turn::Stuck(state, reason)) => self.end(entry, state, Some(reason)).await,
                Err(error) => Err(error),
            };
            if let Err(error) = went_on {
                tracing::warn!(replay = %entry.id, %error, "a replay could not go on; trying again");
                tokio::select! {
                    () = tokio::time::sleep(PAUSE) => {}
                    () = stop.fired() => {}
                }
            }
            if stop.is_fired() {
                // What it did since its last row is found by its entries, too.
                let _ = self.save(entry).await;
                return;
            }
            if !job.dry_run {
                tokio::select! {
                    _ = turns.tick() => {}
                    () = entry.wake.notified() => {}
                    () = stop.fired() => {}
                }
            }
        }
    }

    /// Whether it is still to run. Told under one lock with "nobody runs it", so that a resume
    /// either keeps this task going or finds none.
    fn goes_on(&self, entry: &Entry) -> bool {
        let mut at_work = entry.at_work();
        let goes_on = entry.job().state == State::Running;
        at_work.is_running = goes_on;
        goes_on
    }

    async fn end(
        &self,
        entry: &Entry,
        state: State,
        reason: Option<Reason>,
    ) -> Result<(), StoreError> {
        match self.set_state(entry, state, reason, None).await {
            Ok(job) => {
                let (matched, replayed) = (job.progress.matched, job.progress.replayed);
                let (state, reason) = (state.as_str(), reason.map(Reason::as_str));
                tracing::info!(replay = %entry.id, state, reason, matched, replayed, "replay");
                Ok(())
            }
            Err(super::Refusal::Store(error)) => Err(error),
            // Canceled meanwhile.
            Err(_) => Ok(()),
        }
    }

    /// Looks at the next few deliveries and reopens what may be reopened now.
    async fn turn(&self, entry: &Entry) -> Result<Turn, StoreError> {
        entry.job().turn_at = wall_ms();
        let job = entry.job().clone();
        if let Some(webhook) = job.filter.webhook.filter(|_| !job.dry_run) {
            match self.inner.directory.webhook_by_no(webhook) {
                None => return Ok(Turn::Stuck(State::Failed, Reason::WebhookDeleted)),
                Some(webhook) if !webhook.enabled => {
                    return Ok(Turn::Stuck(State::Paused, Reason::WebhookDisabled));
                }
                Some(_) => {}
            }
        }
        let cut_off_at = entry.at_work().cut_off_at;
        let query = query(&job, cut_off_at);
        let page = self.inner.store.ended(query.clone()).await?;
        let is_last = page.is_last;
        let is_whole = if job.dry_run {
            let mut job = entry.job();
            job.progress.matched += page.rows.len() as u64;
            true
        } else {
            self.feed(entry, &query, &page).await?
        };
        let mut job = entry.job();
        let progress = &mut job.progress;
        progress.blocks.get_or_insert((page.blocks.start, page.blocks.end));
        if is_whole {
            (progress.after, progress.at) = (page.after, page.at.or(progress.at));
        }
        drop(job);
        if page.rows.iter().any(|row| !row.reopened) {
            // Past all that an earlier process had done: it goes in order.
            entry.at_work().cut_off_at = None;
        }
        Ok(if is_whole && is_last { Turn::Finished } else { Turn::Went })
    }

    /// Reopens a page's rows as far as there is room; true where that was all of them.
    async fn feed(
        &self,
        entry: &Entry,
        query: &EndedQuery,
        page: &EndedPage,
    ) -> Result<bool, StoreError> {
        let mut rooms: HashMap<WebhookNo, usize> = HashMap::new();
        let (mut taken, mut done, mut skipped) = (Vec::new(), 0, 0);
        let mut looked_at = None;
        for row in &page.rows {
            let webhook = row.key.webhook;
            if row.reopened {
                done += 1;
            } else if row.attempts >= MAX_ATTEMPTS || row.erased {
                skipped += 1;
            } else if !self.is_enabled(webhook) {
                if query.webhook.is_some() {
                    // The next turn rests for it, and leaves nothing out.
                    break;
                }
                skipped += 1;
            } else {
                let room = match rooms.get(&webhook) {
                    Some(room) => *room,
                    None => self.room(webhook).await?,
                };
                if room == 0 {
                    break;
                }
                match self.claim(row.key) {
                    Some(claim) => {
                        rooms.insert(webhook, room - 1);
                        taken.push(Taken { row: *row, _claim: claim });
                    }
                    None => skipped += 1,
                }
            }
            looked_at = Some(row.key);
        }
        let taken = self.still_ended(query, taken, &mut skipped).await?;
        if entry.job().state != State::Running {
            // Paused or canceled while it looked: nothing of this turn counts.
            return Ok(false);
        }
        self.reopen(&taken).await?;
        let mut job = entry.job();
        let progress = &mut job.progress;
        done += taken.len() as u64;
        progress.replayed += done;
        progress.skipped += skipped;
        progress.matched += done + skipped;
        progress.after = looked_at.or(progress.after);
        Ok(looked_at == page.rows.last().map(|row| row.key))
    }

    /// Somebody may have reopened one between the look at the log and the claim: now that nobody
    /// can, a second look.
    async fn still_ended(
        &self,
        query: &EndedQuery,
        mut taken: Vec<Taken>,
        skipped: &mut u64,
    ) -> Result<Vec<Taken>, StoreError> {
        if taken.is_empty() {
            return Ok(taken);
        }
        let query = EndedQuery { reopened_since: None, ..query.clone() };
        let again = self.inner.store.ended(query).await?;
        let ended: HashSet<DeliveryKey> = again.rows.iter().map(|row| row.key).collect();
        let before = taken.len();
        taken.retain(|taken| ended.contains(&taken.row.key));
        *skipped += (before - taken.len()) as u64;
        Ok(taken)
    }

    /// `Reopened` is durable before a shard hears of it.
    async fn reopen(&self, taken: &[Taken]) -> Result<(), StoreError> {
        if taken.is_empty() {
            return Ok(());
        }
        let at = wall_ms();
        let reopened = |taken: &Taken| LogEntry {
            key: taken.row.key,
            at,
            verdict: Verdict::Reopened,
            attempt: None,
        };
        self.inner.store.put_entries(taken.iter().map(reopened).collect()).await?;
        for Taken { row, .. } in taken {
            let command = Command::ReplayLater { key: row.key, attempts: row.attempts };
            // The shards have stopped: recovery finds it pending.
            let _ = self.inner.commands.send(command).await;
        }
        Ok(())
    }

    async fn room(&self, webhook: WebhookNo) -> Result<usize, StoreError> {
        self.inner.commands.later_room(webhook).await.map_err(|_| StoreError::Closed)
    }

    fn is_enabled(&self, webhook: WebhookNo) -> bool {
        self.inner.directory.webhook_by_no(webhook).is_some_and(|webhook| webhook.enabled)
    }
}

fn query(job: &Job, reopened_since: Option<Millis>) -> EndedQuery {
    let limit = if job.dry_run { COUNTED_AT_ONCE } else { at_once(job.rate) as usize };
    EndedQuery {
        tenant: job.tenant,
        webhook: job.filter.webhook,
        states: job.filter.states(),
        missed: job.filter.wants_missed(),
        event_types: job.filter.event_types,
        since: job.filter.since,
        until: job.until(),
        reopened_since,
        after: job.progress.after,
        limit,
    }
}

fn at_once(rate: u32) -> u32 {
    (rate / TURNS_PER_SECOND).max(1)
}

fn turns(rate: u32) -> Interval {
    let rate = rate.max(1);
    let period = Duration::from_secs(1) * at_once(rate) / rate;
    let mut turns = tokio::time::interval(period);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    turns
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::mpsc;

    use super::*;
    use crate::{
        command::Shards,
        config::{self, Sources},
        directory::{Directory, KeyRing},
        event::EventTypes,
        id::TenantNo,
        replays::{Filter, wire},
        shutdown::{self, Trigger},
        store::{self, Row, Write},
    };

    /// Jobs over a store that takes nothing but rows, which the test looks at.
    fn replays() -> (Replays, mpsc::Receiver<Write>, Trigger) {
        let config = config::load(&Sources::default()).unwrap();
        let (writes, written) = mpsc::channel(10);
        let store = store::Store {
            writes,
            reads: mpsc::channel(1).0,
            health: tokio::sync::watch::channel(store::Health::default()).1,
            recorded: tokio::sync::watch::channel(0).1,
            node: crate::id::NodeNo(1),
        };
        let directory =
            Directory::load(store.clone(), Vec::new(), config.limits, KeyRing::generate()).unwrap();
        let commands = Shards::new(vec![mpsc::channel(1).0]);
        let (trigger, stop) = shutdown::channel();
        let limits = config.replays;
        let replays = Replays::start(store, directory, commands, limits, Vec::new(), stop);
        (replays.unwrap(), written, trigger)
    }

    fn entry() -> Arc<Entry> {
        let filter = Filter {
            webhook: None,
            statuses: vec!["failed"],
            event_types: EventTypes::ALL,
            since: None,
            until: None,
        };
        Arc::new(Entry::made(Job::new(ReplayId(7), TenantNo(1), filter, false, 50, 1_000)))
    }

    #[tokio::test]
    async fn a_job_whose_work_panics_has_failed_says_so_and_is_written_down() {
        let (replays, mut written, _trigger) = replays();
        let entry = entry();
        entry.at_work().is_running = true;
        replays.watch(Arc::clone(&entry), async { panic!("on purpose") });
        let write = tokio::time::timeout(Duration::from_secs(10), written.recv()).await;
        let Ok(Some(Write::Rows { bundle, reply })) = write else { panic!("it is written down") };
        reply.send(Ok(())).unwrap();
        let [Row { key, value: Some(value) }] = bundle.rows.as_slice() else { panic!("its row") };
        let kept = wire::decode(key, value).unwrap();
        assert_eq!((kept.state, kept.reason), (State::Failed, Some(Reason::Fault)));
        tokio::time::timeout(Duration::from_secs(10), replays.stopped()).await.unwrap();
        let shown = entry.job().clone();
        assert_eq!((shown.state, shown.reason), (kept.state, kept.reason));
        assert!(!entry.at_work().is_running);
    }

    #[tokio::test]
    async fn work_that_ends_says_nothing() {
        let (replays, mut written, _trigger) = replays();
        let entry = entry();
        replays.watch(Arc::clone(&entry), async {});
        replays.stopped().await;
        assert!(written.try_recv().is_err());
        assert_eq!(entry.job().state, State::Running);
    }
}
