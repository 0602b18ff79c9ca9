//! The reference store: the contract in its simplest form, for tests of the other parts and as
//! the model that the sled store is checked against.
//!
//! Everything is in one list of events and one list of entries under one lock; every question is
//! answered by going through them. Nothing is on disk, so "durable" means "in the lists": a
//! [`Memory`] can be opened again and then stands for a disk that survived.

mod erase;
mod pages;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard},
    thread::{self, JoinHandle},
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    clock::{Millis, wall_ms},
    delivery::Entry,
    id::{DeliveryKey, EventId, NodeNo, Place, WebhookNo},
    store::{
        AppendError, Appended, BackupError, Bundle, EventBlock, EventInBlock, Feed, Health,
        NewEvent, OpenError, Opened, Places, Read, Recovered, RecoveredState, Row, Settings, Store,
        Write, codec, erasure::redact, fold::Story,
    },
};

/// How often retention looks, when no write makes it look.
const PAUSE: Duration = Duration::from_millis(20);

/// Opens an empty store.
pub fn open(settings: Settings) -> Result<Opened, OpenError> {
    Memory::default().open(settings)
}

/// What survives closing. Copies share it.
#[derive(Clone, Debug, Default)]
pub struct Memory(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    node: Option<NodeNo>,
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
    blocks: BTreeMap<u64, Arc<EventBlock>>,
    next_block: u64,
    /// The place of an entry is its number here, as a block of its own.
    entries: Vec<Entry>,
    recorded: watch::Sender<u64>,
    keys: HashMap<[u8; 16], Key>,
    /// What was erased, so that attempts which end later keep no responses.
    erased: HashSet<Place>,
}

#[derive(Debug)]
struct Key {
    payload: Bytes,
    first: Appended,
}

impl Memory {
    /// Opens what is there, as a store does after a start.
    pub fn open(&self, settings: Settings) -> Result<Opened, OpenError> {
        let mut state = self.state();
        let node = *state.node.get_or_insert_with(|| NodeNo(crate::id::random_u128() as u16));
        let rows = state.rows.iter();
        let rows = rows.map(|(key, value)| Row { key: key.clone(), value: Some(value.clone()) });
        let rows = rows.collect();
        let recorded = state.recorded.subscribe();
        drop(state);
        let (write_sender, writes) = mpsc::channel(settings.queue.max(1));
        let (read_sender, reads) = mpsc::channel(settings.queue.max(1));
        let (health_sender, health) = watch::channel(Health::default());
        let (feeds, feeds_receiver) = oneshot::channel();
        let (closing, closed) = watch::channel(());
        let (writer, reader) = (self.clone(), self.clone());
        let threads: Vec<JoinHandle<()>> = vec![
            thread::spawn(move || {
                let _alive = (health_sender, closing);
                writer.write(&settings, writes, feeds_receiver);
            }),
            thread::spawn(move || reader.read(reads, closed)),
        ];
        let store = Store { writes: write_sender, reads: read_sender, health, recorded, node };
        Ok(Opened { store, rows, feeds, threads })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no holder of this lock panics")
    }

    fn write(
        &self,
        settings: &Settings,
        mut writes: mpsc::Receiver<Write>,
        mut feeds: oneshot::Receiver<Vec<mpsc::Sender<Feed>>>,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let runtime = runtime.expect("a timer needs nothing from the system");
        let mut early = Vec::new();
        let feeds = loop {
            let next = runtime.block_on(async {
                tokio::select! {
                    biased;
                    feeds = &mut feeds => Err(feeds),
                    Some(write) = writes.recv() => Ok(write),
                }
            });
            match next {
                Err(Ok(feeds)) => break feeds,
                Err(Err(_)) => return,
                Ok(write) if write.needs_no_feed() => {
                    if self.take(write, settings, &[]) {
                        return;
                    }
                }
                Ok(write) => early.push(write),
            }
        };
        for feed in self.state().recover() {
            send_all(&feeds, feed);
        }
        for write in early {
            if self.take(write, settings, &feeds) {
                return;
            }
        }
        loop {
            let next = runtime.block_on(async { tokio::time::timeout(PAUSE, writes.recv()).await });
            match next {
                Ok(None) => return,
                Ok(Some(write)) => {
                    if self.take(write, settings, &feeds) {
                        return;
                    }
                }
                Err(_) => {}
            }
            self.state().retire(settings);
        }
    }

