//! What is looked for in the rows, and the best of what was found so far.

use std::{collections::BTreeMap, ops::Range};

use super::row::{Mask, Order, Row};
use crate::{
    clock::Millis,
    delivery::ErrorCode,
    event::EventTypes,
    id::{DeliveryKey, Place, TenantNo, WebhookNo},
    store::{DeliveryQuery, EventQuery},
};

/// Which rows are wanted, and from which end. Every set filter must match.
#[derive(Clone, Debug)]
pub(super) struct Search {
    tenant: TenantNo,
    webhook: Option<WebhookNo>,
    /// None of them means any.
    event_types: EventTypes,
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
#[derive(Clone, Debug)]
enum Subject {
    Deliveries { states: Vec<&'static str>, status: Option<(u16, u16)>, error: Option<ErrorCode> },
    Events { found_disabled: bool },
}

/// Before every delivery of the place.
const fn start_of(place: Place) -> DeliveryKey {
    DeliveryKey { place, webhook: WebhookNo(0) }
}

/// Behind every delivery.
const END: DeliveryKey = DeliveryKey { place: Place::MAX, webhook: WebhookNo(u32::MAX) };

impl Search {
    pub(super) fn deliveries(query: &DeliveryQuery) -> Self {
        let DeliveryQuery { tenant, webhook, event_types, since, until, before, limit, .. } =
            *query;
        let states = query.states.clone();
        let subject = Subject::Deliveries { states, status: query.status, error: query.error };
        let keys = start_of(Place::MIN)..before.unwrap_or(END);
        let newest_first = true;
        let masks = Vec::new();
        Self {
            tenant,
            webhook,
            event_types,
            since,
            until,
            subject,
            keys,
            newest_first,
            limit,
            masks,
        }
        .with_masks()
    }

    /// Newest first where no place is given, or else oldest first from there on.
    pub(super) fn events(query: &EventQuery, from: Option<Place>) -> Self {
        let EventQuery { tenant, webhook, event_types, since, until, limit, .. } = *query;
        let subject = Subject::Events { found_disabled: query.found_disabled };
        let keys = match from {
            Some(from) => start_of(from)..END,
            None => start_of(Place::MIN)..query.before.map_or(END, start_of),
        };
        let newest_first = from.is_none();
        let masks = Vec::new();
        Self {
            tenant,
            webhook,
            event_types,
            since,
            until,
            subject,
            keys,
            newest_first,
            limit,
            masks,
        }
        .with_masks()
    }

    fn with_masks(mut self) -> Self {
        if !self.event_types.is_empty() {
            self.masks.push(any(self.event_types.iter().map(Mask::event_type)));
        }
        match &self.subject {
            Subject::Events { found_disabled } => {
                if *found_disabled {
                    self.masks.push(Mask::found_disabled());
                }
            }
            Subject::Deliveries { states, status, error } => {
                if !states.is_empty() {
                    self.masks.push(any(states.iter().map(|name| Mask::state_named(name))));
                }
                if let Some(error) = error {
                    self.masks.push(Mask::error(*error as u8));
                }
                if let Some((low, high)) = *status {
                    self.masks.push(any((low..=high).map(Mask::class)));
                    if low == high {
                        self.masks.push(Mask::status(low));
                    }
                }
            }
        }
        self
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

    /// Whether the row is wanted, the time of its event apart.
    pub(super) fn wants(&self, row: &Row) -> bool {
        row.tenant == self.tenant
            && self.webhook.is_none_or(|webhook| webhook == row.key.webhook)
            && (self.event_types.is_empty() || self.event_types.contains(row.event_type))
            && self.keys.contains(&self.name(row))
            && self.wants_subject(row)
    }

    fn wants_subject(&self, row: &Row) -> bool {
        match &self.subject {
            Subject::Events { found_disabled } => !found_disabled || row.found_disabled(),
            Subject::Deliveries { states, status, error } => {
                let in_range =
                    |(low, high)| row.status().is_some_and(|status| (low..=high).contains(&status));
                row.is_delivery()
                    && (states.is_empty() || states.contains(&row.state_name()))
                    && status.is_none_or(in_range)
                    && error.is_none_or(|wanted| row.error() == Some(wanted))
            }
        }
    }

    /// What a row is found as: an event once, whatever its routes.
    fn name(&self, row: &Row) -> DeliveryKey {
        match self.subject {
            Subject::Deliveries { .. } => row.key,
            Subject::Events { .. } => start_of(row.key.place),
        }
    }
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
        let (start, end) = (&self.search.keys.start, &self.search.keys.end);
        if blocks.end <= start.place.block() || blocks.start > end.place.block() {
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
