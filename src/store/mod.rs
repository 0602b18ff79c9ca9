//! The store: all that survives a crash. Two append-only logs and a small directory.
//!
//! - **event log**: blocks of accepted events with their payloads and their routes (which webhooks
//!   each event goes to, decided once, at acceptance). The write-ahead queue and the archive.
//! - **attempt log**: blocks of [`Entry`]s. The record of an attempt is its acknowledgement.
//! - **directory**: rows of tenants, keys and webhooks. The store does not know what is in them.
//!
//! A backend is an actor behind two bounded channels, [`Write`] and [`Read`], and a feed of what it
//! committed. Nobody outside knows which backend runs.
//!
//! In here: [`codec`] says what a block looks like on disk, [`sled`] is the store for one machine,
//! [`memory`] the reference; `fold`, `tally`, `ledger`, `history` and `attempts` are what they
//! need to know of entries, open deliveries, keys, pages and watchers. One suite tests both stores.
//!
//! # Contract
//!
//! 1. `Append` answers `Ok` only after the batch is durable; all of it or none of it. Committed
//!    blocks go to the feed in order, each once, after they are durable and no later than the
//!    answer. If the asker is gone, the events are fed all the same.
//! 2. An event whose idempotency key was seen within the window is not appended; it answers with
//!    the first id. The same key with another payload refuses the whole batch.
//! 3. `Entries` are durable within `store.entries_max_wait`, sooner when they ride on an append,
//!    or at once where a reply is asked for.
//! 4. After the first failed write or sync nothing is acknowledged any more: every later write
//!    answers `Poisoned`, and [`Health`] says so.
//! 5. A record that does not match its checksum is quarantined and counted; never fed, never
//!    skipped in silence.
//! 6. Opening tells, in place order, every delivery that is not settled ([`Recovered`]).
//! 7. `Rows` are durable before they are answered, all of a message or none of it, its events and
//!    its entries with them; events are fed as those of an append are.
//! 8. `Full` is an answer, not an error: nothing was written, entries still are.
//! 9. `Erase` answers once no reader and no shard is given the payloads any more. Ids, routes, times
//!    and verdicts stay. What a backend's files still hold of them is gone when `Scrub` answers.

mod attempts;
mod backup;
mod block;
pub mod codec;
#[cfg(test)]
mod contract_tests;
mod ended;
mod erasure;
mod events;
mod fold;
mod history;
mod ledger;
pub mod memory;
mod rows;
pub mod sled;
mod tally;

use std::{path::PathBuf, sync::Arc};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};

pub use self::{
    attempts::{AttemptQuery, AttemptRow, Attempts, EntryPlace, Gap},
    backup::{BackedUp, BackupError, BackupOrder, BackupProgress, named_by},
    block::{EventBlock, EventInBlock},
    ended::{EndedPage, EndedQuery, EndedRow},
    erasure::Erasure,
    events::{EventPage, EventQuery, EventRow, Following},
    rows::{Bundle, Row},
    sled::{NotVerified, Verified},
};
use crate::{
    clock::Millis,
    delivery::{Entry, ErrorCode, State},
    event::{EventType, EventTypes},
    id::{DeliveryKey, EventId, NodeNo, Place, TenantNo, WebhookNo},
    trace::TraceContext,
};

/// One webhook that an event goes to, or would have gone to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Route {
    pub webhook: WebhookNo,
    /// False where the webhook was disabled when the event came: recorded, never attempted.
    pub enabled: bool,
}

/// What makes a repeated event recognisable: a keyed-by-tenant hash of the idempotency key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IdempotencyKey(pub [u8; 16]);

/// An event on its way into the log.
#[derive(Clone, Debug)]
pub struct NewEvent {
    pub tenant: TenantNo,
    pub event_type: EventType,
    pub payload: Bytes,
    pub key: Option<IdempotencyKey>,
    /// What trace its producer said that it belongs to; boxed, since few events say it.
    pub trace: Option<Box<TraceContext>>,
    /// Shared by all events of a tenant and type.
    pub routes: Arc<[Route]>,
}

/// What became of one appended event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    pub id: EventId,
    /// The enabled routes: how many deliveries it has.
    pub deliveries: u32,
    /// True where the idempotency key had been seen: `id` is the first event's.
    pub replayed: bool,
}