    /// Does what a message asks; true where it was `Close`.
    fn take(&self, write: Write, settings: &Settings, feeds: &[mpsc::Sender<Feed>]) -> bool {
        match write {
            Write::Append { events, reply } => {
                let result = self.state().append(events, settings);
                let answer = result.map(|(answers, block)| {
                    if let Some(block) = block {
                        send_all(feeds, Feed::Block(block));
                    }
                    answers
                });
                let _ = reply.send(answer);
                false
            }
            Write::Entries { entries, reply } => {
                self.state().record(entries);
                reply.map(|reply| reply.send(Ok(())));
                false
            }
            Write::Rows { bundle: Bundle { rows, events, entries }, reply } => {
                let mut state = self.state();
                let appended = state.append(events, settings).expect("they have no keys");
                for Row { key, value } in rows {
                    match value {
                        Some(value) => state.rows.insert(key, value),
                        None => state.rows.remove(&key),
                    };
                }
                if !entries.is_empty() {
                    state.record(entries);
                }
                drop(state);
                if let Some(block) = appended.1 {
                    send_all(feeds, Feed::Block(block));
                }
                let _ = reply.send(Ok(()));
                false
            }
            Write::Erase { erasure, reply } => {
                let erased = self.state().erase(&erasure);
                erased.into_iter().for_each(|block| send_all(feeds, Feed::Erased(block)));
                let _ = reply.send(Ok(()));
                false
            }
            Write::Backup { reply, .. } => {
                let _ = reply.send(Err(BackupError::Unsupported));
                false
            }
            Write::Scrub { reply } => {
                let _ = reply.send(Ok(()));
                false
            }
            Write::Close { reply } => {
                let _ = reply.send(Ok(()));
                true
            }
        }
    }

    fn read(&self, mut reads: mpsc::Receiver<Read>, mut closed: watch::Receiver<()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let runtime = runtime.expect("a runtime without drivers needs nothing from the system");
        let mut next = || {
            runtime.block_on(async {
                tokio::select! {
                    biased;
                    read = reads.recv() => read,
                    _ = closed.changed() => None,
                }
            })
        };
        while let Some(read) = next() {
            let state = self.state();
            match read {
                Read::Block { block, reply } => {
                    drop(reply.send(Ok(state.blocks.get(&block).cloned())));
                }
                Read::Places { webhook, from, until, limit, reply } => {
                    drop(reply.send(Ok(state.places(webhook, from, until, limit))));
                }
                Read::Entries { place, webhook, reply } => {
                    let wanted = |entry: &&Entry| {
                        entry.key.place == place && webhook.is_none_or(|w| w == entry.key.webhook)
                    };
                    let is_kept = state.blocks.contains_key(&place.block());
                    let entries = state.entries.iter().filter(|_| is_kept).filter(wanted).cloned();
                    drop(reply.send(Ok(entries.collect())));
                }
                Read::Deliveries { query, reply } => {
                    drop(reply.send(Ok(state.deliveries(&query))));
                }
                Read::Ended { query, reply } => drop(reply.send(Ok(state.ended(&query)))),
                Read::Events { query, reply } => drop(reply.send(Ok(state.events(&query)))),
                Read::Following { from, query, reply } => {
                    drop(reply.send(Ok(state.following(from, &query))));
                }
                Read::Attempts { from, query, reply } => {
                    drop(reply.send(Ok(state.attempts(from, &query))));
                }
                Read::Responses { places, reply } => {
                    drop(reply.send(Ok(state.responses(&places))));
                }
            }
        }
    }
}

