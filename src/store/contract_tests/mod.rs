//! One suite for every backend: what the contract in [`crate::store`] promises, asked from
//! outside. Each test is a function over a [`Backend`]; `suite!` runs it against all of them.

mod appends;
mod attempts;
mod ended;
mod erasure;
mod following;
mod model;
mod pages;
mod recovery;
mod retention;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tempfile::TempDir;
use tokio::{runtime::Runtime, sync::mpsc};

use crate::{
    clock::{Millis, instant},
    delivery::{Attempt, AttemptError, Entry, ErrorCode, KeptResponse, Phases, Protocol, Verdict},
    event::{EventType, EventTypes},
    id::{DeliveryKey, TenantNo, WebhookNo},
    store::{
        AppendError, Appended, DeliveryPage, DeliveryQuery, EventPage, EventQuery, Feed,
        IdempotencyKey, NewEvent, Opened, Recovered, Route, Row, Settings, Store, StoreError,
        memory::Memory, sled,
    },
};

/// Runs each named function against the memory store and against sled.
macro_rules! suite {
    ($($name:ident),* $(,)?) => {
        mod in_memory {
            $(#[test] fn $name() { super::$name(&super::Backend::memory()); })*
        }
        mod on_sled {
            $(#[test] fn $name() { super::$name(&super::Backend::sled()); })*
        }
    };
}
use suite;

/// A place where a store can be opened again and again.
pub(super) enum Backend {
    Memory(Memory),
    Sled(TempDir),
}

impl Backend {
    fn memory() -> Self {
        Self::Memory(Memory::default())
    }

    pub(super) fn sled() -> Self {
        Self::Sled(tempfile::tempdir().unwrap())
    }

    fn start(&self) -> Running {
        self.start_with(|_| {})
    }

    fn start_with(&self, change: impl FnOnce(&mut Settings)) -> Running {
        let mut settings = settings();
        change(&mut settings);
        Running::feed(self.open(settings))
    }

    /// Opens it and feeds nobody.
    fn open(&self, settings: Settings) -> Opened {
        let opened = match self {
            Self::Memory(memory) => memory.open(settings),
            Self::Sled(dir) => {
                sled::open(Settings { data_dir: dir.path().join("data"), ..settings })
            }
        };
        opened.unwrap()
    }

    /// What SIGKILL would leave behind, as a backend of its own: the files as the kernel has them
    /// at this moment, while the store still runs.
    fn killed(&self) -> Self {
        match self {
            Self::Memory(memory) => Self::Memory(memory.clone()),
            Self::Sled(dir) => {
                let copy = tempfile::tempdir().unwrap();
                copy_dir(dir.path(), copy.path());
                Self::Sled(copy)
            }
        }
    }
}

/// Copies files before directories: a copy takes its time, and a store's mark may be older than the
/// database in the directory beside it, but never newer.
pub(super) fn copy_dir(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    let mut files: Vec<_> = std::fs::read_dir(from).unwrap().map(Result::unwrap).collect();
    files.sort_by_key(|file| file.file_type().unwrap().is_dir());
    for file in files {
        let target = to.join(file.file_name());
        if file.file_type().unwrap().is_dir() {
            copy_dir(&file.path(), &target);
        } else {
            std::fs::copy(file.path(), target).unwrap();
        }
    }
}

pub(super) fn settings() -> Settings {
    Settings {
        data_dir: "unused".into(),
        cache: 8 << 20,
        commit_max_events: 2000,
        commit_max_bytes: 4 << 20,
        commit_max_wait: Duration::from_millis(2),
        entries_max_wait: Duration::from_millis(20),
        retention_age: Duration::from_hours(72),
        retention_bytes: 1 << 30,
        disk_headroom: 0,
        idempotency_window: Duration::from_hours(24),
        idempotency_max_keys: 1000,
        max_scan_blocks: 20_000,
        max_indexed: 1_000_000,
        queue: 1024,
    }
}

/// An opened and fed store, asked in blocking style.
pub(super) struct Running {
    pub(super) store: Store,
    pub(super) rows: Vec<Row>,
    pub(super) recovered: Vec<Recovered>,
    pub(super) feed: mpsc::Receiver<Feed>,
    pub(super) threads: Vec<std::thread::JoinHandle<()>>,
    pub(super) runtime: Runtime,
}

impl Running {
    /// Gives the store one feed and waits until it has recovered into it.
    pub(super) fn feed(opened: Opened) -> Self {
        let Opened { store, rows, feeds, threads } = opened;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (sender, mut feed) = mpsc::channel(100_000);
        feeds.send(vec![sender]).unwrap();
        let mut recovered = Vec::new();
        loop {
            match runtime.block_on(feed.recv()).expect("recovery ends with RecoveryDone") {
                Feed::Recovered(stretch) => recovered.extend_from_slice(&stretch),
                Feed::RecoveryDone => break,
                other => panic!("{other:?} before recovery was done"),
            }
        }
        Self { store, rows, recovered, feed, threads, runtime }
    }

    pub(super) fn append(&self, events: Vec<NewEvent>) -> Result<Vec<Appended>, AppendError> {
        self.runtime.block_on(self.store.append(events))
    }

    /// Appends one event and gives its deliveries' keys, in the order of its routes.
    fn accept(&self, event: NewEvent) -> Vec<DeliveryKey> {
        let webhooks: Vec<_> = event.routes.iter().map(|route| route.webhook).collect();
        let place = self.append(vec![event]).unwrap()[0].id.place;
        webhooks.into_iter().map(|webhook| DeliveryKey { place, webhook }).collect()
    }

    pub(super) fn record(&self, entries: Vec<Entry>) {
        self.runtime.block_on(self.store.put_entries(entries)).unwrap_or_else(|e| self.fail(e));
    }

    /// Fails the test with what the store says of itself.
    fn fail(&self, error: StoreError) {
        panic!("{error}: {:?}", *self.store.health.borrow());
    }

    fn deliveries(&self, query: &DeliveryQuery) -> DeliveryPage {
        self.runtime.block_on(self.store.deliveries(query.clone())).unwrap()
    }

    fn events(&self, query: &EventQuery) -> EventPage {
        self.runtime.block_on(self.store.events(query.clone())).unwrap()
    }

    pub(super) fn entries(&self, key: DeliveryKey) -> Vec<Entry> {
        self.runtime.block_on(self.store.entries(key.place, Some(key.webhook))).unwrap()
    }

    /// How many events of tenant 1 the store holds.
    pub(super) fn count_events(&self) -> usize {
        let query = EventQuery { limit: usize::MAX, ..event_query() };
        self.events(&query).events.len()
    }

    pub(super) fn close(self) {
        self.runtime.block_on(self.store.close()).unwrap_or_else(|e| self.fail(e));
        self.join();
    }

    /// Lets go of the store without closing it.
    fn abandon(self) {
        self.join();
    }

    pub(super) fn join(self) {
        let Self { store, threads, .. } = self;
        drop(store);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}

/// Waits until `is_true`, at most ten seconds.
pub(super) fn eventually(what: &str, mut is_true: impl FnMut() -> bool) {
    let began = instant();
    while !is_true() {
        assert!(began.elapsed() < Duration::from_secs(10), "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// An event of tenant 1 for these webhooks, all enabled.
pub(super) fn event(payload: &str, webhooks: &[u32]) -> NewEvent {
    NewEvent {
        tenant: TenantNo(1),
        event_type: EventType::Delivered,
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        key: None,
        trace: None,
        routes: webhooks.iter().map(|no| route(*no, true)).collect::<Vec<_>>().into(),
    }
}

fn keyed(payload: &str, key: u8) -> NewEvent {
    NewEvent { key: Some(IdempotencyKey([key; 16])), ..event(payload, &[1]) }
}

fn route(no: u32, enabled: bool) -> Route {
    Route { webhook: WebhookNo(no), enabled }
}

/// A decision without an attempt.
fn decision(key: DeliveryKey, at: Millis, verdict: Verdict) -> Entry {
    Entry { key, at, verdict, attempt: None }
}

/// An attempt that was answered.
pub(super) fn answered(key: DeliveryKey, number: u16, status: u16, verdict: Verdict) -> Entry {
    let at = 1_795_407_600_000 + Millis::from(number);
    let error = (status != 200)
        .then(|| AttemptError { code: ErrorCode::Status, detail: format!("answered {status}") });
    let attempt = Attempt {
        number,
        at,
        status: Some(status),
        error,
        latency: 12_345,
        phases: Phases { queue: 10, first_byte: 12_000, ..Phases::default() },
        response: KeptResponse::default(),
        peer: Some(([127, 0, 0, 1], 8080).into()),
        protocol: Protocol::Http1,
        reused_connection: true,
    };
    Entry { key, at: at + 12, verdict, attempt: Some(attempt) }
}

fn delivered(key: DeliveryKey) -> Entry {
    answered(key, 1, 200, Verdict::Delivered)
}

fn delivery_query() -> DeliveryQuery {
    DeliveryQuery {
        tenant: TenantNo(1),
        webhook: None,
        states: Vec::new(),
        event_types: EventTypes::ALL,
        status: None,
        error: None,
        since: None,
        until: None,
        before: None,
        limit: 100,
    }
}

pub(super) fn event_query() -> EventQuery {
    EventQuery {
        tenant: TenantNo(1),
        event_types: EventTypes::ALL,
        webhook: None,
        found_disabled: false,
        since: None,
        until: None,
        before: None,
        limit: 100,
    }
}

/// The last answer of a closed store.
fn is_gone(error: &StoreError) -> bool {
    matches!(error, StoreError::Closed | StoreError::Poisoned)
}

/// The blocks fed so far.
fn fed(running: &mut Running) -> Vec<Arc<crate::store::EventBlock>> {
    let mut blocks = Vec::new();
    while let Ok(feed) = running.feed.try_recv() {
        match feed {
            Feed::Block(block) => blocks.push(block),
            other => panic!("only blocks come after recovery, not {other:?}"),
        }
    }
    blocks
}
