//! Erasures: what a tenant's events said to or of one person is forgotten, as a job.
//!
//! A job walks the event log from its oldest event up to those of the moment in which it was asked
//! for, and erases every event of the tenant whose `data.recipient` is the one that was named: the
//! payload, and what receivers answered to it. Ids, types, times, deliveries, attempts and their
//! statuses stay. What still waited is canceled, with `event_erased` as the reason. Then the store is
//! scrubbed, so that its files do not hold any of it either; only then is the job done.
//!
//! A job is a row in the store before it begins, and says how far it is after each stretch, so that
//! it goes on after a crash. Every step may be repeated. The recipient's name stands in the row while
//! it is needed, sealed as the directory's secrets are, and no longer.
//!
//! One job works at a time: they all read the same log. Bounded: [`OPEN_MAX`], [`KEPT`].

mod run;
mod wire;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;
use tokio_util::task::TaskTracker;
use zeroize::Zeroizing;

use crate::{
    audit::{Action, By, Done},
    clock::{Millis, wall_ms},
    command::Shards,
    directory::Directory,
    id::{ErasureId, Place, TenantNo, random_u128},
    shutdown::Signal,
    store::{Bundle, Row, Store, StoreError},
};

/// Jobs of one tenant that have not ended.
pub const OPEN_MAX: usize = 100;

/// Ended jobs that a tenant can still look at.
pub const KEPT: usize = 500;

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It walks the log. What it has passed is erased for everybody who asks.
    Erasing,
    /// All events are erased; the store's files still hold some of what they were.
    Scrubbing,
    /// Nothing is left.
    Done,
}

impl State {
    pub const ALL: [State; 3] = [Self::Erasing, Self::Scrubbing, Self::Done];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Erasing => "erasing",
            Self::Scrubbing => "scrubbing",
            Self::Done => "done",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    pub id: ErasureId,
    pub tenant: TenantNo,
    /// None once no event has to be compared with it any more.
    recipient: Option<Zeroizing<String>>,
    /// Different for each job of a tenant; shown as the time of the erasure.
    pub created_at: Millis,
    pub completed_at: Option<Millis>,
    pub state: State,
    pub events: u64,
    /// Deliveries that had not ended and were told to.
    pub canceled: u64,
    /// A part of the log could not be read.
    pub incomplete: bool,
    /// Everything before it was looked at.
    next: Option<Place>,
    /// When the last event that was looked at was accepted.
    pub at: Option<Millis>,
}

/// Why there is no job.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("a tenant has at most {OPEN_MAX} erasures that are not done")]
    Limit,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a stored job cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the erasure's row {row} cannot be used: {reason}; put back a copy of the data directory")]
pub struct LoadError {
    row: String,
    reason: String,
}

/// A cheap handle; copies share all jobs.
#[derive(Clone, Debug)]
pub struct Erasures {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Store,
    directory: Directory,
    commands: Shards,
    /// Each tenant's, the oldest first.
    jobs: Mutex<HashMap<TenantNo, Vec<Job>>>,
    /// Rung when there is something to do.
    wake: Notify,
    tasks: TaskTracker,
    stop: Signal,
}

impl Erasures {
    /// The jobs that the rows tell of; those that are not done go on at once.
    pub fn start(
        store: Store,
        directory: Directory,
        commands: Shards,
        rows: Vec<Row>,
        stop: Signal,
    ) -> Result<Self, LoadError> {
        let mut loaded = Vec::new();
        for Row { key, value } in rows {
            let Some(value) = value else { continue };
            loaded.push(wire::decode(&key, &value, &directory).map_err(|bad| LoadError {
                row: format!("{key:02x?}"),
                reason: bad.to_string(),
            })?);
        }
        loaded.sort_by_key(|job: &Job| job.created_at);
        let mut jobs: HashMap<TenantNo, Vec<Job>> = HashMap::new();
        for job in loaded {
            jobs.entry(job.tenant).or_default().push(job);
        }
        let inner = Inner {
            store,
            directory,
            commands,
            jobs: Mutex::new(jobs),
            wake: Notify::new(),
            tasks: TaskTracker::new(),
            stop,
        };
        let erasures = Self { inner: Arc::new(inner) };
        let worker = erasures.clone();
        erasures.inner.tasks.spawn(async move { worker.work().await });
        Ok(erasures)
    }

