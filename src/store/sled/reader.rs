//! The threads that read.
//!
//! `store-read` answers what the shards wait for: blocks and places. What people look at (pages,
//! the entries of an event) can take long and goes to `store-page`, so that a page never holds up
//! a delivery. Neither waits for the writer. When it has nothing to do, `store-page` makes the
//! summaries of entry blocks that were written before the start. Lists are found in the index,
//! which `store-index` keeps up to the present, and where that cannot tell by reading the logs.
//!
//! A damaged block is counted and told each time it is met. Who asked for the block itself learns
//! it; a page goes on with the next one.

use std::{
    collections::VecDeque,
    io,
    ops::Range,
    sync::{
        Arc, Mutex, MutexGuard,
        mpsc::{Receiver, RecvError, SyncSender, TryRecvError, TrySendError, sync_channel},
    },
    thread::{self, JoinHandle},
};

use tokio::sync::{mpsc, watch};

use super::{
    Shared,
    disk::{Found, View},
    index::{self, Index},
    metrics::StoreMetrics,
    quiet::PanicGuard,
};
use crate::{
    delivery::{Entry, EntryFacts},
    id::{DeliveryKey, Place, WebhookNo},
    store::{
        DeliveryPage, DeliveryQuery, EventBlock, EventPage, EventQuery, Following, Health, Places,
        Read, Settings, StoreError, attempts,
        codec::{Damage, Log, decode_entries, decode_entry_facts, decode_event_block},
        ended, erasure,
        history::{self, Logs, Summary},
    },
};

/// Decoded event blocks kept by each reading thread.
const RECENT_EVENTS: usize = 64;

/// Decoded entry blocks kept: a page's stretch reads each once, the next page often the same ones.
const RECENT_ENTRIES: usize = 32;

/// Event blocks that one answer about places may read: a shard asks again for more.
const PLACES_SCAN: u64 = 4096;

#[derive(Clone, Debug)]
pub(super) struct Reader {
    view: View,
    shared: Shared,
    index: Arc<Mutex<Index>>,
    max_scan: usize,
    queue: usize,
    metrics: StoreMetrics,
    recent_events: Recent<EventBlock>,
    recent_entries: Recent<Vec<Entry>>,
    /// See [`View::rewrites`]; when the recent blocks were read.
    rewrites: u64,
}

impl Reader {
    pub(super) fn new(
        view: View,
        shared: Shared,
        index: Index,
        settings: &Settings,
        metrics: StoreMetrics,
    ) -> Self {
        Self {
            view,
            shared,
            index: Arc::new(Mutex::new(index)),
            max_scan: settings.max_scan_blocks.max(1),
            queue: settings.queue.max(1),
            metrics,
            recent_events: Recent::new(RECENT_EVENTS),
            recent_entries: Recent::new(RECENT_ENTRIES),
            rewrites: 0,
        }
    }

    /// Reads blocks that were overwritten again.
    fn forget_rewritten(&mut self) {
        let rewrites = self.view.rewrites();
        if rewrites != self.rewrites {
            self.recent_events.clear();
            self.recent_entries.clear();
            self.rewrites = rewrites;
        }
    }

    /// Starts the threads. They end when all handles are gone, or when the writer has closed.
    pub(super) fn spawn(
        self,
        reads: mpsc::Receiver<Read>,
        closed: watch::Receiver<()>,
        health: &watch::Sender<Health>,
    ) -> io::Result<Vec<JoinHandle<()>>> {
        let guard = || PanicGuard(health.clone());
        let (page_guard, read_guard, index_guard) = (guard(), guard(), guard());
        let (pages, page_requests) = sync_channel(self.queue);
        let pager = self.clone();
        let page = thread::Builder::new().name("store-page".to_owned());
        let page = page.spawn(move || {
            let _guard = page_guard;
            pager.serve_pages(&page_requests);
        })?;
        let (indexer, index_closed) = (self.clone(), closed.clone());
        let index = thread::Builder::new().name("store-index".to_owned());
        let index = index.spawn(move || {
            let _guard = index_guard;
            indexer.keep_index(index_closed);
        })?;
        let read = thread::Builder::new().name("store-read".to_owned());
        let read = read.spawn(move || {
            let _guard = read_guard;
            self.serve(reads, closed, &pages);
        })?;
        Ok(vec![read, page, index])
    }

