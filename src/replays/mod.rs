//! Replays of many: jobs that send ended deliveries again, slowly, beside everything else.
//!
//! A job walks the event log from its oldest event on and reopens what its filter matches, at a rate
//! of its own, and only as many as their webhook takes at the moment
//! ([`Shards::later_room`](crate::command::Shards::later_room)): so a job holds no more in memory
//! than it reads at once. What it reopens is durable before a shard hears of it, as with a single
//! replay, and waits behind everything else of its webhook.
//!
//! A job is a row in the store, written when its state changes and about once a second, so that it
//! goes on where it was after a crash. What it had reopened since its last row is found by the time
//! of the entry, and counted, not sent again; only where the wall clock was set back meanwhile may
//! one be sent twice.
//!
//! Bounded: jobs that have not ended, of one tenant and in all; ended ones that are kept. A job over
//! several webhooks goes at the pace of the slowest of them.

mod claims;
mod job;
mod run;
mod wire;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio_util::task::TaskTracker;

pub use self::{
    claims::Claim,
    job::{Filter, Job, Progress, Reason, STATUSES, State},
};
use self::{claims::Claims, run::Entry};
use crate::{
    audit::{Action, By, Done},
    clock::wall_ms,
    command::Shards,
    config,
    directory::Directory,
    id::{DeliveryKey, ReplayId, TenantNo, random_u128},
    shutdown::Signal,
    store::{Bundle, Row, Store, StoreError},
};

/// Attempts after which a delivery is not replayed again: its numbers have 16 bits.
pub const MAX_ATTEMPTS: u16 = 60_000;

/// Why nothing was done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("no such replay")]
    NoSuchReplay,
    #[error("the replay has ended")]
    Ended,
    /// `name` is the limit's key in the configuration.
    #[error("the limit {name} = {limit} is reached")]
    Limit { name: &'static str, limit: usize },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a stored job cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the replay's row {row} is damaged: {reason}; put back a copy of the data directory")]
pub struct LoadError {
    row: String,
    reason: String,
}

/// What a person tells a job that has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// To rest until it is told to go on.
    Pause,
    /// To go on where it was.
    Resume,
    /// To end where it is; what it has reopened is sent all the same.
    Cancel,
}

impl Order {
    const fn leads_to(self) -> State {
        match self {
            Self::Pause => State::Paused,
            Self::Resume => State::Running,
            Self::Cancel => State::Canceled,
        }
    }

    const fn action(self) -> Action {
        match self {
            Self::Pause => Action::ReplayPaused,
            Self::Resume => Action::ReplayResumed,
            Self::Cancel => Action::ReplayCanceled,
        }
    }
}

/// A new job among the others.
struct Added {
    entry: Arc<Entry>,
    job: Job,
    /// Ended ones that make room for it.
    forgotten: Vec<Arc<Entry>>,
}

/// A cheap handle; copies share all jobs.
#[derive(Clone, Debug)]
pub struct Replays {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Store,
    directory: Directory,
    commands: Shards,
    limits: config::Replays,
    /// Each tenant's, the oldest first.
    jobs: Mutex<HashMap<TenantNo, Vec<Arc<Entry>>>>,
    claims: Claims,
    tasks: TaskTracker,
    stop: Signal,
}

