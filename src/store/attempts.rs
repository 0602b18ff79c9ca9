//! Attempts in the order in which they were recorded, for those who watch.
//!
//! The attempt log is read forwards from a place, as the event log is by those who catch up. Blocks
//! are readable once they are durable and never grow, so a place up to which everything was told
//! stays one, over restarts too. Where a part cannot be told the answer names the [`Gap`].

use std::sync::Arc;

use super::{EventBlock, Read, Store, StoreError, history::Logs};
use crate::{
    delivery::{Entry, ErrorCode, State},
    event::{EventType, EventTypes},
    id::{EventId, Place, TenantNo, WebhookNo},
};

/// Entry blocks that one answer reads at the most: many may watch, and none of them holds up a page.
pub(super) const MAX_SCAN: usize = 256;

/// Where an entry stands in the attempt log: of the shape of an event's [`Place`], and never to be
/// taken for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryPlace(pub Place);

impl EntryPlace {
    pub(super) fn new(block: u64, index: u16) -> Self {
        Self(Place::new(block, index))
    }

    /// Before every entry of the block.
    pub(super) fn start_of(block: u64) -> Self {
        Self::new(block, 0)
    }

    pub(super) fn block(self) -> u64 {
        self.0.block()
    }
}

/// Which attempts are wanted. Every set filter must match.
#[derive(Clone, Debug)]
pub struct AttemptQuery {
    /// None: of every tenant.
    pub tenant: Option<TenantNo>,
    pub webhook: Option<WebhookNo>,
    /// Names of the [`State`] that the attempt led to; empty means any.
    pub states: Vec<&'static str>,
    /// None of them means any.
    pub event_types: EventTypes,
    /// Inclusive range of the response's status.
    pub status: Option<(u16, u16)>,
    pub error: Option<ErrorCode>,
    pub limit: usize,
}

impl AttemptQuery {
    /// Whether an entry passes the filters that it alone can answer. Decisions are no attempts.
    pub(super) fn wants_entry(&self, entry: &Entry) -> bool {
        let Some(attempt) = &entry.attempt else { return false };
        let state = State::default().after(entry.verdict).as_str();
        let error = attempt.error.as_ref().map(|error| error.code);
        self.webhook.is_none_or(|webhook| entry.key.webhook == webhook)
            && (self.states.is_empty() || self.states.contains(&state))
            && self.status.is_none_or(|(low, high)| {
                attempt.status.is_some_and(|status| (low..=high).contains(&status))
            })
            && self.error.is_none_or(|wanted| error == Some(wanted))
    }

    /// Whether the event passes the filters that ask for it.
    pub(super) fn wants_event(&self, tenant: TenantNo, event_type: EventType) -> bool {
        self.tenant.is_none_or(|wanted| tenant == wanted)
            && (self.event_types.is_empty() || self.event_types.contains(event_type))
    }
}

/// An attempt with what the event log says of its event.
#[derive(Clone, Debug, PartialEq)]
pub struct AttemptRow {
    pub place: EntryPlace,
    pub event: EventId,
    pub tenant: TenantNo,
    pub event_type: EventType,
    /// It has an attempt.
    pub entry: Entry,
}

impl AttemptRow {
    /// None where the block has no such event.
    pub(super) fn of(place: EntryPlace, block: &EventBlock, entry: &Entry) -> Option<Self> {
        let index = entry.key.place.index();
        let event = block.events.get(usize::from(index))?;
        Some(Self {
            place,
            event: block.event_id(index),
            tenant: event.tenant,
            event_type: event.event_type,
            entry: entry.clone(),
        })
    }
}

/// A stretch of the attempt log in the order of recording.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempts {
    pub rows: Vec<AttemptRow>,
    /// Every attempt that matches and stands before it was told, now or earlier: where to go on.
    pub next: EntryPlace,
    /// Whether there may be more already.
    pub more: bool,
    /// Why some may be missing that stood before `next`.
    pub gap: Option<Gap>,
}

