//! What the reference store answers to those who look: pages, read by looking at everything.

use super::State;
use crate::{
    id::{DeliveryKey, Place},
    store::{
        AttemptQuery, AttemptRow, Attempts, DeliveryPage, DeliveryQuery, DeliveryRow, EndedPage,
        EndedQuery, EntryPlace, EventPage, EventQuery, EventRow, Following, Gap,
        ended::Found,
        history::{matches, wants},
    },
};

impl State {
    pub(super) fn deliveries(&self, query: &DeliveryQuery) -> DeliveryPage {
        let mut page = DeliveryPage::default();
        for block in self.blocks.values().rev() {
            let mut rows: Vec<DeliveryRow> = Vec::new();
            for (index, key, story) in self.deliveries_of(block) {
                let event = block.events[usize::from(index)];
                let wanted = event.tenant == query.tenant
                    && wants(query.event_types, event.event_type)
                    && query.webhook.is_none_or(|webhook| webhook == key.webhook)
                    && query.since.is_none_or(|since| block.accepted_at >= since)
                    && query.until.is_none_or(|until| block.accepted_at <= until)
                    && query.before.is_none_or(|before| key < before);
                let row = DeliveryRow {
                    key,
                    event: block.event_id(index),
                    event_type: event.event_type,
                    state: story.progress.state,
                    attempts: story.progress.attempts,
                    last: story.last,
                };
                if wanted && matches(query, &row) {
                    rows.push(row);
                }
            }
            rows.sort_by_key(|row| std::cmp::Reverse(row.key));
            page.rows.extend(rows);
        }
        if page.rows.len() > query.limit {
            page.rows.truncate(query.limit);
            page.next = page.rows.last().map(|row| row.key);
        }
        page
    }

    pub(super) fn ended(&self, query: &EndedQuery) -> EndedPage {
        let mut page = EndedPage::new(0..self.next_block, query);
        for block in self.blocks.values() {
            for index in 0..block.events.len() as u16 {
                let mut routes = block.routes_of(index).to_vec();
                routes.sort_unstable_by_key(|route| route.webhook);
                for route in routes {
                    let place = Place::new(block.number, index);
                    let key = DeliveryKey { place, webhook: route.webhook };
                    if !query.covers(block, key) {
                        continue;
                    }
                    if page.rows.len() >= query.limit {
                        return page;
                    }
                    let erased = block.events[usize::from(index)].erased;
                    let found = Found { id: block.event_id(index), route, erased };
                    page.look(query, found, &self.story(key));
                }
            }
        }
        page.is_last = true;
        page
    }

    pub(super) fn events(&self, query: &EventQuery) -> EventPage {
        let mut page = EventPage::default();
        let before = |row: &EventRow| query.before.is_none_or(|before| row.id.place < before);
        page.events.extend(self.wanted(query).into_iter().rev().filter(before));
        if page.events.len() > query.limit {
            page.events.truncate(query.limit);
            page.next = page.events.last().map(|event| event.id.place);
        }
        page
    }

    pub(super) fn following(&self, from: Option<Place>, query: &EventQuery) -> Option<Following> {
        let oldest = self.blocks.keys().next().copied().unwrap_or(self.next_block);
        let from = from.unwrap_or(Place::new(oldest, 0));
        if from.block() < oldest {
            return None;
        }
        let mut events = self.wanted(query);
        events.retain(|row| row.id.place >= from);
        let beyond = events.get(query.limit).map(|row| row.id.place);
        events.truncate(query.limit);
        let next = beyond.unwrap_or(from.max(Place::new(self.next_block, 0)));
        Some(Following { events, next, more: beyond.is_some(), incomplete: false })
    }

    pub(super) fn attempts(&self, from: Option<EntryPlace>, query: &AttemptQuery) -> Attempts {
        let end = EntryPlace::start_of(self.entries.len() as u64);
        let Some(from) = from else { return Attempts::at(end) };
        if from > end {
            return Attempts { gap: Some(Gap::Lost), ..Attempts::at(end) };
        }
        let mut found = Attempts::at(end);
        for (number, entry) in self.entries.iter().enumerate().skip(from.block() as usize) {
            let place = EntryPlace::start_of(number as u64);
            if place < from || !query.wants_entry(entry) {
                continue;
            }
            let block = self.blocks.get(&entry.key.place.block());
            let Some(row) = block.and_then(|block| AttemptRow::of(place, block, entry)) else {
                found.gap = Some(Gap::Retired);
                continue;
            };
            if !query.wants_event(row.tenant, row.event_type) {
                continue;
            }
            if found.rows.len() >= query.limit {
                return Attempts { next: place, more: true, ..found };
            }
            found.rows.push(row);
        }
        found
    }

    /// In order of acceptance.
    fn wanted(&self, query: &EventQuery) -> Vec<EventRow> {
        let mut rows = Vec::new();
        for block in self.blocks.values() {
            let is_in_time = query.since.is_none_or(|since| block.accepted_at >= since)
                && query.until.is_none_or(|until| block.accepted_at <= until);
            let indices = (0..block.events.len()).map(|index| index as u16);
            let wanted = indices.filter(|index| is_in_time && query.wants(block, *index));
            rows.extend(wanted.map(|index| EventRow::of(block, index)));
        }
        rows
    }
}