impl Replays {
    /// The jobs that the rows tell of; those that were running go on at once.
    pub fn start(
        store: Store,
        directory: Directory,
        commands: Shards,
        limits: config::Replays,
        rows: Vec<Row>,
        stop: Signal,
    ) -> Result<Self, LoadError> {
        let mut loaded = Vec::new();
        for Row { key, value } in rows {
            let Some(value) = value else { continue };
            let damaged = |bad: crate::directory::BadRow| LoadError {
                row: format!("{key:02x?}"),
                reason: bad.to_string(),
            };
            loaded.push(wire::decode(&key, &value).map_err(damaged)?);
        }
        loaded.sort_by_key(|job| job.created_at);
        let inner = Inner {
            store,
            directory,
            commands,
            limits,
            jobs: Mutex::default(),
            claims: Claims::default(),
            tasks: TaskTracker::new(),
            stop,
        };
        let replays = Self { inner: Arc::new(inner) };
        for job in loaded {
            let (tenant, is_running) = (job.tenant, job.state == State::Running);
            if replays.inner.directory.tenant_by_no(tenant).is_none() {
                // Nobody can ask for it any more.
                let (store, row) = (replays.inner.store.clone(), wire::removed(job.id));
                replays.inner.tasks.spawn(async move { store.put_rows(vec![row]).await });
                continue;
            }
            let entry = Arc::new(Entry::found(job));
            replays.jobs().entry(tenant).or_default().push(Arc::clone(&entry));
            if is_running {
                replays.run(entry);
            }
        }
        Ok(replays)
    }

    /// Takes the rows that are jobs out of all rows.
    pub fn take_rows(rows: &mut Vec<Row>) -> Vec<Row> {
        rows.extract_if(.., |row| wire::is_job(&row.key)).collect()
    }

    /// Claims a delivery for reopening until the claim is dropped; none while another has it. Two
    /// that reopen one delivery at once would send it twice.
    pub fn claim(&self, key: DeliveryKey) -> Option<Claim> {
        self.inner.claims.claim(key)
    }

    /// A new job, durable; it goes at once.
    pub async fn create(
        &self,
        tenant: TenantNo,
        filter: Filter,
        dry_run: bool,
        rate: Option<u32>,
        by: By,
    ) -> Result<Job, Refusal> {
        let rate = rate.unwrap_or(self.inner.limits.rate);
        let Added { entry, job, forgotten } = self.add(tenant, filter, dry_run, rate)?;
        let mut rows = vec![wire::encode(&job)];
        rows.extend(forgotten.iter().map(|entry| wire::removed(entry.id)));
        let replays = self.clone();
        // In a task of its own: a caller who goes away must not leave a job that never runs.
        let work = async move {
            if let Err(error) = replays.record(&job, Action::ReplayCreated, by, rows).await {
                replays.forget(tenant, entry.id);
                return Err(error.into());
            }
            for old in forgotten {
                replays.forget(tenant, old.id);
            }
            replays.run(entry);
            Ok(job)
        };
        tokio::spawn(work).await.unwrap_or_else(|_| Err(StoreError::Closed.into()))
    }

    /// Takes a place among the jobs, and says which ended ones make room for it.
    fn add(
        &self,
        tenant: TenantNo,
        filter: Filter,
        dry_run: bool,
        rate: u32,
    ) -> Result<Added, Refusal> {
        let limits = &self.inner.limits;
        let mut jobs = self.jobs();
        let open = |entries: &Vec<Arc<Entry>>| {
            entries.iter().filter(|entry| !entry.job().state.is_ended()).count()
        };
        within("replays.jobs", limits.jobs, jobs.values().map(open).sum())?;
        let own = jobs.entry(tenant).or_default();
        within("replays.per_tenant", limits.per_tenant, open(own))?;
        // Two of one millisecond would have one place in lists.
        let last = own.last().map_or(0, |entry| entry.job().created_at);
        let created_at = wall_ms().max(last + 1);
        let job = Job::new(ReplayId(random_u128()), tenant, filter, dry_run, rate, created_at);
        let ended: Vec<_> =
            own.iter().filter(|entry| entry.job().state.is_ended()).cloned().collect();
        let excess = ended.len().saturating_sub(limits.kept);
        let forgotten = ended.into_iter().take(excess).collect();
        let entry = Arc::new(Entry::made(job.clone()));
        own.push(Arc::clone(&entry));
        Ok(Added { entry, job, forgotten })
    }

    fn forget(&self, tenant: TenantNo, id: ReplayId) {
        let mut jobs = self.jobs();
        let Some(own) = jobs.get_mut(&tenant) else { return };
        own.retain(|entry| entry.id != id);
        if own.is_empty() {
            jobs.remove(&tenant);
        }
    }

