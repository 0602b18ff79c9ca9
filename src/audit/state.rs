//! All records, in memory: numbered, bounded, looked through.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
};

use super::{
    record::{Action, Actor, ActorKind, By, Done, Record},
    wire,
};
use crate::{
    clock::{Millis, wall_ms},
    id::{KeyId, SessionId, TenantNo},
    store::Row,
};

/// The most records of the past that one commit removes.
const REMOVED_AT_ONCE: usize = 100;

/// The most records that one page looks at.
const LOOKED_AT: usize = if cfg!(test) { 50 } else { 10_000 };

/// A tenant's chain, or the gateway's own.
type Chain = Option<TenantNo>;

#[derive(Debug)]
pub(super) struct State {
    pub(super) limit: usize,
    next: u64,
    all: BTreeMap<u64, Arc<Record>>,
    chains: HashMap<Chain, Links>,
    /// Chains by how many records they have.
    by_length: BTreeSet<(usize, Chain)>,
    /// Handed to the store and not durable yet.
    unwritten: BTreeSet<u64>,
}

#[derive(Debug)]
struct Links {
    next: u64,
    /// Number in the chain, and place among all; the oldest first.
    links: VecDeque<(u64, u64)>,
}

/// Records just numbered.
pub(super) struct Added {
    pub(super) orders: Vec<u64>,
    pub(super) rows: Vec<Row>,
}

/// Who is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WantedActor {
    Kind(ActorKind),
    Key(KeyId),
    Session(SessionId),
}

impl WantedActor {
    fn is(self, actor: Actor) -> bool {
        match self {
            Self::Kind(kind) => actor.kind == kind,
            Self::Key(key) => actor.key == Some(key),
            Self::Session(session) => actor.session == Some(session),
        }
    }
}

/// Which records are wanted, newest first. Every set filter must match.
#[derive(Clone, Debug, Default)]
pub struct Query<'a> {
    /// One tenant's; everybody's and the gateway's own where it is none.
    pub of: Option<TenantNo>,
    /// Whether all of an actor may be seen.
    pub by_operator: bool,
    /// Empty means any.
    pub actions: &'a [Action],
    pub actor: Option<WantedActor>,
    pub object: Option<&'a str>,
    pub since: Option<Millis>,
    pub until: Option<Millis>,
    /// Only what stands before this place of the same list.
    pub before: Option<u64>,
    pub limit: usize,
}

impl Query<'_> {
    fn matches(&self, record: &Record) -> bool {
        (self.actions.is_empty() || self.actions.contains(&record.action))
            && self.actor.is_none_or(|one| one.is(record.by.actor.seen(self.by_operator)))
            && self.object.is_none_or(|object| record.object.as_deref() == Some(object))
            && self.since.is_none_or(|since| record.at >= since)
            && self.until.is_none_or(|until| record.at <= until)
    }
}

/// A page may be short and still have a next one: one request looks at a bounded number.
#[derive(Clone, Debug, Default)]
pub struct Page {
    pub records: Vec<Arc<Record>>,
    pub next: Option<u64>,
}

impl State {
    pub(super) fn of(records: Vec<Record>, limit: usize) -> Self {
        let mut state = Self {
            limit,
            next: 1,
            all: BTreeMap::new(),
            chains: HashMap::new(),
            by_length: BTreeSet::new(),
            unwritten: BTreeSet::new(),
        };
        let mut records = records;
        records.sort_by_key(|record| record.order);
        for record in records {
            state.insert(record);
        }
        state
    }

    /// Where numbers are missing: the last one before and the first one behind.
    pub(super) fn gaps(&self) -> Vec<(Chain, (u64, u64))> {
        let gaps = |(chain, own): (&Chain, &Links)| {
            let numbers = own.links.iter().map(|(sequence, _)| *sequence);
            let pairs = numbers.clone().zip(numbers.skip(1));
            let gaps = pairs.filter(|(one, next)| one + 1 != *next);
            let gaps: Vec<_> = gaps.map(|gap| (*chain, gap)).collect();
            gaps
        };
        self.chains.iter().flat_map(gaps).collect()
    }