impl Attempts {
    pub(super) fn at(next: EntryPlace) -> Self {
        Self { rows: Vec::new(), next, more: false, gap: None }
    }
}

/// Why attempts may be missing; how many, nobody can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gap {
    /// Retention removed them, or their events.
    Retired,
    /// A part of the log could not be read.
    Damaged,
    /// The place lies behind the end of the log: what led there is lost (an older copy of the data
    /// directory was put back).
    Lost,
}

impl Store {
    /// See [`Read::Attempts`].
    pub async fn attempts(
        &self,
        from: Option<EntryPlace>,
        query: AttemptQuery,
    ) -> Result<Attempts, StoreError> {
        self.read(|reply| Read::Attempts { from, query, reply }).await
    }
}

/// What stands in the attempt log from a place on; see [`Read::Attempts`].
pub(super) fn read(
    logs: &mut impl Logs,
    from: Option<EntryPlace>,
    query: &AttemptQuery,
    max_scan: usize,
) -> Result<Attempts, StoreError> {
    let range = logs.entries();
    let (oldest, end) = (EntryPlace::start_of(range.start), EntryPlace::start_of(range.end));
    let Some(from) = from else { return Ok(Attempts::at(end)) };
    if from > end {
        return Ok(Attempts { gap: Some(Gap::Lost), ..Attempts::at(end) });
    }
    let mut found = Attempts::at(from.max(oldest));
    if from < oldest {
        found.gap = Some(Gap::Retired);
    }
    let mut events = Joined::default();
    for (scanned, number) in (found.next.block()..range.end).enumerate() {
        if scanned >= max_scan {
            found.more = true;
            break;
        }
        if query.webhook.is_none_or(|webhook| logs.may_be_of(number, webhook)) {
            match logs.entry_block(number)? {
                Some(entries) => {
                    if !events.add(logs, number, &entries, query, &mut found)? {
                        found.more = true;
                        break;
                    }
                }
                None if number < logs.entries().start => found.gap = Some(Gap::Retired),
                None => found.gap = Some(Gap::Damaged),
            }
        }
        found.next = EntryPlace::start_of(number + 1);
    }
    Ok(found)
}

/// The event block looked at last: attempts mostly stand together as their events do.
#[derive(Default)]
struct Joined {
    block: Option<(u64, Option<Arc<EventBlock>>)>,
}

impl Joined {
    /// Adds what is wanted of an entry block from `next` on; false where there was more than may be
    /// added.
    fn add(
        &mut self,
        logs: &mut impl Logs,
        number: u64,
        entries: &[Entry],
        query: &AttemptQuery,
        found: &mut Attempts,
    ) -> Result<bool, StoreError> {
        for (index, entry) in entries.iter().enumerate() {
            let place = EntryPlace::new(number, index as u16);
            if place < found.next || !query.wants_entry(entry) {
                continue;
            }
            let event_block = entry.key.place.block();
            let row = match self.event_block(logs, event_block)? {
                Some(block) => AttemptRow::of(place, block, entry),
                None => None,
            };
            let Some(row) = row else {
                let is_retired = event_block < logs.events().start;
                found.gap = Some(if is_retired { Gap::Retired } else { Gap::Damaged });
                continue;
            };
            if !query.wants_event(row.tenant, row.event_type) {
                continue;
            }
            if found.rows.len() >= query.limit {
                found.next = place;
                return Ok(false);
            }
            found.rows.push(row);
        }
        Ok(true)
    }

    fn event_block(
        &mut self,
        logs: &mut impl Logs,
        number: u64,
    ) -> Result<Option<&Arc<EventBlock>>, StoreError> {
        if self.block.as_ref().is_none_or(|(known, _)| *known != number) {
            self.block = Some((number, logs.event_block(number)?));
        }
        Ok(self.block.as_ref().and_then(|(_, block)| block.as_ref()))
    }
}