    fn serve(
        mut self,
        mut reads: mpsc::Receiver<Read>,
        mut closed: watch::Receiver<()>,
        pages: &SyncSender<Read>,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let runtime = runtime.expect("a runtime without drivers needs nothing from the system");
        loop {
            let read = runtime.block_on(async {
                tokio::select! {
                    biased;
                    read = reads.recv() => read,
                    _ = closed.changed() => None,
                }
            });
            self.forget_rewritten();
            match read {
                None => return,
                Some(Read::Block { block, reply }) => {
                    let _ = reply.send(self.block(block));
                }
                Some(Read::Places { webhook, from, until, limit, reply }) => {
                    let _ = reply.send(self.places(webhook, from, until, limit));
                }
                Some(page) => {
                    if let Err(TrySendError::Full(page) | TrySendError::Disconnected(page)) =
                        pages.try_send(page)
                    {
                        refuse(page);
                    }
                }
            }
        }
    }

    fn keep_index(mut self, closed: watch::Receiver<()>) {
        // It reads every block once.
        self.recent_events = Recent::new(1);
        let (index, shared) = (Arc::clone(&self.index), Arc::clone(&self.shared));
        let is_recovered = || shared.read().expect("no holder of this lock panics").is_recovered;
        index::keep(&index, &mut self, is_recovered, closed);
    }

    fn serve_pages(mut self, requests: &Receiver<Read>) {
        let mut unread_below = u64::MAX;
        loop {
            let request = match requests.try_recv() {
                Ok(request) => Ok(request),
                Err(TryRecvError::Disconnected) => return,
                Err(TryRecvError::Empty) => match self.summarize_one(&mut unread_below) {
                    true => continue,
                    false => requests.recv(),
                },
            };
            match request {
                Err(RecvError) => return,
                Ok(request) => self.answer(request),
            }
        }
    }

    fn answer(&mut self, request: Read) {
        self.forget_rewritten();
        let max_scan = self.max_scan;
        match request {
            Read::Entries { place, webhook, reply } => {
                let _ = reply.send(history::entries(self, place, webhook));
            }
            Read::Deliveries { query, reply } => {
                let _ = reply.send(self.deliveries(&query));
            }
            Read::Ended { query, reply } => {
                let _ = reply.send(ended::page(self, &query, max_scan.min(ended::MAX_SCAN)));
            }
            Read::Events { query, reply } => {
                let _ = reply.send(self.events_page(&query));
            }
            Read::Following { from, query, reply } => {
                let _ = reply.send(self.following(from, &query));
            }
            Read::Attempts { from, query, reply } => {
                let max_scan = max_scan.min(attempts::MAX_SCAN);
                let _ = reply.send(attempts::read(self, from, &query, max_scan));
            }
            Read::Responses { places, reply } => {
                let _ = reply.send(erasure::responses(self, &places));
            }
            Read::Block { .. } | Read::Places { .. } => refuse(request),
        }
    }

    fn deliveries(&mut self, query: &DeliveryQuery) -> Result<DeliveryPage, StoreError> {
        let (index, max_scan) = (Arc::clone(&self.index), self.max_scan);
        let found = lock(&index).find_deliveries(self, query, max_scan);
        match found {
            Some(found) => found.read(self, query),
            None => history::deliveries(self, query, max_scan),
        }
    }

    fn events_page(&mut self, query: &EventQuery) -> Result<EventPage, StoreError> {
        let (index, max_scan) = (Arc::clone(&self.index), self.max_scan);
        let found = lock(&index).find_events(self, query, max_scan);
        match found {
            Some(found) => found.read(self, query),
            None => history::events(self, query, max_scan),
        }
    }

