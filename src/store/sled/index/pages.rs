//! Pages, in two steps: what is on them is found while nobody else has the index, what it says is
//! read from the logs afterwards. Where a step gives none, the page is read from the logs alone.

use std::ops::Range;

use super::{
    CATCH_UP, CHUNKS, Found, Index, Step,
    search::{Hit, Search},
};
use crate::{
    delivery::Entry,
    id::{EventId, NodeNo, Place},
    store::{
        DeliveryPage, DeliveryQuery, DeliveryRow, EventPage, EventQuery, EventRow, Following,
        StoreError,
        history::{Logs, before_all},
    },
};

/// The deliveries of a page.
#[derive(Debug)]
pub(in crate::store::sled) struct FoundDeliveries(Found, NodeNo);

/// The events of a page.
#[derive(Debug)]
pub(in crate::store::sled) struct FoundEvents(Found);

/// Events in the order of acceptance.
#[derive(Debug)]
pub(in crate::store::sled) struct FoundFollowing {
    found: Found,
    /// Where to go on where nothing more was found.
    end: Place,
}

impl Index {
    pub(in crate::store::sled) fn find_deliveries(
        &mut self,
        logs: &mut impl Logs,
        query: &DeliveryQuery,
        max_scan: usize,
    ) -> Option<FoundDeliveries> {
        let search = Search::deliveries(query);
        self.find(logs, &search, max_scan).map(|found| FoundDeliveries(found, self.node))
    }

    pub(in crate::store::sled) fn find_events(
        &mut self,
        logs: &mut impl Logs,
        query: &EventQuery,
        max_scan: usize,
    ) -> Option<FoundEvents> {
        self.find(logs, &Search::events(query, None), max_scan).map(FoundEvents)
    }

    /// From a place that is kept.
    pub(in crate::store::sled) fn find_following(
        &mut self,
        logs: &mut impl Logs,
        from: Place,
        query: &EventQuery,
        max_scan: usize,
    ) -> Option<FoundFollowing> {
        let found = self.find(logs, &Search::events(query, Some(from)), max_scan)?;
        // Somebody has to say that something may be missing: whoever reads the blocks.
        if self.damaged.iter().any(|block| *block >= from.block()) {
            return None;
        }
        let end = query.until.map_or(self.covers().end, |until| self.end_of(until));
        Some(FoundFollowing { found, end: Place::new(end, 0).max(from) })
    }

    fn find(&mut self, logs: &mut impl Logs, search: &Search, max_scan: usize) -> Option<Found> {
        if !self.catch_up(logs) {
            return None;
        }
        let kept = logs.events().start..self.covers().end;
        let first = self.covers().start;
        let is_beyond = first > kept.start
            && match search.newest_first {
                true => search.keys.end.place <= Place::new(first, 0),
                false => search.keys.start.place < Place::new(first, 0),
            };
        if is_beyond {
            return None;
        }
        match self.search(search, &kept, max_scan.min(CHUNKS)) {
            Ok(mut found) => {
                if search.newest_first && first > kept.start {
                    found.stopped = found.stopped.or(Some(first));
                }
                Some(found)
            }
            Err(error) => {
                let (events, entries) = (logs.events(), logs.entries());
                self.fail(&error.into(), &events, &entries);
                None
            }
        }
    }

    /// Whether everything is in it that was in the logs when it was asked.
    fn catch_up(&mut self, logs: &mut impl Logs) -> bool {
        let entries = logs.entries();
        let events = logs.events();
        let is_current = |index: &Self| {
            index.tail.end() >= events.end && index.entries >= entries.end && !index.is_off()
        };
        for _ in 0..CATCH_UP {
            if is_current(self) || self.advance(logs, 1) != Step::More {
                break;
            }
        }
        is_current(self)
    }