/// Why nothing of a batch was accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Indices in the batch of events whose key was seen with another payload.
    #[error("an idempotency key was used before with another payload")]
    KeyReused(Vec<usize>),
    /// The disk's headroom is reached; heals when retention or the operator frees space.
    #[error("the store has no room for more events")]
    Full,
    /// [`Health`] says after what.
    #[error("the store has stopped")]
    Poisoned,
}

/// Why a read or a directory write failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// [`Health`] says after what.
    #[error("the store has stopped")]
    Poisoned,
    #[error("the store has no room")]
    Full,
    #[error("the record is damaged and was quarantined")]
    Damaged,
    #[error("the store could not read: {0}")]
    Io(String),
    /// The store's thread has ended.
    #[error("the store is closed")]
    Closed,
}

/// All that a store is asked to write.
#[derive(Debug)]
pub enum Write {
    Append {
        events: Vec<NewEvent>,
        reply: oneshot::Sender<Result<Vec<Appended>, AppendError>>,
    },
    /// Entries of the attempt log, in the order in which they happened.
    Entries {
        entries: Vec<Entry>,
        /// Where someone waits for them to be durable.
        reply: Option<oneshot::Sender<Result<(), StoreError>>>,
    },
    /// What belongs together: all or none, durable before the answer.
    Rows {
        bundle: Bundle,
        reply: oneshot::Sender<Result<(), StoreError>>,
    },
    /// Forget what some events said; see [`Store::erase`].
    Erase {
        erasure: Erasure,
        reply: oneshot::Sender<Result<(), StoreError>>,
    },
    /// See [`Store::scrub`].
    Scrub {
        reply: oneshot::Sender<Result<(), StoreError>>,
    },
    /// See [`Store::back_up`].
    Backup {
        order: BackupOrder,
        reply: oneshot::Sender<Result<BackedUp, BackupError>>,
    },
    /// Make everything durable and close; nothing is accepted after it.
    Close {
        reply: oneshot::Sender<Result<(), StoreError>>,
    },
}

