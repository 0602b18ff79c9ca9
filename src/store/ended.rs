//! Ended deliveries in the order of acceptance, for a replay of many.
//!
//! One request reads a bounded stretch of the log, so that whoever looks at pages meanwhile has his
//! turn; it says how far it got, and the next one goes on there. A row is a name and a number, not
//! a result: what is read is large, what is kept of it is not.

use std::{collections::HashMap, ops::Range};

use super::{
    EventBlock, Route, StoreError,
    fold::Story,
    history::{Logs, wants},
};
use crate::{
    clock::Millis,
    event::EventTypes,
    id::{DeliveryKey, EventId, Place, TenantNo, WebhookNo},
};

/// Blocks that one request reads at the most.
pub(super) const MAX_SCAN: usize = 512;
/// Event blocks of the first stretch; each further one is twice as long.
const FIRST_STRETCH: u64 = 8;

/// Which deliveries are wanted. Every set filter must match.
#[derive(Clone, Debug)]
pub struct EndedQuery {
    pub tenant: TenantNo,
    pub webhook: Option<WebhookNo>,
    /// Names of states that are an end.
    pub states: Vec<&'static str>,
    /// Also what found its webhook disabled and was never sent.
    pub missed: bool,
    /// None of them means any.
    pub event_types: EventTypes,
    /// Of the event's acceptance, wall, inclusive.
    pub since: Option<Millis>,
    pub until: Millis,
    /// Also what was reopened then or later, whatever its state: a replay that was cut off finds
    /// what it had done.
    pub reopened_since: Option<Millis>,
    /// Only deliveries behind this one, in (place, webhook) order.
    pub after: Option<DeliveryKey>,
    pub limit: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndedRow {
    pub key: DeliveryKey,
    /// Made in all, over every round.
    pub attempts: u16,
    /// See [`EndedQuery::reopened_since`].
    pub reopened: bool,
    /// Its event was erased: there is nothing to send.
    pub erased: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct EndedPage {
    pub rows: Vec<EndedRow>,
    /// Everything up to here was looked at: where to go on behind.
    pub after: Option<DeliveryKey>,
    /// When the last event that was looked at was accepted.
    pub at: Option<Millis>,
    /// Nothing comes behind.
    pub is_last: bool,
    /// The event log's blocks, from the oldest kept.
    pub blocks: Range<u64>,
}

impl EndedQuery {
    /// Whether a delivery passes the filters that need no attempt log.
    pub(super) fn covers(&self, block: &EventBlock, key: DeliveryKey) -> bool {
        let event = block.events[usize::from(key.place.index())];
        event.tenant == self.tenant
            && wants(self.event_types, event.event_type)
            && self.webhook.is_none_or(|webhook| webhook == key.webhook)
            && self.since.is_none_or(|since| block.accepted_at >= since)
            && block.accepted_at <= self.until
            && self.after.is_none_or(|after| key > after)
    }

    fn wants(&self, route: Route, story: &Story) -> bool {
        let was_never_sent = !route.enabled && story.last.is_none();
        let state = story.progress.state;
        match was_never_sent {
            true => self.missed,
            false => state.is_ended() && self.states.contains(&state.as_str()),
        }
    }
}

impl EndedPage {
    pub(super) fn new(blocks: Range<u64>, query: &EndedQuery) -> Self {
        Self { rows: Vec::new(), after: query.after, at: None, is_last: false, blocks }
    }

    /// Looks at the next delivery.
    pub(super) fn look(
        &mut self,
        query: &EndedQuery,
        Found { id, route, erased }: Found,
        story: &Story,
    ) {
        let key = DeliveryKey { place: id.place, webhook: route.webhook };
        (self.after, self.at) = (Some(key), Some(id.accepted_at));
        let since = query.reopened_since;
        let reopened_at = story.progress.reopened_at;
        let reopened = since.zip(reopened_at).is_some_and(|(since, at)| at >= since);
        if reopened || query.wants(route, story) {
            let attempts = story.progress.attempts;
            self.rows.push(EndedRow { key, attempts, reopened, erased });
        }
    }
}

pub(super) fn page(
    logs: &mut impl Logs,
    query: &EndedQuery,
    max_scan: usize,
) -> Result<EndedPage, StoreError> {
    let range = logs.events();
    let mut page = EndedPage::new(range.clone(), query);
    let mut from = match query.after {
        Some(after) => after.place.block().max(range.start),
        None => first_since(logs, &range, query.since)?,
    };
    let (mut scanned, mut length) = (0, FIRST_STRETCH);
    while from < range.end {
        if scanned >= max_scan {
            return Ok(page);
        }
        let stretch = from..range.end.min(from + length);
        let found = candidates(logs, &stretch, query)?;
        scanned += (stretch.end - stretch.start) as usize;
        let (stories, read) = stories(logs, &stretch, query, &found)?;
        scanned += read;
        for (delivery, story) in found.deliveries.iter().zip(&stories) {
            if page.rows.len() >= query.limit {
                return Ok(page);
            }
            page.look(query, *delivery, story);
        }
        page.after = Some(last_of(stretch.end - 1)).max(page.after);
        page.at = found.at.or(page.at);
        if found.is_last {
            break;
        }
        (from, length) = (stretch.end, length * 2);
    }
    page.is_last = true;
    Ok(page)
}

/// The first block that may hold what is wanted: blocks are in the order of time.
fn first_since(
    logs: &mut impl Logs,
    range: &Range<u64>,
    since: Option<Millis>,
) -> Result<u64, StoreError> {
    let Some(since) = since else { return Ok(range.start) };
    let (mut low, mut high) = (range.start, range.end);
    while low < high {
        let middle = low + (high - low) / 2;
        // One that cannot be read says nothing: the search goes on before it.
        match logs.event_block(middle)? {
            Some(block) if block.accepted_at < since => low = middle + 1,
            Some(_) | None => high = middle,
        }
    }
    Ok(low)
}

/// A delivery, as the event log tells it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub(super) id: EventId,
    pub(super) route: Route,
    pub(super) erased: bool,
}

/// A stretch's deliveries before their entries are known.
struct Candidates {
    deliveries: Vec<Found>,
    entries_from: u64,
    at: Option<Millis>,
    /// What comes behind is too young.
    is_last: bool,
}

fn candidates(
    logs: &mut impl Logs,
    stretch: &Range<u64>,
    query: &EndedQuery,
) -> Result<Candidates, StoreError> {
    let mut found =
        Candidates { deliveries: Vec::new(), entries_from: u64::MAX, at: None, is_last: false };
    for number in stretch.clone() {
        let Some(block) = logs.event_block(number)? else { continue };
        if block.accepted_at > query.until {
            found.is_last = true;
            break;
        }
        found.at = Some(block.accepted_at);
        let first = found.deliveries.len();
        for index in 0..block.events.len() as u32 {
            let id = block.event_id(index as u16);
            let erased = block.events[index as usize].erased;
            let key = |route: &&Route| DeliveryKey { place: id.place, webhook: route.webhook };
            let routes = block.routes_of(index as u16).iter();
            let wanted = routes.filter(|route| query.covers(&block, key(route)));
            let wanted = wanted.map(|route| Found { id, route: *route, erased });
            found.deliveries.extend(wanted);
        }
        found.deliveries[first..]
            .sort_unstable_by_key(|found| (found.id.place, found.route.webhook));
        if found.deliveries.len() > first {
            found.entries_from = found.entries_from.min(block.entries_from);
        }
    }
    Ok(found)
}

/// What the attempt log says of each, and how many of its blocks were read for that.
fn stories(
    logs: &mut impl Logs,
    stretch: &Range<u64>,
    query: &EndedQuery,
    found: &Candidates,
) -> Result<(Vec<Story>, usize), StoreError> {
    let mut stories = vec![Story::default(); found.deliveries.len()];
    if stories.is_empty() {
        return Ok((stories, 0));
    }
    let keys = found.deliveries.iter().map(|found| (found.id.place, found.route.webhook));
    let at: HashMap<(Place, WebhookNo), usize> = keys.zip(0..).collect();
    let numbers = logs.entry_blocks(found.entries_from, stretch, query.webhook);
    for number in &numbers {
        let Some(entries) = logs.entry_block(*number)? else { continue };
        for entry in entries.iter() {
            if let Some(at) = at.get(&(entry.key.place, entry.key.webhook)) {
                stories[*at].apply(entry);
            }
        }
    }
    Ok((stories, numbers.len()))
}

/// No delivery of the block is behind it.
fn last_of(block: u64) -> DeliveryKey {
    DeliveryKey { place: Place::new(block, u16::MAX), webhook: WebhookNo(u32::MAX) }
}
