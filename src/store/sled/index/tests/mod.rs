//! The index beside a plain scan of the same logs: whatever happens to them, to its files and to the
//! process, every page must be the same.

mod files;
mod random;
mod work;

use std::{collections::BTreeMap, ops::Range, path::Path, sync::Arc};

use bytes::Bytes;
use tempfile::TempDir;

use super::*;
use crate::{
    delivery::{Attempt, AttemptError, Entry, ErrorCode, KeptResponse, Phases, Protocol, Verdict},
    event::{EventType, EventTypes},
    id::Place,
    store::{
        DeliveryQuery, DeliveryRow, EventInBlock, EventQuery, EventRow, Following, Route, history,
    },
};

/// Two logs in memory.
#[derive(Clone, Debug, Default)]
struct Logs {
    events: BTreeMap<u64, Arc<EventBlock>>,
    entries: BTreeMap<u64, Arc<Vec<Entry>>>,
    events_range: Range<u64>,
    entries_range: Range<u64>,
    /// Event and entry blocks read.
    reads: (usize, usize),
    /// What one page may read, where it is more than two chunks.
    max_scan: usize,
}

impl history::Logs for Logs {
    fn events(&self) -> Range<u64> {
        self.events_range.clone()
    }

    fn event_block(&mut self, number: u64) -> Result<Option<Arc<EventBlock>>, StoreError> {
        self.reads.0 += 1;
        Ok(self.events.get(&number).cloned())
    }

    fn entry_blocks(&mut self, from: u64, _: &Range<u64>, _: Option<WebhookNo>) -> Vec<u64> {
        (from.max(self.entries_range.start)..self.entries_range.end).collect()
    }

    fn entry_block(&mut self, number: u64) -> Result<Option<Arc<Vec<Entry>>>, StoreError> {
        self.reads.1 += 1;
        Ok(self.entries.get(&number).cloned())
    }

    fn entry_facts(&mut self, number: u64) -> Result<Option<Vec<EntryFacts>>, StoreError> {
        let block = self.entry_block(number)?;
        Ok(block.map(|block| block.iter().map(Entry::facts).collect()))
    }

    fn entries(&self) -> Range<u64> {
        self.entries_range.clone()
    }

    fn may_be_of(&self, _: u64, _: WebhookNo) -> bool {
        true
    }
}

const NODE: NodeNo = NodeNo(7);

/// An event in the making: tenant, type, and routes.
type Made = (u32, EventType, Vec<(u32, bool)>);

impl Logs {
    /// Adds a block of events; it was accepted at `at`.
    fn accept(&mut self, at: u64, made: &[Made]) {
        let number = self.events_range.end;
        let (mut events, mut routes) = (Vec::new(), Vec::new());
        for (tenant, event_type, to) in made {
            let first = routes.len() as u32;
            let route = |(webhook, enabled): &(u32, bool)| Route {
                webhook: WebhookNo(*webhook),
                enabled: *enabled,
            };
            routes.extend(to.iter().map(route));
            events.push(EventInBlock {
                tenant: TenantNo(*tenant),
                event_type: *event_type,
                payload: (0, 2),
                routes: (first, routes.len() as u32),
                erased: false,
                has_trace: false,
            });
        }
        let bytes = Bytes::from_static(b"{}");
        let entries_from = self.entries_range.end;
        let block =
            EventBlock { number, node: NODE, accepted_at: at, entries_from, bytes, events, routes };
        self.events.insert(number, Arc::new(block));
        self.events_range.end += 1;
    }

    fn record(&mut self, entries: Vec<Entry>) {
        self.entries.insert(self.entries_range.end, Arc::new(entries));
        self.entries_range.end += 1;
    }

    /// What retention does: whole blocks, and the entries that none of the others can have.
    fn retire(&mut self, events: u64) {
        let start = events.clamp(self.events_range.start, self.events_range.end);
        self.events_range.start = start;
        self.events = self.events.split_off(&start);
        let from = self.events.values().next().map(|block| block.entries_from);
        self.entries_range.start = from.unwrap_or(self.entries_range.end);
        self.entries = self.entries.split_off(&self.entries_range.start);
    }

    /// Every delivery that could have entries.
    fn keys(&self) -> Vec<DeliveryKey> {
        let of_block = |block: &Arc<EventBlock>| {
            let block = Arc::clone(block);
            (0..block.events.len() as u16).flat_map(move |index| {
                let place = Place::new(block.number, index);
                let routes = block.routes_of(index).to_vec();
                routes.into_iter().map(move |route| DeliveryKey { place, webhook: route.webhook })
            })
        };
        self.events.values().flat_map(of_block).collect()
    }
}