    fn following(
        &mut self,
        asked: Option<Place>,
        query: &EventQuery,
    ) -> Result<Option<Following>, StoreError> {
        let (index, max_scan) = (Arc::clone(&self.index), self.max_scan);
        let oldest = self.events().start;
        let from = asked.unwrap_or(Place::new(oldest, 0));
        if from.block() < oldest {
            return Ok(None);
        }
        let found = lock(&index).find_following(self, from, query, max_scan);
        if let Some(found) = found
            && let Some(following) = found.read(self, query)?
        {
            return Ok(Some(following));
        }
        history::following(self, asked, query, max_scan)
    }

    /// Makes the summary of one more block from before the start, the newest first; false where
    /// none is left.
    fn summarize_one(&mut self, below: &mut u64) -> bool {
        let extent = self.shared.read().expect("no holder of this lock panics");
        let Some(number) = extent.unknown_before(*below) else { return false };
        drop(extent);
        *below = number;
        let summary = match self.view.block(Log::Entries, number) {
            Ok(Some(found)) => match found.and_then(|body| decode_entry_facts(number, &body)) {
                Ok(entries) => Summary::of(entries.iter().map(|entry| entry.key)),
                // Whoever looks for an entry in it counts it.
                Err(_) => return true,
            },
            Ok(None) => Summary::NOTHING,
            Err(_) => return true,
        };
        self.shared.write().expect("no holder of this lock panics").learn(number, summary);
        true
    }

    fn block(&mut self, number: u64) -> Result<Option<Arc<EventBlock>>, StoreError> {
        if !self.events().contains(&number) {
            return Ok(None);
        }
        if let Some(block) = self.recent_events.get(number) {
            return Ok(Some(block));
        }
        let Some(found) = self.counted(self.view.block(Log::Events, number))? else {
            return Ok(None);
        };
        match found.and_then(|body| decode_event_block(number, body)) {
            Ok(block) => Ok(Some(self.recent_events.put(number, block))),
            Err(damage) => Err(self.damaged(Log::Events, number, damage)),
        }
    }

    fn places(
        &mut self,
        webhook: WebhookNo,
        from: Place,
        until: Place,
        limit: usize,
    ) -> Result<Places, StoreError> {
        let mut found = Places::default();
        let range = self.events();
        let first = from.block().max(range.start);
        let end = range.end.min(until.block().saturating_add(1));
        for number in first..end {
            if number - first >= PLACES_SCAN {
                found.next = Some(Place::new(number, 0));
                return Ok(found);
            }
            let Some(block) = self.event_block(number)? else { continue };
            for index in 0..block.events.len() {
                let place = Place::new(number, index as u16);
                let routes = block.routes_of(index as u16);
                let is_routed = routes.iter().any(|r| r.enabled && r.webhook == webhook);
                if !is_routed || place < from || place > until {
                    continue;
                }
                if found.places.len() >= limit {
                    found.next = Some(place);
                    return Ok(found);
                }
                found.places.push(place);
            }
        }
        Ok(found)
    }

    /// A page that comes before the summaries are made makes them as it reads.
    fn learn(&self, number: u64, about: impl Iterator<Item = DeliveryKey>) {
        let extent = self.shared.read().expect("no holder of this lock panics");
        if !extent.is_unknown(number) {
            return;
        }
        drop(extent);
        let summary = Summary::of(about);
        self.shared.write().expect("no holder of this lock panics").learn(number, summary);
    }

    fn counted<T>(&self, read: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(error) = &read {
            self.metrics.read_failed.increment(1);
            tracing::error!(%error, "the store could not read");
        }
        read
    }

    fn damaged(&self, log: Log, number: u64, damage: Damage) -> StoreError {
        self.metrics.damaged(log, number, damage);
        StoreError::Damaged
    }
}

/// Pages go on behind a damaged block.
impl Logs for Reader {
    fn events(&self) -> Range<u64> {
        self.shared.read().expect("no holder of this lock panics").events.clone()
    }

    fn event_block(&mut self, number: u64) -> Result<Option<Arc<EventBlock>>, StoreError> {
        match self.block(number) {
            Err(StoreError::Damaged) => Ok(None),
            other => other,
        }
    }