    /// One past the last block that was accepted until then.
    fn end_of(&self, until: u64) -> u64 {
        let segments = self.segments.iter().map(|piece| &piece.segment.times);
        let is_short = |(blocks, end): &(Range<u64>, u64)| *end < blocks.end;
        let mut ends = segments
            .chain([&self.tail.times])
            .map(|times| (times.blocks(), times.within(None, Some(until)).end));
        ends.find(is_short).map_or(self.covers().end, |(_, end)| end)
    }
}

impl FoundDeliveries {
    pub(in crate::store::sled) fn read(
        self,
        logs: &mut impl Logs,
        query: &DeliveryQuery,
    ) -> Result<DeliveryPage, StoreError> {
        let Self(Found { mut hits, stopped }, node) = self;
        let is_more = hits.len() > query.limit;
        hits.truncate(query.limit);
        let next = match is_more {
            true => hits.last().map(|hit| hit.row.key),
            false => stopped.map(|block| before_all(Place::new(block, 0))),
        };
        let rows = hits.iter().map(|hit| delivery(logs, node, hit)).collect::<Result<_, _>>()?;
        Ok(DeliveryPage { rows, next })
    }
}

fn delivery(logs: &mut impl Logs, node: NodeNo, hit: &Hit) -> Result<DeliveryRow, StoreError> {
    let Hit { row, accepted_at } = *hit;
    let last = last_entry(logs, hit)?;
    Ok(DeliveryRow {
        key: row.key,
        event: EventId { accepted_at, node, place: row.key.place },
        event_type: row.event_type,
        state: row.state(last.as_ref()),
        attempts: row.attempts(),
        last,
    })
}

/// None also where its block is damaged or was retired a moment ago.
fn last_entry(logs: &mut impl Logs, hit: &Hit) -> Result<Option<Entry>, StoreError> {
    let Some(at) = hit.row.last() else { return Ok(None) };
    let Some(entries) = logs.entry_block(at.block())? else { return Ok(None) };
    let entry = entries.get(usize::from(at.0.index()));
    Ok(entry.filter(|entry| entry.key == hit.row.key).cloned())
}

impl FoundEvents {
    pub(in crate::store::sled) fn read(
        self,
        logs: &mut impl Logs,
        query: &EventQuery,
    ) -> Result<EventPage, StoreError> {
        let Self(Found { mut hits, stopped }) = self;
        let is_more = hits.len() > query.limit;
        hits.truncate(query.limit);
        let next = match is_more {
            true => hits.last().map(|hit| hit.row.key.place),
            false => stopped.map(|block| Place::new(block, 0)),
        };
        let mut events = Vec::with_capacity(hits.len());
        for hit in &hits {
            events.extend(event(logs, hit)?);
        }
        Ok(EventPage { events, next })
    }
}

impl FoundFollowing {
    /// None where an event can no longer be read: what that means the logs say.
    pub(in crate::store::sled) fn read(
        self,
        logs: &mut impl Logs,
        query: &EventQuery,
    ) -> Result<Option<Following>, StoreError> {
        let Self { found: Found { mut hits, stopped }, end } = self;
        let beyond = hits.get(query.limit).map(|hit| hit.row.key.place);
        let beyond = beyond.or(stopped.map(|block| Place::new(block, 0)));
        hits.truncate(query.limit);
        let mut events = Vec::with_capacity(hits.len());
        for hit in &hits {
            let Some(event) = event(logs, hit)? else { return Ok(None) };
            events.push(event);
        }
        let (next, more) = (beyond.unwrap_or(end), beyond.is_some());
        Ok(Some(Following { events, next, more, incomplete: false }))
    }
}

fn event(logs: &mut impl Logs, hit: &Hit) -> Result<Option<EventRow>, StoreError> {
    let place = hit.row.key.place;
    let Some(block) = logs.event_block(place.block())? else { return Ok(None) };
    let is_there = usize::from(place.index()) < block.events.len();
    Ok(is_there.then(|| EventRow::of(&block, place.index())))
}