fn attempt(key: DeliveryKey, number: u16, status: u16, verdict: Verdict) -> Entry {
    let error = (status != 200).then(|| AttemptError {
        code: if status == 0 { ErrorCode::Timeout } else { ErrorCode::Status },
        detail: String::new(),
    });
    let attempt = Attempt {
        number,
        at: 5,
        status: (status != 0).then_some(status),
        error,
        latency: 9,
        phases: Phases::default(),
        response: KeptResponse::default(),
        peer: None,
        protocol: Protocol::Http1,
        reused_connection: false,
    };
    Entry { key, at: 6, verdict, attempt: Some(attempt) }
}

fn decision(key: DeliveryKey, verdict: Verdict) -> Entry {
    Entry { key, at: 6, verdict, attempt: None }
}

fn open(dir: &Path, logs: &Logs) -> Index {
    open_with(dir, logs, 1_000_000)
}

fn open_with(dir: &Path, logs: &Logs, max_rows: usize) -> Index {
    Index::open(dir.join("index"), NODE, max_rows, &logs.events_range, &logs.entries_range)
}

/// What the index's thread does until there is nothing left to do.
fn advance_to_the_end(index: &mut Index, logs: &mut Logs) {
    loop {
        let step = index.advance(logs, 3);
        let work = index.begin();
        match (work, step) {
            (Some(work), _) => {
                index.finish(work.write(), logs);
            }
            (None, Step::More) => {}
            (None, _) => return,
        }
    }
}

fn deliveries_of(tenant: u32) -> DeliveryQuery {
    DeliveryQuery {
        tenant: TenantNo(tenant),
        webhook: None,
        states: Vec::new(),
        event_types: EventTypes::NONE,
        status: None,
        error: None,
        since: None,
        until: None,
        before: None,
        limit: 7,
    }
}

fn events_of(tenant: u32) -> EventQuery {
    EventQuery {
        tenant: TenantNo(tenant),
        event_types: EventTypes::NONE,
        webhook: None,
        found_disabled: false,
        since: None,
        until: None,
        before: None,
        limit: 7,
    }
}

/// Pages until there is none, as the reader answers them; `index` none means by the scan alone.
/// Gives the rows and how many pages the index told.
fn all_deliveries(
    mut index: Option<&mut Index>,
    logs: &mut Logs,
    query: &DeliveryQuery,
) -> (Vec<DeliveryRow>, usize) {
    let mut query = query.clone();
    let (mut rows, mut by_index) = (Vec::new(), 0);
    let max_scan = logs.max_scan.max(2);
    for _ in 0..10_000 {
        let found = index.as_mut().and_then(|index| index.find_deliveries(logs, &query, max_scan));
        by_index += usize::from(found.is_some());
        let page = match found {
            Some(found) => found.read(logs, &query).unwrap(),
            None => history::deliveries(logs, &query, 100_000).unwrap(),
        };
        assert!(page.rows.len() <= query.limit);
        rows.extend(page.rows);
        let Some(next) = page.next else { return (rows, by_index) };
        assert!(query.before.is_none_or(|before| next < before), "the cursor goes on");
        query.before = Some(next);
    }
    panic!("the pages never end")
}

fn all_events(
    mut index: Option<&mut Index>,
    logs: &mut Logs,
    query: &EventQuery,
) -> (Vec<EventRow>, usize) {
    let mut query = query.clone();
    let (mut rows, mut by_index) = (Vec::new(), 0);
    let max_scan = logs.max_scan.max(2);
    for _ in 0..10_000 {
        let found = index.as_mut().and_then(|index| index.find_events(logs, &query, max_scan));
        by_index += usize::from(found.is_some());
        let page = match found {
            Some(found) => found.read(logs, &query).unwrap(),
            None => history::events(logs, &query, 100_000).unwrap(),
        };
        rows.extend(page.events);
        let Some(next) = page.next else { return (rows, by_index) };
        assert!(query.before.is_none_or(|before| next < before), "the cursor goes on");
        query.before = Some(next);
    }
    panic!("the pages never end")
}

/// All that follows `from`, and where the last page says to go on.
fn all_following(
    mut index: Option<&mut Index>,
    logs: &mut Logs,
    from: Place,
    query: &EventQuery,
) -> (Vec<EventRow>, Place) {
    let (mut rows, mut from) = (Vec::new(), from);
    let max_scan = logs.max_scan.max(2);
    for _ in 0..10_000 {
        let found =
            index.as_mut().and_then(|index| index.find_following(logs, from, query, max_scan));
        let told = found.and_then(|found| found.read(logs, query).unwrap());
        let Following { events, next, more, .. } = match told {
            Some(told) => told,
            None => history::following(logs, Some(from), query, 100_000).unwrap().unwrap(),
        };
        rows.extend(events);
        assert!(next >= from && (next > from || !more), "it goes on");
        from = next;
        if !more {
            return (rows, from);
        }
    }
    panic!("it never ends")
}