impl State {
    /// One batch is one block.
    fn append(
        &mut self,
        events: Vec<NewEvent>,
        settings: &Settings,
    ) -> Result<(Vec<Appended>, Option<Arc<EventBlock>>), AppendError> {
        let last = self.blocks.values().next_back().map_or(0, |block| block.accepted_at);
        let now = wall_ms().max(last);
        let window = settings.idempotency_window.as_millis() as Millis;
        self.keys.retain(|_, key| key.first.id.accepted_at + window > now);
        self.check_keys(&events)?;
        let node = self.node.expect("set by open");
        let (number, entries_from) = (self.next_block, self.entries.len() as u64);
        let mut answers = Vec::new();
        let (mut in_block, mut routes, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
        for event in events {
            if let Some(known) = event.key.and_then(|key| self.keys.get(&key.0)) {
                answers.push(Appended { replayed: true, ..known.first });
                continue;
            }
            let place = Place::new(number, in_block.len() as u16);
            let deliveries = event.routes.iter().filter(|route| route.enabled).count() as u32;
            let id = EventId { accepted_at: now, node, place };
            let first = Appended { id, deliveries, replayed: false };
            if let Some(key) = event.key {
                self.keys.insert(key.0, Key { payload: event.payload.clone(), first });
            }
            let range = |from: usize, len: usize| (from as u32, (from + len) as u32);
            in_block.push(EventInBlock {
                tenant: event.tenant,
                event_type: event.event_type,
                erased: false,
                has_trace: event.trace.is_some(),
                payload: range(bytes.len(), event.payload.len()),
                routes: range(routes.len(), event.routes.len()),
            });
            routes.extend_from_slice(&event.routes);
            bytes.extend_from_slice(&event.payload);
            if let Some(trace) = &event.trace {
                codec::put_trace(&mut bytes, trace);
            }
            answers.push(first);
        }
        if in_block.is_empty() {
            return Ok((answers, None));
        }
        let block = Arc::new(EventBlock {
            number,
            node,
            accepted_at: now,
            entries_from,
            bytes: bytes.into(),
            events: in_block,
            routes,
        });
        self.blocks.insert(number, Arc::clone(&block));
        self.next_block += 1;
        Ok((answers, Some(block)))
    }

    fn check_keys(&self, events: &[NewEvent]) -> Result<(), AppendError> {
        let mut first: HashMap<[u8; 16], &Bytes> = HashMap::new();
        let mut reused = Vec::new();
        for (index, event) in events.iter().enumerate() {
            let Some(key) = event.key else { continue };
            let known = self.keys.get(&key.0).map(|known| &known.payload);
            let payload = known.unwrap_or_else(|| first.entry(key.0).or_insert(&event.payload));
            if *payload != event.payload {
                reused.push(index);
            }
        }
        if reused.is_empty() { Ok(()) } else { Err(AppendError::KeyReused(reused)) }
    }

    fn story(&self, key: DeliveryKey) -> Story {
        let mut story = Story::default();
        let about = self.entries.iter().filter(|entry| entry.key == key);
        about.for_each(|entry| story.apply(entry));
        story
    }

    /// All deliveries of a block, in order, with when they were accepted.
    fn deliveries_of(&self, block: &EventBlock) -> Vec<(u16, DeliveryKey, Story)> {
        let mut found = Vec::new();
        for index in 0..block.events.len() as u32 {
            let index = index as u16;
            for route in block.routes_of(index) {
                let place = Place::new(block.number, index);
                let key = DeliveryKey { place, webhook: route.webhook };
                let story = self.story(key);
                if route.enabled || story.last.is_some() {
                    found.push((index, key, story));
                }
            }
        }
        found
    }

    fn recover(&self) -> Vec<Feed> {
        let mut feeds = Vec::new();
        for block in self.blocks.values() {
            let is_enabled = |index, webhook| {
                let mut routes = block.routes_of(index).iter();
                routes.any(|route| route.enabled && route.webhook == webhook)
            };
            let deliveries = self.deliveries_of(block).into_iter();
            let recovered: Vec<Recovered> = deliveries
                .filter(|(index, key, story)| {
                    is_enabled(*index, key.webhook) || story.progress.reopened_at.is_some()
                })
                .map(|(_, key, story)| {
                    let (state, accepted_at) = story.progress.recovered(block.accepted_at);
                    Recovered { key, accepted_at, state }
                })
                .collect();
            if recovered.iter().any(|recovered| recovered.state != RecoveredState::Settled) {
                feeds.push(Feed::Recovered(recovered.into()));
            }
        }
        feeds.push(Feed::RecoveryDone);
        feeds
    }

    fn retire(&mut self, settings: &Settings) {
        let age = settings.retention_age.as_millis() as Millis;
        while let Some(oldest) = self.blocks.values().next() {
            let is_old = oldest.accepted_at + age <= wall_ms();
            let bytes: usize = self.blocks.values().map(|block| block.bytes.len()).sum();
            let is_big = bytes as u64 > settings.retention_bytes;
            let deliveries = self.deliveries_of(oldest);
            let is_settled = deliveries.iter().all(|(_, _, story)| story.progress.state.is_ended());
            if !is_settled || !(is_old || is_big) {
                break;
            }
            self.blocks.pop_first();
        }
    }

    fn places(&self, webhook: WebhookNo, from: Place, until: Place, limit: usize) -> Places {
        let mut found = Places::default();
        for block in self.blocks.values() {
            for index in 0..block.events.len() {
                let place = Place::new(block.number, index as u16);
                let routes = block.routes_of(index as u16);
                let is_routed = routes.iter().any(|r| r.enabled && r.webhook == webhook);
                if !is_routed || place < from || place > until {
                    continue;
                }
                if found.places.len() >= limit {
                    found.next = Some(place);
                    return found;
                }
                found.places.push(place);
            }
        }
        found
    }

    fn record(&mut self, mut entries: Vec<Entry>) {
        entries.iter_mut().filter(|e| self.erased.contains(&e.key.place)).for_each(|entry| {
            redact(entry);
        });
        self.entries.extend(entries);
        self.recorded.send_replace(self.entries.len() as u64);
    }
}

fn send_all(feeds: &[mpsc::Sender<Feed>], feed: Feed) {
    for sender in feeds {
        let _ = sender.blocking_send(feed.clone());
    }
}