/// All that a store is asked to read. Reads never wait for writes.
#[derive(Debug)]
pub enum Read {
    /// A block of the event log; none where retention removed it or it never was.
    Block { block: u64, reply: oneshot::Sender<Result<Option<Arc<EventBlock>>, StoreError>> },
    /// Up to `limit` places in `from..=until` routed (enabled) to this webhook.
    Places {
        webhook: WebhookNo,
        from: Place,
        until: Place,
        limit: usize,
        reply: oneshot::Sender<Result<Places, StoreError>>,
    },
    /// All entries about one event, oldest first; about one delivery where a webhook is given.
    Entries {
        place: Place,
        webhook: Option<WebhookNo>,
        reply: oneshot::Sender<Result<Vec<Entry>, StoreError>>,
    },
    /// A page of deliveries, newest event first.
    Deliveries { query: DeliveryQuery, reply: oneshot::Sender<Result<DeliveryPage, StoreError>> },
    /// Deliveries that have ended, oldest event first, for a replay of many.
    Ended { query: EndedQuery, reply: oneshot::Sender<Result<EndedPage, StoreError>> },
    /// A page of events, newest first.
    Events { query: EventQuery, reply: oneshot::Sender<Result<EventPage, StoreError>> },
    /// Events from a place on, oldest first; from the oldest kept where none is given. None where
    /// retention has removed what stood there.
    Following {
        from: Option<Place>,
        query: EventQuery,
        reply: oneshot::Sender<Result<Option<Following>, StoreError>>,
    },
    /// Attempts from a place of the attempt log on; where none is given, none, and where the log
    /// ends now.
    Attempts {
        from: Option<EntryPlace>,
        query: AttemptQuery,
        reply: oneshot::Sender<Result<Attempts, StoreError>>,
    },
    /// The blocks of the attempt log that keep responses to these events.
    Responses { places: Vec<Place>, reply: oneshot::Sender<Result<Vec<u64>, StoreError>> },
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Places {
    pub places: Vec<Place>,
    /// Where to go on; none where `until` was passed.
    pub next: Option<Place>,
}

/// Which deliveries are wanted. Every set filter must match.
#[derive(Clone, Debug)]
pub struct DeliveryQuery {
    pub tenant: TenantNo,
    pub webhook: Option<WebhookNo>,
    /// Names of [`State`]; empty means any.
    pub states: Vec<&'static str>,
    pub event_types: EventTypes,
    /// Inclusive range of the last attempt's status.
    pub status: Option<(u16, u16)>,
    /// The last attempt's error code.
    pub error: Option<ErrorCode>,
    /// Of the event's acceptance, wall, inclusive.
    pub since: Option<Millis>,
    pub until: Option<Millis>,
    /// Only deliveries strictly before this one in (place, webhook) order.
    pub before: Option<DeliveryKey>,
    pub limit: usize,
}

/// One delivery as the two logs tell it.
#[derive(Clone, Debug, PartialEq)]
pub struct DeliveryRow {
    pub key: DeliveryKey,
    pub event: EventId,
    pub event_type: EventType,
    pub state: State,
    /// Made in all, over every round.
    pub attempts: u16,
    /// The last entry that carries an attempt, and so its status, error and latency; where none
    /// was made, the last decision.
    pub last: Option<Entry>,
}

#[derive(Clone, Debug, PartialEq, Default)]
pub struct DeliveryPage {
    pub rows: Vec<DeliveryRow>,
    /// Where the next page starts. A page may be short, even empty, and still have a next one: one
    /// request reads a bounded stretch of the log.
    pub next: Option<DeliveryKey>,
}

/// What opening a store tells about deliveries, in place order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovered {
    pub key: DeliveryKey,
    /// When its round began: the event's acceptance, or the replay that reopened it, so that an
    /// old delivery which was replayed shortly before a restart does not count as expired.
    pub accepted_at: Millis,
    pub state: RecoveredState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecoveredState {
    /// Never attempted.
    Fresh,
    /// Attempted, or reopened by a replay; the next attempt is due at `due`. `attempts` were made
    /// in all, `round_attempts` of them since acceptance or the last replay: the former numbers
    /// the next attempt, the latter says where in the schedule it stands.
    Resumed { attempts: u16, round_attempts: u16, due: Millis },
    /// Ended; told only for blocks in which another delivery is not.
    Settled,
}

/// What goes from the store to the shards. The store's thread blocks when a feed is full, so a
/// shard must take from it whatever else it waits for.
#[derive(Clone, Debug)]
pub enum Feed {
    /// Once, before any block: everything unsettled, in stretches, in place order.
    Recovered(Arc<[Recovered]>),
    /// Recovery is complete.
    RecoveryDone,
    /// A block was committed just now.
    Block(Arc<EventBlock>),
    /// Events of a block that was told before were erased: this is what is left of it.
    Erased(Arc<EventBlock>),
}

/// What the store says about itself; a watch, always current.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Set by the first failed write or sync, or where recovery refuses to go on, with what failed.
    /// The process must exit.
    pub poisoned: Option<String>,
    /// New events are refused until space is free.
    pub full: bool,
}

/// The handle by which everybody reaches the store.
#[derive(Clone, Debug)]
pub struct Store {
    pub writes: mpsc::Sender<Write>,
    pub reads: mpsc::Sender<Read>,
    pub health: watch::Receiver<Health>,
    /// The number of the attempt log's next block: it changes when entries became readable.
    pub recorded: watch::Receiver<u64>,
    pub node: NodeNo,
}

/// An opened store, before it is fed to anyone.
#[derive(Debug)]
pub struct Opened {
    pub store: Store,
    /// The directory's rows as they stand.
    pub rows: Vec<Row>,
    /// Where the store waits to be told whom to feed. It then recovers into all feeds, and only
    /// after that takes appends and entries; reads, directory rows and `Close` are answered from
    /// the start. Dropped without an answer, it closes the store.
    pub feeds: oneshot::Sender<Vec<mpsc::Sender<Feed>>>,
    /// The store's threads; they end after `Close`, or when all handles are gone.
    pub threads: Vec<std::thread::JoinHandle<()>>,
}