    /// Takes the rows that are jobs out of all rows.
    pub fn take_rows(rows: &mut Vec<Row>) -> Vec<Row> {
        rows.extract_if(.., |row| wire::is_job(&row.key)).collect()
    }

    /// A new job, durable; it goes as soon as those before it have gone.
    pub async fn create(
        &self,
        tenant: TenantNo,
        recipient: String,
        by: By,
    ) -> Result<Job, Refusal> {
        let newest = self.inner.store.events(run::all_of(tenant, 1)).await?.events;
        let newest = newest.first().map_or(0, |row| row.id.accepted_at);
        let (job, forgotten) = self.add(tenant, recipient, newest)?;
        let mut rows = vec![wire::encode(&job, &self.inner.directory)];
        rows.extend(forgotten.iter().map(|id| wire::removed(*id)));
        // In a task of its own: a caller who goes away must not part memory from the row.
        let (erasures, id) = (self.clone(), job.id);
        let work = async move {
            let written = erasures.record(tenant, id, rows, by).await;
            let gone = if written.is_ok() { forgotten } else { vec![id] };
            erasures.jobs().entry(tenant).or_default().retain(|job| !gone.contains(&job.id));
            erasures.inner.wake.notify_one();
            written
        };
        tokio::spawn(work).await.unwrap_or(Err(StoreError::Closed))?;
        Ok(job)
    }

    /// Makes a new job durable together with the record of who asked for it.
    async fn record(
        &self,
        tenant: TenantNo,
        id: ErasureId,
        rows: Vec<Row>,
        by: By,
    ) -> Result<(), StoreError> {
        let Inner { store, directory, .. } = &*self.inner;
        let owner = directory.tenant_by_no(tenant);
        let done = owner.map(|own| Done::of(&own.tenant, Action::ErasureCreated).to(id));
        let bundle = Bundle { rows, ..Bundle::default() };
        directory.audit().commit(store, &by, done.into_iter().collect(), bundle).await
    }

    /// Takes a place among the jobs, and says which ended ones make room for it. It is about events
    /// up to the newest of now, also where the clock was set back since that was accepted.
    fn add(
        &self,
        tenant: TenantNo,
        recipient: String,
        newest: Millis,
    ) -> Result<(Job, Vec<ErasureId>), Refusal> {
        let mut jobs = self.jobs();
        let own = jobs.entry(tenant).or_default();
        let (ended, open): (Vec<&Job>, Vec<&Job>) =
            own.iter().partition(|job| job.state == State::Done);
        if open.len() >= OPEN_MAX {
            return Err(Refusal::Limit);
        }
        let excess = (ended.len() + 1).saturating_sub(KEPT);
        let forgotten = ended.iter().take(excess).map(|job| job.id).collect();
        // Two of one millisecond would have one place in lists.
        let last = own.last().map_or(0, |job| job.created_at);
        let job = Job {
            id: ErasureId(random_u128()),
            tenant,
            recipient: Some(Zeroizing::new(recipient)),
            created_at: wall_ms().max(newest).max(last + 1),
            completed_at: None,
            state: State::Erasing,
            events: 0,
            canceled: 0,
            incomplete: false,
            next: None,
            at: None,
        };
        own.push(job.clone());
        Ok((job, forgotten))
    }

    /// The tenant's job of this id; none also where it is another tenant's.
    pub fn job(&self, tenant: TenantNo, id: ErasureId) -> Option<Job> {
        self.jobs().get(&tenant)?.iter().find(|job| job.id == id).cloned()
    }

    /// Up to `limit` of the tenant's jobs made before `before`, newest first.
    pub fn list(&self, tenant: TenantNo, before: Option<Millis>, limit: usize) -> Vec<Job> {
        let jobs = self.jobs();
        let own = jobs.get(&tenant).into_iter().flatten().rev();
        let earlier = own.filter(|job| before.is_none_or(|before| job.created_at < before));
        earlier.take(limit).cloned().collect()
    }

    /// Returns when nothing is under way any more; the signal has been given.
    pub async fn stopped(&self) {
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }

    fn jobs(&self) -> MutexGuard<'_, HashMap<TenantNo, Vec<Job>>> {
        self.inner.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