    /// Numbers what was done, and makes room for it.
    pub(super) fn add(&mut self, by: &By, done: Vec<Done>) -> Added {
        let at = wall_ms();
        let mut added = Added { orders: Vec::new(), rows: Vec::new() };
        for Done { action, tenant, object, changed } in done {
            let order = self.next;
            let chain = tenant.as_ref().map(|(no, _)| *no);
            let sequence = self.chains.get(&chain).map_or(1, |own| own.next);
            let changed = changed.into_iter().map(str::to_owned).collect();
            let record =
                Record { order, sequence, at, action, by: by.clone(), tenant, object, changed };
            added.rows.push(wire::encode(&record));
            added.orders.push(order);
            self.unwritten.insert(order);
            self.insert(record);
        }
        for _ in 0..REMOVED_AT_ONCE {
            if self.all.len() <= self.limit {
                break;
            }
            added.rows.extend(self.remove_oldest().map(wire::removed));
        }
        added
    }

    /// They are durable, or they never were.
    pub(super) fn settle(&mut self, orders: &[u64], is_written: bool) {
        for order in orders {
            self.unwritten.remove(order);
            if !is_written {
                self.take(*order);
            }
        }
    }

    fn insert(&mut self, record: Record) {
        let chain = record.chain();
        let own = self.chains.entry(chain).or_insert(Links { next: 1, links: VecDeque::new() });
        own.next = record.sequence + 1;
        self.by_length.remove(&(own.links.len(), chain));
        own.links.push_back((record.sequence, record.order));
        self.by_length.insert((own.links.len(), chain));
        self.next = self.next.max(record.order + 1);
        self.all.insert(record.order, Arc::new(record));
    }

    /// Of the longest chain; of all, where none has more than one.
    fn remove_oldest(&mut self) -> Option<u64> {
        let (length, chain) = *self.by_length.last()?;
        let order = match length {
            1 => *self.all.first_key_value()?.0,
            _ => self.chains.get(&chain)?.links.front()?.1,
        };
        self.take(order);
        Some(order)
    }

    fn take(&mut self, order: u64) {
        let Some(record) = self.all.remove(&order) else { return };
        let chain = record.chain();
        let Some(own) = self.chains.get_mut(&chain) else { return };
        self.by_length.remove(&(own.links.len(), chain));
        match own.links.front() {
            Some((_, oldest)) if *oldest == order => drop(own.links.pop_front()),
            _ => own.links.retain(|(_, other)| *other != order),
        }
        if !own.links.is_empty() {
            self.by_length.insert((own.links.len(), chain));
        }
    }

    pub(super) fn page(&self, query: &Query<'_>) -> Page {
        let shown = self.unwritten.first().copied().unwrap_or(u64::MAX);
        let before = query.before.unwrap_or(u64::MAX);
        let Some(no) = query.of else {
            let earlier = self.all.range(..before.min(shown)).rev();
            return collect(query, earlier.map(|(order, record)| (*order, record)));
        };
        let Some(own) = self.chains.get(&Some(no)) else { return Page::default() };
        let end = own.links.partition_point(|(sequence, _)| *sequence < before);
        let earlier = own.links.range(..end).rev().filter(|(_, order)| *order < shown);
        collect(query, earlier.filter_map(|(number, order)| Some((*number, self.all.get(order)?))))
    }
}

fn collect<'a>(query: &Query<'_>, earlier: impl Iterator<Item = (u64, &'a Arc<Record>)>) -> Page {
    let mut page = Page::default();
    let mut last = None;
    for (looked, (place, record)) in earlier.enumerate() {
        if page.records.len() == query.limit || looked == LOOKED_AT {
            page.next = last;
            break;
        }
        last = Some(place);
        if query.matches(record) {
            page.records.push(Arc::clone(record));
        }
    }
    page
}