/// Why a store did not open. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(
        "the data directory {0} is in use by another process; stop it, or set another data_dir"
    )]
    InUse(PathBuf),
    #[error(
        "the data directory {path} cannot be used: {reason}; check that it exists, is a directory and is writable by this user"
    )]
    Unusable { path: PathBuf, reason: String },
    #[error(
        "the data directory {path} was written by a newer version (format {found}, this one writes {supported}); run that version, or set another data_dir"
    )]
    Newer { path: PathBuf, found: u32, supported: u32 },
    #[error(
        "the data directory {path} was written by an earlier version (format {found}, this one writes {supported}); run that version, or set another data_dir"
    )]
    Older { path: PathBuf, found: u32, supported: u32 },
    #[error(
        "the data directory {path} is damaged: {reason}; restore it from a backup, or move it aside and start with an empty one, without the events and settings that it held"
    )]
    Damaged { path: PathBuf, reason: String },
    #[error(
        "the data directory {path} has lost part of what it held: {reason}; restore it from a backup, or, to go on with what is left, copy it to a safe place and then make an empty file `accept-loss` in it"
    )]
    Lost { path: PathBuf, reason: String },
    #[error(
        "the data directory {path} could not be opened: {reason}; keep a copy of it and report this"
    )]
    Broken { path: PathBuf, reason: String },
}

/// The store's numbers.
#[derive(Clone, Debug)]
pub struct Settings {
    pub data_dir: PathBuf,
    /// sled's page cache, bytes. Not a bound on memory.
    pub cache: u64,
    /// A commit takes no more events than this, …
    pub commit_max_events: usize,
    /// … nor more payload bytes, unless one batch alone is larger.
    pub commit_max_bytes: usize,
    /// How long a busy store lets a commit grow. An idle one commits at once.
    pub commit_max_wait: std::time::Duration,
    /// Entries without an append to ride on are made durable after this.
    pub entries_max_wait: std::time::Duration,
    /// Whole blocks whose deliveries have all ended are removed after this age, …
    pub retention_age: std::time::Duration,
    /// … or, oldest first, when the logs are larger than this.
    pub retention_bytes: u64,
    /// New events are refused when the file system has less free than this.
    pub disk_headroom: u64,
    pub idempotency_window: std::time::Duration,
    /// Keys remembered; beyond it the oldest is forgotten before its window ends (counted).
    pub idempotency_max_keys: usize,
    /// One page request reads at most this many blocks.
    pub max_scan_blocks: usize,
    /// Deliveries in the index that pages are found in; 0 turns it off.
    pub max_indexed: usize,
    /// The capacity of the write channel, in messages.
    pub queue: usize,
}

impl Store {
    /// Appends a batch; see the contract. `Poisoned` also where the store has closed.
    pub async fn append(&self, events: Vec<NewEvent>) -> Result<Vec<Appended>, AppendError> {
        let (reply, answer) = oneshot::channel();
        self.writes
            .send(Write::Append { events, reply })
            .await
            .map_err(|_| AppendError::Poisoned)?;
        answer.await.map_err(|_| AppendError::Poisoned)?
    }

    /// Writes entries and returns when they are durable.
    pub async fn put_entries(&self, entries: Vec<Entry>) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        let write = Write::Entries { entries, reply: Some(reply) };
        self.writes.send(write).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// Makes everything durable and closes the store.
    pub async fn close(&self) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        self.writes.send(Write::Close { reply }).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    pub async fn block(&self, block: u64) -> Result<Option<Arc<EventBlock>>, StoreError> {
        self.read(|reply| Read::Block { block, reply }).await
    }

    pub async fn places(
        &self,
        webhook: WebhookNo,
        from: Place,
        until: Place,
        limit: usize,
    ) -> Result<Places, StoreError> {
        self.read(|reply| Read::Places { webhook, from, until, limit, reply }).await
    }

    pub async fn entries(
        &self,
        place: Place,
        webhook: Option<WebhookNo>,
    ) -> Result<Vec<Entry>, StoreError> {
        self.read(|reply| Read::Entries { place, webhook, reply }).await
    }

    pub async fn deliveries(&self, query: DeliveryQuery) -> Result<DeliveryPage, StoreError> {
        self.read(|reply| Read::Deliveries { query, reply }).await
    }

    pub async fn ended(&self, query: EndedQuery) -> Result<EndedPage, StoreError> {
        self.read(|reply| Read::Ended { query, reply }).await
    }

    pub async fn events(&self, query: EventQuery) -> Result<EventPage, StoreError> {
        self.read(|reply| Read::Events { query, reply }).await
    }

    async fn read<T>(
        &self,
        ask: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Read,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.reads.send(ask(reply)).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }
}
