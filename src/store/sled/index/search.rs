//! What is looked for in the rows, and the best of what was found so far.

use std::{collections::BTreeMap, ops::Range};

use super::row::{Mask, Order, Row};
use crate::{
    clock::Millis,
    event::EventTypes,
    id::{DeliveryKey, Place, TenantNo, WebhookNo},
    store::{DeliveryQuery, EventQuery},
};

/// Which rows are wanted, and from which end. Every set filter must match.
#[derive(Clone, Debug)]
pub(super) struct Search {
    tenant: TenantNo,
    webhook: Option<WebhookNo>,
    pub(super) since: Option<Millis>,
    pub(super) until: Option<Millis>,
    subject: Subject,
    /// Of the names of what is found, the end apart.
    pub(super) keys: Range<DeliveryKey>,
    pub(super) newest_first: bool,
    limit: usize,
    /// The masks of which a row has to meet each.
    masks: Vec<Mask>,
}

/// What rows are looked at as.
#[derive(Clone, Copy, Debug)]
enum Subject {
    Deliveries { status: Option<(u16, u16)> },
    Events,
}

/// Before every delivery of the place.
const fn start_of(place: Place) -> DeliveryKey {
    DeliveryKey { place, webhook: WebhookNo(0) }
}

/// Behind every delivery.
const END: DeliveryKey = DeliveryKey { place: Place::MAX, webhook: WebhookNo(u32::MAX) };

impl Search {
    pub(super) fn deliveries(query: &DeliveryQuery) -> Self {
        let DeliveryQuery { tenant, webhook, since, until, before, limit, status, .. } = *query;
        let mut masks = of_types(query.event_types);
        if !query.states.is_empty() {
            masks.push(any(query.states.iter().map(|name| Mask::state_named(name))));
        }
        masks.extend(query.error.map(|error| Mask::error(error as u8)));
        if let Some((low, high)) = status {
            masks.push(any((low..=high).map(Mask::class)));
            if low == high {
                masks.push(Mask::status(low));
            }
        }
        let subject = Subject::Deliveries { status };
        let keys = start_of(Place::MIN)..before.unwrap_or(END);
        Self { tenant, webhook, since, until, subject, keys, newest_first: true, limit, masks }
    }

    /// Newest first where no place is given, or else oldest first from there on.
    pub(super) fn events(query: &EventQuery, from: Option<Place>) -> Self {
        let EventQuery { tenant, webhook, since, until, limit, .. } = *query;
        let mut masks = of_types(query.event_types);
        masks.extend(query.found_disabled.then(Mask::found_disabled));
        let keys = match from {
            Some(from) => start_of(from)..END,
            None => start_of(Place::MIN)..query.before.map_or(END, start_of),
        };
        let (subject, newest_first) = (Subject::Events, from.is_none());
        Self { tenant, webhook, since, until, subject, keys, newest_first, limit, masks }
    }

    /// In which what is looked for can stand. A page that ended where a block begins goes on before
    /// it.
    pub(super) fn blocks(&self) -> Range<u64> {
        let (start, end) = (self.keys.start.place.block(), self.keys.end.place);
        let is_whole = self.keys.end == start_of(Place::new(end.block(), 0));
        start..end.block() + u64::from(!is_whole)
    }

    /// Whether rows with this mask can be wanted.
    pub(super) fn may_want(&self, mask: Mask) -> bool {
        self.masks.iter().all(|wanted| wanted.meets(mask))
    }

    /// Between which rows of a segment all wanted ones stand, both included.
    pub(super) fn bounds(&self) -> (Order, Order) {
        let (low, high) = match self.webhook {
            Some(webhook) => (webhook, webhook),
            None => (WebhookNo(0), WebhookNo(u32::MAX)),
        };
        let bound = |webhook, place| Order { tenant: self.tenant, webhook, place };
        (bound(low, self.keys.start.place), bound(high, self.keys.end.place))
    }

    /// Whether the row is about what is looked for, whatever became of it and whenever it came.
    pub(super) fn is_about(&self, row: &Row) -> bool {
        row.tenant == self.tenant
            && self.webhook.is_none_or(|webhook| webhook == row.key.webhook)
            && self.keys.contains(&self.name(row))
    }

    /// Whether a row that it is about is wanted. A row's own mask says everything but its status,
    /// which shares a bit with others.
    pub(super) fn wants(&self, row: &Row) -> bool {
        if !self.may_want(row.mask()) {
            return false;
        }
        match self.subject {
            Subject::Events => true,
            Subject::Deliveries { status } => {
                let in_range =
                    |(low, high)| row.status().is_some_and(|status| (low..=high).contains(&status));
                row.is_delivery() && status.is_none_or(in_range)
            }
        }
    }

    /// What a row is found as: an event once, whatever its routes.
    fn name(&self, row: &Row) -> DeliveryKey {
        match self.subject {
            Subject::Deliveries { .. } => row.key,
            Subject::Events => start_of(row.key.place),
        }
    }
}

/// None of them means any.
fn of_types(types: EventTypes) -> Vec<Mask> {
    if types.is_empty() { Vec::new() } else { vec![any(types.iter().map(Mask::event_type))] }
}

fn any(masks: impl Iterator<Item = Mask>) -> Mask {
    masks.fold(Mask::default(), Mask::or)
}

/// A row that is wanted, and when its event was accepted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hit {
    pub(super) row: Row,
    pub(super) accepted_at: Millis,
}

/// The first rows in the order of the search, one more than its limit.
#[derive(Debug)]
pub(super) struct Hits<'s> {
    pub(super) search: &'s Search,
    rows: BTreeMap<DeliveryKey, Hit>,
}

impl<'s> Hits<'s> {
    pub(super) fn new(search: &'s Search) -> Self {
        Self { search, rows: BTreeMap::new() }
    }

    /// Whether there is one more than the limit.
    pub(super) fn is_full(&self) -> bool {
        self.rows.len() > self.search.limit
    }

    /// Whether a row of these blocks could still come in.
    pub(super) fn may_take(&self, blocks: &Range<u64>) -> bool {
        let asked = self.search.blocks();
        if blocks.end <= asked.start || blocks.start >= asked.end {
            return false;
        }
        if !self.is_full() {
            return true;
        }
        match self.worst() {
            Some(worst) if self.search.newest_first => blocks.end > worst.place.block(),
            Some(worst) => blocks.start <= worst.place.block(),
            None => true,
        }
    }

    /// Takes a row that is wanted, unless others come before it.
    pub(super) fn offer(&mut self, row: &Row, accepted_at: Millis) {
        let name = self.search.name(row);
        if self.is_full() {
            let worst = self.worst().expect("a full page has rows");
            let comes_later = if self.search.newest_first { name < worst } else { name > worst };
            if comes_later {
                return;
            }
        }
        self.rows.insert(name, Hit { row: *row, accepted_at });
        if self.rows.len() > self.search.limit.saturating_add(1) {
            if self.search.newest_first {
                self.rows.pop_first()
            } else {
                self.rows.pop_last()
            };
        }
    }

    fn worst(&self) -> Option<DeliveryKey> {
        let worst = if self.search.newest_first {
            self.rows.first_key_value()
        } else {
            self.rows.last_key_value()
        };
        worst.map(|(name, _)| *name)
    }

    /// In the order of the search.
    pub(super) fn into_rows(self) -> Vec<Hit> {
        match self.search.newest_first {
            true => self.rows.into_values().rev().collect(),
            false => self.rows.into_values().collect(),
        }
    }
}