    fn entry_blocks(
        &mut self,
        from: u64,
        about: &Range<u64>,
        webhook: Option<WebhookNo>,
    ) -> Vec<u64> {
        let extent = self.shared.read().expect("no holder of this lock panics");
        extent.candidates(from, about, webhook)
    }

    fn entry_block(&mut self, number: u64) -> Result<Option<Arc<Vec<Entry>>>, StoreError> {
        if let Some(entries) = self.recent_entries.get(number) {
            return Ok(Some(entries));
        }
        let found: Option<Found> = self.counted(self.view.block(Log::Entries, number))?;
        match found.map(|found| found.and_then(|body| decode_entries(number, body))) {
            None => Ok(None),
            Some(Ok(entries)) => {
                self.learn(number, entries.iter().map(|entry| entry.key));
                Ok(Some(self.recent_entries.put(number, entries)))
            }
            Some(Err(damage)) => {
                self.damaged(Log::Entries, number, damage);
                Ok(None)
            }
        }
    }

    fn entry_facts(&mut self, number: u64) -> Result<Option<Vec<EntryFacts>>, StoreError> {
        let found: Option<Found> = self.counted(self.view.block(Log::Entries, number))?;
        match found.map(|found| found.and_then(|body| decode_entry_facts(number, &body))) {
            None => Ok(None),
            Some(Ok(entries)) => {
                self.learn(number, entries.iter().map(|entry| entry.key));
                Ok(Some(entries))
            }
            Some(Err(damage)) => {
                self.damaged(Log::Entries, number, damage);
                Ok(None)
            }
        }
    }

    fn entries(&self) -> Range<u64> {
        self.shared.read().expect("no holder of this lock panics").entries.clone()
    }

    fn may_be_of(&self, number: u64, webhook: WebhookNo) -> bool {
        self.shared.read().expect("no holder of this lock panics").may_be_of(number, webhook)
    }
}

fn lock(index: &Mutex<Index>) -> MutexGuard<'_, Index> {
    index.lock().expect("no holder of this lock panics")
}

/// Too many pages wait already, or the store has closed.
fn refuse(read: Read) {
    let busy = || StoreError::Io("too many pages are being read; try again".to_owned());
    match read {
        Read::Block { reply, .. } => drop(reply.send(Err(busy()))),
        Read::Places { reply, .. } => drop(reply.send(Err(busy()))),
        Read::Entries { reply, .. } => drop(reply.send(Err(busy()))),
        Read::Deliveries { reply, .. } => drop(reply.send(Err(busy()))),
        Read::Ended { reply, .. } => drop(reply.send(Err(busy()))),
        Read::Events { reply, .. } => drop(reply.send(Err(busy()))),
        Read::Following { reply, .. } => drop(reply.send(Err(busy()))),
        Read::Attempts { reply, .. } => drop(reply.send(Err(busy()))),
        Read::Responses { reply, .. } => drop(reply.send(Err(busy()))),
    }
}

/// The blocks used last. So few that looking through them costs nothing.
#[derive(Clone, Debug)]
struct Recent<T> {
    blocks: VecDeque<(u64, Arc<T>)>,
    capacity: usize,
}

impl<T> Recent<T> {
    fn new(capacity: usize) -> Self {
        Self { blocks: VecDeque::with_capacity(capacity), capacity }
    }

    fn get(&mut self, number: u64) -> Option<Arc<T>> {
        let at = self.blocks.iter().position(|(kept, _)| *kept == number)?;
        let found = self.blocks.remove(at)?;
        let block = Arc::clone(&found.1);
        self.blocks.push_back(found);
        Some(block)
    }

    fn clear(&mut self) {
        self.blocks.clear();
    }

    fn put(&mut self, number: u64, block: T) -> Arc<T> {
        if self.blocks.len() == self.capacity {
            self.blocks.pop_front();
        }
        let block = Arc::new(block);
        self.blocks.push_back((number, Arc::clone(&block)));
        block
    }
}