    /// The tenant's job of this id; none also where it is another tenant's.
    pub fn job(&self, tenant: TenantNo, id: ReplayId) -> Option<Job> {
        self.entry(tenant, id).map(|entry| entry.job().clone())
    }

    /// Up to `limit` of the tenant's jobs made before `before`, newest first.
    pub fn list(&self, tenant: TenantNo, before: Option<u64>, limit: usize) -> Vec<Job> {
        let jobs = self.jobs();
        let own = jobs.get(&tenant).into_iter().flatten().rev();
        let all = own.map(|entry| entry.job().clone());
        all.filter(|job| before.is_none_or(|before| job.created_at < before)).take(limit).collect()
    }

    /// Does as somebody told it to.
    pub async fn tell(
        &self,
        tenant: TenantNo,
        id: ReplayId,
        order: Order,
        by: By,
    ) -> Result<Job, Refusal> {
        let entry = self.entry(tenant, id).ok_or(Refusal::NoSuchReplay)?;
        let job = self.change(Arc::clone(&entry), order, by).await?;
        if order == Order::Resume {
            self.run(entry);
        }
        Ok(job)
    }

    async fn change(&self, entry: Arc<Entry>, order: Order, by: By) -> Result<Job, Refusal> {
        let asked = (order.action(), by);
        let replays = self.clone();
        // In a task of its own: a caller who goes away must not part memory from the row.
        let work =
            async move { replays.set_state(&entry, order.leads_to(), None, Some(asked)).await };
        let interrupted = |_| Err(StoreError::Closed.into());
        tokio::spawn(work).await.unwrap_or_else(interrupted)
    }

    /// Durable first, then visible. Only what has not ended changes.
    async fn set_state(
        &self,
        entry: &Entry,
        to: State,
        reason: Option<Reason>,
        asked: Option<(Action, By)>,
    ) -> Result<Job, Refusal> {
        let _saving = entry.saving.lock().await;
        let mut job = entry.job().clone();
        if job.state.is_ended() {
            return Err(Refusal::Ended);
        }
        (job.state, job.reason) = (to, reason);
        let rows = vec![wire::encode(&job)];
        match asked {
            Some((action, by)) => self.record(&job, action, by, rows).await?,
            None => self.inner.store.put_rows(rows).await?,
        }
        let mut kept = entry.job();
        (kept.state, kept.reason) = (to, reason);
        let job = kept.clone();
        drop(kept);
        entry.wake.notify_one();
        Ok(job)
    }

    /// Makes what somebody asked for durable together with the record of it.
    async fn record(
        &self,
        job: &Job,
        action: Action,
        by: By,
        rows: Vec<Row>,
    ) -> Result<(), StoreError> {
        let Inner { store, directory, .. } = &*self.inner;
        let owner = directory.tenant_by_no(job.tenant);
        // Counting changes nothing.
        let owner = owner.filter(|_| !job.dry_run);
        let done = owner.map(|own| Done::of(&own.tenant, action).to(job.id));
        let bundle = Bundle { rows, ..Bundle::default() };
        directory.audit().commit(store, &by, done.into_iter().collect(), bundle).await
    }

    /// Writes how far it is.
    async fn save(&self, entry: &Entry) -> Result<(), StoreError> {
        let _saving = entry.saving.lock().await;
        let row = wire::encode(&entry.job());
        self.inner.store.put_rows(vec![row]).await
    }

    /// Returns when every job has written how far it is; the signal has been given.
    pub async fn stopped(&self) {
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }

    fn entry(&self, tenant: TenantNo, id: ReplayId) -> Option<Arc<Entry>> {
        self.jobs().get(&tenant)?.iter().find(|entry| entry.id == id).cloned()
    }

    fn jobs(&self) -> MutexGuard<'_, HashMap<TenantNo, Vec<Arc<Entry>>>> {
        self.inner.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn within(name: &'static str, limit: usize, standing: usize) -> Result<(), Refusal> {
    if standing < limit { Ok(()) } else { Err(Refusal::Limit { name, limit }) }
}
